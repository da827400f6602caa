"""The fp64 reference of an input set, the errors of plain and ideal fused attention, and the distance of an output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench.model import ErrorMetrics

if TYPE_CHECKING:
    import torch

    from attnbench.workloads.inputs import Inputs, Triple

#: Longer sequences are compared on a seeded sample of query rows: the whole reference would cost minutes.
ALL_ROWS_UP_TO = 16_384
SAMPLED_ROWS = 4_096
#: Scores of one chunk of query rows never exceed this.
CHUNK_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Reference:
    """What is correct for one input set: fp64 math attention on the inputs as the kernel gets them.

    output: r, fp64 `[batch, rows, heads, head_dim]`. plain: error of plain attention, every step in the inputs' dtype.
    fused: error of an ideal fused kernel (`attend_fused`). rounding: max |(r + 0.3) − 0.3 − r| in that dtype, as in
    FlashAttention's tests. magnitude: max |r|. rows: the query rows, int64, None for all; rows_text: the same in words.
    """

    output: torch.Tensor
    plain: ErrorMetrics
    fused: ErrorMetrics
    rounding: float
    magnitude: float
    rows: torch.Tensor | None
    rows_text: str


def make_references(inputs: Inputs) -> dict[str, Reference]:
    """The reference of every input set of a workload, by distribution."""
    return {name: make_reference(triple, inputs.workload.seed) for name, triple in inputs.sets.items()}


def make_reference(triple: Triple, seed: int = 0) -> Reference:
    """The reference of q, k, v, each `[batch, seq, heads, head_dim]`, in chunks of query rows."""
    import torch

    q, k, v = triple
    rows, rows_text = _rows(q.shape[1], seed)
    if rows is not None:
        rows = rows.to(q.device)
    output = attend(q, k, v, torch.float64, rows)
    plain = attend(q, k, v, q.dtype, rows)
    quantised = output.to(q.dtype)
    rounding = ((quantised + 0.3) - 0.3 - quantised).abs().max().item()
    fused = attend_fused(q, k, v, rows)
    magnitude = output.abs().max().item()
    return Reference(
        output, metrics(plain, output), metrics(fused, output), float(rounding), magnitude, rows, rows_text
    )


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, dtype: torch.dtype, rows: torch.Tensor | None = None
) -> torch.Tensor:
    """softmax(q·(k/√d)ᵀ)·v with every step in `dtype`, for `rows` of q (None: all): `[batch, rows, heads, head_dim]`.

    The order of operations is that of FlashAttention's `attention_ref(reorder_ops=True)`.
    """
    import torch

    chosen = q if rows is None else q.index_select(1, rows)
    keys = (k.to(dtype) * k.shape[-1] ** -0.5).permute(0, 2, 3, 1)  # [batch, heads, head_dim, seq]
    values = v.to(dtype).transpose(1, 2)  # [batch, heads, seq, head_dim]
    out = torch.empty_like(chosen, dtype=dtype)
    for start, stop in _chunks(chosen.shape, k.shape[1], dtype.itemsize):
        queries = chosen[:, start:stop].to(dtype).transpose(1, 2)
        out[:, start:stop] = (torch.softmax(queries @ keys, dim=-1) @ values).transpose(1, 2)
    return out


def attend_fused(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rows: torch.Tensor | None = None) -> torch.Tensor:
    """What an ideal fused kernel returns: every step in fp32, but exp(scores − max) and the output rounded to q's dtype.

    Shapes as in `attend`. Every kernel that feeds tensor cores in that dtype has these two roundings, so none is much
    better.
    """
    import torch

    chosen = q if rows is None else q.index_select(1, rows)
    keys = (k.float() * k.shape[-1] ** -0.5).permute(0, 2, 3, 1)  # [batch, heads, head_dim, seq]
    values = v.float().transpose(1, 2)  # [batch, heads, seq, head_dim]
    out = torch.empty_like(chosen)
    for start, stop in _chunks(chosen.shape, k.shape[1], torch.float32.itemsize):
        scores = chosen[:, start:stop].float().transpose(1, 2) @ keys
        weights = torch.exp(scores - scores.amax(dim=-1, keepdim=True))
        products = weights.to(q.dtype).float() @ values
        out[:, start:stop] = (products / weights.sum(dim=-1, keepdim=True)).transpose(1, 2).to(q.dtype)
    return out


def metrics(output: torch.Tensor, reference: torch.Tensor) -> ErrorMetrics:
    """Distance of `output` from fp64 `reference`, both `[batch, rows, heads, head_dim]` (formulas: `ErrorMetrics`)."""
    import torch

    values = output.to(torch.float64)
    finite = torch.isfinite(values)
    nonfinite = int(values.numel() - finite.sum().item())
    difference = torch.where(finite, values - reference, torch.zeros_like(values))
    distance = difference.abs()
    clean = torch.where(finite, values, torch.zeros_like(values))
    at = int((torch.argmax((~finite).flatten().to(torch.uint8)) if nonfinite else torch.argmax(distance)).item())
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(at, device="cpu"), values.shape))
    return ErrorMetrics(
        max_abs=distance.max().item(),
        mean_abs=distance.mean().item(),
        mse=distance.square().mean().item(),
        rel_l1=_ratio(distance.sum().item(), reference.abs().sum().item()),
        rel_l2=_ratio(distance.norm().item(), reference.norm().item()),
        cosine=_ratio((clean * reference).sum().item(), clean.norm().item() * reference.norm().item()),
        nonfinite=nonfinite,
        worst_index=index,
        worst_found=None if nonfinite else values[index].item(),
        worst_expected=reference[index].item(),
    )


def _ratio(value: float, norm: float) -> float:
    return value / norm if norm else 0.0


def _rows(seq: int, seed: int) -> tuple[torch.Tensor | None, str]:
    import torch

    if seq <= ALL_ROWS_UP_TO:
        return None, "all"
    generator = torch.Generator(device="cpu").manual_seed(seed)
    rows = torch.randperm(seq, generator=generator, device="cpu")[:SAMPLED_ROWS].sort().values
    return rows, f"{SAMPLED_ROWS} of {seq} query rows, seed {seed}"


def _chunks(shape: torch.Size, keys: int, item_bytes: int) -> Iterator[tuple[int, int]]:
    batch, rows, heads, _ = shape
    size = max(1, CHUNK_BYTES // (batch * heads * keys * item_bytes))
    for start in range(0, rows, size):
        yield start, min(rows, start + size)
