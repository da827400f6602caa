"""This project's own kernel in Triton: the example of a kernel that is added here (docs/adding-a-kernel.md)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attnbench.backends.registry import register
from attnbench.backends.requirements import DType, HeadDim, Package, TritonDevice
from attnbench.fingerprint import slug
from attnbench.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from attnbench.backends.registry import AttentionFunction

#: BLOCK_M, BLOCK_N, num_warps, num_stages.
Blocks = tuple[int, int, int, int]

#: (GPU, width of a row in 16 bits, causal) → its configuration. Frozen, so that every launch of a GPU runs the same kernel:
#: nothing is tuned at run time, scripts/tune_triton prints these lines.
CONFIGURATIONS: dict[tuple[str, int, bool], Blocks] = {
    ("nvidia-h100-80gb-hbm3", 128, False): (64, 64, 4, 3),
    ("nvidia-h200", 64, False): (64, 128, 4, 3),
    ("nvidia-h200", 64, True): (64, 64, 4, 3),
    ("nvidia-h200", 128, False): (64, 64, 4, 3),
    ("nvidia-h200", 128, True): (64, 64, 4, 3),
}
#: For every other GPU: small enough for 99 KiB of shared memory, and nothing else is known of them. In 16 bits BLOCK_N is
#: not the width of a row: Triton 3.6 compiles that for an H200, without a causal mask, so that scores add up over the loop.
DEFAULTS = {64: (64, 128, 4, 2), 128: (64, 64, 4, 2), 256: (64, 32, 4, 2), 512: (32, 16, 4, 2)}

#: Most scores of one call, batch × heads × queries × keys, that Triton's interpreter is asked for: it steps through the
#: kernel in Python and NumPy, and 500 times as many, a Flux workload at 1024 px, would take hours.
INTERPRETED_SCORES = 2**20


def configuration(gpu: str, head_dim: int, item_bytes: int, causal: bool = False) -> Blocks:
    """The GPU's own, or one for all."""
    width = width_in_16_bits(head_dim, item_bytes)
    return CONFIGURATIONS.get((gpu, width, causal)) or DEFAULTS[max(64, width)]


def width_in_16_bits(head_dim: int, item_bytes: int) -> int:
    """By what configurations are known: a row of fp32 takes the room of one twice as wide in 16 bits."""
    return padded(head_dim) * item_bytes // 2


def item_bytes(workload: Workload) -> int:
    """Bytes of one element of its tensors."""
    return 4 if workload.dtype == "fp32" else 2


def refused_here(workload: Workload, device: str) -> tuple[str, ...]:
    """Why Triton's interpreter on a CPU cannot run this workload; empty when it can, and on a GPU."""
    if device != "cpu":
        return ()
    scores = workload.batch * workload.heads * workload.seq * workload.k_shape[1]
    reasons = []
    if workload.dtype == "bf16":
        reasons.append("needs dtype fp16 or fp32 under Triton's interpreter, which cannot multiply bf16, found bf16")
    if scores > INTERPRETED_SCORES:
        reasons.append(
            f"needs at most {INTERPRETED_SCORES:,} scores (batch × heads × queries × keys) under Triton's interpreter, "
            f"found {scores:,}"
        )
    return tuple(reasons)


def padded(head_dim: int) -> int:
    """The width of a block: the next power of two, 16 or more. What it reads beyond head_dim is 0."""
    return max(16, 1 << (head_dim - 1).bit_length())


def forward(blocks: Blocks, causal: bool = False) -> Callable[..., torch.Tensor]:
    """softmax(q·kᵀ / √head_dim)·v with this configuration, on `[batch, seq, heads, head_dim]` tensors.

    The function takes q, k, v and, for a backward pass, `lse`: a `[batch, heads, seq_q]` tensor in fp32 that gets the
    log-sum-exp of each row's scores, to base 2, or +∞ of a row without a key.
    """
    import torch
    from triton.tools.tensor_descriptor import TensorDescriptor

    from attnbench.backends.triton.kernel import attnbench_forward

    block_m, block_n, num_warps, num_stages = blocks

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lse: torch.Tensor | None = None) -> torch.Tensor:
        (batch, seq_q, heads, head_dim), (seq_kv, kv_heads) = q.shape, k.shape[1:3]
        out = torch.empty_like(q)
        rows, keys = [1, block_m, 1, padded(head_dim)], [1, block_n, 1, padded(head_dim)]
        attnbench_forward[(-(-seq_q // block_m), heads, batch)](
            TensorDescriptor.from_tensor(q, rows),
            TensorDescriptor.from_tensor(k, keys),
            TensorDescriptor.from_tensor(v, keys),
            TensorDescriptor.from_tensor(out, rows),
            lse,
            seq_q,
            seq_kv,
            math.log2(math.e) / math.sqrt(head_dim),
            GROUP=heads // kv_heads,
            HEAD_DIM=padded(head_dim),
            BLOCK_M=block_m,
            BLOCK_N=block_n,
            CAUSAL=causal,
            WHOLE_BLOCKS=seq_kv % block_n == 0,
            num_warps=num_warps,
            num_stages=num_stages,
        )
        return out

    return attention


REQUIRES = (
    TritonDevice(),
    Package("triton"),
    DType("bf16", "fp16", "fp32"),
    # A tensor descriptor needs rows of a multiple of 16 bytes, which is 8 elements of 16 bits.
    HeadDim(lambda d: 16 <= d <= 256 and d % 8 == 0, "a multiple of 8 from 16 to 256"),
)


def gpu_name() -> str:
    """As `CONFIGURATIONS` names it."""
    import torch

    return slug(torch.cuda.get_device_name()) if torch.cuda.is_available() else "cpu"


# Mode eager only: torch.compile can trace a kernel of Triton's, but that was not run yet, so it is not offered.
@register(
    "triton_fwd",
    "attnbench",
    requires=REQUIRES,
    takes=("cross", "gqa", "causal"),
    refuses=refused_here,
    route={"cuda": r"^attnbench_forward$"},
)
def triton_fwd(workload: Workload) -> AttentionFunction:
    """This project's own forward kernel in Triton: one pass, with an online softmax in fp32."""
    causal = workload.mask == "causal"
    return forward(configuration(gpu_name(), workload.head_dim, item_bytes(workload), causal), causal)
