"""What NVML knows of a GPU: what it is, who else uses it, and whether heat held it back. Makes no CUDA context."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from attnbench.hardware.facts import gpu_identity


@dataclass(frozen=True)
class Occupancy:
    """One look at the GPU that CUDA calls 0. A field is None where NVML is not installed or does not know it.

    device: its UUID, `GPU-…`. processes: how many compute on it now. thermal_s: for how many seconds heat has lowered its
    clock since the driver was loaded.
    """

    device: str | None
    processes: int | None
    thermal_s: float | None


def look() -> Occupancy:
    """Who computes on the first visible GPU. Never raises: what cannot be read is None."""
    identity = _first_uuid()
    if identity is None:
        return Occupancy(None, None, None)
    with _gpu(identity) as (pynvml, handle):
        if handle is None:
            return Occupancy(identity, None, None)
        return Occupancy(identity, _processes(pynvml, handle), _thermal_s(pynvml, handle))


def gpu_fields(uuid: str | None) -> dict[str, str | int | float | None]:
    """What NVML knows of the GPU with this UUID, for the fingerprint; empty without NVML, None for what it does not say.

    By UUID and not by index, because indices differ under CUDA_VISIBLE_DEVICES.
    """
    fields: dict[str, str | int | float | None] = {}
    with _gpu(gpu_identity(str(uuid))) as (pynvml, handle):
        if handle is None:
            return fields
        readers = {
            "driver": pynvml.nvmlSystemGetDriverVersion,
            "power_limit_w": lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
            "max_sm_mhz": lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM),
            "temperature_c": lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
            "mig": lambda: pynvml.nvmlDeviceGetMigMode(handle)[0],
        }
        for name, read in readers.items():
            try:
                value = read()
                fields[name] = value.decode() if isinstance(value, bytes) else value
            except pynvml.NVMLError:
                fields[name] = None
    return fields


@dataclass(frozen=True)
class EnergyReading:
    """What the energy counter of a GPU held at a time by time.perf_counter()."""

    at_s: float
    joules: float


#: Bits of NVML's clocks event reasons (nvml.h): SwPowerCap and HwPowerBrakeSlowdown; Sw- and HwThermalSlowdown.
_HELD_BY = {"power": 0x04 | 0x80, "heat": 0x20 | 0x40}


class EnergyMeter:
    """Reads the total energy of one GPU: of the whole board, since the driver was loaded.

    why: the sentence where that cannot be read, else empty.
    """

    def __init__(self, pynvml: Any, handle: Any) -> None:
        self._pynvml = pynvml
        self._handle = handle
        self.why = ""
        if handle is None:
            cannot = "is not available (pip install nvidia-ml-py)" if pynvml is None else "does not know this GPU"
            self.why = f"no energy: NVML {cannot}"
        elif self.read() is None:
            self.why = "no energy: NVML has no energy counter of this GPU"

    def read(self) -> EnergyReading | None:
        """The counter now; None where it cannot be read."""
        if self.why:
            return None
        try:
            millijoules = self._pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except self._pynvml.NVMLError:
            return None
        return EnergyReading(time.perf_counter(), millijoules / 1e3)

    def temperature_c(self) -> float | None:
        """Of the GPU now; None where it cannot be read."""
        if self._handle is None:
            return None
        try:
            return float(self._pynvml.nvmlDeviceGetTemperature(self._handle, self._pynvml.NVML_TEMPERATURE_GPU))
        except self._pynvml.NVMLError:
            return None

    def held_by(self) -> tuple[str, ...]:
        """What lowers the clock now: "power", "heat" or both; empty where nothing does, and where it cannot be read."""
        if self._handle is None:
            return ()
        try:
            reasons = self._pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)
        except self._pynvml.NVMLError:
            return ()
        return tuple(word for word, bits in _HELD_BY.items() if reasons & bits)


@contextmanager
def energy_meter(uuid: str) -> Iterator[EnergyMeter]:
    """A meter of the GPU with this UUID; one that says why where there is no NVML."""
    with _gpu(gpu_identity(uuid)) as (pynvml, handle):
        yield EnergyMeter(pynvml, handle)


@contextmanager
def _gpu(identity: str) -> Iterator[tuple[Any, Any]]:
    """The module pynvml, and its handle of this GPU: None where there is no NVML, or it does not know the GPU.

    A slice of a GPU (MIG) is asked for as `MIG-…` where NVML knows no `GPU-…` of that UUID.
    """
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # not installed, no library, no rights
        yield None, None
        return
    try:
        yield pynvml, _handle(pynvml, identity)
    finally:
        with suppress(pynvml.NVMLError):  # a library in this process shut it down once too often
            pynvml.nvmlShutdown()


def _handle(pynvml: Any, identity: str) -> Any:
    for name in (identity, identity.replace("GPU-", "MIG-", 1)):
        try:
            return pynvml.nvmlDeviceGetHandleByUUID(name)
        except pynvml.NVMLError:
            continue
    return None


def disturbances(before: Occupancy, after: Occupancy) -> list[str]:
    """One sentence for each reason why figures from between the two looks cannot be compared; empty when they can."""
    sentences = []
    for when, seen in (("before the run", before), ("after it", after)):
        if seen.processes:
            others = "1 other process" if seen.processes == 1 else f"{seen.processes} other processes"
            sentences.append(
                f"the GPU is shared: {others} used it {when}, expected 0; end what runs there, or choose another GPU with "
                "CUDA_VISIBLE_DEVICES"
            )
    if before.thermal_s is not None and after.thermal_s is not None and after.thermal_s > before.thermal_s:
        held_s = after.thermal_s - before.thermal_s
        sentences.append(f"the GPU was throttled: heat lowered its clock for {held_s:.3g} s during the run, expected 0")
    return sentences


def _first_uuid() -> str | None:
    """`GPU-…` of CUDA's device 0, CUDA_VISIBLE_DEVICES honoured; makes no context."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        raw = (ctypes.c_ubyte * 16)()
        device = ctypes.c_int(0)
        if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
            return None
        uuid_of = getattr(driver, "cuDeviceGetUuid_v2", None) or driver.cuDeviceGetUuid  # 2 knows slices of a GPU (MIG)
        if uuid_of(ctypes.byref(raw), device):
            return None
    except (OSError, AttributeError):
        return None
    return f"GPU-{UUID(bytes=bytes(raw))}"


def _processes(pynvml: Any, handle: Any) -> int | None:
    try:
        return len(pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
    except pynvml.NVMLError:
        return None


def _thermal_s(pynvml: Any, handle: Any) -> float | None:
    try:
        status = pynvml.nvmlDeviceGetViolationStatus(handle, pynvml.NVML_PERF_POLICY_THERMAL)
    except pynvml.NVMLError:
        return None
    return float(status.violationTime) / 1e9
