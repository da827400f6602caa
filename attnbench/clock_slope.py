"""How the cycles of a call follow the clock at which its rounds start (layer 1).

Time that memory takes stays when the SM clock rises, so the multiprocessors count more cycles in it: d log(cycles) / d
log(clock) is next to 0 for a call that only computes and about the share of memory's time for others. Where a GPU rests on
several plateaus of the clock, as an H100 does, stored launches of one case started at several and tell (docs/method.md).

It is the launches' means that are compared: rounds of one launch echo what the call before them did to the clock.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

#: A slope that is not known to this standard error is not known.
KNOWN_WITHIN = 0.2
#: No slope is believed to be known better: an assumption, which two H100s that agree within 0.07 to 0.19 do not test.
LEAST_ERROR = 0.05
#: By so much, relative, the cycles of a launch scatter at least, however well a few of them fit a line.
LAUNCH_SCATTER = 0.0015
#: A slope is told by more cases than one: by so many, where one whose clock hardly moved counts for as much less.
FEWEST_CASES = 2.0


@dataclass(frozen=True)
class ClockSlope:
    """d log(cycles) / d log(clock) of a variant, and its standard error."""

    value: float
    error: float


def clock_slope(cases: Iterable[Sequence[tuple[float, float]]]) -> ClockSlope | None:
    """Least squares about the mean of each case; None where the clocks of the launches moved too little to tell.

    cases: of each, log(clock) and log(cycles) of launches that should not differ otherwise. The error is that of launches
    that scatter alike, or that of cases which each lean their own way (Liang and Zeger 1986), whichever is more.
    """
    found = [_sums(launches) for launches in cases if len(launches) > 1]
    of_all = _Sums(*map(sum, zip(*found, strict=True))) if found else _Sums(0.0, 0.0, 0.0, 0)
    told_by = of_all.clock**2 / sum(one.clock**2 for one in found) if of_all.clock > 0 else 0.0
    if told_by < FEWEST_CASES:
        return None
    slope = of_all.both / of_all.clock
    scatter = math.sqrt(max(0.0, of_all.cycles - slope * of_all.both) / (of_all.freedom - 1))
    leaning = math.sqrt(sum((one.both - slope * one.clock) ** 2 for one in found) * told_by / (told_by - 1))
    error = max(LEAST_ERROR, max(LAUNCH_SCATTER, scatter) / math.sqrt(of_all.clock), leaning / of_all.clock)
    return ClockSlope(slope, error) if error <= KNOWN_WITHIN else None


class _Sums(NamedTuple):
    """Of squares and products about the means of a case, in logarithms, and the degrees of freedom."""

    clock: float
    both: float
    cycles: float
    freedom: int


def _sums(launches: Sequence[tuple[float, float]]) -> _Sums:
    clock = statistics.fmean(x for x, _ in launches)
    cycles = statistics.fmean(y for _, y in launches)
    apart = [(x - clock, y - cycles) for x, y in launches]
    return _Sums(
        sum(x * x for x, _ in apart), sum(x * y for x, y in apart), sum(y * y for _, y in apart), len(launches) - 1
    )
