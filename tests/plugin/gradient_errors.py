"""How far right gradients are from the reference, in the units of the tolerance: where its factors and floors come from.

At workloads spelt out, or over random small shapes with their masks:

    python tests/plugin/gradient_errors.py 1x512x2x64:bf16 1x1024x8/1x64:bf16
    python tests/plugin/gradient_errors.py fp32 500
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from attnbench.backends.tolerances import EPS
from attnbench.checks import attention
from attnbench.checks.reference import Reference, make_references
from attnbench.execution.steps import error_of, judged
from attnbench.model import ErrorMetrics
from attnbench.workload import Workload
from attnbench.workloads import masks
from attnbench.workloads.inputs import make_inputs
from attnbench.workloads.table import select_workloads

Attention = Callable[..., torch.Tensor]


def sdpa(workload: Workload, implementation: SDPBackend) -> Attention:
    causal = workload.mask == "causal"
    dense = None if causal else masks.dense_mask(workload, "cpu")

    def attend(*triple: torch.Tensor) -> torch.Tensor:
        q, k, v = (one.transpose(1, 2) for one in triple)
        with sdpa_kernel(implementation):
            out = torch.nn.functional.scaled_dot_product_attention(q, k, v, dense, is_causal=causal, enable_gqa=True)
        return out.transpose(1, 2)

    return attend


def plain(workload: Workload) -> Attention:
    """Autograd through every step in the dtype of the inputs."""

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        keys, values = attention.of_query_heads(q, k * k.shape[-1] ** -0.5, v)
        scores, seen = attention.masked(q.transpose(1, 2) @ keys, workload, None, 0, q.shape[1])
        return (attention.without_keyless(scores.softmax(-1), seen) @ values).transpose(1, 2)

    return attend


def by_exp2(workload: Workload) -> Attention:
    """As kernels in Triton do it, in fp32: the scale and log2(e) in one factor, and the division last."""

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        keys, values = attention.of_query_heads(q, k.float(), v.float())
        scores = q.float().transpose(1, 2) @ keys * k.shape[-1] ** -0.5
        scores, seen = attention.masked(scores, workload, None, 0, q.shape[1])
        weights = ((scores - scores.amax(-1, keepdim=True)) * 1.4426950408889634).exp2()
        weights = attention.without_keyless(weights, seen)
        total = weights.sum(-1, keepdim=True)
        return (weights @ values / total.where(total > 0, 1)).transpose(1, 2).to(q.dtype)

    return attend


def flash_2(workload: Workload, *, memory_efficient: bool = False) -> Attention:
    """As FlashAttention-2: P again from the log-sum-exp, D from the rounded output; P, dS and each head's dk, dv rounded.

    memory_efficient: as the kernel of that name, which takes dS from the rounded P and rounds dS/√d
    (mem_eff_attention/kernel_backward.h in PyTorch).
    """

    class Flash(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            keys, values = attention.of_query_heads(q, k.float(), v.float())
            scores = q.float().transpose(1, 2) @ keys * k.shape[-1] ** -0.5
            scores, seen = attention.masked(scores, workload, None, 0, q.shape[1])
            weights = attention.without_keyless((scores - scores.amax(-1, keepdim=True)).exp(), seen)
            total = weights.sum(-1, keepdim=True)
            out = (weights.to(q.dtype).float() @ values / total.where(total > 0, 1)).to(q.dtype)
            probabilities = attention.without_keyless((scores - scores.logsumexp(-1, keepdim=True)).exp(), seen)
            ctx.save_for_backward(q, k, keys, values, probabilities, out)
            return out.transpose(1, 2)

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
            q, k, keys, values, weights, out = ctx.saved_tensors
            given, scale = gradient.transpose(1, 2).float(), k.shape[-1] ** -0.5
            mean = (given * out.float()).sum(-1, keepdim=True)
            rounded = weights.to(q.dtype).float()
            first, last = (scale, 1.0) if memory_efficient else (1.0, scale)
            of_scores = (rounded if memory_efficient else weights) * (given @ values.transpose(-1, -2) - mean) * first
            of_scores = of_scores.to(q.dtype).float()
            dq = (of_scores @ keys.transpose(-1, -2) * last).to(q.dtype)
            dk = (of_scores.transpose(-1, -2) @ q.float().transpose(1, 2) * last).to(q.dtype)
            dv = (rounded.transpose(-1, -2) @ given).to(q.dtype)
            dk, dv = (one.unflatten(1, (k.shape[2], -1)).sum(2) for one in (dk, dv))
            return dq.transpose(1, 2), dk.transpose(1, 2), dv.transpose(1, 2)

    return Flash.apply  # type: ignore[no-any-return]


def kernels(workload: Workload) -> dict[str, Attention]:
    found = {
        "plain": plain(workload),
        "by exp2": by_exp2(workload),
        "FlashAttention-2": flash_2(workload),
        "memory-efficient": flash_2(workload, memory_efficient=True),
    }
    square = workload.seq == workload.k_shape[1]
    if workload.mask != "causal" or square:
        found["torch_math"] = sdpa(workload, SDPBackend.MATH)
    if workload.mask == "none" or (workload.mask == "causal" and square):
        found["torch_flash"] = sdpa(workload, SDPBackend.FLASH_ATTENTION)
    return found


@dataclass(frozen=True)
class Found:
    """One gradient of one kernel on one input set."""

    kernel: str
    output: str
    distribution: str
    error: ErrorMetrics
    reference: Reference

    @property
    def is_refused(self) -> bool:
        return bool(judged(self.error, self.reference, "16-bit", self.distribution, True, self.output)[1])

    @property
    def of_fused(self) -> float:
        return self.error.rel_l2 / self.reference.fused.rel_l2 if self.reference.fused.rel_l2 else 0.0

    @property
    def max_abs_floor(self) -> float:
        """The floor that max_abs needs, where three times plain attention and twice the rounding are too little."""
        known = self.reference
        if self.error.max_abs <= 3 * known.plain.max_abs + 2 * known.rounding or not known.magnitude:
            return 0.0
        return self.error.max_abs / (EPS * known.magnitude)

    @property
    def rel_l2_floor(self) -> float:
        """The floor that rel_l2 needs, where three times the ideal fused kernel is too little."""
        if self.error.rel_l2 <= 3 * self.reference.fused.rel_l2:
            return 0.0
        return self.error.rel_l2 / (EPS * self.reference.cancellation)


def errors(workload: Workload) -> Iterator[Found]:
    workload = replace(workload, direction="backward")
    inputs = make_inputs(workload, "cpu")
    for distribution, known in make_references(inputs).items():
        for kernel, attend in kernels(workload).items():
            leaves = [one.clone().requires_grad_() for one in inputs.kept[distribution]]
            gradients = torch.autograd.grad(attend(*leaves), leaves, inputs.gradient)
            for name, found in zip(("dq", "dk", "dv"), gradients, strict=True):
                yield Found(kernel, name, distribution, error_of(found, known[name]), known[name])


def small_shapes(dtype: str, count: int) -> tuple[Workload, ...]:
    """Seeded: 1 to 129 queries and keys, head_dim 1 to 128, every mask, own heads and four on one key head."""
    axes = product((1, 2), (1, 2, 3, 17, 50, 129), ("", "/1", "/5", "/64"), ("1", "4", "4/1"), (1, 8, 40, 128))
    tails = ("", ":causal", ":bool", ":additive", ":padding")
    spelt = [f"{b}x{s}{n}x{h}x{d}:{dtype}{tail}" for (b, s, n, h, d), tail in product(axes, tails)]
    return tuple(one for name in random.Random(0).sample(spelt, count) for one in select_workloads((name,)))


if __name__ == "__main__":
    first, *others = sys.argv[1:]
    of_shapes = "x" not in first
    chosen = small_shapes(first, int(others[0])) if of_shapes else select_workloads((first, *others))
    rows: dict[tuple[str, ...], list[Found]] = {}
    for workload in chosen:
        for one in errors(workload):
            place = () if of_shapes else (workload.name, one.distribution)
            rows.setdefault((*place, one.kernel, one.output), []).append(one)
    for names, members in rows.items():
        found = max(one.error.rel_l2 for one in members)
        said = f"rel_l2 {found:.5f}, {max(one.of_fused for one in members):6.2f} × fused"
        floors = (max(one.max_abs_floor for one in members), max(one.rel_l2_floor for one in members))
        refused = f"{sum(one.is_refused for one in members)} of {len(members)} refused"
        sys.stdout.write(f"{'  '.join(names):56}  {said}  floors {floors[0]:6.1f} {floors[1]:6.1f}  {refused}\n")
