"""Shares of simulated runs with exact intervals, and whether they keep their targets. Pure; standard library only."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Share:
    """`low` and `high`: 95 % interval."""

    value: float
    low: float
    high: float


def clopper_pearson(hits: float, of: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact interval of a share (Clopper and Pearson 1934). Both numbers may be effective ones, so need not be whole."""
    tail = (1 - confidence) / 2
    low = 0.0 if hits <= 0 else _solve(lambda p: beta_cdf(p, hits, of - hits + 1), tail)
    high = 1.0 if hits >= of else _solve(lambda p: beta_cdf(p, hits + 1, of - hits), 1 - tail)
    return low, high


def share_of(clusters: Sequence[tuple[int, int]]) -> Share:
    """The share of hits in clusters (hits, of) of alike runs, each cluster with a baseline of its own.

    Runs against one baseline are not independent, so the exact interval is that of as many independent runs as would tell
    as much: their number over the design effect (Korn and Graubard 1998), never more than there are.
    """
    hits, of = sum(h for h, _ in clusters), sum(n for _, n in clusters)
    if not of:
        return Share(math.nan, math.nan, math.nan)
    share, effective = hits / of, float(of)
    if len(clusters) > 1 and 0 < hits < of:
        # Of a ratio of sums, by linearisation.
        variance = len(clusters) * statistics.variance([(h - share * n) / of for h, n in clusters])
        effective = of / max(1.0, variance / (share * (1 - share) / of))
    return Share(share, *clopper_pearson(share * effective, effective))


def worst_tenth(runs: Sequence[Sequence[bool]]) -> float:
    """The share of hits for the worst tenth of baselines (a sequence of runs each).

    Baselines are ranked by every second run and counted in the others, and the other way round: ranked and counted by the
    same runs, a tenth would look bad by chance.
    """
    number = max(1, round(len(runs) / 10))
    shares = []
    for ranked_by in (0, 1):
        ranked = sorted(runs, key=lambda found: -statistics.fmean(found[ranked_by::2]))
        # Those that rank alike are as bad as each other: all of them count, the last ones in part.
        last = statistics.fmean(ranked[number - 1][ranked_by::2])
        above = [found for found in ranked if statistics.fmean(found[ranked_by::2]) > last]
        alike = [found for found in ranked if statistics.fmean(found[ranked_by::2]) == last]
        counted = [
            statistics.fmean(statistics.fmean(f[1 - ranked_by :: 2]) for f in part) if part else 0.0
            for part in (above, alike)
        ]
        shares.append((len(above) * counted[0] + (number - len(above)) * counted[1]) / number)
    return statistics.fmean(shares)


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (Lentz)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    c, d = 1.0, _away(1 - (a + b) * x / (a + 1))
    d = 1 / d
    value = d
    for m in range(1, 10_000):
        for factor in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away(1 + factor * d)
            c = _away(1 + factor / c)
            value *= c * d
        if abs(c * d - 1) < 1e-12:
            break
    return front * value / a


def _away(value: float) -> float:
    """From zero."""
    return value if abs(value) > 1e-300 else 1e-300


def _solve(rising: Callable[[float], float], at: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < at else (low, middle)
    return (low + high) / 2
