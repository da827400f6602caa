"""How much of a call's time does not follow the SM clock, as time that memory takes does not (layer 1).

Of a call that waits for memory for a share m of its time, m of the time stays when the clock rises: the multiprocessors
count more cycles in it, d log(cycles) / d log(clock) = m. Where the clock that rounds start at moves by itself, as on an
H100, the rounds of stored launches tell m, by least squares about the means of each launch (docs/method.md).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: A share that is not known to this standard error is not known.
KNOWN_WITHIN = 0.15
#: Nor is one that fewer launches tell; a launch whose clock hardly moved counts for as much less.
FEWEST_LAUNCHES = 4.0
#: No share is known better than two physical GPUs agree on one.
LEAST_ERROR = 0.05


@dataclass(frozen=True)
class Moments:
    """Sums over the rounds of one launch, of squares and products about the means, in logarithms."""

    clock: float
    both: float
    cycles: float
    rounds: int


@dataclass(frozen=True)
class MemoryShare:
    """Share of a call's time that does not follow the SM clock, 0 to 1, and its standard error."""

    value: float
    error: float


def moments(clock_hz: Sequence[float], cycles: Sequence[int]) -> Moments | None:
    """Of rounds that started at these clocks and took these cycles; None where there is not one clock for each."""
    if len(clock_hz) != len(cycles) or len(cycles) < 2 or min(clock_hz) <= 0:
        return None
    clocks, counts = ([math.log(value) for value in values] for values in (clock_hz, cycles))
    clock, count = statistics.fmean(clocks), statistics.fmean(counts)
    return Moments(
        clock=sum((x - clock) ** 2 for x in clocks),
        both=sum((x - clock) * (y - count) for x, y in zip(clocks, counts, strict=True)),
        cycles=sum((y - count) ** 2 for y in counts),
        rounds=len(cycles),
    )


def memory_share(launches: Iterable[Moments]) -> MemoryShare | None:
    """The least-squares slope over all these launches; None where too few of their clocks moved enough to tell it.

    Its error is that of rounds that scatter by themselves, or that of launches which each lean their own way, as they do
    where clock and cycles both drift (Liang and Zeger 1986, by launch), whichever is more.
    """
    found = list(launches)
    clock, both, cycles = (sum(getattr(one, name) for one in found) for name in ("clock", "both", "cycles"))
    freedom = sum(one.rounds - 1 for one in found) - 1
    telling = clock**2 / sum(one.clock**2 for one in found) if clock > 0 else 0.0
    if telling < FEWEST_LAUNCHES or freedom < 1:
        return None
    slope = both / clock
    of_rounds = math.sqrt(max(0.0, cycles - slope * both) / freedom / clock)
    leaning = sum((one.both - slope * one.clock) ** 2 for one in found) * telling / (telling - 1)
    error = max(LEAST_ERROR, of_rounds, math.sqrt(leaning) / clock)
    return MemoryShare(min(max(slope, 0.0), 1.0), error) if error <= KNOWN_WITHIN else None
