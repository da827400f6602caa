"""The rule of verdicts: how often it convicts what did not change, and what it finds, by seeded simulation."""

from __future__ import annotations

import math
import random
import re
from dataclasses import replace

import pytest

from attnbench.clock_slope import ClockSlope
from attnbench.model import Fingerprint, Judgement, Launch, Sample
from attnbench.readings import CYCLES, PRIOR, SECONDS, Estimate, Reading, Scatter, reading
from attnbench.rule import FOUND_SHARE, Rule, compare

ROUNDS, ROUND_SCATTER = 30, 0.0015
BASE_S, HZ = 1e-3, 1.7e9
UNITS = {name: Launch(name, "", Fingerprint({}, {"unit": name})) for name in "abcd"}

ONE = Rule(cases=1)
LONE = Rule(cases=1, relaunches=0)


class Gpu:
    """Draws launches of one case as `PRIOR` assumes: every unit, occasion, launch and round adds its share."""

    def __init__(self, record, seed):
        self._record = record()
        self._rng = random.Random(seed)

    def occasion(self, unit_shift=0.0):
        return unit_shift + self._rng.gauss(0, PRIOR.occasion)

    def unit(self):
        return self._rng.gauss(0, PRIOR.unit)

    def launch(self, occasion, unit="a", session="", slower=0.0, clock=0.0, rounds=ROUNDS, **changes):
        """`slower` is what the kernel lost, in seconds and cycles alike; `clock` what the clock did, in seconds only."""
        shift = math.exp(occasion + self._rng.gauss(0, PRIOR.launch)) * (1 + slower)
        rounds_s = [BASE_S * shift * (1 + self._rng.gauss(0, ROUND_SCATTER)) for _ in range(rounds)]
        sample = Sample(
            tuple(round_s * (1 + clock) for round_s in rounds_s),
            "t",
            cycles=tuple(round(round_s * HZ) for round_s in rounds_s),
            **changes,
        )
        return reading(replace(self._record, sample=sample), UNITS[unit], session)

    def session(self, name="0001", unit="a", unit_shift=0.0, launches=3):
        occasion = self.occasion(unit_shift)
        return [self.launch(occasion, unit, name) for _ in range(launches)]

    def judged(self, rule, stored, unit="a", unit_shift=0.0, **changes):
        """The verdict after as many fresh launches as the rule asks for, as a run does it."""
        occasion = self.occasion(unit_shift)
        ours = [self.launch(occasion, unit, **changes)]
        found = compare(ours, stored, rule, Scatter())
        while found.suspect:
            ours.append(self.launch(occasion, unit, **changes))
            found = compare(ours, stored, rule, Scatter())
        assert len(ours) <= 1 + rule.relaunches
        return found


def made(seconds, session="", unit="a", cycles: float | str | None = "like seconds", **changes):
    """A reading of exactly this, in seconds and in cycles; without cycles for None."""
    estimates = {SECONDS: Estimate(seconds, 0.0003)}
    if cycles is not None:
        estimates[CYCLES] = Estimate(seconds if cycles == "like seconds" else cycles, 0.0003)
    fields = {"launch": "", "resolution": 0.0, "unsettled": False, "self_throttled": False, **changes}
    return Reading(session=session, unit=unit, estimates=estimates, **fields)


@pytest.fixture
def gpu(record):
    return lambda seed: Gpu(record, seed)


def shares(gpu, comparisons, rule, **changes):
    """How often each verdict was reached on a known unit, every time against a session of its own."""
    kinds = [gpu.judged(rule, gpu.session(), **changes).kind for _ in range(comparisons)]
    return {kind: kinds.count(kind) / comparisons for kind in Judgement}


# How often a verdict is wrong


def test_what_did_not_change_is_hardly_ever_regressed_or_improved(gpu):
    found = shares(gpu(1), 2500, ONE)
    assert found[Judgement.REGRESSED] == found[Judgement.IMPROVED] == 0
    assert found[Judgement.UNCHANGED] > 0.99


@pytest.mark.parametrize("relaunches", [0, 3])
def test_what_lost_as_much_as_is_tolerated_is_regressed_in_no_more_than_the_stated_share(gpu, relaunches):
    rule = Rule(cases=1, relaunches=relaunches, known_limit=0.004)  # below twice the tolerated, so that alpha decides
    found = shares(gpu(2), 1000, rule, slower=rule.tolerated)
    assert found[Judgement.REGRESSED] <= rule.alpha


def test_the_share_of_wrong_verdicts_holds_for_whole_runs_of_many_cases(gpu):
    drawn, cases = gpu(3), 50
    rule = Rule(cases=cases, known_limit=0.004)
    wrong = 0
    for _ in range(25):
        kinds = [drawn.judged(rule, drawn.session(), slower=rule.tolerated).kind for _ in range(cases)]
        wrong += Judgement.REGRESSED in kinds
    assert wrong <= 1  # of 25 runs, where 1 in 100 is stated


@pytest.mark.parametrize(("slower", "share"), [(0.01, 0.95), (0.02, 0.99)])
def test_a_slow_down_is_found_on_a_known_unit(gpu, slower, share):
    assert shares(gpu(4), 600, ONE, slower=slower)[Judgement.REGRESSED] >= share


def test_two_percent_are_found_among_many_cases_too(gpu):
    assert shares(gpu(5), 500, Rule(cases=108), slower=0.02)[Judgement.REGRESSED] >= 0.99


def test_a_gain_is_seen_and_is_no_slow_down(gpu):
    found = shares(gpu(6), 500, ONE, slower=-0.02)
    assert found[Judgement.IMPROVED] >= 0.99
    assert found[Judgement.REGRESSED] == 0


def test_what_a_comparison_says_it_finds_is_found(gpu):
    drawn, rule, comparisons = gpu(7), Rule(cases=20), 400
    found = 0
    for _ in range(comparisons):
        stored = drawn.session()
        found_by = compare([drawn.launch(drawn.occasion())], stored, rule, Scatter()).found_by
        found += drawn.judged(rule, stored, slower=found_by).kind is Judgement.REGRESSED
    assert found / comparisons == pytest.approx(FOUND_SHARE, abs=0.025)


# Another unit


def test_an_unknown_unit_is_never_regressed_or_improved_however_far_it_is_off(gpu):
    drawn = gpu(9)
    kinds = {shift: [] for shift in (0.0, 0.011, 0.02, 0.5, -0.5)}  # units 1.1 % apart are nothing rare
    for _ in range(100):
        stored = [one for name in "abc" for one in drawn.session(f"of {name}", name, drawn.unit())]
        for shift, found in kinds.items():
            found.append(drawn.judged(ONE, stored, "d", drawn.unit(), slower=shift).kind)
    for shift, found in kinds.items():
        assert set(found) <= {Judgement.UNCHANGED, Judgement.INCONCLUSIVE}, shift
    assert set(kinds[0.5]) == {Judgement.INCONCLUSIVE}
    assert set(kinds[-0.5]) == {Judgement.UNCHANGED}
    assert kinds[0.0].count(Judgement.UNCHANGED) > 50, "no slow-down of the limit is left, wherever the unit lies"


@pytest.mark.parametrize("unit", ["b", None])
def test_a_slow_down_on_an_unknown_unit_is_shown_as_a_suspicion_with_what_to_do(unit):
    found = compare([made(0.5, unit=unit)], [made(0.0)], ONE, Scatter())
    assert (found.kind, found.known_unit, found.suspect) == (Judgement.INCONCLUSIVE, False, False)
    assert found.said.value == pytest.approx(math.expm1(0.5))
    (reason,) = found.reasons
    assert reason.code == "unknown-unit"
    assert reason.text.startswith("suspected slow-down: the baseline is from other units, and units of one model")
    assert "differ by 0.6% (sd)" in reason.text
    assert "scripts/record_baseline" in reason.text
    assert math.isinf(found.found_by), "nothing would have been called regressed"


def test_a_gain_on_an_unknown_unit_is_said_and_not_claimed():
    found = compare([made(-0.5, unit="b")], [made(0.0)], ONE, Scatter())
    assert found.kind is Judgement.UNCHANGED
    assert [reason.code for reason in found.reasons] == ["below-limit", "unknown-unit"]
    assert "suspected gain: " in found.reasons[1].text


def test_a_unit_that_seems_slower_is_measured_again_only_where_that_may_acquit_it():
    stored = [made(0.0, name, name) for name in "abcdefgh"]
    near, far = (compare([made(shift, unit="z")], stored, ONE, Scatter()) for shift in (-0.001, 0.2))
    assert (near.kind, far.kind, far.suspect) == (Judgement.UNCHANGED, Judgement.INCONCLUSIVE, False)
    noisy = Scatter({measure: replace(PRIOR, launch=0.01) for measure in (SECONDS, CYCLES)})
    assert compare([made(0.0, unit="z")], [made(0.0, "s", "a")] * 50, ONE, noisy).suspect


@pytest.mark.parametrize("launches", [1, 4])
def test_one_percent_that_is_seen_on_an_unknown_unit_is_never_regressed(launches):
    stored = [made(0.0, name, name) for name in "abc"]
    found = compare([made(0.01, unit="d") for _ in range(launches)], stored, ONE, Scatter())
    assert found.kind is Judgement.INCONCLUSIVE
    assert compare([made(0.01, unit="a")], stored, LONE, Scatter()).kind is Judgement.REGRESSED


def test_of_several_units_only_the_own_sessions_count(gpu):
    drawn = gpu(10)
    stored = [*drawn.session("0001", "a"), *drawn.session("0002", "b", unit_shift=-0.05)]
    found = drawn.judged(ONE, stored, "a")
    assert (found.kind, found.known_unit, found.limit) == (Judgement.UNCHANGED, True, 0.01)
    elsewhere = drawn.judged(ONE, stored, "c")
    assert (elsewhere.known_unit, elsewhere.limit) == (False, 0.02)


def test_an_unknown_unit_that_cannot_be_decided_is_not_measured_again(gpu):
    drawn = gpu(11)
    found = compare([drawn.launch(0.02, "b")], drawn.session(), ONE, Scatter())
    assert (found.kind, found.suspect) == (Judgement.INCONCLUSIVE, False)
    assert [reason.code for reason in found.reasons] == ["interval", "unknown-unit"]
    assert "record a session on this unit (scripts/record_baseline)" in found.reasons[1].text


@pytest.mark.parametrize("unit", ["", None])
def test_units_that_could_not_be_read_are_not_the_same_one(unit):
    one = made(0.0, unit=None)
    assert not compare([one], [made(0.0, unit=unit)], ONE, Scatter()).known_unit


def test_each_unit_weighs_the_same_whatever_number_of_launches_it_has():
    stored = [*(made(0.0, "0001", "a") for _ in range(9)), made(0.1, "0002", "b")]
    assert compare([made(0.05, unit="c")], stored, ONE, Scatter()).changes[0].value == pytest.approx(0.0, abs=1e-12)


# Seconds and cycles


@pytest.mark.parametrize("rule", [ONE, Rule(cases=1, known_limit=0.005)], ids=["limit 1 %", "limit 0.5 %"])
def test_a_step_of_the_clock_is_not_regressed(gpu, rule):
    assert shares(gpu(12), 500, rule, clock=0.0076)[Judgement.REGRESSED] == 0


def test_the_measure_that_speaks_less_for_a_slow_down_is_the_one_that_is_said():
    both = compare([made(0.04, cycles=0.03)], [made(0.0)], LONE, Scatter())
    assert (both.kind, both.said.measure) == (Judgement.REGRESSED, CYCLES)
    clock = compare([made(0.04, cycles=0.0)], [made(0.0)], LONE, Scatter())
    assert (clock.kind, clock.said.measure) == (Judgement.UNCHANGED, CYCLES)
    faster = compare([made(-0.03, cycles=-0.04)], [made(0.0)], LONE, Scatter())
    assert (faster.kind, faster.said.measure) == (Judgement.IMPROVED, SECONDS)


def test_without_cycles_on_either_side_seconds_decide():
    assert compare([made(0.04, cycles=None)], [made(0.0)], LONE, Scatter()).kind is Judgement.REGRESSED
    assert compare([made(0.04)], [made(0.0, cycles=None)], LONE, Scatter()).kind is Judgement.REGRESSED


# What is never convicted on


@pytest.mark.parametrize("rounds", [1, 2])
def test_fewer_than_three_rounds_never_convict(gpu, rounds):
    drawn = gpu(13)
    few = [drawn.launch(0.0, slower=9.0, rounds=rounds) for _ in range(4)]
    enough = drawn.session()
    for ours, theirs in ((few, enough), (drawn.session(""), few)):
        found = compare(ours, theirs, LONE, Scatter())
        assert (found.kind, found.suspect) == (Judgement.INCONCLUSIVE, False)
    assert not compare(few[:1], enough, ONE, Scatter()).suspect, "more launches of as few rounds would tell no more"


@pytest.mark.parametrize("which", ["this run", "the stored launches"])
def test_samples_that_did_not_settle_never_convict(gpu, which):
    drawn = gpu(14)
    ours, theirs = [drawn.launch(0.0, slower=0.5) for _ in range(4)], drawn.session()
    assert compare(ours, theirs, LONE, Scatter()).kind is Judgement.REGRESSED
    unsettled = drawn.launch(0.0, slower=0.5 if which == "this run" else 0.0, unsettled=4)
    (ours if which == "this run" else theirs)[0] = unsettled
    found = compare(ours, theirs, LONE, Scatter())
    assert found.kind is Judgement.INCONCLUSIVE
    assert [reason.code for reason in found.reasons] == ["unsettled"]


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_the_limit_is_never_below_three_steps_of_the_timer(side):
    coarse, fine = made(0.0, resolution=0.03), made(0.0, resolution=0.0001)
    ours, theirs = ([coarse], [fine]) if side == "ours" else ([fine], [coarse])
    found = compare(ours, theirs, ONE, Scatter())
    assert found.limit == pytest.approx(0.09)
    slower = made(0.04, resolution=0.03 if side == "ours" else 0.0)
    assert compare([slower], theirs, LONE, Scatter()).kind is not Judgement.REGRESSED


def test_calls_that_lower_their_own_clock_need_more():
    rule = Rule(cases=1, relaunches=0)
    assert compare([made(0.011)], [made(0.0)], rule, Scatter()).kind is Judgement.REGRESSED
    long = {"self_throttled": True}
    assert compare([made(0.011, **long)], [made(0.0, **long)], rule, Scatter()).kind is Judgement.INCONCLUSIVE


# Fresh launches


def test_a_first_sight_of_a_slow_down_is_looked_at_again_and_a_second_is_not():
    assert compare([made(0.05)], [made(0.0)], ONE, Scatter()).suspect
    assert not compare([made(0.05), made(0.05)], [made(0.0)], ONE, Scatter()).suspect


def test_without_a_launch_left_the_first_sight_is_the_verdict():
    found = compare([made(0.05)], [made(0.0)], LONE, Scatter())
    assert (found.kind, found.suspect) == (Judgement.REGRESSED, False)


def test_what_the_first_launch_shows_and_the_next_ones_do_not_is_not_regressed():
    stored = [made(0.0), made(0.0)]
    assert compare([made(0.02)], stored, ONE, Scatter()).kind is Judgement.REGRESSED
    found = compare([made(0.02), *(made(0.0) for _ in range(3))], stored, ONE, Scatter())
    assert found.kind is not Judgement.REGRESSED


def test_launches_that_differ_more_than_assumed_widen_the_interval():
    stored = [made(0.0), made(0.0)]
    alike = compare([made(0.02), made(0.02)], stored, ONE, Scatter()).changes[0]
    apart = compare([made(0.0), made(0.04)], stored, ONE, Scatter()).changes[0]
    assert apart.value == pytest.approx(alike.value)
    assert apart.error > 5 * alike.error


def test_more_cases_and_more_looks_make_the_interval_wider():
    wide = [
        compare([made(0.0)], [made(0.0)], rule, Scatter()).changes[0].high
        for rule in (Rule(1, relaunches=0), Rule(1, relaunches=3), Rule(100, relaunches=3))
    ]
    assert wide == sorted(set(wide))


def test_a_tighter_limit_convicts_what_a_wider_one_lets_pass():
    stored = [made(0.0)]
    assert compare([made(0.02)], stored, Rule(1, 0, known_limit=0.01), Scatter()).kind is Judgement.REGRESSED
    assert compare([made(0.02)], stored, Rule(1, 0, known_limit=0.05), Scatter()).kind is Judgement.UNCHANGED


def test_the_kind_is_said_with_its_reason():
    rule = Rule(cases=100, relaunches=0)
    found = [compare([made(shift)], [made(0.0)], rule, Scatter()) for shift in (0.05, -0.05, 0.0, 0.0065)]
    said = [" ".join(f"{reason.code}: {reason.text}" for reason in one.reasons) for one in found]
    assert [re.sub(r"\d+\.\d\d%", "P", text) for text in said] == [
        "slower: at least +P, where 0.3% is tolerated and P is the limit",
        "faster: at least P faster",
        "below-limit: at most +P, below the limit of P",
        "interval: between +P and +P nothing is decided",
    ]


@pytest.mark.parametrize("sides", [([], [1]), ([1], [])])
def test_a_comparison_with_nothing_is_refused(sides):
    ours, theirs = ([made(0.0) for _ in side] for side in sides)
    with pytest.raises(ValueError, match="a launch on either side"):
        compare(ours, theirs, ONE, Scatter())


def test_an_undecided_case_is_measured_again_where_more_launches_may_bring_its_mean_to_a_decision():
    stored = [made(shift, "0001") for shift in (-0.0015, 0.0, 0.0015)]
    rule = Rule(cases=90)
    found = compare([made(0.0052)], stored, rule, Scatter())
    assert (found.kind, found.suspect) == (Judgement.INCONCLUSIVE, True)
    followed = compare([made(0.0052), made(0.001), made(0.001)], stored, rule, Scatter())
    assert (followed.kind, followed.suspect) == (Judgement.UNCHANGED, False)


# Which measures count


def test_where_rounds_started_at_the_baselines_clock_a_step_of_it_during_the_call_hides_nothing():
    stored = [made(0.0, "0001", settled_hz=1980e6)] * 3
    again = [made(0.001, cycles=0.0102, settled_hz=1979e6)] * 2
    found = compare(again, stored, ONE, Scatter())
    assert (found.kind, found.said.measure) == (Judgement.REGRESSED, CYCLES)
    quiet = compare([made(-0.009, cycles=0.0, settled_hz=1980e6)], stored, ONE, Scatter())
    assert quiet.kind is Judgement.UNCHANGED


@pytest.mark.parametrize(
    ("unit", "settled_hz"), [("a", 1965e6), ("a", None), ("b", 1980e6)], ids=["another clock", "unread", "another unit"]
)
def test_elsewhere_seconds_have_to_say_so_too(unit, settled_hz):
    stored = [made(0.0, "0001", settled_hz=1980e6)] * 3
    ours = [made(0.0, unit=unit, cycles=0.08, settled_hz=settled_hz)] * 2
    found = compare(ours, stored, ONE, Scatter())
    assert found.kind is not Judgement.REGRESSED
    assert {change.measure for change in found.changes} == {SECONDS, CYCLES}


def test_slower_in_cycles_and_faster_in_seconds_is_neither():
    stored = [made(0.0, "0001", settled_hz=1980e6)] * 3
    ours = [made(-0.006, cycles=0.012, settled_hz=1980e6)]
    found = compare(ours, stored, ONE, Scatter())
    assert (found.kind, found.suspect) == (Judgement.INCONCLUSIVE, True)
    assert found.reasons[0].code == "clock"
    assert not compare(ours * 4, stored, ONE, Scatter()).suspect


@pytest.mark.parametrize(
    ("slower", "kind"), [(0.0, Judgement.UNCHANGED), (0.01, Judgement.INCONCLUSIVE), (0.02, Judgement.REGRESSED)]
)
def test_a_clock_above_the_baselines_does_not_hide_a_slow_down_in_seconds(slower, kind):
    stored = [made(0.0, "0001", settled_hz=1965e6)] * 3
    ours = [made(slower - 0.0076, cycles=slower, settled_hz=1980e6)] * 2
    assert compare(ours, stored, ONE, Scatter()).kind is kind


def test_a_clock_below_the_baselines_is_not_taken_for_the_kernel():
    stored = [made(0.0, "0001", settled_hz=1980e6)] * 3
    found = compare([made(0.0076, cycles=0.0, settled_hz=1965e6)] * 2, stored, ONE, Scatter())
    assert (found.kind, found.said.measure) == (Judgement.UNCHANGED, CYCLES)


# Rounds that started at another clock, of a call that is known to follow it, or not to

COLD_HZ, WARM_HZ = 1980e6, 2010e6
STEP_UP = math.log(WARM_HZ / COLD_HZ)


def at(hz, slope, slower=0.0, **changes):
    """A launch whose rounds started at `hz`, of a call whose cycles follow the clock with this slope."""
    above = math.log(hz / COLD_HZ)
    fields = {"settled_hz": hz, "variant": "flash@eager", **changes}
    return made(slower - (1 - slope) * above, cycles=slower + slope * above, **fields)


def knowing(slope, error=0.05):
    return Scatter(slopes={"flash@eager": ClockSlope(slope, error)})


@pytest.mark.parametrize("slope", [-0.1, 0.0, 0.4, 1.2])
@pytest.mark.parametrize("clocks", [(COLD_HZ, WARM_HZ), (WARM_HZ, COLD_HZ)], ids=["clock up", "clock down"])
@pytest.mark.parametrize(("slower", "kind"), [(0.0, Judgement.UNCHANGED), (0.012, Judgement.REGRESSED)])
def test_at_another_clock_cycles_decide_where_their_slope_is_known(slope, clocks, slower, kind):
    stored, hz = [at(clocks[0], slope, session="0001")] * 3, clocks[1]
    found = compare([at(hz, slope, slower)] * 2, stored, ONE, knowing(slope))
    assert found.kind is kind
    assert found.said.measure == CYCLES
    assert found.said.value == pytest.approx(math.expm1(slower), abs=1e-6)


@pytest.mark.parametrize("unknown", [Scatter(), Scatter(slopes={"another@eager": ClockSlope(0.0, 0.05)})])
def test_cycles_that_memory_adds_at_a_higher_clock_convict_nobody_where_the_slope_is_not_known(unknown):
    stored = [at(COLD_HZ, 1.0, session="0001")] * 3
    ours = [at(WARM_HZ, 1.0)] * 2
    assert compare(ours, stored, ONE, unknown).kind is not Judgement.REGRESSED
    assert compare(ours, stored, ONE, knowing(0.0)).kind is Judgement.REGRESSED, "as a slope of 0 would"


@pytest.mark.parametrize(
    "without", [{"cycles": None, "settled_hz": WARM_HZ}, {"settled_hz": None}], ids=["cycles", "clock"]
)
def test_a_launch_without_cycles_or_a_clock_is_judged_as_if_the_slope_were_not_known(without):
    stored = [at(COLD_HZ, 0.0, session="0001")] * 3
    ours = [at(WARM_HZ, 0.0), replace(made(0.0), variant="flash@eager", settled_hz=WARM_HZ)]
    odd = replace(made(0.0, **without), variant="flash@eager")
    assert compare([*ours, odd], stored, ONE, knowing(0.0)) == compare([*ours, odd], stored, ONE, Scatter())


def test_what_the_slope_is_not_known_to_is_in_the_interval_however_many_launches_there_are():
    stored = [at(COLD_HZ, 0.5, session="0001")] * 3
    for launches in (1, 4):
        exact, vague = (compare([at(WARM_HZ, 0.5)] * launches, stored, ONE, knowing(0.5, e)) for e in (0.0, 0.15))
        errors = [found.changes[0].error for found in (exact, vague)]
        assert errors[1] ** 2 - errors[0] ** 2 == pytest.approx((0.15 * STEP_UP) ** 2)
        assert vague.found_by > exact.found_by + 0.003, "and in what it finds"


def test_a_case_that_the_slopes_error_leaves_open_is_not_measured_again_for_nothing():
    stored = [at(COLD_HZ, 0.5, session="0001")] * 3
    for error, suspect in ((0.05, True), (0.5, False)):
        found = compare([at(WARM_HZ, 0.5, 0.006)], stored, Rule(cases=276), knowing(0.5, error))
        assert (found.kind, found.suspect) == (Judgement.INCONCLUSIVE, suspect)


def test_on_another_unit_the_slope_changes_nothing():
    stored = [at(COLD_HZ, 0.4, session="0001")] * 3
    ours = [at(WARM_HZ, 0.4, unit="b")] * 2
    assert compare(ours, stored, ONE, knowing(0.4)) == compare(ours, stored, ONE, Scatter())


@pytest.mark.parametrize(
    ("slope", "seconds", "kind"),
    [
        (0.0, -0.003 - STEP_UP, Judgement.REGRESSED),  # all of it may be the clock's, and what is tolerated
        (0.0, -0.005 - STEP_UP, Judgement.INCONCLUSIVE),
        (1.0, -0.001, Judgement.REGRESSED),
        (1.0, -0.005, Judgement.INCONCLUSIVE),  # memory does not gain by a higher clock
    ],
)
def test_seconds_may_be_shorter_by_what_a_higher_clock_explains_and_no_more(slope, seconds, kind):
    stored = [at(COLD_HZ, slope, session="0001")] * 3
    ours = [made(seconds, cycles=0.015 + slope * STEP_UP, settled_hz=WARM_HZ, variant="flash@eager")] * 2
    assert compare(ours, stored, ONE, knowing(slope)).kind is kind


def test_at_a_lower_clock_seconds_need_not_be_longer_by_all_of_it():
    """The clock during a call may be set by power, whatever it was before."""
    stored = [at(WARM_HZ, 0.0, session="0001")] * 3
    ours = [made(0.010 - STEP_UP, cycles=0.015, settled_hz=COLD_HZ, variant="flash@eager")] * 2
    assert compare(ours, stored, ONE, knowing(0.0)).kind is Judgement.REGRESSED


@pytest.mark.parametrize("slower", [0.0, 0.03])
def test_far_below_the_baselines_clock_cycles_alone_acquit_nobody(slower):
    """Of a call that is bound by memory they fall with the clock: 3 % slower, and no more cycles than before."""
    stored = [at(COLD_HZ, 1.0, session="0001")] * 3
    ours = [at(1905e6, 1.0, slower)] * 2
    found = compare(ours, stored, ONE, Scatter())
    assert found.kind is (Judgement.UNCHANGED if slower == 0 else Judgement.INCONCLUSIVE)
    assert found.said.measure == SECONDS
