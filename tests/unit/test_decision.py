"""Decisions about latencies: what is convicted, acquitted and found, and how often wrongly, by seeded simulation."""

from __future__ import annotations

import math
import random
import re
from dataclasses import replace
from statistics import NormalDist

import pytest

from attnbench.model import VerdictKind
from attnbench.verdicts.decision import decide
from attnbench.verdicts.noise import ASSUMED, SESSION, NoiseModel, NoiseSd, SdBounds, noise_model
from attnbench.verdicts.rule import AIM, MOST_LIMIT, STEP, Rule
from attnbench.verdicts.sensitivity import FOUND_SHARE
from attnbench.verdicts.summary import CYCLES, SECONDS, Estimate, SampleSummary

HZ = 1980e6
LOAD = math.log(0.9)  # what a call that computes takes off the clock
ERROR = 0.0003
ONE = Rule(cases=1)
LONE = Rule(cases=1, relaunches=0)


def made(seconds=0.0, session="", unit="a", cycles: float | str | None = "like seconds", **changes):
    """A summary of exactly this, in seconds and in cycles; without cycles for None.

    The call runs at nine tenths of the clock that its rounds start at, and that is 1980 MHz.
    """
    base = math.log(1e6)
    during = math.log(HZ) + LOAD
    estimates = {SECONDS: Estimate(base - during + seconds, ERROR)}
    if cycles is not None:
        estimates[CYCLES] = Estimate(base + (seconds if cycles == "like seconds" else cycles), ERROR)
    fields = {"launch": "", "resolution": 0.0, "unsettled": False, "self_throttled": False, "settled_hz": HZ, **changes}
    return SampleSummary(session=session, unit=unit, estimates=estimates, **fields)


class Gpu:
    """Draws launches of one case: every unit, occasion and launch adds its share, and its rounds their error."""

    def __init__(self, seed, launch=0.001, occasion=0.001, unit=0.006):
        self._rng = random.Random(seed)
        self._launch, self._occasion, self._unit = launch, occasion, unit

    def unit(self):
        return self._rng.gauss(0, self._unit)

    def occasion(self, unit_shift=0.0):
        return unit_shift + self._rng.gauss(0, self._occasion)

    def launch(self, occasion=0.0, session="", unit="a", slower=0.0, clock=0.0):
        """`slower` is what the kernel lost, in seconds and cycles alike; `clock` what the clock did, in seconds only."""
        cycles = occasion + self._rng.gauss(0, math.hypot(self._launch, ERROR)) + math.log1p(slower)
        return made(cycles + clock, session, unit, cycles)

    def session(self, name="0001", unit="a", unit_shift=0.0, launches=3):
        occasion = self.occasion(unit_shift)
        return [self.launch(occasion, name, unit) for _ in range(launches)]

    def judged(self, rule, stored, noise=None, unit="a", unit_shift=0.0, **changes):
        """The verdict after as many fresh launches as the rule asks for, as a run does it."""
        noise = noise or NoiseModel()
        occasion = self.occasion(unit_shift)
        ours = [self.launch(occasion, unit=unit, **changes)]
        found = decide(ours, stored, rule, noise)
        while found.suspect:
            ours.append(self.launch(occasion, unit=unit, **changes))
            found = decide(ours, stored, rule, noise)
        assert len(ours) <= rule.launches
        return found


def shares(gpu, comparisons, rule, noise=None, sessions=1, **changes):
    """How often each verdict was reached on a known unit, every time against sessions of its own."""
    kinds = []
    for _ in range(comparisons):
        stored = [one for number in range(sessions) for one in gpu.session(f"{number}")]
        kinds.append(gpu.judged(rule, stored, noise, **changes).kind)
    return {kind: kinds.count(kind) / comparisons for kind in VerdictKind}


def knowing(launch=0.001, occasion=0.0005):
    """Noise that sessions have shown."""
    known = SdBounds(occasion, occasion, assumed=False)
    return NoiseModel({"": {m: NoiseSd(launch, known, SdBounds(0.006, 0.006)) for m in (SECONDS, CYCLES)}})


# How often a verdict is wrong


def test_what_did_not_change_is_hardly_ever_regressed_or_improved():
    found = shares(Gpu(1), 1500, ONE)
    assert found[VerdictKind.REGRESSED] == found[VerdictKind.IMPROVED] == 0
    assert found[VerdictKind.UNCHANGED] > 0.99


@pytest.mark.parametrize("relaunches", [0, 1, 2, 3, 7])
def test_what_lost_as_much_as_is_tolerated_is_regressed_in_no_more_than_the_stated_share(relaunches):
    """Where occasions differ by exactly what is known of them, and the limit is not what decides."""
    rule = Rule(cases=1, relaunches=relaunches, limit=0.004, alpha=0.2)  # enough to be counted
    drawn = Gpu(2, occasion=0.001)
    found = shares(drawn, 400, rule, knowing(occasion=0.001), slower=rule.tolerated)
    assert found[VerdictKind.REGRESSED] <= rule.alpha + 2 * math.sqrt(rule.alpha / 400)


@pytest.mark.parametrize("relaunches", [0, 1, 2, 3, 7])
def test_the_errors_of_all_looks_are_no_more_than_those_of_the_rule(relaunches):
    rule = Rule(cases=150, relaunches=relaunches)
    wrong = [1 - NormalDist().cdf(rule.z_convict(n)) for n in range(2, rule.launches + 1)]
    assert sum(wrong) <= rule.alpha / rule.cases * 1.000001
    # On one launch alone something is convicted only where no other can follow, so where no other look is taken.
    assert 1 - NormalDist().cdf(rule.z_convict(1)) <= rule.alpha / rule.cases * 1.000001
    passed = [1 - NormalDist().cdf(rule.z_acquit(n)) for n in range(1, rule.launches + 1)]
    assert sum(passed) == pytest.approx(rule.gamma)
    assert passed[0] == max(passed)


def test_the_last_look_gets_most_of_the_error_of_conviction_and_the_cases_share_it():
    assert Rule(150).z_convict(4) == pytest.approx(3.833, abs=0.002)
    assert Rule(282).z_convict(4) == pytest.approx(3.985, abs=0.002)
    assert Rule(150).z_convict(2) == Rule(150).z_convict(3) > Rule(150).z_convict(4)
    assert Rule(150).z_acquit(1) == Rule(1).z_acquit(1), (
        "one case that is let through is one case, however many there are"
    )


def test_an_occasion_that_is_farther_off_than_assumed_makes_few_runs_wrong():
    """0.34 % was seen, shared by all cases of a family; one stored session, and every case is as far off as its family."""
    drawn, rule, wrong = Gpu(3, occasion=0.0034), Rule(cases=150), 0
    for _ in range(2000):
        occasion = drawn.occasion()
        stored = [drawn.launch(occasion, "0001") for _ in range(3)]
        wrong += drawn.judged(rule, stored).kind is VerdictKind.REGRESSED
    assert wrong / 2000 < 0.002  # of a run's six to nine families


@pytest.mark.parametrize("cases", [150, 282])
def test_two_percent_are_found_by_one_session_where_occasions_are_quiet(cases):
    assert shares(Gpu(5), 1000, Rule(cases), slower=0.02)[VerdictKind.REGRESSED] >= 0.95


def test_one_percent_is_found_by_sessions_that_have_shown_quiet_occasions():
    found = shares(Gpu(4, occasion=0.0003), 500, Rule(150), knowing(occasion=0.0008), sessions=4, slower=0.01)
    assert found[VerdictKind.REGRESSED] >= 0.95


def test_a_gain_is_seen_and_is_no_slow_down():
    found = shares(Gpu(6), 300, Rule(150), slower=-0.03)
    assert found[VerdictKind.IMPROVED] >= 0.99
    assert found[VerdictKind.REGRESSED] == 0


@pytest.mark.parametrize("occasion", [0.001, 0.0034], ids=["quiet", "as far as was seen"])
def test_what_a_comparison_says_it_finds_is_found_and_what_is_the_limit_is_not_acquitted(occasion):
    drawn, rule, comparisons = Gpu(7, occasion=occasion), Rule(cases=150), 600
    found = passed = 0
    for _ in range(comparisons):
        stored = drawn.session()
        first = decide([drawn.launch(drawn.occasion())], stored, rule, NoiseModel())
        found += drawn.judged(rule, stored, slower=first.found_by).kind is VerdictKind.REGRESSED
        passed += drawn.judged(rule, stored, slower=first.limit).kind in (VerdictKind.UNCHANGED, VerdictKind.IMPROVED)
    assert found / comparisons >= FOUND_SHARE
    assert passed / comparisons <= 0.01


# The limit


def test_one_session_carries_more_than_the_limit_that_is_aimed_at_and_says_why():
    found = decide([made()], [made(session="0001")] * 3, Rule(150), NoiseModel())
    assert found.limit == found.carried == pytest.approx(0.0255, abs=0.001)
    assert found.bearing is not None
    assert (found.bearing.sessions, found.bearing.assumed) == (1, True)
    assert found.bearing.occasion == SESSION.convict
    assert found.bearing.launch == pytest.approx(0.001, rel=0.05)  # and the rounds' own error
    assert found.bearing.sessions_for_one_percent == 4


def test_sessions_that_agree_bring_the_limit_to_one_percent_as_was_said():
    stored = [made(session=f"{number}") for number in range(4) for _ in range(3)]
    of_family = [stored] * 12
    found = decide([made()], stored, Rule(150), noise_model(of_family))
    assert (found.limit, found.bearing.assumed, found.bearing.sessions_for_one_percent) == (AIM, False, 4)
    assert found.carried < AIM
    assert found.found_by <= AIM


def test_a_family_of_one_case_needs_more_sessions_as_launches_look_like_occasions_there():
    """Most baselines that were recorded as their first session said carry 1 % then."""
    said, kept = [], 0
    for seed in range(20):
        rng = random.Random(seed)
        stored = [made(rng.gauss(0, 0.001), session=f"{number}") for number in range(20) for _ in range(3)]
        first = stored[:3]
        number = decide([made()], first, Rule(15), noise_model([first])).bearing.sessions_for_one_percent
        said.append(number)
        recorded = stored[: 3 * number]
        kept += decide([made()], recorded, Rule(15), noise_model([recorded])).carried <= 1.01 * AIM
    of_twelve = decide([made()], first, Rule(15), noise_model([first] * 12)).bearing.sessions_for_one_percent
    assert of_twelve < min(said)
    assert kept > 10


def test_no_number_of_sessions_bears_one_percent_where_launches_are_too_loud():
    found = decide([made()], [made(session="0001")] * 3, Rule(150), knowing(launch=0.01, occasion=0.0))
    assert found.bearing.sessions_for_one_percent is None


def test_the_carried_limit_is_that_of_the_last_look_whatever_ours_show():
    stored = [made(session="0001")] * 3
    first = decide([made()], stored, Rule(150), NoiseModel())
    second = decide([made(0.001), made(-0.009)], stored, Rule(150), NoiseModel())
    assert first.carried == second.carried
    assert decide([made()], stored, Rule(150, relaunches=0), NoiseModel()).carried > first.carried
    assert decide([made()], stored, Rule(282), NoiseModel()).carried > first.carried


def test_a_limit_that_is_asked_for_is_used_as_it_is():
    stored = [made(session="0001")] * 3
    for asked in (0.004, 0.05):
        found = decide([made()], stored, Rule(150, limit=asked), NoiseModel())
        assert found.limit == asked
        assert found.carried == pytest.approx(0.0255, abs=0.001)
    assert decide([made(0.03)], stored, Rule(1, 0), NoiseModel()).kind is VerdictKind.REGRESSED
    assert decide([made(0.03)], stored, Rule(1, 0, limit=0.08), NoiseModel()).kind is VerdictKind.UNCHANGED
    assert decide([made(unit="z")], stored, Rule(1, limit=0.05), NoiseModel()).limit == 0.05


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_the_limit_is_never_below_three_steps_of_the_timer(side):
    coarse, fine = made(resolution=0.03), made(resolution=0.0001)
    ours, theirs = ([coarse], [fine]) if side == "ours" else ([fine], [coarse])
    for rule in (ONE, Rule(1, limit=0.01)):
        assert decide(ours, theirs, rule, NoiseModel()).limit == pytest.approx(0.09)
    slower = made(0.04, resolution=0.03 if side == "ours" else 0.0)
    assert decide([slower], theirs, LONE, NoiseModel()).kind is not VerdictKind.REGRESSED


# Another unit


def test_an_unknown_unit_is_never_regressed_or_improved_however_far_it_is_off():
    drawn = Gpu(9)
    kinds = {shift: [] for shift in (0.0, 0.011, 0.02, 0.5, -0.5)}
    for _ in range(60):
        stored = [one for name in "abc" for one in drawn.session(f"of {name}", name, drawn.unit())]
        for shift, found in kinds.items():
            found.append(drawn.judged(ONE, stored, unit="d", unit_shift=drawn.unit(), slower=shift).kind)
    for shift, found in kinds.items():
        assert set(found) <= {VerdictKind.UNCHANGED, VerdictKind.INCONCLUSIVE}, shift
    assert set(kinds[0.5]) == {VerdictKind.INCONCLUSIVE}
    assert set(kinds[-0.5]) == {VerdictKind.UNCHANGED}


def test_on_an_unknown_unit_what_is_unchanged_is_dismissed_and_the_printed_limit_is_not():
    """Units differ by 0.3 to 1.1 % by variant."""
    rng, kinds, passed, comparisons = random.Random(10), [], 0, 1000
    for _ in range(comparisons):
        drawn = Gpu(rng.random(), unit=math.exp(rng.uniform(math.log(0.003), math.log(0.011))))
        stored = drawn.session("0001", "a", drawn.unit())
        unchanged = drawn.judged(Rule(150), stored, unit="b", unit_shift=drawn.unit())
        kinds.append(unchanged.kind)
        slower = drawn.judged(Rule(150), stored, unit="b", unit_shift=drawn.unit(), slower=unchanged.limit)
        passed += slower.kind is VerdictKind.UNCHANGED
    assert kinds.count(VerdictKind.UNCHANGED) >= 0.95 * comparisons
    assert passed <= 0.01 * comparisons


@pytest.mark.parametrize("unit", ["b", None])
def test_a_slow_down_on_an_unknown_unit_is_shown_as_a_suspicion_with_what_to_do(unit):
    found = decide([made(0.5, unit=unit)], [made()], ONE, NoiseModel())
    assert (found.kind, found.known_unit, found.suspect) == (VerdictKind.INCONCLUSIVE, False, False)
    assert found.delta.value == pytest.approx(math.expm1(0.5))
    assert found.bearing is None
    (reason,) = found.reasons
    assert reason.code == "unknown-unit"
    assert reason.text.startswith("suspected slow-down: the baseline is from other GPUs of this model, which")
    assert "differ by 0.6 % (sd)" in reason.text
    assert "attnbench record" in reason.text
    assert math.isinf(found.found_by), "nothing would have been called regressed"


def test_a_gain_on_an_unknown_unit_is_said_and_not_claimed():
    found = decide([made(-0.5, unit="b")], [made()], ONE, NoiseModel())
    assert found.kind is VerdictKind.UNCHANGED
    assert [reason.code for reason in found.reasons] == ["below-limit", "unknown-unit"]
    assert "suspected gain" in found.reasons[1].text


def test_of_several_units_only_the_own_sessions_count():
    drawn = Gpu(11)
    stored = [*drawn.session("0001", "a"), *drawn.session("0002", "b", unit_shift=-0.05)]
    found = drawn.judged(ONE, stored)
    assert (found.kind, found.known_unit, found.bearing.sessions) == (VerdictKind.UNCHANGED, True, 1)
    assert not drawn.judged(ONE, stored, unit="c").known_unit


def test_an_unknown_unit_that_cannot_be_decided_is_not_measured_again():
    found = decide([made(0.03, unit="b")], [made(session="0001")] * 3, ONE, NoiseModel())
    assert (found.kind, found.suspect) == (VerdictKind.INCONCLUSIVE, False)
    assert [reason.code for reason in found.reasons] == ["interval", "unknown-unit"]


@pytest.mark.parametrize("unit", ["", None])
def test_units_that_could_not_be_read_are_not_the_same_one(unit):
    assert not decide([made(unit=None)], [made(unit=unit)], ONE, NoiseModel()).known_unit


def test_each_unit_weighs_the_same_whatever_number_of_launches_it_has():
    stored = [*(made(0.0, "0001", "a") for _ in range(9)), made(0.1, "0002", "b")]
    assert decide([made(0.05, unit="c")], stored, ONE, NoiseModel()).delta.value == pytest.approx(0.0, abs=1e-12)


# Sessions of one unit


def test_each_session_weighs_the_same_in_the_mean_and_in_its_variance():
    """10 + 1 + 1 + 1 launches: by launches the mean would be one occasion's, with 0.61 of its variance; alike it is 0.25."""
    launches = {"0001": 10, "0002": 1, "0003": 1, "0004": 1}
    stored = [made(0.01 * (name == "0001"), name) for name, count in launches.items() for _ in range(count)]
    quiet, loud = (decide([made(0.0025)], stored, LONE, knowing(occasion=sd)) for sd in (0.0, 0.01))
    assert quiet.delta.value == pytest.approx(0.0, abs=1e-6)
    assert loud.delta.error**2 - quiet.delta.error**2 == pytest.approx(0.01**2 * (1 + 1 / 4))


def test_more_launches_on_one_occasion_cure_nothing_of_it():
    stored = [made(session="0001")] * 3
    few, many = (decide([made()] * n, stored, Rule(1, relaunches=99), knowing(occasion=0.005)) for n in (2, 90))
    assert many.delta.error > math.sqrt(2) * 0.005 > 0.98 * few.delta.error


def test_noise_is_that_of_the_family_of_the_case():
    noise = NoiseModel({"loud": knowing(launch=0.01).families[""], "quiet": knowing(launch=0.0005).families[""]})
    errors = [
        decide([made(family=name)], [made(family=name)], LONE, noise).delta.error for name in ("loud", "quiet", "new")
    ]
    assert errors[1] < errors[2] < errors[0]


# Seconds count


@pytest.mark.parametrize("lower", [STEP, 0.10], ids=["a step", "10 %"])
def test_a_kernel_that_lowers_its_own_clock_is_regressed_and_a_step_of_the_clock_is_not(lower):
    stored = [made(session="0001")] * 3
    found = decide([made(lower, cycles=0.0)] * 2, stored, Rule(150), NoiseModel())
    if lower > STEP:
        assert (found.kind, found.delta.measure) == (VerdictKind.REGRESSED, SECONDS)
        (reason,) = found.reasons
        assert reason.code == "slower-clock"
        assert "in seconds" in reason.text
        assert "+0.00 % in cycles" in reason.text
        assert "the clock is lower during the call" in reason.text
    else:
        assert (found.kind, found.delta.measure) == (VerdictKind.UNCHANGED, CYCLES)


def test_a_slow_down_in_seconds_alone_is_not_acquitted_below_where_it_convicts():
    stored = [made(session=f"{number}") for number in range(4) for _ in range(3)]
    kinds = [
        decide([made(lower, cycles=0.0)] * 2, stored, Rule(150), knowing()).kind for lower in (0.0076, 0.018, 0.04)
    ]
    assert kinds == [VerdictKind.UNCHANGED, VerdictKind.INCONCLUSIVE, VerdictKind.REGRESSED]


#: What memory's share of the call is, and by how much the clock is lower than the start clock that it runs at.
COMPUTES, WAITS = (0.0, LOAD), (1.0, 0.0)
SEVERAL_STEPS = 3 * STEP


def at(risen, kind, slower=0.0, **changes):
    """A launch whose rounds started at a clock that is higher by this, of a call that follows it."""
    memory, load = kind
    found = made(0.0, **changes)
    during = math.log(HZ) + load + risen
    cycles = math.log(1e6) + slower + memory * risen
    estimates = {SECONDS: Estimate(cycles - during, ERROR), CYCLES: Estimate(cycles, ERROR)}
    return replace(found, estimates=estimates, settled_hz=HZ * math.exp(risen))


@pytest.mark.parametrize(
    "kind", [COMPUTES, WAITS, (0.5, 0.0), (0.2, LOAD)], ids=["computes", "waits", "both", "mostly"]
)
@pytest.mark.parametrize("risen", [-SEVERAL_STEPS, -STEP, STEP, SEVERAL_STEPS])
def test_another_start_clock_convicts_nobody_and_hides_no_slow_down_of_the_limit(kind, risen):
    stored = [at(0.0, kind, session=f"{number}") for number in range(4) for _ in range(3)]
    for noise in (NoiseModel(), knowing()):
        same = decide([at(risen, kind)] * 4, stored, Rule(150), noise)
        assert same.kind in (VerdictKind.UNCHANGED, VerdictKind.INCONCLUSIVE)
        slower = decide([at(risen, kind, math.log1p(same.limit))] * 4, stored, Rule(150), noise)
        assert slower.kind in (VerdictKind.REGRESSED, VerdictKind.INCONCLUSIVE)


@pytest.mark.parametrize("risen", [-2 * STEP, 2 * STEP])
def test_at_another_start_clock_a_call_that_power_limits_is_judged_by_its_cycles(risen):
    stored = [at(0.0, COMPUTES, session=f"{number}") for number in range(4) for _ in range(3)]
    for slower, kind in ((0.0, VerdictKind.UNCHANGED), (0.015, VerdictKind.REGRESSED)):
        assert decide([at(risen, COMPUTES, slower)] * 3, stored, Rule(150), knowing()).kind is kind


def test_the_interval_holds_how_far_cycles_follow_the_clock():
    stored = [at(0.0, WAITS, session="0001")] * 3
    for launches in (1, 4):
        still, moved = (decide([at(risen, WAITS)] * launches, stored, ONE, knowing()) for risen in (0.0, 0.02))
        assert moved.delta.error**2 - still.delta.error**2 == pytest.approx((0.35 * 0.02) ** 2)
        assert moved.found_by > still.found_by


@pytest.mark.parametrize("kind", [(0.3, 0.0), WAITS], ids=["both", "waits"])
def test_launches_at_several_start_clocks_find_what_one_clock_leaves_open(kind):
    """Slower by 2 %, beside one session."""

    def decided(ours, theirs):
        slower = [at(risen, kind, math.log1p(0.02)) for risen in ours]
        return decide(slower, [at(risen, kind, session="0001") for risen in theirs], Rule(150), NoiseModel())

    apart, mixed = decided([STEP] * 4, [0.0] * 3), decided([STEP, STEP, STEP, 0.0], [0.0, 0.0, STEP])
    assert apart.found_by > mixed.found_by
    assert mixed.kind is VerdictKind.REGRESSED
    assert abs(mixed.delta.value - 0.02) < 0.0005 < abs(apart.delta.value - 0.02)


def test_a_case_that_started_at_another_clock_is_measured_again():
    """A further launch may start at the baseline's clock."""
    stored = [at(0.0, WAITS, session="0001") for _ in range(3)]
    found = decide([at(2 * STEP, WAITS, 0.02)], stored, Rule(150), NoiseModel())
    assert (found.kind, found.suspect) == (VerdictKind.INCONCLUSIVE, True)


def test_where_no_start_clock_was_read_seconds_alone_convict_and_acquit_nobody():
    stored = [made(session="0001", settled_hz=None)] * 3
    found = decide([made(0.1, cycles=0.0, settled_hz=None)] * 4, stored, Rule(150), NoiseModel())
    assert found.kind is VerdictKind.INCONCLUSIVE


def test_without_cycles_on_either_side_seconds_decide():
    assert decide([made(0.04, cycles=None)], [made()], LONE, NoiseModel()).kind is VerdictKind.REGRESSED
    found = decide([made(0.04)], [made(cycles=None)], LONE, NoiseModel())
    assert (found.kind, found.delta.measure) == (VerdictKind.REGRESSED, SECONDS)
    assert decide([made(cycles=None)], [made()], LONE, NoiseModel()).kind is VerdictKind.UNCHANGED


@pytest.mark.parametrize(("settled_hz", "kind"), [(HZ, VerdictKind.UNCHANGED), (None, VerdictKind.REGRESSED)])
def test_a_step_of_a_clock_that_was_read_convicts_nobody_in_seconds_alone(settled_hz, kind):
    """Of quiet sessions, which carry 1 %: 15 MHz of 1980 are 0.76 %."""
    stored = [made(session=f"000{n}", cycles=None, settled_hz=settled_hz) for n in range(4) for _ in range(3)]
    quiet = SdBounds(convict=0.0003, acquit=0.0004, assumed=False)
    known = NoiseModel({"": {SECONDS: replace(ASSUMED[SECONDS], launch=0.0005, session=quiet)}})
    found = decide([made(0.0076, cycles=None, settled_hz=settled_hz)] * 4, stored, Rule(150), known)
    assert found.kind is kind
    worse = decide([made(0.02, cycles=None, settled_hz=settled_hz)] * 4, stored, Rule(150), known)
    assert worse.kind is VerdictKind.REGRESSED


@pytest.mark.parametrize(("asked", "limit"), [(None, MOST_LIMIT), (0.2, 0.2)])
def test_sessions_far_apart_acquit_nobody_by_a_limit_that_only_they_make(asked, limit):
    """Two that are 5 % apart carry more than 20 %: seven percent beyond the faster one is no unchanged case."""
    stored = [made(shift, session=name) for name, shift in (("0001", 0.0), ("0002", 0.05)) for _ in range(3)]
    noise = noise_model([stored])
    found = decide([made(0.07)], stored, Rule(150, limit=asked), noise)
    assert found.carried > 0.2
    assert found.limit == limit
    assert (found.kind is VerdictKind.UNCHANGED) == (asked is not None)


@pytest.mark.parametrize(("lost", "kind"), [(0.03, VerdictKind.UNCHANGED), (0.1, VerdictKind.INCONCLUSIVE)])
def test_of_what_the_clock_lost_no_more_than_six_percent_is_acquitted_by_any_limit(lost, kind):
    stored = [made(session="0001")] * 3
    assert decide([made(lost, cycles=0.0)] * 4, stored, Rule(150, limit=0.2), NoiseModel()).kind is kind


def test_a_call_that_throttles_itself_is_convicted_however_its_rounds_started():
    long = {"self_throttled": True, "unsettled": True}
    stored = [made(session="0001", **long)] * 3
    assert decide([made(0.3, **long)] * 4, stored, Rule(150), NoiseModel()).kind is VerdictKind.REGRESSED


def test_slower_in_cycles_and_faster_in_seconds_is_neither():
    stored = [made(session="0001")] * 3
    ours = [made(-0.008, cycles=0.03)]
    found = decide(ours, stored, ONE, NoiseModel())
    assert (found.kind, found.suspect) == (VerdictKind.INCONCLUSIVE, True)
    assert found.reasons[0].code == "clock"
    assert not decide(ours * 4, stored, ONE, NoiseModel()).suspect


# What is never convicted on


@pytest.mark.parametrize("which", ["ours", "theirs"])
def test_fewer_than_three_rounds_never_convict_and_never_acquit(which):
    few = replace(made(0.5), estimates={SECONDS: Estimate(0.5, math.inf), CYCLES: Estimate(0.5, math.inf)})
    enough = [made(session="0001")] * 3
    ours, theirs = ([few] * 4, enough) if which == "ours" else (enough, [few] * 2)
    found = decide(ours, theirs, Rule(1, 5), NoiseModel())
    assert (found.kind, found.suspect) == (VerdictKind.INCONCLUSIVE, False)
    assert found.reasons[0].code == "rounds"
    assert math.isfinite(found.limit)


@pytest.mark.parametrize("which", ["this run", "the stored launches"])
def test_samples_that_did_not_settle_never_convict(which):
    ours, theirs = [made(0.5)] * 4, [made(session="0001")] * 3
    assert decide(ours, theirs, LONE, NoiseModel()).kind is VerdictKind.REGRESSED
    side = ours if which == "this run" else theirs
    side[0] = replace(side[0], unsettled=True)
    found = decide(ours, theirs, LONE, NoiseModel())
    assert found.kind is VerdictKind.INCONCLUSIVE
    assert [reason.code for reason in found.reasons] == ["unsettled"]


def test_calls_that_lower_their_own_clock_need_more():
    stored = [made(session=f"{number}") for number in range(4)]
    assert decide([made(0.011)], stored, LONE, knowing()).kind is VerdictKind.REGRESSED
    long = {"self_throttled": True}
    found = decide([made(0.011, **long)], [replace(one, **long) for one in stored], LONE, knowing())
    assert found.kind is not VerdictKind.REGRESSED
    assert found.limit > AIM
    assert found.bearing.launch == pytest.approx(0.004, rel=0.05)


# Fresh launches


def test_a_first_sight_of_a_slow_down_is_looked_at_again_and_a_second_is_not():
    assert decide([made(0.05)], [made()], ONE, NoiseModel()).suspect
    assert not decide([made(0.05), made(0.05)], [made()], ONE, NoiseModel()).suspect


def test_two_slow_launches_that_disagree_convict_nobody_while_another_may_follow():
    found = decide([made(0.09), made(0.06)], [made()], ONE, NoiseModel())
    assert found.suspect
    third = decide([made(0.09), made(0.06), made()], [made()], ONE, NoiseModel())
    assert third.kind is not VerdictKind.REGRESSED


def test_without_a_launch_left_the_first_sight_is_the_verdict():
    found = decide([made(0.05)], [made()], LONE, NoiseModel())
    assert (found.kind, found.suspect) == (VerdictKind.REGRESSED, False)


@pytest.mark.parametrize("which", ["ours", "theirs"])
def test_one_slow_launch_among_others_that_agree_is_left_out_and_said(which):
    others = [0.0, 0.001, -0.001]
    if which == "ours":
        ours, stored = [made(0.07), *map(made, others)], [made(session="0001")] * 3
    else:
        ours, stored = [made()], [made(value, "0001") for value in (0.07, *others)]
    found = decide(ours, stored, Rule(150), NoiseModel())
    assert found.kind is VerdictKind.UNCHANGED
    assert found.delta.value == pytest.approx(0.0, abs=1e-6)
    assert found.left_out == (which == "ours")
    assert ("slow-launch" in [reason.code for reason in found.reasons]) == (which == "ours")


def test_a_case_is_measured_again_until_its_launches_agree():
    stored = [made(session="0001")] * 3
    assert decide([made(0.07)], stored, ONE, NoiseModel()).suspect
    second = decide([made(0.07), made()], stored, ONE, NoiseModel())
    assert (second.kind, second.suspect) == (VerdictKind.INCONCLUSIVE, True)
    assert decide([made(0.07), made(), made()], stored, ONE, NoiseModel()).kind is VerdictKind.UNCHANGED


@pytest.mark.parametrize(
    "values", [(0.07, 0.07, 0.0, 0.0), (0.0, 0.0, -0.07), (0.03, 0.0, 0.01)], ids=["half", "a fast one", "no agreement"]
)
def test_no_launch_is_left_out_but_a_slow_one_beside_a_majority_that_agrees(values):
    found = decide([made(value) for value in values], [made(session="0001")] * 3, ONE, NoiseModel())
    assert found.left_out == 0


def test_launches_that_differ_more_than_assumed_widen_the_interval():
    stored = [made(), made()]
    alike = decide([made(0.02), made(0.02)], stored, ONE, NoiseModel()).delta
    apart = decide([made(0.0), made(0.04)], stored, ONE, NoiseModel()).delta
    assert apart.value == pytest.approx(alike.value, rel=1e-6)
    assert apart.error > 5 * alike.error


def test_an_undecided_case_is_measured_again_where_launches_may_decide():
    stored = [made(session=f"{number}") for number in range(4) for _ in range(3)]
    rule, noise = Rule(cases=90), knowing()
    found = decide([made(0.0065)], stored, rule, noise)
    assert (found.kind, found.suspect) == (VerdictKind.INCONCLUSIVE, True)
    followed = decide([made(0.0065), made(0.0055), made(0.005)], stored, rule, noise)
    assert (followed.kind, followed.suspect) == (VerdictKind.UNCHANGED, False)
    tight = decide([made(0.002)], stored[:3], Rule(150, limit=0.004), NoiseModel())
    assert (tight.kind, tight.suspect) == (VerdictKind.INCONCLUSIVE, False), (
        "no launch settles what sessions leave open"
    )


def test_the_kind_is_said_with_its_reason():
    rule = Rule(cases=100, relaunches=0)
    found = [decide([made(shift)], [made()], rule, NoiseModel()) for shift in (0.05, -0.05, 0.0, 0.016)]
    said = [" ".join(f"{reason.code}: {reason.text}" for reason in one.reasons) for one in found]
    assert [re.sub(r"\d+\.\d\d %", "P", text) for text in said] == [
        "slower: at least +P; tolerated 0.3 %, limit P",
        "faster: at least P faster",
        "below-limit: at most +P, below the limit of P",
        "interval: between +P and +P: undecided",
    ]


def test_the_means_are_those_that_were_compared():
    stored = [made(0.02, "0001"), *[made(0.0, "0002")] * 5]
    found = decide([made(0.1)], stored, ONE, NoiseModel())
    assert math.log(found.ours_s / found.base_s) == pytest.approx(0.1 - 0.01)


@pytest.mark.parametrize("sides", [([], [1]), ([1], [])])
def test_a_decision_needs_launches_on_both_sides(sides):
    ours, theirs = ([made() for _ in side] for side in sides)
    with pytest.raises(ValueError, match="a launch on either side"):
        decide(ours, theirs, ONE, NoiseModel())
