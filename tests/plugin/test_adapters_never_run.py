"""Adapters that nobody has run on a GPU, against stand-ins with the names and signatures of the libraries' own sources."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from adapters import CPU, H200, assert_is_attention, qkv, spelt, tensors_of

from attnbench.backends import amd_aiter, sage3, sparge
from attnbench.backends.families import FAMILIES
from attnbench.backends.registry import all_backends
from attnbench.backends.requirements import unmet
from attnbench.backends.variant import in_common_layout
from attnbench.checks.route import wrong_route
from attnbench.hardware.facts import Facts
from attnbench.model import DeviceOp
from attnbench.workload import Workload

RTX_5090 = Facts("cuda", "NVIDIA GeForce RTX 5090", (12, 0), (2, 13))
B200 = Facts("cuda", "NVIDIA B200", (10, 0), (2, 13))
WORKLOAD = Workload("w", 1, 64, 2, 64, "bf16")

pytestmark = pytest.mark.skipif(
    any(map(importlib.util.find_spec, ("sageattn3", "spas_sage_attn", "aiter", "flashinfer"))),
    reason="a stand-in would be mixed with the real package",
)

SDPA = """
import torch
from torch.nn.functional import scaled_dot_product_attention

calls = []

def sdpa(q, k, v, causal=False, scale=None):
    rows, keys = q.shape[2], k.shape[2]
    mask = torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows) if causal else None
    grouped = q.shape[1] != k.shape[1]
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=grouped).contiguous()
"""
SAGE_3 = f"""{SDPA}
def sageattn3_blackwell(q, k, v, attn_mask = None, is_causal = False, per_block_mean = True, **kwargs):
    assert attn_mask is None and not kwargs and q.shape[1] == k.shape[1]
    calls.append((q, k, is_causal, per_block_mean))
    k -= k.mean(dim=-2, keepdim=True)
    return sdpa(q, k, v, is_causal)
"""
SPARGE = f"""{SDPA}
def spas_sage2_attn_meansim_topk_cuda(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, smooth_k=True,
                                      simthreshd1=-0.1, cdfthreshd=None, topk=0.5, pvthreshd=50, attention_sink=False,
                                      tensor_layout="HND", output_dtype=torch.float16, return_sparsity=False):
    assert tensor_layout == "HND" and not return_sparsity
    calls.append((q, topk, is_causal))
    return sdpa(q, k, v, is_causal, scale)
"""
AITER = f"""{SDPA}
def flash_attn_func(q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1, 0), bias=None,
                    alibi_slopes=None, deterministic=True, return_lse=False, return_attn_probs=False, how_v3_bf16_cvt=1,
                    cu_seqlens_q=None, cu_seqlens_kv=None, sink_ptr=None, num_splits=0):
    calls.append(causal)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return sdpa(q, k, v, causal, softmax_scale).transpose(1, 2).contiguous()
"""
#: Of 0.7.2.post1. Both take packed tokens, and are told where the requests begin.
FLASHINFER = f"""{SDPA}
def packed(q, k, v, of_q, of_k, causal, scale):
    assert of_q.dtype == of_k.dtype == torch.int32 and q.ndim == k.ndim == v.ndim == 3
    assert (of_q[0], of_q[-1], of_k[0], of_k[-1]) == (0, len(q), 0, len(k))
    parts = []
    for queries, keys in zip(zip(of_q, of_q[1:]), zip(of_k, of_k[1:])):
        one = (x[slice(*where)].transpose(0, 1)[None] for x, where in ((q, queries), (k, keys), (v, keys)))
        parts.append(sdpa(*one, causal, scale)[0].transpose(0, 1))
    return torch.cat(parts)
"""
OF_CUDNN = """
import torch
from flashinfer import calls, packed

def cudnn_batch_prefill_with_kv_cache(
    q, k_cache, v_cache, scale, workspace_buffer, *, max_token_per_sequence, max_sequence_kv, actual_seq_lens_q=None,
    actual_seq_lens_kv=None, block_tables=None, causal, return_lse, q_scale=None, k_scale=None, v_scale=None,
    batch_offsets_q=None, batch_offsets_o=None, batch_offsets_k=None, batch_offsets_v=None, batch_offsets_stats=None,
    batch_offsets_units="elements", out=None, lse=None, is_cuda_graph_compatible=False, backend=None, o_data_type=None,
    lse_base="log2",
):
    assert batch_offsets_units == "tokens" and not return_lse and workspace_buffer.numel() == 128 * 2**20
    for lengths, offsets, longest in (
        (actual_seq_lens_q, batch_offsets_q, max_token_per_sequence), (actual_seq_lens_kv, batch_offsets_k, max_sequence_kv)
    ):
        assert lengths.dtype == torch.int32 and lengths.shape == (len(offsets) - 1, 1, 1, 1)
        assert lengths.flatten().tolist() == offsets.diff().tolist() and lengths.max() == longest
    calls.append(workspace_buffer.data_ptr())
    return packed(q, k_cache, v_cache, batch_offsets_q, batch_offsets_k, causal, scale), None
"""
OF_TRTLLM = """
import torch
from flashinfer import calls, packed

def trtllm_ragged_attention_deepseek(
    query, key, value, workspace_buffer, seq_lens, max_q_len, max_kv_len, bmm1_scale, bmm2_scale, o_sf_scale, batch_size,
    window_left, cum_seq_lens_q, cum_seq_lens_kv, enable_pdl, is_causal, return_lse, attention_sinks=None,
    skip_softmax_threshold_scale_factor=None, out=None, lse=None, sage_attn_sfs=(None, None, None, None),
    num_elts_per_sage_attn_blk=(0, 0, 0, 0), backend="trtllm-gen", q_seq_lens_cpu=None, kv_seq_lens_cpu=None,
    use_fp16_softmax=None, uses_spcompress=None, skip_all_rows_active_check=True,
):
    assert (bmm2_scale, o_sf_scale, window_left, enable_pdl, return_lse) == (1.0, 1.0, -1, None, False)
    assert not workspace_buffer.any() and batch_size == len(seq_lens)
    assert seq_lens.tolist() == cum_seq_lens_kv.diff().tolist() and seq_lens.max() == max_kv_len
    assert cum_seq_lens_q.diff().max() == max_q_len
    calls.append(workspace_buffer.data_ptr())
    return packed(query, key, value, cum_seq_lens_q, cum_seq_lens_kv, is_causal, bmm1_scale)
"""
OF_FLASHINFER = {
    "flashinfer/__init__.py": FLASHINFER,
    "flashinfer/cudnn/__init__.py": OF_CUDNN,
    "flashinfer/prefill.py": OF_TRTLLM,
}
FILES = {
    "sage3_fp4": {"sageattn3/__init__.py": SAGE_3},
    "sparge_attn_all": {"spas_sage_attn/__init__.py": SPARGE},
    "aiter": {
        "aiter/__init__.py": AITER,
        "amd_aiter-0.1.7.dist-info/METADATA": "Metadata-Version: 2.1\nName: amd-aiter\nVersion: 0.1.7\n",
    },
    "flashinfer_cudnn": OF_FLASHINFER,
    "flashinfer_trtllm": OF_FLASHINFER,
}
ASKED = {
    "sage3_fp4": ["2x48x2x64:bf16:causal", "1x24/48x2x64:fp16", "1x48x2x64:bf16:bhsd"],
    "sparge_attn_all": ["2x48x2x64:bf16", "1x48x2x64:fp16:bhsd"],
    "aiter": ["2x24/48x4/2x64:bf16:causal", "1x24/48x2x64:fp16"],
    "flashinfer_cudnn": ["2x24/48x4/2x128:bf16:causal", "3x24x2x128:fp16", "2x24/48x2x128:bf16"],
    "flashinfer_trtllm": ["2x48x4/2x128:bf16:causal", "3x24x2x128:fp16", "2x24/48x2x128:bf16"],
}


def said(backend: str, facts: Facts, workload: Workload = WORKLOAD) -> list[str]:
    return [reason.text for reason in unmet(all_backends()[backend].requirements, facts, workload)]


def test_each_is_marked_as_never_run():
    assert {sage3, sparge, amd_aiter} <= {*FAMILIES}
    assert [name for name in FILES if not all_backends()[name].never_run] == ["flashinfer_cudnn"]


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in ASKED.items() for text in texts])
def test_what_a_workload_asks_for_reaches_the_library(name, text, stand_in):
    stand_in(FILES[name])
    assert {*spelt(text).features} <= {*all_backends()[name].takes}
    assert_is_attention(name, spelt(text))


def test_sage_3_does_not_write_into_the_callers_k(stand_in):
    stand_in(FILES["sage3_fp4"])
    tensors = qkv()
    before = [x.clone() for x in tensors]
    in_common_layout(all_backends()["sage3_fp4"].load(WORKLOAD), "bhsd")(*tensors)
    assert all(map(torch.equal, tensors, before))
    [(q, k, is_causal, per_block_mean)] = sys.modules["sageattn3"].calls
    assert (q.data_ptr(), tuple(q.shape), is_causal, per_block_mean) == (
        tensors[0].data_ptr(),
        (1, 2, 64, 64),
        False,
        True,
    )
    assert k.data_ptr() != tensors[1].data_ptr()


def test_sparge_keeps_every_block(stand_in):
    stand_in(FILES["sparge_attn_all"])
    in_common_layout(all_backends()["sparge_attn_all"].load(WORKLOAD), "bhsd")(*qkv())
    [(q, topk, is_causal)] = sys.modules["spas_sage_attn"].calls
    assert (tuple(q.shape), topk, is_causal) == ((1, 2, 64, 64), 1.0, False)


@pytest.mark.parametrize("name", ["flashinfer_cudnn", "flashinfer_trtllm"])
def test_scratch_memory_of_flashinfer_is_made_once_and_before_the_call(name, stand_in):
    stand_in(FILES[name])
    workload = spelt("2x24x2x128:bf16")
    attention, given = all_backends()[name].load(workload), tensors_of(workload)
    attention(*given)
    attention(*given)
    assert len({*sys.modules["flashinfer"].calls}) == 1


def test_what_is_lacking_is_said_at_once():
    wide = Workload("w", 1, 64, 2, 256, "fp32")
    hopper = "(NVIDIA H200)"
    assert said("sage3_fp4", H200, wide) == [
        "package 'sageattn3' is not installed (build sageattention3_blackwell from github.com/thu-ml/SageAttention)",
        f"needs sm_120 or newer, found sm_90 {hopper}",
        "needs dtype bf16 or fp16, found fp32",
        "needs head_dim 64 or 128, found 256",
    ]
    assert said("sparge_attn_all", H200) == [
        "package 'spas_sage_attn' is not installed (build it from github.com/thu-ml/SpargeAttn)"
    ]
    assert said("flashinfer_trtllm", H200) == [
        "package 'flashinfer' is not installed (pip install flashinfer-python)",
        f"needs sm_100 or newer, found sm_90 {hopper}",
        "needs head_dim 128 or 256, found 64",
    ]
    assert said("flashinfer_cudnn", CPU, Workload("w", 1, 64, 2, 128)) == [
        "package 'flashinfer' is not installed (pip install flashinfer-python)",
        "package 'nvidia-cudnn-frontend' is not installed (pip install nvidia-cudnn-frontend)",
        "needs device cuda, found cpu",
    ]
    assert said("aiter", H200) == [
        "package 'amd-aiter' is not installed (pip install amd-aiter)",
        f"needs torch for ROCm, found torch {torch.__version__}",
    ]


def test_another_project_of_the_name_aiter_does_not_pass_for_amds(stand_in, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "7.0")
    mi300 = Facts("cuda", "AMD Instinct MI300X", (9, 4), (2, 13))
    stand_in({"aiter/__init__.py": "def map(): ...\n"})
    assert said("aiter", mi300) == ["package 'amd-aiter' is not installed (pip install amd-aiter)"]
    stand_in(FILES["aiter"])
    assert said("aiter", mi300) == []


def test_a_mask_that_is_aligned_at_the_first_query_is_for_equal_lengths_alone(stand_in):
    stand_in(FILES["sage3_fp4"] | FILES["flashinfer_trtllm"])
    needs = ["needs equal lengths under a causal mask, found 24 queries and 48 keys"]
    assert said("sage3_fp4", RTX_5090, spelt("1x24/48x2x64:bf16:causal")) == needs
    assert said("flashinfer_trtllm", B200, spelt("1x24/48x2x128:bf16:causal")) == needs
    assert said("sage3_fp4", RTX_5090, spelt("1x48x2x64:bf16:causal")) == []


def test_each_is_known_by_the_kernels_of_its_source():
    ran = {
        "sage3_fp4": "void flash::compute_attn_ws<flash::Flash_fwd_kernel_traits<128>, false>",
        "sparge_attn_all": "void qk_int_sv_f8_block_sparse_attn_kernel<128u, 64u, 32u, 64u, 128u>",
        "flashinfer_cudnn": "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_64x128x128",
        "flashinfer_trtllm": "fmhaSm100aKernel_QkvBfloat16OBfloat16H128SeparateQkvDenseStaticContext",
    }
    for name, kernel in ran.items():
        assert wrong_route(all_backends()[name], "cuda", (DeviceOp(kernel),)) == ()
        others = (DeviceOp("void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits>"),)
        assert [reason.code for reason in wrong_route(all_backends()[name], "cuda", others)] == [
            "wrong-route",
            "replaced",
        ]
