"""What must hold of outputs and gradients under dropout, whatever random numbers a kernel draws.

A kernel keeps each probability P with 1 − p and divides by that: with m of 0 or 1 the output is Σ_j P_ij·m_ij/(1 − p)·v_j.
Its mean is the reference r, its variance p/(1 − p)·Σ_j P_ij²·v_j². dv and dq are as linear in m: dv with the gradient dO in
the place of v, dq with dP_ij·(k_j − Σ_l P_il·k_l)/√d. Rows (query rows; of dv, key rows) draw independent numbers. Let z be
the distance from r in units of its standard deviation. Over the rows

- mean z along r is 0: a missing or wrong rescale moves it;
- mean z² of all elements is 1: a wrong rate moves it, and no dropout makes it 0.

What chance may do is bounded, not approximated, so the false-alarm rate holds on few rows too: a right kernel fails a check
of one tensor at most once in a million (`FALSE_ALARM`). The bounds are Bernstein's inequality for mean z, and for mean z²
its forms for positive variables (below) and for min(z², `CLIP`) (above), with E z⁴ ≤ max(3, 1/(p(1 − p)) − 3). Rates may be
off by 1/256, because FlashAttention draws 8 bits; rounding is allowed for.

dk mixes the numbers of all keys. It is held by ⟨dk, k⟩ = ⟨dq, q⟩ in each head, and dv by ⟨dv, v⟩ = ⟨dO, O⟩ too, which fails
where the backward pass drops others than the forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench.checks.attention import chunks, masked, of_query_heads, without_keyless
from attnbench.model import Reason, Statistic
from attnbench.workload import Workload

if TYPE_CHECKING:
    import torch

    from attnbench.workloads.drawing import Triple

    Tensors = Mapping[str, torch.Tensor]

#: How often the statistics of one tensor on one input set may refuse a right kernel, at most.
FALSE_ALARM = 1e-6
#: FlashAttention compares 8 random bits with the rate (`p_dropout_in_uint8_t` in csrc/flash_attn/src/flash.h).
RATE_STEP = 1 / 256
#: z² above this count as this, so that few elements cannot decide.
CLIP = 16.0
#: Elements and rows count where dropout scatters them by more than so many rounding errors (root mean square). Where a
#: softmax is all but one key, dq scatters by next to nothing and its rounding is no smaller: on an H200 three right kernels
#: had a mean z of 8 to 40 in bf16 there.
ABOVE_ROUNDING = 16.0
#: Rounding errors by which two sums may differ that are equal in exact arithmetic: six standard deviations of the worst
#: error that the tolerance allows.
ROUNDINGS = 6.0


@dataclass(frozen=True)
class Spread:
    """By how much dropout scatters a tensor around its reference, fp64: `[batch, rows, heads, head_dim]`.

    elements: standard deviation of each element. along: `[batch, rows, heads, 1]`, that of a row along the reference.
    """

    elements: torch.Tensor
    along: torch.Tensor


def spreads(
    triple: Triple,
    expected: Tensors,
    gradient: torch.Tensor | None,
    rows: torch.Tensor | None,
    workload: Workload,
) -> dict[str, Spread]:
    """The spread of "output", "dq" and "dv", of those that are in `expected`, fp64 references.

    gradient: of the output, needed for the last two. rows: those of the reference of the output, int64, None for all.
    """
    share = workload.dropout / (1 - workload.dropout)
    variances: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    if "output" in expected:
        variances["output"] = _of_output(triple, expected["output"], rows, workload)
    if "dq" in expected and gradient is not None:
        variances["dq"] = _of_dq(triple, expected["dq"], gradient, workload)
    if "dv" in expected and gradient is not None:
        variances["dv"] = _of_dv(triple, expected["dv"], gradient, workload)
    return {
        name: Spread(*((one.clamp(min=0) * share).sqrt().transpose(1, 2) for one in both))
        for name, both in variances.items()
    }


def _probabilities(
    triple: Triple, rows: torch.Tensor | None, workload: Workload
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Slices of the rows (None: all query rows) and their probabilities, fp64 `[batch, heads, rows, keys]`."""
    import torch

    q, k, v = triple
    chosen = q if rows is None else q.index_select(1, rows)
    keys, _ = of_query_heads(q, k.double() * k.shape[-1] ** -0.5, v)
    for start, stop in chunks(chosen.shape, k.shape[1], torch.float64.itemsize):
        queries = chosen[:, start:stop].double().transpose(1, 2)
        scores, seen = masked(queries @ keys, workload, rows, start, stop)
        yield slice(start, stop), without_keyless(torch.softmax(scores, dim=-1), seen)


def _of_output(
    triple: Triple, expected: torch.Tensor, rows: torch.Tensor | None, workload: Workload
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    values = of_query_heads(triple[0], *triple[1:])[1].double()
    directions = _directions(expected).transpose(1, 2)
    elements, along = [], []
    for here, weights in _probabilities(triple, rows, workload):
        squared = weights.square()
        elements.append(squared @ values.square())
        towards = directions[:, :, here] @ values.transpose(-1, -2)
        along.append((squared * towards.square()).sum(dim=-1, keepdim=True))
    return torch.cat(elements, dim=2), torch.cat(along, dim=2)


def _of_dq(
    triple: Triple, expected: torch.Tensor, gradient: torch.Tensor, workload: Workload
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    q, k, v = triple
    turned, values = of_query_heads(q, k.double(), v.double())
    keys = turned.transpose(-1, -2)
    towards_output = gradient.double().transpose(1, 2)
    directions = _directions(expected).transpose(1, 2)
    elements, along = [], []
    for here, weights in _probabilities(triple, None, workload):
        squared = (weights * (towards_output[:, :, here] @ values.transpose(-1, -2))).square()
        mean = weights @ keys
        towards = directions[:, :, here] @ turned - (directions[:, :, here] * mean).sum(dim=-1, keepdim=True)
        total = squared.sum(dim=-1, keepdim=True)
        elements.append(squared @ keys.square() - 2 * mean * (squared @ keys) + total * mean.square())
        along.append((squared * towards.square()).sum(dim=-1, keepdim=True))
    return torch.cat(elements, dim=2) / k.shape[-1], torch.cat(along, dim=2) / k.shape[-1]


def _of_dv(
    triple: Triple, expected: torch.Tensor, gradient: torch.Tensor, workload: Workload
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    group = workload.group
    towards = gradient.double().transpose(1, 2)
    directions = _directions(expected).transpose(1, 2).repeat_interleave(group, dim=1)
    elements = torch.zeros_like(directions)
    along = torch.zeros_like(directions[..., :1])
    for here, weights in _probabilities(triple, None, workload):
        squared = weights.square().transpose(-1, -2)
        elements += squared @ towards[:, :, here].square()
        on_direction = directions @ towards[:, :, here].transpose(-1, -2)
        along += (squared * on_direction.square()).sum(dim=-1, keepdim=True)
    return elements.unflatten(1, (-1, group)).sum(dim=2), along.unflatten(1, (-1, group)).sum(dim=2)


def _directions(expected: torch.Tensor) -> torch.Tensor:
    """Each row as a vector of length 1; 0 where the row is."""
    norm = expected.norm(dim=-1, keepdim=True)
    return expected.div(norm.where(norm > 0, 1))


def statistics(
    output: torch.Tensor, expected: torch.Tensor, spread: Spread, rate: float, error: float
) -> tuple[Statistic, ...]:
    """Mean z and mean z² of an output, with what they may be; empty where nothing scatters.

    output, expected: on the same rows, `[batch, rows, heads, head_dim]`; the second is the fp64 reference without dropout.
    error: relative L2 of what rounding makes unavoidable.
    """
    distance = output.double() - expected
    rounding = max(error, _half_ulp(output.dtype))
    drift = RATE_STEP / (1 - rate) + 2 * rounding
    floor = ABOVE_ROUNDING * rounding * expected.square().mean().sqrt().item()
    return (
        *_mean(distance, expected, spread, rate, drift, floor),
        *_square(distance, expected, spread, rate, drift, floor),
    )


def _mean(
    distance: torch.Tensor, expected: torch.Tensor, spread: Spread, rate: float, drift: float, floor: float
) -> tuple[Statistic, ...]:
    sd = spread.along
    valid = sd > max(1e-9 * sd.max().item(), floor)
    rows = int(valid.sum().item())
    if not rows:
        return ()
    along = (distance * _directions(expected)).sum(dim=-1, keepdim=True)[valid] / sd[valid]
    shift = drift * (expected.norm(dim=-1, keepdim=True)[valid] / sd[valid]).mean().item()
    share = rate / (1 - rate)
    most = max(1.0, share) / math.sqrt(share)  # of one probability's part of z
    limit = shift + _bernstein(rows * _widest(rate)[1], most) / rows
    return (Statistic("mean z", along.mean().item(), -limit, limit),)


def _square(
    distance: torch.Tensor, expected: torch.Tensor, spread: Spread, rate: float, drift: float, floor: float
) -> tuple[Statistic, ...]:
    sd = spread.elements
    valid = sd > max(1e-9 * sd.max().item(), floor)
    counted = valid.sum(dim=-1)
    rows = int((counted > 0).sum().item())
    if not rows:
        return ()
    safe = sd.where(valid, 1)
    per_row = (((distance / safe).square() * valid).sum(dim=-1) / counted.clamp(min=1))[counted > 0]
    shifts = (drift * expected.abs() / safe)[valid]
    narrow, wide = _widest(rate)
    fourth = wide**2 * max(3.0, 1 / (rate * (1 - rate)) - 3)
    slack = 2 * shifts.mean().item() + shifts.square().mean().item()
    low = narrow - slack - math.sqrt(2 * fourth * _chances() / rows)
    high = wide + slack + _bernstein(rows * fourth, CLIP) / rows
    clipped = per_row.clamp(max=CLIP).mean().item()
    return (
        Statistic("mean z²", per_row.mean().item(), max(0.0, low), math.inf),
        Statistic(f"mean min(z², {CLIP:g})", clipped, 0.0, high),
    )


def _chances() -> float:
    """ln(4/`FALSE_ALARM`): four bounds share the rate: mean z on both sides, mean z² below and above."""
    return math.log(4 / FALSE_ALARM)


def _bernstein(variance: float, most: float) -> float:
    """What a sum of independent variables of mean 0, none above `most`, exceeds with probability e^−`_chances` at most."""
    part = most * _chances() / 3
    return part + math.sqrt(part**2 + 2 * variance * _chances())


def _widest(rate: float) -> tuple[float, float]:
    """The variance at the lowest and the highest rate that count as this one, in units of that at the rate itself."""
    rates = (max(0.0, rate - RATE_STEP), rate, min(1.0, rate + RATE_STEP))
    ratios = [one * (1 - one) / (rate * (1 - rate)) for one in rates]
    return min(ratios), max(ratios)


def _half_ulp(dtype: torch.dtype) -> float:
    import torch

    return torch.finfo(dtype).eps / 2


def consistency(
    outputs: Tensors, triple: Triple, gradient: torch.Tensor, errors: Mapping[str, float]
) -> dict[str, Statistic]:
    """By how much the sums differ that are equal where forward and backward pass drop the same, for "dk" and "dv".

    outputs: "dq", "dk", "dv", and "output" of the same forward pass. errors: the relative L2 that is allowed of each.
    """
    q, k, v = triple
    smallest = 2 * _half_ulp(q.dtype)  # dividing by 1 − p rounds where attention without dropout is exact
    errors = {name: max(error, smallest) for name, error in errors.items()}
    pairs = {"dk": (("dk", k), ("dq", q)), "dv": (("dv", v), ("output", gradient))}
    return {
        name: Statistic(
            "largest |⟨dk, k⟩ − ⟨dq, q⟩| of a head, in rounding errors"
            if name == "dk"
            else "largest |⟨dv, v⟩ − ⟨do, output⟩| of a head, in rounding errors",
            _difference(outputs, pairs[name], k.shape[2], errors),
            0.0,
            ROUNDINGS,
        )
        for name in pairs
    }


def _difference(
    outputs: Tensors, pair: tuple[tuple[str, torch.Tensor], ...], key_heads: int, errors: Mapping[str, float]
) -> float:
    sums, roundings = [], []
    for name, other in pair:
        products = (outputs[name].double() * other.double()).unflatten(2, (key_heads, -1))
        sums.append(products.sum(dim=(1, 3, 4)))
        roundings.append(errors[name] * products.square().sum(dim=(1, 3, 4)).sqrt())
    allowed = roundings[0] + roundings[1]
    differences = (sums[0] - sums[1]).abs()
    return float((differences / allowed.where(allowed > 0, 1)).max().item())


def violations(found: tuple[Statistic, ...], where: str) -> tuple[Reason, ...]:
    """Why statistics are outside of what they may be, worst first; empty where all are within. where: `on randn inputs`."""
    broken = sorted((one for one in found if not one.within), key=_times_off, reverse=True)
    return tuple(
        Reason("dropout", f"{one.name} found {one.found:.4g}, needed {one.low:.4g} to {one.high:.4g} {where}")
        for one in broken
    )


def _times_off(one: Statistic) -> float:
    """How far outside it is, in widths of what it may be; infinite where it is not a number."""
    off = max(one.low - one.found, one.found - one.high)
    return math.inf if math.isnan(off) or one.high <= one.low else off / (one.high - one.low)
