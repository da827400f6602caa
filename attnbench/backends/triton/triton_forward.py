"""This project's own kernel in Triton: the example of a kernel that is added here (docs/adding-a-kernel.md)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attnbench.backends.registry import register
from attnbench.backends.requirements import DType, HeadDim, Package, TritonDevice
from attnbench.fingerprint import slug
from attnbench.model import Workload

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import AttentionFunction

#: (GPU, head_dim in 16 bits) → (BLOCK_M, BLOCK_N, num_warps, num_stages). Frozen, so that every launch of a GPU runs the
#: same kernel: nothing is tuned at run time, scripts/tune_triton prints these lines.
CONFIGURATIONS = {
    ("nvidia-h100-80gb-hbm3", 128): (64, 64, 4, 3),
    ("nvidia-h200", 128): (64, 64, 4, 3),
}
#: For every other GPU: small enough for 99 KiB of shared memory, and nothing else is known of them.
DEFAULTS = {64: (128, 64, 4, 2), 128: (64, 64, 4, 2), 256: (64, 32, 4, 2), 512: (32, 16, 4, 2)}

#: Most scores of one call, batch × heads × seq², that Triton's interpreter is asked for: it steps through the kernel in
#: Python and NumPy, and 500 times as many, a Flux workload at 1024 px, would take hours.
INTERPRETED_SCORES = 2**20


def configuration(gpu: str, head_dim: int, item_bytes: int) -> tuple[int, int, int, int]:
    """BLOCK_M, BLOCK_N, num_warps, num_stages. A row of fp32 takes the room of one twice as wide in 16 bits."""
    width = head_dim * item_bytes // 2
    return CONFIGURATIONS.get((gpu, width)) or DEFAULTS[max(64, width)]


def refused_by_the_interpreter(workload: Workload, device: str) -> tuple[str, ...]:
    """Why a CPU, where the kernel is interpreted, cannot run this workload; empty when it can."""
    if device != "cpu":
        return ()
    scores = workload.batch * workload.heads * workload.seq**2
    reasons = []
    if workload.dtype == "bf16":
        reasons.append("needs dtype fp16 or fp32 under Triton's interpreter, which cannot multiply bf16, found bf16")
    if scores > INTERPRETED_SCORES:
        reasons.append(
            f"needs at most {INTERPRETED_SCORES:,} scores (batch × heads × seq²) under Triton's interpreter, "
            f"found {scores:,}"
        )
    return tuple(reasons)


def forward(blocks: tuple[int, int, int, int]) -> AttentionFunction:
    """softmax(q·kᵀ / √head_dim)·v with this configuration, on `[batch, seq, heads, head_dim]` tensors."""
    import torch
    from triton.tools.tensor_descriptor import TensorDescriptor

    from attnbench.backends.triton.kernel import attnbench_forward

    block_m, block_n, num_warps, num_stages = blocks

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        batch, seq, heads, head_dim = q.shape
        out = torch.empty_like(q)
        rows, keys = [1, block_m, 1, head_dim], [1, block_n, 1, head_dim]
        attnbench_forward[(-(-seq // block_m), heads, batch)](
            TensorDescriptor.from_tensor(q, rows),
            TensorDescriptor.from_tensor(k, keys),
            TensorDescriptor.from_tensor(v, keys),
            TensorDescriptor.from_tensor(out, rows),
            seq,
            math.log2(math.e) / math.sqrt(head_dim),
            HEAD_DIM=head_dim,
            BLOCK_M=block_m,
            BLOCK_N=block_n,
            WHOLE_BLOCKS=seq % block_n == 0,
            num_warps=num_warps,
            num_stages=num_stages,
        )
        return out

    return attention


# Mode eager only: torch.compile can trace a kernel of Triton's, but that was not run yet, so it is not offered.
@register(
    "triton_fwd",
    "attnbench",
    requires=(
        TritonDevice(),
        Package("triton"),
        DType("bf16", "fp16", "fp32"),
        HeadDim(lambda d: d in (16, 32, 64, 128, 256), "a power of two from 16 to 256"),
    ),
    refuses=refused_by_the_interpreter,
    route={"cuda": r"^attnbench_forward$"},
)
def triton_fwd(workload: Workload) -> AttentionFunction:
    """This project's own forward kernel in Triton: one pass, with an online softmax in fp32."""
    import torch

    gpu = slug(torch.cuda.get_device_name()) if torch.cuda.is_available() else "cpu"
    return forward(configuration(gpu, workload.head_dim, 4 if workload.dtype == "fp32" else 2))
