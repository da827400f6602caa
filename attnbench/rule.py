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

Each end of the interval is wrong for at most alpha/(m · looks) of comparisons (Bonferroni), where the looks are the times
that a case may be called regressed while launches are added. What the rule does at no change, at the tolerated slow-down
and at the limit follows from that: at or below the tolerated one, at most alpha of whole runs hold a false *regressed*, as
far as the launches of all variants scatter alike (docs/method.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, fmean

from attnbench.model import Judgement, Reason
from attnbench.readings import (
    CYCLES,
    SECONDS,
    SELF_THROTTLED_LAUNCH,
    Noise,
    Reading,
    Scatter,
    at_one_clock,
    between,
    grouped,
)

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


@dataclass(frozen=True)
class Rule:
    """What counts as a slow-down, and how often a verdict may be wrong.

    cases: how many are judged in the run; relaunches: fresh launches that a suspect may still be given, 0 to convict on
    the first.
    """

    cases: int
    relaunches: int = 3
    tolerated: float = 0.003
    known_limit: float = 0.01
    unknown_limit: float = 0.02
    alpha: float = 0.01

    @property
    def quantile(self) -> float:
        """Standard errors from the estimate to either end of the interval."""
        return NormalDist().inv_cdf(1 - self.alpha / (max(1, self.cases) * max(1, self.relaunches)))


@dataclass(frozen=True)
class Change:
    """The relative change of one measure with its interval, and its standard error."""

    measure: str
    value: float
    low: float
    high: float
    error: float


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


@dataclass(frozen=True)
class _Sides:
    """Our launches, and the stored ones that they are held against.

    known: whether all are of one unit; slope_error: standard error of their difference in cycles that comes from moving them
    to one clock; explained: by how much a higher clock may have shortened the seconds of ours, in logarithms.
    """

    ours: Sequence[Reading]
    base: Sequence[Reading]
    known: bool
    slope_error: float = 0.0
    explained: float = 0.0

    def both(self) -> tuple[Reading, ...]:
        return (*self.ours, *self.base)


def compare(ours: Sequence[Reading], theirs: Sequence[Reading], rule: Rule, scatter: Scatter) -> Comparison:
    """Hold the launches of this run against the stored ones. Raises ValueError when either is empty.

    On a unit that is among the stored ones only its own sessions count. On another, all do, and what units differ by is
    part of the interval: that makes it a screen for what no unit explains.
    """
    if not ours or not theirs:
        raise ValueError("a comparison needs a launch on either side")
    sides = _sides(ours, theirs, scatter)
    wanted = rule.known_limit if sides.known else rule.unknown_limit
    limit = max(wanted, RESOLUTIONS * max(one.resolution for one in sides.both()))
    risen = _risen(sides.ours, sides.base)
    measures = _measures(sides, cycles_decide=sides.known and risen is not None and abs(risen) < SAME_CLOCK)
    changes = tuple(_change(sides, m, rule, scatter.of[m]) for m in measures)
    kind = _kind(changes, rule, limit, risen)
    in_seconds = _difference(sides, SECONDS) + sides.explained
    opposed = kind is Judgement.REGRESSED and math.expm1(in_seconds) < -rule.tolerated
    if opposed:
        kind = Judgement.INCONCLUSIVE
    said = _said(kind, changes, risen)
    last = [_change(sides, m, rule, scatter.of[m], max(len(ours), 1 + rule.relaunches)) for m in measures]
    again = len(ours) <= rule.relaunches and (
        opposed
        or (kind is Judgement.REGRESSED and len(ours) == 1)
        or (kind is Judgement.INCONCLUSIVE and _may_settle(sides, measures, rule, scatter, limit, risen))
    )
    kind, reasons = _with_reasons(kind, said, sides, limit, rule)
    if opposed:
        text = (
            f"slower in cycles ({said.value:+.2%}), but faster in seconds: the clock rose by more than the kernel lost"
        )
        reasons = (Reason("clock", text),)
    return Comparison(kind, reasons, changes, said, limit, sides.known, _found_by(last, rule, limit), again)


def _sides(ours: Sequence[Reading], theirs: Sequence[Reading], scatter: Scatter) -> _Sides:
    """What counts of the stored launches; on a known unit all launches at one clock, where the slope for that is known."""
    units = {one.unit for one in ours}
    same = [one for one in theirs if one.unit in units and one.unit is not None]
    if not same or len(units) > 1:
        return _Sides(ours, theirs, known=False)
    slope = scatter.slopes.get(ours[0].variant)
    moved = None if slope is None else at_one_clock(ours, same, slope)
    if slope is None or moved is None:
        return _Sides(ours, same, known=True)
    risen = _risen(ours, same) or 0.0
    return _Sides(*moved[:2], known=True, slope_error=moved[2], explained=max(0.0, (1 - slope.value) * risen))


def _risen(ours: Sequence[Reading], base: Sequence[Reading]) -> float | None:
    """Log of the clock that our rounds started at over the baseline's; None where it was not read for all of them."""
    clocks = [[one.settled_hz for one in side if one.settled_hz is not None] for side in (ours, base)]
    if len(clocks[0]) < len(ours) or len(clocks[1]) < len(base):
        return None
    return math.log(fmean(clocks[0]) / fmean(clocks[1]))


def _measures(sides: _Sides, *, cycles_decide: bool) -> tuple[str, ...]:
    """The measures that must all say so."""
    if not all(CYCLES in one.estimates for one in sides.both()):
        return (SECONDS,)
    return (CYCLES,) if cycles_decide else (SECONDS, CYCLES)


def _difference(sides: _Sides, measure: str) -> float:
    """Mean log of ours less the baseline's."""
    return fmean(one.estimates[measure].log for one in sides.ours) - _centre(sides.base, measure, sides.known)


def _change(sides: _Sides, measure: str, rule: Rule, noise: Noise, launches: float = 0) -> Change:
    """Difference of the mean logs, and the root of the sum of everything that may scatter.

    launches: how many launches like these the error is for; as many as there are by default.
    """
    value = _difference(sides, measure)
    variance = _of_one(sides.ours, measure, noise) / (launches or len(sides.ours))
    variance += _of_base(sides.base, measure, noise) + _of_origin(sides.base, sides.known, noise)
    if measure == CYCLES:
        variance += sides.slope_error**2
    error = math.sqrt(variance)
    width = rule.quantile * error
    return Change(measure, math.expm1(value), math.expm1(value - width), math.expm1(value + width), error)


def _centre(base: Sequence[Reading], measure: str, known: bool) -> float:
    """Mean log of the baseline: every launch alike on one unit, every unit alike otherwise."""
    groups = [list(base)] if known else grouped(base, "unit")
    return fmean(fmean(one.estimates[measure].log for one in group) for group in groups)


def _of_one(readings: Sequence[Reading], measure: str, noise: Noise) -> float:
    """Variance of one launch of an occasion.

    From the pooled noise and the rounds' scatter, or from how these launches differ, where that is larger.
    """
    floor = max(noise.launch, SELF_THROTTLED_LAUNCH) if any(r.self_throttled for r in readings) else noise.launch
    expected = fmean(floor**2 + one.estimates[measure].error ** 2 for one in readings)
    seen, _ = between([one.estimates[measure].log for one in readings])
    return max(expected, seen)


def _of_base(base: Sequence[Reading], measure: str, noise: Noise) -> float:
    sessions = grouped(base, "session")
    shares = [len(session) / len(base) for session in sessions]
    return sum(share**2 * _of_one(s, measure, noise) / len(s) for share, s in zip(shares, sessions, strict=True))


def _of_origin(base: Sequence[Reading], known: bool, noise: Noise) -> float:
    """Variance of another occasion, and of another unit where this one is not in the baseline."""
    sessions, units = len(grouped(base, "session")), len(grouped(base, "unit"))
    return noise.occasion**2 * (1 + 1 / sessions) + (0.0 if known else noise.unit**2 * (1 + 1 / units))


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
    sides: _Sides, measures: Sequence[str], rule: Rule, scatter: Scatter, limit: float, risen: float | None
) -> bool:
    """Whether launches like these without end could decide, wherever within `REACH` errors of ours their mean comes to lie.

    Where they could not, because of what the stored ones leave open, one more launch is time wasted. That it may start at
    another clock, and decide after all, is not waited for.
    """
    for shift in (-REACH, 0.0, REACH):
        moved = []
        for measure in measures:
            noise = scatter.of[measure]
            found = _change(sides, measure, rule, noise, math.inf)
            by = shift * math.sqrt(_of_one(sides.ours, measure, noise) / len(sides.ours))
            moved.append(replace(found, value=found.value + by, low=found.low + by, high=found.high + by))
        if _kind(moved, rule, limit, risen) is not Judgement.INCONCLUSIVE:
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
    kind: Judgement, said: Change, sides: _Sides, limit: float, rule: Rule
) -> tuple[Judgement, tuple[Reason, ...]]:
    """The final kind, and every reason for it."""
    if kind is Judgement.REGRESSED and any(one.unsettled for one in sides.both()):
        text = "slower, but started below the clock's ceiling in more than a tenth of the rounds: nothing is claimed"
        return Judgement.INCONCLUSIVE, (Reason("unsettled", text),)
    if kind is Judgement.REGRESSED:
        text = f"at least {said.low:+.2%}, where {rule.tolerated:.1%} is tolerated and {limit:.2%} is the limit"
        return kind, (Reason("slower", text),)
    if kind is Judgement.IMPROVED:
        return kind, (Reason("faster", f"at least {-said.high:.2%} faster"),)
    if kind is Judgement.UNCHANGED:
        return kind, (Reason("below-limit", f"at most {said.high:+.2%}, below the limit of {limit:.2%}"),)
    if math.isinf(said.error):
        return kind, (Reason("rounds", "fewer than 3 rounds do not tell how they scatter: nothing is claimed"),)
    reasons = [Reason("interval", f"between {said.low:+.2%} and {said.high:+.2%} nothing is decided")]
    if not sides.known:
        text = "no stored session is of this unit, and units differ: record one here with scripts/record_baseline"
        reasons.append(Reason("unknown-unit", text))
    return kind, tuple(reasons)
