"""scripts/gate_simulation in small: the rule that ships keeps its targets, and one that is broken does not."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import gate_runs
from gate_report import ACQUITTED, FALSE, FALSE_SLOW, FOUND
from gate_runs import Cell, tally
from gate_shares import clopper_pearson, share_of, worst_tenth
from gate_worlds import WORLDS

from attnbench.verdicts.noise import NoiseModel, SdBounds, noise_model
from attnbench.verdicts.rule import Rule

SCRIPT = Path(__file__).parents[2] / "scripts" / "gate_simulation"
CASES, BASELINES = 30, 8


def tallies(world, sessions, runs, baselines=BASELINES):
    return [tally(Cell(world, CASES, sessions), number, runs, seed=1) for number in range(baselines)]


def false_runs(found):
    return share_of([(sum(map(bool, one.false)), len(one.false)) for one in found])


def injected(found, name, became):
    return share_of([(getattr(one.injected[name], became), one.injected[name].cases) for one in found])


def without_session_noise(found):
    """That noise, if sessions were taken to be equal."""
    families = {
        family: {measure: replace(noise, session=SdBounds(0.0, 0.0)) for measure, noise in measures.items()}
        for family, measures in found.families.items()
    }
    return NoiseModel(families)


# The rule that ships


@pytest.mark.parametrize(
    ("world", "sessions", "runs", "finds"),
    [
        ("assumed", 1, 50, ["finds", "+2 %"]),
        ("quiet", 4, 15, ["finds", "+1 %"]),
        ("occasions", 2, 25, ["finds"]),
        ("slow", 1, 25, ["finds"]),
    ],
)
def test_the_rule_keeps_its_targets_over_a_few_hundred_runs(world, sessions, runs, finds):
    found = tallies(world, sessions, runs)
    false = false_runs(found)
    assert false.low <= (FALSE_SLOW if world == "slow" else FALSE)
    assert world != "assumed" or false.high <= FALSE
    for name in finds:
        assert injected(found, name, "regressed").high >= FOUND, name
    for name in ("limit", "seconds"):
        assert injected(found, name, "acquitted").low <= ACQUITTED, name


# Rules that are broken


def test_an_error_rate_that_is_fifty_times_as_large_is_seen(monkeypatch):
    unlucky = replace(WORLDS["occasions"], slower=Rule(1).tolerated)
    monkeypatch.setitem(WORLDS, "unlucky", unlucky)
    monkeypatch.setattr(gate_runs, "Rule", partial(Rule, alpha=0.5))
    assert false_runs(tallies("unlucky", 1, 10, baselines=4)).low > FALSE


def test_ignored_noise_between_sessions_is_seen(monkeypatch):
    monkeypatch.setattr(gate_runs, "noise_model", lambda cases: without_session_noise(noise_model(cases)))
    assert false_runs(tallies("occasions", 1, 10, baselines=6)).low > FALSE


# The simulation itself


@pytest.mark.parametrize("world", ["assumed", "slow", "plateaus"])
def test_cases_that_are_not_compared_are_unchanged(world):
    quick, exact = (tally(Cell(world, CASES, 2), 3, 10, seed=2, exact=exact) for exact in (False, True))
    assert quick == exact


def test_a_baseline_is_the_same_whoever_draws_it():
    assert tally(Cell("drift", CASES, 1), 7, 3, seed=3) == tally(Cell("drift", CASES, 1), 7, 3, seed=3)
    assert tally(Cell("drift", CASES, 1), 7, 3, seed=3) != tally(Cell("drift", CASES, 1), 8, 3, seed=3)


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [
        (0, 369, 0.0, 0.0099472),
        (3, 100, 0.0062299, 0.0851761),
        (95, 100, 0.8871651, 0.9835681),
        (10, 10, 0.6915029, 1.0),
    ],
)
def test_interval_of_a_share_is_exact(hits, of, low, high):
    assert clopper_pearson(hits, of) == pytest.approx((low, high), abs=1e-6)


def test_runs_against_one_baseline_count_for_less_where_they_are_alike():
    alike, apart = share_of([(40, 40), *[(0, 40)] * 9]), share_of([(4, 40)] * 10)
    assert (alike.value, apart.value) == (0.1, 0.1)
    assert alike.high - alike.low > 3 * (apart.high - apart.low)


def test_worst_tenth_is_not_what_chance_makes_of_equal_baselines():
    equal = [[run == number % 40 for run in range(40)] for number in range(40)]
    assert worst_tenth(equal) < 0.05
    assert worst_tenth([*([[True] * 40] * 2), *([[False] * 40] * 18)]) == 1.0


def test_command_ends_with_1_where_a_target_is_missed_and_says_which(tmp_path):
    command = [sys.executable, SCRIPT, "--cases", "30", "--worlds", "assumed", "--sessions", "1"]
    files = ["--json", tmp_path / "found.json", "--markdown", tmp_path / "found.md"]
    done = subprocess.run(
        [*command, "--runs", "8", "--baselines", "2", *files], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert (
        "unproven: assumed, 30 cases, 1 session: false runs (95 %) 0 % (0–37), at most 1 % at the upper end"
        in done.stdout
    )
    assert "| assumed | 30 | 1 | 0 % (0–37) unproven |" in (tmp_path / "found.md").read_text()
    assert (tmp_path / "found.json").stat().st_size
