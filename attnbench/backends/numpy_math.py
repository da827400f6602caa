"""Attention in NumPy, fp64, one head at a time: shares no code with torch, so it can say when torch's reference is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.backends.registry import register
from attnbench.backends.requirements import Device
from attnbench.model import Workload

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import AttentionFunction


@register("numpy", "numpy", requires=(Device("cpu"),))
def numpy_math(workload: Workload) -> AttentionFunction:
    """NumPy in fp64, which shares no code with torch; rounded to the inputs' dtype at the end."""
    import numpy as np
    import torch

    scale = workload.head_dim**-0.5

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        arrays = [x.detach().to(torch.float64).numpy() for x in (q, k, v)]
        out = np.empty_like(arrays[0])
        for batch in range(out.shape[0]):
            for head in range(out.shape[2]):
                qh, kh, vh = (x[batch, :, head] for x in arrays)
                scores = qh @ kh.T * scale
                weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
                out[batch, :, head] = weights @ vh / weights.sum(axis=-1, keepdims=True)
        return torch.from_numpy(out).to(q.dtype)

    return attention
