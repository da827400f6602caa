"""Which keys a query sees: for the reference in chunks of query rows, and for kernels in the form that they take.

A backend's `load` asks for what its library wants: `dense_mask` for a matrix, `key_lengths` for padding, `cu_seqlens` for
packed sequences. Dense masks come from a hash of row and column, so a chunk of rows is the same as in the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.workload import Workload
from attnbench.workloads.drawing import torch_dtype

if TYPE_CHECKING:
    import torch

#: One key in so many is hidden by a "bool" mask; an "additive" one holds multiples of 1/32 from −2 to below 2, which every
#: dtype represents exactly.
HIDDEN_ONE_IN, BIAS_STEPS, BIAS_STEP = 8, 128, 1 / 32
#: Elements of a dense mask that are made at once.
CHUNK_SCORES = 2**26


def visible(workload: Workload, rows: torch.Tensor, device: str | torch.device) -> torch.Tensor | None:
    """Whether the query rows, int64 `[rows]`, see each key: bool `[batch or 1, 1, rows, keys]`; None where all see all."""
    import torch

    keys = torch.arange(workload.k_shape[1], device=device)
    rows = rows.to(device)
    seen = None
    if workload.mask == "causal":  # aligned at the last query and the last key
        seen = keys[None, :] <= rows[:, None] + (len(keys) - workload.seq)
    elif workload.mask == "bool":
        seen = (_hashed(workload, rows, keys) % HIDDEN_ONE_IN != 0) | (keys[None, :] == rows[:, None] % len(keys))
    elif workload.mask == "padding":
        lengths = key_lengths(workload, device)
        return (keys[None, :] < lengths[:, None])[:, None, None, :].expand(-1, -1, len(rows), -1)
    if workload.packed:
        sequence = torch.bucketize(
            torch.arange(workload.seq, device=device), cu_seqlens(workload, device)[1:], right=True
        )
        same = sequence[rows][:, None] == sequence[None, :]
        seen = same if seen is None else seen & same
    return None if seen is None else seen[None, None]


def bias(workload: Workload, rows: torch.Tensor, device: str | torch.device) -> torch.Tensor | None:
    """What is added to the scores of the query rows: `[1, 1, rows, keys]` in the workload's dtype; None for nothing."""
    import torch

    if workload.mask != "additive":
        return None
    keys = torch.arange(workload.k_shape[1], device=device)
    steps = _hashed(workload, rows.to(device), keys) % BIAS_STEPS - BIAS_STEPS // 2
    return (steps.to(torch.float32) * BIAS_STEP).to(torch_dtype(workload))[None, None]


def dense_mask(workload: Workload, device: str | torch.device) -> torch.Tensor | None:
    """The mask as one matrix, as `scaled_dot_product_attention` takes it: bool (True: seen) or additive.

    `[batch or 1, 1, seq, keys]`; of padding `[batch, 1, 1, keys]`. None without a mask.
    """
    import torch

    seq = 1 if workload.mask == "padding" else workload.seq
    # In chunks: the hash takes eight times the memory of a boolean, and 50,000 tokens have 2.5 billion of them.
    step = max(1, CHUNK_SCORES // workload.k_shape[1])
    mask: torch.Tensor | None = None
    for start in range(0, seq, step):
        rows = torch.arange(start, min(seq, start + step), device=device)
        added = bias(workload, rows, device)
        part = visible(workload, rows, device) if added is None else added
        if part is None or len(rows) == seq:
            return part
        if mask is None:
            mask = part.new_empty((*part.shape[:2], seq, part.shape[3]))
        mask[:, :, start : start + step] = part
    return mask


def key_lengths(workload: Workload, device: str | torch.device) -> torch.Tensor:
    """How many keys of each batch entry are real: int32 `[batch]`."""
    import torch

    lengths = workload.lengths or (workload.k_shape[1],) * workload.batch
    return torch.tensor(lengths, dtype=torch.int32, device=device)


def cu_seqlens(workload: Workload, device: str | torch.device) -> torch.Tensor:
    """Where the packed sequences begin, and where the last one ends: int32 `[sequences + 1]`."""
    import torch

    return torch.tensor((0, *workload.packed), dtype=torch.int32, device=device).cumsum(0, dtype=torch.int32)


def _hashed(workload: Workload, rows: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Seeded pseudo-random numbers of 15 bits, `[rows, keys]`, int64: each depends on its row and column alone."""
    mixed = rows[:, None] * 0x9E3779B1 + keys[None, :] * 0x85EBCA6B + (workload.seed + 1) * 0xC2B2AE35
    mixed = (mixed ^ (mixed >> 15)) * 0x2C1B3C6D % 2**31
    return (mixed ^ (mixed >> 12)) % 2**15
