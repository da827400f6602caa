"""Statistics as pure functions of sequences of numbers, mostly seconds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

#: Share of the values that a trimmed mean leaves out at either end.
TRIM = 0.1
#: Fewer do not show how they scatter.
FEWEST_ROUNDS = 3


def median_s(rounds_s: Sequence[float]) -> float:
    """Median in seconds. Raises statistics.StatisticsError on an empty sequence."""
    return statistics.median(rounds_s)


def coefficient_of_variation(rounds_s: Sequence[float]) -> float | None:
    """Sample standard deviation over mean; None for fewer than two rounds."""
    if len(rounds_s) < 2:
        return None
    return statistics.stdev(rounds_s) / statistics.fmean(rounds_s)


def trimmed_mean(values: Sequence[float]) -> float:
    """Mean of the values without the `TRIM` at either end. Raises statistics.StatisticsError on an empty sequence."""
    cut = int(TRIM * len(values))
    return statistics.fmean(sorted(values)[cut : len(values) - cut])


def trimmed_error(values: Sequence[float]) -> float:
    """Standard error of `trimmed_mean`, for two values or more.

    The deviation of the winsorized values over (1 - 2 · TRIM) · sqrt(n) (Tukey and McLaughlin 1963).
    """
    ordered = sorted(values)
    cut = int(TRIM * len(ordered))
    kept = ordered[cut : len(ordered) - cut]
    winsorized = [min(max(value, kept[0]), kept[-1]) for value in ordered]
    return statistics.stdev(winsorized) / (len(kept) / len(ordered)) / math.sqrt(len(ordered))


def variance(values: Sequence[float]) -> float:
    """Sample variance of two values or more, in floats: `statistics.variance` is exact, but too slow for a whole suite."""
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


@lru_cache(maxsize=1024)
def chi2_quantile(share: float, freedom: int) -> float:
    """The quantile of chi-squared with `freedom` degrees of freedom: it is below this value with probability `share`.

    By bisection of the series of the regularized incomplete gamma function (Abramowitz and Stegun 6.5.29).
    """
    low, high = 0.0, freedom + 20.0 * math.sqrt(2.0 * freedom) + 20.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _chi2_below(middle, freedom) < share else (low, middle)
    return high


def upper_bound(sd: float, freedom: int, confidence: float = 0.9) -> float:
    """Upper confidence bound of a standard deviation that was estimated as `sd`; infinite without freedom.

    sd · sqrt(freedom / chi-squared quantile of 1 - confidence), for independent normal values. At 90 % that is 3.1, 1.9 and
    1.5 times sd for 3, 5 and 10 values.
    """
    return sd * math.sqrt(freedom / chi2_quantile(1 - confidence, freedom)) if freedom > 0 else math.inf


def _chi2_below(value: float, freedom: int) -> float:
    """Probability that chi-squared with `freedom` degrees of freedom is below `value`."""
    half, shape = value / 2, freedom / 2
    if half <= 0:
        return 0.0
    term = total = math.exp(shape * math.log(half) - half - math.lgamma(shape + 1))
    step = 1
    while term > total * 1e-16:
        term *= half / (shape + step)
        total += term
        step += 1
    return min(1.0, total)


def tflop_per_s(flop: int, seconds: float) -> float:
    """Rate in TFLOP/s (10¹² FLOP per second)."""
    return flop / seconds / 1e12


def resolution_s(rounds_s: Sequence[float]) -> float:
    """Smallest difference between two different rounds, an upper bound of the timer's resolution; 0.0 if all are equal."""
    seen = sorted(set(rounds_s))
    return min((later - earlier for earlier, later in pairwise(seen)), default=0.0)


def quantile(values: Sequence[float], share: float) -> float:
    """The quantile with linear interpolation between order statistics (type 7 of Hyndman and Fan 1996, numpy's default)."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (at - below)
