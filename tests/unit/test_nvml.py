"""What another process or heat does to a session that is recorded."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from attnbench.hardware.nvml import Occupancy, disturbances, gpu_fields, look

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
    def text(others, when):
        then = "end what runs there, or choose another GPU with CUDA_VISIBLE_DEVICES"
        return f"the GPU is shared: {others} used it {when}, expected 0; {then}"

    assert disturbances(seen(2), seen()) == [text("2 other processes", "before the run")]
    assert disturbances(seen(), seen(1)) == [text("1 other process", "after it")]
    assert disturbances(seen(2), seen(3)) == [
        text("2 other processes", "before the run"),
        text("3 other processes", "after it"),
    ]


def test_heat_during_the_run_is_said_and_heat_before_it_is_not():
    assert disturbances(seen(thermal_s=12.5), seen(thermal_s=14.0)) == [
        "the GPU was throttled: heat lowered its clock for 1.5 s during the run, expected 0"
    ]
    assert disturbances(seen(thermal_s=99.0), seen(thermal_s=99.0)) == []
    assert disturbances(seen(thermal_s=99.0), seen(thermal_s=0.0)) == [], "the driver was loaded again in between"


def test_looking_never_raises():
    assert isinstance(look(), Occupancy)


class NVMLError(Exception):
    pass


def raises(*_):
    raise NVMLError


@pytest.fixture
def library(monkeypatch):
    """NVML as `pynvml`, which knows one GPU; `open` counts who has not shut it down."""
    fake = SimpleNamespace(NVMLError=NVMLError, NVML_CLOCK_SM=1, NVML_TEMPERATURE_GPU=0, open=0)
    fake.nvmlInit = lambda: setattr(fake, "open", fake.open + 1)
    fake.nvmlShutdown = lambda: setattr(fake, "open", fake.open - 1)
    fake.nvmlDeviceGetHandleByUUID = lambda uuid: "handle" if uuid == "GPU-1" else raises()
    fake.nvmlSystemGetDriverVersion = lambda: b"580.159"
    fake.nvmlDeviceGetEnforcedPowerLimit = lambda handle: 700_000
    fake.nvmlDeviceGetMaxClockInfo = lambda handle, kind: 1980
    fake.nvmlDeviceGetTemperature = lambda handle, sensor: 35
    fake.nvmlDeviceGetMigMode = raises
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


@pytest.mark.parametrize("uuid", ["GPU-1", "1"])
def test_fields_of_a_gpu_are_read_by_its_uuid_and_an_unreadable_one_is_none(library, uuid):
    assert gpu_fields(uuid) == {
        "driver": "580.159",
        "power_limit_w": 700.0,
        "max_sm_mhz": 1980,
        "temperature_c": 35,
        "mig": None,
    }
    assert library.open == 0


def test_a_gpu_that_nvml_does_not_know_has_no_fields(library):
    assert gpu_fields("2") == {}
    assert gpu_fields(None) == {}
    assert library.open == 0


def test_a_slice_of_a_gpu_is_asked_for_by_its_own_name(library):
    library.nvmlDeviceGetHandleByUUID = lambda uuid: "slice" if uuid == "MIG-1" else raises()
    assert gpu_fields("1")["driver"] == gpu_fields("MIG-1")["driver"] == "580.159"


def test_a_library_that_somebody_else_shut_down_costs_nothing(library):
    library.nvmlShutdown = raises
    assert gpu_fields("GPU-1")["driver"] == "580.159"


def test_without_nvml_there_are_no_fields(library):
    library.nvmlInit = raises
    assert gpu_fields("GPU-1") == {}
