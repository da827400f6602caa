"""One launch of one case as verdicts see it, and how far readings scatter between launches, sessions and units (layer 1).

Everything is relative: natural logarithms, so that a difference of two is a change (0.01 is 1 %). The centre of the rounds
is their trimmed mean: the clock moves in steps, so rounds may have two modes, between which a median jumps.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from attnbench import stats
from attnbench.clock_slope import ClockSlope, clock_slope
from attnbench.model import Launch, Record, Sample

SECONDS, CYCLES = "seconds", "cycles"
FEWEST_ROUNDS = 3  # of which anything is said
#: More rounds than this share below the clock's ceiling, and nothing is called regressed on the sample.
UNSETTLED_SHARE = 0.1


@dataclass(frozen=True)
class Estimate:
    """The logarithm of the rounds' trimmed mean, and its standard error from how they scatter."""

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


@dataclass(frozen=True)
class Noise:
    """Relative standard deviations of one measure, beyond the scatter of the rounds.

    launch: what a fresh process adds; occasion: another time on the same unit; unit: another physical GPU.
    """

    launch: float
    occasion: float
    unit: float


#: Never assumed smaller than this, however quiet the stored sessions are; docs/method.md says where each comes from.
PRIOR = Noise(launch=0.0006, occasion=0.0006, unit=0.006)
#: Between launches of a call of 100 ms and more, which lowers its own clock: settled medians of one agreed to 0.7 %.
SELF_THROTTLED_LAUNCH = 0.004


@dataclass(frozen=True)
class Scatter:
    """Noise of each measure, pooled over the cases of the stored sessions, never below `PRIOR`.

    slopes: by variant, how cycles follow the clock that rounds start at, where the stored launches tell it.
    """

    of: Mapping[str, Noise] = field(default_factory=lambda: {SECONDS: PRIOR, CYCLES: PRIOR})
    slopes: Mapping[str, ClockSlope] = field(default_factory=dict)


def reading(record: Record, launch: Launch | None, session: str = "") -> Reading:
    """What a measured record says. Raises ValueError for one that was not measured."""
    sample = record.sample
    if sample is None:
        raise ValueError(f"record {record.case}: status '{record.status}' has no sample to read")
    unit = launch.fingerprint.context.get("unit") if launch else None
    estimates = {SECONDS: _estimate(sample.rounds_s)}
    cycles = _cycles(sample)
    if cycles is not None:
        estimates[CYCLES] = _estimate(cycles)
    return Reading(
        session=session,
        unit=None if unit in (None, "") else str(unit),
        launch=record.launch,
        estimates=estimates,
        resolution=stats.resolution_s(sample.rounds_s) / stats.median_s(sample.rounds_s),
        settled_hz=stats.trimmed_mean(sample.before_hz) if sample.before_hz else None,
        variant=record.variant,
        unsettled=sample.unsettled > UNSETTLED_SHARE * len(sample.rounds_s),
        self_throttled=sample.self_throttled,
    )


def scatter(cases: Iterable[Sequence[Reading]]) -> Scatter:
    """The noise of stored readings, a sequence per case.

    Within-group variances are averaged over all cases, weighted by their degrees of freedom; what the rounds' own
    scatter explains is taken off. A component that the sessions cannot tell (one launch, one unit) is `PRIOR`'s.
    """
    groups = [list(readings) for readings in cases]
    slopes = _slopes(groups)
    level = [_level(readings, slopes) for readings in groups]
    return Scatter({SECONDS: _noise(groups, SECONDS), CYCLES: _noise(level, CYCLES, told=len(slopes))}, slopes)


def start_clock_hz(readings: Sequence[Reading]) -> float | None:
    """Mean of the clocks that the rounds of these launches started at; None where one was not read."""
    clocks_hz = [one.settled_hz for one in readings if one.settled_hz is not None]
    return statistics.fmean(clocks_hz) if clocks_hz and len(clocks_hz) == len(readings) else None


def has_cycles(readings: Iterable[Reading]) -> bool:
    """Whether the cycles of all of these launches are known."""
    return all(CYCLES in one.estimates for one in readings)


def at_clock(readings: Iterable[Reading], hz: float, slope: ClockSlope) -> list[Reading]:
    """Launches of one variant as they would have been, had all rounds started at `hz`: cycles follow the clock by `slope`.

    All must have cycles, and a clock that they started at.
    """
    found = []
    for one in readings:
        cycles = one.estimates[CYCLES]
        moved = replace(cycles, log=cycles.log - slope.value * math.log((one.settled_hz or hz) / hz))
        found.append(replace(one, estimates={**one.estimates, CYCLES: moved}, settled_hz=hz))
    return found


def between(values: Sequence[float]) -> tuple[float, int]:
    """Variance of `values` and its degrees of freedom; (0, 0) for fewer than two."""
    return (statistics.variance(values), len(values) - 1) if len(values) > 1 else (0.0, 0)


def grouped(readings: Iterable[Reading], by: str) -> list[list[Reading]]:
    """Readings with the same `by` ("session" or "unit") together, in order of first appearance."""
    groups: dict[object, list[Reading]] = defaultdict(list)
    for one in readings:
        groups[getattr(one, by)].append(one)
    return list(groups.values())


def _cycles(sample: Sample) -> list[int] | None:
    """Cycles of every round; None where one was not counted, or where the host's work is inside the interval."""
    if sample.synchronising or len(sample.cycles) != len(sample.rounds_s):
        return None
    counted = [cycles for cycles in sample.cycles if cycles is not None]
    return counted if len(counted) == len(sample.rounds_s) and min(counted) > 0 else None


def _estimate(values: Sequence[float]) -> Estimate:
    """Log of the trimmed mean, with its relative error; infinite below 3 rounds."""
    centre = stats.trimmed_mean(values)
    error = stats.trimmed_error(values) / centre if len(values) >= FEWEST_ROUNDS else math.inf
    return Estimate(math.log(centre), error)


def _level(readings: Sequence[Reading], slopes: Mapping[str, ClockSlope]) -> list[Reading]:
    """The launches of a case on each unit at one clock, as verdicts will see them, where the slope for that is known."""
    found: list[Reading] = []
    for unit in grouped(readings, "unit"):
        slope, hz = slopes.get(unit[0].variant), start_clock_hz(unit)
        found += at_clock(unit, hz, slope) if slope and hz and has_cycles(unit) else unit
    return found


def _noise(cases: Sequence[Sequence[Reading]], measure: str, told: int = 0) -> Noise:
    """told: how many slopes were fitted to these readings, each of which took a degree of freedom from the launches."""
    launches, occasions, units = _Pool(-told), _Pool(), _Pool()
    for case in cases:
        readings = [r for r in case if measure in r.estimates and math.isfinite(r.estimates[measure].error)]
        if any(r.self_throttled for r in readings):
            continue  # they have a floor of their own
        by_unit = [[_logs(s, measure) for s in grouped(u, "session")] for u in grouped(readings, "unit")]
        for session in grouped(readings, "session"):
            explained = statistics.fmean(r.estimates[measure].error ** 2 for r in session)
            launches.add(_logs(session, measure), explained)
        for sessions in by_unit:
            occasions.add([statistics.fmean(logs) for logs in sessions], 0.0)
        units.add([statistics.fmean(statistics.fmean(logs) for logs in sessions) for sessions in by_unit], 0.0)
    return Noise(
        launch=max(PRIOR.launch, launches.sigma()),
        occasion=max(PRIOR.occasion, occasions.sigma()),
        unit=max(PRIOR.unit, units.sigma()),
    )


def _slopes(cases: Iterable[Sequence[Reading]]) -> dict[str, ClockSlope]:
    """By variant, over its launches within each session: what a call does is the same at every length."""
    found: dict[str, list[list[tuple[float, float]]]] = defaultdict(list)
    for session in (session for case in cases for session in grouped(case, "session")):
        launches = [
            (math.log(one.settled_hz), one.estimates[CYCLES].log)
            for one in session
            if one.settled_hz and CYCLES in one.estimates and not (one.unsettled or one.self_throttled)
        ]
        found[session[0].variant].append(launches)
    slopes = {variant: clock_slope(launches) for variant, launches in found.items()}
    return {variant: slope for variant, slope in slopes.items() if slope is not None}


def _logs(readings: Sequence[Reading], measure: str) -> list[float]:
    return [one.estimates[measure].log for one in readings]


class _Pool:
    """Variances of many small groups as one."""

    def __init__(self, freedom: int = 0) -> None:
        self._sum = 0.0
        self._freedom = freedom

    def add(self, values: Sequence[float], explained: float) -> None:
        variance, freedom = between(values)
        self._sum += freedom * (variance - explained)
        self._freedom += freedom

    def sigma(self) -> float:
        return math.sqrt(max(0.0, self._sum / self._freedom)) if self._freedom > 0 else 0.0
