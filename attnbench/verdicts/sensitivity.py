"""What a baseline can tell: the limit that it resolves, and the smallest slow-down that is found.

"Rule" in docs/method.md.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from attnbench.model import Bearing
from attnbench.verdicts.delta import MatchedLaunches
from attnbench.verdicts.error import ChangeErrors
from attnbench.verdicts.noise import ASSUMED, bounded, to_acquit, to_convict
from attnbench.verdicts.rule import AIM, MOST_LIMIT, RESOLUTIONS, Rule

#: The share of slow-downs of the size `found_by` that are called regressed.
FOUND_SHARE = 0.95
#: Standard errors above what convicts at which that share is found. The quantile of one in a hundred more, because some may
#: be acquitted before, and launches sometimes differ by more than expected.
BEYOND = NormalDist().inv_cdf(FOUND_SHARE + 0.01)
#: On an unknown unit: standard errors below what acquits at which nearly all unchanged cases lie, whose units differ
#: unequally.
DISMISSED = 2.4
#: What the sessions of a quiet unit differ by (relative sd). It predicts how many of them bear a limit.
QUIET_SESSION = 0.00035
MOST_SESSIONS = 20


def carried_limit(errors: ChangeErrors, rule: Rule) -> float:
    """The smallest limit that the baseline resolves, relative, whatever this run shows; infinite if its rounds do not tell.

    On a known unit, a slow-down that is found at the last look. On another, a limit by which unchanged cases are dismissed.
    """
    if not errors.matched.known_unit:
        return math.expm1((rule.z_acquit(1) + DISMISSED) * errors.expected(to_acquit, 1))
    last = _last_look(errors.matched, rule)
    convict, acquit = errors.expected(to_convict, last), errors.expected(to_acquit, last)
    return math.expm1(_found_log(errors.matched, rule, convict, acquit))


def limit_of(matched: MatchedLaunches, rule: Rule, carried: float) -> float:
    """The slow-down that counts for this case, relative: what was asked for, or what the baseline resolves within bounds."""
    default = min(max(AIM, carried if math.isfinite(carried) else 0.0), MOST_LIMIT)
    wanted = default if rule.limit is None else rule.limit
    return max(wanted, RESOLUTIONS * max(one.resolution for one in matched.both))


def bearing_of(errors: ChangeErrors, rule: Rule, carried: float) -> Bearing:
    """Why the baseline resolves that limit, and how many sessions would resolve 1 %."""
    between_sessions = errors.noise.session
    return Bearing(
        sessions=len(errors.matched.weighted_sessions),
        occasion=between_sessions.convict,
        assumed=between_sessions.assumed,
        launch=math.sqrt(errors.predicted_base_variance),
        sessions_for_one_percent=_sessions_for(AIM, errors, rule, carried),
    )


def found_by(errors: ChangeErrors, rule: Rule, limit: float) -> float:
    """The smallest relative slow-down that `FOUND_SHARE` of runs call regressed once every launch is used.

    It must lift the lower end above what is tolerated and the change above half the limit, and must not be acquitted at the
    first look. Infinite on a unit that the baseline does not know, where nothing is called regressed.
    """
    if not errors.matched.known_unit:
        return math.inf
    last = _last_look(errors.matched, rule)
    convict, acquit = errors.of_change(to_convict, last), errors.of_change(to_acquit, last)
    first_acquit = errors.of_change(to_acquit, 1)
    return math.expm1(
        max(
            _found_log(errors.matched, rule, convict, acquit),
            math.log1p(limit / 2) + BEYOND * acquit,
            math.log1p(limit) - (rule.z_acquit(1) - BEYOND) * first_acquit,
        )
    )


def _last_look(matched: MatchedLaunches, rule: Rule) -> int:
    """Launches at the last look."""
    return max(matched.launches, rule.launches)


def _found_log(matched: MatchedLaunches, rule: Rule, convict: float, acquit: float) -> float:
    """Logarithm of the slow-down that is found at the last look with these errors: T + z_c · e + 1.75 · e."""
    tolerated = math.log1p(rule.tolerated) + matched.clock_step
    return tolerated + rule.z_convict(rule.launches) * convict + BEYOND * acquit


def _sessions_for(limit: float, errors: ChangeErrors, rule: Rule, carried: float) -> int | None:
    """How many sessions of this unit bear this limit, if further ones are quiet; None if `MOST_SESSIONS` would not do."""
    matched = errors.matched
    stored = len(matched.weighted_sessions)
    if carried <= limit:
        return stored
    launch_variance = errors.predicted_base_variance
    launches_each = len(matched.base) / stored
    last = _last_look(matched, rule)
    for further in range(1, MOST_SESSIONS):
        predicted = errors.noise.session.seen_in.with_further(further, QUIET_SESSION)
        bounds = bounded(predicted, ASSUMED[matched.measure].session)
        sessions = stored + further
        of_launches = launch_variance * (1 / last + 1 / (launches_each * sessions))
        convict, acquit = (
            math.sqrt(of_launches + sd**2 * (1 + 1 / sessions)) for sd in (bounds.convict, bounds.acquit)
        )
        if math.expm1(_found_log(matched, rule, convict, acquit)) <= limit:
            return sessions
    return None
