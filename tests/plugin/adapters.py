"""What tests of adapters to other libraries share: devices that backends are asked about, inputs, and what is right."""

from __future__ import annotations

import torch

from attnbench.backends.requirements import Facts

H200 = Facts("cuda", "NVIDIA H200", (9, 0), (2, 13))
A100 = Facts("cuda", "NVIDIA A100", (8, 0), (2, 13))
CPU = Facts("cpu", "A CPU", None, (2, 13))


def qkv(head_dim: int = 64) -> list[torch.Tensor]:
    """Three of `[1, 64, 2, head_dim]` in bf16, contiguous, the same each time."""
    torch.manual_seed(0)
    return [torch.randn(1, 64, 2, head_dim, dtype=torch.bfloat16) for _ in range(3)]


def expected(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention of `[batch, seq, heads, head_dim]` by torch."""
    heads_first = (x.transpose(1, 2) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(*heads_first).transpose(1, 2)
