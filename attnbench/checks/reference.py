"""The fp64 reference of an input set, the errors of plain and ideal fused attention, and the distance of an output."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from attnbench.checks.attention import attend, attend_fused
from attnbench.checks.dropout import Spread, spreads
from attnbench.checks.excerpt import Excerpt, some_heads, some_rows
from attnbench.checks.gradients import gradients, gradients_and_magnitudes, gradients_fused
from attnbench.model import ErrorMetrics
from attnbench.workload import Workload
from attnbench.workloads import masks

if TYPE_CHECKING:
    import torch

    from attnbench.workloads.drawing import Triple
    from attnbench.workloads.inputs import Inputs


@dataclass(frozen=True)
class Reference:
    """What is correct of one output for one input set: fp64 math attention on the inputs as the kernel gets them.

    output: r, fp64, `[batch, rows, heads, head_dim_v]` or of a gradient; 0 in a row that sees no key. plain: error
    of plain attention, every step in the inputs' dtype. fused: error of an ideal fused kernel (`attend_fused`). rounding:
    max |(r + 0.3) − 0.3 − r| in that dtype, as in FlashAttention's tests. magnitude: max |r|, of a gradient the largest sum
    of |terms|. excerpt: which part of the output it has. keyless: bool `[batch or 1, rows or 1, 1, 1]` of that part, where a
    row sees no key, so that nothing is asked of it; None where all see one.
    cancellation: of a gradient, ‖sums of |terms|‖₂ / ‖r‖₂; 1 of an output. spread: with dropout, of an output, dq or dv.
    every_row_sees_a_key: of the whole output, so that outside of the excerpt, too, it must be finite.
    """

    output: torch.Tensor
    plain: ErrorMetrics
    fused: ErrorMetrics
    rounding: float
    magnitude: float
    excerpt: Excerpt
    keyless: torch.Tensor | None = None
    cancellation: float = 1.0
    spread: Spread | None = None
    every_row_sees_a_key: bool = True


#: Distribution → name of an output → its reference.
References = dict[str, dict[str, Reference]]


def make_references(inputs: Inputs) -> References:
    """The references of every input set of a workload, of each tensor that a call returns."""
    return {name: _of_call(triple, inputs) for name, triple in inputs.kept.items()}


def _of_call(triple: Triple, inputs: Inputs) -> dict[str, Reference]:
    """Of a large problem an output is compared on some rows of all heads, gradients on all rows of some heads.

    With dropout an output beside gradients has their heads, because their statistics relate it to them.
    """
    workload, gradient = inputs.workload, inputs.gradient
    references: dict[str, Reference] = {}
    if workload.direction == "forward" or (workload.direction != "backward" and not workload.dropout):
        output = {"output": make_reference(triple, workload.seed, workload)}
        references |= _with_spreads(output, triple, None, workload)
    if gradient is not None:
        references |= _of_some_heads(triple, gradient, workload)
    every_row_sees_a_key = _keyless(triple[0], triple[1], None, workload) is None
    return {name: replace(one, every_row_sees_a_key=every_row_sees_a_key) for name, one in references.items()}


def _of_some_heads(triple: Triple, gradient: torch.Tensor, workload: Workload) -> dict[str, Reference]:
    """The references of gradients, with dropout also of the output if the call returns it, as a problem of their own."""
    part = some_heads(triple[0], triple[1], workload.seed)
    if part is not None:
        q, k, v = (part.of(name).of(one) for name, one in zip("qkv", triple, strict=True))
        triple, gradient, workload = (q, k, v), part.of("do").of(gradient), part.problem(workload)
    references: dict[str, Reference] = {}
    if workload.dropout and workload.direction != "backward":
        references["output"] = make_reference(triple, workload.seed, workload, Excerpt())
    references |= make_gradient_references(triple, gradient, workload)
    references = _with_spreads(references, triple, gradient, workload)
    return (
        references if part is None else {name: replace(one, excerpt=part.of(name)) for name, one in references.items()}
    )


def _with_spreads(
    references: dict[str, Reference], triple: Triple, gradient: torch.Tensor | None, workload: Workload
) -> dict[str, Reference]:
    """With dropout the same references with what their tensors scatter by, else what is given."""
    if not workload.dropout:
        return references
    rows = references["output"].excerpt.rows if "output" in references else None
    expected = {name: one.output for name, one in references.items()}
    scattered = spreads(triple, expected, gradient, rows, workload)
    return {name: replace(one, spread=scattered.get(name)) for name, one in references.items()}


def make_reference(
    triple: Triple, seed: int = 0, workload: Workload | None = None, excerpt: Excerpt | None = None
) -> Reference:
    """The reference of q, k, v in chunks of query rows, under the mask of the workload, if one is given.

    seed: of the sampled rows of a large problem, unless an excerpt is given.
    """
    import torch

    q, k, v = triple
    excerpt = some_rows(q, k, seed) if excerpt is None else excerpt
    output = attend(q, k, v, torch.float64, excerpt.rows, workload)
    plain = attend(q, k, v, q.dtype, excerpt.rows, workload)
    fused = attend_fused(q, k, v, excerpt.rows, workload)
    return Reference(
        output,
        metrics(plain, output),
        metrics(fused, output),
        _rounding(output, q.dtype),
        output.abs().max().item(),
        excerpt,
        _keyless(q, k, excerpt.rows, workload),
    )


def make_gradient_references(
    triple: Triple, gradient: torch.Tensor, workload: Workload | None = None
) -> dict[str, Reference]:
    """The references of "dq", "dk" and "dv" for a gradient of the output, `[batch, seq, heads, head_dim_v]`."""
    q, k, _ = triple
    exact, sizes = gradients_and_magnitudes(triple, gradient, workload)
    plain = gradients(triple, gradient, q.dtype, workload)
    fused = gradients_fused(triple, gradient, workload)
    keyless = _keyless(q, k, None, workload)
    return {
        name: Reference(
            output,
            metrics(plain[name], output),
            metrics(fused[name], output),
            _rounding(output, q.dtype),
            sizes[name].max().item(),
            Excerpt(),
            keyless if name == "dq" else None,
            max(1.0, _ratio(sizes[name].norm().item(), output.norm().item())),
        )
        for name, output in exact.items()
    }


def _rounding(output: torch.Tensor, dtype: torch.dtype) -> float:
    quantised = output.to(dtype)
    return float(((quantised + 0.3) - 0.3 - quantised).abs().max().item())


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
    nothing = torch.zeros((), dtype=torch.float64, device=values.device)
    distance = torch.where(finite, values - reference, nothing).abs()
    clean = torch.where(finite, values, nothing)
    worst = torch.where(finite.all(), torch.argmax(distance), _first_true(~finite))
    read = (
        *((~finite).sum(), worst, values.take(worst), reference.take(worst)),
        *(distance.max(), distance.mean(), distance.square().mean(), distance.sum(), reference.abs().sum()),
        *(distance.norm(), reference.norm(), (clean * reference).sum(), clean.norm()),
    )
    # One transfer for all: where a kernel is not deterministic, every round of the timing is judged by this.
    nonfinite, at, found, expected, most, mean, mse, l1, of_l1, l2, of_l2, product, of_clean = torch.stack(
        [one.double() for one in read]
    ).tolist()
    return ErrorMetrics(
        max_abs=most,
        mean_abs=mean,
        mse=mse,
        rel_l1=_ratio(l1, of_l1),
        rel_l2=_ratio(l2, of_l2),
        cosine=_ratio(product, of_clean * of_l2),
        nonfinite=int(nonfinite),
        worst_index=_place(int(at), values.shape),
        worst_found=None if nonfinite else found,
        worst_expected=expected,
    )


def first_true(where: torch.Tensor) -> tuple[int, ...]:
    """Index of the first element of a tensor of booleans that is true."""
    return _place(int(_first_true(where).item()), where.shape)


def _first_true(where: torch.Tensor) -> torch.Tensor:
    """Its place in the flattened tensor."""
    import torch

    return torch.argmax(where.flatten().to(torch.uint8))


def _place(at: int, shape: torch.Size) -> tuple[int, ...]:
    """The index along each axis of the element at this place of the flattened tensor."""
    import numpy as np  # torch's own imports SymPy when it is first called

    return tuple(int(i) for i in np.unravel_index(at, shape))


def _ratio(value: float, norm: float) -> float:
    return value / norm if norm else 0.0
