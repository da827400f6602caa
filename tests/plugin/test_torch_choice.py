"""SDPA as called: that it is called with nothing pinned, and that which kernel it chose is known, stored and compared."""

from __future__ import annotations

import pytest
import torch
from adapters import assert_is_attention, spelt, tensors_of

from attnbench.backends import torch_sdpa
from attnbench.backends.registry import all_backends
from attnbench.checks.route import UNRECOGNISED, chosen, kernel_s, wrong_route
from attnbench.model import DeviceOp

SDPA = all_backends()["torch_sdpa"]

#: The beginnings of the names are those of the stored sessions of H200s.
ON_CUDA = {
    "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4>>": "flash",
    "void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<Flash_bwd_kernel_traits<128>>": "flash",
    "fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel)": "efficient",
    "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128_4x1x1_kernel0_0": "cudnn",
    "void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<>>>": "flash_3",
    "kernel_cutlass_kernel_flash_attncuteflash_fwd_sm90FlashAttentionForwardSm90_object_at": "flash_4",
    "void at::native::(anonymous namespace)::cunn_SoftMaxForwardReg<float, float, float>": "math",
    "triton_red_fused__safe_softmax_exp_prepare_softmax_online_sub_view_2": "math",
    "a_kernel_of_a_later_release": UNRECOGNISED,
}


@pytest.mark.parametrize(("ran", "choice"), ON_CUDA.items(), ids=ON_CUDA.values())
def test_the_choice_is_known_by_the_kernel_that_ran(ran, choice):
    ops = (DeviceOp("Memset (Device)"), DeviceOp(ran))
    assert chosen(SDPA, "cuda", ops) == choice
    assert wrong_route(SDPA, "cuda", ops) == ()  # whatever it chooses is its own


def test_a_call_that_ran_two_of_them_has_both():
    assert (
        chosen(SDPA, "cuda", (DeviceOp("fmha_cutlassF_bf16"), DeviceOp("pytorch_flash::flash_bwd")))
        == "flash + efficient"
    )


def test_a_fused_kernel_with_a_softmax_in_its_name_is_fused():
    assert chosen(SDPA, "cuda", (DeviceOp("pytorch_flash::flash_fwd_kernel<Softmax<2>>"),)) == "flash"


def test_nothing_is_said_where_nothing_is_known():
    assert chosen(SDPA, "cuda", ()) == chosen(SDPA, "sim", (DeviceOp("simulated::torch_sdpa"),)) == ""
    assert chosen(all_backends()["torch_flash"], "cuda", (DeviceOp("pytorch_flash::flash_fwd"),)) == ""


def test_the_kernel_time_is_that_of_the_fused_choice_alone():
    copy, fused = DeviceOp("Memset (Device)", duration_s=1e-6), DeviceOp("cudnn_sdpa_flash_fprop", duration_s=4e-4)
    assert kernel_s(SDPA, "cuda", (copy, fused)) == 4e-4
    products = (
        DeviceOp("sm80_xmma_gemm_f32f32_f32f32", duration_s=2e-3),
        DeviceOp("cunn_SoftMaxForward", duration_s=1e-3),
    )
    assert kernel_s(SDPA, "cuda", products) is None  # the softmax alone is no attention


@pytest.mark.parametrize(
    "text",
    [
        "2x24/40x4/2x32:fp32",
        "1x48x2x32:fp32:causal",
        "1x24x2x32/16:fp32",
        "2x24/40x2x32:fp32:padding=13+40",
        "1x24/40x2x32:fp32:bool",
        "1x24x2x32:fp32:additive",
        "1x48x4/2x32:fp32:packed=17+31:causal",
        "1x48x2x32:fp32:fwdbwd",
    ],
)
def test_what_a_workload_asks_for_is_computed(text):
    workload = spelt(text)
    assert {*workload.features} <= {*SDPA.takes}
    assert_is_attention("torch_sdpa", workload)


def test_it_takes_all_that_the_one_that_takes_most_does():
    assert set(SDPA.takes) == set().union(*(all_backends()[name].takes for name in ("torch_math", "torch_cudnn")))


def test_nothing_is_pinned_and_nothing_is_passed_that_is_not_asked_for(monkeypatch):
    given = []

    def attention(q, k, v, **options):
        enabled = [getattr(torch.backends.cuda, f"{name}_sdp_enabled")() for name in ("flash", "math", "cudnn")]
        given.append((options, enabled))
        return q

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)
    for text in ("1x24x2x32:fp32", "1x24x4/2x32:fp32:causal:dropout=0.1"):
        workload = spelt(text)
        SDPA.load(workload)(*tensors_of(workload))
    all_on = [True] * 3
    assert given == [
        ({"attn_mask": None}, all_on),
        ({"attn_mask": None, "is_causal": True, "enable_gqa": True, "dropout_p": 0.1}, all_on),
    ]


def test_unequal_lengths_under_its_causal_mask_are_refused():
    assert SDPA.refuses(spelt("1x24/48x2x32:fp32:causal"), "cuda") == (
        "needs equal lengths for its causal mask, which it aligns at the first query and key, found 24 queries and 48 keys",
    )


@pytest.mark.parametrize(("takes_it", "needed"), [((), 9 * 2 * 24 * 24), (("can_use_cudnn_attention",), 0)])
def test_it_needs_memory_for_all_scores_only_where_no_fused_kernel_is_left(takes_it, needed, monkeypatch):
    monkeypatch.setattr(torch_sdpa, "refusals", lambda workload, device, q: () if q in takes_it else ("no",))
    assert SDPA.least_bytes(spelt("1x24x2x32:fp32"), "eager") == needed


CPU = ("--attn-device=cpu", "--attn-backend=torch_sdpa", "--attn-rounds=1", "--benchmark-json=run.json")
FUSED, UNFUSED = "--attn-workload=1x24x2x32", "--attn-workload=1x24x2x32/16"


def test_the_choice_is_stored_and_printed(bench):
    result = bench(*CPU, FUSED, "--attn-mode=eager")
    result.stdout.fnmatch_lines(["torch_sdpa@eager: chose flash"])
    assert [record["chose"] for record in bench.records().values()] == ["flash"]


def test_the_cases_with_another_choice_than_most_are_named(bench):
    result = bench(*CPU, FUSED, "--attn-workload=1x48x2x32", UNFUSED, "--attn-mode=eager")
    result.stdout.fnmatch_lines(["torch_sdpa@eager: chose flash; math for 1x24x2x32/16:bf16"])


def test_the_choice_of_compiled_code_is_known_too(bench):
    result = bench(*CPU, FUSED, UNFUSED, "--attn-mode=default")
    result.assert_outcomes(passed=2)
    assert [record["chose"] for record in bench.records().values()] == ["flash", "math"]


@pytest.mark.parametrize(
    "text",
    ["1x48x2x16:bf16", "1x48x2x16:bf16:causal", "1x48x2x16:bf16:causal:packed=20+28", "1x48x2x16:bf16:packed=20+28"],
)
def test_pytorch_is_asked_about_the_call_that_is_made(text, monkeypatch):
    workload = spelt(text)
    asked = []
    monkeypatch.setattr(torch_sdpa, "probe", lambda workload, device: tensors_of(workload))
    mask_of = torch_sdpa._mask
    monkeypatch.setattr(torch_sdpa, "_mask", lambda workload, device: mask_of(workload, "cpu"))
    monkeypatch.setattr(torch.backends.cuda, "SDPAParams", lambda *given: given)
    monkeypatch.setattr(torch.backends.cuda, "can_use_cudnn_attention", lambda given, debug: not asked.append(given))
    assert torch_sdpa.refusals(workload, "cuda", "can_use_cudnn_attention") == ()
    ((_, _, _, mask, _, causal, _),) = asked
    assert causal == torch_sdpa._options(workload).get("is_causal", False)
    assert (mask is None) == (not workload.packed)
