"""pytest plugin of `attnbench record`: ends the run after the first case that rules out a session."""

from __future__ import annotations

from typing import Any

import pytest

from attnbench.codec import record_from
from attnbench.plugin.child import pipes
from attnbench.storage.sessions import STOPPED, refusal


class EarlyStop:
    """Looks at every record as it arrives."""

    def __init__(self) -> None:
        self._session: pytest.Session | None = None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._session = session

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        stored: dict[str, Any] | None = getattr(report, "attnbench", None)
        if stored is None or self._session is None or report.nodeid == self._session.items[-1].nodeid:
            return  # not a case, or the last one
        if any(refusal(record_from(plain)) for plain in stored["records"]):
            self._session.shouldstop = STOPPED


def pytest_configure(config: pytest.Config) -> None:
    """Look at every record of this run; its launches, which are given this plugin too, go on until it ends them."""
    if not pipes(config):
        config.pluginmanager.register(EarlyStop())
