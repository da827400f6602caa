"""xFormers' memory_efficient_attention: the operator that it chooses by itself, and two of its operators by name.

Its flash operator runs FlashAttention-2 of the package flash-attn where that is installed, else PyTorch's own copy: the
kernels that are recorded say which, `flash::…` or `pytorch_flash::…`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench.backends.device_kernels import ANY_FLASH_2, CUDNN, CUTLASS, FLASH_3, FLASH_4
from attnbench.backends.registry import register
from attnbench.backends.requirements import Capability, Device, DType, HeadDim, Package
from attnbench.hardware.device import type_in_use
from attnbench.model import MODES
from attnbench.workload import Workload
from attnbench.workloads import masks
from attnbench.workloads.inputs import probe

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import AttentionFunction
    from attnbench.workloads.drawing import Triple

#: Device kernels that none of its operators runs.
_OTHERS = f"{CUDNN}|{FLASH_4}"
#: Modules of the operators that it takes by itself for as many key heads as query heads, as `fmha/dispatch.py` has them.
#: It has more, and a workload that only those can run is one that it refuses.
_CHOSEN_FROM = ("flash3", "flash", "cutlass")
#: What one or another of its operators takes; each is asked (`_refusals`).
_TAKES = ("cross", "gqa", "head_dim_v", "causal", "padding", "additive", "packed", "dropout", "backward")
#: Elements at multiples of which a row of an additive mask begins: `_check_bias_alignment` in `fmha/cutlass.py`.
_ALIGNED = 8


def _bias(workload: Workload, device: str) -> Any:
    """The mask in the form that xFormers has for it: one of its classes, or a tensor for an additive one; None for none."""
    if not workload.packed and workload.mask in ("none", "additive"):
        return _additive(workload, device)
    from xformers.ops.fmha import attn_bias

    if workload.packed:
        blocks = attn_bias.BlockDiagonalMask.from_seqlens(list(workload.packed), device=device)
        return blocks.make_causal() if workload.mask == "causal" else blocks
    if workload.mask == "causal":
        return attn_bias.LowerTriangularFromBottomRightMask()
    queries, keys = [workload.seq] * workload.batch, workload.k_shape[1]
    padded = attn_bias.BlockDiagonalPaddedKeysMask
    return padded.from_seqlens(queries, kv_padding=keys, kv_seqlen=list(workload.lengths), device=device)


def _additive(workload: Workload, device: str) -> torch.Tensor | None:
    """`[batch, heads, seq, keys]`, with the heads in groups where the tensors have them; rows begin at multiples of 8.

    It is the same for all batch entries and heads, which share its memory.
    """
    dense = masks.dense_mask(workload, device) if workload.mask == "additive" else None
    if dense is None:
        return None
    keys = dense.shape[3]
    aligned = dense.new_zeros((*dense.shape[:3], -(-keys // _ALIGNED) * _ALIGNED))
    aligned[..., :keys] = dense
    heads = (workload.k_shape[2], workload.group) if _is_grouped(workload) else (workload.heads,)
    sliced = aligned[..., :keys]
    return (sliced.unsqueeze(1) if len(heads) > 1 else sliced).expand(workload.batch, *heads, -1, -1)


def _is_grouped(workload: Workload) -> bool:
    """Whether its tensors have an axis of groups, `[batch, seq, kv_heads, group, head_dim]`: no backward pass takes it."""
    return workload.group > 1 and workload.direction == "forward"


def _arranged(workload: Workload, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Triple:
    """The tensors in the form that xFormers wants: groups of heads spread out, a padded batch as one row of tokens."""
    if workload.group > 1:
        k, v = (x.unsqueeze(3).expand(-1, -1, -1, workload.group, -1) for x in (k, v))
        if _is_grouped(workload):
            q = q.unflatten(2, (-1, workload.group))
        else:
            k, v = k.flatten(2, 3), v.flatten(2, 3)
    if workload.mask == "padding":
        q, k, v = (x.flatten(0, 1).unsqueeze(0) for x in (q, k, v))
    return q, k, v


def _loaded(module: str, workload: Workload) -> AttentionFunction:
    """The call, held to the operators of one module of `xformers.ops.fmha`; "" leaves the choice to xFormers."""
    from xformers.ops import fmha, memory_efficient_attention

    options: dict[str, Any] = {"op": None}
    if module:
        chosen = getattr(fmha, module)
        options["op"] = (chosen.FwOp, None if workload.direction == "forward" else chosen.BwOp)
    bias = _bias(workload, type_in_use())
    if bias is not None:
        options["attn_bias"] = bias
    if workload.dropout:
        options["p"] = workload.dropout

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = memory_efficient_attention(*_arranged(workload, q, k, v), **options)
        return output.reshape(workload.shape)

    return attention


def _refusals(workload: Workload, device: str, module: str) -> tuple[str, ...]:
    """Its own `not_supported_reasons`, of one module's operators or of all that it may choose from; empty when it can."""
    if device != "cuda":
        return ()
    from xformers.ops import fmha

    tensors = _arranged(workload, *probe(workload, device))
    inputs = fmha.Inputs(*tensors, attn_bias=_bias(workload, device), p=workload.dropout)
    passes = ("FwOp",) if workload.direction == "forward" else ("FwOp", "BwOp")
    if module:
        asked = [getattr(getattr(fmha, module), one) for one in passes]
        return tuple(dict.fromkeys(reason for one in asked for reason in one.not_supported_reasons(inputs)))
    refused = (_refused_by_all(fmha, one, inputs) for one in passes)
    return tuple(reason for reasons in refused for reason in reasons)


def _refused_by_all(fmha: Any, which: str, inputs: Any) -> tuple[str, ...]:
    """Each reason once, with the operators that give it, where all that it may choose from refuse; else empty."""
    operators: list[Any] = [getattr(getattr(fmha, name), which) for name in _CHOSEN_FROM if hasattr(fmha, name)]
    refused = {operator.NAME: operator.not_supported_reasons(inputs) for operator in operators}
    if not all(refused.values()):
        return ()
    about: dict[str, list[str]] = {}
    for name, reasons in refused.items():
        for reason in reasons:
            about.setdefault(reason, []).append(name)
    return tuple(f"{', '.join(names)}: {reason}" for reason, names in about.items())


@register(
    "xformers",
    "xformers",
    modes=MODES,
    requires=(Package("xformers"), Device("cuda")),
    route={"cuda": f"{CUTLASS}|{ANY_FLASH_2}|{FLASH_3}"},
    takes=_TAKES,
    foreign={"cuda": _OTHERS},
    refuses=lambda workload, device: _refusals(workload, device, ""),
)
def xformers(workload: Workload) -> AttentionFunction:
    """xFormers' memory_efficient_attention as users call it, with the first of its operators that can."""
    return _loaded("", workload)


@register(
    "xformers_cutlass",
    "xformers",
    modes=MODES,
    requires=(Package("xformers"), Device("cuda")),
    route={"cuda": CUTLASS},
    takes=_TAKES,
    foreign={"cuda": f"{_OTHERS}|{ANY_FLASH_2}|{FLASH_3}"},
    refuses=lambda workload, device: _refusals(workload, device, "cutlass"),
)
def xformers_cutlass(workload: Workload) -> AttentionFunction:
    """xFormers' CUTLASS operator, which calls the kernel of it that PyTorch ships."""
    return _loaded("cutlass", workload)


@register(
    "xformers_flash",
    "xformers",
    modes=MODES,
    requires=(
        Package("xformers"),
        Device("cuda"),
        Capability((8, 0)),
        DType("bf16", "fp16"),
        HeadDim(lambda d: d % 8 == 0 and d <= 256, "a multiple of 8, at most 256"),
    ),
    route={"cuda": ANY_FLASH_2},
    takes=_TAKES,
    foreign={"cuda": f"{_OTHERS}|{CUTLASS}|{FLASH_3}"},
    refuses=lambda workload, device: _refusals(workload, device, "flash"),
)
def xformers_flash(workload: Workload) -> AttentionFunction:
    """xFormers' FlashAttention-2 operator, from package flash-attn where that is installed, else from PyTorch."""
    return _loaded("flash", workload)
