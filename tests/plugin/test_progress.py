"""The line on long runs: which case, of how many, and the time left."""

from __future__ import annotations

import pytest

from attnbench import progress

TWO = ("--attn-backend=numpy", "--attn-backend=torch_flash", "--attn-mode=eager")


@pytest.fixture
def hurried(sim, monkeypatch):
    """A run that does not wait for ten seconds before it says anything."""
    monkeypatch.setattr(progress, "QUIET_S", 0.0)
    monkeypatch.setattr(progress, "BETWEEN_LINES_S", 0.0)
    return sim


def test_each_line_names_the_case_its_place_and_the_time_left_once_that_is_known(hurried):
    two = ("--attn-workload=flux-256px-t128", "--attn-workload=flux-256px-t256")
    hurried("--attn-backend=torch_flash", "--attn-mode=eager", *two).stdout.fnmatch_lines(
        [
            "attnbench: case 1 of 2, torch_flash@eager-flux-256px-t128",
            "attnbench: case 2 of 2, torch_flash@eager-flux-256px-t256, about * left",
        ]
    )


def test_a_short_run_prints_none(sim):
    sim(*TWO).stdout.no_fnmatch_line("attnbench: case *")


def test_a_quiet_run_prints_none(hurried):
    hurried(*TWO, "-q").stdout.no_fnmatch_line("attnbench: case *")
