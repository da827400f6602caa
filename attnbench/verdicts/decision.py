"""The rule of verdicts: launches of one case against stored ones, with error rates that are stated.

Judged are cycles at one clock, which on one unit are the quieter measure, and what the clock did meanwhile (change.Clocks),
because users feel seconds. Where a launch has no cycles, seconds are judged alone.

- *regressed*: the lower end of the change in cycles is above the tolerated slow-down, and the change is at least half the
  limit. Or, in seconds alone, the lower end is above the limit by two steps of the clock: the kernel lowers its own clock.
- *improved*: the mirror image in cycles. *unchanged*: the upper end is below the limit, in cycles and in seconds, which are
  granted the one step of the clock by which hours differ.
- otherwise the case is measured again in fresh processes, and *inconclusive* when no launch is left.

On a unit that the baseline does not know the rule is a screen: what would be *regressed* is *inconclusive*, with the change
as a suspicion, and what would be *improved* is *unchanged*, as no slow-down of the limit is left.

Convictions are wrong in at most `alpha` of whole runs, split over the cases and the looks at each; acquittals in at most
`gamma` of the cases that are slower by the limit, split over the looks. Both hold as far as occasions differ by what the
family's sessions show, or what is assumed; what becomes of runs where they do not is simulated (docs/method.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from statistics import NormalDist

from attnbench.model import Bearing, Judgement, Reason
from attnbench.verdicts.delta import (
    DISAGREE,
    Change,
    Sides,
    error_expected,
    error_of,
    expected_variance,
    launch_variance,
    sides,
)
from attnbench.verdicts.noise import ASSUMED, Noise, Scatter, Spread, spread
from attnbench.verdicts.summary import CYCLES, LOAD, SECONDS, Reading

#: The share of slow-downs of the stated size (`found_by`) that would have been called regressed.
FOUND_SHARE = 0.95
#: Standard errors that a slow-down lies above what convicts, for that share to be found. One in a hundred more than that:
#: some may be acquitted before, and what launches themselves show is now and then larger than expected.
BEYOND = NormalDist().inv_cdf(FOUND_SHARE + 0.01)
#: On another unit, standard errors below what acquits that nearly all unchanged cases lie, whose units differ unequally.
DISMISSED = 2.4
#: By so many of its standard errors the mean of a few launches may move when more follow.
REACH = 2.0
#: No limit is below this many steps of the event timer.
RESOLUTIONS = 3
#: The limit that the tool aims at, and the default where the baseline carries it.
AIM = 0.01
#: The largest limit by default, and the most that is acquitted of what the clock lost, whatever limit is asked for: sessions
#: that differ so much that they carry more acquit nobody by it.
MOST_LIMIT = 0.06
#: A step of the SM clock, 15 MHz at 1980, by which hours differ.
STEP = math.log(1980 / 1965)
#: So many steps beyond the limit convict in seconds alone.
STEPS_BEYOND = 2
#: Of the error of conviction, what the last look at a case gets, where the others share the rest; of that of acquittal, what
#: the first look gets, at which most cases are decided.
LAST_SHARE, FIRST_SHARE = 0.8, 0.7
#: What the sessions of a quiet unit differ by, where it is said how many of them bear a limit.
QUIET_OCCASION = 0.00035
MOST_SESSIONS = 20
#: What a claim comes to on a unit that the baseline does not know.
SCREENED = {Judgement.REGRESSED: Judgement.INCONCLUSIVE, Judgement.IMPROVED: Judgement.UNCHANGED}


@lru_cache(maxsize=256)
def _quantile(error: float) -> float:
    """Of the normal distribution, above which `error` of it lies."""
    return NormalDist().inv_cdf(1 - error)


@dataclass(frozen=True)
class Rule:
    """What counts as a slow-down, and how often a verdict may be wrong.

    cases: how many are judged in the run; relaunches: fresh launches that a suspect may still be given, 0 to convict on
    the first; limit: the slow-down that counts, where one is asked for; else what the baseline carries, from `AIM` to
    `MOST_LIMIT`.
    """

    cases: int
    relaunches: int = 3
    tolerated: float = 0.003
    limit: float | None = None
    alpha: float = 0.01
    gamma: float = 0.002

    @property
    def launches(self) -> int:
        """How many a case has when it is looked at for the last time."""
        return 1 + self.relaunches

    def convict(self, launches: int) -> float:
        """Standard errors from the estimate to the end that convicts, at the look with so many launches.

        On one launch nobody is convicted while others may follow. Where these fail the first stands, and has no other look:
        so its share adds to no other's.
        """
        if launches >= self.launches:
            share = LAST_SHARE if self.relaunches > 1 else 1.0
        else:
            share = (1 - LAST_SHARE) / max(2, self.relaunches - 1)
        return _quantile(self.alpha * share / max(1, self.cases))

    def acquit(self, launches: int) -> float:
        """Standard errors from the estimate to the end that acquits, at the look with so many launches."""
        if self.relaunches == 0:
            return _quantile(self.gamma)
        share = FIRST_SHARE if launches == 1 else (1 - FIRST_SHARE) / self.relaunches
        return _quantile(self.gamma * share)


@dataclass(frozen=True)
class Comparison:
    """What the rule says of a case now.

    said: the change that a report prints. carried: the smallest limit that the
    baseline bears for this case, infinite where its rounds do not tell, and bearing why, on a unit that it knows. suspect:
    worth a fresh launch, should there be one left. left_out: launches of ours that were slow by themselves. base_s, ours_s:
    means in seconds.
    """

    kind: Judgement
    reasons: tuple[Reason, ...]
    said: Change
    limit: float
    carried: float
    bearing: Bearing | None
    known_unit: bool
    found_by: float
    suspect: bool
    left_out: int
    base_s: float
    ours_s: float


def compare(ours: Sequence[Reading], theirs: Sequence[Reading], rule: Rule, scatter: Scatter) -> Comparison:
    """Hold the launches of this run against the stored ones. Raises ValueError when either is empty.

    On a unit that is among the stored ones only its own sessions count. On another, all do, and what units differ by is
    part of the interval; nothing is then called regressed or improved.
    """
    if not ours or not theirs:
        raise ValueError("a comparison needs a launch on either side")
    case = _Case(sides(ours, theirs), rule, scatter, len(ours))
    limit, now = case.limit, case.ends(len(ours))
    shown, said = _claim(now, rule, limit)
    objection = _objection(case, shown, said)
    claimed = shown if objection is None else Judgement.INCONCLUSIVE
    kind = case.kind(claimed)
    if objection is not None:
        reasons: tuple[Reason, ...] = (objection,)
    elif case.held.known:
        reasons = (_reason(kind, said, now, rule, limit),)
    else:
        reasons = _of_screen(claimed, said, limit, case.noise)
    return Comparison(
        kind=kind,
        reasons=(*reasons, *_left_out(case.held, len(ours))),
        said=said,
        limit=limit,
        carried=case.carried,
        bearing=case.bearing if case.held.known else None,
        known_unit=case.held.known,
        found_by=case.found_by(limit) if case.held.known else math.inf,  # where nothing is called regressed
        suspect=_is_suspect(case, kind, objection, limit),
        left_out=case.held.left_out,
        base_s=math.exp(case.held.base_log(SECONDS)),
        ours_s=math.exp(case.held.ours_log(SECONDS)),
    )


@dataclass(frozen=True)
class _Ends:
    """What so many launches tell: changes with the end that convicts and the one that acquits.

    gain: the upper end for a claim of *improved*; seconds: the change in seconds at the start clock of the baseline, for
    launches with cycles; None where the clock did not drop; counted: the change as it was counted, at the clocks there were.
    """

    main: Change
    gain: float
    seconds: Change | None
    counted: float


def _convict(one: Spread) -> float:
    return one.convict


def _doubt(one: Spread) -> float:
    return one.doubt


@dataclass(frozen=True)
class _Case:
    """The comparison of one case: its sides, and the errors of their difference under the rule."""

    held: Sides
    rule: Rule
    scatter: Scatter
    launches: int

    @cached_property
    def noise(self) -> Noise:
        return self.scatter.noise(self.held.ours[0].family, self.held.measure)

    def ends(self, look: int, launches: float = 0, shift: float = 0.0) -> _Ends:
        """The intervals, for the look with so many launches.

        launches: how many launches like ours the errors are for; shift: by how many of its errors their mean moves.
        """
        held, dropped = self.held, self.held.clocks.dropped
        convict, acquit = self.rule.convict(look), self.rule.acquit(look)
        by = shift * math.sqrt(self._launch_variance / len(held.ours)) if shift else 0.0
        value = held.difference(held.measure) + by
        sure, doubted = self._error(_convict, launches), self._error(_doubt, launches)
        main = _change(held.measure, value, value - self._step - convict * sure, value + acquit * doubted, sure)
        gain = math.expm1(value + self._step + convict * sure)
        seconds = None
        if dropped:
            felt = value + self._followed + dropped
            sure, doubted = self._in_seconds(_convict, launches), self._in_seconds(_doubt, launches)
            seconds = _change(SECONDS, felt, felt - convict * sure, felt + acquit * doubted, sure)
        return _Ends(main, gain, seconds, math.expm1(value + self._followed))

    def kind(self, claimed: Judgement) -> Judgement:
        """What a claim comes to on this unit."""
        return claimed if self.held.known else SCREENED.get(claimed, claimed)

    @cached_property
    def limit(self) -> float:
        """The slow-down that counts for this case; by default none above `MOST_LIMIT`, however noisy the baseline is."""
        carried = self.carried if math.isfinite(self.carried) else 0.0
        wanted = min(max(AIM, carried), MOST_LIMIT) if self.rule.limit is None else self.rule.limit
        return max(wanted, RESOLUTIONS * max(one.resolution for one in self.held.both()))

    @cached_property
    def carried(self) -> float:
        """The smallest limit that the baseline bears, whatever ours show.

        On a known unit, a slow-down that is found at the last look; on another, one that lets unchanged cases be dismissed.
        """
        if not self.held.known:
            return math.expm1((self.rule.acquit(1) + DISMISSED) * self._expected(_doubt, 1))
        last = max(self.launches, self.rule.launches)
        return math.expm1(self._found(self._expected(_convict, last), self._expected(_doubt, last)))

    @cached_property
    def bearing(self) -> Bearing:
        """What makes the carried limit so."""
        occasion = self.noise.occasion
        sessions = len(self.held.weighted)
        launch = math.sqrt(expected_variance(self.held, self.held.base, self.held.measure, self.noise))
        return Bearing(sessions, occasion.convict, occasion.assumed, launch, self._sessions_for(AIM))

    def found_by(self, limit: float) -> float:
        """The smallest slow-down that `FOUND_SHARE` of runs call regressed once every launch is used.

        It must lift the lower end above the tolerated slow-down and the estimate above half the limit, and must not be
        dismissed at the first look.
        """
        last = max(self.launches, self.rule.launches)
        sure, doubted, first = self._error(_convict, last), self._error(_doubt, last), self._error(_doubt, 1)
        return math.expm1(
            max(
                self._found(sure, doubted),
                math.log1p(limit / 2) + BEYOND * doubted,
                math.log1p(limit) - (self.rule.acquit(1) - BEYOND) * first,
            )
        )

    def may_settle(self, limit: float) -> bool:
        """Whether launches like these without end could decide, wherever within `REACH` errors of ours their mean may lie.

        Where they could not, because of what the stored ones leave open, one more launch is time wasted. That it may start
        at another clock, and decide after all, is not waited for.
        """
        if math.isinf(self._error(_convict)):
            return False
        for shift in (-REACH, 0.0, REACH):
            claimed, _ = _claim(self.ends(self.rule.launches, math.inf, shift), self.rule, limit)
            if self.kind(claimed) is not Judgement.INCONCLUSIVE:
                return True
        return False

    @cached_property
    def is_opposed(self) -> bool:
        """Whether seconds say the opposite, beyond what a higher clock explains."""
        in_seconds = self.held.difference(SECONDS) + self.held.clocks.risen
        return self.held.known and math.expm1(in_seconds) < -self.rule.tolerated

    @cached_property
    def disagree(self) -> bool:
        """Whether our launches differ by much more than launches do: they convict nobody while another may follow."""
        held = self.held
        return self._launch_variance > DISAGREE**2 * expected_variance(held, held.ours, held.measure, self.noise)

    @cached_property
    def _launch_variance(self) -> float:
        return launch_variance(self.held, self.held.ours, self.held.measure, self.noise)

    def _found(self, sure: float, doubted: float) -> float:
        """Log of the slow-down that is found with these errors at the last look."""
        tolerated = math.log1p(self.rule.tolerated) + self._step
        return tolerated + self.rule.convict(self.rule.launches) * sure + BEYOND * doubted

    @cached_property
    def _step(self) -> float:
        """What the clock may move seconds by from hour to hour, where they are judged alone and a clock was read."""
        moves = any(one.settled_hz is not None for one in self.held.both())
        return STEP if moves and self.held.measure == SECONDS else 0.0

    @property
    def _followed(self) -> float:
        """By how much memory made cycles follow the clock during the calls, as far as is known."""
        return self.held.memory.value * self.held.clocks.during

    def _error(self, of: Callable[[Spread], float], launches: float = 0) -> float:
        """Of the change, with what is not known of how far it follows the clock."""
        found = error_of(self.held, self.held.measure, self.noise, of, launches)
        return math.hypot(found, self.held.memory.sd * self.held.clocks.during)

    def _in_seconds(self, of: Callable[[Spread], float], launches: float) -> float:
        """Of the change in seconds, of launches with cycles: what cycles leave open, and the clock."""
        clock = self.scatter.noise(self.held.ours[0].family, LOAD)
        return math.hypot(
            error_of(self.held, CYCLES, self.noise, of, launches), error_of(self.held, LOAD, clock, of, launches)
        )

    def _expected(self, of: Callable[[Spread], float], launches: int) -> float:
        return error_expected(self.held, self.held.measure, self.noise, of, launches)

    def _sessions_for(self, limit: float) -> int | None:
        """How many sessions of this unit in all bear this limit, where the further ones show quiet occasions."""
        held, noise, there = self.held, self.noise, len(self.held.weighted)
        if self.carried <= limit:
            return there
        launch = expected_variance(held, held.base, held.measure, noise)
        each = len(held.base) / there
        last = max(self.launches, self.rule.launches)
        for further in range(1, MOST_SESSIONS):
            occasion = spread(
                noise.occasion.repeats.with_further(further, QUIET_OCCASION), ASSUMED[held.measure].occasion
            )
            sessions = there + further
            launches = launch * (1 / last + 1 / (each * sessions))
            sure, doubted = (
                math.sqrt(launches + sd**2 * (1 + 1 / sessions)) for sd in (occasion.convict, occasion.doubt)
            )
            if math.expm1(self._found(sure, doubted)) <= limit:
                return sessions
        return None


def _change(measure: str, value: float, low: float, high: float, error: float) -> Change:
    """From logarithms."""
    return Change(measure, math.expm1(value), math.expm1(low), math.expm1(high), error)


def _claim(ends: _Ends, rule: Rule, limit: float) -> tuple[Judgement, Change]:
    """What the intervals come to on a known unit, and the change that says so."""
    main, seconds = ends.main, ends.seconds
    if main.low > rule.tolerated and main.value >= limit / 2:
        return Judgement.REGRESSED, main
    if seconds is not None and seconds.low > _steps_above(limit, STEPS_BEYOND):
        return Judgement.REGRESSED, seconds
    if main.high >= limit:
        return Judgement.INCONCLUSIVE, main
    if seconds is not None and seconds.high >= _steps_above(min(limit, MOST_LIMIT), 1):
        return Judgement.INCONCLUSIVE, seconds
    if ends.gain < -rule.tolerated and main.value <= -limit / 2:
        return Judgement.IMPROVED, main
    return Judgement.UNCHANGED, main


def _steps_above(limit: float, steps: int) -> float:
    """The limit, at a clock that is lower by so many steps."""
    return math.expm1(math.log1p(limit) + steps * STEP)


UNSETTLED = Reason(
    "unsettled",
    "slower, but more than 10 % of the rounds started below the clock's ceiling, so it is not called a regression",
)


def _objection(case: _Case, claimed: Judgement, said: Change) -> Reason | None:
    """Why a claim of *regressed* does not stand."""
    if claimed is not Judgement.REGRESSED:
        return None
    if any(one.unsettled and not one.self_throttled for one in case.held.both()):
        return UNSETTLED
    if said.measure == CYCLES and case.is_opposed:
        text = f"slower in cycles ({said.value:+.2%}), but faster in seconds, because the clock rose by more"
        return Reason("clock", text)
    return None


def _is_suspect(case: _Case, kind: Judgement, objection: Reason | None, limit: float) -> bool:
    """Whether a fresh launch may still be given, and would tell more."""
    if case.launches > case.rule.relaunches or objection is UNSETTLED:
        return False
    if kind is Judgement.REGRESSED:
        return case.launches == 1 or case.disagree
    return objection is not None or (kind is Judgement.INCONCLUSIVE and case.may_settle(limit))


def _left_out(held: Sides, launches: int) -> tuple[Reason, ...]:
    """That launches of ours were slow by themselves."""
    if not held.left_out:
        return ()
    was = "was slow on its own and is" if held.left_out == 1 else "were slow on their own and are"
    text = f"{held.left_out} of {launches} launches {was} left out; the others agree"
    return (Reason("slow-launch", text),)


def _reason(kind: Judgement, said: Change, ends: _Ends, rule: Rule, limit: float) -> Reason:
    """Why, on a known unit."""
    if kind is Judgement.REGRESSED and said is not ends.main:
        text = (
            f"at least {said.low:+.2%} in seconds (limit {limit:.2%} plus two clock steps), but "
            f"{round(ends.counted, 6) + 0.0:+.2%} in cycles: the clock is lower during the call (does the kernel draw more "
            "power?)"
        )
        return Reason("slower-clock", text)
    if kind is Judgement.REGRESSED:
        text = f"at least {said.low:+.2%}; tolerated {rule.tolerated:.1%}, limit {limit:.2%}"
        return Reason("slower", text)
    if kind is Judgement.IMPROVED:
        return Reason("faster", f"at least {-ends.gain:.2%} faster")
    if kind is Judgement.UNCHANGED:
        return _below(said, limit)
    return _undecided(said)


def _below(said: Change, limit: float) -> Reason:
    return Reason("below-limit", f"at most {said.high:+.2%}, below the limit of {limit:.2%}")


def _undecided(said: Change) -> Reason:
    if math.isinf(said.error):
        return Reason("rounds", "fewer than 3 rounds: their scatter is unknown, so nothing is decided")
    return Reason("interval", f"between {said.low:+.2%} and {said.high:+.2%}: undecided")


def _of_screen(claimed: Judgement, said: Change, limit: float, noise: Noise) -> tuple[Reason, ...]:
    """The reasons on a unit that the baseline does not know. claimed: what a known unit would be called."""
    if claimed is Judgement.UNCHANGED:
        return (_below(said, limit),)
    if math.isinf(said.error):
        return (_undecided(said),)
    by = f"the baseline is from other GPUs of this model, which differ by {noise.unit.doubt:.1%} (sd)"
    here = "record a session on this GPU (attnbench record)"
    if claimed is Judgement.IMPROVED:
        return (_below(said, limit), Reason("unknown-unit", f"suspected gain: {by}. To decide, {here}"))
    here += ", or compare with the code before the change on this GPU (--benchmark-save, --benchmark-compare)"
    if claimed is Judgement.REGRESSED:
        return (Reason("unknown-unit", f"suspected slow-down: {by}. To decide, {here}"),)
    return (_undecided(said), Reason("unknown-unit", f"{by}. To decide, {here}"))
