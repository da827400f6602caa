"""FlashInfer's prefill: of one request with the kernel that it chooses, and each of its two by name; and of a batch.

For batches of packed requests it has cuDNN's kernels and those of TensorRT-LLM.

Its kernels are compiled on the first call, unless the package flashinfer-jit-cache brings them, and kept on disk.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import TYPE_CHECKING, Any

from attnbench.backends.device_kernels import CUDNN, CUTLASS, FLASH_4, PACKAGE_FLASH, TORCHS_FLASH, TORCHS_OWN
from attnbench.backends.registry import register
from attnbench.backends.requirements import (
    Batch,
    Capability,
    Device,
    Distribution,
    DType,
    HeadDim,
    Package,
    TopLeftCausal,
)
from attnbench.backends.varlen import on_tokens, sequences_of
from attnbench.hardware.device import type_in_use
from attnbench.workload import Workload

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import AttentionFunction

#: Device kernels of its backends fa2 and fa3, by which each is known. With few rows fa2 splits the keys, and another kernel
#: merges what comes of the parts.
_FA2 = r"flashinfer::(SinglePrefillWithKVCache|MergeStates(LargeNumIndexSets)?)Kernel"
_FA3 = r"flashinfer::PrefillWithKVCacheKernel"
_OTHERS = f"{PACKAGE_FLASH}|{FLASH_4}|{TORCHS_OWN}"

_INSTALLED = Package("flashinfer", distribution="flashinfer-python")
_REQUIRES = (
    _INSTALLED,
    Device("cuda"),
    DType("bf16", "fp16"),
    Batch(1),
)
#: Scratch memory of its batched kernels, which ask for this much, and the first time for zeros.
_WORKSPACE_BYTES = 128 * 2**20
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


def _workspace() -> torch.Tensor:
    import torch

    return torch.zeros(_WORKSPACE_BYTES, dtype=torch.uint8, device=type_in_use())


@register(
    "flashinfer_cudnn",
    "flashinfer",
    requires=(
        _INSTALLED,
        Distribution("nvidia-cudnn-frontend"),  # else FlashInfer has its own copies of cuDNN's kernels, for sm_100
        Device("cuda"),
        DType("bf16", "fp16"),
        Capability((9, 0)),
        HeadDim(lambda d: d == 128, "128"),
    ),
    route={"cuda": CUDNN},
    foreign={"cuda": f"{PACKAGE_FLASH}|{FLASH_4}|{TORCHS_FLASH}|{CUTLASS}|{_FA2}|{_FA3}"},
    takes=_TAKES,
)
def flashinfer_cudnn(workload: Workload) -> AttentionFunction:
    """FlashInfer's batched prefill on cuDNN, `cudnn_batch_prefill_with_kv_cache`, on packed requests of equal lengths."""
    import torch
    from flashinfer.cudnn import cudnn_batch_prefill_with_kv_cache

    (batch, queries, *_), keys = workload.q_shape, workload.k_shape[1]
    workspace, sequences = _workspace(), sequences_of(workload, type_in_use())
    options = {
        "max_token_per_sequence": queries,
        "max_sequence_kv": keys,
        "actual_seq_lens_q": torch.full((batch, 1, 1, 1), queries, dtype=torch.int32, device=type_in_use()),
        "actual_seq_lens_kv": torch.full((batch, 1, 1, 1), keys, dtype=torch.int32, device=type_in_use()),
        "causal": workload.mask == "causal",  # aligned at the last query and key, as a workload's is
        "return_lse": False,
        "batch_offsets_q": sequences.cu_seqlens_q,
        "batch_offsets_k": sequences.cu_seqlens_k,
        "batch_offsets_units": "tokens",
    }
    scale = workload.head_dim**-0.5

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *_: Any) -> torch.Tensor:
        output: torch.Tensor = cudnn_batch_prefill_with_kv_cache(q, k, v, scale, workspace, **options)[0]
        return output

    return on_tokens(sequences, attend)


@register(
    "flashinfer_trtllm",
    "flashinfer",
    requires=(
        _INSTALLED,
        Device("cuda"),
        DType("bf16", "fp16"),
        Capability((10, 0)),
        HeadDim(lambda d: d in (128, 256), "128 or 256"),
        TopLeftCausal(),
    ),
    route={"cuda": r"fmhaSm1\d\d"},
    foreign={"cuda": f"{_OTHERS}|{_FA2}|{_FA3}"},
    takes=_TAKES,
    never_run=True,
)
def flashinfer_trtllm(workload: Workload) -> AttentionFunction:
    """FlashInfer's ragged prefill with TensorRT-LLM's kernels, `trtllm_ragged_attention_deepseek`, for Blackwell."""
    import torch
    from flashinfer.prefill import trtllm_ragged_attention_deepseek

    (batch, queries, *_), keys = workload.q_shape, workload.k_shape[1]
    sequences = sequences_of(workload, type_in_use())
    options = {
        "workspace_buffer": _workspace(),
        "seq_lens": torch.full((batch,), keys, dtype=torch.int32, device=type_in_use()),
        "max_q_len": queries,
        "max_kv_len": keys,
        "bmm1_scale": workload.head_dim**-0.5,
        "bmm2_scale": 1.0,
        "o_sf_scale": 1.0,
        "batch_size": batch,
        "window_left": -1,
        "cum_seq_lens_q": sequences.cu_seqlens_q,
        "cum_seq_lens_kv": sequences.cu_seqlens_k,
        "enable_pdl": None,
        "is_causal": workload.mask == "causal",
        "return_lse": False,
    }

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *_: Any) -> torch.Tensor:
        output: torch.Tensor = trtllm_ragged_attention_deepseek(q, k, v, **options)
        return output

    return on_tokens(sequences, attend)
