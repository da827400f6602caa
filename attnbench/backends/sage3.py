"""SageAttention 3: q, k, v and probabilities in fp4, for the Blackwell of consumers. A package of its own, `sageattn3`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.backends.device_kernels import TORCHS_OWN
from attnbench.backends.registry import register
from attnbench.backends.requirements import Capability, Device, DType, HeadDim, Package, TopLeftCausal
from attnbench.workload import Workload

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import AttentionFunction

_FROM_SOURCE = "build sageattention3_blackwell from github.com/thu-ml/SageAttention"


@register(
    "sage3_fp4",
    "SageAttention",
    tolerance="fp4",
    layout="bhsd",
    requires=(
        Package("sageattn3", source=_FROM_SOURCE),
        Device("cuda"),
        Capability((12, 0)),
        DType("bf16", "fp16"),
        HeadDim(lambda d: d in (64, 128), "64 or 128"),  # from 256 on it calls SDPA, and says so on stdout only
        TopLeftCausal(),
    ),
    takes=("cross", "causal"),
    route={"cuda": r"\bcompute_attn_ws\b"},
    foreign={"cuda": TORCHS_OWN},
    never_run=True,
)
def sage3_fp4(workload: Workload) -> AttentionFunction:
    """SageAttention 3, everything in fp4 with a scale for each 16 elements, quantised inside the call.

    It subtracts the mean of k from the tensor that it is given: the caller's is kept by a copy, which the call pays for.
    """
    from sageattn3 import sageattn3_blackwell

    is_causal = workload.mask == "causal"

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = sageattn3_blackwell(q, k.clone(), v, is_causal=is_causal)
        return output

    return attention
