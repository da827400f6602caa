"""The sentences that explain a decision about a latency."""

from __future__ import annotations

import math

from attnbench.model import Reason, VerdictKind
from attnbench.stats import FEWEST_ROUNDS
from attnbench.units import signed_percent
from attnbench.verdicts.delta import Delta
from attnbench.verdicts.interval import Intervals
from attnbench.verdicts.rule import Rule

#: The code of a reason about too few rounds.
ROUNDS = "rounds"
UNSETTLED = Reason(
    "unsettled",
    "slower, but more than 10 % of the rounds started below the clock's ceiling, so it is not called a regression",
)


def clock_rose(delta: Delta) -> Reason:
    """Why a case that is slower in cycles is not called regressed."""
    return Reason(
        "clock",
        f"slower in cycles ({signed_percent(delta.value)} %), but faster in seconds, because the clock rose by more",
    )


def left_out(count: int, launches: int) -> tuple[Reason, ...]:
    """That `count` of this run's launches were slow by themselves; empty for 0."""
    if not count:
        return ()
    was = "was slow on its own and is" if count == 1 else "were slow on their own and are"
    return (Reason("slow-launch", f"{count} of {launches} launches {was} left out; the others agree"),)


def on_known_unit(kind: VerdictKind, delta: Delta, now: Intervals, rule: Rule, limit: float) -> Reason:
    """Why the case is `kind`. delta: the change that decided it."""
    if kind is VerdictKind.REGRESSED and delta is not now.main:
        return _slower_clock(delta, now.uncorrected, limit)
    if kind is VerdictKind.REGRESSED:
        text = (
            f"at least {signed_percent(delta.low)} %; tolerated {rule.tolerated * 100:.1f} %, limit {limit * 100:.2f} %"
        )
        return Reason("slower", text)
    if kind is VerdictKind.IMPROVED:
        return Reason("faster", f"at least {-now.gain_high * 100:.2f} % faster")
    if kind is VerdictKind.UNCHANGED:
        return _below_limit(delta, limit)
    return _undecided(delta)


def on_unknown_unit(claimed: VerdictKind, delta: Delta, limit: float, unit_sd: float) -> tuple[Reason, ...]:
    """The reasons on a unit that the baseline does not know.

    claimed: what the case would be called on a known unit. unit_sd: what units of one model differ by, relative.
    """
    if claimed is VerdictKind.UNCHANGED:
        return (_below_limit(delta, limit),)
    if math.isinf(delta.error):
        return (_undecided(delta),)
    cause = f"the baseline is from other GPUs of this model, which differ by {unit_sd * 100:.1f} % (sd)"
    record = "record a session on this GPU (attnbench record)"
    either = f"{record}, or compare with the code before the change on this GPU (--benchmark-save, --benchmark-compare)"
    if claimed is VerdictKind.IMPROVED:
        return (_below_limit(delta, limit), Reason("unknown-unit", f"suspected gain: {cause}. To decide, {record}"))
    if claimed is VerdictKind.REGRESSED:
        return (Reason("unknown-unit", f"suspected slow-down: {cause}. To decide, {either}"),)
    return (_undecided(delta), Reason("unknown-unit", f"{cause}. To decide, {either}"))


def _slower_clock(delta: Delta, in_cycles: float, limit: float) -> Reason:
    text = (
        f"at least {signed_percent(delta.low)} % in seconds (limit {limit * 100:.2f} % plus two clock steps), but "
        f"{signed_percent(in_cycles)} % in cycles: the clock is lower during the call (does the kernel draw more power?)"
    )
    return Reason("slower-clock", text)


def _below_limit(delta: Delta, limit: float) -> Reason:
    return Reason("below-limit", f"at most {signed_percent(delta.high)} %, below the limit of {limit * 100:.2f} %")


def _undecided(delta: Delta) -> Reason:
    if math.isinf(delta.error):
        return Reason(ROUNDS, f"fewer than {FEWEST_ROUNDS} rounds: their scatter is unknown, so nothing is decided")
    return Reason("interval", f"between {signed_percent(delta.low)} % and {signed_percent(delta.high)} %: undecided")
