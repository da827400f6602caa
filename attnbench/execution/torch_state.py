"""The parts of a process's state that are torch's.

What has no public name in torch stands behind one function each, so that a release which renames it breaks one part, which
is then left out.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from attnbench.execution.interpreter_state import functions, replaced, set_function
from attnbench.execution.process_state import Part, arrow

#: Modules and classes of torch that are patched by who wants others to use another attention, with what they hang on.
PATCHED = (
    *("torch", "torch.nn.functional", "torch.Tensor", "torch.cuda", "torch.compiler", "torch.ops.aten"),
    *("torch.nn.attention", "torch.nn.attention.flex_attention", "torch.nn.attention.varlen"),
)
#: What torch itself replaces where another setting is made.
_FOLLOWING = ("torch.Storage",)
CONFIGS = ("torch._dynamo.config", "torch._inductor.config", "torch._functorch.config")


@dataclass(frozen=True)
class Setting:
    """One setting of torch: its name in a report, how to read it, and how to write it."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


def parts() -> tuple[Part, ...]:
    """Threads, defaults, precision, switches, modes, patched functions, compilers, streams and generators."""
    import torch

    settings = {setting.name: setting for setting in _settings()}
    # On CUDA torch itself sets it whenever SDPA chooses a kernel, as was seen on an H200.
    priority = {name: Setting(name, _sdpa_priority, _set_sdpa_priority) for name in ("priority of SDPA's kernels",)}
    read, write, quiet = partial(_values, priority), partial(_set_value, priority), torch.cuda.is_available()
    return (
        Part("torch", partial(_values, settings), partial(_set_value, settings), _said, stays=_never, partial=True),
        Part("SDPA's priority", read, write, _said, stays=_never, partial=True, quiet=quiet),
        Part("torch functions", _functions, set_function, said=replaced, stays=_is_torchs),
        Part("compilers", _configs, _set_config, said=_configured, partial=True),
        Part("operators", _overridden, _cannot_be_undone, said=_added, carried=_with_added),
        Part("torch generators", _generators, _set_generator, quiet=True),
    )


def _values(settings: Mapping[str, Setting]) -> Mapping[str, Any]:
    found = {}
    for name, setting in settings.items():
        try:
            found[name] = setting.read()
        except Exception:  # this torch, this device or this build does not have it
            continue
    return found


def _set_value(settings: Mapping[str, Setting], name: str, value: Any) -> None:
    settings[name].write(value)


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
        Setting("torch dispatch modes", _dispatch_modes, _set_dispatch_modes),
        Setting("torch.compiler.set_stance", _stance, _set_stance),
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

    def found() -> Any:
        return getattr(owner, read)()

    def put(value: Any) -> None:
        getattr(owner, write)(value)

    return Setting(name, found, put)


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

    A mixture of both interfaces makes torch refuse to read the older flags. They are then left out: the newer say it all.
    """

    by_operation: tuple[tuple[str, str], ...]
    older: tuple[tuple[str, Any], ...] = field(compare=False)


_PRECISIONS = (("generic", "all"), *((b, op) for b in ("cuda", "mkldnn") for op in ("all", "matmul", "conv", "rnn")))


def _older_precision() -> dict[str, tuple[Callable[[], Any], Callable[[Any], object]]]:
    import torch

    binding: Any = torch._C  # what the public flags of torch.backends call, without their warnings
    return {
        "cuBLAS": (binding._get_cublas_allow_tf32, binding._set_cublas_allow_tf32),
        "matmul": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        "cuDNN": (binding._get_cudnn_allow_tf32, binding._set_cudnn_allow_tf32),
    }


def _float32_precision() -> _Float32Precision:
    import torch

    read: Any = torch._C._get_fp32_precision_getter  # the public properties are not there for every pair
    older = []
    for name, (get, _) in _older_precision().items():
        try:
            older.append((name, get()))
        except RuntimeError:
            continue
    pairs = (
        ("".join(f"{backend} {operation}".removesuffix(" all")), read(backend, operation))
        for backend, operation in _PRECISIONS
    )
    return _Float32Precision(tuple(pairs), tuple(older))


def _set_float32_precision(value: _Float32Precision) -> None:
    """The older flags first: writing one writes some of the newer, too."""
    import torch

    writers = _older_precision()
    for name, old in value.older:
        writers[name][1](old)
    binding: Any = torch._C
    for (backend, operation), (_, wanted) in zip(_PRECISIONS, value.by_operation, strict=True):
        if binding._get_fp32_precision_getter(backend, operation) != wanted:
            binding._set_fp32_precision_setter(backend, operation, wanted)


def _default_device() -> Any:
    """None where none was set, which is not the same as the CPU: a default costs every call something."""
    context = _device_context()
    return context.device if context is not None else None


def _device_context() -> Any:
    """The function mode that `torch.set_default_device` enters."""
    import torch

    return getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)  # no public name tells "none" from the CPU


def _sdpa_priority() -> tuple[int, ...]:
    import torch

    return tuple(torch._C._get_sdp_priority_order())  # sdpa_kernel(set_priority=True) leaves no other trace


def _set_sdpa_priority(value: tuple[int, ...]) -> None:
    import torch

    torch._C._set_sdp_priority_order(list(value))


def _flash_implementation() -> str | None:
    from torch.nn import attention

    return attention.current_flash_attention_impl()


def _set_flash_implementation(name: str | None) -> None:
    from torch.nn import attention

    attention.restore_flash_attention_impl() if name is None else attention.activate_flash_attention_impl(name)


#: A guard that is let go of ends its mode, so those that were set here last as long as the process.
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
    import torch.overrides

    default = _device_context()
    return tuple(mode for mode in torch.overrides._get_current_function_mode_stack() if mode is not default)


def _set_function_modes(wanted: tuple[Any, ...]) -> None:
    import torch.overrides

    popped = [torch.overrides._pop_mode() for _ in torch.overrides._get_current_function_mode_stack()]
    for mode in (*(mode for mode in popped if mode is _device_context()), *wanted):
        torch.overrides._push_mode(mode)


def _dispatch_modes() -> tuple[Any, ...]:
    from torch.utils import _python_dispatch

    return tuple(_python_dispatch._get_current_dispatch_mode_stack())  # no public name


def _set_dispatch_modes(wanted: tuple[Any, ...]) -> None:
    from torch.utils import _python_dispatch

    for _ in _dispatch_modes():
        _python_dispatch._pop_mode()
    for mode in wanted:
        _python_dispatch._push_mode(mode)


def _stance() -> Any:
    """The default one as long as dynamo is not loaded."""
    frames: Any = sys.modules.get("torch._dynamo.eval_frame")
    return ("default", False, None) if frames is None else _as_tuple(frames._stance)  # can only be set


def _as_tuple(stance: Any) -> tuple[Any, ...]:
    return stance.stance, stance.skip_guard_eval_unsafe, stance.backend


def _set_stance(value: tuple[Any, ...]) -> None:
    import torch

    stance, skips_guards, backend = value
    torch.compiler.set_stance(stance, skip_guard_eval_unsafe=skips_guards, force_backend=backend)


def _functions() -> Mapping[str, Any]:
    """Of those modules that are loaded; torch's own lazy ones are not loaded for it."""
    import torch

    owners: list[Any] = []
    for path in PATCHED:
        owner = {"torch.Tensor": torch.Tensor, "torch.ops.aten": torch.ops.aten}.get(path, sys.modules.get(path))
        if owner is not None:
            owners.append((owner, path))
    return {name: value for name, value in functions(*owners).items() if name not in _FOLLOWING}


def _is_torchs(_name: str, value: Any) -> bool:
    """Whether torch itself put a function there, as it was imported."""
    return str(getattr(value, "__module__", "")).partition(".")[0] in ("torch", "functools", "contextlib", "typing")


def _configs() -> Mapping[str, Any]:
    """Every setting of the compilers that are loaded, with their defaults."""
    found = {}
    for path in CONFIGS:
        if path in sys.modules:
            copied, comparable = sys.modules[path].get_config_copy(), _comparable(path)
            found.update({f"{path}.{name}": value for name, value in copied.items() if name in comparable})
    return found


@cache
def _comparable(path: str) -> frozenset[str]:
    """The settings whose copies are equal: one that holds an object of its own kind would seem to change all the time."""
    one, other = (sys.modules[path].get_config_copy() for _ in range(2))
    return frozenset(name for name, value in one.items() if value == other[name])


def _set_config(name: str, value: Any) -> None:
    path = next(path for path in CONFIGS if name.startswith(f"{path}."))
    setattr(sys.modules[path], name.removeprefix(f"{path}."), value)


def _configured(name: str, before: Any, after: Any) -> str:
    short = all(isinstance(value, (bool, int, float, type(None))) for value in (before, after))
    return arrow(name, before, after) if short else name


#: What attention is made of, where a case runs: `aten/_scaled_dot_product_flash_attention/CUDA`.
_OPERATOR = re.compile(r"aten/[^/]*(attention|softmax|mm|matmul)[^/]*/(CPU|CUDA|Composite\w+|Auto\w+)")


def _overridden() -> Mapping[str, Any]:
    """Operators of torch itself that a `torch.library.Library` gave another implementation."""
    from torch import library

    return {"aten": frozenset(filter(_OPERATOR.fullmatch, library._impls))}  # no public name


def _cannot_be_undone(_name: str, _value: Any) -> None:
    """Only the object that registered an implementation can take it back, and nobody knows where it is."""


def _added(_name: str, before: frozenset[str], after: frozenset[str]) -> str:
    new = sorted(name.removeprefix("aten/") for name in after - before)
    return f"implementations of torch's own operators ({', '.join(new[:3])}{' …' if len(new) > 3 else ''})"


def _with_added(noted: frozenset[str], before: frozenset[str], after: frozenset[str]) -> frozenset[str]:
    return (noted - (before - after)) | (after - before)


def _generators() -> Mapping[str, Any]:
    import torch

    return {"cpu": torch.get_rng_state().numpy().tobytes()}


def _set_generator(_name: str, value: bytes) -> None:
    import torch

    torch.set_rng_state(torch.frombuffer(bytearray(value), dtype=torch.uint8))


def _never(_name: str, _value: Any) -> bool:
    return False


def _said(name: str, before: Any, after: Any) -> str:
    if isinstance(before, _Float32Precision) and isinstance(after, _Float32Precision):
        pairs = zip(before.by_operation, after.by_operation, strict=True)
        return f"{name} ({', '.join(arrow(one[0], one[1], two[1]) for one, two in pairs if one != two)})"
    if name in _SHOWN or isinstance(after, bool):
        return arrow(name, "none" if before is None else before, "none" if after is None else after)
    return name


#: Settings whose values say something to a reader, beside those that are on or off.
_SHOWN = ("torch threads", "torch interop threads", "default dtype", "default device", "deterministic algorithms")
