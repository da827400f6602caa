"""The share of a call that does not follow the clock, from rounds that started at several clocks."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from attnbench.memory_share import KNOWN_WITHIN, LEAST_ERROR, MemoryShare, memory_share, moments
from attnbench.model import Fingerprint, Judgement, Launch, Sample
from attnbench.readings import CYCLES, at_one_clock, reading, scatter
from attnbench.rule import Rule, compare

STEPS_HZ = (1965e6, 1980e6, 1995e6, 2010e6)


def rounds(rng, share, clocks_hz=STEPS_HZ, count=30, level=0.0, noise=0.0015):
    """Clocks and cycles of one launch of a call of a million cycles at 1980 MHz."""
    clocks = [rng.choice(clocks_hz) for _ in range(count)]
    logs = [level + share * math.log(hz / 1980e6) + rng.gauss(0, noise) for hz in clocks]
    return clocks, [round(1e6 * math.exp(log)) for log in logs]


@pytest.mark.parametrize("share", [0.0, 0.15, 0.4, 1.0])
def test_the_share_is_found_within_its_stated_error(share):
    rng = random.Random(1)
    found = [memory_share(moments(*rounds(rng, share)) for _ in range(6)) for _ in range(200)]
    off = [(one.value - share) / one.error for one in found]
    assert statistics.fmean(one.value for one in found) == pytest.approx(share, abs=0.02)
    assert statistics.fmean(abs(z) < 2 for z in off) > 0.9


def test_what_launches_differ_by_is_not_taken_for_the_clock():
    rng = random.Random(2)
    apart = [(1965e6, 0.0), (2025e6, 0.5)] * 4
    found = [moments(*rounds(rng, 0.3, (hz, hz + 15e6), level=level)) for hz, level in apart]
    assert memory_share(found).value == pytest.approx(0.3, abs=0.15)


def test_launches_that_lean_their_own_way_make_the_share_less_known():
    """Where clock and cycles both drift while the rounds are taken, rounds are no independent witnesses."""
    rng = random.Random(11)
    steady, leaning = (
        memory_share(moments(*rounds(rng, 0.3 + rng.choice((-lean, lean)), count=60)) for _ in range(12))
        for lean in (0.0, 0.3)
    )
    assert steady.error == LEAST_ERROR < 0.06 < leaning.error
    assert leaning.value == pytest.approx(0.3, abs=2 * leaning.error)


def test_a_share_that_few_launches_tell_is_not_known():
    rng = random.Random(12)
    telling = [moments(*rounds(rng, 0.3, count=200)) for _ in range(5)]
    still = [moments(*rounds(rng, 0.3, (1980e6, 1980.2e6))) for _ in range(20)]
    assert memory_share([*telling, *still]) is not None
    assert memory_share([*telling[:3], *still]) is None


@pytest.mark.parametrize("clocks_hz", [(1980e6,), (1980e6, 1980.1e6)], ids=["one clock", "the noise of its readings"])
def test_a_clock_that_does_not_move_tells_nothing(clocks_hz):
    rng = random.Random(3)
    assert memory_share(moments(*rounds(rng, 0.0, clocks_hz)) for _ in range(6)) is None


def test_a_share_lies_between_nothing_and_all():
    rng = random.Random(4)
    for beyond, bound in ((-0.4, 0.0), (1.4, 1.0)):
        assert memory_share([moments(*rounds(rng, beyond)) for _ in range(6)]).value == bound
    assert memory_share([]) is None


@pytest.mark.parametrize(
    ("clocks_hz", "cycles"),
    [((), (1, 2, 3)), ((1e9, 1e9), (1, 2, 3)), ((1e9,), (1,)), ((0.0, 1e9), (1, 2))],
    ids=["no clock", "too few clocks", "one round", "a clock of none"],
)
def test_rounds_without_a_clock_for_each_tell_nothing(clocks_hz, cycles):
    assert moments(clocks_hz, cycles) is None


def launches(record, rng, share, clocks_hz, count=3, name="flash", slower=0.0):
    """Readings of launches that each rest on one plateau for half of their rounds, and on any for the others."""
    unit = Launch("", "", Fingerprint({}, {"unit": "a"}))
    found = []
    for number in range(count):
        clocks, cycles = rounds(rng, share, (clocks_hz[number % len(clocks_hz)],), 15, slower)
        more, further = rounds(rng, share, STEPS_HZ, 15, slower)
        pairs = zip((*clocks, *more), (*cycles, *further), strict=True)
        seconds = tuple(counted / hz for hz, counted in pairs)
        sample = Sample(seconds, "t", cycles=(*cycles, *further), before_hz=(*clocks, *more))
        found.append(reading(record(f"{name}@eager", sample=sample, launch=str(number)), unit, "0001"))
    return found


def test_stored_sessions_tell_the_shares_of_the_variants_whose_clock_moved(record):
    rng = random.Random(5)
    cases = [launches(record, rng, share, STEPS_HZ, name=name) for name, share in (("flash", 0.0), ("math", 0.4))] * 3
    memory = scatter(cases).memory
    assert set(memory) == {"flash@eager", "math@eager"}
    assert memory["flash@eager"].value == pytest.approx(0.0, abs=0.1)
    assert memory["math@eager"].value == pytest.approx(0.4, abs=0.15)
    assert max(share.error for share in memory.values()) < KNOWN_WITHIN
    still = scatter([launches(record, rng, 0.4, STEPS_HZ)[:1]])
    assert not still.memory or still.memory["flash@eager"].error > memory["flash@eager"].error


def test_what_the_clock_makes_of_cycles_is_no_noise_between_launches(record):
    rng = random.Random(6)
    cases = [launches(record, rng, 0.8, (1950e6, 1995e6, 2040e6)) for _ in range(30)]
    raw = statistics.fmean(statistics.stdev(one.estimates[CYCLES].log for one in case) for case in cases)
    assert raw > 0.005
    assert scatter(cases).of[CYCLES].launch < 0.25 * raw


def test_launches_are_moved_to_the_mean_clock_of_the_base(record):
    rng = random.Random(7)
    ours, base = launches(record, rng, 0.5, (2010e6,)), launches(record, rng, 0.5, (1965e6,))
    moved, still = at_one_clock(ours, base, MemoryShare(0.5, 0.0))
    assert len({one.settled_hz for one in (*moved, *still)}) == 1
    assert moved[0].settled_hz == statistics.fmean(one.settled_hz for one in base)
    by = math.log(ours[0].settled_hz / moved[0].settled_hz)
    assert ours[0].estimates[CYCLES].log - moved[0].estimates[CYCLES].log == pytest.approx(0.5 * by)
    assert moved[0].estimates["seconds"] == ours[0].estimates["seconds"]


def test_launches_without_cycles_or_a_clock_or_a_known_share_stay_as_they_are(record):
    ours, base = launches(record, random.Random(8), 0.5, (2010e6,)), launches(record, random.Random(9), 0.5, (1965e6,))
    unread = reading(record("flash@eager", sample=Sample((1e-3,) * 30, "t")), None)
    for share, extra in ((None, []), (MemoryShare(0.5, 0.0), [unread])):
        assert at_one_clock([*ours, *extra], base, share) == ([*ours, *extra], base)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_a_gpu_that_rests_on_many_plateaus_is_judged_as_well_as_one_that_rests_on_one(record, share):
    """Judged by the sessions' own estimate of the share: nothing is convicted for its clock, and 1.5 % are found."""
    rng, rule = random.Random(10), Rule(cases=20)
    kinds = {0.0: [], 0.015: []}
    for _ in range(10):
        stored = [launches(record, rng, share, rng.sample(STEPS_HZ, 3)) for _ in range(6)]
        noise = scatter(stored)
        for case in stored:
            for slower, found in kinds.items():
                ours = launches(record, rng, share, rng.sample(STEPS_HZ, 2), count=2, slower=slower)
                found.append(compare(ours, case, rule, noise).kind)
    assert kinds[0.0].count(Judgement.UNCHANGED) > 0.9 * len(kinds[0.0])
    assert Judgement.REGRESSED not in kinds[0.0]
    assert kinds[0.015].count(Judgement.REGRESSED) > 0.9 * len(kinds[0.015])
