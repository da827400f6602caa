"""What an ideal quantised kernel loses: operands in int8 or e4m3, what the kernel stores in them, all else in fp32.

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
U8_MAX = 255.0
#: Magnitudes of e2m1, and elements that share an e4m3 scale in NVFP4.
E2M1, NVFP4_BLOCK = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]), 16
#: Queries whose mean SageAttention 3 takes from them, and adds to the scores in fp32.
QUERIES_PER_MEAN = 128
#: Keys that comfy-kitchen looks at to find one that stands for all, and how much wider K may get by subtracting it.
SAMPLED_KEYS, WIDER = 9, 1.125
#: Up to so many keys comfy-kitchen rotates four channels at a time, and from more than so many its tiles are 128 keys wide.
SHORT, LONG = 256, 1024
ROWS = 512  # of q at a time, so that the scores fit
KEYS_PER_MMA = 16  # that a tensor core adds up before it rounds its fp16 accumulator

#: Index of a token → number of the group that shares a scale.
Groups = Callable[[torch.Tensor], torch.Tensor]
#: K `[batch, heads, seq, head_dim]`, and the dtype in which it was given → what is subtracted from each of its keys.
Centre = Callable[[torch.Tensor, torch.dtype], torch.Tensor]


def block(size: int) -> Groups:
    """Per block or per warp: `size` neighbours."""
    return lambda token: token // size


def thread_of_q(warp: int) -> Groups:
    """Per thread: of the rows of a warp those that one thread holds, every eighth."""
    return lambda token: token // warp * 8 + token % 8


def thread_of_k(warp: int) -> Groups:
    """Per thread: of the keys of a warp those that one thread holds, two of every eight."""
    return lambda token: token // warp * 4 + token % 8 // 2


def mean(k: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """SageAttention's: the mean over the keys."""
    return k.mean(2, keepdim=True).to(dtype).float()


def key_for_all(k: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """comfy-kitchen's: of nine keys the one next to their mean, where subtracting it makes them smaller; else nothing."""
    del dtype
    places = torch.arange(SAMPLED_KEYS) * (k.shape[2] - 1) // (SAMPLED_KEYS - 1)
    sampled = k[:, :, places]
    distance = (sampled - sampled.mean(2, keepdim=True)).square().sum(-1)
    nearest = distance.argmin(2, keepdim=True).unsqueeze(-1).expand(-1, -1, 1, k.shape[3])
    key = sampled.gather(2, nearest)
    left = sampled - key
    smaller = left.square().sum((2, 3)) < sampled.square().sum((2, 3))
    no_wider = left.abs().amax((2, 3)) <= WIDER * sampled.abs().amax((2, 3))
    return key * (smaller & no_wider)[..., None, None]


@dataclass(frozen=True)
class Kernel:
    """One way to quantise. `scale` and `skipped` are what a broken one does: a factor on K, and keys that it leaves out.

    q_groups, k_groups: tokens that share a scale in int8; None where q, k and v are in e4m3.
    pv: what probabilities and V are held in: "fp16", "e4m3", "int8", where probabilities are unsigned and scaled to the
        largest of each tile of keys, or "nvfp4", in which q and k are too.
    centre: what is subtracted from K, if anything. rotated: whether q and k are, by a Hadamard matrix, before int8.
    scaled_over: axes of `[batch, heads, seq, head_dim]` over which q, k and v share a scale in e4m3; None: cast as they are.
    p_max, v_max: that the largest probability, and the largest element of a channel of V, are scaled to in e4m3.
    rounded_sums: whether the sum of the probabilities is that of the rounded ones, in int8.
    o_scaled: whether the output, which is in e4m3 too, has the scale of V; None where the output is not in e4m3.
    """

    tolerance: str
    q_groups: Groups | None = None
    k_groups: Groups | None = None
    pv: str = "e4m3"
    centre: Centre | None = mean
    rotated: bool = False
    scaled_over: tuple[int, ...] | None = None
    p_max: float = E4M3_MAX
    v_max: float = E4M3_MAX
    fp16_sums: bool = False
    rounded_sums: bool = True
    o_scaled: bool | None = None
    scale: float = 1.0
    skipped: tuple[int, int] = (0, 0)


FP16, FP8, INT8 = "int8-qk-fp16-pv", "int8-qk-fp8-pv", "int8"
SMOOTHED = {
    "int8/fp16, per block of 128 and 64 (Triton)": Kernel(FP16, block(128), block(64), pv="fp16"),
    "int8/fp16, per warp": Kernel(FP16, block(32), block(64), pv="fp16"),
    "int8/fp16, per thread": Kernel(FP16, thread_of_q(32), thread_of_k(64), pv="fp16"),
    "int8/fp16, per thread, fp16 sums": Kernel(FP16, thread_of_q(32), thread_of_k(64), pv="fp16", fp16_sums=True),
    "int8/fp8 sm_90, per warp": Kernel(FP8, block(16), block(128)),
    "int8/fp8 sm_90, per thread": Kernel(FP8, thread_of_q(16), thread_of_k(128)),
    "int8/fp8 sm_89, per warp": Kernel(FP8, block(32), block(64)),
    "int8/fp8 sm_89, per thread, V up to 2.25": Kernel(FP8, thread_of_q(32), thread_of_k(64), v_max=2.25),
}
#: As SageAttention 1.0.6, 2.2.0 and 3, FlashAttention-3, comfy-kitchen 0.2.31 and Transformer Engine 2.20 group and scale,
#: read from their source. cuDNN's source is closed: its kernels are taken to do what their scales ask for.
KERNELS = {
    **SMOOTHED,
    **{
        f"{name}, unsmoothed": replace(kernel, tolerance=f"{kernel.tolerance}-unsmoothed", centre=None)
        for name, kernel in SMOOTHED.items()
    },
    "int8 throughout (comfy-kitchen)": Kernel(INT8, pv="int8", centre=key_for_all, rotated=True),
    "int8 throughout, under a mask": Kernel(INT8, pv="int8", centre=key_for_all, rotated=True, rounded_sums=False),
    "fp4 (SageAttention 3)": Kernel("fp4", pv="nvfp4"),
    "fp8": Kernel("fp8", centre=None, p_max=256.0),
    "fp8, a scale per tensor (FlashAttention-3)": Kernel("fp8", centre=None, scaled_over=(0, 1, 2, 3), p_max=256.0),
    "fp8, a scale per head (FlashAttention-3)": Kernel("fp8", centre=None, scaled_over=(2, 3), p_max=256.0),
    "fp8, a scale per tensor, output too (cuDNN)": Kernel(
        "fp8-output", centre=None, scaled_over=(0, 1, 2, 3), o_scaled=True
    ),
    "fp8, output too, all scales 1 (Transformer Engine)": Kernel(
        "fp8-output-unscaled", centre=None, p_max=1.0, o_scaled=False
    ),
}


def attention(kernel: Kernel, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention of `[batch, seq, heads, head_dim]` tensors as `kernel` computes it, in their dtype."""
    dtype, scale = q.dtype, q.shape[-1] ** -0.5
    q, k, v = (x.transpose(1, 2).float() for x in (q, k, v))
    if kernel.centre is not None:
        k = k - kernel.centre(k, dtype)
    if kernel.rotated:
        q, k = (_rotated(x, keys=k.shape[2]) for x in (q, k))
    # What q loses by it, and k before it is quantised, of a kernel that takes means from q.
    means, whole_k = _means(q) if kernel.pv == "nvfp4" else None, k * kernel.scale
    q, k, v, v_scale = _operands(kernel, q if means is None else q - means, k, v)
    k = k * kernel.scale
    out = torch.empty(*q.shape[:3], v.shape[3])
    for start in range(0, q.shape[2], ROWS):
        scores = q[:, :, start : start + ROWS] @ k.transpose(2, 3)
        if means is not None:
            scores = scores + means[:, :, start : start + ROWS] @ whole_k.transpose(2, 3)
        scores *= scale
        scores[..., slice(*kernel.skipped)] = -torch.inf
        out[:, :, start : start + ROWS] = _of_scores(kernel, scores, v) * v_scale
    if kernel.o_scaled is not None:
        o_scale = (v * v_scale).abs().amax() / E4M3_MAX if kernel.o_scaled else torch.ones(())
        out = _e4m3(out / o_scale) * o_scale
    return out.transpose(1, 2).to(dtype)


def _operands(kernel: Kernel, *qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """q, k and v as the products get them, and the scale that V is short of."""
    q, k, v = qkv
    one = torch.ones(())
    if kernel.pv == "int8":
        keys, width = k.shape[2:]
        wide = _width_of_tile(keys, width)
        q, k = _int8(q, thread_of_q(16 if width > 128 else 32)), _int8(k, thread_of_k(wide))
        v_scale = v.abs().amax(2, keepdim=True) / 127
        return q, k, (v / v_scale).round(), v_scale
    if kernel.pv == "nvfp4":
        return _nvfp4(q), _nvfp4(k), _nvfp4(v.transpose(2, 3)).transpose(2, 3), one
    if kernel.q_groups is None or kernel.k_groups is None:
        over = kernel.scaled_over
        scales = [one if over is None else x.abs().amax(over, keepdim=True) / E4M3_MAX for x in qkv]
        q, k, v = (_e4m3(x / scale) for x, scale in zip(qkv, scales, strict=True))
        return q * scales[0], k * scales[1], v, scales[2]
    q, k = _int8(q, kernel.q_groups), _int8(k, kernel.k_groups)
    if kernel.pv == "fp16":
        return q, k, v.half().float(), one
    v_scale = v.abs().amax(2, keepdim=True) / kernel.v_max
    return q, k, _e4m3(v / v_scale), v_scale


def _of_scores(kernel: Kernel, scores: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The softmax of the scores times v, with probabilities as the kernel holds them."""
    largest = scores.amax(-1, keepdim=True)
    weights = torch.exp(scores - largest)
    if kernel.pv == "int8":
        tiles = _largest_of_tile(scores, _width_of_tile(scores.shape[-1], v.shape[-1]))
        share = torch.exp(tiles - largest)  # of a tile whose largest probability counts as 1
        p = (torch.exp(scores - tiles.clamp(min=-1e30)) * U8_MAX).round() / U8_MAX * share
        return p @ v / (p if kernel.rounded_sums else weights).sum(-1, keepdim=True)
    if kernel.pv == "nvfp4":  # scaled so that the scale of the largest is the largest e4m3
        return _nvfp4(weights * E4M3_MAX * E2M1[-1]) @ v / (E4M3_MAX * E2M1[-1]) / weights.sum(-1, keepdim=True)
    p_scale = kernel.p_max if kernel.pv == "e4m3" else 1.0
    p = _e4m3(weights * p_scale) if kernel.pv == "e4m3" else weights.half().float()
    sums = _fp16_sums(p, v) if kernel.fp16_sums else p @ v
    return sums / p_scale / weights.sum(-1, keepdim=True)


def _width_of_tile(keys: int, head_dim: int) -> int:
    """Keys that comfy-kitchen holds at a time, without a mask; head_dim of v, which the kernel pads as that of q."""
    return 128 if head_dim > 64 and keys > LONG else 64


def _largest_of_tile(scores: torch.Tensor, width: int) -> torch.Tensor:
    """For each score the largest of its row and tile of `width` keys."""
    return torch.cat([tile.amax(-1, keepdim=True).expand_as(tile) for tile in scores.split(width, -1)], -1)


def _rotated(x: torch.Tensor, keys: int) -> torch.Tensor:
    """`[…, head_dim]` times an orthogonal Hadamard matrix, over 4 channels where there are few keys, else over up to 128.

    The head dimension becomes 64, 128 or 256, with zeros, as comfy-kitchen's kernels have it. The signs that it gives the
    channels of 128 before are drawn, as its own were.
    """
    width = next(width for width in (64, 128, 256) if x.shape[-1] <= width)
    x = torch.nn.functional.pad(x, (0, width - x.shape[-1]))
    size = 4 if keys <= SHORT else min(128, width)
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    if size == width == 128:
        matrix = torch.randint(0, 2, (size, 1), generator=torch.Generator().manual_seed(0)) * 2.0 * matrix - matrix
    return (x.unflatten(-1, (-1, size)) @ matrix * size**-0.5).flatten(-2)


def _int8(x: torch.Tensor, groups: Groups) -> torch.Tensor:
    """`[batch, heads, seq, head_dim]` rounded to 255 steps, with one scale for all tokens of a group."""
    largest = x.abs().amax(-1)
    group = groups(torch.arange(x.shape[2])).expand_as(largest)
    scales = torch.zeros_like(largest).scatter_reduce(2, group, largest, "amax") / 127
    scale = scales.gather(2, group).unsqueeze(-1)
    return (x / scale).round() * scale


def _means(q: torch.Tensor) -> torch.Tensor:
    """For each query the mean of its 128, of which the last ones may be zeros."""
    groups = [group.sum(2, keepdim=True).expand_as(group) for group in q.split(QUERIES_PER_MEAN, 2)]
    return torch.cat(groups, 2) / QUERIES_PER_MEAN


def _nvfp4(x: torch.Tensor) -> torch.Tensor:
    """Rounded to e2m1 along the last axis, with a scale in e4m3 for each 16."""
    padded = torch.nn.functional.pad(x, (0, -x.shape[-1] % NVFP4_BLOCK)).unflatten(-1, (-1, NVFP4_BLOCK))
    scale = _e4m3(padded.abs().amax(-1, keepdim=True) / E2M1[-1]).clamp(min=2.0**-9)
    between = (E2M1[1:] + E2M1[:-1]) / 2
    rounded = E2M1[torch.bucketize((padded / scale).abs().contiguous(), between)] * padded.sign()
    return (rounded * scale).flatten(-2)[..., : x.shape[-1]]


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
