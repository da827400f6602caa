"""One launch of one case as verdicts see it, and how far readings differ between launches, sessions and units (layer 1).

Everything is relative: natural logarithms, so that a difference of two is a change (0.01 is 1 %). The centre of the rounds
is their trimmed mean: the clock moves in steps, so rounds may have two modes, between which a median jumps.

Noise is that of a family of backends, never pooled over several: what occasions differ by is shared by the kernels of one
library, and differs between them. docs/method.md says where each assumed value comes from.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

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


@dataclass(frozen=True)
class Repeats:
    """What the means of sessions show, as variances: what all cases share, and the rest of each.

    own: what launches leave, which is in both; freedom and rest_freedom: degrees of freedom; cases: how many on average.
    """

    shared: float = 0.0
    rest: float = 0.0
    own: float = 0.0
    cases: float = 1.0
    freedom: int = 0
    rest_freedom: int = 0

    @property
    def seen(self) -> float:
        """The estimate: what is left without what launches leave."""
        return math.sqrt(max(0.0, self.shared + self.rest - self.own))

    def bound(self, confidence: float) -> float:
        """What it is at most, with this confidence."""
        bounded = self.shared * stats.upper_bound(1.0, self.freedom, confidence) ** 2
        if self.rest_freedom:
            bounded += self.rest * stats.upper_bound(1.0, self.rest_freedom, confidence) ** 2
        return math.sqrt(max(OCCASION_FLOOR**2, bounded - self.own))

    def with_further(self, sessions: int, sd: float) -> Repeats:
        """These and so many more, which differ by `sd` in all cases alike, and by what launches leave in each."""
        freedom = self.freedom + sessions
        shared = self.freedom * self.shared + sessions * (sd**2 + self.own / self.cases)
        rest = self.freedom * self.rest + sessions * (1 - 1 / self.cases) * self.own
        more = self.rest_freedom + round(sessions * (self.cases - 1))
        return Repeats(shared / freedom, rest / freedom, self.own, self.cases, freedom, more)


@dataclass(frozen=True)
class Spread:
    """How far occasions differ, or units, as a relative standard deviation.

    convict: used where something may be called regressed; doubt: used where a slow-down is ruled out, or promised to be
    found; assumed: whether `convict` is an assumption, because what was repeated does not bound it to less and does not show
    more; repeats: what it rests on.
    """

    convict: float
    doubt: float
    assumed: bool = True
    repeats: Repeats = field(default=Repeats(), compare=False)

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the estimate."""
        return self.repeats.freedom

    @property
    def seen(self) -> float | None:
        """The estimate itself, None where nothing was repeated."""
        return self.repeats.seen if self.freedom else None


@dataclass(frozen=True)
class Noise:
    """Relative standard deviations of one measure of one family, beyond the scatter of the rounds.

    launch: what a fresh process adds; occasion: another time on the same unit; unit: another physical GPU.
    """

    launch: float
    occasion: Spread
    unit: Spread


#: The confidence with which what differs is bounded, to convict and to acquit or promise.
CONVICT, DOUBT = 0.9, 0.975
#: A family's noise between launches is this one's and what its own launches show, as if so many degrees of freedom had shown
#: this: one case in two launches that agree by chance is not believed to be quiet. Never below the floor.
LAUNCH, LAUNCH_FREEDOM, LAUNCH_FLOOR = 0.001, 10, 0.0004
#: Between launches of a call of 100 ms and more, which lowers its own clock: settled medians of one agreed to 0.7 %.
SELF_THROTTLED_LAUNCH = 0.004
#: Between occasions, until sessions show less: what convicts, and the largest that was seen between runs of one unit.
OCCASION = Spread(convict=0.00236, doubt=0.0034)
OCCASION_FLOOR = 0.0003
#: Between units, until sessions show less: from 0.3 to 1.1 % by variant was seen.
UNIT = Spread(convict=0.006, doubt=0.006)
#: The clock's part: between units; between occasions it moves by steps, which the rule allows for.
LOAD_UNIT = Spread(convict=0.004, doubt=0.004)
ASSUMED = {
    SECONDS: Noise(LAUNCH, OCCASION, UNIT),
    CYCLES: Noise(LAUNCH, OCCASION, UNIT),
    LOAD: Noise(LAUNCH, Spread(0.0, 0.0), LOAD_UNIT),
}


@dataclass(frozen=True)
class Scatter:
    """Noise by family and measure, as the stored sessions show it; as assumed for a family that they do not hold."""

    families: Mapping[str, Mapping[str, Noise]] = field(default_factory=dict)

    def noise(self, family: str, measure: str) -> Noise:
        """What readings of this family differ by."""
        return self.families.get(family, ASSUMED).get(measure, ASSUMED[measure])


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


def scatter(cases: Iterable[Sequence[Reading]]) -> Scatter:
    """The noise of stored readings by family. cases: groups of readings that nothing but noise makes differ."""
    families: dict[str, list[Sequence[Reading]]] = defaultdict(list)
    for readings in cases:
        # Calls that lower their own clock have a floor of their own.
        if readings and not any(one.self_throttled for one in readings):
            kept = [one for session in grouped(readings, "session") for one in agreeing(session)]
            families[readings[0].family].append(kept)
    return Scatter({name: {m: _noise(found, m) for m in MEASURES} for name, found in families.items()})


@dataclass(frozen=True)
class _Mean:
    """Of launches that are alike: its logarithm, and the variance that launches and rounds leave it."""

    log: float
    own: float


def _noise(cases: Sequence[Sequence[Reading]], measure: str) -> Noise:
    shares = [memory_share(case).value for case in cases]
    both = list(zip(cases, shares, strict=True))
    launch = _launch_sd(_logs(session, measure, of) for case, of in both for session in grouped(case, "session"))
    occasions, units = [], []
    for number, (case, of) in enumerate(both):
        of_case: dict[str | None, _Mean] = {}
        for unit in grouped(case, "unit"):
            sessions = grouped(unit, "session")
            means = {s[0].session: _mean(_logs(s, measure, of), launch) for s in sessions}
            found = {name: mean for name, mean in means.items() if mean is not None}
            occasions += [(unit[0].unit, number, name, mean) for name, mean in found.items()]
            if found and unit[0].unit is not None:
                own = statistics.fmean(mean.own for mean in found.values()) / len(found)
                of_case[unit[0].unit] = _Mean(statistics.fmean(mean.log for mean in found.values()), own)
        units += [("", number, str(name), mean) for name, mean in of_case.items()]
    assumed = ASSUMED[measure]
    by_step = measure == LOAD  # what the rule allows for is no noise
    occasion = assumed.occasion if by_step else _spread(_tables(occasions), assumed.occasion)
    return Noise(launch, occasion, _spread(_tables(units), assumed.unit))


def _logs(session: Sequence[Reading], measure: str, share: float) -> list[Estimate]:
    """What the launches of one occasion say of a measure."""
    found = [measured(one, measure, share) for one in session]
    return [one for one in found if one is not None and math.isfinite(one.error)]


def _launch_sd(sessions: Iterable[Sequence[Estimate]]) -> float:
    """What launches of one occasion differ by beyond their rounds, blended with what is assumed."""
    total, freedom = 0.0, 0
    for session in sessions:
        if len(session) > 1:
            rounds = statistics.fmean(one.error**2 for one in session)
            total += (len(session) - 1) * (stats.variance([one.log for one in session]) - rounds)
            freedom += len(session) - 1
    blended = (LAUNCH_FREEDOM * LAUNCH**2 + max(0.0, total)) / (LAUNCH_FREEDOM + freedom)
    return max(LAUNCH_FLOOR, math.sqrt(blended))


def _mean(session: Sequence[Estimate], launch: float) -> _Mean | None:
    if not session:
        return None
    own = statistics.fmean(launch**2 + one.error**2 for one in session) / len(session)
    return _Mean(statistics.fmean(one.log for one in session), own)


#: By case, by session (or unit): the mean of its launches. Every table is of one unit.
_Table = Mapping[int, Mapping[str, _Mean]]


def _tables(means: Iterable[tuple[str | None, int, str, _Mean]]) -> list[_Table]:
    found: dict[str | None, dict[int, dict[str, _Mean]]] = defaultdict(lambda: defaultdict(dict))
    for table, case, column, mean in means:
        found[table][case][column] = mean
    return [table for name, table in found.items() if name is not None]


def _spread(tables: Iterable[_Table], assumed: Spread) -> Spread:
    """What the columns of these tables differ by: the part that all cases share, and each case's own.

    A two-way layout by pairs of columns, in the cases that both have, so that it may have gaps. The mean difference of a
    pair has variance 2 · (shared + rest / cases), the differences about it 2 · rest; rest is the case's own and what
    launches leave, which is known and taken off once, from the bound too: so few cases do not look quiet. The bound has
    columns - 1 degrees of freedom for what is shared, and (cases - 1) · (columns - 1) for the rest.
    """
    tables = list(tables)
    pairs = [pair for table in tables for pair in _pairs(table)]
    freedom = sum(pair.joins for pair in pairs)
    if not pairs or not freedom:
        means = [mean for table in tables for row in table.values() for mean in row.values()]
        if not means:
            return assumed
        alone = Repeats(own=statistics.fmean(mean.own for mean in means), cases=max(len(table) for table in tables))
        return replace(assumed, repeats=alone)
    weight = sum(pair.weight for pair in pairs)
    inner = sum(pair.inner for pair in pairs)
    rest_freedom = sum(pair.cases - 1 for pair in pairs if pair.joins)
    rest = inner / sum(pair.cases - 1 for pair in pairs) if rest_freedom else 0.0
    apart = sum(pair.weight * (1 - 1 / pair.cases) for pair in pairs) / weight
    return spread(
        Repeats(
            shared=sum(pair.weight * pair.shared for pair in pairs) / weight,
            rest=apart * rest,
            own=sum(pair.weight * pair.own for pair in pairs) / weight,
            cases=1 + rest_freedom / freedom,
            freedom=freedom,
            rest_freedom=rest_freedom,
        ),
        assumed,
    )


def spread(repeats: Repeats, assumed: Spread) -> Spread:
    """What is used where this was repeated.

    Never less than seen, and else no more than assumed. One degree of freedom bounds nothing: two sessions that agree may do
    so by chance.
    """
    several = repeats.freedom > 1
    convict, doubt = (repeats.bound(CONVICT), repeats.bound(DOUBT)) if several else (math.inf, math.inf)
    seen = repeats.seen
    return Spread(
        convict=max(seen, min(convict, assumed.convict)),
        doubt=max(seen, min(doubt, assumed.doubt)),
        assumed=seen < assumed.convict < convict,
        repeats=repeats,
    )


@dataclass(frozen=True)
class _Pair:
    """Two columns of a table. joins: whether they were not connected by the pairs before."""

    cases: int
    shared: float
    inner: float  # sum of squares
    own: float
    weight: float
    joins: bool


def _pairs(table: _Table) -> list[_Pair]:
    """Every two columns that have cases in common; weighted so that a table counts by its degrees of freedom."""
    columns = list(dict.fromkeys(name for row in table.values() for name in row))
    joined = {name: {name} for name in columns}
    found = []
    for one, other in combinations(columns, 2):
        both = [(row[one], row[other]) for row in table.values() if one in row and other in row]
        if not both:
            continue
        apart = [a.log - b.log for a, b in both]
        mean = statistics.fmean(apart)
        joins = joined[one] is not joined[other]
        if joins:
            joined[one] |= joined[other]
            for name in joined[other]:
                joined[name] = joined[one]
        found.append(
            _Pair(
                cases=len(both),
                shared=mean**2 / 2,
                inner=sum((value - mean) ** 2 for value in apart) / 2,
                own=statistics.fmean(a.own + b.own for a, b in both) / 2,
                weight=2 / len(columns),
                joins=joins,
            )
        )
    return found


def _cycles(sample: Sample) -> list[int] | None:
    """Cycles of every round; None where one was not counted, or where the host's work is inside the interval."""
    if sample.synchronising or len(sample.cycles) != len(sample.rounds_s):
        return None
    counted = [cycles for cycles in sample.cycles if cycles is not None]
    return counted if len(counted) == len(sample.rounds_s) and min(counted) > 0 else None
