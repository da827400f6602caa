"""The time that a run is said to have left."""

from __future__ import annotations

from attnbench.plugin.progress import time_left_s


def test_a_case_takes_what_the_last_one_of_its_variant_took():
    assert time_left_s({"a@eager": 2.0, "b@eager": 1.0}, ["a@eager", "b@eager", "b@eager"]) == 2.0 + 2 * 1.0


def test_one_case_tells_the_others_of_its_variant():
    assert time_left_s({"a@max-autotune": 110.0}, ["a@max-autotune"] * 5) == 550.0


FIVE = {"a@eager": 0.5, "a@default": 15.0, "a@max-autotune": 1.0, "b@eager": 2.0, "b@default": 0.5}


def test_the_first_compilation_of_a_run_does_not_stand_for_what_follows():
    usual_s = (0.5 + 2.0 + 1.0 + 2.0 + 0.5) / 5
    assert time_left_s(FIVE, ["c@eager", "d@eager"]) == 2 * usual_s


def test_too_few_variants_tell_nothing_of_another():
    del (four := dict(FIVE))["b@default"]
    assert time_left_s(four, ["c@eager"]) is None
    assert time_left_s({}, ["c@eager"]) is None, "nor does none, before the first case has ended"


def test_that_most_cases_were_skipped_does_not_make_the_others_take_no_time():
    skipped = {f"s{n}@eager": 0.0 for n in range(20)}
    assert time_left_s({**FIVE, **skipped}, ["c@eager"] * 5) == 5 * 6.0 / 25


def test_nothing_is_left_of_a_run_that_is_done_or_empty():
    assert time_left_s({"a@eager": 3.0}, []) == 0
    assert time_left_s({}, []) == 0
