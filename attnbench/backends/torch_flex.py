"""PyTorch's flex_attention. Compiled modes only: its eager form materialises the scores and is not a kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attnbench.backends.registry import register
from attnbench.backends.requirements import Device
from attnbench.hardware.device import type_in_use
from attnbench.model import Workload
from attnbench.workloads import masks

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import AttentionFunction


def _mask_mod(workload: Workload, device: str) -> Callable[..., torch.Tensor] | None:
    """Whether a query sees a key, as flex_attention asks: of batch entry, head, query and key; None where all see all."""
    if workload.mask == "padding":
        lengths = masks.key_lengths(workload, device)
        return lambda b, h, q, k: k < lengths[b]  # noqa: ARG005
    if workload.mask == "bool":
        dense = masks.dense_mask(workload, device)
        assert dense is not None
        seen = dense[0, 0]
        return lambda b, h, q, k: seen[q, k]  # noqa: ARG005
    shift, causal = workload.k_shape[1] - workload.seq, workload.mask == "causal"
    if not workload.packed:
        return (lambda b, h, q, k: k <= q + shift) if causal else None  # noqa: ARG005
    import torch

    lengths = masks.cu_seqlens(workload, device).diff()
    sequence = torch.arange(len(workload.packed), device=device).repeat_interleave(lengths)
    if causal:
        return lambda b, h, q, k: (sequence[q] == sequence[k]) & (k <= q)  # noqa: ARG005
    return lambda b, h, q, k: sequence[q] == sequence[k]  # noqa: ARG005


def _refusals(workload: Workload, device: str) -> tuple[str, ...]:
    """Why flex_attention cannot run this workload; its kernel for the CPU has no backward pass."""
    if device == "cpu" and workload.direction != "forward":
        return ("needs device cuda for gradients, found cpu",)
    return ()


@register(
    "torch_flex",
    "torch",
    layout="bhsd",
    modes=("default", "max-autotune"),
    requires=(Device("cpu", "cuda"),),
    takes=("cross", "gqa", "causal", "padding", "bool", "packed", "backward"),
    refuses=_refusals,
    route={"cuda": r"flex_attention"},
)
def torch_flex(workload: Workload) -> AttentionFunction:
    """PyTorch's flex_attention without a score modification; a mask is a block mask that is made before the call."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    device = type_in_use()
    options: dict[str, Any] = {"enable_gqa": True} if workload.group > 1 else {}
    mask_mod = _mask_mod(workload, device)
    if mask_mod is not None:
        batch = workload.batch if workload.mask == "padding" else None  # None: the same for every one
        options["block_mask"] = create_block_mask(
            mask_mod, batch, None, workload.seq, workload.k_shape[1], device=device
        )

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = flex_attention(q, k, v, **options)
        return output

    return attention
