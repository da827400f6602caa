"""The share of memory in a call's time, by which its cycles follow the clock ("Clock correction" in docs/method.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from attnbench.verdicts.rule import STEP
from attnbench.verdicts.summary import CLOCK_RATIO, CYCLES, SECONDS, SampleSummary, estimate_of, grouped


@dataclass(frozen=True)
class MemoryShare:
    """Cycles follow the clock during the call by this share. sd: its uncertainty."""

    value: float
    sd: float


#: Power limits a call whose clock is lower than this against the clock right before it (logarithm). On an H100 the cycles of
#: 246 such cases follow the clock by 0.07, those of 30 others by 0.8 (te_unfused up to 1.3, torch_math 0.1 to 0.5):
#: docs/measurements/clock-h100.md.
POWER_LIMITED = math.log(0.95)
COMPUTING, OTHER = MemoryShare(0.1, 0.07), MemoryShare(0.7, 0.35)
#: What launches show of a share is weighted as if they differed by this (relative sd), beside the rounds' own error.
LAUNCH_SD = 0.001
#: No share is known better than this, however many launches show it.
SHARE_SD = COMPUTING.sd
#: Launches move the usual share by at most so many of its sd: one launch that is slow for another reason may say anything.
MOST_MOVED = 2.0
#: Start clocks of a session that differ by less, in logarithms, are those of one plateau and show nothing.
ONE_PLATEAU = STEP / 2


def memory_share_of(summaries: Sequence[SampleSummary]) -> MemoryShare:
    """The share of memory in a call's time, as far as its clock shows it.

    If every launch ran well below the clock at which its rounds started, power limits the call, so it computes. Launches of
    one session that started at different clocks then say more.
    """
    ratios = [ratio.log for one in summaries if (ratio := estimate_of(one, CLOCK_RATIO)) is not None]
    if len(ratios) < len(summaries):
        return OTHER
    return _with_launches(COMPUTING if max(ratios) < POWER_LIMITED else OTHER, summaries)


def _with_launches(usual: MemoryShare, summaries: Sequence[SampleSummary]) -> MemoryShare:
    """The usual share, corrected by what these launches show: the mean of both, weighted by their precision.

    Least squares about the mean of each session, which sessions differ by for other reasons. The start clock is the
    instrument: the cycles themselves are part of the clock during the call, so their noise would look like a share.
    """
    moments = [moment for session in grouped(summaries, "session") if (moment := _moments(session))]
    starts, during, cycles = (math.fsum(column) for column in zip(*moments, strict=True)) if moments else (0.0,) * 3
    variance = LAUNCH_SD**2 + fmean(one.estimates[CYCLES].error ** 2 for one in summaries)
    if not during or not math.isfinite(variance):
        return usual
    shown, known = during**2 / starts / variance, 1 / usual.sd**2
    value = (known * usual.value + shown * cycles / during) / (known + shown)
    most = MOST_MOVED * usual.sd
    return MemoryShare(
        value=min(max(value, usual.value - most), usual.value + most),
        sd=max(SHARE_SD, 1 / math.sqrt(known + shown)),
    )


def _moments(session: Sequence[SampleSummary]) -> tuple[float, float, float] | None:
    """Sums over the launches of one session: the start clock squared, and times the clock during the call and the cycles.

    All are logarithms about their mean. None if all launches started at one plateau.
    """
    starts = [math.log(one.settled_hz or 1.0) for one in session]
    if max(starts) - min(starts) < ONE_PLATEAU:
        return None
    mean = fmean(starts)
    about = [start - mean for start in starts]
    cycles = [one.estimates[CYCLES].log for one in session]
    during = [one.estimates[CYCLES].log - one.estimates[SECONDS].log for one in session]
    return _products(about, about), _products(about, during), _products(about, cycles)


def _products(one: Sequence[float], another: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(one, another, strict=True))
