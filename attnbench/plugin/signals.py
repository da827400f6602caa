"""How signals end a run: SIGTERM and SIGHUP as Ctrl-C does, and none of them cuts short what is being saved.

CI systems send SIGTERM when a job is cancelled or runs out of time, and a terminal that is closed sends SIGHUP; by default
Python would die without a word.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import pytest

from attnbench.ending_signals import ENDING
from attnbench.plugin.run_kind import is_ours
from attnbench.plugin.run_state import RunState
from attnbench.plugin.selection import is_case


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived. A KeyboardInterrupt, because no kernel's `except Exception` may swallow it."""


def is_free(number: signal.Signals) -> bool:
    """Whether this thread may take a signal that nobody has: Python lets only the main one."""
    return threading.current_thread() is threading.main_thread() and signal.getsignal(number) is signal.SIG_DFL


class Termination:
    """Takes the signals that nobody has while attention cases run, and holds back all that end a run once it has ended."""

    def __init__(self, config: pytest.Config, run: RunState) -> None:
        self._config = config
        self._run = run
        self._session: pytest.Session | None = None  # once this run is about cases
        self._before: dict[signal.Signals, Any] = {}
        self._held: list[signal.Signals] = []
        self._saved = False

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        if is_ours(self._config, self._run):
            self._take(session)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if self._session is None and any(is_case(item) for item in session.items):
            self._take(session)

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        self.hold()  # CI sends another signal, a few seconds after the first

    def hold(self) -> None:
        """From here on a signal only waits, whoever has it; one that is ignored (nohup) stays ignored."""
        if self._session is None or threading.current_thread() is not threading.main_thread():
            return
        for number in ENDING:
            now = signal.getsignal(number)
            if now not in (signal.SIG_IGN, None, self._hold_back):
                self._before.setdefault(number, now)
                signal.signal(number, self._hold_back)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Called when pytest-benchmark has saved, which it does in the first half of its wrapper."""
        self._saved = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self) -> None:
        """A run that a signal asked to end while it was saved ends as one that was interrupted."""
        theirs = [number for number in self._held if self._before.get(number, _raise) not in _DEFAULT]
        self._give_back()
        if not self._held or self._session is None:
            return
        if self._session.exitstatus not in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
            self._session.exitstatus = pytest.ExitCode.INTERRUPTED
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            names = ", ".join(dict.fromkeys(number.name for number in self._held))
            reporter.write_line(f"attnbench: {names} came while the run was ending; the run was saved first")
        for number in theirs:
            signal.raise_signal(number)

    def _take(self, session: pytest.Session) -> None:
        self._session = session
        for number in (signal.SIGTERM, signal.SIGHUP):
            if is_free(number):
                self._before[number] = signal.signal(number, _raise)

    def _hold_back(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._held.append(signal.Signals(number))
        if self._saved:  # what is left is only printed: whoever cannot wait for it sends the signal again
            self._give_back()

    def _give_back(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())


def _raise(number: int, frame: FrameType | None) -> None:
    del frame
    raise Terminated(f"terminated ({signal.Signals(number).name})")


#: Handlers whose whole effect is that the process ends.
_DEFAULT = (signal.SIG_DFL, signal.default_int_handler, _raise)
