"""How far a case has changed: its launches beside the stored ones, a measure at a time, and its error (layer 1).

The code of "Change" and "Its error" in docs/method.md; what a change comes to is rule.py's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from attnbench.readings import (
    CYCLES,
    SELF_THROTTLED_LAUNCH,
    Noise,
    Reading,
    Scatter,
    at_clock,
    between,
    grouped,
    has_cycles,
    start_clock_hz,
)


@dataclass(frozen=True)
class Change:
    """The relative change of one measure with its interval, and its standard error."""

    measure: str
    value: float
    low: float
    high: float
    error: float


@dataclass(frozen=True)
class Sides:
    """Our launches, and the stored ones that they are held against.

    known: whether all are of one unit; slope_error: standard error of their difference in cycles that comes from moving them
    to one clock, which does not shrink with their number; explained: by how much a higher clock may have shortened the
    seconds of ours, in logarithms.
    """

    ours: Sequence[Reading]
    base: Sequence[Reading]
    known: bool
    slope_error: float = 0.0
    explained: float = 0.0

    def both(self) -> tuple[Reading, ...]:
        return (*self.ours, *self.base)

    def risen(self) -> float | None:
        """Log of the clock that our rounds started at over the baseline's; None where it was not read for all of them."""
        ours_hz, base_hz = start_clock_hz(self.ours), start_clock_hz(self.base)
        return math.log(ours_hz / base_hz) if ours_hz and base_hz else None


def sides(ours: Sequence[Reading], theirs: Sequence[Reading], scatter: Scatter) -> Sides:
    """What counts of the stored launches; on a known unit all launches at one clock, where the slope for that is known."""
    units = {one.unit for one in ours}
    same = [one for one in theirs if one.unit in units and one.unit is not None]
    if not same or len(units) > 1:
        return Sides(ours, theirs, known=False)
    found = Sides(ours, same, known=True)
    slope, risen, hz = scatter.slopes.get(ours[0].variant), found.risen(), start_clock_hz(same)
    if slope is None or risen is None or hz is None or not has_cycles(found.both()):
        return found
    return Sides(
        at_clock(ours, hz, slope),
        at_clock(same, hz, slope),
        known=True,
        slope_error=abs(slope.error * risen),
        explained=max(0.0, (1 - slope.value) * risen),
    )


def difference(held: Sides, measure: str) -> float:
    """Mean log of ours less the baseline's."""
    return fmean(one.estimates[measure].log for one in held.ours) - _centre(held.base, measure, held.known)


def change_of(held: Sides, measure: str, quantile: float, noise: Noise, launches: float = 0) -> Change:
    """Difference of the mean logs, and the root of the sum of everything that may scatter.

    quantile: standard errors to either end of the interval; launches: how many launches like these the error is for, as
    many as there are by default.
    """
    value = difference(held, measure)
    variance = launch_variance(held.ours, measure, noise) / (launches or len(held.ours))
    variance += _of_base(held.base, measure, noise) + _of_origin(held.base, held.known, noise)
    if measure == CYCLES:
        variance += held.slope_error**2
    error = math.sqrt(variance)
    width = quantile * error
    return Change(measure, math.expm1(value), math.expm1(value - width), math.expm1(value + width), error)


def _centre(base: Sequence[Reading], measure: str, known: bool) -> float:
    """Mean log of the baseline: every launch alike on one unit, every unit alike otherwise."""
    groups = [list(base)] if known else grouped(base, "unit")
    return fmean(fmean(one.estimates[measure].log for one in group) for group in groups)


def launch_variance(readings: Sequence[Reading], measure: str, noise: Noise) -> float:
    """Variance of one launch of an occasion.

    From the pooled noise and the rounds' scatter, or from how these launches differ, where that is larger.
    """
    floor = max(noise.launch, SELF_THROTTLED_LAUNCH) if any(r.self_throttled for r in readings) else noise.launch
    expected = fmean(floor**2 + one.estimates[measure].error ** 2 for one in readings)
    seen, _ = between([one.estimates[measure].log for one in readings])
    return max(expected, seen)


def _of_base(base: Sequence[Reading], measure: str, noise: Noise) -> float:
    sessions = grouped(base, "session")
    shares = [len(session) / len(base) for session in sessions]
    return sum(
        share**2 * launch_variance(s, measure, noise) / len(s) for share, s in zip(shares, sessions, strict=True)
    )


def _of_origin(base: Sequence[Reading], known: bool, noise: Noise) -> float:
    """Variance of another occasion, and of another unit where this one is not in the baseline."""
    sessions, units = len(grouped(base, "session")), len(grouped(base, "unit"))
    return noise.occasion**2 * (1 + 1 / sessions) + (0.0 if known else noise.unit**2 * (1 + 1 / units))
