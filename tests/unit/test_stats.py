"""Statistics of rounds."""

import math
import statistics

import pytest

from attnbench import stats


@pytest.mark.parametrize(
    ("rounds_s", "resolution_s"),
    [
        ((), 0.0),
        ((1.0,), 0.0),
        ((2.0, 2.0, 2.0), 0.0),
        ((2.0, 1.5, 2.0, 1.75), 0.25),  # 1.5 and 1.75, which do not follow each other
        ((3.0, 1.0), 2.0),
    ],
)
def test_the_resolution_is_the_smallest_difference_of_two_different_rounds(rounds_s, resolution_s):
    assert stats.resolution_s(rounds_s) == resolution_s


def test_a_coefficient_of_variation_needs_two_rounds():
    assert stats.coefficient_of_variation((1.0,)) is None
    assert stats.coefficient_of_variation((1.0, 3.0)) == pytest.approx(2**0.5 / 2)


@pytest.mark.parametrize(
    ("share", "freedom", "value"),
    [
        (0.1, 1, 0.01579), (0.1, 2, 0.21072), (0.1, 3, 0.58437), (0.1, 4, 1.06362), (0.1, 9, 4.16816), (0.1, 100, 82.358),
        (0.1, 1000, 943.13), (0.025, 3, 0.21580), (0.5, 1, 0.45494), (0.95, 2, 5.99146), (0.999, 1000, 1143.92),
    ],
)  # fmt: skip
def test_quantiles_of_chi_squared_are_those_of_the_tables(share, freedom, value):
    assert stats.chi2_quantile(share, freedom) == pytest.approx(value, rel=2e-4)


@pytest.mark.parametrize(("occasions", "times"), [(3, 3.1), (5, 1.9), (10, 1.5)])
def test_a_deviation_is_at_most_so_many_times_its_estimate(occasions, times):
    assert stats.upper_bound(0.002, occasions - 1) / 0.002 == pytest.approx(times, abs=0.05)
    assert stats.upper_bound(0.002, occasions - 1, 0.975) > stats.upper_bound(0.002, occasions - 1)


def test_a_deviation_without_freedom_has_no_bound():
    assert math.isinf(stats.upper_bound(0.001, 0))


def test_the_variance_is_the_samples():
    values = [0.1, 0.3, 0.35, 1.0]
    assert stats.variance(values) == pytest.approx(statistics.variance(values))
