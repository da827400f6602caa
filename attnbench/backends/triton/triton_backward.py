"""The gradients of this project's own kernel in Triton: the example of a backward pass that is added here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attnbench.backends.registry import register
from attnbench.backends.triton.triton_forward import (
    REQUIRES,
    Blocks,
    configuration,
    forward,
    gpu_name,
    item_bytes,
    padded,
    refused_here,
    width_in_16_bits,
)
from attnbench.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import torch

    from attnbench.backends.registry import AttentionFunction

#: (kernel, GPU, width of a row in 16 bits, causal) → its configuration, as `triton_forward.CONFIGURATIONS`.
CONFIGURATIONS: dict[tuple[str, str, int, bool], Blocks] = {
    ("keys", "nvidia-h100-80gb-hbm3", 64, False): (128, 64, 4, 2),
    ("keys", "nvidia-h100-80gb-hbm3", 64, True): (128, 64, 4, 2),
    ("queries", "nvidia-h100-80gb-hbm3", 64, False): (128, 64, 8, 3),
    ("queries", "nvidia-h100-80gb-hbm3", 64, True): (64, 64, 4, 2),
    ("keys", "nvidia-h200", 64, False): (128, 64, 4, 2),
    ("keys", "nvidia-h200", 64, True): (128, 64, 4, 2),
    ("keys", "nvidia-h200", 128, False): (64, 64, 4, 2),
    ("keys", "nvidia-h200", 128, True): (64, 64, 4, 2),
    ("queries", "nvidia-h200", 64, False): (128, 64, 8, 3),
    ("queries", "nvidia-h200", 64, True): (64, 64, 4, 2),
    ("queries", "nvidia-h200", 128, False): (128, 32, 8, 3),
    ("queries", "nvidia-h200", 128, True): (128, 32, 8, 3),
}
#: For every other GPU, by the width of a row: small enough for 99 KiB of shared memory.
DEFAULTS: dict[str, dict[int, Blocks]] = {
    "keys": {64: (64, 64, 4, 2), 128: (64, 64, 4, 2), 256: (16, 64, 8, 2), 512: (16, 16, 4, 1)},
    "queries": {64: (64, 64, 4, 2), 128: (64, 64, 4, 2), 256: (64, 16, 4, 2), 512: (16, 16, 4, 1)},
}
#: Query rows of a program of the row sums, which only read.
ROWSUM_ROWS = 32


def backward_configuration(kernel: str, gpu: str, head_dim: int, item_bytes: int, causal: bool) -> Blocks:
    """That of the kernel "keys" (dK and dV) or "queries" (dQ): the GPU's own, or one for all."""
    width = width_in_16_bits(head_dim, item_bytes)
    return CONFIGURATIONS.get((kernel, gpu, width, causal)) or DEFAULTS[kernel][max(64, width)]


def differentiable(
    rows: Blocks, keys_backward: Blocks, queries_backward: Blocks, causal: bool = False
) -> AttentionFunction:
    """Attention with these configurations of the forward kernel and of both backward ones: autograd knows its gradients."""
    import torch

    run_forward, run_backward = forward(rows, causal), backward(keys_backward, queries_backward, causal)

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            batch, seq, heads, _ = q.shape
            lse = torch.empty(batch, heads, seq, device=q.device, dtype=torch.float32)
            out = run_forward(q, k, v, lse)
            ctx.save_for_backward(q, k, v, out, lse)
            return out

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, out_grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            return run_backward(*ctx.saved_tensors, out_grad)

    return Attention.apply


def backward(
    keys_blocks: Blocks, queries_blocks: Blocks, causal: bool = False
) -> Callable[..., tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Function of q, k, v, the output, its `lse` and its gradient → dq, dk, dv, with these configurations."""
    import torch
    from triton.tools.tensor_descriptor import TensorDescriptor

    from attnbench.backends.triton.kernel_backward import (
        attnbench_backward_keys,
        attnbench_backward_queries,
        attnbench_backward_rowsum,
    )

    def described(tensor: torch.Tensor, rows: int) -> TensorDescriptor:
        """Over [batch, heads, seq, head_dim]: Triton multiplies such a block where it lies in shared memory."""
        return TensorDescriptor.from_tensor(tensor.transpose(1, 2), [1, 1, rows, padded(tensor.shape[3])])

    def gradients(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        out: torch.Tensor,
        lse: torch.Tensor,
        out_grad: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        (batch, seq_q, heads, head_dim), (seq_kv, kv_heads) = q.shape, k.shape[1:3]
        # The gradient of a sum is one number, expanded, which no tensor descriptor describes.
        if out_grad.stride() != out.stride():
            out_grad = out_grad.contiguous()
        q_grad, k_grad, v_grad = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        rowsum = torch.empty_like(lse)
        scale = math.log2(math.e) / math.sqrt(head_dim)

        attnbench_backward_rowsum[(-(-seq_q // ROWSUM_ROWS), heads, batch)](
            described(out, ROWSUM_ROWS),
            described(out_grad, ROWSUM_ROWS),
            rowsum,
            seq_q,
            HEAD_DIM=padded(head_dim),
            BLOCK_M=ROWSUM_ROWS,
        )

        block_m, block_n, num_warps, num_stages = keys_blocks
        attnbench_backward_keys[(-(-seq_kv // block_n), kv_heads, batch)](
            described(q, block_m),
            described(k, block_n),
            described(v, block_n),
            described(out_grad, block_m),
            described(k_grad, block_n),
            described(v_grad, block_n),
            lse,
            rowsum,
            seq_q,
            seq_kv,
            scale,
            GROUP=heads // kv_heads,
            HEAD_DIM=padded(head_dim),
            BLOCK_M=block_m,
            BLOCK_N=block_n,
            CAUSAL=causal,
            num_warps=num_warps,
            num_stages=num_stages,
        )

        block_m, block_n, num_warps, num_stages = queries_blocks
        attnbench_backward_queries[(-(-seq_q // block_m), heads, batch)](
            described(q, block_m),
            described(k, block_n),
            described(v, block_n),
            described(out_grad, block_m),
            described(q_grad, block_m),
            lse,
            rowsum,
            seq_q,
            seq_kv,
            scale,
            GROUP=heads // kv_heads,
            HEAD_DIM=padded(head_dim),
            BLOCK_M=block_m,
            BLOCK_N=block_n,
            CAUSAL=causal,
            WHOLE_BLOCKS=seq_kv % block_n == 0,
            num_warps=num_warps,
            num_stages=num_stages,
        )
        return q_grad, k_grad, v_grad

    return gradients


@register(
    "triton_bwd",
    "attnbench",
    requires=REQUIRES,
    takes=("cross", "gqa", "causal", "backward"),
    refuses=refused_here,
    route={"cuda": r"^attnbench_(forward|backward_rowsum|backward_keys|backward_queries)$"},
)
def triton_bwd(workload: Workload) -> AttentionFunction:
    """This project's own kernels in Triton with gradients: the forward one, and two backward ones without atomics."""
    causal = workload.mask == "causal"
    gpu, head_dim, item = gpu_name(), workload.head_dim, item_bytes(workload)
    return differentiable(
        configuration(gpu, head_dim, item, causal),
        backward_configuration("keys", gpu, head_dim, item, causal),
        backward_configuration("queries", gpu, head_dim, item, causal),
        causal,
    )
