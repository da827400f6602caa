"""SageAttention: int8 scores, probabilities and V in fp16 or e4m3. Releases 1.x (Triton) and 2.x.

A function of 2.x is one backend that is called with the function's own defaults, and one more for each value of an option,
in square brackets, that sets this option alone: `sage_int8_fp8_sm90[per_warp]`. By default all of them smooth K, that is,
subtract its mean over the tokens before they quantise it. `[no_smooth_k]`, which the Triton kernel of 1.x has too, does
not, and has a class of tolerance of its own: where the tokens share a bias, as in outlier-k inputs, int8 loses more by it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from attnbench.backends.device_kernels import TORCHS_OWN
from attnbench.backends.installed import package_text
from attnbench.backends.registry import register
from attnbench.backends.requirements import Capability, Device, DType, Function, HeadDim, Package, TopLeftCausal
from attnbench.hardware.facts import installed_version
from attnbench.workload import Workload

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import AttentionFunction

_MODULE = "sageattention"
_FROM_SOURCE = "build 2.x from github.com/thu-ml/SageAttention"
#: The function by which 2.x is told from 1.x, which has `sageattn` alone: the same Triton kernel under another name.
_TRITON = "sageattn_qk_int8_pv_fp16_triton"
_HEAD_DIMS_OF_1 = (64, 96, 128)
#: What all of them take beyond plain attention. Of a causal mask they say "only applicable when qo_len == kv_len".
_TAKES = ("cross", "gqa", "causal")

#: What a function is called with besides its defaults.
Options = Mapping[str, str | bool]
_GRANULARITIES = ("per_warp", "per_thread")
#: The first release that has a value of an option. Older ones would leave the output as it was allocated, and say nothing.
_SINCE: Mapping[str | bool, tuple[int, ...]] = {"fp32+fp16": (2, 2)}


@dataclass(frozen=True)
class SageFunction:
    """A function of SageAttention 2.x: what it is called here, what it needs, and the options that are set one by one.

    what: in a sentence, for its description. tolerance: its class while it smooths K; that of the unsmoothed one has
    `-unsmoothed` behind it. kernel: regular expression of its device kernel. options: those besides `smooth_k`, which every
    function has. in_1: whether 1.x has it too, as `sageattn`.
    """

    backend: str
    name: str
    what: str
    tolerance: str
    kernel: str
    capability: Capability
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    in_1: bool = False


FUNCTIONS = (
    SageFunction(
        "sage_int8_fp16_triton",
        _TRITON,
        "SageAttention in Triton, scores in int8, values in fp16: its 2.x, or the only kernel of 1.x",
        "int8-qk-fp16-pv",
        r"^_attn_fwd$",
        Capability((8, 0), below=(12, 0)),  # its own dispatch says that it cannot be used on sm_120
        in_1=True,
    ),
    SageFunction(
        "sage_int8_fp16_cuda",
        "sageattn_qk_int8_pv_fp16_cuda",
        "SageAttention 2.x in CUDA, scores in int8, values in fp16",
        "int8-qk-fp16-pv",
        r"\bqk_int_sv_f16_attn_kernel",
        Capability((8, 0)),
        {"qk_quant_gran": _GRANULARITIES, "pv_accum_dtype": ("fp32", "fp16+fp32", "fp16")},
    ),
    SageFunction(
        "sage_int8_fp8_cuda",
        "sageattn_qk_int8_pv_fp8_cuda",
        "SageAttention 2.x in CUDA, scores in int8, values in e4m3",
        "int8-qk-fp8-pv",
        r"\bqk_int_sv_f8_attn_kernel",
        Capability((8, 9)),
        {"qk_quant_gran": _GRANULARITIES, "pv_accum_dtype": ("fp32", "fp32+fp32", "fp32+fp16")},
    ),
    SageFunction(
        "sage_int8_fp8_sm90",
        "sageattn_qk_int8_pv_fp8_cuda_sm90",
        "SageAttention 2.x in CUDA for Hopper, scores in int8, values in e4m3",
        "int8-qk-fp8-pv",
        r"\bqk_int8_sv_f8_attn_kernel",
        Capability((9, 0), below=(10, 0)),
        {"qk_quant_gran": _GRANULARITIES},  # of pv_accum_dtype it has fp32+fp32 only
    ),
)


def sub_variants(function: SageFunction) -> Iterator[tuple[str, Options]]:
    """Backend name and the option that it sets: none, then each value of each option, then no smoothing of K."""
    yield function.backend, {}
    for option, values in function.options.items():
        yield from ((f"{function.backend}[{value}]", {option: value}) for value in values)
    yield f"{function.backend}[no_smooth_k]", {"smooth_k": False}


def _smooths(options: Options) -> bool:
    return options.get("smooth_k") is not False


def _needs(function: SageFunction, options: Options) -> tuple[Any, ...]:
    lowest = max((_SINCE.get(value, ()) for value in options.values()), default=())
    source = "" if function.in_1 else _FROM_SOURCE
    return (
        Package(_MODULE, source=source, lowest=lowest),
        *(() if function.in_1 else (Function(_MODULE, function.name, source),)),
        Device("cuda"),
        function.capability,
        DType("bf16", "fp16"),
        HeadDim(lambda d: d <= 128, "at most 128"),
        TopLeftCausal(),
    )


def _is_1() -> bool:
    """Whether what is installed is 1.x, by what it exports: the version of a copy from a folder is not known."""
    return _TRITON not in (package_text(_MODULE) or _TRITON)


def refused_by_1(workload: Workload, device: str) -> tuple[str, ...]:
    """Why 1.x cannot run this workload; empty when it can, or when 2.x is installed, which pads the head dimension."""
    if device != "cuda" or not _is_1() or workload.head_dim in _HEAD_DIMS_OF_1:
        return ()
    version = installed_version(_MODULE) or "1.x"
    return (f"needs head_dim 64, 96 or 128 in {_MODULE} {version}, found {workload.head_dim}",)


def refused_by_dispatch(workload: Workload, device: str) -> tuple[str, ...]:
    """Why `sageattn` has no kernel here: 2.x knows some architectures by name and raises on every other one."""
    if device != "cuda" or _is_1():
        return refused_by_1(workload, device)
    import torch

    known = re.findall(r'arch == "sm(\d+)"', package_text(_MODULE, "core.py") or "")
    major, minor = torch.cuda.get_device_capability()
    if not known or f"{major}{minor}" in known:
        return ()
    version = installed_version(_MODULE) or "2.x"
    needed = ", ".join(f"sm_{number}" for number in known)
    return (f"needs one of {needed}, for which {_MODULE} {version} has a kernel, found sm_{major}{minor}",)


def _call(name: str, options: Options) -> AttentionFunction:
    """The function of that name, on `[batch, seq, heads, head_dim]`.

    Raises TypeError when it has not got one of the options: every function of the library takes whatever it is given.
    """
    import sageattention

    is_1 = not hasattr(sageattention, _TRITON)
    name = "sageattn" if is_1 and name == _TRITON else name
    function: Callable[..., torch.Tensor] = getattr(sageattention, name)
    known = inspect.signature(function).parameters
    missing = [option for option in ("tensor_layout", *options) if option not in known]
    if missing:
        raise TypeError(f"{function.__name__} has no option {' and no '.join(missing)}, which it would have ignored")

    # 1.x smooths the K that it is given in place: the caller's is kept by a copy, which the call pays for.
    writes_k = is_1 and _smooths(options)

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return function(q, k.clone() if writes_k else k, v, tensor_layout="NHD", **options)

    return attention


def _loader(name: str, options: Options, what: str) -> Callable[[Workload], AttentionFunction]:
    def load(workload: Workload) -> AttentionFunction:
        return _call(name, {**options, "is_causal": True} if workload.mask == "causal" else options)

    load.__doc__ = what
    return load


# Mode eager only: 2.2 takes its functions from the compiler (torch.compiler.disable), so there is no graph to compile, and
# whether later releases, which have operators, or 1.x can be traced was not run yet.
register(
    "sage_auto",
    "SageAttention",
    tolerance="int8-qk-fp8-pv",  # the widest of what it may choose
    requires=(
        Package(_MODULE),
        Device("cuda"),
        Capability((8, 0)),
        DType("bf16", "fp16"),
        HeadDim(lambda d: d <= 128, "at most 128"),
        TopLeftCausal(),
    ),
    takes=_TAKES,
    refuses=refused_by_dispatch,
    route={"cuda": "|".join(function.kernel for function in FUNCTIONS)},
    foreign={"cuda": TORCHS_OWN},
)(
    _loader(
        "sageattn",
        {},
        "SageAttention's `sageattn` as users call it, with the kernel that the installed release chooses",
    )
)

for _function in FUNCTIONS:
    for _backend, _options in sub_variants(_function):
        register(
            _backend,
            "SageAttention",
            tolerance=_function.tolerance + ("" if _smooths(_options) else "-unsmoothed"),
            requires=_needs(_function, _options),
            takes=_TAKES,
            refuses=refused_by_1,
            route={"cuda": _function.kernel},
            foreign={"cuda": "|".join([TORCHS_OWN, *(one.kernel for one in FUNCTIONS if one is not _function)])},
        )(_loader(_function.name, _options, _function.what))
