"""Transformer Engine's DotProductAttention, held to each of its three implementations, and its cuDNN one in e4m3 too.

Which of them runs is Transformer Engine's own choice, among those that its variables allow: it reads them when it chooses,
on the first call with other parameters than the last one, and keeps the choice until they change or its flag
`backend_selection_requires_update` is set. So they are set while a case is loaded, not in the timed call.

It also loads a cuDNN by itself, the system's where there is one. With another one than torch's beside it, fused attention
is switched off without a word.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.backends.device_kernels import CUDNN, CUTLASS, FLASH_2, FLASH_3, FLASH_4, TORCHS_FLASH
from attnbench.backends.installed import package_folders
from attnbench.backends.registry import OwnProcess, register
from attnbench.backends.requirements import Capability, Device, Distribution, DType, HeadDim
from attnbench.hardware.device import type_in_use
from attnbench.hardware.facts import installed_version
from attnbench.model import MODES
from attnbench.units import cudnn_release
from attnbench.workload import Workload
from attnbench.workloads.drawing import torch_dtype

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import AttentionFunction

#: Its implementations in the order of its own list, each with the variable that allows it.
_VARIABLES = {
    "FlashAttention": "NVTE_FLASH_ATTN",
    "FusedAttention": "NVTE_FUSED_ATTN",
    "UnfusedDotProductAttention": "NVTE_UNFUSED_ATTN",
}

#: Device kernels of the flash-attn that it finds, and of the steps of unfused attention: cuBLAS calls some of its products
#: nvjet, the softmax may be Transformer Engine's or PyTorch's, and either may be one that Inductor wrote.
_FLASH = f"{FLASH_2}|{FLASH_3}|{FLASH_4}"
_UNFUSED = r"(?i:softmax|gemm|nvjet|triton_bmm)"
#: PyTorch's own of SDPA, but cuDNN's, which Transformer Engine runs too.
_TORCH = f"{TORCHS_FLASH}|{CUTLASS}"


def torch_cudnn() -> dict[str, str]:
    """Variables that make a process load the cuDNN which pip installed for torch before any other; empty without one."""
    for folder in package_folders("nvidia.cudnn"):
        if libraries := sorted(map(str, Path(folder, "lib").glob("libcudnn*.so.*"))):
            return {
                "CUDNN_HOME": folder,
                "CUDNN_PATH": folder,
                "LD_LIBRARY_PATH": _led_by([str(Path(folder, "lib"))], os.environ.get("LD_LIBRARY_PATH", ""), ":"),
                "LD_PRELOAD": _led_by(libraries, os.environ.get("LD_PRELOAD", ""), "[: ]"),
            }
    return {}


def _led_by(paths: list[str], value: str, separator: str) -> str:
    """A list of paths as a variable has it, with these before all others."""
    return ":".join([*paths, *(path for path in re.split(separator, value) if path and path not in paths)])


_OWN_PROCESS = OwnProcess(
    "transformer-engine",
    "Transformer Engine loads a cuDNN by itself, the system's where there is one, and needs torch's",
    torch_cudnn,
)


@contextmanager
def _chosen(implementation: str) -> Iterator[None]:
    """Transformer Engine's choice held to one implementation, and the choices before and after it made anew."""
    from transformer_engine.pytorch.attention.dot_product_attention import _attention_backends

    before = {variable: os.environ.get(variable) for variable in _VARIABLES.values()}
    os.environ.update({variable: str(int(name == implementation)) for name, variable in _VARIABLES.items()})
    _attention_backends["backend_selection_requires_update"] = True
    try:
        yield
    finally:
        for variable, value in before.items():
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value
        _attention_backends["backend_selection_requires_update"] = True


def _mask_type(workload: Workload) -> str:
    """What Transformer Engine calls the mask: "causal" is aligned at the first query and key, which equal lengths share."""
    if workload.mask == "causal":
        return "causal" if workload.seq_kv is None else "causal_bottom_right"
    return "padding" if workload.mask == "padding" else "no_mask"


def _is_training(workload: Workload) -> bool:
    """Whether the module has to be in training: in inference it drops nothing, and keeps nothing for a backward pass."""
    return workload.direction != "forward" or workload.dropout > 0


def _lengths(workload: Workload) -> dict[str, torch.Tensor]:
    """Where the real tokens of a padded batch end, without the padding, as the call takes it: all queries are real."""
    if workload.mask != "padding":
        return {}
    import torch

    batch, device = workload.batch, type_in_use()
    lengths = torch.tensor((0, *workload.lengths), dtype=torch.int32, device=device)
    return {
        "cu_seqlens_q": torch.arange(batch + 1, dtype=torch.int32, device=device) * workload.seq,
        "cu_seqlens_kv": lengths.cumsum(0, dtype=torch.int32),
    }


def _delayed_scaling() -> Any:
    """The recipe under which attention runs in e4m3, as xDiT has it: everything else is its default."""
    from transformer_engine.common.recipe import DelayedScaling

    return DelayedScaling(fp8_dpa=True)


def _in_e4m3() -> Callable[[], AbstractContextManager[None]]:
    """What a call in e4m3 stands in. A library's user enters it in every call, so it is part of the timed one."""
    from transformer_engine.pytorch import autocast

    return functools.partial(autocast, enabled=True, recipe=_delayed_scaling())


@contextmanager
def _loaded(workload: Workload, implementation: str, in_e4m3: bool = False) -> Iterator[AttentionFunction]:
    """The module; in its inference form unless gradients or dropout are asked for: in training it writes more.

    Dropout draws from torch's own generator of the device.
    """
    from transformer_engine.pytorch import DotProductAttention

    asked = {
        "num_gqa_groups": (workload.k_shape[2], workload.group > 1),
        # In self-attention it takes the lengths of the queries for those of the keys.
        "attention_type": ("cross", workload.seq_kv is not None or workload.mask == "padding"),
    }
    module = DotProductAttention(
        workload.heads,
        workload.head_dim if workload.head_dim_v is None else (workload.head_dim, workload.head_dim_v),
        attention_dropout=workload.dropout,
        qkv_format="bshd",
        attn_mask_type=_mask_type(workload),
        **{name: value for name, (value, is_asked) in asked.items() if is_asked},
    ).train(_is_training(workload))
    lengths, precision = _lengths(workload), _in_e4m3() if in_e4m3 else nullcontext
    # It takes three tensors of equal strides for contiguous ones: on an H200 cuDNN then read other tokens.
    copies = workload.layout == "bhsd" and implementation == "FusedAttention"

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        if copies:
            q, k, v = (one.contiguous() for one in (q, k, v))
        with precision():
            output: torch.Tensor = module(q, k, v, **lengths)  # [batch, seq, heads · head_dim_v]
        return output.view(workload.shape)

    with _chosen(implementation):
        yield attention


def _refusals(workload: Workload, device: str, implementation: str, in_e4m3: bool = False) -> tuple[str, ...]:
    """Why Transformer Engine would not choose this implementation, in its own words; empty when it would."""
    if device != "cuda":
        return ()
    from transformer_engine.pytorch.attention.dot_product_attention import utils

    _, keys, kv_heads, _ = workload.k_shape
    mask_type = _mask_type(workload)
    own: dict[str, Any] = {
        "bottom_right_diagonal": mask_type != "causal"
    }  # as the module works it out; older releases have no such field
    own |= {"fp8": True, "fp8_meta": {"recipe": _delayed_scaling()}} if in_e4m3 else {}
    asked = utils.AttentionParams(
        qkv_dtype=torch_dtype(workload),
        qkv_layout="bshd_bshd_bshd",
        batch_size=workload.batch,
        num_heads=workload.heads,
        num_gqa_groups=kv_heads,
        max_seqlen_q=workload.seq,
        max_seqlen_kv=keys,
        head_dim_qk=workload.head_dim,
        head_dim_v=workload.shape[3],
        attn_mask_type=mask_type,
        attention_dropout=workload.dropout,
        is_training=_is_training(workload),
        **{name: value for name, value in own.items() if hasattr(utils.AttentionParams, name)},
    )
    with _chosen(implementation), _logged(utils) as lines:
        *_, available = utils.get_attention_backend(asked)
    if available[list(_VARIABLES).index(implementation)]:
        return ()
    reasons = [line for line in lines if line.startswith((f"Disabling {implementation}", "Disabling all"))]
    if implementation == "FusedAttention":
        reasons.insert(0, _other_cudnn())
    if implementation == "FlashAttention":
        reasons.insert(0, _no_flash_attn(utils.FlashAttentionUtils))
    none = f"Transformer Engine has no {implementation} for this workload and gives no reason"
    return tuple(filter(None, reasons)) or (none,)


@contextmanager
def _logged(utils: Any) -> Iterator[list[str]]:
    """What the choice logs at NVTE_DEBUG=1 NVTE_DEBUG_LEVEL=2: these are read on import, so its level is set instead."""
    lines: list[str] = []
    logger, handler = logging.getLogger("DotProductAttention"), logging.Handler()
    handler.emit = lambda record: lines.append(" ".join(record.getMessage().split()))  # type: ignore[method-assign]
    own = utils.AttentionLogging
    level, handlers, propagate = own._log_level, logger.handlers, logger.propagate
    own._log_level, logger.handlers, logger.propagate = logging.DEBUG, [handler], False
    try:
        yield lines
    finally:
        own._log_level, logger.handlers, logger.propagate = level, handlers, propagate
        logger.setLevel(level)


def _other_cudnn() -> str:
    """That Transformer Engine and torch have two releases of cuDNN, and the cure; empty when they have not."""
    import torch
    import transformer_engine_torch

    loaded, needed = transformer_engine_torch.get_cudnn_version(), torch.backends.cudnn.version() or 0
    if loaded == needed:
        return ""
    where = torch_cudnn().get("CUDNN_HOME", "the folder of torch's cuDNN, which pip has not installed")
    return (
        f"needs cuDNN {cudnn_release(needed)}, which torch has, found {cudnn_release(loaded)}, which Transformer Engine "
        f"loaded: set CUDNN_HOME, CUDNN_PATH, LD_LIBRARY_PATH and LD_PRELOAD to {where}, before Python starts"
    )


def _no_flash_attn(known: Any) -> str:
    """That none of the releases of flash-attn that Transformer Engine takes is there; empty when one is."""
    import torch

    if known.is_installed or known.v3_is_installed or known.v4_is_installed:
        return ""
    blackwell = torch.cuda.get_device_capability() >= (10, 0)
    oldest = known.version_required_blackwell if blackwell else known.version_required
    names = ("flash-attn", "flash-attn-3", "flash-attn-4")
    installed = ", ".join(f"{name} {installed_version(name) or 'not installed'}" for name in names)
    return (
        f"needs flash-attn >= {oldest}, < {known.max_version}, or on sm_90 flash-attn-3, or from sm_90 on a flash-attn-4 "
        f"that Transformer Engine can load; found {installed}"
    )


def _source() -> str:
    """Which Transformer Engine was loaded, and on which cuDNN."""
    import transformer_engine_torch

    version = installed_version("transformer-engine")
    return f"Transformer Engine {version}, cuDNN {cudnn_release(transformer_engine_torch.get_cudnn_version())}"


_PIP = "'transformer-engine[pytorch]'"
_INSTALLED = (
    Distribution("transformer-engine", pip=_PIP),
    # Built from source, the extension is a module of its own that pip does not know.
    Distribution("transformer-engine-torch", pip=_PIP, module="transformer_engine_torch"),
)


#: What is the same of all three. Dynamo of torch 2.11 fails in the choice of Transformer Engine 2.20.2 (NotImplementedError
#: at a comparison of tuples), which is made on the first call, and traces the calls after it.
_register = functools.partial(
    register,
    family="transformer-engine",
    modes=MODES,
    takes=("cross", "gqa", "head_dim_v", "causal", "padding", "dropout", "backward"),
    fullgraph=False,
    eager_first=True,
    source=_source,
    own_process=_OWN_PROCESS,
)
_ON_CUDA = (*_INSTALLED, Device("cuda"), Capability((8, 0)))


@_register(
    "te_fused",
    requires=(
        *_ON_CUDA,
        DType("bf16", "fp16"),
        HeadDim(lambda d: d % 8 == 0, "a multiple of 8"),
    ),
    route={"cuda": CUDNN},
    foreign={"cuda": f"{_FLASH}|{_TORCH}|softmax_warp_forward|SoftMaxForward"},
    refuses=lambda workload, device: _refusals(workload, device, "FusedAttention"),
)
def te_fused(workload: Workload) -> AbstractContextManager[AttentionFunction]:
    """Transformer Engine's DotProductAttention on cuDNN."""
    return _loaded(workload, "FusedAttention")


@_register(
    "te_flash",
    requires=(
        *_ON_CUDA,
        DType("bf16", "fp16"),
        HeadDim(lambda d: d % 8 == 0 and d <= 256, "a multiple of 8, at most 256"),
    ),
    route={"cuda": _FLASH},
    foreign={"cuda": f"{CUDNN}|{_TORCH}"},
    refuses=lambda workload, device: _refusals(workload, device, "FlashAttention"),
)
def te_flash(workload: Workload) -> AbstractContextManager[AttentionFunction]:
    """Transformer Engine's DotProductAttention on flash-attn 2, 3 or 4, whichever it prefers of those installed.

    The kernels that are recorded say which.
    """
    return _loaded(workload, "FlashAttention")


@_register(
    "te_fp8",
    tolerance="fp8-output-unscaled",
    modes=("eager",),
    requires=(
        *_INSTALLED,
        Device("cuda"),
        Capability((9, 0)),
        DType("bf16", "fp16"),
        HeadDim(lambda d: d % 16 == 0, "a multiple of 16"),
    ),
    takes=("cross", "gqa", "head_dim_v", "causal", "padding"),
    route={"cuda": CUDNN},
    foreign={"cuda": f"{_FLASH}|{_TORCH}|softmax_warp_forward|SoftMaxForward"},
    refuses=lambda workload, device: _refusals(workload, device, "FusedAttention", in_e4m3=True),
    eager_first=False,
)
def te_fp8(workload: Workload) -> AbstractContextManager[AttentionFunction]:
    """Transformer Engine's DotProductAttention on cuDNN in e4m3, with delayed scaling, as xDiT calls it.

    Delayed scales are worked out from earlier calls, but only where gradients are enabled. In inference all of them stay 1:
    q, k, v, probabilities and output are cast as they are, and an output of many tokens, which is small, loses most.
    """
    return _loaded(workload, "FusedAttention", in_e4m3=True)


@_register(
    "te_unfused",
    tolerance="16-bit-unfused",
    requires=(*_ON_CUDA, DType("bf16", "fp16", "fp32")),
    route={"cuda": _UNFUSED},
    foreign={"cuda": f"{CUDNN}|{_FLASH}|{_TORCH}"},
    refuses=lambda workload, device: _refusals(workload, device, "UnfusedDotProductAttention"),
)
def te_unfused(workload: Workload) -> AbstractContextManager[AttentionFunction]:
    """Transformer Engine's DotProductAttention unfused: two matrix products and a softmax.

    The softmax is Transformer Engine's own where the shape allows it.
    """
    return _loaded(workload, "UnfusedDotProductAttention")
