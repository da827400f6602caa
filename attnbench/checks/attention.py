"""Attention by its definition, in chunks of query rows: in any dtype, and as an ideal fused kernel does it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from attnbench.workload import Workload
from attnbench.workloads import masks

if TYPE_CHECKING:
    import torch

#: Scores of one chunk of query rows never exceed this.
CHUNK_BYTES = 256 * 2**20


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    dtype: torch.dtype,
    rows: torch.Tensor | None = None,
    workload: Workload | None = None,
) -> torch.Tensor:
    """softmax(q·(k/√d)ᵀ)·v with every step in `dtype`, for `rows` of q (None: all): `[batch, rows, heads, head_dim_v]`.

    workload: whose mask hides keys or adds to the scores; without it every query sees every key. A row that sees none is 0.
    The order of operations is that of FlashAttention's `attention_ref(reorder_ops=True)`.
    """
    import torch

    chosen = q if rows is None else q.index_select(1, rows)
    keys, values = of_query_heads(q, k.to(dtype) * k.shape[-1] ** -0.5, v.to(dtype))
    out = torch.empty((*chosen.shape[:3], v.shape[3]), dtype=dtype, device=q.device)
    for start, stop in chunks(chosen.shape, k.shape[1], dtype.itemsize):
        queries = chosen[:, start:stop].to(dtype).transpose(1, 2)
        scores, seen = masked(queries @ keys, workload, rows, start, stop)
        weights = torch.softmax(scores, dim=-1)
        out[:, start:stop] = (without_keyless(weights, seen) @ values).transpose(1, 2)
    return out


def attend_fused(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    rows: torch.Tensor | None = None,
    workload: Workload | None = None,
) -> torch.Tensor:
    """What an ideal fused kernel returns: every step in fp32, but exp(scores − max) and the output rounded to q's dtype.

    Arguments and shapes as in `attend`. Every kernel that feeds tensor cores in that dtype has these two roundings, so none
    is much better.
    """
    import torch

    chosen = q if rows is None else q.index_select(1, rows)
    keys, values = of_query_heads(q, k.float() * k.shape[-1] ** -0.5, v.float())
    out = torch.empty((*chosen.shape[:3], v.shape[3]), dtype=q.dtype, device=q.device)
    for start, stop in chunks(chosen.shape, k.shape[1], torch.float32.itemsize):
        queries = chosen[:, start:stop].float().transpose(1, 2)
        scores, seen = masked(queries @ keys, workload, rows, start, stop)
        weights = without_keyless(torch.exp(scores - scores.amax(dim=-1, keepdim=True)), seen)
        products = weights.to(q.dtype).float() @ values
        total = weights.sum(dim=-1, keepdim=True)
        out[:, start:stop] = (products / total.where(total > 0, 1)).transpose(1, 2).to(q.dtype)
    return out


def of_query_heads(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys `[batch, heads, head_dim, keys]` and values `[batch, heads, keys, head_dim_v]`, repeated for each query head."""
    group = q.shape[2] // k.shape[2]
    if group > 1:
        k, v = (one.repeat_interleave(group, dim=2) for one in (k, v))
    return k.permute(0, 2, 3, 1), v.transpose(1, 2)


def masked(
    scores: torch.Tensor, workload: Workload | None, rows: torch.Tensor | None, start: int, stop: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Scores `[batch, heads, stop − start, keys]` under the workload's mask, and which of them are seen; None for all."""
    import torch

    if workload is None or (workload.mask == "none" and not workload.packed):
        return scores, None
    which = torch.arange(start, stop, device=scores.device) if rows is None else rows[start:stop]
    added = masks.bias(workload, which, scores.device)
    if added is not None:
        return scores + added.to(scores.dtype), None
    seen = masks.visible(workload, which, scores.device)
    return (scores if seen is None else scores.masked_fill(~seen, float("-inf"))), seen


def without_keyless(weights: torch.Tensor, seen: torch.Tensor | None) -> torch.Tensor:
    """The weights, 0 in rows that see no key, where a softmax is not defined."""
    return weights if seen is None else weights.masked_fill(~seen.any(dim=-1, keepdim=True), 0)


def chunks(shape: torch.Size, keys: int, item_bytes: int) -> Iterator[tuple[int, int]]:
    """From which query row to which, for queries `[batch, rows, heads, head_dim]`, so that the scores fit `CHUNK_BYTES`."""
    batch, rows, heads, _ = shape
    size = max(1, CHUNK_BYTES // (batch * heads * keys * item_bytes))
    for start in range(0, rows, size):
        yield start, min(rows, start + size)
