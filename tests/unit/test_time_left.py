"""The time that a run is said to have left."""

from __future__ import annotations

import pytest

from attnbench.model import Workload
from attnbench.progress import time_left_s

SHORT, LONG = Workload("short", 1, 64, 1, 16), Workload("long", 1, 128, 1, 16)


@pytest.fixture
def took(record):
    """`took(seconds, …)` is a case that took so long."""
    return lambda seconds, *about: record(*about, spent_s={"prepare": seconds / 4, "measure": seconds * 3 / 4})


def test_a_case_takes_what_the_last_one_of_its_variant_took(took, record):
    done = took(8.0, "a@eager", SHORT), took(2.0, "a@eager", SHORT), took(1.0, "b@eager", SHORT)
    waiting = record("a@eager", LONG, "not-run"), record("b@eager", LONG, "not-run")
    assert time_left_s((*done, *waiting)) == 2.0 + 1.0


def test_the_first_compilation_of_a_run_does_not_stand_for_what_follows(took, record):
    done = took(0.5, "a@eager"), took(15.0, "a@default"), took(1.0, "a@max-autotune"), took(2.0, "b@eager")
    waiting = [record(f"{name}@eager", SHORT, "not-run") for name in "cde"]
    assert time_left_s((*done, took(0.8, "b@default"), *waiting)) == 3 * 1.0
    assert time_left_s((*done, *waiting)) is None, "too few variants tell nothing of another"


def test_nothing_is_left_of_a_run_that_is_done_or_empty(took):
    assert time_left_s([took(3.0)]) == 0
    assert time_left_s([]) == 0


def test_before_the_first_case_has_ended_nothing_is_said_of_the_time(record):
    assert time_left_s([record("a@eager", SHORT, "not-run")]) is None
