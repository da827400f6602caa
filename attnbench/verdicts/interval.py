"""The interval of a change: a lower end that convicts and an upper end that acquits ("Interval" in docs/method.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from attnbench.verdicts.delta import Delta
from attnbench.verdicts.error import ChangeErrors
from attnbench.verdicts.noise import to_acquit, to_convict
from attnbench.verdicts.rule import Rule
from attnbench.verdicts.summary import SECONDS


@dataclass(frozen=True)
class Intervals:
    """What the launches show, relative.

    main: in the measure that is judged. gain_high: the upper end for a claim of *improved*. seconds: the change in seconds
    at the baseline's start clock; None if the clock did not drop. uncorrected: the main change without the clock correction.
    """

    main: Delta
    gain_high: float
    seconds: Delta | None
    uncorrected: float


def intervals(
    errors: ChangeErrors, rule: Rule, look: int, launches: float | None = None, shift: float = 0.0
) -> Intervals:
    """The intervals at the look with `look` launches.

    launches: how many launches like these the errors are for, if not as many as there are. shift: by how many standard
    errors of its own the mean of this run's launches is moved.
    """
    matched = errors.matched
    z_convict, z_acquit = rule.z_convict(look), rule.z_acquit(look)
    moved = shift * math.sqrt(errors.launch_variance / len(matched.ours)) if shift else 0.0
    log = matched.log_delta(matched.measure) + moved
    convict, acquit = errors.of_change(to_convict, launches), errors.of_change(to_acquit, launches)
    step = matched.clock_step
    main = _delta(matched.measure, log, log - step - z_convict * convict, log + z_acquit * acquit, convict)
    return Intervals(
        main=main,
        gain_high=math.expm1(log + step + z_convict * convict),
        seconds=_in_seconds(errors, log, z_convict, z_acquit, launches) if matched.clock.load_drop else None,
        uncorrected=math.expm1(log + matched.followed_clock),
    )


def _in_seconds(errors: ChangeErrors, log: float, z_convict: float, z_acquit: float, launches: float | None) -> Delta:
    """The change in seconds at the baseline's start clock. log: the change in cycles at the baseline's clock."""
    log_s = log + errors.matched.followed_clock + errors.matched.clock.load_drop
    convict, acquit = errors.of_seconds(to_convict, launches), errors.of_seconds(to_acquit, launches)
    return _delta(SECONDS, log_s, log_s - z_convict * convict, log_s + z_acquit * acquit, convict)


def _delta(measure: str, log: float, low: float, high: float, error: float) -> Delta:
    """From logarithms."""
    return Delta(measure, math.expm1(log), math.expm1(low), math.expm1(high), error)
