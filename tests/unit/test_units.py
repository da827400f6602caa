"""Figures for people, and the statistics that they come from."""

import random

import pytest

from attnbench import stats, units


@pytest.mark.parametrize(
    ("value_s", "shown"),
    [
        (0.0004077, "0.4077"),
        (0.05231, "52.31"),
        (0.00999996, "10.00"),
        (0.4, "400.0"),
        (12.3456, "12346"),
        (4e-9, "0.000004000"),
    ],
)
def test_milliseconds_have_four_significant_digits_and_no_exponent(value_s, shown):
    assert units.milliseconds(value_s) == shown


def test_a_shown_latency_is_within_half_a_digit_of_the_measured_one():
    rng = random.Random(0)
    for _ in range(2000):
        value_s = 10 ** rng.uniform(-8, 3)
        shown = units.milliseconds(value_s)
        assert "e" not in shown
        assert float(shown) / 1e3 == pytest.approx(value_s, rel=5.1e-4)
        assert len(shown.replace(".", "").lstrip("0")) >= 4


@pytest.mark.parametrize("unit", [units.microseconds, units.seconds, units.mebibytes, units.percent])
def test_what_is_unknown_is_an_empty_cell_and_zero_is_not(unit):
    assert unit(None) == ""
    assert unit(0) == "0"


def test_bytes_host_time_and_shares_are_scaled():
    assert units.mebibytes(26 * 2**20) == "26.0"
    assert units.microseconds(45.04e-6) == "45.0"
    assert units.percent(0.00149) == "0.15"
    assert units.significant(1234.5, 3) == "1234"


def test_times_to_wait_are_rounded():
    assert (units.duration(40.4), units.duration(185)) == ("40 s", "3 min")


def test_a_release_of_cudnn_is_in_words():
    assert units.cudnn_release(91900) == "9.19.0"


def test_the_spread_of_one_round_is_unknown():
    assert stats.coefficient_of_variation([1e-3]) is None
    assert stats.coefficient_of_variation([1.0, 1.0]) == 0
    assert stats.coefficient_of_variation([1.0, 3.0]) == pytest.approx(2**0.5 / 2)


def test_the_rate_counts_ten_to_the_twelve():
    assert stats.tflop_per_s(2 * 10**12, 0.5) == 4.0
    assert stats.median_s([3.0, 1.0, 2.0]) == 2.0
