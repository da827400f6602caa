"""Which device there is, whether it can be used, and what it is."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnbench.hardware.facts import Facts, installed_version, sm_name

DEVICES = ("cpu", "cuda", "sim")
OLDEST_TORCH = (2, 11)  # the oldest that this project was really run with

Field = str | int | float | None

#: The type of the device that this process has opened, if any.
_OPENED: list[str] = []


class DeviceUnusable(Exception):
    """The device that was asked for, or that is there, cannot be measured; the message says why and what to do."""


@dataclass(frozen=True)
class OpenDevice:
    """A device that can be used: facts for requirements, and the fields of the fingerprint.

    key: fields that must be equal for two sessions to be compared. context: further fields, which are shown and stored.
    nvidia_smi: what nvidia-smi says of the GPU, which is stored once per launch.
    """

    facts: Facts
    key: dict[str, Field]
    context: dict[str, Field]
    nvidia_smi: dict[str, str] = field(default_factory=dict)

    @property
    def type(self) -> str:
        return self.facts.device


def count_nvidia_gpus() -> int:
    """NVIDIA GPUs that the driver shows this process, asked of the driver itself: no torch, no NVML, no rights.

    CUDA_VISIBLE_DEVICES is honoured by the driver. A driver that is there and fails to initialise counts as one GPU, so
    that a broken driver is reported and not taken for a machine without a GPU.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
        no_device = 100
        outcome = driver.cuInit(0)
        if outcome == no_device:
            return 0
        count = ctypes.c_int(0)
        if outcome != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
            return 1
        return count.value
    except (OSError, AttributeError):
        return 0


def default_device() -> str:
    """The device type that a run uses when nobody names one; does not import torch."""
    return "cuda" if count_nvidia_gpus() else "cpu"


def type_in_use() -> str:
    """The device type that this process measures on, "cpu" or "cuda": there `load` puts what it makes, a mask."""
    return _OPENED[-1] if _OPENED else default_device()


def open_device(name: str, chosen: bool) -> OpenDevice:
    """Open a device by type. `chosen` says that the user named it, so that a CPU run beside an unusable GPU is meant.

    Raises DeviceUnusable.
    """
    opened = _opened(name, chosen)
    _OPENED[:] = [name if name == "cuda" else "cpu"]
    return opened


def _opened(name: str, chosen: bool) -> OpenDevice:
    if name == "sim":
        facts = Facts("sim", "simulated device", None, (99, 0))
        return OpenDevice(facts, {"device": "simulated device", "protocol": "simulated"}, {})
    torch = _torch()
    if name == "cuda":
        _require_cuda(torch)
        return _cuda(torch)
    if not chosen:
        _refuse_other_accelerators(torch)
    return _cpu(torch)


def _torch() -> Any:
    try:
        import torch
    except (ImportError, OSError) as exc:  # OSError: one of the libraries that it loads is missing
        raise DeviceUnusable(
            f"torch cannot be imported ({exc}): install it first, for example pip install torch"
        ) from exc
    if _version(torch) < OLDEST_TORCH:
        needed = ".".join(map(str, OLDEST_TORCH))
        raise DeviceUnusable(f"torch {torch.__version__} found, {needed} or newer needed; attnbench never replaces it")
    return torch


def _require_cuda(torch: Any) -> None:
    escape = "or pass --attn-device cpu to measure on the CPU"
    if torch.version.hip:
        raise DeviceUnusable(
            f"this torch ({torch.__version__}) is a ROCm build, which attnbench does not support; {escape}"
        )
    if torch.version.cuda is None:
        raise DeviceUnusable(_no_gpu(f"torch {torch.__version__} has no CUDA: install a CUDA build, {escape}"))
    if os.environ.get("CUDA_LAUNCH_BLOCKING", "0") not in ("", "0"):
        raise DeviceUnusable("CUDA_LAUNCH_BLOCKING=1 puts the host's work inside the measured interval: unset it")
    try:
        torch.cuda.init()
        torch.zeros(1, device="cuda").item()
    except Exception as exc:  # torch raises RuntimeError, AssertionError or AcceleratorError here
        cause = str(exc).strip().splitlines()[0].rstrip(".")
        raise DeviceUnusable(_no_gpu(f"torch {torch.__version__} cannot use it: {cause}; {escape}")) from exc


def _no_gpu(cause: str) -> str:
    if count_nvidia_gpus():
        return f"an NVIDIA GPU is present, but {cause}"
    return "no NVIDIA GPU is visible here (asked of the driver): pass --attn-device cpu to measure on the CPU"


def _refuse_other_accelerators(torch: Any) -> None:
    accelerator = None
    if torch.version.hip:
        accelerator = "a ROCm"
    elif hasattr(torch, "xpu") and torch.xpu.is_available():
        accelerator = "an XPU"
    elif torch.backends.mps.is_available():
        accelerator = "an MPS"
    if accelerator:
        raise DeviceUnusable(
            f"this machine has {accelerator} device, which attnbench does not support today: "
            "pass --attn-device cpu to measure on the CPU"
        )


def _cpu(torch: Any) -> OpenDevice:
    facts = Facts("cpu", _cpu_name(), None, _version(torch))
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    key: dict[str, Field] = {
        "device": facts.device_name,
        "torch_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "protocol": "perf_counter/2",  # 2: other contents each round, and every output read, both of which move the cache
    }
    return OpenDevice(facts, key, {"logical_cores": os.cpu_count(), "usable_cores": affinity, **_software(torch)})


def _cuda(torch: Any) -> OpenDevice:
    from attnbench.fingerprint import ceiling_mhz
    from attnbench.hardware import nvidia_smi, nvml
    from attnbench.hardware.sm_clock import sm_clock

    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    facts = Facts("cuda", properties.name, (properties.major, properties.minor), _version(torch))
    uuid = str(getattr(properties, "uuid", "")) or None
    read = nvml.gpu_fields(uuid)
    key: dict[str, Field] = {
        "device": properties.name,
        "capability": sm_name((properties.major, properties.minor)),
        "multiprocessors": properties.multi_processor_count,
        "memory_mib": properties.total_memory // 2**20,
        "l2_bytes": properties.L2_cache_size,
        "power_limit_w": read.get("power_limit_w"),
        "ceiling_mhz": ceiling_mhz(sm_clock().ceiling.hz),
        "protocol": "cuda-events/4",  # 4: cycles are the mean over all multiprocessors, and 15 rounds warm up
    }
    context: dict[str, Field] = {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "unit": uuid,
        "driver": read.get("driver"),
        "max_sm_mhz": read.get("max_sm_mhz"),
        "temperature_c": read.get("temperature_c"),
        "mig": read.get("mig"),
        **_software(torch),
    }
    return OpenDevice(facts, key, context, nvidia_smi.query(uuid))


def _software(torch: Any) -> dict[str, Field]:
    return {
        "torch": str(torch.__version__),
        "triton": installed_version("triton") or "not installed",
        "numpy": installed_version("numpy"),
        "python": platform.python_version(),
        "os": f"{platform.system()} {platform.release()}",
        "host": platform.node(),
    }


def _version(torch: Any) -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def context_is_lost(device: str) -> bool:
    """Whether the CUDA context of this process is poisoned, so that nothing after it can be measured here."""
    if device != "cuda":
        return False
    import torch

    try:
        torch.cuda.synchronize()
    except Exception:
        return True
    return False


def has_lost_context() -> bool:
    """Whether this process measures on CUDA and nothing can be measured in it any more, whoever lost its context."""
    return "cuda" in _OPENED and context_is_lost("cuda")


def free_bytes(device: str) -> int | None:
    """Memory of the GPU that this process could get, with what torch keeps of it unused; None for another device."""
    if device != "cuda":
        return None
    import torch

    free, _ = torch.cuda.mem_get_info()
    return int(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())


#: The share of the GPU's memory that a process may keep cached while others measure. Most cases need not get it anew then.
KEPT = 1 / 16


def release_memory_beyond_share(device: str) -> None:
    """Give back what torch keeps unused, where that is more than `KEPT` of the GPU's memory."""
    if device != "cuda":
        return
    import torch

    unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    if unused > KEPT * torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory:
        release_memory(device)


def release_memory(device: str) -> None:
    """Give back what this process keeps of the GPU's memory without using it: another one is about to measure there.

    A process whose context is lost can give nothing back before it ends.
    """
    if device != "cuda":
        return
    import torch

    try:
        torch.cuda.empty_cache()
    except Exception:
        if not context_is_lost(device):
            raise
