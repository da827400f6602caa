"""The decision about the latency of one case ("Rule" in docs/method.md).

Judged are cycles at one clock, which are the quieter measure on one unit, and what the clock did meanwhile
(`delta.ClockLogRatio`), because users feel seconds. If a launch has no cycles, seconds are judged alone.

- *regressed*: the lower end of the change is above the tolerated slow-down, and the change is at least half the limit. Or
  the lower end in seconds is above the limit by two steps of the clock: the kernel lowers its own clock.
- *improved*: the mirror image of the first. *unchanged*: the upper end is below the limit, in cycles and in seconds; in
  seconds one clock step is added to the limit, because sessions differ by it.
- Otherwise the case is measured again in fresh processes. It is *inconclusive* when no launch is left.

On a unit that the baseline does not know, what would be *regressed* is *inconclusive* and called a suspicion. What would be
*improved* is *unchanged*: no slow-down of the limit is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from attnbench.model import Bearing, Reason, VerdictKind
from attnbench.verdicts import explanation
from attnbench.verdicts.delta import Delta, MatchedLaunches, match_launches
from attnbench.verdicts.error import ChangeErrors
from attnbench.verdicts.interval import Intervals, intervals
from attnbench.verdicts.noise import NoiseModel, to_convict
from attnbench.verdicts.rule import MOST_LIMIT, STEPS_BEYOND, Rule, limit_in_seconds
from attnbench.verdicts.sensitivity import bearing_of, carried_limit, found_by, limit_of
from attnbench.verdicts.summary import CYCLES, SECONDS, SampleSummary

#: By how many of its standard errors the mean of a few launches may move when more follow.
REACH = 2.0
#: What a claim becomes on a unit that the baseline does not know.
SCREENED = {VerdictKind.REGRESSED: VerdictKind.INCONCLUSIVE, VerdictKind.IMPROVED: VerdictKind.UNCHANGED}


@dataclass(frozen=True)
class Decision:
    """What the rule says of a case now.

    delta: the change that a report prints. limit: the slow-down that counts, relative. carried: the smallest limit that the
    baseline resolves for this case, infinite if its rounds do not tell. bearing: why, None on an unknown unit. found_by: the
    smallest slow-down that is found, infinite on an unknown unit. suspect: worth a fresh launch, if one is left. left_out:
    launches of this run that were slow by themselves. base_s, ours_s: means in seconds.
    """

    kind: VerdictKind
    reasons: tuple[Reason, ...]
    delta: Delta
    limit: float
    carried: float
    bearing: Bearing | None
    known_unit: bool
    found_by: float
    suspect: bool
    left_out: int
    base_s: float
    ours_s: float


def decide(
    ours: Sequence[SampleSummary], stored: Sequence[SampleSummary], rule: Rule, noise_model: NoiseModel
) -> Decision:
    """Compare the launches of this run with the stored ones. Raises ValueError if either is empty.

    On a unit that is among the stored ones only its own sessions count. On another all do, the interval holds what units
    differ by, and nothing is called regressed or improved.
    """
    if not ours or not stored:
        raise ValueError("a decision needs a launch on either side")
    matched = match_launches(ours, stored)
    errors = ChangeErrors(matched, noise_model)
    carried = carried_limit(errors, rule)
    limit = limit_of(matched, rule, carried)
    now = intervals(errors, rule, matched.launches)
    claim = _claim(now, rule, limit)
    objection = _objection(claim, matched, rule)
    kind = _on_unit(claim.kind if objection is None else VerdictKind.INCONCLUSIVE, matched)
    return Decision(
        kind=kind,
        reasons=(
            *_reasons(kind, claim, objection, now, errors, rule, limit),
            *explanation.left_out(matched.left_out, matched.launches),
        ),
        delta=claim.delta,
        limit=limit,
        carried=carried,
        bearing=bearing_of(errors, rule, carried) if matched.known_unit else None,
        known_unit=matched.known_unit,
        found_by=found_by(errors, rule, limit),
        suspect=_is_suspect(kind, objection, errors, rule, limit),
        left_out=matched.left_out,
        base_s=math.exp(matched.base_log(SECONDS)),
        ours_s=math.exp(matched.ours_log(SECONDS)),
    )


@dataclass(frozen=True)
class _Claim:
    """What the intervals say on a known unit, and the change that says so."""

    kind: VerdictKind
    delta: Delta


def _claim(now: Intervals, rule: Rule, limit: float) -> _Claim:
    main, seconds = now.main, now.seconds
    if main.low > rule.tolerated and main.value >= limit / 2:
        return _Claim(VerdictKind.REGRESSED, main)
    if seconds is not None and seconds.low > limit_in_seconds(limit, STEPS_BEYOND):
        return _Claim(VerdictKind.REGRESSED, seconds)
    if main.high >= limit:
        return _Claim(VerdictKind.INCONCLUSIVE, main)
    if seconds is not None and seconds.high >= limit_in_seconds(min(limit, MOST_LIMIT), 1):
        return _Claim(VerdictKind.INCONCLUSIVE, seconds)
    if now.gain_high < -rule.tolerated and main.value <= -limit / 2:
        return _Claim(VerdictKind.IMPROVED, main)
    return _Claim(VerdictKind.UNCHANGED, main)


def _objection(claim: _Claim, matched: MatchedLaunches, rule: Rule) -> Reason | None:
    """Why a claim of *regressed* does not stand; None if it does."""
    if claim.kind is not VerdictKind.REGRESSED:
        return None
    if any(one.unsettled and not one.self_throttled for one in matched.both):
        return explanation.UNSETTLED
    if claim.delta.measure == CYCLES and _is_faster_in_seconds(matched, rule):
        return explanation.clock_rose(claim.delta)
    return None


def _is_faster_in_seconds(matched: MatchedLaunches, rule: Rule) -> bool:
    """Whether seconds fell by more than is tolerated and a higher start clock explains; False on an unknown unit."""
    at_start_clock = matched.log_delta(SECONDS) + matched.clock.start_rise
    return matched.known_unit and math.expm1(at_start_clock) < -rule.tolerated


def _on_unit(claimed: VerdictKind, matched: MatchedLaunches) -> VerdictKind:
    return claimed if matched.known_unit else SCREENED.get(claimed, claimed)


def _reasons(
    kind: VerdictKind,
    claim: _Claim,
    objection: Reason | None,
    now: Intervals,
    errors: ChangeErrors,
    rule: Rule,
    limit: float,
) -> tuple[Reason, ...]:
    if objection is not None:
        return (objection,)
    if errors.matched.known_unit:
        return (explanation.on_known_unit(kind, claim.delta, now, rule, limit),)
    return explanation.on_unknown_unit(claim.kind, claim.delta, limit, errors.noise.unit.acquit)


def _is_suspect(kind: VerdictKind, objection: Reason | None, errors: ChangeErrors, rule: Rule, limit: float) -> bool:
    """Whether a fresh launch is left, and would tell more."""
    launches = errors.matched.launches
    if launches > rule.relaunches or objection is explanation.UNSETTLED:
        return False
    if kind is VerdictKind.REGRESSED:
        return launches == 1 or errors.launches_disagree
    return objection is not None or (kind is VerdictKind.INCONCLUSIVE and _may_settle(errors, rule, limit))


def _may_settle(errors: ChangeErrors, rule: Rule, limit: float) -> bool:
    """Whether any number of launches like these could decide, if their mean lies within `REACH` errors of the present one.

    If not, because of what the stored sessions leave open, one more launch is wasted time. A launch that starts at another
    clock might decide after all; that is not waited for.
    """
    if math.isinf(errors.of_change(to_convict)):
        return False
    without_end = (intervals(errors, rule, rule.launches, math.inf, shift) for shift in (-REACH, 0.0, REACH))
    kinds = (_on_unit(_claim(ends, rule, limit).kind, errors.matched) for ends in without_end)
    return any(kind is not VerdictKind.INCONCLUSIVE for kind in kinds)
