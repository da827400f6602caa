"""How far a case has changed: its launches beside the stored ones, what the clocks did meanwhile, and the error.

The code of "Change" and "Its error" in docs/method.md; what a change comes to is decision.py's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from attnbench import stats
from attnbench.verdicts.noise import SELF_THROTTLED_LAUNCH, Noise, Spread
from attnbench.verdicts.summary import (
    CYCLES,
    LOAD,
    SECONDS,
    Reading,
    Share,
    agreeing,
    grouped,
    has_cycles,
    measured,
    memory_share,
)

#: What is expected of launches counts as so many degrees of freedom, beside those of how they differ.
EXPECTED_FREEDOM = 4
#: Launches disagree that differ by more than so many times what is expected.
DISAGREE = 5.0


@dataclass(frozen=True)
class Change:
    """The relative change of one measure with its interval, and its standard error."""

    measure: str
    value: float
    low: float
    high: float
    error: float


@dataclass(frozen=True)
class Clocks:
    """What the SM clock of ours was beside the baseline's, in logarithms.

    during: of the calls; risen: by how much both that clock and the one right before were higher; dropped: by how much that
    clock was lower beyond what the one right before explains, so by the load itself or by a step of the hour.
    """

    during: float = 0.0
    risen: float = 0.0
    dropped: float = 0.0


@dataclass(frozen=True)
class Sides:
    """Our launches, and the stored ones that they are held against, without those that were slow by themselves.

    known: whether all are of one unit; left_out: how many of ours were slow by themselves.
    """

    ours: Sequence[Reading]
    base: Sequence[Reading]
    known: bool
    left_out: int = 0

    def both(self) -> tuple[Reading, ...]:
        return (*self.ours, *self.base)

    @cached_property
    def measure(self) -> str:
        """Cycles where all launches have them, else seconds."""
        return CYCLES if has_cycles(self.both()) else SECONDS

    @cached_property
    def weighted(self) -> list[tuple[Sequence[Reading], float]]:
        """The stored sessions, and the weight of each in the baseline's mean.

        Sessions weigh alike, whatever number of launches they have, because occasions differ by more than launches do; on
        another unit the units do, and the sessions of each.
        """
        units = [list(self.base)] if self.known else grouped(self.base, "unit")
        sessions = [grouped(unit, "session") for unit in units]
        return [(session, 1 / len(units) / len(of_unit)) for of_unit in sessions for session in of_unit]

    @cached_property
    def memory(self) -> Share:
        """The share of memory's time in the calls of either side."""
        return memory_share(self.both())

    def logs(self, readings: Sequence[Reading], measure: str) -> list[float]:
        """What these launches say of a measure; of cycles, at one clock."""
        found = (measured(one, measure, self.memory.value) for one in readings)
        return [one.log for one in found if one is not None]

    def base_log(self, measure: str) -> float:
        """Mean of the baseline in logarithms."""
        return sum(weight * fmean(self.logs(session, measure)) for session, weight in self.weighted)

    def ours_log(self, measure: str) -> float:
        """Mean of ours in logarithms."""
        return fmean(self.logs(self.ours, measure))

    def difference(self, measure: str) -> float:
        """Mean log of ours less the baseline's; in cycles, at the baseline's clock."""
        return self.ours_log(measure) - self.base_log(measure)

    @cached_property
    def clocks(self) -> Clocks:
        """What the clock did; nothing is known of it without cycles."""
        if self.measure == SECONDS:
            return Clocks()
        during = (self.difference(CYCLES) - self.difference(SECONDS)) / (1 - self.memory.value)
        if any(measured(one, LOAD) is None for one in self.both()):
            return Clocks(during, max(0.0, during))  # the start clock may explain any of it
        before = during - self.difference(LOAD)
        return Clocks(during, max(0.0, min(before, during)), max(0.0, -during - max(0.0, -before)))


def sides(ours: Sequence[Reading], theirs: Sequence[Reading]) -> Sides:
    """What counts of either side: on a unit that the baseline knows only that unit's launches."""
    units = {one.unit for one in ours}
    same = [one for one in theirs if one.unit in units and one.unit is not None]
    known = bool(same) and len(units) == 1
    kept = agreeing(ours)
    base = [one for session in grouped(same if known else theirs, "session") for one in agreeing(session)]
    return Sides(kept, base, known, len(ours) - len(kept))


def error_of(held: Sides, measure: str, noise: Noise, of: Callable[[Spread], float], launches: float = 0) -> float:
    """Standard error of the difference: the root of the sum of everything that may differ by noise.

    of: which value of a spread counts; launches: how many launches like ours it is for, as many as there are by default.
    """
    ours = launch_variance(held, held.ours, measure, noise) / (launches or len(held.ours))
    return math.sqrt(ours + _base_variance(held, measure, noise, of))


def error_expected(held: Sides, measure: str, noise: Noise, of: Callable[[Spread], float], launches: int) -> float:
    """The standard error that so many launches of a run will have, as far as the baseline alone can say."""
    ours = expected_variance(held, held.base, measure, noise) / launches
    return math.sqrt(ours + _base_variance(held, measure, noise, of))


def launch_variance(held: Sides, readings: Sequence[Reading], measure: str, noise: Noise) -> float:
    """Variance of one launch of an occasion: what is expected, or more where these launches differ by more.

    A few launches that differ by more may do so by chance, so the two are weighed by their degrees of freedom. Launches do
    not disagree by chance: then what they differ by counts as it is.
    """
    expected = expected_variance(held, readings, measure, noise)
    logs = held.logs(readings, measure)
    seen, freedom = (stats.variance(logs) if len(logs) > 1 else 0.0), len(logs) - 1
    if seen > DISAGREE**2 * expected:
        return seen
    return max(expected, (EXPECTED_FREEDOM * expected + freedom * seen) / (EXPECTED_FREEDOM + freedom))


def expected_variance(held: Sides, readings: Sequence[Reading], measure: str, noise: Noise) -> float:
    """Variance of one launch by the family's noise and the rounds' own error.

    A call that lowers its own clock, on either side, has a higher floor.
    """
    floor = SELF_THROTTLED_LAUNCH if any(one.self_throttled for one in held.both()) else 0.0
    errors = [found.error for one in readings if (found := measured(one, measure, held.memory.value)) is not None]
    return max(noise.launch, floor) ** 2 + fmean(error**2 for error in errors)


def _base_variance(held: Sides, measure: str, noise: Noise, of: Callable[[Spread], float]) -> float:
    """What the stored launches leave open by the very weights of their mean, and that ours are another occasion, or unit."""
    launches = sum(
        weight**2 * launch_variance(held, session, measure, noise) / len(session) for session, weight in held.weighted
    )
    occasions = of(noise.occasion) ** 2 * (1 + sum(weight**2 for _, weight in held.weighted))
    units = 0.0 if held.known else of(noise.unit) ** 2 * (1 + 1 / len(grouped(held.base, "unit")))
    return launches + occasions + units
