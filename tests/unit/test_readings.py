"""Launches as readings: what a median is worth, and how far readings of the same case scatter."""

from __future__ import annotations

import math
import random
import statistics
from itertools import count

import pytest

from attnbench.model import Fingerprint, Launch, Sample
from attnbench.readings import CYCLES, PRIOR, SECONDS, Estimate, Noise, Reading, reading, scatter

ROUNDS = tuple(1e-3 + 1e-6 * i for i in range(30))
LAUNCHES = count()


def launch(unit):
    return Launch("0123456789ab", "2026-01-02T03:04:05+00:00", Fingerprint({}, {"unit": unit}))


def made(value, session="0001", unit="a", error=0.0, **changes):
    """A reading whose estimates are `value`."""
    estimates = dict.fromkeys((SECONDS, CYCLES), Estimate(value, error))
    fields = {"launch": str(next(LAUNCHES)), "estimates": estimates, "resolution": 0.0, "unsettled": False}
    return Reading(**{"session": session, "unit": unit, "self_throttled": False, **fields, **changes})


def test_a_reading_is_the_logarithm_of_the_mean_of_all_but_the_outer_rounds(record):
    found = reading(record(sample=Sample((9e-3, 1e-3, *[2e-3] * 4, *[4e-3] * 4), "t")), None)
    assert found.estimates[SECONDS].log == pytest.approx(math.log(3e-3))
    assert CYCLES not in found.estimates


def test_the_stated_error_is_how_readings_scatter(record):
    rng = random.Random(1)
    found = [
        reading(record(sample=Sample(tuple(1e-3 * (1 + rng.gauss(0, 0.0015)) for _ in range(30)), "t")), None)
        for _ in range(500)
    ]
    estimates = [one.estimates[SECONDS] for one in found]
    scattered = statistics.stdev(one.log for one in estimates)
    stated = math.sqrt(statistics.fmean(one.error**2 for one in estimates))
    assert stated == pytest.approx(scattered, rel=0.1)


def test_rounds_with_two_modes_do_not_jump_between_them(record):
    few, many = ((1e-3,) * low + (1.007e-3,) * (30 - low) for low in (14, 16))
    logs = [reading(record(sample=Sample(rounds, "t")), None).estimates[SECONDS].log for rounds in (few, many)]
    assert abs(logs[0] - logs[1]) < 0.001


def test_rounds_far_off_do_not_raise_the_error(record):
    quiet = reading(record(sample=Sample(ROUNDS, "t")), None).estimates[SECONDS]
    disturbed = reading(record(sample=Sample((*ROUNDS[:27], 5e-3, 5e-3, 5e-3), "t")), None).estimates[SECONDS]
    assert disturbed.error == pytest.approx(quiet.error, rel=0.2)


@pytest.mark.parametrize("rounds", [1, 2])
def test_fewer_than_three_rounds_have_no_known_error(record, rounds):
    assert reading(record(sample=Sample(ROUNDS[:rounds], "t")), None).estimates[SECONDS].error == math.inf


def test_cycles_are_read_where_every_round_has_them(record):
    cycles = tuple(range(1000, 1030))
    found = reading(record(sample=Sample(ROUNDS, "t", cycles=cycles)), None)
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
    found = reading(record(sample=Sample(ROUNDS, "t", **odd)), None)
    assert set(found.estimates) == {SECONDS}


def test_the_resolution_is_a_share_of_the_median(record):
    found = reading(record(sample=Sample((1e-3, 1e-3, 1.001e-3, 1.01e-3), "t")), None)
    assert found.resolution == pytest.approx(1e-6 / 1.0005e-3)
    assert reading(record(sample=Sample((1e-3,) * 30, "t")), None).resolution == 0.0


@pytest.mark.parametrize(("rounds", "unsettled"), [(0, False), (3, False), (4, True)])
def test_more_than_a_tenth_of_the_rounds_below_the_ceiling_is_unsettled(record, rounds, unsettled):
    assert reading(record(sample=Sample(ROUNDS, "t", unsettled=rounds)), None).unsettled is unsettled


def test_the_unit_is_that_of_its_launch_and_may_be_unknown(record):
    assert reading(record(), launch("abc"), "nvidia-h200/0001_x.json").unit == "abc"
    assert reading(record(), launch(None)).unit is None
    assert reading(record(), None).unit is None


def test_what_was_not_measured_cannot_be_read(record):
    with pytest.raises(ValueError, match="status 'error' has no sample to read"):
        reading(record(status="error"), None)


def test_nothing_stored_scatters_as_assumed():
    assert scatter([]).of == {SECONDS: PRIOR, CYCLES: PRIOR}


def test_quiet_sessions_do_not_lower_what_is_assumed():
    assert scatter([[made(0.0) for _ in range(5)] for _ in range(20)]).of[SECONDS] == PRIOR


def drawn(rng, noise, sessions, units, launches=3):
    """Readings of one case: every unit, session and launch adds its own share."""
    found = []
    for unit in range(units):
        of_unit = rng.gauss(0, noise.unit)
        for session in range(sessions):
            of_session = of_unit + rng.gauss(0, noise.occasion)
            name = f"{unit}-{session}"
            found += [made(of_session + rng.gauss(0, noise.launch), name, str(unit)) for _ in range(launches)]
    return found


def test_each_component_of_the_scatter_is_found():
    rng = random.Random(3)
    noise = Noise(launch=0.002, occasion=0.01, unit=0.05)
    found = scatter([drawn(rng, noise, sessions=3, units=4) for _ in range(200)]).of[CYCLES]
    assert found.launch == pytest.approx(noise.launch, rel=0.1)
    assert found.occasion == pytest.approx(noise.occasion, rel=0.15)
    assert found.unit == pytest.approx(noise.unit, rel=0.15)


def test_what_one_session_of_one_unit_cannot_tell_is_as_assumed():
    rng = random.Random(4)
    found = scatter([drawn(rng, Noise(0.002, 0.0, 0.0), sessions=1, units=1) for _ in range(100)]).of[SECONDS]
    assert found.launch == pytest.approx(0.002, rel=0.1)
    assert (found.occasion, found.unit) == (PRIOR.occasion, PRIOR.unit)


def test_what_the_rounds_explain_is_not_counted_again():
    rng = random.Random(5)
    cases = [[made(rng.gauss(0, 0.002), error=0.002) for _ in range(3)] for _ in range(200)]
    assert scatter(cases).of[SECONDS].launch < 0.001
    apart = [[made(rng.gauss(0, 0.002), error=0.0) for _ in range(3)] for _ in range(200)]
    assert scatter(apart).of[SECONDS].launch == pytest.approx(0.002, rel=0.1)


def test_calls_that_lower_their_own_clock_do_not_widen_the_others():
    rng = random.Random(6)
    long = [[made(rng.gauss(0, 0.01), self_throttled=True) for _ in range(3)] for _ in range(50)]
    assert scatter(long).of[SECONDS] == PRIOR


def test_readings_of_too_few_rounds_tell_nothing():
    assert scatter([[made(0.0, error=math.inf), made(1.0, error=math.inf)]]).of[SECONDS] == PRIOR


def test_a_measure_that_only_some_launches_have_is_pooled_over_those():
    without = made(0.5, estimates={SECONDS: Estimate(0.0, 0.0)})
    found = scatter([[made(0.0), made(0.0), without]])
    assert found.of == {SECONDS: PRIOR, CYCLES: PRIOR}
