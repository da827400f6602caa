"""One launch of one case as verdicts see it.

Everything is relative: natural logarithms, so that a difference of two is a change (0.01 is 1 %). The centre of the rounds
is their trimmed mean: the clock moves in steps, so rounds may have two modes, between which a median jumps.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from attnbench import stats
from attnbench.model import Launch, Record, Sample

#: What is read of a launch. LOAD is the clock during the calls over the clock right before them: what the call takes off it.
SECONDS, CYCLES, LOAD = "seconds", "cycles", "load"
MEASURES = (SECONDS, CYCLES, LOAD)
FEWEST_ROUNDS = 3  # of which anything is said
#: More rounds than this share below the clock's ceiling, and nothing is called regressed on the sample.
UNSETTLED_SHARE = 0.1
#: A launch is slow by itself where it is slower than the others by this, and by so many times what these differ by.
SLOW, SLOW_TIMES = 0.02, 10.0


@dataclass(frozen=True)
class Estimate:
    """The logarithm of the rounds' mean, and its standard error from how they scatter."""

    log: float
    error: float


@dataclass(frozen=True)
class Reading:
    """One launch of one case.

    session: the stored file that it comes from, empty for this run; unit: the hash of the physical GPU, None where it is
    unknown; estimates: by measure, "seconds" always and "cycles" where every round has them.
    """

    session: str
    unit: str | None
    launch: str
    estimates: Mapping[str, Estimate]
    resolution: float  # of the event timer, as a share of the median
    unsettled: bool
    self_throttled: bool
    settled_hz: float | None = None  # the clock that the rounds started at, None where nobody read it
    variant: str = ""  # backend and compile mode
    family: str = ""  # of backends, which share their noise


@dataclass(frozen=True)
class Share:
    """Of the call's time, what memory takes: by this its cycles follow the clock. `sd`: how well that is known."""

    value: float
    sd: float


#: A call whose clock is lower by so much during it than right before is limited by power. On an H100 the cycles of 246 such
#: cases follow the clock by 0.07, those of 30 others by 0.8, te_unfused by up to 1.3 and torch_math by 0.1 to 0.5.
POWER_LIMITED = math.log(0.95)
COMPUTING, OTHER = Share(0.1, 0.07), Share(0.7, 0.35)


def reading(record: Record, launch: Launch | None, session: str = "") -> Reading:
    """What a measured record says. Raises ValueError for one that was not measured."""
    sample = record.sample
    if sample is None:
        raise ValueError(f"record {record.case}: status '{record.status}' has no sample to read")
    estimates = {SECONDS: estimate(sample.rounds_s)}
    cycles = _cycles(sample)
    if cycles is not None:
        estimates[CYCLES] = estimate(cycles)
    return Reading(
        session=session,
        unit=launch.unit if launch else None,
        launch=record.launch,
        estimates=estimates,
        resolution=stats.resolution_s(sample.rounds_s) / stats.median_s(sample.rounds_s),
        settled_hz=stats.trimmed_mean(sample.before_hz) if sample.before_hz else None,
        variant=record.variant,
        family=record.family,
        unsettled=sample.unsettled > UNSETTLED_SHARE * len(sample.rounds_s),
        self_throttled=sample.self_throttled,
    )


def estimate(values: Sequence[float]) -> Estimate:
    """Log of the values' trimmed mean, with its relative error; infinite below 3 values."""
    centre = stats.trimmed_mean(values)
    error = stats.trimmed_error(values) if len(values) >= FEWEST_ROUNDS else math.inf
    return Estimate(math.log(centre), error / centre)


def measured(one: Reading, measure: str, share: float = 0.0) -> Estimate | None:
    """What a launch says of a measure; None where it says nothing.

    share: of the call's time that is memory's, whose cycles follow the clock. Cycles at one clock are log(cycles) - share ·
    log(clock during the call), and so a mean of the logarithms of both measures.
    """
    seconds, cycles = one.estimates[SECONDS], one.estimates.get(CYCLES)
    if measure == SECONDS:
        return seconds
    if cycles is None or (measure == LOAD and not one.settled_hz):
        return None
    if measure == LOAD:
        return Estimate(cycles.log - seconds.log - math.log(one.settled_hz or 1.0), 0.0)
    return Estimate((1 - share) * cycles.log + share * seconds.log, (1 - share) * cycles.error + share * seconds.error)


def memory_share(readings: Sequence[Reading]) -> Share:
    """The share of memory's time in a call, as far as its clock tells.

    One that runs well below the clock that its rounds started at is limited by power, and computes.
    """
    loads = [found.log for one in readings if (found := measured(one, LOAD)) is not None]
    return COMPUTING if len(loads) == len(readings) and max(loads) < POWER_LIMITED else OTHER


def has_cycles(readings: Iterable[Reading]) -> bool:
    """Whether the cycles of all of these launches are known."""
    return all(CYCLES in one.estimates for one in readings)


def grouped(readings: Iterable[Reading], by: str) -> list[list[Reading]]:
    """Readings with the same `by` ("session" or "unit") together, in order of first appearance."""
    groups: dict[object, list[Reading]] = defaultdict(list)
    for one in readings:
        groups[getattr(one, by)].append(one)
    return list(groups.values())


def agreeing(launches: Sequence[Reading]) -> list[Reading]:
    """The launches of one occasion without those that were slow by themselves, in their order.

    A process may be slow for reasons of its own, and none is fast for such: so slow ones are left out where the others, more
    than half and at least two, agree much better with each other. By cycles where all have them.
    """
    measure = CYCLES if has_cycles(launches) else SECONDS
    ordered = sorted(launches, key=lambda one: one.estimates[measure].log)
    logs = [one.estimates[measure].log for one in ordered]
    for count in range(max(2, len(ordered) // 2 + 1), len(ordered)):
        if logs[count] - logs[count - 1] > max(SLOW, SLOW_TIMES * (logs[count - 1] - logs[0])):
            return [one for one in launches if any(one is other for other in ordered[:count])]
    return list(launches)


def _cycles(sample: Sample) -> list[int] | None:
    """Cycles of every round; None where one was not counted, or where the host's work is inside the interval."""
    if sample.synchronising or len(sample.cycles) != len(sample.rounds_s):
        return None
    counted = [cycles for cycles in sample.cycles if cycles is not None]
    return counted if len(counted) == len(sample.rounds_s) and min(counted) > 0 else None
