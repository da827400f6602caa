"""FlashInfer's single-request prefill: the kernel that it chooses by itself, and each of its two by name.

Its kernels are compiled on the first call, unless the package flashinfer-jit-cache brings them, and kept on disk.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import TYPE_CHECKING

from attnbench.backends.device_kernels import FLASH_4, PACKAGE_FLASH, TORCHS_OWN
from attnbench.backends.registry import register
from attnbench.backends.requirements import Batch, Capability, Device, DType, HeadDim, Package
from attnbench.model import Workload

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import AttentionFunction

#: Device kernels of its backends fa2 and fa3, by which each is known. With few rows fa2 splits the keys, and another kernel
#: merges what comes of the parts.
_FA2 = r"flashinfer::(SinglePrefillWithKVCache|MergeStates(LargeNumIndexSets)?)Kernel"
_FA3 = r"flashinfer::PrefillWithKVCacheKernel"
_OTHERS = f"{PACKAGE_FLASH}|{FLASH_4}|{TORCHS_OWN}"

_REQUIRES = (
    Package("flashinfer", distribution="flashinfer-python"),
    Device("cuda"),
    DType("bf16", "fp16"),
    Batch(1),
)
_TAKES = ("cross", "gqa", "causal")
_FA2_HEAD_DIM = HeadDim(lambda d: d % 64 == 0 and d <= 512, "a multiple of 64, at most 512")
_FA3_HEAD_DIM = HeadDim(lambda d: d in (64, 128, 256), "64, 128 or 256")


def _no_compiler(workload: Workload, device: str) -> tuple[str, ...]:
    """What it lacks to compile its kernels with, looked for where it looks."""
    del workload
    if device != "cuda" or importlib.util.find_spec("flashinfer_jit_cache") is not None:
        return ()
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    nvcc = f"{home}/bin/nvcc" if home else shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    programs = {
        "nvcc": os.environ.get("FLASHINFER_NVCC") or nvcc,
        "ninja": "ninja",
        "a C++ compiler": (os.environ.get("CXX") or "c++").split()[0],
    }
    return tuple(
        f"needs {what} to compile its kernels, or the package flashinfer-jit-cache; found no {program}"
        for what, program in programs.items()
        if shutil.which(program) is None
    )


def _prefill(backend: str, workload: Workload) -> AttentionFunction:
    """single_prefill_with_kv_cache, which has no batch axis: `[seq, heads, head_dim]`.

    Its causal mask is aligned at the last query and key, as a workload's is.
    """
    from flashinfer import single_prefill_with_kv_cache

    options = {"kv_layout": "NHD", "backend": backend, "causal": workload.mask == "causal"}

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = single_prefill_with_kv_cache(q[0], k[0], v[0], **options)
        return output.unsqueeze(0)

    return attention


@register(
    "flashinfer",
    "flashinfer",
    requires=(*_REQUIRES, Capability((7, 5)), _FA2_HEAD_DIM),
    route={"cuda": f"{_FA2}|{_FA3}"},
    foreign={"cuda": _OTHERS},
    takes=_TAKES,
    refuses=_no_compiler,
)
def flashinfer(workload: Workload) -> AttentionFunction:
    """FlashInfer's single prefill, with the kernel that it chooses: fa3 on Hopper for some head dimensions, else fa2."""
    return _prefill("auto", workload)


@register(
    "flashinfer_fa2",
    "flashinfer",
    requires=(*_REQUIRES, Capability((7, 5)), _FA2_HEAD_DIM),
    route={"cuda": _FA2},
    foreign={"cuda": f"{_OTHERS}|{_FA3}"},
    takes=_TAKES,
    refuses=_no_compiler,
)
def flashinfer_fa2(workload: Workload) -> AttentionFunction:
    """FlashInfer's kernel in the way of FlashAttention-2."""
    return _prefill("fa2", workload)


@register(
    "flashinfer_fa3",
    "flashinfer",
    requires=(*_REQUIRES, Capability((9, 0), below=(10, 0)), _FA3_HEAD_DIM),
    route={"cuda": _FA3},
    foreign={"cuda": f"{_OTHERS}|{_FA2}"},
    takes=_TAKES,
    refuses=_no_compiler,
)
def flashinfer_fa3(workload: Workload) -> AttentionFunction:
    """FlashInfer's kernel in the way of FlashAttention-3, for Hopper."""
    return _prefill("fa3", workload)
