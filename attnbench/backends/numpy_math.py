"""Attention in NumPy, fp64, one head at a time: shares no code with torch, so it can say when torch's reference is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnbench.backends.registry import register
from attnbench.backends.requirements import Device
from attnbench.workload import Workload
from attnbench.workloads import masks

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from attnbench.backends.registry import AttentionFunction

    Matrix = npt.NDArray[np.float64]


@register(
    "numpy",
    "numpy",
    requires=(Device("cpu"),),
    takes=("cross", "gqa", "head_dim_v", "causal", "padding", "bool", "additive", "packed", "backward"),
)
def numpy_math(workload: Workload) -> AttentionFunction:
    """NumPy in fp64, which shares no code with torch; rounded to the inputs' dtype at the end."""
    import torch

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx, q, k, v):  # type: ignore[no-untyped-def]
            arrays = [_array(x) for x in (q, k, v)]
            ctx.arrays, ctx.like = arrays, q
            return torch.from_numpy(_forward(arrays, workload)).to(q.dtype)

        @staticmethod
        def backward(ctx, gradient):  # type: ignore[no-untyped-def]
            return tuple(
                torch.from_numpy(one).to(ctx.like.dtype) for one in _backward(ctx.arrays, _array(gradient), workload)
            )

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = Attention.apply(q, k, v)  # type: ignore[no-untyped-call]
        return output

    return attention


def _array(tensor: torch.Tensor) -> Matrix:
    import torch

    array: Matrix = tensor.detach().to(torch.float64).numpy()
    return array


def _forward(inputs: Sequence[Matrix], workload: Workload) -> Matrix:
    import numpy as np

    q, k, v = inputs
    out = np.empty(workload.shape)
    for batch in range(workload.batch):
        for head in range(workload.heads):
            of_keys = head // workload.group
            weights = _weights(q[batch, :, head], k[batch, :, of_keys], workload, batch)
            out[batch, :, head] = weights @ v[batch, :, of_keys]
    return out


def _backward(inputs: Sequence[Matrix], gradient: Matrix, workload: Workload) -> tuple[Matrix, Matrix, Matrix]:
    """Gradients of q, k and v: those of the softmax are P∘(dP − rowsum(P∘dP)), with dP = dO·Vᵀ."""
    import numpy as np

    q, k, v = inputs
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    scale = workload.head_dim**-0.5
    for batch in range(workload.batch):
        for head in range(workload.heads):
            of_keys = head // workload.group
            keys = k[batch, :, of_keys]
            weights = _weights(q[batch, :, head], keys, workload, batch)
            towards = gradient[batch, :, head] @ v[batch, :, of_keys].T
            scores = weights * (towards - (weights * towards).sum(axis=-1, keepdims=True)) * scale
            dq[batch, :, head] = scores @ keys
            dk[batch, :, of_keys] += scores.T @ q[batch, :, head]
            dv[batch, :, of_keys] += weights.T @ gradient[batch, :, head]
    return dq, dk, dv


def _weights(queries: Matrix, keys: Matrix, workload: Workload, batch: int) -> Matrix:
    """Probabilities of one head, `[seq, seq_kv]`; 0 in a row that sees no key."""
    import numpy as np

    scores: Matrix = queries @ keys.T * workload.head_dim**-0.5
    rows, columns = np.indices(scores.shape)
    dense = (
        masks.dense_mask(workload, "cpu") if workload.mask in ("bool", "additive") else None
    )  # a table of random numbers
    if workload.mask == "additive" and dense is not None:
        scores += _array(dense[0, 0])
    seen = np.ones(scores.shape, dtype=bool)
    if workload.mask == "bool" and dense is not None:
        seen = dense[0, 0].numpy()
    if workload.mask == "causal":
        seen = np.asarray(columns - rows <= len(keys) - len(queries))
    if workload.mask == "padding":
        seen = np.asarray(columns < workload.lengths[batch])
    if workload.packed:
        sequence = np.repeat(np.arange(len(workload.packed)), workload.packed)
        seen = np.asarray(seen & (sequence[rows] == sequence[columns]))
    weights = np.where(seen, np.exp(scores - scores.max(axis=-1, keepdims=True)), 0.0)
    total = weights.sum(axis=-1, keepdims=True)
    result: Matrix = weights / np.where(total > 0, total, 1.0)
    return result
