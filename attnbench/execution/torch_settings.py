"""Settings of torch that a case may change for others: how each is read, and how it is written.

A setting that this torch, this device or this build does not have cannot be read, and is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from attnbench import torch_private
from attnbench.execution.process_state import arrow
from attnbench.hardware.device import type_in_use


@dataclass(frozen=True)
class Setting:
    """One setting of torch: its name in a report, how to read it, and how to write it."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


def values(settings: Mapping[str, Setting]) -> Mapping[str, Any]:
    """The value of every setting that can be read, by name."""
    readable = {}
    for name, setting in settings.items():
        try:
            readable[name] = setting.read()
        except Exception:  # this torch, this device or this build does not have it
            continue
    return readable


def set_value(settings: Mapping[str, Setting], name: str, value: Any) -> None:
    """Write one setting. Raises whatever torch raises where it refuses the value."""
    settings[name].write(value)


def settings() -> dict[str, Setting]:
    """Every setting, by name: threads, defaults, precision, switches, modes, and on CUDA device and stream.

    They are written in this order, which matters: what comes later may overwrite what an earlier one sets too.
    """
    return {setting.name: setting for setting in _settings()}


def _settings() -> list[Setting]:
    import torch
    from torch.backends import cuda, cudnn, mkldnn

    attributes = [
        *(_attribute(f"cuDNN {n}", cudnn, n) for n in ("enabled", "benchmark", "benchmark_limit", "deterministic")),
        *(_attribute(f"oneDNN {name}", mkldnn, name) for name in ("enabled", "deterministic")),
        *(_attribute(f"torch.backends.cuda.matmul.{name}", cuda.matmul, name) for name in _REDUCTIONS),
        _attribute("filling of uninitialised memory", torch.utils.deterministic, "fill_uninitialized_memory"),
    ]
    sdpa = [
        _pair("flash SDPA", cuda, "flash_sdp_enabled", "enable_flash_sdp"),
        _pair("memory-efficient SDPA", cuda, "mem_efficient_sdp_enabled", "enable_mem_efficient_sdp"),
        _pair("math SDPA", cuda, "math_sdp_enabled", "enable_math_sdp"),
        _pair("cuDNN SDPA", cuda, "cudnn_sdp_enabled", "enable_cudnn_sdp"),
        _pair(
            "reduced precision in math SDPA",
            cuda,
            "fp16_bf16_reduction_math_sdp_allowed",
            "allow_fp16_bf16_reduction_math_sdp",
        ),
        Setting("implementation of flash SDPA", _flash_implementation, _set_flash_implementation),
        Setting("priority of SDPA's kernels", _settled_priority, torch_private.set_sdpa_priority),
    ]
    return [
        Setting("torch threads", torch.get_num_threads, torch.set_num_threads),
        Setting("torch interop threads", torch.get_num_interop_threads, torch.set_num_interop_threads),
        Setting("default dtype", torch.get_default_dtype, torch.set_default_dtype),
        Setting("default device", _default_device, torch.set_default_device),
        Setting("float32 precision", _float32_precision, _set_float32_precision),
        Setting(
            "deterministic algorithms",
            _determinism,
            lambda v: torch.use_deterministic_algorithms(v.on, warn_only=v.warns),
        ),
        *attributes,
        *sdpa,
        Setting("inference mode", torch.is_inference_mode_enabled, _set_inference_mode),
        Setting("grad mode", torch.is_grad_enabled, torch.set_grad_enabled),
        *(_autocast(device) for device in ("cpu", "cuda")),
        Setting("autocast cache", torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
        Setting(
            "anomaly detection",
            lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
            lambda value: torch.set_anomaly_enabled(*value),
        ),
        Setting("torch.set_warn_always", torch.is_warn_always_enabled, torch.set_warn_always),
        Setting("flushing of denormal numbers", _flushes_denormals, torch.set_flush_denormal),
        Setting("torch function modes", _function_modes, _set_function_modes),
        Setting("torch dispatch modes", torch_private.dispatch_modes, torch_private.set_dispatch_modes),
        Setting("hooks of every torch.nn.Module", torch_private.module_hooks, torch_private.set_module_hooks),
        Setting(
            "refusal of hooks of saved tensors",
            torch_private.saved_tensors_hooks_refused,
            torch_private.refuse_saved_tensors_hooks,
        ),
        Setting("hooks of saved tensors", torch_private.saved_tensors_hooks, torch_private.set_saved_tensors_hooks),
        Setting("torch.compiler.set_stance", torch_private.compiler_stance, _set_stance),
        _pair("preferred BLAS library", cuda, "preferred_blas_library", "preferred_blas_library"),
        _pair("preferred linear algebra library", cuda, "preferred_linalg_library", "preferred_linalg_library"),
        *(_cuda_settings() if torch.cuda.is_initialized() else []),
    ]


_REDUCTIONS = (
    "allow_fp16_reduced_precision_reduction",
    "allow_bf16_reduced_precision_reduction",
    "allow_fp16_accumulation",
)


def _cuda_settings() -> list[Setting]:
    """Of the current device. The stream comes after the device, which setting a stream sets too."""
    import torch

    device, memory, tunable = torch.cuda, torch.cuda.memory, torch.cuda.tunable
    return [
        _pair("current CUDA device", device, "current_device", "set_device"),
        _pair("current CUDA stream", device, "current_stream", "set_stream"),
        _pair("CUDA sync debug mode", device, "get_sync_debug_mode", "set_sync_debug_mode"),
        _pair("CUDA memory fraction", memory, "get_per_process_memory_fraction", "set_per_process_memory_fraction"),
        _pair("TunableOp", tunable, "is_enabled", "enable"),
        _pair("tuning of TunableOp", tunable, "tuning_is_enabled", "tuning_enable"),
    ]


def _attribute(name: str, owner: Any, attribute: str) -> Setting:
    return Setting(name, lambda: getattr(owner, attribute), lambda value: setattr(owner, attribute, value))


def _pair(name: str, owner: Any, read: str, write: str) -> Setting:
    """Two functions of `owner`, looked up when they are called: not every torch has every one."""

    def read_now() -> Any:
        return getattr(owner, read)()

    def write_now(value: Any) -> None:
        getattr(owner, write)(value)

    return Setting(name, read_now, write_now)


def _autocast(device: str) -> Setting:
    import torch

    def read() -> tuple[bool, Any]:
        return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def write(value: tuple[bool, Any]) -> None:
        torch.set_autocast_enabled(device, value[0])
        torch.set_autocast_dtype(device, value[1])

    return Setting(f"autocast on {device}", read, write)


@dataclass(frozen=True)
class _Determinism:
    on: bool
    warns: bool

    def __str__(self) -> str:
        return f"{'on' if self.on else 'off'}{', warning only' if self.on and self.warns else ''}"


def _determinism() -> _Determinism:
    import torch

    return _Determinism(
        torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    )


@dataclass(frozen=True)
class _Float32Precision:
    """How float32 products may be computed, by backend and operation; `older` are the flags that mean the same.

    torch refuses to read the older flags when both interfaces were used. They are then left out: the newer ones suffice.
    """

    by_operation: tuple[tuple[str, str], ...]
    older: tuple[tuple[str, Any], ...] = field(compare=False)


_PRECISIONS = (("generic", "all"), *((b, op) for b in ("cuda", "mkldnn") for op in ("all", "matmul", "conv", "rnn")))


def _older_precision() -> dict[str, tuple[Callable[[], Any], Callable[[Any], object]]]:
    import torch

    return {
        "cuBLAS": torch_private.cublas_tf32(),
        "matmul": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        "cuDNN": torch_private.cudnn_tf32(),
    }


def _float32_precision() -> _Float32Precision:
    older = []
    for name, (get, _) in _older_precision().items():
        try:
            older.append((name, get()))
        except RuntimeError:
            continue
    pairs = (
        (f"{backend} {operation}".removesuffix(" all"), torch_private.float32_precision(backend, operation))
        for backend, operation in _PRECISIONS
    )
    return _Float32Precision(tuple(pairs), tuple(older))


def _set_float32_precision(value: _Float32Precision) -> None:
    """The older flags first: writing one writes some of the newer, too."""
    writers = _older_precision()
    for name, old in value.older:
        writers[name][1](old)
    for (backend, operation), (_, wanted) in zip(_PRECISIONS, value.by_operation, strict=True):
        if torch_private.float32_precision(backend, operation) != wanted:
            torch_private.set_float32_precision(backend, operation, wanted)


def _default_device() -> Any:
    """None where no default is set. That is not the same as the CPU: a default device slows down every call."""
    mode = torch_private.default_device_mode()
    return mode.device if mode is not None else None


def _settled_priority() -> tuple[int, ...]:
    """The order that SDPA has once it has chosen a kernel.

    What is read before would be put back after the first case, and later cases would choose by an order that is not torch's:
    so it was on H200s, where plain SDPA then ran FlashAttention instead of cuDNN.
    """
    if type_in_use() == "cuda":
        _choose_once()
    return torch_private.sdpa_priority()


@cache
def _choose_once() -> None:
    torch_private.choose_sdpa_kernel()


def _flash_implementation() -> str | None:
    from torch.nn import attention

    return attention.current_flash_attention_impl()


def _set_flash_implementation(name: str | None) -> None:
    from torch.nn import attention

    attention.restore_flash_attention_impl() if name is None else attention.activate_flash_attention_impl(name)


#: A guard that is garbage-collected ends its mode, so those that were entered here are kept as long as the process.
_GUARDS: list[Any] = []


def _set_inference_mode(on: bool) -> None:
    import torch

    guard = torch.inference_mode(on)
    guard.__enter__()
    _GUARDS.append(guard)


def _flushes_denormals() -> bool:
    smallest = sys.float_info.min
    return smallest / 2 == 0


def _function_modes() -> tuple[Any, ...]:
    """The modes that were entered and not left, without that of the default device."""
    default = torch_private.default_device_mode()
    return tuple(mode for mode in torch_private.function_modes() if mode is not default)


def _set_function_modes(wanted: tuple[Any, ...]) -> None:
    popped = [torch_private.pop_function_mode() for _ in torch_private.function_modes()]
    of_default_device = [mode for mode in popped if mode is torch_private.default_device_mode()]
    for mode in (*of_default_device, *wanted):
        torch_private.push_function_mode(mode)


def _set_stance(value: tuple[Any, ...]) -> None:
    import torch

    stance, skips_guards, backend = value
    torch.compiler.set_stance(stance, skip_guard_eval_unsafe=skips_guards, force_backend=backend)


def described(name: str, before: Any, after: Any) -> str:
    """One change in words, with the values where they say something to a reader: `torch threads 2 → 1`."""
    if isinstance(before, _Float32Precision) and isinstance(after, _Float32Precision):
        pairs = zip(before.by_operation, after.by_operation, strict=True)
        return f"{name} ({', '.join(arrow(one[0], one[1], two[1]) for one, two in pairs if one != two)})"
    if name in _SHOWN or isinstance(after, bool):
        return arrow(name, "none" if before is None else before, "none" if after is None else after)
    return name


#: Settings whose values say something to a reader, beside those that are on or off.
_SHOWN = ("torch threads", "torch interop threads", "default dtype", "default device", "deterministic algorithms")
