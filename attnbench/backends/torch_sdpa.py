"""PyTorch's scaled_dot_product_attention, each of its implementations by itself."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from attnbench.backends.device_kernels import ANY_FLASH_2, CUDNN, CUTLASS
from attnbench.backends.registry import register
from attnbench.backends.requirements import Device, DType
from attnbench.model import MODES, Workload
from attnbench.workloads.inputs import probe

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import AttentionFunction

#: aten operators of the fused implementations: torch_math must run none of them.
_FUSED_OPS = r"aten::_scaled_dot_product_(flash|efficient|cudnn)"
_FUSED_KERNELS = f"{ANY_FLASH_2}|{CUTLASS}|{CUDNN}"


def _pinned(implementation: str) -> AttentionFunction:
    """SDPA on `[batch, heads, seq, head_dim]`, held to one implementation: it raises instead of falling back."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    chosen = getattr(SDPBackend, implementation)

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(chosen):
            return scaled_dot_product_attention(q, k, v)

    return attention


def _cuda_refusals(workload: Workload, device: str, question: str) -> tuple[str, ...]:
    """PyTorch's own reasons why one fused implementation cannot take this workload on CUDA; empty when it can."""
    if device != "cuda":
        return ()
    import torch

    asked = probe(workload, device).transpose(1, 2)
    make_params: Any = torch.backends.cuda.SDPAParams
    params = make_params(asked, asked, asked, None, 0.0, False, False)  # no mask, no dropout, not causal, no GQA
    can_use = getattr(torch.backends.cuda, question)
    if can_use(params, debug=False):
        return ()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        can_use(params, debug=True)
    warned = tuple(str(w.message).split(" (Triggered internally")[0].strip() for w in caught)
    return warned or (f"torch.backends.cuda.{question} says no and gives no reason",)


@register(
    "torch_math",
    "torch",
    layout="bhsd",
    modes=MODES,
    requires=(Device("cpu", "cuda"),),
    foreign={"cpu": _FUSED_OPS, "cuda": _FUSED_KERNELS},
)
def torch_math(workload: Workload) -> AttentionFunction:
    """PyTorch's SDPA unfused: two matrix products and a softmax."""
    del workload
    return _pinned("MATH")


@register(
    "torch_flash",
    "torch",
    layout="bhsd",
    modes=MODES,
    requires=(Device("cpu", "cuda"),),
    route={"cpu": r"aten::_scaled_dot_product_flash_attention_for_cpu", "cuda": ANY_FLASH_2},
    refuses=lambda workload, device: _cuda_refusals(workload, device, "can_use_flash_attention"),
)
def torch_flash(workload: Workload) -> AttentionFunction:
    """PyTorch's SDPA, FlashAttention-2 as PyTorch ships it; on the CPU its own tiled kernel of the same name."""
    del workload
    return _pinned("FLASH_ATTENTION")


@register(
    "torch_efficient",
    "torch",
    layout="bhsd",
    modes=MODES,
    requires=(Device("cuda"),),
    route={"cuda": CUTLASS},
    refuses=lambda workload, device: _cuda_refusals(workload, device, "can_use_efficient_attention"),
)
def torch_efficient(workload: Workload) -> AttentionFunction:
    """PyTorch's SDPA, the memory-efficient CUTLASS kernel from xFormers as PyTorch ships it."""
    del workload
    return _pinned("EFFICIENT_ATTENTION")


@register(
    "torch_cudnn",
    "torch",
    layout="bhsd",
    modes=MODES,
    requires=(Device("cuda"), DType("bf16", "fp16")),
    route={"cuda": CUDNN},
    refuses=lambda workload, device: _cuda_refusals(workload, device, "can_use_cudnn_attention"),
)
def torch_cudnn(workload: Workload) -> AttentionFunction:
    """PyTorch's SDPA, cuDNN's fused attention."""
    del workload
    return _pinned("CUDNN_ATTENTION")
