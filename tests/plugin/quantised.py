"""What an ideal quantised kernel loses: int8 or e4m3 operands, and everything else in fp32.

The numbers of the quantised tolerances come from here. For every kernel and input distribution at one shape:

    python tests/plugin/quantised.py 1x4608x2x128
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from attnbench.checks.reference import attend, metrics
from attnbench.model import ErrorMetrics
from attnbench.workloads.inputs import make_inputs
from attnbench.workloads.table import select_workloads

E4M3_MAX = 448.0
ROWS = 512  # of q at a time, so that the scores fit
KEYS_PER_MMA = 16  # that a tensor core adds up before it rounds its fp16 accumulator

#: Index of a token → number of the group that shares a scale.
Groups = Callable[[torch.Tensor], torch.Tensor]


def block(size: int) -> Groups:
    """Per block or per warp: `size` neighbours."""
    return lambda token: token // size


def thread_of_q(warp: int) -> Groups:
    """Per thread: of the rows of a warp those that one thread holds, every eighth."""
    return lambda token: token // warp * 8 + token % 8


def thread_of_k(warp: int) -> Groups:
    """Per thread: of the keys of a warp those that one thread holds, two of every eight."""
    return lambda token: token // warp * 4 + token % 8 // 2


@dataclass(frozen=True)
class Kernel:
    """One way to quantise. `scale` and `skipped` are what a broken one does: a factor on K, and keys that it leaves out."""

    tolerance: str
    q_groups: Groups | None = None  # None: q, k and v are cast to e4m3 as they are
    k_groups: Groups | None = None
    e4m3: bool = True  # probabilities and V, else fp16
    smooth: bool = True
    p_max: float = E4M3_MAX  # that the largest probability is scaled to in e4m3
    v_max: float = E4M3_MAX  # that the largest element of a channel of V is scaled to in e4m3
    fp16_sums: bool = False
    scale: float = 1.0
    skipped: tuple[int, int] = (0, 0)


FP16, FP8 = "int8-qk-fp16-pv", "int8-qk-fp8-pv"
SMOOTHED = {
    "int8/fp16, per block of 128 and 64 (Triton)": Kernel(FP16, block(128), block(64), e4m3=False),
    "int8/fp16, per warp": Kernel(FP16, block(32), block(64), e4m3=False),
    "int8/fp16, per thread": Kernel(FP16, thread_of_q(32), thread_of_k(64), e4m3=False),
    "int8/fp16, per thread, fp16 sums": Kernel(FP16, thread_of_q(32), thread_of_k(64), e4m3=False, fp16_sums=True),
    "int8/fp8 sm_90, per warp": Kernel(FP8, block(16), block(128)),
    "int8/fp8 sm_90, per thread": Kernel(FP8, thread_of_q(16), thread_of_k(128)),
    "int8/fp8 sm_89, per warp": Kernel(FP8, block(32), block(64)),
    "int8/fp8 sm_89, per thread, V up to 2.25": Kernel(FP8, thread_of_q(32), thread_of_k(64), v_max=2.25),
}
#: As SageAttention 1.0.6 and 2.2.0 and FlashAttention-3 group and scale, read from their source.
KERNELS = {
    **SMOOTHED,
    **{
        f"{name}, unsmoothed": replace(kernel, tolerance=f"{kernel.tolerance}-unsmoothed", smooth=False)
        for name, kernel in SMOOTHED.items()
    },
    "fp8": Kernel("fp8", smooth=False, p_max=256.0),
}


def attention(kernel: Kernel, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention of `[batch, seq, heads, head_dim]` tensors as `kernel` computes it, in their dtype."""
    dtype = q.dtype
    q, k, v = (x.transpose(1, 2).float() for x in (q, k, v))
    if kernel.smooth:
        k = k - k.mean(2, keepdim=True).to(dtype).float()
    v_scale = torch.ones(())
    if kernel.q_groups is None or kernel.k_groups is None:
        q, k, v = _e4m3(q), _e4m3(k), _e4m3(v)
    else:
        q, k = _int8(q, kernel.q_groups), _int8(k, kernel.k_groups)
        if kernel.e4m3:
            v_scale = v.abs().amax(2, keepdim=True) / kernel.v_max
            v = _e4m3(v / v_scale)
        else:
            v = v.half().float()
    k = k * kernel.scale
    out = torch.empty_like(q)
    for start in range(0, q.shape[2], ROWS):
        scores = q[:, :, start : start + ROWS] @ k.transpose(2, 3) * q.shape[-1] ** -0.5
        scores[..., slice(*kernel.skipped)] = -torch.inf
        weights = torch.exp(scores - scores.amax(-1, keepdim=True))
        p_scale = kernel.p_max if kernel.e4m3 else 1.0
        p = _e4m3(weights * p_scale) if kernel.e4m3 else weights.half().float()
        sums = _fp16_sums(p, v) if kernel.fp16_sums else p @ v
        out[:, :, start : start + ROWS] = sums / p_scale / weights.sum(-1, keepdim=True) * v_scale
    return out.transpose(1, 2).to(dtype)


def _int8(x: torch.Tensor, groups: Groups) -> torch.Tensor:
    """`[batch, heads, seq, head_dim]` rounded to 255 steps, with one scale for all tokens of a group."""
    largest = x.abs().amax(-1)
    group = groups(torch.arange(x.shape[2])).expand_as(largest)
    scales = torch.zeros_like(largest).scatter_reduce(2, group, largest, "amax") / 127
    scale = scales.gather(2, group).unsqueeze(-1)
    return (x / scale).round() * scale


def _e4m3(x: torch.Tensor) -> torch.Tensor:
    return x.clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn).float()


def _fp16_sums(p: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    sums = p.new_zeros((*p.shape[:-1], v.shape[-1]))
    for start in range(0, v.shape[2], KEYS_PER_MMA):
        keys = slice(start, start + KEYS_PER_MMA)
        sums = (sums + p[..., keys] @ v[:, :, keys]).half().float()
    return sums


def errors(shape: str) -> Iterator[tuple[str, str, ErrorMetrics]]:
    """Kernel, distribution and error of each at a workload spelt `1x4608x2x128:bf16`."""
    (workload,) = select_workloads((shape,))
    for distribution, triple in make_inputs(workload, "cpu").sets.items():
        reference = attend(*triple, torch.float64)
        for name, kernel in KERNELS.items():
            yield name, distribution, metrics(attention(kernel, *triple), reference)


if __name__ == "__main__":
    for name, distribution, e in errors(sys.argv[1]):
        found = f"rel_l1 {e.rel_l1:.4f}  rel_l2 {e.rel_l2:.4f}  cosine {e.cosine:.5f}"
        sys.stdout.write(f"{name:56}  {distribution:18}  {found}\n")
