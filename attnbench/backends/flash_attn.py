"""The flash-attn project: FlashAttention-2, FlashAttention-3 and flash-attn 4, each from a package of its own.

flash-attn and flash-attn-4 are installed into one folder, `flash_attn/`, and flash-attn brings an early `flash_attn/cute`
of its own, so a module that can be found does not say whose it is: the two are asked for as distributions.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from attnbench.backends.device_kernels import FLASH_2, FLASH_3, FLASH_4, TORCHS_OWN
from attnbench.model import MODES, Workload
from attnbench.registry import register
from attnbench.requirements import Capability, Device, Distribution, DType, HeadDim, Package

if TYPE_CHECKING:
    import torch

    from attnbench.registry import AttentionFunction

_FROM_SOURCE = "build it from the folder hopper of github.com/Dao-AILab/flash-attention"


def attention_alone(returned: Any) -> torch.Tensor:
    """The attention of what a function returned: older releases return it with its log-sum-exp, newer ones alone."""
    output: torch.Tensor = returned[0] if isinstance(returned, tuple) else returned
    return output


@register(
    "flash_attn_2",
    "flash-attn",
    modes=MODES,
    requires=(
        Distribution("flash-attn"),
        Device("cuda"),
        Capability((8, 0)),
        DType("bf16", "fp16"),
        HeadDim(lambda d: d <= 256, "at most 256"),
    ),
    route={"cuda": FLASH_2},
    foreign={"cuda": f"{TORCHS_OWN}|{FLASH_3}|{FLASH_4}"},
)
def flash_attn_2(workload: Workload) -> AttentionFunction:
    """FlashAttention-2. Its option `deterministic` stays False: it is about the backward pass."""
    del workload
    from flash_attn import flash_attn_func

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return attention_alone(flash_attn_func(q, k, v, deterministic=False))

    return attention


@functools.cache  # a second registration would take the first one's from under what was compiled with it
def _flash_attn_3_op() -> Any:
    """FlashAttention-3 as one operator of torch, for torch.compile: releases differ in whether dynamo can trace them.

    The name is attnbench's own: a registration under that of the library's operator would replace it. What the library
    returns is handed on without a copy, which an operator may do with memory that is none of its inputs'.
    """
    import torch
    from flash_attn_interface import flash_attn_func

    def forward(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return attention_alone(flash_attn_func(q, k, v))

    def shape_of_it(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        del k
        dtype = torch.bfloat16 if q.dtype == torch.float8_e4m3fn else q.dtype
        return q.new_empty((*q.shape[:-1], v.shape[-1]), dtype=dtype)

    operator = torch.library.custom_op(
        "attnbench::flash_attn_3", forward, mutates_args=(), schema="(Tensor q, Tensor k, Tensor v) -> Tensor"
    )
    operator.register_fake(shape_of_it)
    return operator


def _flash_attn_3() -> AttentionFunction:
    """FlashAttention-3 as it stands in eager mode, and as one operator inside torch.compile."""
    import torch
    from flash_attn_interface import flash_attn_func

    operator = _flash_attn_3_op()

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_compiling():
            compiled: torch.Tensor = operator(q, k, v)
            return compiled
        return attention_alone(flash_attn_func(q, k, v))

    return attention


@register(
    "flash_attn_3",
    "flash-attn",
    modes=MODES,
    requires=(
        Package("flash_attn_interface", source=_FROM_SOURCE),
        Device("cuda"),
        Capability((9, 0), below=(10, 0)),
        DType("bf16", "fp16"),
        HeadDim(lambda d: d % 8 == 0 and d <= 256, "a multiple of 8, at most 256"),
    ),
    route={"cuda": FLASH_3},
    foreign={"cuda": f"{TORCHS_OWN}|{FLASH_2}|{FLASH_4}"},
)
def flash_attn_3(workload: Workload) -> AttentionFunction:
    """FlashAttention-3, for Hopper."""
    del workload
    return _flash_attn_3()


@register(
    "flash_attn_3_fp8",
    "flash-attn",
    tolerance="fp8",
    modes=MODES,
    requires=(
        Package("flash_attn_interface", source=_FROM_SOURCE),
        Device("cuda"),
        Capability((9, 0), below=(10, 0)),
        DType("bf16"),  # the output of e4m3 inputs is bf16
        HeadDim(lambda d: d % 16 == 0 and d <= 256, "a multiple of 16, at most 256"),
    ),
    route={"cuda": FLASH_3},
    foreign={"cuda": f"{TORCHS_OWN}|{FLASH_2}|{FLASH_4}"},
)
def flash_attn_3_fp8(workload: Workload) -> AttentionFunction:
    """FlashAttention-3 on e4m3, for Hopper, cast to inside the call and without scales. A caller holds bf16."""
    del workload
    import torch

    in_e4m3 = _flash_attn_3()

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return in_e4m3(q.to(torch.float8_e4m3fn), k.to(torch.float8_e4m3fn), v.to(torch.float8_e4m3fn))

    return attention


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
    route={"cuda": FLASH_4},
    foreign={"cuda": f"{TORCHS_OWN}|{FLASH_2}|{FLASH_3}"},
)
def flash_attn_4(workload: Workload) -> AttentionFunction:
    """flash-attn 4, written in CuTe DSL, for Hopper and Blackwell; compiled by its own compiler on its first call."""
    del workload
    from flash_attn.cute import flash_attn_func

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return attention_alone(flash_attn_func(q, k, v))

    return attention
