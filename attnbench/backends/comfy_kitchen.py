"""comfy-kitchen, ComfyUI's own kernels: attention with q, k, v and the probabilities in int8, the last ones unsigned.

The call quantises: it rotates q and k by a Hadamard matrix, and subtracts one key from all of them where that makes them
smaller. The package has no causal mask; padded keys and dense masks are handed over as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench.backends.device_kernels import TORCHS_OWN
from attnbench.backends.registry import register
from attnbench.backends.requirements import Capability, Device, DType, Function, HeadDim, Package
from attnbench.hardware.device import type_in_use
from attnbench.model import MODES
from attnbench.workload import Workload
from attnbench.workloads import masks

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import AttentionFunction

_MODULE, _PIP = "comfy_kitchen", "pip install comfy-kitchen"


def refused_without_extension(workload: Workload, device: str) -> tuple[str, ...]:
    """Why comfy-kitchen says that its attention is not available; empty where it is."""
    del workload
    if device != "cuda":
        return ()
    import comfy_kitchen

    if comfy_kitchen.int8_attention_is_available():
        return ()
    known: dict[str, Any] = comfy_kitchen.registry.list_backends()
    why = known.get("cuda", {}).get("unavailable_reason") or "no reason"
    return (f"needs comfy-kitchen's compiled extension for this GPU, found none ({' '.join(why.split())})",)


@register(
    "comfy_kitchen_int8",
    "comfy-kitchen",
    tolerance="int8",
    layout="bhsd",
    modes=MODES,
    requires=(
        Package(_MODULE, distribution="comfy-kitchen"),
        Function(_MODULE, "int8_attention", _PIP),
        Device("cuda"),
        Capability((7, 5)),
        DType("bf16", "fp16", "fp32"),
        HeadDim(lambda d: d <= 256, "at most 256"),
    ),
    takes=("cross", "gqa", "padding", "bool", "additive"),
    route={"cuda": r"\bqk_int_sv_i8_attn_kernel"},
    foreign={"cuda": TORCHS_OWN},
    refuses=refused_without_extension,
)
def comfy_kitchen_int8(workload: Workload) -> AttentionFunction:
    """comfy-kitchen's `int8_attention`, ComfyUI's own: q, k, v and the probabilities in int8, quantised inside the call."""
    from comfy_kitchen import int8_attention

    mask = masks.dense_mask(workload, type_in_use())
    options = {} if mask is None else {"attn_mask": mask}

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = int8_attention(q, k, v, **options)
        return output

    return attention
