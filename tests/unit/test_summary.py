"""Launches as summaries: what their rounds tell, and how far launches of the same case differ by noise."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace
from itertools import count

import pytest

from attnbench.model import Fingerprint, Launch, Sample
from attnbench.verdicts.memory_share import COMPUTING, OTHER, memory_share_of
from attnbench.verdicts.noise import ASSUMED, LAUNCH, LAUNCH_FREEDOM, SESSION, UNIT, NoiseModel, noise_model
from attnbench.verdicts.rule import STEP
from attnbench.verdicts.summary import (
    CLOCK_RATIO,
    CYCLES,
    SECONDS,
    Estimate,
    SampleSummary,
    estimate_of,
    summarise,
)

ROUNDS = tuple(1e-3 + 1e-6 * i for i in range(30))
LAUNCHES = count()


def launch(unit):
    return Launch("0123456789ab", "2026-01-02T03:04:05+00:00", Fingerprint({}, {"unit": unit}))


def made(value, session="0001", unit="a", error=0.0, **changes):
    """A summary whose estimates are `value`."""
    estimates = dict.fromkeys((SECONDS, CYCLES), Estimate(value, error))
    fields = {"launch": str(next(LAUNCHES)), "estimates": estimates, "resolution": 0.0, "unsettled": False}
    return SampleSummary(**{"session": session, "unit": unit, "self_throttled": False, **fields, **changes})


def test_a_summary_is_the_logarithm_of_the_mean_of_all_but_the_outer_rounds(record):
    found = summarise(record(sample=Sample((9e-3, 1e-3, *[2e-3] * 4, *[4e-3] * 4), "t")), None)
    assert found.estimates[SECONDS].log == pytest.approx(math.log(3e-3))
    assert CYCLES not in found.estimates


def test_the_stated_error_is_how_summaries_scatter(record):
    rng = random.Random(1)
    found = [
        summarise(record(sample=Sample(tuple(1e-3 * (1 + rng.gauss(0, 0.0015)) for _ in range(30)), "t")), None)
        for _ in range(500)
    ]
    estimates = [one.estimates[SECONDS] for one in found]
    scattered = statistics.stdev(one.log for one in estimates)
    stated = math.sqrt(statistics.fmean(one.error**2 for one in estimates))
    assert stated == pytest.approx(scattered, rel=0.1)


def test_rounds_with_two_modes_do_not_jump_between_them(record):
    few, many = ((1e-3,) * low + (1.007e-3,) * (30 - low) for low in (14, 16))
    logs = [summarise(record(sample=Sample(rounds, "t")), None).estimates[SECONDS].log for rounds in (few, many)]
    assert abs(logs[0] - logs[1]) < 0.001


def test_rounds_far_off_do_not_raise_the_error(record):
    quiet = summarise(record(sample=Sample(ROUNDS, "t")), None).estimates[SECONDS]
    disturbed = summarise(record(sample=Sample((*ROUNDS[:27], 5e-3, 5e-3, 5e-3), "t")), None).estimates[SECONDS]
    assert disturbed.error == pytest.approx(quiet.error, rel=0.2)


@pytest.mark.parametrize("rounds", [1, 2])
def test_fewer_than_three_rounds_have_no_known_error(record, rounds):
    assert summarise(record(sample=Sample(ROUNDS[:rounds], "t")), None).estimates[SECONDS].error == math.inf


def test_cycles_are_read_where_every_round_has_them(record):
    cycles = tuple(range(1000, 1030))
    found = summarise(record(sample=Sample(ROUNDS, "t", cycles=cycles)), None)
    assert found.estimates[CYCLES].log == math.log(statistics.median(cycles))


@pytest.mark.parametrize(
    "odd",
    [
        {"cycles": (*range(1000, 1029), None)},
        {"cycles": (*range(1000, 1029), 0)},
        {"cycles": tuple(range(1000, 1029))},
        {"cycles": tuple(range(1000, 1030)), "synchronising": True},
    ],
    ids=["one not counted", "one of none", "one too few", "with the host's work in them"],
)
def test_cycles_that_do_not_tell_are_left_out(record, odd):
    found = summarise(record(sample=Sample(ROUNDS, "t", **odd)), None)
    assert set(found.estimates) == {SECONDS}


def test_the_resolution_is_a_share_of_the_median(record):
    found = summarise(record(sample=Sample((1e-3, 1e-3, 1.001e-3, 1.01e-3), "t")), None)
    assert found.resolution == pytest.approx(1e-6 / 1.0005e-3)
    assert summarise(record(sample=Sample((1e-3,) * 30, "t")), None).resolution == 0.0


@pytest.mark.parametrize(("rounds", "unsettled"), [(0, False), (3, False), (4, True)])
def test_more_than_a_tenth_of_the_rounds_below_the_ceiling_is_unsettled(record, rounds, unsettled):
    assert summarise(record(sample=Sample(ROUNDS, "t", unsettled=rounds)), None).unsettled is unsettled


def test_the_unit_is_that_of_its_launch_and_may_be_unknown(record):
    assert summarise(record(), launch("abc"), "nvidia-h200/0001_x.json").unit == "abc"
    assert summarise(record(), launch(None)).unit is None
    assert summarise(record(), None).unit is None


def test_what_was_not_measured_cannot_be_summarised(record):
    with pytest.raises(ValueError, match="status 'error' has no sample to summarise"):
        summarise(record(status="error"), None)


def test_the_family_is_that_of_the_record(record):
    assert summarise(record(family="flash-attn"), None).family == "flash-attn"


# What launches, sessions and units differ by


def noise(cases, measure=SECONDS, family=""):
    return noise_model(cases).sd(family, measure)


def test_nothing_stored_differs_as_assumed():
    assert {m: NoiseModel().sd("any", m) for m in ASSUMED} == ASSUMED
    assert noise_model([]) == noise_model([[]]) == NoiseModel()


def drawn(rng, launch=0.001, family=0.0, own=0.0, cases=20, sessions=4, launches=3, unit="a", **changes):
    """Cases of one family, in sessions of one unit: sessions add what all cases share, and what is each case's own."""
    shared = [rng.gauss(0, family) for _ in range(sessions)]
    found = []
    for _ in range(cases):
        logs = [(str(n), shared[n] + rng.gauss(0, own)) for n in range(sessions)]
        found.append([made(at + rng.gauss(0, launch), n, unit, **changes) for n, at in logs for _ in range(launches)])
    return found


def mean_square(values):
    return math.sqrt(statistics.fmean(value**2 for value in values))


@pytest.mark.parametrize(("family", "own"), [(0.003, 0.0), (0.0, 0.003), (0.002, 0.002)], ids=["shared", "own", "both"])
@pytest.mark.parametrize(("cases", "sessions"), [(1, 3), (6, 4), (30, 3)])
def test_what_sessions_differ_by_is_found_without_what_launches_leave(family, own, cases, sessions):
    rng = random.Random(3)
    found = [noise(drawn(rng, 0.002, family, own, cases=cases, sessions=sessions)).session.seen for _ in range(100)]
    assert mean_square(found) == pytest.approx(math.hypot(family, own), rel=0.12)


@pytest.mark.parametrize(
    ("cases", "sessions", "launch"),
    [(1, 4, 0.0005), (6, 4, 0.0005), (20, 3, 0.0005), (8, 6, 0.0005), (6, 4, 0.0016), (12, 4, 0.0016)],
)
def test_the_bound_is_above_the_truth_in_nine_of_ten_baselines_and_more_when_it_acquits(cases, sessions, launch):
    """By the sessions' degrees of freedom, however many cases show the same sessions, and however loud launches are."""
    rng, truth = random.Random(4), 0.0008
    found = [noise(drawn(rng, launch, truth, cases=cases, sessions=sessions)).session for _ in range(300)]
    assert {one.freedom for one in found} == {sessions - 1}
    assert 0.85 <= statistics.fmean(one.convict >= truth for one in found) <= 0.96
    assert statistics.fmean(one.acquit >= truth for one in found) >= 0.94


def test_launch_noise_is_taken_off_the_estimate_between_sessions():
    """Three launches that differ by 0.2 % leave 0.12 % in the mean of a session, and sessions that do not differ."""
    rng = random.Random(4)
    found = [noise(drawn(rng, 0.002, cases=40)).session for _ in range(30)]
    assert mean_square([one.seen for one in found]) < 0.0006
    assert mean_square([one.convict for one in found]) < 0.0008


def test_sessions_that_agree_are_believed_by_their_number():
    for sessions, assumed in ((1, True), (2, True), (3, False), (4, False)):
        found = noise(drawn(random.Random(5), 0.0003, 0.0003, sessions=sessions)).session
        assert found.assumed is assumed
        assert (found.convict == SESSION.convict) is assumed


def test_sessions_that_differ_count_by_what_they_show():
    found = noise(drawn(random.Random(6), family=0.02, sessions=2)).session
    assert found.convict == found.acquit == found.seen > 0.005
    assert not found.assumed


def test_a_case_in_few_launches_never_looks_quiet():
    found = noise([[made(0.0), made(0.0)]])
    assert found.launch > 0.9 * LAUNCH
    many = noise([[made(0.0), made(0.0)] for _ in range(200)])
    assert many.launch < 0.5 * LAUNCH


def test_what_launches_differ_by_is_pooled_over_the_cases_of_a_family():
    rng = random.Random(7)
    quiet, loud = (drawn(rng, launch, sessions=1, cases=60, family=0.0) for launch in (0.0008, 0.005))
    loud = [[SampleSummary(**{**vars(one), "family": "loud"}) for one in case] for case in loud]
    found = noise_model([*quiet, *loud])
    assert found.sd("", SECONDS).launch == pytest.approx(0.0008, rel=0.15)
    assert found.sd("loud", SECONDS).launch == pytest.approx(0.005, rel=0.1)
    assert found.sd("another", SECONDS) == ASSUMED[SECONDS]


def test_what_one_session_of_one_unit_cannot_tell_is_as_assumed():
    found = noise(drawn(random.Random(8), 0.002, sessions=1))
    assert (found.session, found.unit) == (SESSION, UNIT)


def test_sessions_of_units_that_could_not_be_read_are_not_of_one():
    assert noise(drawn(random.Random(8), family=0.01, unit=None)).session == SESSION


def test_cases_that_some_sessions_lack_count_in_those_that_hold_them():
    rng, found = random.Random(9), []
    for _ in range(300):
        whole = drawn(rng, 0.001, 0.003, cases=8, sessions=4, launches=4)
        parts = [
            [one for one in case if int(one.session) != number % 5 and (one.session != "2" or rng.random() < 0.7)]
            for number, case in enumerate(whole)
        ]
        found.append(noise(parts).session)
    assert {one.freedom for one in found} == {3}
    assert mean_square([one.seen for one in found]) == pytest.approx(0.003, rel=0.1)


def test_sessions_without_a_case_in_common_tell_nothing_of_each_other():
    first, second = (drawn(random.Random(n), family=0.01, sessions=1, cases=3) for n in (1, 2))
    second = [[SampleSummary(**{**vars(one), "session": "1"}) for one in case] for case in second]
    assert noise([*first, *second]).session == SESSION


def test_what_units_differ_by_is_found():
    rng, found = random.Random(10), []
    for _ in range(150):
        shifts = [rng.gauss(0, 0.02) for _ in range(4)]
        cases = [
            [made(shift + rng.gauss(0, 0.001), f"{n}", f"{n}") for n, shift in enumerate(shifts) for _ in range(3)]
            for _ in range(5)
        ]
        found.append(noise(cases).unit)
    assert {one.freedom for one in found} == {3}
    assert mean_square([one.seen for one in found]) == pytest.approx(0.02, rel=0.1)


def test_what_the_rounds_explain_is_not_counted_again():
    rng = random.Random(11)
    cases = [[made(rng.gauss(0, 0.002), error=0.002) for _ in range(3)] for _ in range(200)]
    assert noise(cases).launch < 0.0008
    apart = [[made(rng.gauss(0, 0.002), error=0.0) for _ in range(3)] for _ in range(200)]
    assert noise(apart).launch == pytest.approx(0.002, rel=0.1)


def test_one_slow_launch_of_three_is_no_noise_of_the_others():
    cases = drawn(random.Random(12), 0.0005, cases=20, sessions=3)
    for case in cases:
        case[0] = made(0.07, "0")
    found = noise(cases)
    assert found.launch < LAUNCH
    assert found.session.seen < 0.001


def test_calls_that_lower_their_own_clock_do_not_widen_the_others():
    rng = random.Random(13)
    long = [[made(rng.gauss(0, 0.01), self_throttled=True) for _ in range(3)] for _ in range(50)]
    assert noise(long) == ASSUMED[SECONDS]


def test_launches_of_too_few_rounds_tell_nothing():
    assert noise([[made(0.0, error=math.inf), made(1.0, error=math.inf)]]) == ASSUMED[SECONDS]


def test_a_measure_that_only_some_launches_have_is_pooled_over_those():
    without = made(0.5, estimates={SECONDS: Estimate(0.0, 0.0)})
    cases = [[made(0.0), made(0.0), without]]
    freedom = [LAUNCH_FREEDOM / noise(cases, m).launch ** 2 * LAUNCH**2 for m in (SECONDS, CYCLES)]
    assert freedom == [pytest.approx(LAUNCH_FREEDOM + 2), pytest.approx(LAUNCH_FREEDOM + 1)]


# The clock


def clocked(during, load, memory=0.0, session="0"):
    """A launch at this clock (in logarithms about 1980 MHz): `load` is what the call takes off it."""
    hz = math.log(1980e6)
    cycles = 14.0 + memory * during
    estimates = {CYCLES: Estimate(cycles, 0.0), SECONDS: Estimate(cycles - during - hz, 0.0)}
    return made(0.0, session, estimates=estimates, settled_hz=math.exp(hz + during - load))


def replaced(one, by=0.0, error=0.0):
    """The launch with another error, slower by this in cycles and seconds alike."""
    return replace(one, estimates={name: Estimate(known.log + by, error) for name, known in one.estimates.items()})


def test_a_call_that_runs_well_below_its_start_clock_computes():
    assert memory_share_of([clocked(0.0, math.log(0.9))] * 3) == COMPUTING
    assert memory_share_of([clocked(0.0, 0.0)] * 3) == OTHER
    assert memory_share_of([clocked(0.0, math.log(0.9)), clocked(0.0, -0.001)]) == OTHER
    assert memory_share_of([made(0.0)]) == OTHER, "whose start clock nobody read"


@pytest.mark.parametrize("memory", [0.0, 0.3, 1.0])
def test_launches_at_several_start_clocks_show_how_far_their_cycles_follow(memory):
    """Sessions do not: they differ for other reasons, here by 1 %."""
    launches = [
        replaced(clocked(risen, 0.0, memory, session), by=float(session) * 0.01)
        for session in "01"
        for risen in (0.0, STEP, 2 * STEP, STEP)
    ]
    found = memory_share_of(launches)
    assert found.value == pytest.approx(memory, abs=0.03)
    assert found.sd == pytest.approx(0.07), "never better than that"
    assert memory_share_of(launches[:2]).sd > 0.08, "by their number"


def test_start_clocks_of_one_plateau_show_nothing():
    launches = [clocked(risen, 0.0, 0.0) for risen in (0.0, 0.0005, 0.001, 0.002)]
    assert memory_share_of(launches) == OTHER


def test_a_launch_that_is_slow_for_another_reason_moves_the_share_by_two_deviations_at_most():
    launches = [clocked(0.0, 0.0), replaced(clocked(STEP, 0.0), by=0.08)]
    assert memory_share_of(launches).value == pytest.approx(OTHER.value + 2 * OTHER.sd)


def test_launches_of_too_few_rounds_show_no_share():
    launches = [replaced(clocked(risen, 0.0), error=math.inf) for risen in (0.0, STEP)]
    assert memory_share_of(launches) == OTHER


@pytest.mark.parametrize(("memory", "load"), [(COMPUTING.value, math.log(0.9)), (OTHER.value, 0.0)])
def test_what_the_clock_makes_of_cycles_is_no_noise(memory, load):
    rng = random.Random(14)
    cases = [[clocked(rng.gauss(0, 0.01), load, memory, session) for session in "000111222"] for _ in range(20)]
    found = noise(cases, CYCLES)
    assert found.launch < LAUNCH
    assert found.session.seen < 1e-6
    assert estimate_of(cases[0][0], CLOCK_RATIO).log == pytest.approx(load)


def test_steps_of_the_clock_between_sessions_are_allowed_for_and_no_noise_of_the_clock():
    cases = [[clocked(0.0, load, session=s) for s, load in zip("01", (-0.1, -0.11), strict=True)] for _ in range(9)]
    assert noise(cases, CLOCK_RATIO).session.convict == 0.0
