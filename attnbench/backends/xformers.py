"""xFormers' memory_efficient_attention: the operator that it chooses by itself, and two of its operators by name.

Its flash operator runs FlashAttention-2 of the package flash-attn where that is installed, else PyTorch's own copy: the
kernels that are recorded say which, `flash::…` or `pytorch_flash::…`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench.backends.device_kernels import ANY_FLASH_2, CUDNN, CUTLASS, FLASH_3, FLASH_4
from attnbench.backends.registry import register
from attnbench.backends.requirements import Capability, Device, DType, HeadDim, Package
from attnbench.model import MODES, Workload
from attnbench.workloads.inputs import probe

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import AttentionFunction

#: Device kernels that none of its operators runs.
_OTHERS = f"{CUDNN}|{FLASH_4}"
#: Modules of the operators that it takes by itself for as many key heads as query heads, as `fmha/dispatch.py` has them.
#: It has more, and a workload that only those can run is one that it refuses.
_CHOSEN_FROM = ("flash3", "flash", "cutlass")


def _loaded(module: str) -> AttentionFunction:
    """The call, held to the forward operator of one module of `xformers.ops.fmha`; "" leaves the choice to xFormers."""
    from xformers.ops import fmha, memory_efficient_attention

    operator = (getattr(fmha, module).FwOp, None) if module else None

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = memory_efficient_attention(q, k, v, op=operator)
        return output

    return attention


def _refusals(workload: Workload, device: str, module: str) -> tuple[str, ...]:
    """Its own `not_supported_reasons` for one operator, or for all that it may choose from; empty when it can run."""
    if device != "cuda":
        return ()
    from xformers.ops import fmha

    inputs = fmha.Inputs(*probe(workload, device))
    if module:
        return tuple(getattr(fmha, module).FwOp.not_supported_reasons(inputs))
    operators: list[Any] = [getattr(fmha, name).FwOp for name in _CHOSEN_FROM if hasattr(fmha, name)]
    refused = {operator.NAME: operator.not_supported_reasons(inputs) for operator in operators}
    if not all(refused.values()):
        return ()
    about: dict[str, list[str]] = {}  # each reason once, with the operators that give it
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
    foreign={"cuda": _OTHERS},
    refuses=lambda workload, device: _refusals(workload, device, ""),
)
def xformers(workload: Workload) -> AttentionFunction:
    """xFormers' memory_efficient_attention as users call it, with the first of its operators that can."""
    del workload
    return _loaded("")


@register(
    "xformers_cutlass",
    "xformers",
    modes=MODES,
    requires=(Package("xformers"), Device("cuda")),
    route={"cuda": CUTLASS},
    foreign={"cuda": f"{_OTHERS}|{ANY_FLASH_2}|{FLASH_3}"},
    refuses=lambda workload, device: _refusals(workload, device, "cutlass"),
)
def xformers_cutlass(workload: Workload) -> AttentionFunction:
    """xFormers' CUTLASS operator, which calls the kernel of it that PyTorch ships."""
    del workload
    return _loaded("cutlass")


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
    foreign={"cuda": f"{_OTHERS}|{CUTLASS}|{FLASH_3}"},
    refuses=lambda workload, device: _refusals(workload, device, "flash"),
)
def xformers_flash(workload: Workload) -> AttentionFunction:
    """xFormers' FlashAttention-2 operator, from package flash-attn where that is installed, else from PyTorch."""
    del workload
    return _loaded("flash")
