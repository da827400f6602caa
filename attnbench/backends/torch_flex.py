"""PyTorch's flex_attention. Compiled modes only: its eager form materialises the scores and is not a kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attnbench.backends.registry import register
from attnbench.backends.requirements import Device
from attnbench.hardware.device import type_in_use
from attnbench.workload import Workload
from attnbench.workloads import masks

if TYPE_CHECKING:
    import torch
    from torch.nn.attention.flex_attention import BlockMask

    from attnbench.backends.registry import AttentionFunction

#: Queries and keys of a block, as `create_block_mask` has them by default, and queries that are looked at together.
BLOCK, CHUNK = 128, 2048
INT32_MAX = 2**31 - 1


def _mask_mod(workload: Workload, device: str) -> Callable[..., torch.Tensor] | None:
    """Whether a query sees a key, as flex_attention asks: of batch entry, head, query and key; None where all see all."""
    if workload.mask == "padding":
        lengths = masks.key_lengths(workload, device)
        return lambda b, h, q, k: k < lengths[b]  # noqa: ARG005
    if workload.mask == "bool":
        dense = masks.dense_mask(workload, device)
        assert dense is not None
        seen = dense[0, 0]
        if seen.numel() <= INT32_MAX:
            return lambda b, h, q, k: seen[q, k]  # noqa: ARG005
        # The compiled kernel works out the element's offset in the type of its indices, which are int32.
        return lambda b, h, q, k: seen[q.long(), k.long()]  # noqa: ARG005
    shift, causal = workload.k_shape[1] - workload.seq, workload.mask == "causal"
    if not workload.packed:
        return (lambda b, h, q, k: k <= q + shift) if causal else None  # noqa: ARG005
    import torch

    lengths = masks.cu_seqlens(workload, device).diff()
    sequence = torch.arange(len(workload.packed), device=device).repeat_interleave(lengths)
    if causal:
        return lambda b, h, q, k: (sequence[q] == sequence[k]) & (k <= q)  # noqa: ARG005
    return lambda b, h, q, k: sequence[q] == sequence[k]  # noqa: ARG005


def block_mask(workload: Workload, device: str) -> BlockMask | None:
    """What `create_block_mask` makes of the workload's mask, `CHUNK` queries at a time; None where all see all.

    `create_block_mask` makes a matrix of all queries and keys and needs about 9 bytes for each of its elements (the peak of
    a process on the CPU), which would be 24 GB for `hunyuan-480p` and 155 GB for 131,072 tokens of Llama 3.
    """
    import torch
    from torch.nn.attention.flex_attention import BlockMask

    mask_mod = _mask_mod(workload, device)
    if mask_mod is None:
        return None
    queries, keys = workload.seq, workload.k_shape[1]
    some, whole = [], []
    for start in range(0, queries, CHUNK):
        seen = masks.visible(workload, torch.arange(start, min(start + CHUNK, queries), device=device), device)
        assert seen is not None, "a workload with a mask_mod has a mask"
        padded = torch.nn.functional.pad(seen, (0, -keys % BLOCK, 0, -seen.shape[2] % BLOCK))
        blocks = padded.unflatten(3, (-1, BLOCK)).unflatten(2, (-1, BLOCK))
        some.append(blocks.any(5).any(3))
        whole.append(blocks.all(5).all(3))
    full = torch.cat(whole, 2)
    partial = torch.cat(some, 2) & ~full
    return BlockMask.from_kv_blocks(
        *(*_listed(partial), *_listed(full)), BLOCK_SIZE=BLOCK, mask_mod=mask_mod, seq_lengths=(queries, keys)
    )


def _listed(chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of bool `[batch, heads, query blocks, key blocks]`: how many key blocks are chosen, and which come first. int32."""
    import torch

    order = chosen.to(torch.int32).argsort(dim=3, descending=True, stable=True)
    return chosen.sum(3, dtype=torch.int32), order.to(torch.int32)


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
    from torch.nn.attention.flex_attention import flex_attention

    options: dict[str, Any] = {"enable_gqa": True} if workload.group > 1 else {}
    made = block_mask(workload, type_in_use())
    if made is not None:
        options["block_mask"] = made

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = flex_attention(q, k, v, **options)
        return output

    return attention
