"""The rule of verdicts: launches of one case against stored ones, with error rates that are stated (layer 1).

The rule, for one of m selected cases, in the measures that count. Those are seconds and cycles both, because compute-bound
kernels follow the clock and memory-bound ones do not, so either alone would speak for a clock step. On a unit that the
baseline knows, with rounds that started at the baseline's clock, it is cycles alone: what the clock then does during a call
is what that call's own load makes of it, which is a step up or down from one hour to the next and moves only the seconds of
kernels that follow it (docs/method.md). Seconds must still not say the opposite. Where the launches of a unit start at
several clocks, the stored ones tell how the cycles of a call follow that (clock_slope.py): all launches are moved to the
mean clock of the stored ones by it, and cycles decide as well.

- *regressed*: the interval's lower end is above the tolerated slow-down and the estimate is at least half the limit;
- *improved*: the mirror image; *unchanged*: the upper end is below the limit, in one of the measures, but not in seconds
  where the clocks differ, and in each where ours was lower by more than a step;
- otherwise the case is measured again in fresh processes, and *inconclusive* when no launch is left.

On a unit that the baseline does not know the rule is a screen: what would be *regressed* is *inconclusive*, with the change
as a suspicion, and what would be *improved* is *unchanged*, as no slow-down of the limit is left. What units differ by is
known too little for more: it is in the interval as if it were, which is enough to dismiss a slow-down.

Each end of the interval is wrong for at most alpha/(m · looks) of comparisons (Bonferroni), where the looks are the times
that a case may be called regressed while launches are added. What the rule does at no change, at the tolerated slow-down
and at the limit follows from that: at or below the tolerated one, at most alpha of whole runs hold a false *regressed*, as
far as the launches of all variants scatter alike (docs/method.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from attnbench.change import Change, Sides, change_of, difference, launch_variance, sides
from attnbench.model import Bearing, Judgement, Reason
from attnbench.readings import CYCLES, SECONDS, Reading, Scatter, has_cycles

#: The share of slow-downs of the stated size (`found_by`) that would have been called regressed.
FOUND_SHARE = 0.95
#: By so many of its standard errors the mean of a few launches may move when more follow.
REACH = 2.0
#: Two clocks closer than this are one: half of a step of 15 MHz at 1980 MHz.
SAME_CLOCK = 0.004
#: A clock that is lower by no more than this is so by one step, as a warm GPU's may be.
LITTLE_LOWER = 0.01
#: No limit is below this many steps of the event timer.
RESOLUTIONS = 3
#: What a claim comes to on a unit that the baseline does not know.
SCREENED = {Judgement.REGRESSED: Judgement.INCONCLUSIVE, Judgement.IMPROVED: Judgement.UNCHANGED}


@dataclass(frozen=True)
class Rule:
    """What counts as a slow-down, and how often a verdict may be wrong.

    cases: how many are judged in the run; relaunches: fresh launches that a suspect may still be given, 0 to convict on
    the first; limit: the slow-down that counts, where one is asked for.
    """

    cases: int
    relaunches: int = 3
    tolerated: float = 0.003
    known_limit: float = 0.01
    unknown_limit: float = 0.02
    alpha: float = 0.01
    limit: float | None = None

    @property
    def quantile(self) -> float:
        """Standard errors from the estimate to either end of the interval."""
        return NormalDist().inv_cdf(1 - self.alpha / (max(1, self.cases) * max(1, self.relaunches)))


@dataclass(frozen=True)
class Comparison:
    """What the rule says of a case now. `suspect`: worth a fresh launch, should there be one left."""

    kind: Judgement
    reasons: tuple[Reason, ...]
    changes: tuple[Change, ...]
    said: Change  # the one that a report prints
    limit: float
    known_unit: bool
    found_by: float
    suspect: bool
    carried: float = math.inf
    bearing: Bearing | None = None


def compare(ours: Sequence[Reading], theirs: Sequence[Reading], rule: Rule, scatter: Scatter) -> Comparison:
    """Hold the launches of this run against the stored ones. Raises ValueError when either is empty.

    On a unit that is among the stored ones only its own sessions count. On another, all do, and what units differ by is
    part of the interval; nothing is then called regressed or improved.
    """
    if not ours or not theirs:
        raise ValueError("a comparison needs a launch on either side")
    held = sides(ours, theirs, scatter)
    wanted = rule.limit or (rule.known_limit if held.known else rule.unknown_limit)
    limit = max(wanted, RESOLUTIONS * max(one.resolution for one in held.both()))
    risen = held.risen()
    measures = _measures(held, cycles_decide=held.known and risen is not None and abs(risen) < SAME_CLOCK)
    changes = tuple(change_of(held, m, rule.quantile, scatter.of[m]) for m in measures)
    claimed = _kind(changes, rule, limit, risen)
    in_seconds = difference(held, SECONDS) + held.explained
    opposed = held.known and claimed is Judgement.REGRESSED and math.expm1(in_seconds) < -rule.tolerated
    if opposed:
        claimed = Judgement.INCONCLUSIVE
    kind = claimed if held.known else SCREENED.get(claimed, claimed)
    said = _said(claimed, changes, risen)
    last = [change_of(held, m, rule.quantile, scatter.of[m], max(len(ours), 1 + rule.relaunches)) for m in measures]
    again = len(ours) <= rule.relaunches and (
        opposed
        or (kind is Judgement.REGRESSED and len(ours) == 1)
        or (kind is Judgement.INCONCLUSIVE and _may_settle(held, measures, rule, scatter, limit, risen))
    )
    found_by = _found_by(last, rule, limit) if held.known else math.inf  # where nothing is called regressed
    if held.known:
        kind, reasons = _with_reasons(kind, said, held, limit, rule)
    else:
        reasons = _of_screen(claimed, said, limit, scatter)
    if opposed:
        text = (
            f"slower in cycles ({said.value:+.2%}), but faster in seconds: the clock rose by more than the kernel lost"
        )
        reasons = (Reason("clock", text),)
    return Comparison(kind, reasons, changes, said, limit, held.known, found_by, again)


def _measures(held: Sides, *, cycles_decide: bool) -> tuple[str, ...]:
    """The measures that must all say so."""
    if not has_cycles(held.both()):
        return (SECONDS,)
    return (CYCLES,) if cycles_decide else (SECONDS, CYCLES)


def _kind(changes: Sequence[Change], rule: Rule, limit: float, risen: float | None) -> Judgement:
    """What the changes come to. risen: log of the clock that our rounds started at over the baseline's, if it was read."""
    if all(c.low > rule.tolerated and c.value >= limit / 2 for c in changes):
        return Judgement.REGRESSED
    if all(c.high < -rule.tolerated and c.value <= -limit / 2 for c in changes):
        return Judgement.IMPROVED
    if any(c.high < limit for c in _acquitting(changes, risen)):
        return Judgement.UNCHANGED
    return Judgement.INCONCLUSIVE


def _said(kind: Judgement, changes: Sequence[Change], risen: float | None) -> Change:
    """The change that decides: the smaller slow-down, the smaller gain, or the one that rules a slow-down out."""
    if kind is Judgement.REGRESSED:
        return min(changes, key=lambda c: c.value)
    if kind is Judgement.IMPROVED:
        return max(changes, key=lambda c: c.value)
    return min(_acquitting(changes, risen), key=lambda c: c.high)


def _acquitting(changes: Sequence[Change], risen: float | None) -> Sequence[Change]:
    """The changes of which each may rule a slow-down out.

    Cycles alone where the clocks differ: at a higher clock than the baseline's, seconds hide what the kernel lost. At a much
    lower one cycles hide what a memory-bound kernel lost, so the larger change must rule it out.
    """
    if risen is None or abs(risen) < SAME_CLOCK:
        return changes
    if risen < -LITTLE_LOWER:
        return [max(changes, key=lambda c: c.high)]
    return [c for c in changes if c.measure == CYCLES] or changes


def _may_settle(
    held: Sides, measures: Sequence[str], rule: Rule, scatter: Scatter, limit: float, risen: float | None
) -> bool:
    """Whether launches like these without end could decide, wherever within `REACH` errors of ours their mean comes to lie.

    Where they could not, because of what the stored ones leave open, one more launch is time wasted. That it may start at
    another clock, and decide after all, is not waited for.
    """
    for shift in (-REACH, 0.0, REACH):
        moved = []
        for measure in measures:
            noise = scatter.of[measure]
            found = change_of(held, measure, rule.quantile, noise, math.inf)
            by = shift * math.sqrt(launch_variance(held.ours, measure, noise) / len(held.ours))
            moved.append(replace(found, value=found.value + by, low=found.low + by, high=found.high + by))
        claimed = _kind(moved, rule, limit, risen)
        if (claimed if held.known else SCREENED.get(claimed, claimed)) is not Judgement.INCONCLUSIVE:
            return True
    return False


def _found_by(changes: Sequence[Change], rule: Rule, limit: float) -> float:
    """The smallest slow-down that `FOUND_SHARE` of runs call regressed once every launch is used.

    It must lift the interval's lower end above the tolerated slow-down and the estimate above half the limit, and must not
    be dismissed with an upper end below the limit.
    """
    beyond = NormalDist().inv_cdf(FOUND_SHARE)
    return max(
        max(
            rule.tolerated + (rule.quantile + beyond) * c.error,
            limit / 2 + beyond * c.error,
            limit - (rule.quantile - beyond) * c.error,
        )
        for c in changes
    )


def _with_reasons(
    kind: Judgement, said: Change, held: Sides, limit: float, rule: Rule
) -> tuple[Judgement, tuple[Reason, ...]]:
    """The final kind, and every reason for it."""
    if kind is Judgement.REGRESSED and any(one.unsettled for one in held.both()):
        text = "slower, but started below the clock's ceiling in more than a tenth of the rounds: nothing is claimed"
        return Judgement.INCONCLUSIVE, (Reason("unsettled", text),)
    if kind is Judgement.REGRESSED:
        text = f"at least {said.low:+.2%}, where {rule.tolerated:.1%} is tolerated and {limit:.2%} is the limit"
        return kind, (Reason("slower", text),)
    if kind is Judgement.IMPROVED:
        return kind, (Reason("faster", f"at least {-said.high:.2%} faster"),)
    if kind is Judgement.UNCHANGED:
        return kind, (Reason("below-limit", f"at most {said.high:+.2%}, below the limit of {limit:.2%}"),)
    return kind, (_undecided(said),)


def _undecided(said: Change) -> Reason:
    if math.isinf(said.error):
        return Reason("rounds", "fewer than 3 rounds do not tell how they scatter: nothing is claimed")
    return Reason("interval", f"between {said.low:+.2%} and {said.high:+.2%} nothing is decided")


def _of_screen(claimed: Judgement, said: Change, limit: float, scatter: Scatter) -> tuple[Reason, ...]:
    """The reasons on a unit that the baseline does not know. claimed: what a known unit would be called."""
    if claimed is Judgement.UNCHANGED:
        return (Reason("below-limit", f"at most {said.high:+.2%}, below the limit of {limit:.2%}"),)
    if math.isinf(said.error):
        return (_undecided(said),)
    differ = f"units of one model differ by {scatter.of[said.measure].unit:.1%} (sd)"
    by = f"the baseline is from other units, and {differ}"
    here = "record a session on this unit (scripts/record_baseline)"
    if claimed is Judgement.IMPROVED:
        text = f"suspected gain: {by}. To decide, {here}"
        below = Reason("below-limit", f"at most {said.high:+.2%}, below the limit of {limit:.2%}")
        return (below, Reason("unknown-unit", text))
    here += ", or measure the tree before the change here too (--benchmark-save, --benchmark-compare)"
    if claimed is Judgement.REGRESSED:
        return (Reason("unknown-unit", f"suspected slow-down: {by}. To decide, {here}"),)
    return (_undecided(said), Reason("unknown-unit", f"{by}. To decide, {here}"))
