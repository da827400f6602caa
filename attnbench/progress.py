"""A line on long runs: case n of m, what it is, time left (layer 4)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection
from typing import Any

import pytest

from attnbench.model import Record, Status
from attnbench.run import Run, is_case
from attnbench.units import duration

QUIET_S = 10.0  # short runs print nothing
BETWEEN_LINES_S = 10.0
#: Of fewer variants than this the median says nothing: the first cases of a run start libraries and compilers.
FEWEST_VARIANTS = 5


def time_left_s(records: Collection[Record]) -> float | None:
    """How long the records that are not run yet will take, None as long as nothing tells.

    A case takes what the last one of its variant took. Of a variant that has had none yet nothing is known: what the
    variants so far took in the median, as one that a compiler was first started for is no measure.
    """
    spent = {r.variant: sum(r.spent_s.values()) for r in records if r.status is not Status.NOT_RUN}
    waiting = [r.variant for r in records if r.status is Status.NOT_RUN]
    if len(spent) < FEWEST_VARIANTS and not spent.keys() >= set(waiting):
        return None
    usual = statistics.median_low(spent.values()) if spent else 0.0
    return sum(spent.get(variant, usual) for variant in waiting)


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
        records = self._run.records
        if now - self._started < QUIET_S or now - self._printed < BETWEEN_LINES_S or not records:
            return
        self._printed = now
        left_s = time_left_s(records.values())
        left = "" if left_s is None else f", about {duration(left_s)} left"
        reporter.ensure_newline()
        reporter.write_line(f"attnbench: case {self._done} of {len(records)}, {records[item.nodeid].case}{left}")
