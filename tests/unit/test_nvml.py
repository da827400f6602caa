"""What another process or heat does to a session that is recorded."""

from __future__ import annotations

import pytest

from attnbench.hardware.nvml import Occupancy, disturbances, look

UNKNOWN = Occupancy(None, None, None)


def seen(processes=0, thermal_s=12.5):
    return Occupancy("GPU-0", processes, thermal_s)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (seen(), seen()),
        (UNKNOWN, UNKNOWN),
        (seen(), UNKNOWN),
        (UNKNOWN, seen()),
        (seen(thermal_s=None), seen()),
        (seen(), seen(thermal_s=None)),
    ],
)
def test_an_idle_gpu_and_one_that_nobody_can_ask_disturb_nothing(before, after):
    assert disturbances(before, after) == []


def test_another_process_is_said_with_when_it_was_seen():
    text = "the GPU is shared: {} other processes used it {}, expected 0"
    assert disturbances(seen(2), seen()) == [text.format(2, "before the run")]
    assert disturbances(seen(), seen(1)) == [text.format(1, "after it")]
    assert disturbances(seen(2), seen(3)) == [text.format(2, "before the run"), text.format(3, "after it")]


def test_heat_during_the_run_is_said_and_heat_before_it_is_not():
    assert disturbances(seen(thermal_s=12.5), seen(thermal_s=14.0)) == [
        "the GPU was throttled: heat lowered its clock for 1.5 s during the run, expected 0"
    ]
    assert disturbances(seen(thermal_s=99.0), seen(thermal_s=99.0)) == []
    assert disturbances(seen(thermal_s=99.0), seen(thermal_s=0.0)) == [], "the driver was loaded again in between"


def test_looking_never_raises():
    assert isinstance(look(), Occupancy)
