"""Progress of a long run: case n of m, what it is, time left.

On a terminal it is one line below pytest's own, rewritten with every case and gone with the last. In a log it is at most one
line a minute.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import pytest

from attnbench.model import Status
from attnbench.plugin.run_state import Run, is_case
from attnbench.units import duration

QUIET_S = 10.0  # shorter runs show nothing
BETWEEN_LINES_S = 60.0  # of a log
#: Fewer variants than this say nothing about another: the first cases of a run start libraries and compilers.
FEWEST_VARIANTS = 5


def time_left_s(took_s: Mapping[str, float], waiting: Sequence[str]) -> float | None:
    """How long the cases that have not run yet will take; None as long as too little is known.

    took_s: by variant, seconds from start to end of its last case, all launches included. waiting: the variant of each
    case that has not run yet. A case takes as long as the last one of its variant did. A variant without a case so far is
    expected to take the mean of the others, unsupported ones too, where the longest counts as the second longest does:
    one case that first had to start a compiler is no measure.
    """
    if len(took_s) < FEWEST_VARIANTS and not took_s.keys() >= set(waiting):
        return None
    *others, longest = sorted(took_s.values()) or [0.0]
    usual_s = (sum(others) + (others or [longest])[-1]) / (len(others) + 1)
    return sum(took_s.get(variant, usual_s) for variant in waiting)


class Progress:
    """Shows where a run is, beside pytest's own progress."""

    def __init__(self, config: pytest.Config, run: Run) -> None:
        self._config = config
        self._run = run
        self._started = self._printed = time.monotonic()
        self._done = 0
        self._took_s: dict[str, float] = {}
        self._shown = False
        self._began: dict[str, float] = {}  # by node id

    @pytest.hookimpl(trylast=True)
    def pytest_runtestloop(self) -> None:
        self._started = self._printed = time.monotonic()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        if not is_case(item) or item.nodeid not in self._run.records:
            return (yield)
        try:
            return (yield)
        finally:
            self._erase()
            record, began = self._run.records[item.nodeid], self._began.pop(item.nodeid, None)
            if began is not None and record.status is not Status.NOT_RUN:  # or its test was skipped before it began
                self._took_s[record.variant] = time.monotonic() - began

    @pytest.hookimpl(trylast=True)  # after pytest has written the file's name
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if nodeid in self._run.records:
            self._done += 1
            now = self._began[nodeid] = time.monotonic()
            self._show(nodeid, now)

    @pytest.hookimpl(tryfirst=True)  # before pytest writes how the test ended
    def pytest_runtest_logreport(self) -> None:
        self._erase()

    def _show(self, nodeid: str, now: float) -> None:
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None or reporter.verbosity < 0 or now - self._started < QUIET_S:
            return
        rewrites = self._rewrites(reporter)
        if not rewrites and now - self._printed < BETWEEN_LINES_S:
            return
        self._printed = now
        text = self._text(nodeid)
        if rewrites:
            self._write_below(text)
        else:
            reporter.ensure_newline()
            reporter.write_line(text)

    def _text(self, nodeid: str) -> str:
        records = self._run.records
        left_s = time_left_s(self._took_s, [record.variant for record in self._run.unreached])
        left = "" if left_s is None else f", about {duration(left_s)} left"
        return f"attnbench: case {self._done} of {len(records)}, {records[nodeid].case}{left}"

    def _rewrites(self, reporter: Any) -> bool:
        """Whether a line can be rewritten: on a terminal that tests do not write to, as they do under `-s`."""
        return bool(reporter.isatty()) and self._config.getoption("capture", "no") == "fd"

    def _write_below(self, text: str) -> None:
        """Write below pytest's line of dots, and go back to its end, where pytest goes on.

        Past pytest's writer, which counts the characters of its line. Its file is sys.stdout between the steps of a test.
        """
        writer = self._config.get_terminal_writer()
        column = writer.width_of_current_line % writer.fullwidth
        forward = f"\033[{column}C" if column else ""
        writer.flush()
        sys.stdout.write(f"\n\033[2K{text[: writer.fullwidth - 1]}\033[1A\r{forward}")
        sys.stdout.flush()
        self._shown = True

    def _erase(self) -> None:
        if self._shown:
            self._shown = False
            sys.stdout.write("\033[J")  # from here to the end of the screen
            sys.stdout.flush()
