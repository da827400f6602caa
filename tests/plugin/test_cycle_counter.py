"""The cycle counters of all multiprocessors as one number of cycles."""

import pytest
import torch

from attnbench.timing.cycle_counter import mean_cycles


def slots(*stamps):
    """Of each multiprocessor its start, the round of that, its end, and the round of that."""
    found = torch.tensor(stamps, dtype=torch.int64)
    return torch.stack((found[:, :2], found[:, 2:]))


def test_cycles_are_the_mean_over_unrelated_counters_of_multiprocessors():
    assert mean_cycles(slots((10, 7, 1010, 7), (2**62, 7, 2**62 + 1020, 7)), 7, fewest=1) == 1010


@pytest.mark.parametrize(("fewest", "expected"), [(1, 1000), (2, None)])
def test_a_multiprocessor_that_lacks_a_stamp_of_this_round_does_not_count(fewest, expected):
    found = slots((10, 7, 1010, 7), (10, 6, 9010, 7), (10, 7, 8010, 6), (0, 0, 0, 0))
    assert mean_cycles(found, 7, fewest) == expected


def test_no_stamp_is_no_number():
    assert mean_cycles(slots((0, 0, 0, 0)), 1, fewest=0) is None
