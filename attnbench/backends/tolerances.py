"""Named classes of permitted error, each with the reason for its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from attnbench.model import SIMILARITIES, ErrorMetrics, Reason, is_within


@dataclass(frozen=True)
class Bound:
    """One metric may reach a sum of what is unavoidable on the very inputs: the factors say how much of each.

    floor: it may always reach this many times float32's rounding (`EPS`), of max_abs that of the largest |r|; of a gradient
        that of the largest sum of |terms|, and for relative metrics times the cancellation among them (`Reference`).
    fused_floor: it may always reach this many times the error of an ideal fused kernel.
    plain: × the error of plain PyTorch attention, every step in the inputs' dtype.
    fused: × the error of an ideal fused kernel, fp32 but for the rounding of probabilities and output to that dtype.
    rounding: × max |(r + 0.3) − 0.3 − r| over the reference r, in that dtype.
    """

    metric: str
    plain: float = 0.0
    fused: float = 0.0
    rounding: float = 0.0
    floor: float = 0.0
    fused_floor: float = 0.0


#: float32's ulp at 1.
EPS = 2.0**-23
#: Metrics that are as large as the output is; the others are relative to it.
ABSOLUTE = ("max_abs", "mean_abs")
#: The floors of max_abs and rel_l2. In float32 the error of one right kernel bounds that of another only by chance: each
#: sums in its own order, and a score s that is rounded to EPS·|s| has changed its weight by as much, relative. Over 800
#: shapes of 1 to 384 tokens and head_dim 1 to 256 seven right kernels on the CPU needed up to 46 and 7.7 where twice the
#: error of plain attention was too little. One that is 1 % off in its scale, or drops a key, is 1000 off and more, and
#: 16-bit dtypes round by 2^13 times as much or more, so that there no floor is ever reached.
MAX_ABS_FLOOR, REL_L2_FLOOR = 128.0, 16.0
#: The same of gradients' rel_l2. A backward pass makes P again from the scores and a log-sum-exp that is rounded too. Over
#: 500 shapes of 1 to 129 queries and keys, head_dim 1 to 128, with every mask and grouped heads, five right kernels on the
#: CPU needed up to 55 of max_abs and 34 of rel_l2 (docs/measurements/gradients.md).
GRADIENT_REL_L2_FLOOR = 64.0


@dataclass(frozen=True)
class Tolerance:
    """A named class of permitted error.

    bounds: relative to what is unavoidable on the very inputs.
    numbers: absolute, input distribution → metric → largest permitted value (of `SIMILARITIES` the smallest). A class
        that states any states them for every distribution of `attnbench.workloads.drawing`.
    gradients: bounds of dq, dk and dv; a class without any is not for kernels with a backward pass or dropout.
    """

    name: str
    why: str
    source: str
    bounds: tuple[Bound, ...] = ()
    numbers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    gradients: tuple[Bound, ...] = ()


SIXTEEN_BIT = Tolerance(
    name="16-bit",
    why="no element further off than twice what plain PyTorch attention is in the same dtype, plus rounding; and the whole "
    "output no further off than twice what rounding alone makes unavoidable",
    source="max_abs is FlashAttention's own test: max|out − ref| ≤ 2·max|pt − ref| + 2·max|(ref + 0.3) − 0.3 − ref|. "
    "Where scores are large it admits a kernel that is 1 % wrong everywhere, hence rel_l2, in which PyTorch's kernels are "
    "within 2 % of the ideal fused kernel. Of gradients FlashAttention's tests allow 3·max|pt − ref|, its README says 2 "
    "(`Check.within_twice`). A kernel that takes D from the rounded output is further off on few rows, where plain "
    "attention may be exact by chance, so three times the ideal fused kernel, which does the same, is always allowed. "
    "rel_l2 of gradients: an emulation of FlashAttention-2 has 1.0 times the ideal; PyTorch's kernel for the CPU, which "
    "adds dk and dv up in bf16 or fp16, has up to 2.6 (8 query heads on 1 key head, 1,024 tokens). On randn the limit is "
    "0.7 % in bf16: a kernel that is 1 % wrong everywhere is refused",
    bounds=(
        Bound("max_abs", plain=2.0, rounding=2.0, floor=MAX_ABS_FLOOR),
        Bound("rel_l2", fused=2.0, floor=REL_L2_FLOOR),
    ),
    gradients=(
        Bound("max_abs", plain=3.0, rounding=2.0, floor=MAX_ABS_FLOOR, fused_floor=3.0),
        Bound("rel_l2", fused=3.0, floor=GRADIENT_REL_L2_FLOOR),
    ),
)

UNFUSED_SIXTEEN_BIT = Tolerance(
    name="16-bit-unfused",
    why="for kernels that write the scores in the inputs' dtype before the softmax: as 16-bit for every element, and the "
    "whole output little further off than plain PyTorch attention, which rounds the scores too",
    source="Transformer Engine 2.20.2's unfused attention on an H200 has 0.87 to 0.93 of plain attention's rel_l2 "
    "(1×4608×24×128, bf16), and 2 to 9 times that of the ideal fused kernel, by how large the scores are",
    bounds=(
        Bound("max_abs", plain=2.0, rounding=2.0, floor=MAX_ABS_FLOOR),
        Bound("rel_l2", plain=1.25, floor=REL_L2_FLOOR),
    ),
    gradients=(
        Bound("max_abs", plain=3.0, rounding=2.0, floor=MAX_ABS_FLOOR, fused_floor=3.0),
        Bound("rel_l2", plain=1.25, floor=GRADIENT_REL_L2_FLOOR),
    ),
)

_EMULATED = (
    "tests/plugin/quantised.py, which quantises as these kernels do and computes everything else in fp32: at most {} of "
    "relative L1 on randn for 64 to 16,384 tokens and head_dim 64 and 128, where kernels on an H200 had {} "
    "(1×4608×24×128, bf16). Allowed is 1.5 times the largest error that the emulation has over those shapes{}"
)

INT8_FP16 = Tolerance(
    name="int8-qk-fp16-pv",
    why="Q and K in int8 with a scale per block, warp or thread, K less its mean before; probabilities and V in fp16. No "
    "kernel of this kind can lose much less, and one without smoothing, with a wrong scale or without some keys loses more",
    source=_EMULATED.format("0.0134", "0.0113 to 0.0134", ""),
    numbers={
        "randn*randint(1,5)": {"rel_l1": 0.069, "rel_l2": 0.083, "cosine": 0.9966},
        "randn": {"rel_l1": 0.020, "rel_l2": 0.020, "cosine": 0.9998},
        "outlier-k": {"rel_l1": 0.020, "rel_l2": 0.020, "cosine": 0.9998},
    },
)

INT8_FP8 = Tolerance(
    name="int8-qk-fp8-pv",
    why="Q and K in int8 as in int8-qk-fp16-pv; probabilities in e4m3, and V in e4m3 with a scale per channel, whose three "
    "bits of fraction lose more than int8 does in the scores",
    source=_EMULATED.format(
        "0.0403",
        "0.0381 to 0.0385",
        ", on randn 1.46 times, and on outlier-k 1.07: without smoothing K it is only 1.13 to 1.21 times as large there, "
        "which is told apart from 1,024 tokens on",
    ),
    numbers={
        "randn*randint(1,5)": {"rel_l1": 0.080, "rel_l2": 0.089, "cosine": 0.9960},
        "randn": {"rel_l1": 0.059, "rel_l2": 0.059, "cosine": 0.9982},
        "outlier-k": {"rel_l1": 0.043, "rel_l2": 0.043, "cosine": 0.9991},
    },
)

_UNSMOOTHED = (
    "tests/plugin/quantised.py, as for {0}, without smoothing: at most {1} of relative L1 on outlier-k, of which 1.5 times "
    "is allowed. On the other distributions its largest errors are those with smoothing, to 3 %, and so are the numbers. {2}"
)

INT8_FP16_UNSMOOTHED = Tolerance(
    name="int8-qk-fp16-pv-unsmoothed",
    why="as int8-qk-fp16-pv, but K as it is: a bias that all tokens share widens the steps of int8, which are then too wide "
    "for what tells the tokens apart. On outlier-k that doubles the error",
    source=_UNSMOOTHED.format(INT8_FP16.name, "0.0270", "SageAttention 1.0.6 passed it on an H100"),
    numbers={**INT8_FP16.numbers, "outlier-k": {"rel_l1": 0.041, "rel_l2": 0.041, "cosine": 0.9992}},
)

INT8_FP8_UNSMOOTHED = Tolerance(
    name="int8-qk-fp8-pv-unsmoothed",
    why="as int8-qk-fp8-pv, but K as it is: on outlier-k the error of the scores doubles, and that of the output, of which "
    "e4m3 has the larger part, grows by 13 to 21 %",
    source=_UNSMOOTHED.format(INT8_FP8.name, "0.0463", "SageAttention 2.2.0 passed it on an H200"),
    numbers={**INT8_FP8.numbers, "outlier-k": {"rel_l1": 0.069, "rel_l2": 0.069, "cosine": 0.9976}},
)

INT8 = Tolerance(
    name="int8",
    why="Q and K in int8 with a scale per thread, both rotated by a Hadamard matrix and K less one of its keys where that "
    "makes it smaller; V in int8 with a scale per channel; probabilities in unsigned int8, scaled to the largest of each "
    "row and tile of keys. Rotating makes up for most of what int8 loses where values are wide",
    source="tests/plugin/quantised.py, which quantises as the source of comfy-kitchen 0.2.31 does and computes everything "
    "else in fp32: at most 0.0173 of relative L1 on randn for 64 to 111,600 tokens and head_dim 64 and 128. Allowed is 1.5 "
    "times the largest error that the emulation has over those shapes, on outlier-k 1.25 times: a kernel that neither "
    "rotates nor subtracts is only 1.5 to 1.7 times as far off there",
    numbers={
        "randn*randint(1,5)": {"rel_l1": 0.058, "rel_l2": 0.060, "cosine": 0.9982},
        "randn": {"rel_l1": 0.026, "rel_l2": 0.026, "cosine": 0.99966},
        "outlier-k": {"rel_l1": 0.0238, "rel_l2": 0.0238, "cosine": 0.99972},
    },
)

FP4 = Tolerance(
    name="fp4",
    why="q, k, v and probabilities in e2m1 with a scale in e4m3 for each 16 (NVFP4), q less the mean of each 128 queries, "
    "which is added in fp32, k less its mean: one bit of fraction everywhere",
    source="tests/plugin/quantised.py, which quantises as the source of SageAttention 3 does and computes all else in "
    "fp32: at most 0.194 of relative L1 on randn for 64 to 111,600 tokens and head_dim 64 and 128, of which 1.25 times is "
    "allowed, on outlier-k 1.1 times, where it is 1.18 times as far off without smoothing K. No kernel was run with this "
    "class yet",
    numbers={
        "randn*randint(1,5)": {"rel_l1": 0.545, "rel_l2": 0.604, "cosine": 0.83},
        "randn": {"rel_l1": 0.2425, "rel_l2": 0.246, "cosine": 0.969},
        "outlier-k": {"rel_l1": 0.2134, "rel_l2": 0.216, "cosine": 0.978},
    },
)

FP8 = Tolerance(
    name="fp8",
    why="q, k, v and probabilities in e4m3: three bits of fraction everywhere. The scores of wide inputs lose most by it, "
    "and nothing smooths K. A scale per tensor or per head changes nothing of that while the values are in e4m3's range",
    source=_EMULATED.format("0.0560", "0.0531", ""),
    numbers={
        "randn*randint(1,5)": {"rel_l1": 0.21, "rel_l2": 0.25, "cosine": 0.969},
        "randn": {"rel_l1": 0.084, "rel_l2": 0.084, "cosine": 0.9965},
        "outlier-k": {"rel_l1": 0.118, "rel_l2": 0.12, "cosine": 0.9928},
    },
)

FP8_OUTPUT = Tolerance(
    name="fp8-output",
    why="as fp8, with a scale for each tensor, and the output in e4m3 too, with the scale of V, which no output exceeds",
    source="tests/plugin/quantised.py, as for fp8: at most 0.0612 of relative L1 on randn for 64 to 111,600 tokens and "
    "head_dim 64 and 128, of which 1.5 times is allowed. cuDNN on an H200 had 0.059 to 0.0605 at 4,608 to 111,600 tokens",
    numbers={
        "randn*randint(1,5)": {"rel_l1": 0.226, "rel_l2": 0.265, "cosine": 0.965},
        "randn": {"rel_l1": 0.092, "rel_l2": 0.093, "cosine": 0.9957},
        "outlier-k": {"rel_l1": 0.125, "rel_l2": 0.127, "cosine": 0.9919},
    },
)

FP8_OUTPUT_UNSCALED = Tolerance(
    name="fp8-output-unscaled",
    why="q, k, v, probabilities and output in e4m3, all with scale 1. The output of many tokens is small, and below 2^-6 "
    "e4m3 has steps of 2^-9 whatever the value",
    source="tests/plugin/quantised.py, as for fp8: at most 0.0701 of relative L1 on randn for 64 to 16,384 tokens and "
    "head_dim 64 and 128, of which 1.5 times is allowed. At 111,600 tokens the emulation itself has 0.138, which is "
    "refused. Transformer Engine on an H200 had 0.0615 at 4,608 tokens, and 0.134 at 111,600",
    numbers={
        "randn*randint(1,5)": {"rel_l1": 0.21, "rel_l2": 0.25, "cosine": 0.969},
        "randn": {"rel_l1": 0.105, "rel_l2": 0.105, "cosine": 0.9945},
        "outlier-k": {"rel_l1": 0.133, "rel_l2": 0.135, "cosine": 0.9909},
    },
)

_ALL = (
    SIXTEEN_BIT,
    UNFUSED_SIXTEEN_BIT,
    INT8_FP16,
    INT8_FP16_UNSMOOTHED,
    INT8_FP8,
    INT8_FP8_UNSMOOTHED,
    INT8,
    FP4,
    FP8,
    FP8_OUTPUT,
    FP8_OUTPUT_UNSCALED,
)
TOLERANCES = {tolerance.name: tolerance for tolerance in _ALL}


def allowed(
    tolerance: Tolerance,
    distribution: str,
    plain: ErrorMetrics,
    fused: ErrorMetrics,
    rounding: float,
    magnitude: float,
    output: str = "output",
    cancellation: float = 1.0,
) -> dict[str, float]:
    """The limit of each metric on inputs of this distribution: largest permitted value, of `SIMILARITIES` the smallest.

    plain, fused, rounding, magnitude, cancellation: the unavoidable errors on these inputs, as `Reference` has them.
    output: which tensor, as `Check` has it. Raises ValueError for a gradient where the class states nothing of gradients.
    """
    of_gradient = output != "output"
    if of_gradient and not tolerance.gradients:
        raise ValueError(f"tolerance {tolerance.name!r} states nothing of gradients, found {output}")
    relative = {
        b.metric: max(
            b.plain * getattr(plain, b.metric) + b.fused * getattr(fused, b.metric) + b.rounding * rounding,
            b.floor * EPS * (magnitude if b.metric in ABSOLUTE else cancellation),
            b.fused_floor * getattr(fused, b.metric),
        )
        for b in (tolerance.gradients if of_gradient else tolerance.bounds)
    }
    if of_gradient:
        return relative
    return relative | dict(tolerance.numbers[distribution] if tolerance.numbers else {})


def violations(
    error: ErrorMetrics, limits: dict[str, float], distribution: str, output: str = "output", poisoned: bool = False
) -> tuple[Reason, ...]:
    """Why `error` is outside the limits, worst first; empty when it is within. NaN and Inf in the output always fail.

    output: which tensor it is of, as `Check` has it. poisoned: whether its memory held NaN before the call.

    A metric that is NaN itself fails too, because `value <= limit` must hold. The worst element is named once, with the
    metric that is furthest off; of an output that is 0 everywhere this is said instead.
    """
    where = f"on {distribution} inputs" if output == "output" else f"in {output} on {distribution} inputs"
    broken = [(metric, getattr(error, metric), limit) for metric, limit in limits.items()]
    broken = [one for one in broken if not is_within(*one)]
    broken.sort(key=lambda one: -_times_over(*one))
    texts = [_sentence(metric, value, limit, where) for metric, value, limit in broken]
    if texts and error.of_zeros:
        texts[0] += "; every element is 0"
    elif texts and error.worst_expected is not None and error.worst_found is not None:
        texts[0] += (
            f"; worst element at {list(error.worst_index)} of [batch, seq, heads, head_dim]: "
            f"{' instead of '.join(_told_apart(error.worst_found, error.worst_expected, 'g', 5))}"
        )
    reasons = tuple(Reason("tolerance", text) for text in texts)
    if not error.nonfinite:
        return reasons
    at = list(error.worst_index)
    number = "1 element is" if error.nonfinite == 1 else f"{error.nonfinite} elements are"
    text = f"{number} NaN or Inf {where}, the first at {at} of [batch, seq, heads, head_dim]"
    if poisoned:
        text += "; its memory held NaN before the call: was it written?"
    return (Reason("nonfinite", text), *reasons)


def _sentence(metric: str, found: float, limit: float, where: str) -> str:
    if metric in SIMILARITIES:  # close to 1: what is told apart stands in the decimals
        shown, needed = _told_apart(found, limit, "f", 5)
        return f"{metric} found {shown}, needed {needed} or more {where}"
    shown, permitted = _told_apart(found, limit, "g", 3)
    return f"{metric} found {shown}, allowed {permitted} {where}"


def _told_apart(one: float, other: float, form: str, digits: int) -> tuple[str, str]:
    """Both with as many digits as it takes to see that they differ, `digits` at least."""
    for more in range(digits, 18):
        texts = f"{one:.{more}{form}}", f"{other:.{more}{form}}"
        if texts[0] != texts[1]:
            return texts
    return f"{one:.{digits}{form}}", f"{other:.{digits}{form}}"  # the same number


def _times_over(metric: str, found: float, limit: float) -> float:
    """How many times the limit was found; infinite where either is not a number or nothing at all is allowed."""
    if metric in SIMILARITIES:
        found, limit = 1 - found, 1 - limit  # how far from the best
    return found / limit if limit > 0 and not math.isnan(found) else math.inf
