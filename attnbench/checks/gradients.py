"""Gradients of attention by their definition: in fp64, in the inputs' dtype, and as an ideal fused kernel does them.

With probabilities P, output O and the gradient dO of the output: dV = Pᵀ·dO, dP = dO·Vᵀ, D = rowsum(P∘dP) = rowsum(dO∘O),
dS = P∘(dP − D), dQ = dS·K/√d and dK = dSᵀ·Q/√d; of grouped heads dK and dV are summed over the group. Rows of queries are
taken in chunks, so that the scores in memory never exceed `attention.CHUNK_BYTES`; dK and dV add up over the chunks.
A query that sees no key has P = 0: its dQ is 0, and it adds nothing to dK and dV.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench.checks.attention import chunks, masked, of_query_heads, without_keyless
from attnbench.workload import Workload

if TYPE_CHECKING:
    import torch

    from attnbench.workloads.drawing import Triple

    Tensors = dict[str, torch.Tensor]


def gradients(
    triple: Triple,
    gradient: torch.Tensor,
    dtype: torch.dtype,
    workload: Workload | None = None,
) -> Tensors:
    """Gradients "dq", "dk" and "dv" with every step in `dtype`, in the shapes of q, k and v.

    gradient: of the output, `[batch, seq, heads, head_dim_v]`. Matrix products of 16-bit dtypes add up in fp32, as cuBLAS's
    do, and so do chunks. The steps are those of autograd through FlashAttention's `attention_ref(reorder_ops=True)`.
    """
    return _unfused(triple, gradient, dtype, workload)[0]


def gradients_and_magnitudes(
    triple: Triple, gradient: torch.Tensor, workload: Workload | None = None
) -> tuple[Tensors, Tensors]:
    """The gradients in fp64, and the sums of |terms| behind them, by the same names: (P∘(|dP| + |D|))·|K|/√d for dq.

    Each step of a kernel rounds its terms, which then cancel: so float32's rounding shows relative to these sums.
    """
    import torch

    return _unfused(triple, gradient, torch.float64, workload, magnitudes=True)


def gradients_fused(triple: Triple, gradient: torch.Tensor, workload: Workload | None = None) -> Tensors:
    """What an ideal fused kernel returns: every step in fp32, but P, dS, the output and the gradients rounded to q's dtype.

    Arguments and shapes as in `gradients`. D is the sum of dO∘O with the output that the forward pass has stored. Every
    kernel that feeds tensor cores in that dtype has these roundings, so none is much better where numbers are normal. dk and
    dv of grouped heads are rounded per query head and then summed, as FlashAttention's `mha_bwd` does
    (csrc/flash_attn/flash_api.cpp).

    Some kernels round dS/√d instead: cuDNN, and the memory-efficient one (kernel_backward.h). In fp16 that may be below the
    normal numbers, as at 65,536 tokens. So dS is rounded with a power of two near 1/√d in it; normal numbers round the same.
    """
    import torch

    q, k, v = triple
    scale = k.shape[-1] ** -0.5
    power = 2.0 ** math.floor(math.log2(scale))
    keys, values = of_query_heads(q, k.float(), v.float())
    sums = _Sums.empty(triple, torch.float32)
    for part in _parts(triple, gradient, keys * scale, torch.float32, workload):
        weights = without_keyless(torch.exp(part.scores - part.scores.amax(dim=-1, keepdim=True)), part.seen)
        total = weights.sum(dim=-1, keepdim=True)
        total = total.where(total > 0, 1)
        output = (weights.to(q.dtype).float() @ values / total).to(q.dtype).float()
        weights = weights / total
        towards = part.gradient @ values.transpose(-1, -2)
        towards_scores = weights * (towards - (part.gradient * output).sum(dim=-1, keepdim=True))
        towards_scores = (towards_scores * power).to(q.dtype).float() * (scale / power)
        sums.add(part, towards_scores, weights.to(q.dtype).float(), keys)
    return sums.of_key_heads(q.dtype)


def _unfused(
    triple: Triple,
    gradient: torch.Tensor,
    dtype: torch.dtype,
    workload: Workload | None,
    magnitudes: bool = False,
) -> tuple[Tensors, Tensors]:
    """The gradients with every step in `dtype`, and their magnitudes where they are asked for, else nothing."""
    import torch

    q, k, v = triple
    scale = k.shape[-1] ** -0.5
    added_in = torch.float64 if dtype is torch.float64 else torch.float32
    keys, values = of_query_heads(q, k.to(dtype) * scale, v.to(dtype))
    sums, sizes = (_Sums.empty(triple, added_in) for _ in range(2))
    for part in _parts(triple, gradient, keys, dtype, workload):
        weights = without_keyless(torch.softmax(part.scores, dim=-1), part.seen).to(added_in)
        towards = (part.gradient @ values.transpose(-1, -2)).to(added_in)
        mean = (weights * towards).sum(dim=-1, keepdim=True)
        sums.add(part, (weights * (towards - mean)).to(dtype).to(added_in), weights, keys)
        if magnitudes:
            sizes.add(part.sizes, weights * (towards.abs() + mean.abs()), weights, keys.abs())
    return _dk_scaled(sums.of_key_heads(dtype), scale), _dk_scaled(
        sizes.of_key_heads(dtype), scale
    ) if magnitudes else {}


def _dk_scaled(tensors: Tensors, scale: float) -> Tensors:
    """The gradients with the scale of dk, where the keys had that of dq."""
    return {**tensors, "dk": tensors["dk"] * scale}


@dataclass(frozen=True)
class _Part:
    """Query rows `start` to `stop` and what belongs to them, `[batch, heads, rows, …]`."""

    start: int
    stop: int
    queries: torch.Tensor
    gradient: torch.Tensor
    scores: torch.Tensor
    seen: torch.Tensor | None

    @property
    def sizes(self) -> _Part:
        """The same with absolute values."""
        return _Part(self.start, self.stop, self.queries.abs(), self.gradient.abs(), self.scores, self.seen)


def _parts(
    triple: Triple, gradient: torch.Tensor, keys: torch.Tensor, dtype: torch.dtype, workload: Workload | None
) -> Iterator[_Part]:
    """All query rows in chunks, in `dtype`. keys: scaled, `[batch, heads, head_dim, keys]`."""
    q = triple[0]
    for start, stop in chunks(q.shape, keys.shape[-1], max(4, dtype.itemsize)):  # 16-bit scores are added up in fp32
        queries, towards = (one[:, start:stop].to(dtype).transpose(1, 2) for one in (q, gradient))
        yield _Part(start, stop, queries, towards, *masked(queries @ keys, workload, None, start, stop))


@dataclass
class _Sums:
    """The gradients of query heads as they add up over the chunks: `[batch, heads, rows, head_dim]`."""

    dq: list[torch.Tensor]
    dk: torch.Tensor
    dv: torch.Tensor
    key_heads: int

    @classmethod
    def empty(cls, triple: Triple, dtype: torch.dtype) -> _Sums:
        q, k, v = triple
        dk, dv = (q.new_zeros((q.shape[0], q.shape[2], *one.shape[1::2]), dtype=dtype) for one in (k, v))
        return cls([], dk, dv, k.shape[2])

    def add(self, part: _Part, towards_scores: torch.Tensor, weights: torch.Tensor, keys: torch.Tensor) -> None:
        """Add the products of dS and P, both in the dtype of the sums; keys: by which dS gives dq."""
        dtype = self.dk.dtype
        self.dq.append(towards_scores @ keys.to(dtype).transpose(-1, -2))
        self.dk += towards_scores.transpose(-1, -2) @ part.queries.to(dtype)
        self.dv += weights.transpose(-1, -2) @ part.gradient.to(dtype)

    def of_key_heads(self, dtype: torch.dtype) -> Tensors:
        """All three in `dtype`, as `[batch, rows, heads, head_dim]`; dk and dv then summed by group."""
        import torch

        tensors = {"dq": torch.cat(self.dq, dim=2), "dk": self.dk, "dv": self.dv}
        tensors = {name: one.to(dtype) for name, one in tensors.items()}
        for name in ("dk", "dv"):
            tensors[name] = tensors[name].unflatten(1, (self.key_heads, -1)).sum(dim=2)
        return {name: one.transpose(1, 2) for name, one in tensors.items()}
