"""PyTorch's varlen_attn against a stand-in of its function: what it is given, and that the answer is the workload's."""

from __future__ import annotations

import inspect

import pytest
import torch
from adapters import A100, CPU, H200, assert_is_attention, spelt, tensors_of

from attnbench.backends.registry import all_backends
from attnbench.backends.requirements import unmet
from attnbench.checks.route import wrong_route
from attnbench.hardware.facts import Facts
from attnbench.model import DeviceOp

VARLEN = all_backends()["torch_varlen"]
GIVEN: list[dict[str, object]] = []


def _attention(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, causal):
    """Of each sequence by itself, as the library's kernel aligns its mask: at the last query and key."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert q.dim() == k.dim() == v.dim() == 3
    assert len(q) == cu_seq_q[-1]
    assert len(k) == len(v) == cu_seq_k[-1]
    lengths = [one.diff().tolist() for one in (cu_seq_q, cu_seq_k)]
    assert [max(one) for one in lengths] == [max_q, max_k]
    parts = []
    for one in zip(q.split(lengths[0]), k.split(lengths[1]), v.split(lengths[1]), strict=True):
        queries, keys, values = (x.transpose(0, 1) for x in one)
        mask = torch.ones(queries.shape[1], keys.shape[1], dtype=torch.bool)
        mask = mask.tril(keys.shape[1] - queries.shape[1]) if causal else mask
        sdpa = torch.nn.functional.scaled_dot_product_attention
        parts.append(sdpa(queries, keys, values, attn_mask=mask, enable_gqa=True).transpose(0, 1))
    return torch.cat(parts)


def of_2_11(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)):
    GIVEN.append({"window_size": window_size})
    return _attention(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, window_size == (-1, 0))


def of_2_13(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1),
    enable_gqa=False, seqused_k=None, block_table=None, num_splits=None,
):  # fmt: skip
    assert enable_gqa == (query.shape[1] != key.shape[1])
    GIVEN.append({"window_size": window_size, "cu_seq_q": cu_seq_q})
    return _attention(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, window_size == (-1, 0))


@pytest.fixture
def varlen():
    """The module, which imports half of torch's compiler: not where every process collects."""
    from torch.nn.attention import varlen

    return varlen


@pytest.fixture(params=[of_2_11, of_2_13], ids=["torch-2.11", "torch-2.13"])
def library(request, monkeypatch, varlen):
    GIVEN.clear()
    monkeypatch.setattr(varlen, "varlen_attn", request.param)


def test_the_stand_in_has_the_signature_of_this_torch(varlen):
    if "enable_gqa" not in inspect.signature(varlen.varlen_attn).parameters:
        pytest.skip("an older torch")
    assert [*inspect.signature(of_2_13).parameters] == [*inspect.signature(varlen.varlen_attn).parameters]


@pytest.mark.parametrize(
    "text",
    [
        "1x64x2x32:bf16",
        "2x24x2x32:bf16",
        "2x24/40x2x32:bf16:causal",
        "1x24x4/2x32:bf16",
        "2x24/40x4/2x32:bf16:padding=13+40",
        "3x24x2x32:bf16:padding=24+7+1",
        "1x24x2x32:bf16:packed=11+7+6",
        "1x24x4/2x32:bf16:packed=11+13:causal",
        "2x24x2x32:bf16:bhsd",
        "2x24x2x32:bf16:padding=9+24:fwdbwd",
        "1x24x2x32:bf16:packed=11+13:bwd",
    ],
)
def test_what_a_workload_asks_for_is_computed(text, library):
    workload = spelt(text)
    assert {*workload.features} <= {*VARLEN.takes}
    assert_is_attention("torch_varlen", workload)
    assert len(GIVEN) == 1


def test_a_causal_mask_is_a_window_and_without_one_the_default_stays(library):
    for text in ("1x24x2x32:bf16", "1x24x2x32:bf16:causal"):
        VARLEN.load(spelt(text))(*tensors_of(spelt(text)))
    assert [given["window_size"] for given in GIVEN] == [(-1, -1), (-1, 0)]


def test_packed_lengths_are_made_before_the_call(monkeypatch, varlen):
    monkeypatch.setattr(varlen, "varlen_attn", of_2_13)
    GIVEN.clear()
    workload = spelt("1x64x2x32:bf16")
    attention = VARLEN.load(workload)
    for _ in range(2):
        attention(*tensors_of(workload))
    assert GIVEN[0]["cu_seq_q"].tolist() == [0, 64]
    assert GIVEN[0]["cu_seq_q"] is GIVEN[1]["cu_seq_q"]


@pytest.mark.parametrize(
    "text", ["1x64x2x32:bf16", "1x24x4/2x32:bf16:packed=11+13:causal", "2x24x2x32:bf16:padding=9+24"]
)
def test_this_torchs_function_is_traced_whole_and_given_what_its_fake_takes(text):
    """Its kernel is CUDA's alone, so the tensors are fake; an argument that this release does not know would raise."""
    workload = spelt(text)
    call = VARLEN.load(workload)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        output = call(
            *(
                torch.empty(shape, dtype=torch.bfloat16)
                for shape in (workload.q_shape, workload.k_shape, workload.v_shape)
            )
        )
    assert output.shape == workload.shape


def said(text, facts=H200):
    return [reason.text for reason in unmet(VARLEN.requirements, facts, spelt(text))]


def test_what_it_lacks_is_said():
    assert said("1x64x2x64:bf16") == said("1x64x2x64:fp16", A100) == []
    *lacking, features = said("1x64x2x260:fp32:additive", CPU)
    assert lacking == [
        "needs device cuda, found cpu",
        "needs dtype bf16 or fp16, found fp32",
        "needs head_dim a multiple of 8, at most 256, found 260",
    ]
    assert features.startswith("needs an additive mask, found a backend for plain forward attention, cross lengths")
    assert said("1x64x2x64:bf16", Facts("cuda", "NVIDIA H200", (9, 0), (2, 10))) == [
        "needs torch 2.11 or newer, found 2.10"
    ]


def test_it_is_known_by_pytorchs_kernels_and_by_no_other():
    for own in ("flash_fwd_kernel<Flash_fwd_kernel_traits<128>>", "flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<"):
        assert wrong_route(VARLEN, "cuda", (DeviceOp(f"void pytorch_flash::{own}"),)) == ()
    others = (
        "void flash::flash_fwd_kernel<>",
        "fmha_cutlassF_bf16",
        "cudnn_generated_sdpa",
        "FlashAttentionForwardSm90",
    )
    for other in others:
        codes = [reason.code for reason in wrong_route(VARLEN, "cuda", (DeviceOp(other),))]
        assert codes == ["wrong-route", "replaced"]
