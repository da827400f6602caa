"""PyTorch's scaled_dot_product_attention: each of its implementations by itself, and the one that it chooses as called."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from attnbench.backends.device_kernels import ANY_FLASH_2, CUDNN, CUTLASS, FLASH_3, FLASH_4, TORCHS_FLASH
from attnbench.backends.registry import UNFUSED, register
from attnbench.backends.requirements import Device, DType
from attnbench.hardware.device import type_in_use
from attnbench.model import MODES
from attnbench.workload import Workload
from attnbench.workloads import masks
from attnbench.workloads.inputs import probe

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import AttentionFunction

#: What every implementation takes beyond plain forward attention, and those that take a mask; PyTorch is asked for its
#: limits (`refusals`).
_TAKES = ("cross", "gqa", "causal", "dropout", "backward")
_MASKED = (*_TAKES, "head_dim_v", "bool", "additive", "padding", "packed")
#: The functions of `torch.backends.cuda` that know the limits of its fused implementations, that of the fewest limits first.
_QUESTIONS = ("can_use_efficient_attention", "can_use_cudnn_attention", "can_use_flash_attention")
#: aten operators of the fused implementations: torch_math must run none of them.
_FUSED_OPS = r"aten::_scaled_dot_product_(flash|efficient|cudnn)"
_FUSED_KERNELS = f"{ANY_FLASH_2}|{CUTLASS}|{CUDNN}"
#: What it chooses from when it is just called, by what it runs. `flash_3` and `flash_4` are there only where something has
#: activated them (`torch.nn.attention.activate_flash_attention_impl`). Compiled, the unfused one is generated kernels that
#: are named after the operators in them; on the CPU the profiler shows its products alone then.
_CHOICES = {
    "cpu": {
        "flash": r"aten::_scaled_dot_product_flash_attention_for_cpu",
        UNFUSED: r"aten::(_scaled_dot_product_attention_math|_safe_softmax|_softmax|bmm)\b",
    },
    "cuda": {
        "flash": TORCHS_FLASH,
        "efficient": CUTLASS,
        "cudnn": CUDNN,
        "flash_3": FLASH_3,
        "flash_4": FLASH_4,
        UNFUSED: r"(?i:softmax)",
    },
}


def pinned(implementation: str, workload: Workload) -> AttentionFunction:
    """SDPA on `[batch, heads, seq, head_dim]`, held to one implementation: it raises instead of falling back."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    chosen = getattr(SDPBackend, implementation)
    as_called = _as_called(workload)

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(chosen):
            return as_called(q, k, v)

    return attention


def _as_called(workload: Workload) -> AttentionFunction:
    """SDPA on `[batch, heads, seq, head_dim]`, with the mask as a tensor that is made before the call."""
    from torch.nn.functional import scaled_dot_product_attention

    options = _options(workload)
    mask = _mask(workload, type_in_use())

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, **options)

    return attention


def _options(workload: Workload) -> dict[str, Any]:
    """Arguments of SDPA besides q, k, v and the mask; those that are not asked for are left to its defaults."""
    asked = {
        "is_causal": _is_causal(workload),
        "enable_gqa": workload.group > 1,
        "dropout_p": workload.dropout,
    }
    return {name: value for name, value in asked.items() if value}


def _mask(workload: Workload, device: str) -> torch.Tensor | None:
    """The mask that SDPA gets as a tensor; a causal one is an option instead, which aligns at the first query and key."""
    return None if _is_causal(workload) else masks.dense_mask(workload, device)


def _is_causal(workload: Workload) -> bool:
    """Whether SDPA is told to be causal; that of packed sequences is part of the mask."""
    return workload.mask == "causal" and not workload.packed


def refusals(workload: Workload, device: str, question: str = "") -> tuple[str, ...]:
    """Why SDPA, or one implementation of it, cannot take this workload; on CUDA in PyTorch's own words. Empty when it can.

    question: the function of `torch.backends.cuda` that knows.
    """
    if workload.mask == "causal" and workload.seq != workload.k_shape[1]:
        found = f"{workload.seq} queries and {workload.k_shape[1]} keys"
        return (f"needs equal lengths for its causal mask, which it aligns at the first query and key, found {found}",)
    if device == "cpu" and question and workload.dropout:
        return (f"PyTorch's fused kernel for the CPU takes no dropout, found {workload.dropout:g}",)
    if device != "cuda" or not question:
        return ()
    import torch

    q, k, v = (tensor.transpose(1, 2) for tensor in probe(workload, device))
    if workload.direction != "forward":
        q, k, v = (tensor.requires_grad_() for tensor in (q, k, v))
    make_params: Any = torch.backends.cuda.SDPAParams
    mask, causal, grouped = _mask(workload, device), _is_causal(workload), workload.group > 1
    params = make_params(q, k, v, mask, workload.dropout, causal, grouped)
    can_use = getattr(torch.backends.cuda, question)
    if can_use(params, debug=False):
        return ()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        can_use(params, debug=True)
    warned = tuple(str(w.message).split(" (Triggered internally")[0].strip() for w in caught)
    return warned or (f"torch.backends.cuda.{question} says no and gives no reason",)


def _math_is_left(workload: Workload) -> bool:
    """Whether no fused implementation takes this workload on CUDA, so that SDPA as called is unfused."""
    return all(refusals(workload, "cuda", question) for question in _QUESTIONS)


def _scores_bytes(workload: Workload, mode: str) -> int:
    """The least memory that plain attention allocates for its scores `[batch, heads, seq, seq_kv]`.

    PyTorch computes them in fp32 from inputs of 16 bits as well, unless that is switched off. Eager mode holds two such
    tensors at one time and a mask of bytes (`_safe_softmax`), with gradients four; compiled code may hold the scores alone.
    In 43 cases on an H200 (torch 2.11, 2048 to 16,384 tokens, masks, dropout) a call had 2.27 to 2.38 times the scores
    forward, and 4.03 to 4.11 times with gradients (docs/measurements/grids-h200.md).
    """
    import torch

    is_reduced = workload.dtype != "fp32" and torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    bytes_each = 2 if is_reduced else 4
    if mode == "eager":
        bytes_each = 4 * bytes_each if workload.direction != "forward" else 2 * bytes_each + 1
    return bytes_each * workload.batch * workload.heads * workload.seq * workload.k_shape[1]


@register(
    "torch_math",
    "torch",
    layout="bhsd",
    modes=MODES,
    requires=(Device("cpu", "cuda"),),
    takes=_MASKED,
    refuses=refusals,
    least_bytes=_scores_bytes,
    foreign={"cpu": _FUSED_OPS, "cuda": _FUSED_KERNELS},
)
def torch_math(workload: Workload) -> AttentionFunction:
    """PyTorch's SDPA unfused: two matrix products and a softmax."""
    return pinned("MATH", workload)


@register(
    "torch_flash",
    "torch",
    layout="bhsd",
    modes=MODES,
    requires=(Device("cpu", "cuda"),),
    takes=_TAKES,
    route={"cpu": r"aten::_scaled_dot_product_flash_attention_for_cpu", "cuda": ANY_FLASH_2},
    refuses=lambda workload, device: refusals(workload, device, "can_use_flash_attention"),
)
def torch_flash(workload: Workload) -> AttentionFunction:
    """PyTorch's SDPA, FlashAttention-2 as PyTorch ships it; on the CPU its own tiled kernel of the same name."""
    return pinned("FLASH_ATTENTION", workload)


@register(
    "torch_efficient",
    "torch",
    layout="bhsd",
    modes=MODES,
    requires=(Device("cuda"),),
    takes=_MASKED,
    route={"cuda": CUTLASS},
    refuses=lambda workload, device: refusals(workload, device, "can_use_efficient_attention"),
)
def torch_efficient(workload: Workload) -> AttentionFunction:
    """PyTorch's SDPA, the memory-efficient CUTLASS kernel from xFormers as PyTorch ships it."""
    return pinned("EFFICIENT_ATTENTION", workload)


@register(
    "torch_cudnn",
    "torch",
    layout="bhsd",
    modes=MODES,
    requires=(Device("cuda"), DType("bf16", "fp16")),
    takes=_MASKED,
    route={"cuda": CUDNN},
    refuses=lambda workload, device: refusals(workload, device, "can_use_cudnn_attention"),
)
def torch_cudnn(workload: Workload) -> AttentionFunction:
    """PyTorch's SDPA, cuDNN's fused attention."""
    return pinned("CUDNN_ATTENTION", workload)


@register(
    "torch_sdpa",
    "torch",
    layout="bhsd",
    modes=MODES,
    requires=(Device("cpu", "cuda"),),
    takes=_MASKED,
    refuses=refusals,
    least_bytes=lambda workload, mode: _scores_bytes(workload, mode) if _math_is_left(workload) else 0,
    chooses=_CHOICES,
)
def torch_sdpa(workload: Workload) -> AttentionFunction:
    """PyTorch's SDPA as called, with the implementation that PyTorch chooses: the record says which."""
    return _as_called(workload)
