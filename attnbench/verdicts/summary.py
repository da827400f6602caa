"""One launch of one case as verdicts see it: the centre of its rounds and how well that is known.

Everything is relative. Centres are natural logarithms, so a difference of two is a change (0.01 is 1 %). The centre is the
trimmed mean: the clock moves in steps, so rounds may have two modes, and a median jumps between them ("Change" and "Clock
correction" in docs/method.md).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from attnbench import stats
from attnbench.model import Launch, Record, Sample

#: What is compared of a launch. CLOCK_RATIO: the SM clock during the calls over the clock right before them.
SECONDS, CYCLES, CLOCK_RATIO = "seconds", "cycles", "clock-ratio"
MEASURES = (SECONDS, CYCLES, CLOCK_RATIO)
#: A case with more than this share of rounds below the clock's ceiling is not called regressed.
UNSETTLED_SHARE = 0.1
#: A launch is left out if it is slower than the others by this (relative), and by this many times their own spread.
SLOW, SLOW_TIMES = 0.02, 10.0


@dataclass(frozen=True)
class Estimate:
    """The logarithm of the rounds' trimmed mean, and its standard error (relative) from how the rounds scatter."""

    log: float
    error: float


@dataclass(frozen=True)
class SampleSummary:
    """One launch of one case.

    session: the stored file that it comes from, empty for this run. unit: hash of the physical GPU, None if unknown.
    estimates: by measure; `SECONDS` always, `CYCLES` if every round has them. variant: backend and compile mode. family: of
    backends, which share their noise.
    """

    session: str
    unit: str | None
    launch: str
    estimates: Mapping[str, Estimate]
    resolution: float  # of the event timer, as a share of the median
    unsettled: bool
    self_throttled: bool
    settled_hz: float | None = None  # the clock at which the rounds started, None if it was not read
    variant: str = ""
    family: str = ""


def summarise(record: Record, launch: Launch | None, session: str = "") -> SampleSummary:
    """The summary of a measured record. Raises ValueError for a record without a sample."""
    sample = record.sample
    if sample is None:
        raise ValueError(f"record {record.case}: status '{record.status}' has no sample to summarise")
    estimates = {SECONDS: estimate(sample.rounds_s)}
    cycles = _cycles(sample)
    if cycles is not None:
        estimates[CYCLES] = estimate(cycles)
    return SampleSummary(
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
    """Logarithm of the values' trimmed mean with its relative error; the error is infinite below three values."""
    centre = stats.trimmed_mean(values)
    error = stats.trimmed_error(values) if len(values) >= stats.FEWEST_ROUNDS else math.inf
    return Estimate(math.log(centre), error / centre)


def estimate_of(one: SampleSummary, measure: str, memory_share: float = 0.0) -> Estimate | None:
    """The estimate of one measure; None if this launch does not have it.

    memory_share: of the call's time. Cycles at one clock are log(cycles) - share · log(clock during the call), which is a
    weighted mean of the logarithms of cycles and seconds.
    """
    seconds, cycles = one.estimates[SECONDS], one.estimates.get(CYCLES)
    if measure == SECONDS:
        return seconds
    if cycles is None or (measure == CLOCK_RATIO and not one.settled_hz):
        return None
    if measure == CLOCK_RATIO:
        return Estimate(cycles.log - seconds.log - math.log(one.settled_hz or 1.0), 0.0)
    return Estimate(
        (1 - memory_share) * cycles.log + memory_share * seconds.log,
        abs(1 - memory_share) * cycles.error + abs(memory_share) * seconds.error,
    )


def have_cycles(summaries: Iterable[SampleSummary]) -> bool:
    """Whether the cycles of all of these launches are known."""
    return all(CYCLES in one.estimates for one in summaries)


def grouped(summaries: Iterable[SampleSummary], by: str) -> list[list[SampleSummary]]:
    """The summaries grouped by their field `by` ("session" or "unit"), in order of first appearance."""
    groups: dict[object, list[SampleSummary]] = defaultdict(list)
    for one in summaries:
        groups[getattr(one, by)].append(one)
    return list(groups.values())


def without_slow_launches(launches: Sequence[SampleSummary]) -> list[SampleSummary]:
    """The launches of one session, in their order, without those that were slow by themselves.

    A process may be slow for reasons of its own, but none is fast for such reasons. So slow ones are left out if the others,
    more than half and at least two, agree much better with each other. By cycles if all have them.
    """
    measure = CYCLES if have_cycles(launches) else SECONDS
    ordered = sorted(launches, key=lambda one: one.estimates[measure].log)
    logs = [one.estimates[measure].log for one in ordered]
    for count in range(max(2, len(ordered) // 2 + 1), len(ordered)):
        if logs[count] - logs[count - 1] > max(SLOW, SLOW_TIMES * (logs[count - 1] - logs[0])):
            return [one for one in launches if any(one is other for other in ordered[:count])]
    return list(launches)


def _cycles(sample: Sample) -> list[int] | None:
    """Cycles of every round; None if one was not counted, or if the interval holds work of the host."""
    if sample.synchronising or len(sample.cycles) != len(sample.rounds_s):
        return None
    counted = [cycles for cycles in sample.cycles if cycles is not None]
    return counted if len(counted) == len(sample.rounds_s) and min(counted) > 0 else None
