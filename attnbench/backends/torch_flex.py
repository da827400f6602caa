"""PyTorch's flex_attention. Compiled modes only: its eager form materialises the scores and is not a kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.backends.registry import register
from attnbench.backends.requirements import Device
from attnbench.model import Workload

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import AttentionFunction


@register(
    "torch_flex",
    "torch",
    layout="bhsd",
    modes=("default", "max-autotune"),
    requires=(Device("cpu", "cuda"),),
    route={"cuda": r"flex_attention"},
)
def torch_flex(workload: Workload) -> AttentionFunction:
    """PyTorch's flex_attention without a score modification, so that it computes plain attention."""
    del workload
    from torch.nn.attention.flex_attention import flex_attention

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return flex_attention(q, k, v)

    return attention
