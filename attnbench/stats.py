"""Statistics as pure functions of sequences of seconds (layer 0)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def median_s(rounds_s: Sequence[float]) -> float:
    """Median in seconds. Raises statistics.StatisticsError on an empty sequence."""
    return statistics.median(rounds_s)


def coefficient_of_variation(rounds_s: Sequence[float]) -> float | None:
    """Sample standard deviation over mean; None for fewer than two rounds."""
    if len(rounds_s) < 2:
        return None
    return statistics.stdev(rounds_s) / statistics.fmean(rounds_s)


def tflop_per_s(flop: int, seconds: float) -> float:
    """Rate in TFLOP/s (10¹² FLOP per second)."""
    return flop / seconds / 1e12
