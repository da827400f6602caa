"""How cycles follow the clock that rounds start at, from launches that started at several."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace

import pytest

from attnbench.change import sides
from attnbench.clock_slope import KNOWN_WITHIN, LAUNCH_SCATTER, LEAST_ERROR, ClockSlope, clock_slope
from attnbench.model import Fingerprint, Judgement, Launch, Sample
from attnbench.readings import CYCLES, PRIOR, SECONDS, Scatter, reading, scatter
from attnbench.rule import Rule, compare

STEPS_HZ = (1965e6, 1980e6, 1995e6, 2010e6)
LAUNCH = Launch("", "", Fingerprint({}, {"unit": "a"}))


def case(rng, slope, clocks_hz=STEPS_HZ, count=3, level=0.0, noise=0.0012):
    """Log clock and log cycles of launches of one case, each at one of these clocks."""
    clocks = [math.log(rng.choice(clocks_hz)) for _ in range(count)]
    return [(x, level + slope * x + rng.gauss(0, noise)) for x in clocks]


@pytest.mark.parametrize("slope", [-0.1, 0.0, 0.4, 1.2])
def test_the_slope_is_found_within_its_stated_error(slope):
    rng = random.Random(1)
    drawn = [clock_slope(case(rng, slope) for _ in range(6)) for _ in range(300)]
    found = [one for one in drawn if one is not None]
    assert len(found) > 250
    assert statistics.fmean(one.value for one in found) == pytest.approx(slope, abs=0.02)
    assert statistics.fmean(abs(one.value - slope) < 2 * one.error for one in found) > 0.95
    assert max(one.error for one in found) <= KNOWN_WITHIN


def test_what_cases_and_sessions_differ_by_is_not_taken_for_the_clock():
    rng = random.Random(2)
    apart = [(1965e6, 0.0), (2025e6, 0.5)] * 6
    found = clock_slope(case(rng, 0.3, (hz, hz + 30e6), level=level) for hz, level in apart)
    assert found.value == pytest.approx(0.3, abs=0.15)


def test_launches_that_fit_a_line_by_luck_are_not_believed_more_than_launches_are_known_to_scatter():
    cases = [[(math.log(hz), 0.3 * math.log(hz)) for hz in STEPS_HZ[:3]] for _ in range(2)]
    width = math.sqrt(2 * sum((math.log(hz) - math.log(1980e6)) ** 2 for hz in STEPS_HZ[:3]))
    found = clock_slope(cases)
    assert found.value == pytest.approx(0.3)
    assert found.error == pytest.approx(LAUNCH_SCATTER / width, rel=0.01)
    assert found.error > LEAST_ERROR


def test_launches_that_scatter_about_one_line_make_the_slope_less_known():
    step, off = 0.015, 0.0015
    cases = [[(21.4 - step, off), (21.4, -2 * off), (21.4 + step, off)]] * 2  # a slope of 0, which no case leans from
    found = clock_slope(cases)
    assert found.value == pytest.approx(0.0, abs=1e-9)
    assert found.error == pytest.approx(math.sqrt(12 * off**2 / 3) / math.sqrt(4 * step**2))


def test_two_cases_that_disagree_are_two_witnesses():
    clocks = [math.log(hz) for hz in (1.5e9, 1.8e9, 2.1e9)]
    found = clock_slope([[(x, slope * x) for x in clocks] for slope in (0.2, 0.4)])
    assert (found.value, found.error) == (pytest.approx(0.3), pytest.approx(0.1)), "0.2 / sqrt(2) over sqrt(2)"


def test_cases_that_lean_their_own_way_make_the_slope_less_known():
    rng = random.Random(3)
    steady, leaning = (
        clock_slope(case(rng, 0.3 + (lean if number % 2 else -lean), count=12, noise=0.0002) for number in range(8))
        for lean in (0.0, 0.3)
    )
    assert steady.error < 0.07 < 0.08 < leaning.error
    assert leaning.value == pytest.approx(0.3, abs=2 * leaning.error)


def test_no_slope_is_known_better_than_gpus_agree_on_one():
    rng = random.Random(4)
    assert clock_slope(case(rng, 0.3, count=50) for _ in range(20)).error == LEAST_ERROR


@pytest.mark.parametrize(
    "clocks_hz", [(1980e6,), (1979.9e6, 1980e6, 1980.1e6)], ids=["one clock", "its readings' noise"]
)
def test_a_clock_that_does_not_move_tells_nothing(clocks_hz):
    rng = random.Random(5)
    assert clock_slope(case(rng, 0.0, clocks_hz) for _ in range(6)) is None


def test_one_case_alone_tells_nothing():
    rng = random.Random(6)
    telling = case(rng, 0.3, count=40)
    assert clock_slope([telling]) is None
    assert clock_slope([telling, case(rng, 0.3, (1980e6, 1980.2e6), count=40)]) is None
    assert clock_slope([telling, case(rng, 0.3, (1980e6, 1995e6), count=40)]) is None, "nor one and a half"
    assert clock_slope([telling, case(rng, 0.3, count=40), case(rng, 0.3, count=40)]) is not None
    assert clock_slope([]) is None
    assert clock_slope([[(1.0, 1.0)], []]) is None


def launches(record, rng, slope, clocks_hz, count=3, slower=0.0, variant="flash@eager", noise=PRIOR.launch, **changes):
    """Readings of launches that each rest on one plateau."""
    found = []
    for number in range(count):
        hz = clocks_hz[number % len(clocks_hz)]
        level = math.exp(slope * math.log(hz / 1980e6) + slower + rng.gauss(0, noise))
        cycles = [round(1e6 * level * math.exp(rng.gauss(0, 0.0015))) for _ in range(30)]
        sample = Sample(
            tuple(counted / hz for counted in cycles),
            "t",
            **{"cycles": tuple(cycles), "before_hz": (hz,) * 30, **changes},
        )
        found.append(reading(record(variant, sample=sample, launch=str(number)), LAUNCH, "0001"))
    return found


def test_stored_launches_tell_the_slopes_of_the_variants_whose_clock_moved(record):
    rng = random.Random(7)
    kinds = {"flash@eager": 0.0, "math@eager": 0.5}
    cases = [launches(record, rng, m, rng.sample(STEPS_HZ, 3), variant=name) for name, m in kinds.items()] * 6
    still = [launches(record, rng, 0.0, (1980e6,), variant="still@eager") for _ in range(6)]
    slopes = scatter([*cases, *still]).slopes
    assert set(slopes) == set(kinds)
    for name, slope in kinds.items():
        assert slopes[name].value == pytest.approx(slope, abs=0.2)


def test_what_the_clock_makes_of_cycles_is_no_noise_between_launches(record):
    rng = random.Random(12)
    cases = [launches(record, rng, 0.8, (1965e6, 1980e6, 2010e6)) for _ in range(6)]
    raw = statistics.fmean(statistics.stdev(one.estimates[CYCLES].log for one in readings) for readings in cases)
    assert raw > 0.008
    assert scatter(cases).of[CYCLES].launch < 0.002


def test_what_the_clock_makes_of_cycles_is_no_noise_between_sessions_of_a_unit(record):
    rng = random.Random(15)
    cases = []
    for _ in range(12):
        first = launches(record, rng, 1.2, (1965e6, 1980e6, 1995e6))
        second = launches(record, rng, 1.2, (1995e6, 2010e6, 2025e6))
        cases.append([*first, *(replace(one, session="0002") for one in second)])
    assert scatter(cases).of[CYCLES].occasion < 0.002


def test_the_noise_that_is_left_is_not_smaller_for_the_slope_that_was_taken_off(record):
    rng = random.Random(13)
    found = []
    for _ in range(300):
        cases = [launches(record, rng, 0.3, STEPS_HZ[:3], noise=0.002) for _ in range(4)]
        found.append(scatter(cases).of[CYCLES].launch ** 2)
    assert math.sqrt(statistics.fmean(found)) == pytest.approx(0.002, rel=0.04)


@pytest.mark.parametrize("odd", [{"unsettled": 10}, {"self_throttled": True}, {"before_hz": ()}, {"cycles": ()}])
def test_launches_that_did_not_settle_or_were_not_read_tell_no_slope(record, odd):
    rng = random.Random(8)
    assert not scatter([launches(record, rng, 0.5, STEPS_HZ[:3], **odd) for _ in range(6)]).slopes


def test_a_launch_without_cycles_beside_others_leaves_the_noise_of_its_case_as_it_is(record):
    rng = random.Random(16)
    cases = [launches(record, rng, 0.5, STEPS_HZ[:3]) for _ in range(6)]
    (odd,) = launches(record, rng, 0.5, (2010e6,), count=1, cycles=())
    found = scatter([*cases, [odd, odd]])
    assert found.slopes
    assert found.of[CYCLES] == scatter(cases).of[CYCLES]


def test_launches_are_moved_to_the_mean_clock_of_the_base(record):
    rng = random.Random(9)
    ours, base = launches(record, rng, 0.5, (2010e6,)), launches(record, rng, 0.5, (1965e6, 1980e6))
    held = sides(ours, base, Scatter(slopes={"flash@eager": ClockSlope(0.5, 0.1)}))
    moved, still, error = held.ours, held.base, held.slope_error
    hz = statistics.fmean(one.settled_hz for one in base)
    assert {one.settled_hz for one in (*moved, *still)} == {hz}
    by = math.log(2010e6 / hz)
    assert ours[0].estimates[CYCLES].log - moved[0].estimates[CYCLES].log == pytest.approx(0.5 * by)
    assert moved[0].estimates[SECONDS] == ours[0].estimates[SECONDS]
    assert error == pytest.approx(0.1 * by, rel=0.01)


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.2])
def test_a_gpu_that_rests_on_many_plateaus_is_judged_as_well_as_one_that_rests_on_one(record, slope):
    """Judged by the sessions' own estimate of the slope: nothing is convicted for its clock, and 1.5 % are found."""
    rng, rule = random.Random(10), Rule(cases=20)
    kinds = {0.0: [], 0.015: []}
    for _ in range(12):
        stored = [launches(record, rng, slope, rng.sample(STEPS_HZ, 3)) for _ in range(6)]
        noise = scatter(stored)
        for one in stored:
            for slower, found in kinds.items():
                ours = launches(record, rng, slope, rng.sample(STEPS_HZ, 2), count=2, slower=slower)
                found.append(compare(ours, one, rule, noise).kind)
    assert Judgement.REGRESSED not in kinds[0.0]
    assert kinds[0.0].count(Judgement.UNCHANGED) > 0.85 * len(kinds[0.0])
    assert kinds[0.015].count(Judgement.REGRESSED) > 0.85 * len(kinds[0.015])
