"""A line on long runs: case n of m, what it is, time left."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import pytest

from attnbench.model import Status
from attnbench.plugin.run_state import RunState
from attnbench.plugin.selection import is_case
from attnbench.units import duration

QUIET_S = 10.0  # short runs print nothing
BETWEEN_LINES_S = 10.0
#: Fewer variants than this say nothing of another: the first cases of a run start libraries and compilers.
FEWEST_VARIANTS = 5


def time_left_s(took_s: Mapping[str, float], waiting: Sequence[str]) -> float | None:
    """How long the cases that wait will take, None as long as nothing tells.

    took_s: by variant, seconds from start to end of its last case, however many launches that was. waiting: the variant
    of each case that is not run yet. A case takes what the last one of its variant took. Of a variant that has had none
    yet nothing is known: the mean of those so far, unsupported ones too, where the longest counts as the second longest
    does, as one that a compiler was first started for is no measure.
    """
    if len(took_s) < FEWEST_VARIANTS and not took_s.keys() >= set(waiting):
        return None
    *others, longest = sorted(took_s.values()) or [0.0]
    usual_s = (sum(others) + (others or [longest])[-1]) / (len(others) + 1)
    return sum(took_s.get(variant, usual_s) for variant in waiting)


class Progress:
    """Prints through pytest's own reporter, at most one line in ten seconds."""

    def __init__(self, config: pytest.Config, run: RunState) -> None:
        self._config = config
        self._run = run
        self._started = self._printed = time.monotonic()
        self._done = 0
        self._took_s: dict[str, float] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_runtestloop(self) -> None:
        self._started = self._printed = time.monotonic()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        if not is_case(item) or item.nodeid not in self._run.results.records:
            return (yield)
        self._done += 1
        self._line(item.nodeid)
        start = time.monotonic()
        try:
            return (yield)
        finally:
            record = self._run.results.records[item.nodeid]
            if record.status is not Status.NOT_RUN:  # or its test was skipped before it began
                self._took_s[record.variant] = time.monotonic() - start

    def _line(self, nodeid: str) -> None:
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        now = time.monotonic()
        if reporter is None or reporter.verbosity < 0:
            return
        if now - self._started < QUIET_S or now - self._printed < BETWEEN_LINES_S:
            return
        self._printed = now
        records = self._run.results.records
        left_s = time_left_s(self._took_s, [record.variant for record in self._run.results.unreached])
        left = "" if left_s is None else f", about {duration(left_s)} left"
        reporter.ensure_newline()
        reporter.write_line(f"attnbench: case {self._done} of {len(records)}, {records[nodeid].case}{left}")
