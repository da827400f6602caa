"""Named classes of permitted error, each with the reason for its numbers (layer 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from attnbench.model import ErrorMetrics, Reason


@dataclass(frozen=True)
class Bound:
    """One metric may reach a sum of what is unavoidable on the very inputs: the factors say how much of each.

    plain: × the error of plain PyTorch attention, every step in the inputs' dtype.
    fused: × the error of an ideal fused kernel, fp32 but for the rounding of probabilities and output to that dtype.
    rounding: × max |(r + 0.3) − 0.3 − r| over the reference r, in that dtype.
    """

    metric: str
    plain: float = 0.0
    fused: float = 0.0
    rounding: float = 0.0


@dataclass(frozen=True)
class Tolerance:
    """A named class of permitted error."""

    name: str
    why: str
    source: str
    bounds: tuple[Bound, ...]


SIXTEEN_BIT = Tolerance(
    name="16-bit",
    why="no element further off than twice what plain PyTorch attention is in the same dtype, plus rounding; and the whole "
    "output no further off than twice what rounding alone makes unavoidable",
    source="max_abs is FlashAttention's own test: max|out − ref| ≤ 2·max|pt − ref| + 2·max|(ref + 0.3) − 0.3 − ref|. "
    "Where scores are large it admits a kernel that is 1 % wrong everywhere, hence rel_l2, in which PyTorch's kernels are "
    "within 2 % of the ideal fused kernel",
    bounds=(Bound("max_abs", plain=2.0, rounding=2.0), Bound("rel_l2", fused=2.0)),
)

TOLERANCES = {tolerance.name: tolerance for tolerance in (SIXTEEN_BIT,)}


def allowed(tolerance: Tolerance, plain: ErrorMetrics, fused: ErrorMetrics, rounding: float) -> dict[str, float]:
    """Largest permitted value per metric, from the unavoidable errors on these inputs."""
    return {
        b.metric: b.plain * getattr(plain, b.metric) + b.fused * getattr(fused, b.metric) + b.rounding * rounding
        for b in tolerance.bounds
    }


def violations(error: ErrorMetrics, limits: dict[str, float], distribution: str) -> tuple[Reason, ...]:
    """Why `error` is not acceptable, worst first; empty when it is. NaN and Inf always fail.

    A metric that is NaN itself fails too: the comparison must hold, instead of not being broken.
    """
    reasons: list[tuple[float, Reason]] = []
    where = f"on {distribution} inputs"
    if error.nonfinite:
        at = list(error.worst_index)
        text = f"{error.nonfinite} elements are NaN or Inf {where}, the first at {at} of [batch, seq, heads, head_dim]"
        reasons.append((math.inf, Reason("nonfinite", text)))
    for metric, limit in limits.items():
        found = getattr(error, metric)
        if not found <= limit:
            text = f"{metric} found {found:.3g}, allowed {limit:.3g} {where}"
            if error.worst_expected is not None and error.worst_found is not None:
                text += (
                    f"; worst element at {list(error.worst_index)} of [batch, seq, heads, head_dim]: "
                    f"{error.worst_found:.5g} instead of {error.worst_expected:.5g}"
                )
            reasons.append((_times_over(found, limit), Reason("tolerance", text)))
    return tuple(reason for _, reason in sorted(reasons, key=lambda r: -r[0]))


def _times_over(found: float, limit: float) -> float:
    """How many times the limit was found; infinite where either is not a number or nothing at all is allowed."""
    return found / limit if limit > 0 and not math.isnan(found) else math.inf
