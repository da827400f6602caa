"""How far a case has changed: its launches beside the stored ones, and what the SM clock did meanwhile.

"Change" and "Clock correction" in docs/method.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from attnbench.verdicts.memory_share import MemoryShare, memory_share_of
from attnbench.verdicts.rule import STEP
from attnbench.verdicts.summary import (
    CLOCK_RATIO,
    CYCLES,
    SECONDS,
    SampleSummary,
    estimate_of,
    grouped,
    have_cycles,
    without_slow_launches,
)


@dataclass(frozen=True)
class Delta:
    """The relative change of one measure with its interval and its standard error; +0.02 is 2 % slower."""

    measure: str
    value: float
    low: float
    high: float
    error: float


@dataclass(frozen=True)
class ClockLogRatio:
    """The SM clock of this run over the baseline's, in logarithms.

    during: the clock during the calls (D in docs/method.md). start_rise: by how much both that clock and the one right
    before the rounds were higher. load_drop: by how much the clock during the calls was lower beyond what the one right
    before explains: the kernel lowers it, or it is a step by which sessions differ.
    """

    during: float = 0.0
    start_rise: float = 0.0
    load_drop: float = 0.0


@dataclass(frozen=True)
class MatchedLaunches:
    """The launches of this run and the stored ones that they are compared with, without those that were slow by themselves.

    known_unit: whether all are of one unit. left_out: how many of this run were slow by themselves.
    """

    ours: Sequence[SampleSummary]
    base: Sequence[SampleSummary]
    known_unit: bool
    left_out: int = 0

    @property
    def launches(self) -> int:
        """Launches of this run, with those that are left out."""
        return len(self.ours) + self.left_out

    @property
    def both(self) -> tuple[SampleSummary, ...]:
        """The launches of this run, then the stored ones."""
        return (*self.ours, *self.base)

    @property
    def family(self) -> str:
        """The family of the case's backend."""
        return self.ours[0].family

    @cached_property
    def measure(self) -> str:
        """Cycles if all launches have them, otherwise seconds."""
        return CYCLES if have_cycles(self.both) else SECONDS

    @cached_property
    def weighted_sessions(self) -> list[tuple[Sequence[SampleSummary], float]]:
        """The stored sessions, each with its weight in the baseline's mean.

        Sessions weigh the same, whatever number of launches they have, because sessions differ by more than launches do. On
        an unknown unit the stored units weigh the same, and so do the sessions of each.
        """
        units = [list(self.base)] if self.known_unit else grouped(self.base, "unit")
        sessions = [grouped(unit, "session") for unit in units]
        return [(session, 1 / len(units) / len(of_unit)) for of_unit in sessions for session in of_unit]

    @cached_property
    def memory_share(self) -> MemoryShare:
        """The share of memory in the time of all these calls (β in docs/method.md)."""
        return memory_share_of(self.both)

    @cached_property
    def clock_step(self) -> float:
        """The log change in seconds that a clock step may explain: 0 in cycles, or if no start clock was read."""
        was_read = any(one.settled_hz is not None for one in self.both)
        return STEP if was_read and self.measure == SECONDS else 0.0

    def logs(self, summaries: Sequence[SampleSummary], measure: str) -> list[float]:
        """The logarithms of a measure in these launches; cycles are at one clock. Launches without it are left out."""
        estimates = (estimate_of(one, measure, self.memory_share.value) for one in summaries)
        return [one.log for one in estimates if one is not None]

    def base_log(self, measure: str) -> float:
        """Weighted mean of the baseline, in logarithms."""
        return sum(weight * fmean(self.logs(session, measure)) for session, weight in self.weighted_sessions)

    def ours_log(self, measure: str) -> float:
        """Mean of this run, in logarithms."""
        return fmean(self.logs(self.ours, measure))

    def log_delta(self, measure: str) -> float:
        """Mean log of this run minus the baseline's; in cycles, at the baseline's clock."""
        return self.ours_log(measure) - self.base_log(measure)

    @cached_property
    def clock(self) -> ClockLogRatio:
        """What the clock did; all zero without cycles, which leave it unknown."""
        if self.measure == SECONDS:
            return ClockLogRatio()
        during = self._clock_during()
        if any(estimate_of(one, CLOCK_RATIO) is None for one in self.both):
            return ClockLogRatio(during, max(0.0, during))  # the start clock may explain any of it
        before = during - self.log_delta(CLOCK_RATIO)
        return ClockLogRatio(
            during,
            start_rise=max(0.0, min(before, during)),
            load_drop=max(0.0, -during - max(0.0, -before)),
        )

    def _clock_during(self) -> float:
        """By how much the clock during this run's calls was higher, in logarithms. All launches have cycles."""

        def mean(launches: Sequence[SampleSummary]) -> float:
            return fmean(one.estimates[CYCLES].log - one.estimates[SECONDS].log for one in launches)

        return mean(self.ours) - sum(weight * mean(session) for session, weight in self.weighted_sessions)

    @property
    def followed_clock(self) -> float:
        """By how much, in logarithms, memory made cycles follow the clock during the calls (β · D)."""
        return self.memory_share.value * self.clock.during


def match_launches(ours: Sequence[SampleSummary], stored: Sequence[SampleSummary]) -> MatchedLaunches:
    """The launches that count of either side. On a unit that the baseline knows, only that unit's sessions count."""
    units = {one.unit for one in ours}
    same_unit = [one for one in stored if one.unit in units and one.unit is not None]
    known_unit = bool(same_unit) and len(units) == 1
    kept = without_slow_launches(ours)
    base = [
        one
        for session in grouped(same_unit if known_unit else stored, "session")
        for one in without_slow_launches(session)
    ]
    return MatchedLaunches(kept, base, known_unit, len(ours) - len(kept))
