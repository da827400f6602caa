"""Statistics of rounds."""

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
