"""The fp64 reference of an input set, the errors of plain and ideal fused attention, and the distance of an output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench.model import ErrorMetrics, Workload
from attnbench.workloads import masks

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
    """What is correct of one output for one input set: fp64 math attention on the inputs as the kernel gets them.

    output: r, fp64, `[batch, rows, heads, head_dim_v]` or the shape of a gradient; 0 in a row that sees no key. plain: error
    of plain attention, every step in the inputs' dtype. fused: error of an ideal fused kernel (`attend_fused`). rounding:
    max |(r + 0.3) − 0.3 − r| in that dtype, as in FlashAttention's tests. magnitude: max |r|. rows: the rows along the
    sequence that it has, int64, None for all; rows_text: the same in words. keyless: bool `[batch or 1, rows or 1, 1, 1]`,
    where a row sees no key, so that nothing is asked of it; None where all see one.
    """

    output: torch.Tensor
    plain: ErrorMetrics
    fused: ErrorMetrics
    rounding: float
    magnitude: float
    rows: torch.Tensor | None
    rows_text: str
    keyless: torch.Tensor | None = None


#: Distribution → name of an output → its reference.
References = dict[str, dict[str, Reference]]


def make_references(inputs: Inputs) -> References:
    """The references of every input set of a workload, of each tensor that a call returns."""
    return {
        name: {"output": make_reference(triple, inputs.workload.seed, inputs.workload)}
        for name, triple in inputs.kept.items()
    }


def make_reference(triple: Triple, seed: int = 0, workload: Workload | None = None) -> Reference:
    """The reference of q, k, v in chunks of query rows, under the mask of the workload, if one is given.

    seed: of the sample of rows of a long sequence.
    """
    import torch

    q, k, v = triple
    rows, rows_text = _rows(q.shape[1], seed)
    if rows is not None:
        rows = rows.to(q.device)
    output = attend(q, k, v, torch.float64, rows, workload)
    plain = attend(q, k, v, q.dtype, rows, workload)
    quantised = output.to(q.dtype)
    rounding = ((quantised + 0.3) - 0.3 - quantised).abs().max().item()
    fused = attend_fused(q, k, v, rows, workload)
    magnitude = output.abs().max().item()
    errors = metrics(plain, output), metrics(fused, output)
    return Reference(output, *errors, float(rounding), magnitude, rows, rows_text, _keyless(q, k, rows, workload))


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
    keys, values = _of_query_heads(q, k.to(dtype) * k.shape[-1] ** -0.5, v.to(dtype))
    out = torch.empty((*chosen.shape[:3], v.shape[3]), dtype=dtype, device=q.device)
    for start, stop in _chunks(chosen.shape, k.shape[1], dtype.itemsize):
        queries = chosen[:, start:stop].to(dtype).transpose(1, 2)
        scores, seen = _masked(queries @ keys, workload, rows, start, stop)
        weights = torch.softmax(scores, dim=-1)
        out[:, start:stop] = (_without_keyless(weights, seen) @ values).transpose(1, 2)
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
    keys, values = _of_query_heads(q, k.float() * k.shape[-1] ** -0.5, v.float())
    out = torch.empty((*chosen.shape[:3], v.shape[3]), dtype=q.dtype, device=q.device)
    for start, stop in _chunks(chosen.shape, k.shape[1], torch.float32.itemsize):
        queries = chosen[:, start:stop].float().transpose(1, 2)
        scores, seen = _masked(queries @ keys, workload, rows, start, stop)
        weights = _without_keyless(torch.exp(scores - scores.amax(dim=-1, keepdim=True)), seen)
        products = weights.to(q.dtype).float() @ values
        total = weights.sum(dim=-1, keepdim=True)
        out[:, start:stop] = (products / total.where(total > 0, 1)).transpose(1, 2).to(q.dtype)
    return out


def _of_query_heads(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys `[batch, heads, head_dim, keys]` and values `[batch, heads, keys, head_dim_v]`, repeated for each query head."""
    group = q.shape[2] // k.shape[2]
    if group > 1:
        k, v = (one.repeat_interleave(group, dim=2) for one in (k, v))
    return k.permute(0, 2, 3, 1), v.transpose(1, 2)


def _masked(
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


def _without_keyless(weights: torch.Tensor, seen: torch.Tensor | None) -> torch.Tensor:
    """The weights, 0 in rows that see no key, where a softmax is not defined."""
    return weights if seen is None else weights.masked_fill(~seen.any(dim=-1, keepdim=True), 0)


def _keyless(
    q: torch.Tensor, k: torch.Tensor, rows: torch.Tensor | None, workload: Workload | None
) -> torch.Tensor | None:
    """Which query rows see no key, bool `[batch or 1, rows or 1, 1, 1]`; None where each sees one."""
    import torch

    if workload is None:
        return None
    if workload.mask == "padding":
        none = (masks.key_lengths(workload, q.device) == 0)[:, None, None, None]
        return none if none.any() else None
    if workload.mask == "causal" and q.shape[1] > k.shape[1]:
        which = torch.arange(q.shape[1], device=q.device) if rows is None else rows
        return (which < q.shape[1] - k.shape[1])[None, :, None, None]
    return None


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
