"""Tolerances: what is allowed, and what is said when it is exceeded."""

import math
import re

import pytest

from attnbench.backends.tolerances import SIXTEEN_BIT, TOLERANCES, Bound, Tolerance, allowed, violations

METRICS = ("max_abs", "mean_abs", "mse", "rel_l1", "rel_l2")


def test_the_16_bit_tolerance_doubles_plain_rounding_and_fused_errors(error):
    plain, fused = error(max_abs=0.01, rel_l2=0.02), error(max_abs=0.5, rel_l2=0.002)
    limits = allowed(SIXTEEN_BIT, "randn", plain, fused, rounding=0.004, magnitude=1.0)
    assert limits == pytest.approx({"max_abs": 2 * 0.01 + 2 * 0.004, "rel_l2": 2 * 0.002})


def test_every_tolerance_has_a_reason_and_a_source_and_is_found_by_its_name():
    assert all(t.why and t.source and (t.bounds or t.numbers) and TOLERANCES[t.name] is t for t in TOLERANCES.values())


@pytest.mark.parametrize("metric", METRICS)
def test_an_error_at_its_limit_is_accepted_and_one_above_it_is_not(error, metric):
    limits = allowed(
        Tolerance("t", "w", "s", (Bound(metric, plain=2.0),)), "randn", error(**{metric: 0.5}), error(), 0.0, 1.0
    )
    assert violations(error(**{metric: 1.0}), limits, "randn") == ()
    (reason,) = violations(error(**{metric: math.nextafter(1.0, 2.0)}), limits, "randn")
    assert reason.code == "tolerance"


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("limit", [0.0, 1.0, math.inf, math.nan])
def test_a_metric_that_is_not_a_number_is_a_violation_whatever_the_limit(error, metric, limit):
    (reason,) = violations(error(**{metric: math.nan}), {metric: limit}, "randn")
    assert f"{metric} found nan, allowed {limit:.3g} on randn inputs" in reason.text


def test_a_limit_that_is_not_a_number_allows_nothing(error):
    assert len(violations(error(max_abs=0.0), {"max_abs": math.nan}, "randn")) == 1


def test_absolute_numbers_are_those_of_the_distribution_beside_what_is_relative(error):
    numbers = {"randn": {"rel_l1": 0.1}, "outlier-k": {"rel_l1": 0.2, "cosine": 0.9}}
    tolerance = Tolerance("t", "w", "s", (Bound("max_abs", fused=3.0),), numbers)
    plain, fused = error(max_abs=9.0), error(max_abs=0.5)
    assert allowed(tolerance, "randn", plain, fused, 0.0, 1.0) == {"max_abs": 1.5, "rel_l1": 0.1}
    assert allowed(tolerance, "outlier-k", plain, fused, 0.0, 1.0) == {"max_abs": 1.5, "rel_l1": 0.2, "cosine": 0.9}
    with pytest.raises(KeyError):  # nothing is allowed where nothing is stated
        allowed(tolerance, "of a later version", plain, fused, 0.0, 1.0)


def test_of_the_cosine_the_smallest_is_stated(error):
    limits = {"cosine": 0.9998}
    assert violations(error(cosine=0.9998), limits, "randn") == ()
    assert violations(error(cosine=1.0), limits, "randn") == ()
    (reason,) = violations(error(cosine=0.99954), limits, "randn")
    assert reason.text.startswith("cosine found 0.99954, needed 0.99980 or more on randn inputs; worst element at [")
    for found, limit in ((math.nan, 0.9), (math.nan, math.nan), (1.0, math.nan), (-1.0, 0.9)):
        assert len(violations(error(cosine=found), {"cosine": limit}, "randn")) == 1


def test_a_cosine_is_ordered_by_how_far_it_is_from_one(error):
    found = error(cosine=0.997, rel_l1=0.04, rel_l2=0.08)  # 3, 2 and 4 times what is allowed
    limits = {"cosine": 0.999, "rel_l1": 0.02, "rel_l2": 0.02}
    said = [reason.text for reason in violations(found, limits, "randn")]
    assert [text.split()[0] for text in said] == ["rel_l2", "cosine", "rel_l1"]
    assert ["worst element" in text for text in said] == [True, False, False]  # said once


def test_output_that_is_not_finite_is_a_violation_even_with_perfect_metrics(error):
    perfect = error(**dict.fromkeys(METRICS, 0.0), nonfinite=3, worst_found=None)
    (reason,) = violations(perfect, dict.fromkeys(METRICS, math.inf), "randn")
    assert reason.code == "nonfinite"
    assert reason.text == (
        "3 elements are NaN or Inf on randn inputs, the first at [0, 3, 1, 7] of [batch, seq, heads, head_dim]"
    )


def test_of_memory_that_held_nan_before_it_is_asked_whether_it_was_written(error):
    (reason,) = violations(error(nonfinite=3, worst_found=None), {}, "randn", poisoned=True)
    assert reason.text.endswith(
        "of [batch, seq, heads, head_dim]; its memory held NaN before the call: was it written?"
    )


def test_the_worst_is_said_first(error):
    limits = {"mse": 1.0, "rel_l1": 1.0, "rel_l2": 1.0, "max_abs": 0.0, "mean_abs": 1.0}
    found = error(mse=2.0, rel_l1=0.5, rel_l2=40.0, max_abs=1e-9, mean_abs=math.nan, nonfinite=1)
    codes = [reason.text.split(" ")[0] for reason in violations(found, limits, "randn")]
    assert codes[0] == "1"  # element that is NaN
    assert set(codes[1:3]) == {"max_abs", "mean_abs"}  # nothing was allowed; not a number
    assert codes[3:] == ["rel_l2", "mse"]


def test_not_a_number_among_violations_does_not_disturb_their_order(error):
    limits = dict.fromkeys(METRICS, 1.0)
    for position in METRICS:
        sizes = {metric: 2.0 + at for at, metric in enumerate(METRICS)} | {position: math.nan}
        said = [reason.text.split(" ")[0] for reason in violations(error(**sizes), limits, "randn")]
        rest = [metric for metric in reversed(METRICS) if metric != position]
        assert said == [position, *rest]


def test_a_violation_says_where_the_worst_element_is_and_what_was_there(error):
    (reason,) = violations(error(max_abs=0.25), {"max_abs": 0.1}, "randn")
    assert reason.text == (
        "max_abs found 0.25, allowed 0.1 on randn inputs; worst element at [0, 3, 1, 7] of "
        "[batch, seq, heads, head_dim]: 0.5 instead of 0.25"
    )


@pytest.mark.parametrize(
    ("found", "limit"), [(1.2e-07, 1.1999e-07), (0.5, 0.4999999999999999), (0.08, 0.08 * (1 - 1e-16))]
)
def test_what_was_found_is_never_said_to_be_what_is_allowed(error, found, limit):
    for reason in violations(error(max_abs=found), {"max_abs": limit}, "randn"):
        said = re.search(r"max_abs found (\S+), allowed (\S+) on", reason.text)
        assert said[1] != said[2]
    for reason in violations(error(cosine=1 - found), {"cosine": math.nextafter(1 - found, 1)}, "randn"):
        said = re.search(r"cosine found (\S+), needed (\S+) or more", reason.text)
        assert said[1] != said[2]


def test_the_worst_element_is_told_apart_from_what_it_should_be(error):
    (reason,) = violations(error(max_abs=1.0, worst_found=-2.73631, worst_expected=-2.73630), {"max_abs": 0.5}, "randn")
    assert reason.text.endswith("-2.73631 instead of -2.7363")


@pytest.mark.parametrize("name", ["16-bit", "16-bit-unfused"])
def test_what_float32_rounds_is_always_allowed(error, name):
    exact = error(**dict.fromkeys(METRICS, 0.0))
    limits = allowed(TOLERANCES[name], "randn", exact, exact, 0.0, magnitude=4.0)
    assert limits == {"max_abs": 128 * 4 * 2.0**-23, "rel_l2": 16 * 2.0**-23}
    coarse = error(**dict.fromkeys(METRICS, 1e-3))
    limits = allowed(TOLERANCES[name], "randn", coarse, coarse, 1e-3, magnitude=4.0)
    assert limits == {"max_abs": 4e-3, "rel_l2": {"16-bit": 2e-3, "16-bit-unfused": 1.25e-3}[name]}


def test_gradients_are_allowed_three_times_plain_and_three_times_fused(error):
    plain, fused = error(max_abs=0.01, rel_l2=0.02), error(max_abs=0.011, rel_l2=0.002)
    limits = allowed(SIXTEEN_BIT, "randn", plain, fused, 0.004, 1.0, "dk")
    assert limits == pytest.approx({"max_abs": 3 * 0.01 + 2 * 0.004, "rel_l2": 3 * 0.002})
    exact_by_chance = error(max_abs=0.0)
    assert allowed(SIXTEEN_BIT, "randn", exact_by_chance, fused, 0.0, 1.0, "dk")["max_abs"] == pytest.approx(3 * 0.011)


def test_what_cancels_in_a_gradient_widens_what_float32_rounds(error):
    exact = error(**dict.fromkeys(METRICS, 0.0))
    limits = allowed(SIXTEEN_BIT, "randn", exact, exact, 0.0, 4.0, "dq", cancellation=10.0)
    assert limits == {"max_abs": 128 * 4 * 2.0**-23, "rel_l2": 64 * 10 * 2.0**-23}


def test_a_class_of_quantised_kernels_states_nothing_of_gradients(error):
    for tolerance in TOLERANCES.values():
        if tolerance.numbers:
            with pytest.raises(ValueError, match="states nothing of gradients, found dv"):
                allowed(tolerance, "randn", error(), error(), 0.0, 1.0, "dv")


def test_a_violation_names_the_gradient(error):
    (reason,) = violations(error(max_abs=0.25), {"max_abs": 0.1}, "randn", "dk")
    assert reason.text.startswith("max_abs found 0.25, allowed 0.1 in dk on randn inputs; worst element")
