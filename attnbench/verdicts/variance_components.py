"""What sessions, or units, differ by in a table of cases × sessions: variance components of a two-way layout with gaps.

"Noise" in docs/method.md.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from attnbench import stats

#: No bound on what sessions or units differ by is below this (relative standard deviation).
SD_FLOOR = 0.0003


@dataclass(frozen=True)
class VarianceComponents:
    """Variances of the means of sessions (or units): what all cases share, and the rest of each case.

    from_launches: variance that launches and rounds leave in a mean; it is part of both. cases: how many on average.
    freedom, rest_freedom: degrees of freedom of `shared` and of `rest`.
    """

    shared: float = 0.0
    rest: float = 0.0
    from_launches: float = 0.0
    cases: float = 1.0
    freedom: int = 0
    rest_freedom: int = 0

    @property
    def sd(self) -> float:
        """The estimate, relative: the standard deviation without what launches leave."""
        return math.sqrt(max(0.0, self.shared + self.rest - self.from_launches))

    def upper_bound(self, confidence: float) -> float:
        """The largest standard deviation that fits, with this confidence; infinite without freedom.

        What the bound of each part is above its estimate is added in squares, because the parts err independently (Graybill
        and Wang 1980, "Confidence intervals on nonnegative linear combinations of variances").
        """
        if not self.freedom:
            return math.inf
        excess = math.hypot(
            _above(self.shared, self.freedom, confidence), _above(self.rest, self.rest_freedom, confidence)
        )
        return math.sqrt(max(SD_FLOOR**2, self.shared + self.rest - self.from_launches + excess))

    def with_further(self, sessions: int, sd: float) -> VarianceComponents:
        """The same with more sessions, which differ by `sd` in all cases alike, and by what launches leave in each."""
        freedom = self.freedom + sessions
        shared = self.freedom * self.shared + sessions * (sd**2 + self.from_launches / self.cases)
        rest = self.freedom * self.rest + sessions * (1 - 1 / self.cases) * self.from_launches
        more = self.rest_freedom + round(sessions * (self.cases - 1))
        return VarianceComponents(shared / freedom, rest / freedom, self.from_launches, self.cases, freedom, more)


def _above(variance: float, freedom: int, confidence: float) -> float:
    """By how much the upper bound of a variance is above its estimate; 0 without freedom."""
    return variance * (stats.upper_bound(1.0, freedom, confidence) ** 2 - 1) if freedom else 0.0


@dataclass(frozen=True)
class CellMean:
    """The mean of launches that are alike: its logarithm, and the variance that launches and rounds leave in it."""

    log: float
    from_launches: float


#: By case, by session (or unit): the mean of its launches. A table of sessions is of one unit.
Table = Mapping[int, Mapping[str, CellMean]]


def variance_components(tables: Sequence[Table]) -> VarianceComponents | None:
    """The variance components over all tables; None if there is no mean at all, without freedom if nothing was repeated.

    By pairs of columns, in the cases that both have, so a table may have gaps. The mean difference of a pair has variance
    2 · (shared + rest / cases), the differences about it 2 · rest. rest holds the case's own variance and what launches
    leave. The latter is known and subtracted once, also from the bound, so few cases do not look quiet. The bound has
    columns - 1 degrees of freedom for what is shared, and (cases - 1) · (columns - 1) for the rest.
    """
    pairs = [pair for table in tables for pair in _pairs(table)]
    freedom = sum(pair.joins for pair in pairs)
    if not pairs or not freedom:
        return _without_repeats(tables)
    weight = sum(pair.weight for pair in pairs)
    rest_freedom = sum(pair.cases - 1 for pair in pairs if pair.joins)
    squares = sum(pair.squares for pair in pairs)
    rest = squares / sum(pair.cases - 1 for pair in pairs) if rest_freedom else 0.0
    rest_share = sum(pair.weight * (1 - 1 / pair.cases) for pair in pairs) / weight
    return VarianceComponents(
        shared=sum(pair.weight * pair.shared for pair in pairs) / weight,
        rest=rest_share * rest,
        from_launches=sum(pair.weight * pair.from_launches for pair in pairs) / weight,
        cases=1 + rest_freedom / freedom,
        freedom=freedom,
        rest_freedom=rest_freedom,
    )


def _without_repeats(tables: Sequence[Table]) -> VarianceComponents | None:
    means = [mean for table in tables for row in table.values() for mean in row.values()]
    if not means:
        return None
    from_launches = statistics.fmean(mean.from_launches for mean in means)
    return VarianceComponents(from_launches=from_launches, cases=max(len(table) for table in tables))


@dataclass(frozen=True)
class _Pair:
    """Two columns of a table.

    squares: sum of squares about the mean difference. joins: whether no earlier pairs connect them.
    """

    cases: int
    shared: float
    squares: float
    from_launches: float
    weight: float
    joins: bool


def _pairs(table: Table) -> list[_Pair]:
    """Every two columns that have cases in common, weighted so that a table counts by its degrees of freedom."""
    columns = list(dict.fromkeys(name for row in table.values() for name in row))
    connected = {name: {name} for name in columns}
    pairs = []
    for one, other in combinations(columns, 2):
        both = [(row[one], row[other]) for row in table.values() if one in row and other in row]
        if not both:
            continue
        joins = connected[one] is not connected[other]
        if joins:
            connected[one] |= connected[other]
            for name in connected[other]:
                connected[name] = connected[one]
        pairs.append(_pair(both, 2 / len(columns), joins))
    return pairs


def _pair(cells: Sequence[tuple[CellMean, CellMean]], weight: float, joins: bool) -> _Pair:
    """cells: of every case that both columns have."""
    differences = [a.log - b.log for a, b in cells]
    mean = statistics.fmean(differences)
    return _Pair(
        cases=len(cells),
        shared=mean**2 / 2,
        squares=sum((value - mean) ** 2 for value in differences) / 2,
        from_launches=statistics.fmean(a.from_launches + b.from_launches for a, b in cells) / 2,
        weight=weight,
        joins=joins,
    )
