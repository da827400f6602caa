"""Statistics as pure functions of sequences of seconds (layer 0)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

#: Share of the rounds that a trimmed mean leaves out at either end.
TRIM = 0.1


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


def tflop_per_s(flop: int, seconds: float) -> float:
    """Rate in TFLOP/s (10¹² FLOP per second)."""
    return flop / seconds / 1e12


def resolution_s(rounds_s: Sequence[float]) -> float:
    """Smallest difference between two different rounds: an upper bound of the timer's resolution; 0.0 without one."""
    seen = sorted(set(rounds_s))
    return min((later - earlier for earlier, later in pairwise(seen)), default=0.0)
