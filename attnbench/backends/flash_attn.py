"""The flash-attn project: FlashAttention-2, FlashAttention-3 and flash-attn 4, each from a package of its own.

flash-attn and flash-attn-4 are installed into one folder, `flash_attn/`, and flash-attn brings an early `flash_attn/cute`
of its own, so a module that can be found does not say whose it is: the two are asked for as distributions.

FlashAttention-3 is one module, under either of two names: `flash_attn_interface`, built from the project's folder hopper,
or `fa3_fwd_interface` of the wheel fa3-fwd, which is the same code with the forward pass alone. Where both are, the first
is taken: it is what somebody built here, and has more. The record says which it was (`source`).
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnbench.backends.device_kernels import FLASH_2, FLASH_3, FLASH_4, TORCHS_OWN
from attnbench.backends.e4m3 import scaled
from attnbench.backends.installed import first_module, module_text
from attnbench.backends.registry import register
from attnbench.backends.requirements import (
    AsksFor,
    Capability,
    Device,
    Distribution,
    DType,
    HeadDim,
    Package,
)
from attnbench.backends.varlen import on_tokens, sequences_of
from attnbench.hardware.device import type_in_use
from attnbench.hardware.facts import Facts, installed_version
from attnbench.model import MODES
from attnbench.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from attnbench.backends.registry import AttentionFunction


@dataclass(frozen=True)
class Interface:
    """A module that FlashAttention-3 goes by.

    distribution: what pip knows it as. config: the module that its build writes beside it, whose flags say what was left
    out; releases from before it have none. without: what was left out where there is no such module.
    """

    module: str
    distribution: str
    config: str
    without: frozenset[str] = frozenset()

    @property
    def build(self) -> str:
        """What is installed, for a sentence and for the record."""
        version = installed_version(self.distribution)
        return f"{self.module} of {self.distribution} {version}" if version else f"{self.module} of unknown version"

    @property
    def left_out(self) -> frozenset[str]:
        """What this build was made without, "FP16" and "HDIM256" for instance."""
        text = module_text(self.config)
        return self.without if text is None else frozenset(re.findall(r"FLASHATTENTION_DISABLE_(\w+)\W+True\b", text))


#: In the order in which they are taken.
INTERFACES = (
    Interface("flash_attn_interface", "flash_attn_3", "flash_attn_config"),
    Interface("fa3_fwd_interface", "fa3-fwd", "fa3_fwd_config", without=frozenset({"FP16", "BACKWARD"})),
)
_MODULES = tuple(interface.module for interface in INTERFACES)
#: How to get all of it.
BUILD_OF_3 = "build flash_attn_interface from the folder hopper of github.com/Dao-AILab/flash-attention"
_INSTALLED_3 = Package(_MODULES[0], also=_MODULES[1:], source=f"pip install fa3-fwd, or {BUILD_OF_3}")

_REQUIRED_BY_3 = (_INSTALLED_3, Device("cuda"), Capability((9, 0), below=(10, 0)))

#: Head dimensions that FlashAttention-3 has kernels for; it pads to the next one that was built.
_HEAD_DIMS = (64, 96, 128, 192, 256)


def interface() -> Interface | None:
    """The FlashAttention-3 that is taken here, not imported; None where none is installed."""
    module = first_module(*_MODULES)
    return next((known for known in INTERFACES if known.module == module), None)


@dataclass(frozen=True)
class Flash3Build:
    """That FlashAttention-3 was built with the workload's dtype, head dimension and direction: a build can leave them out.

    fp8: whether the call is in e4m3, whatever the workload's dtype. varlen: whether it is of packed tokens.
    Silent where none is installed: `Package` says so.
    """

    fp8: bool = False
    varlen: bool = False

    @property
    def needed(self) -> str:
        if self.fp8:
            return "a build with fp8 and the head_dim"
        return f"a build with {'varlen, ' if self.varlen else ''}the dtype, the head_dim and the direction"

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del facts
        installed = interface()
        if installed is None:
            return None
        left_out = installed.left_out
        dtype = "fp8" if self.fp8 else workload.dtype
        enough = [f"HDIM{built}" for built in _HEAD_DIMS if built >= workload.head_dim]
        lacking = {}
        if dtype.upper() in left_out:
            lacking[dtype] = [dtype.upper()]
        if enough and left_out.issuperset(enough):
            lacking[f"head_dim {workload.head_dim}"] = enough
        if self.varlen and "VARLEN" in left_out:
            lacking["varlen"] = ["VARLEN"]
        if workload.direction != "forward" and "BACKWARD" in left_out:
            lacking["gradients"] = ["BACKWARD"]
        if not lacking:
            return None
        flags = ", ".join(f"FLASHATTENTION_DISABLE_{flag}" for flags in lacking.values() for flag in flags)
        return f"needs a build with {' and '.join(lacking)}, found {installed.build} built without ({flags})"


def build_of_3() -> str:
    """What `load` has taken, for the record."""
    taken = interface()
    return taken.build if taken else ""


def _function_of_3(name: str) -> Any:
    """A function of the library. Raises whatever the module raises on import."""
    return getattr(importlib.import_module(first_module(*_MODULES) or _MODULES[0]), name)


def attention_alone(returned: Any) -> torch.Tensor:
    """The attention of what a function returned: older releases return it with its log-sum-exp, newer ones alone."""
    output: torch.Tensor = returned[0] if isinstance(returned, tuple) else returned
    return output


def is_causal(workload: Workload) -> dict[str, bool]:
    """The argument of every function of the family; its mask is aligned at the last query and key, as a workload's is."""
    return {"causal": True} if workload.mask == "causal" else {}


def _options_of_2(workload: Workload, deterministic: bool = False) -> dict[str, Any]:
    """Arguments besides the tensors; those that are not asked for are left to the library's defaults."""
    dropout = {"dropout_p": workload.dropout} if workload.dropout else {}
    return {"deterministic": deterministic, **is_causal(workload), **dropout}


_REQUIRED_BY_2 = (
    Distribution("flash-attn"),
    Device("cuda"),
    Capability((8, 0)),
    DType("bf16", "fp16"),
    HeadDim(lambda d: d <= 256, "at most 256"),
)
_TAKEN_BY_2 = ("cross", "gqa", "causal", "dropout", "backward")
_register_2 = functools.partial(
    register,
    family="flash-attn",
    route={"cuda": FLASH_2},
    foreign={"cuda": f"{TORCHS_OWN}|{FLASH_3}|{FLASH_4}"},
)


def _flash_attn_2(workload: Workload, deterministic: bool) -> AttentionFunction:
    from flash_attn import flash_attn_func

    options = _options_of_2(workload, deterministic)

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return attention_alone(flash_attn_func(q, k, v, **options))

    return attention


@_register_2("flash_attn_2", modes=MODES, requires=_REQUIRED_BY_2, takes=_TAKEN_BY_2)
def flash_attn_2(workload: Workload) -> AttentionFunction:
    """FlashAttention-2. Its option `deterministic`, which is about the backward pass, stays False."""
    return _flash_attn_2(workload, deterministic=False)


@_register_2(
    "flash_attn_2[deterministic]",
    modes=MODES,
    requires=(*_REQUIRED_BY_2, AsksFor("backward")),
    takes=_TAKEN_BY_2,
)
def flash_attn_2_deterministic(workload: Workload) -> AttentionFunction:
    """FlashAttention-2 with gradients that are summed in a fixed order, so that two calls return the same bits."""
    return _flash_attn_2(workload, deterministic=True)


@_register_2("flash_attn_2_varlen", requires=_REQUIRED_BY_2, takes=(*_TAKEN_BY_2, "padding", "packed"))
def flash_attn_2_varlen(workload: Workload) -> AttentionFunction:
    """FlashAttention-2 on packed tokens, `flash_attn_varlen_func`.

    The tensors `cu_seqlens` are made before the call; a workload without packing is one sequence for each batch entry.
    """
    from flash_attn import flash_attn_varlen_func

    return _varlen(workload, flash_attn_varlen_func, _options_of_2(workload))


def _varlen(workload: Workload, function: Callable[..., Any], options: dict[str, Any]) -> AttentionFunction:
    """A varlen function of the family on the sequences of a workload."""

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *where: Any) -> torch.Tensor:
        return attention_alone(function(q, k, v, *where, **options))

    return on_tokens(sequences_of(workload, type_in_use()), attend)


@functools.cache  # a second registration would take the first one's from under what was compiled with it
def _flash_attn_3_op() -> Any:
    """FlashAttention-3 as one operator of torch, for torch.compile: releases differ in whether dynamo can trace them.

    The name is attnbench's own: a registration under that of the library's operator would replace it. What the library
    returns is handed on without a copy, which an operator may do with memory that is none of its inputs'.
    """
    import torch

    flash_attn_func = _function_of_3("flash_attn_func")

    def forward(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        causal: bool = False,
        q_descale: torch.Tensor | None = None,
        k_descale: torch.Tensor | None = None,
        v_descale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        given = {"q_descale": q_descale, "k_descale": k_descale, "v_descale": v_descale}
        options = {name: value for name, value in given.items() if value is not None}
        return attention_alone(flash_attn_func(q, k, v, **({"causal": True} if causal else {}), **options))

    def shape_of_it(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool = False, *descales: torch.Tensor | None
    ) -> torch.Tensor:
        del k, causal, descales
        dtype = torch.bfloat16 if q.dtype == torch.float8_e4m3fn else q.dtype
        return q.new_empty((*q.shape[:-1], v.shape[-1]), dtype=dtype)

    operator = torch.library.custom_op(
        "attnbench::flash_attn_3",
        forward,
        mutates_args=(),
        schema="(Tensor q, Tensor k, Tensor v, bool causal=False, Tensor? q_descale=None, Tensor? k_descale=None, "
        "Tensor? v_descale=None) -> Tensor",
    )
    operator.register_fake(shape_of_it)
    return operator


def _flash_attn_3(workload: Workload) -> Callable[..., torch.Tensor]:
    """FlashAttention-3 as it stands in eager mode, and as one operator inside torch.compile; takes its scales by name.

    The operator has no gradients: with them the library's own function is compiled, which not every release lets dynamo
    trace.
    """
    import torch

    flash_attn_func = _function_of_3("flash_attn_func")
    operator = _flash_attn_3_op()
    options, has_gradients = is_causal(workload), workload.direction != "forward"

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **descales: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_compiling() and not has_gradients:
            compiled: torch.Tensor = operator(q, k, v, **options, **descales)
            return compiled
        return attention_alone(flash_attn_func(q, k, v, **options, **descales))

    return attention


@register(
    "flash_attn_3",
    "flash-attn",
    modes=MODES,
    requires=(
        *_REQUIRED_BY_3,
        DType("bf16", "fp16"),
        HeadDim(lambda d: d % 8 == 0 and d <= 256, "a multiple of 8, at most 256"),
        Flash3Build(),
    ),
    takes=("cross", "gqa", "causal", "backward"),
    route={"cuda": FLASH_3},
    foreign={"cuda": f"{TORCHS_OWN}|{FLASH_2}|{FLASH_4}"},
    source=build_of_3,
)
def flash_attn_3(workload: Workload) -> AttentionFunction:
    """FlashAttention-3, for Hopper."""
    return _flash_attn_3(workload)


@register(
    "flash_attn_3_varlen",
    "flash-attn",
    requires=(
        *_REQUIRED_BY_3,
        DType("bf16", "fp16"),
        HeadDim(lambda d: d % 8 == 0 and d <= 256, "a multiple of 8, at most 256"),
        Flash3Build(varlen=True),
    ),
    takes=("cross", "gqa", "causal", "padding", "packed", "backward"),
    route={"cuda": FLASH_3},
    foreign={"cuda": f"{TORCHS_OWN}|{FLASH_2}|{FLASH_4}"},
    source=build_of_3,
)
def flash_attn_3_varlen(workload: Workload) -> AttentionFunction:
    """FlashAttention-3 on packed tokens, `flash_attn_varlen_func`, for Hopper.

    The tensors `cu_seqlens` are made before the call; a workload without packing is one sequence for each batch entry.
    """
    return _varlen(workload, _function_of_3("flash_attn_varlen_func"), is_causal(workload))


def quantised(x: torch.Tensor, kv_heads: int, per_head: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """`[batch, seq, heads, head_dim]` in e4m3, and what the kernel multiplies it by: fp32 `[batch, kv_heads]`, of q as well.

    per_head: a scale for each key head of each sequence, which its query heads share; else one, as xDiT does it.
    """
    batch, _, heads, _ = x.shape
    grouped = x.unflatten(2, (kv_heads, heads // kv_heads))  # [batch, seq, kv_heads, group, head_dim]
    in_e4m3, scale = scaled(grouped, (1, 3, 4) if per_head else (0, 1, 2, 3, 4))
    return in_e4m3.flatten(2, 3), scale.view(-1, scale.shape[2]).expand(batch, kv_heads)


def _flash_attn_3_scaled(workload: Workload, per_head: bool) -> AttentionFunction:
    in_e4m3 = _flash_attn_3(workload)
    kv_heads = workload.k_shape[2]

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        (q, of_q), (k, of_k), (v, of_v) = (quantised(x, kv_heads, per_head) for x in (q, k, v))
        return in_e4m3(q, k, v, q_descale=of_q, k_descale=of_k, v_descale=of_v)

    return attention


_register_3_fp8 = functools.partial(
    register,
    family="flash-attn",
    tolerance="fp8",
    modes=MODES,
    requires=(
        *_REQUIRED_BY_3,
        DType("bf16"),  # the output of e4m3 inputs is bf16
        HeadDim(lambda d: d % 16 == 0 and d <= 256, "a multiple of 16, at most 256"),
        Flash3Build(fp8=True),
    ),
    takes=("cross", "gqa", "causal"),
    route={"cuda": FLASH_3},
    foreign={"cuda": f"{TORCHS_OWN}|{FLASH_2}|{FLASH_4}"},
    source=build_of_3,
)


@_register_3_fp8("flash_attn_3_fp8")
def flash_attn_3_fp8(workload: Workload) -> AttentionFunction:
    """FlashAttention-3 on e4m3, for Hopper, cast to inside the call: as it is, or with scales that the call works out."""
    import torch

    in_e4m3 = _flash_attn_3(workload)

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return in_e4m3(q.to(torch.float8_e4m3fn), k.to(torch.float8_e4m3fn), v.to(torch.float8_e4m3fn))

    return attention


@_register_3_fp8("flash_attn_3_fp8[per_tensor]")
def flash_attn_3_fp8_per_tensor(workload: Workload) -> AttentionFunction:
    """FlashAttention-3 on e4m3 with a scale for each of q, k and v, as xDiT calls it. The call works the scales out."""
    return _flash_attn_3_scaled(workload, per_head=False)


@_register_3_fp8("flash_attn_3_fp8[per_head]")
def flash_attn_3_fp8_per_head(workload: Workload) -> AttentionFunction:
    """FlashAttention-3 on e4m3 with a scale for each key head of each sequence. The call works the scales out."""
    return _flash_attn_3_scaled(workload, per_head=True)


@register(
    "flash_attn_4",
    "flash-attn",
    requires=(
        Distribution("flash-attn-4"),
        Distribution("nvidia-cutlass-dsl"),
        Device("cuda"),
        Capability((9, 0)),
        DType("bf16", "fp16"),
        HeadDim(lambda d: d % 8 == 0 and d <= 256, "a multiple of 8, at most 256"),
    ),
    takes=("cross", "gqa", "causal", "backward"),
    route={"cuda": FLASH_4},
    foreign={"cuda": f"{TORCHS_OWN}|{FLASH_2}|{FLASH_3}"},
)
def flash_attn_4(workload: Workload) -> AttentionFunction:
    """flash-attn 4, written in CuTe DSL, for Hopper and Blackwell; compiled by its own compiler on its first call."""
    from flash_attn.cute import flash_attn_func

    options = is_causal(workload)

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return attention_alone(flash_attn_func(q, k, v, **options))

    return attention
