"""A line on long runs: case n of m, what it is, time left (layer 4)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from attnbench.run import Run, is_case
from attnbench.units import duration

QUIET_S = 10.0  # short runs print nothing
BETWEEN_LINES_S = 10.0


class Progress:
    """Prints through pytest's own reporter, at most one line in ten seconds."""

    def __init__(self, config: pytest.Config, run: Run) -> None:
        self._config = config
        self._run = run
        self._started = self._printed = time.monotonic()
        self._done = 0

    @pytest.hookimpl(trylast=True)
    def pytest_runtestloop(self) -> None:
        self._started = self._printed = time.monotonic()

    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if not is_case(item) or reporter is None or reporter.verbosity < 0:
            return
        now = time.monotonic()
        self._done += 1
        total = len(self._run.records)
        if now - self._started < QUIET_S or now - self._printed < BETWEEN_LINES_S or not total:
            return
        self._printed = now
        left_s = (now - self._started) / max(1, self._done - 1) * (total - self._done + 1)
        case = self._run.records[item.nodeid].case
        reporter.ensure_newline()
        reporter.write_line(f"attnbench: case {self._done} of {total}, {case}, about {duration(left_s)} left")
