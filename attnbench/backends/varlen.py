"""Packed tokens: what the varlen functions of every library take, made of a workload before the timed call.

Such a function takes q as `[tokens, heads, head_dim]` and finds the sequences in it by `cu_seqlens`. A workload without
packing is the same problem with equal lengths: its batch entries follow each other, and one entry is one sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench.workload import Workload
from attnbench.workloads import masks

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from attnbench.backends.registry import AttentionFunction


@dataclass(frozen=True)
class Sequences:
    """Where the sequences of a workload begin and end among its tokens.

    cu_seqlens_q, cu_seqlens_k: int32 `[sequences + 1]`. longest_q, longest_k: tokens. real_keys: int64, which of all keys
    of a padded batch are real; None where all are.
    """

    cu_seqlens_q: torch.Tensor
    cu_seqlens_k: torch.Tensor
    longest_q: int
    longest_k: int
    real_keys: torch.Tensor | None = None

    @property
    def arguments(self) -> tuple[torch.Tensor, torch.Tensor, int, int]:
        """In the order in which flash-attn's and PyTorch's functions take them, behind q, k and v."""
        return (self.cu_seqlens_q, self.cu_seqlens_k, self.longest_q, self.longest_k)


def sequences_of(workload: Workload, device: str | torch.device) -> Sequences:
    """Those of a packed or padded workload, or one for each batch entry."""
    import torch

    if workload.packed:
        cu_seqlens, longest = masks.cu_seqlens(workload, device), max(workload.packed)
        return Sequences(cu_seqlens, cu_seqlens, longest, longest)
    batch, keys = workload.batch, workload.k_shape[1]
    cu_seqlens_q = torch.arange(batch + 1, dtype=torch.int32, device=device) * workload.seq
    if workload.mask != "padding":
        cu_seqlens_k = torch.arange(batch + 1, dtype=torch.int32, device=device) * keys
        return Sequences(cu_seqlens_q, cu_seqlens_k, workload.seq, keys)
    lengths = masks.key_lengths(workload, device)
    cu_seqlens_k = torch.zeros(batch + 1, dtype=torch.int32, device=device)
    cu_seqlens_k[1:] = lengths.cumsum(0)
    real = (torch.arange(keys, device=device) < lengths[:, None]).flatten().nonzero()[:, 0]
    return Sequences(cu_seqlens_q, cu_seqlens_k, workload.seq, max(workload.lengths), real)


def on_tokens(sequences: Sequences, attend: Callable[..., torch.Tensor]) -> AttentionFunction:
    """`attend(q, k, v, *sequences.arguments)` as a function of `[batch, seq, heads, head_dim]` tensors.

    Inside the call: the views without a batch axis, which copy only what is not contiguous, and the gathering of the real
    keys of a padded batch, because their caller holds them padded.
    """
    real, arguments = sequences.real_keys, sequences.arguments

    def of_tokens(x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(0, 1)
        return tokens if real is None else tokens.index_select(0, real)

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        output = attend(q.flatten(0, 1), of_tokens(k), of_tokens(v), *arguments)
        of_batch: torch.Tensor = output.unflatten(0, q.shape[:2])
        return of_batch

    return attention
