"""PyTorch's attention on packed tokens, `torch.nn.attention.varlen`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from attnbench.backends.device_kernels import CUDNN, CUTLASS, FLASH_4, PACKAGE_FLASH, TORCHS_FLASH
from attnbench.backends.registry import register
from attnbench.backends.requirements import Capability, Device, DType, HeadDim, TorchVersion
from attnbench.backends.varlen import on_tokens, sequences_of
from attnbench.hardware.device import type_in_use
from attnbench.model import MODES
from attnbench.workload import Workload

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import AttentionFunction


@register(
    "torch_varlen",
    "torch",
    modes=MODES,
    requires=(
        TorchVersion((2, 11)),  # the first with `window_size`, which is how it takes a causal mask
        Device("cuda"),
        Capability((8, 0)),
        DType("bf16", "fp16"),
        HeadDim(lambda d: d % 8 == 0 and d <= 256, "a multiple of 8, at most 256"),
    ),
    takes=("cross", "gqa", "causal", "padding", "packed", "backward"),
    route={"cuda": TORCHS_FLASH},
    foreign={"cuda": f"{CUTLASS}|{CUDNN}|{PACKAGE_FLASH}|{FLASH_4}"},
)
def torch_varlen(workload: Workload) -> AttentionFunction:
    """PyTorch's `varlen_attn` on packed tokens, FlashAttention-2 as PyTorch ships it.

    The tensors `cu_seqlens` are made before the call; a workload without packing is one sequence for each batch entry.
    """
    from torch.nn.attention.varlen import varlen_attn

    sequences = sequences_of(workload, type_in_use())
    options: dict[str, Any] = {"window_size": (-1, 0)} if workload.mask == "causal" else {}
    # torch 2.11 takes grouped heads as they come; later releases want to be told.
    if workload.group > 1 and "enable_gqa" in inspect.signature(varlen_attn).parameters:
        options["enable_gqa"] = True

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *where: Any) -> torch.Tensor:
        output = varlen_attn(q, k, v, *where, **options)
        assert not isinstance(output, tuple), "`return_aux` was not asked for"
        return output

    return on_tokens(sequences, attend)
