"""FlashInfer against a stand-in: the name and signature of 0.7.2, and SDPA inside."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from adapters import A100, CPU, H200, assert_is_attention, qkv, spelt

from attnbench.backends import flashinfer
from attnbench.backends.families import FAMILIES
from attnbench.backends.registry import all_backends
from attnbench.backends.requirements import unmet
from attnbench.checks.route import kernel_s, wrong_route
from attnbench.model import DeviceOp
from attnbench.workload import Workload

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("flashinfer") is not None, reason="the stand-in would be mixed with the real package"
)

WORKLOAD = Workload("w", 1, 64, 2, 64, "bf16")
NAMES = ("flashinfer", "flashinfer_fa2", "flashinfer_fa3")
MISSING = "package 'flashinfer' is not installed (pip install flashinfer-python)"

FLASHINFER = """
import torch
from torch.nn.functional import scaled_dot_product_attention

backends = []

def single_prefill_with_kv_cache(
    q,
    k,
    v,
    scale_q=None,
    scale_k=None,
    scale_v=None,
    o_dtype=None,
    custom_mask=None,
    packed_custom_mask=None,
    causal=False,
    kv_layout="NHD",
    pos_encoding_mode="NONE",
    use_fp16_qk_reduction=False,
    sm_scale=None,
    window_left=-1,
    logits_soft_cap=None,
    rope_scale=None,
    rope_theta=None,
    backend="auto",
    return_lse=False,
    kv_cache_sf=None,
    k_scale=None,
    v_scale=None,
):
    assert q.ndim == k.ndim == v.ndim == 3 and kv_layout == "NHD"
    backends.append(backend)
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
    rows, keys = q.shape[2], k.shape[2]
    mask = torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows) if causal else None
    out = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=sm_scale, enable_gqa=q.shape[1] != k.shape[1])
    return out.squeeze(0).transpose(0, 1).contiguous()
"""
FILES = {"flashinfer/__init__.py": FLASHINFER}


@pytest.mark.parametrize(("name", "backend"), [("flashinfer", "auto"), (NAMES[1], "fa2"), (NAMES[2], "fa3")])
def test_one_request_of_the_batch_goes_to_the_backend_that_the_name_says(name, backend, stand_in):
    stand_in(FILES)
    tensors = qkv()
    output = all_backends()[name].load(WORKLOAD)(*tensors)
    heads_first = (x.transpose(1, 2) for x in tensors)
    torch.testing.assert_close(output, torch.nn.functional.scaled_dot_product_attention(*heads_first).transpose(1, 2))
    assert sys.modules["flashinfer"].backends == [backend]


@pytest.mark.parametrize("text", ["1x48x2x64:bf16:causal", "1x24/48x4/2x64:bf16:causal", "1x24/48x2x64:bf16"])
@pytest.mark.parametrize("name", NAMES)
def test_what_a_workload_asks_for_reaches_the_library(name, text, stand_in):
    stand_in(FILES)
    assert {*spelt(text).features} <= {*all_backends()[name].takes}
    assert_is_attention(name, spelt(text))


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """`programs(*names)`: a PATH with these alone, and nothing else that says where a compiler is."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("CUDA_HOME", "CUDA_PATH", "CXX", "FLASHINFER_NVCC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(folder))

    def put(*names: str) -> None:
        for name in names:
            (folder / name).write_text("#!/bin/sh\n")
            (folder / name).chmod(0o755)

    return put


def refused(name: str = "flashinfer", device: str = "cuda") -> list[str]:
    return list(all_backends()[name].refuses(WORKLOAD, device))


def lacks(what: str, found: str) -> str:
    return f"needs {what} to compile its kernels, or the package flashinfer-jit-cache; found no {found}"


@pytest.mark.parametrize("name", NAMES)
def test_every_program_that_it_compiles_with_and_that_is_missing_is_said(name, programs, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", "/no/cuda")
    monkeypatch.setenv("CXX", "no-c++ -m64")
    assert refused(name) == [
        lacks("nvcc", "/no/cuda/bin/nvcc"),
        lacks("ninja", "ninja"),
        lacks("a C++ compiler", "no-c++"),
    ]
    programs("ninja", "no-c++")
    assert refused(name) == [lacks("nvcc", "/no/cuda/bin/nvcc")]
    assert refused(name, "cpu") == []


def test_programs_on_the_path_are_enough(programs):
    programs("nvcc", "ninja", "c++")
    assert refused() == []


def test_a_compiler_that_its_own_variable_names_is_taken(programs, monkeypatch, tmp_path):
    programs("ninja", "c++", "nvcc-13")
    monkeypatch.setenv("CUDA_HOME", "/no/cuda")
    monkeypatch.setenv("FLASHINFER_NVCC", str(tmp_path / "bin" / "nvcc-13"))
    assert refused() == []


def test_compiled_kernels_need_no_compiler(programs, stand_in):
    stand_in({"flashinfer_jit_cache/__init__.py": ""})
    assert refused() == []


@pytest.mark.parametrize(
    ("name", "facts", "workload", "reasons"),
    [
        *((name, H200, WORKLOAD, []) for name in NAMES),
        ("flashinfer", A100, WORKLOAD, []),
        ("flashinfer_fa3", A100, WORKLOAD, ["needs sm_90 to below sm_100, found sm_80 (NVIDIA A100)"]),
        ("flashinfer_fa2", H200, Workload("w", 1, 64, 2, 320), []),
        ("flashinfer_fa3", H200, Workload("w", 1, 64, 2, 320), ["needs head_dim 64, 128 or 256, found 320"]),
        ("flashinfer", H200, Workload("w", 2, 64, 2, 64), ["needs batch at most 1, found 2"]),
    ],
)
def test_what_device_and_workload_lack_is_said(name, facts, workload, reasons, stand_in):
    stand_in(FILES)
    assert [reason.text for reason in unmet(all_backends()[name].requires, facts, workload)] == reasons


def test_all_reasons_of_a_backend_come_at_once():
    found = unmet(all_backends()["flashinfer"].requires, CPU, Workload("w", 2, 64, 2, 96, "fp32"))
    assert [reason.text for reason in found] == [
        MISSING,
        "needs device cuda, found cpu",
        "needs dtype bf16 or fp16, found fp32",
        "needs batch at most 1, found 2",
        "needs head_dim a multiple of 64, at most 512, found 96",
    ]


FA2 = "void flashinfer::SinglePrefillWithKVCacheKernel<flashinfer::KernelTraits<(flashinfer::MaskMode)0, 128u, 2u>>"
FA3 = "void flashinfer::PrefillWithKVCacheKernel<flashinfer::CollectiveMainloop<flashinfer::AttentionKernelTraits>>"
OTHER = {
    "flash_attn_2": "void flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4, false, false>>",
    "flash_attn_3": "void cutlass::device_kernel<flash::enable_sm90<flash::FlashAttnFwdSm90<flash::CollectiveMainloop>>>",
    "cudnn": "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_64x128x128_4x1x1_kernel0_0",
}
OWN = {"flashinfer": {FA2, FA3}, "flashinfer_fa2": {FA2}, "flashinfer_fa3": {FA3}}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ran", [FA2, FA3, *OTHER.values()], ids=["fa2", "fa3", *OTHER])
def test_each_is_known_by_its_own_kernels(name, ran):
    """FlashInfer's names are those in its source; none was seen in a profile yet."""
    codes = [reason.code for reason in wrong_route(all_backends()[name], "cuda", (DeviceOp(ran),))]
    assert codes == ([] if ran in OWN[name] else ["wrong-route", "replaced"])


def test_the_family_is_registered_eager_only():
    assert flashinfer in FAMILIES
    found = {name: b.modes for name, b in all_backends().items() if b.family == "flashinfer"}
    assert found == dict.fromkeys((*NAMES, "flashinfer_cudnn", "flashinfer_trtllm"), ("eager",))


def test_what_merges_split_keys_is_part_of_the_kernel_s_own_time():
    merge = "void flashinfer::MergeStatesKernel<8u, 16u, __nv_bfloat16, __nv_bfloat16>"
    ran = tuple(
        DeviceOp(name, duration_s=duration_s) for name, duration_s in ((FA2, 3e-6), (merge, 1e-6), ("fill", 5e-6))
    )
    assert kernel_s(all_backends()["flashinfer_fa2"], "cuda", ran) == pytest.approx(4e-6)
