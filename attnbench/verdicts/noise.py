"""How far readings of one case differ between launches, sessions and units, as stored sessions show it.

Noise is that of a family of backends, never pooled over several: what occasions differ by is shared by the kernels of one
library, and differs between them. docs/method.md says where each assumed value comes from.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from attnbench import stats
from attnbench.storage.sessions import Baseline
from attnbench.verdicts import autotuned, code_lines
from attnbench.verdicts.summary import (
    CYCLES,
    LOAD,
    MEASURES,
    SECONDS,
    Estimate,
    Reading,
    agreeing,
    grouped,
    measured,
    memory_share,
    reading,
)


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


@functools.lru_cache(maxsize=4)
def scatter_of(baseline: Baseline) -> Scatter:
    """How stored launches of the same case differ that measured the same code, on the same inputs, over all cases.

    The same code is the same line and the same autotune choices.
    """
    alike: dict[tuple[object, ...], list[Reading]] = defaultdict(list)
    for case, stored in baseline.records.items():
        small = autotuned.negligible(record for _, record in stored)
        for number, line in enumerate(code_lines.by_line(stored)):
            for session, record in line:
                found = reading(record, session.launches.get(record.launch), session.name)
                alike[case, number, record.input_sha256, autotuned.key(record, small)].append(found)
    return scatter(alike.values())


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
