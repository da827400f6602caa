"""SIGTERM ends a run as Ctrl-C does: what was measured is saved, the rest are rows (layer 4).

CI systems send it when a job is cancelled or runs out of time; by default Python would die without a word.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import pytest


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived. A KeyboardInterrupt, because no kernel's `except Exception` may swallow it."""


def is_free(number: signal.Signals) -> bool:
    """Whether this thread may take a signal that nobody has: Python lets only the main one."""
    return threading.current_thread() is threading.main_thread() and signal.getsignal(number) is signal.SIG_DFL


class Termination:
    """Holds the signal while tests run, where nobody else does."""

    def __init__(self) -> None:
        self._before: Any = None

    def pytest_sessionstart(self) -> None:
        if is_free(signal.SIGTERM):
            self._before = signal.signal(signal.SIGTERM, _raise)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


def _raise(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise Terminated("terminated (SIGTERM)")
