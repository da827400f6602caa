"""SageAttention against stand-ins: packages with the real releases' exports, names and signatures, and SDPA inside."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from pathlib import Path

import pytest
import torch
from adapters import A100, CPU, H200, assert_is_attention, expected, qkv, spelt

from attnbench.backends import sage
from attnbench.backends.families import FAMILIES
from attnbench.backends.registry import all_backends
from attnbench.backends.requirements import unmet
from attnbench.checks.route import kernel_s, wrong_route
from attnbench.hardware.facts import Facts
from attnbench.model import DeviceOp
from attnbench.workload import Workload

RTX_4090 = Facts("cuda", "NVIDIA GeForce RTX 4090", (8, 9), (2, 13))
RTX_5090 = Facts("cuda", "NVIDIA GeForce RTX 5090", (12, 0), (2, 13))
WORKLOAD = Workload("w", 1, 64, 2, 64, "bf16")

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sageattention") is not None, reason="stand-ins would be mixed with the real package"
)

SDPA = """
import torch
from torch.nn.functional import scaled_dot_product_attention

calls = []  # name, options and K as they came

def _sdpa(name, q, k, v, tensor_layout, is_causal, options):
    assert tensor_layout == "NHD"
    calls.append((name, options, k))
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    out = scaled_dot_product_attention(q, k, v, is_causal=is_causal, enable_gqa=q.shape[1] != k.shape[1])
    return out.transpose(1, 2).contiguous()
"""

CORE_1 = f"""{SDPA}
def sageattn(q, k, v, tensor_layout="HND", is_causal=False, sm_scale=None, smooth_k=True, **kwargs):
    if smooth_k:
        k -= k.mean(dim=1, keepdim=True)  # in the caller's tensor, as 1.0.6 does
    return _sdpa("sageattn", q, k, v, tensor_layout, is_causal, {{"smooth_k": smooth_k, **kwargs}})

def sageattn_varlen(*args):
    ...
"""

#: The CUDA functions' signature up to `pv_accum_dtype`'s default, and what is behind it.
CUDA = """
@torch.compiler.disable
def NAME(
    q, k, v, tensor_layout="HND", is_causal=False, qk_quant_gran="per_thread", sm_scale=None, pv_accum_dtype="DTYPE",
    smooth_k=True, smooth_v=False, return_lse=False, **kwargs,
):
    options = {"smooth_k": smooth_k, "qk_quant_gran": qk_quant_gran, "pv_accum_dtype": pv_accum_dtype}
    return _sdpa("NAME", q, k, v, tensor_layout, is_causal, {**options, **kwargs})
"""
CUDA_FUNCTIONS = {
    "sageattn_qk_int8_pv_fp16_cuda": "fp32",
    "sageattn_qk_int8_pv_fp8_cuda": "fp32+fp16",
    "sageattn_qk_int8_pv_fp8_cuda_sm90": "fp32+fp32",
}
CORE_2 = f"""{SDPA}
def sageattn(q, k, v, tensor_layout="HND", is_causal=False, sm_scale=None, return_lse=False, **kwargs):
    arch = "sm90"
    if arch == "sm80":
        ...
    elif arch == "sm90":
        return _sdpa("sageattn", q, k, v, tensor_layout, is_causal, kwargs)
    elif arch == "sm120":
        ...

@torch.compiler.disable
def sageattn_qk_int8_pv_fp16_triton(
    q, k, v, tensor_layout="HND", quantization_backend="triton", is_causal=False, sm_scale=None, smooth_k=True,
    return_lse=False, **kwargs,
):
    return _sdpa("sageattn_qk_int8_pv_fp16_triton", q, k, v, tensor_layout, is_causal, {{"smooth_k": smooth_k, **kwargs}})
""" + "".join(CUDA.replace("NAME", name).replace("DTYPE", dtype) for name, dtype in CUDA_FUNCTIONS.items())

SM90 = "sageattn_qk_int8_pv_fp8_cuda_sm90"
EXPORTS_2_0 = """from .core import sageattn, sageattn_varlen
from .core import sageattn_qk_int8_pv_fp16_triton, sageattn_qk_int8_pv_fp16_cuda,  sageattn_qk_int8_pv_fp8_cuda
"""
RELEASES = {
    "1.0.6": ("from .core import sageattn, sageattn_varlen\n", CORE_1),
    "2.0.0": (EXPORTS_2_0.replace(", sageattn_varlen", ""), CORE_2),
    "2.1.1": (EXPORTS_2_0.replace(", sageattn_varlen", "") + f"from .core import {SM90}\n", CORE_2),
    "2.2.0": (EXPORTS_2_0.replace(", sageattn_varlen", "") + f"from .core import {SM90}\n", CORE_2),
}
SOURCE = "(build 2.x from github.com/thu-ml/SageAttention)"
NO_CUDA = "needs device cuda, found cpu"


def lacks(name: str, version: str) -> str:
    return f"needs the function {name}, found sageattention {version} without it {SOURCE}"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """`install("2.2.0")` puts its stand-in on the path of this process, and nothing of it is kept."""

    def forget() -> None:
        for name in [name for name in sys.modules if name.split(".")[0] == "sageattention"]:
            del sys.modules[name]

    def put(version: str, metadata: bool = True, core: str | None = None) -> None:
        write(tmp_path, version, metadata, core)
        monkeypatch.syspath_prepend(tmp_path)
        forget()

    yield put
    forget()


def write(folder: Path, version: str, metadata: bool, core: str | None = None) -> None:
    exports, body = RELEASES[version]
    files = {"sageattention/__init__.py": exports, "sageattention/core.py": body if core is None else core}
    if metadata:
        text = f"Metadata-Version: 2.1\nName: sageattention\nVersion: {version}\n"
        files[f"sageattention-{version}.dist-info/METADATA"] = text
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def said(backend: str, facts: Facts = H200, workload: Workload = WORKLOAD) -> list[str]:
    return [reason.text for reason in unmet(all_backends()[backend].requires, facts, workload)]


#: Of the package sageattention: version 3 is one of its own.
ALL = [
    name
    for name, one in all_backends().items()
    if one.family == "SageAttention" and one.load.__module__ == sage.__name__
]
IN_1 = ["sage_auto", "sage_int8_fp16_triton", "sage_int8_fp16_triton[no_smooth_k]"]
UNSMOOTHED = "[no_smooth_k]"


def test_the_family_has_each_function_and_each_value_of_its_options_once():
    assert sage in FAMILIES
    options = {
        "sage_int8_fp16_triton": ("no_smooth_k",),
        "sage_int8_fp16_cuda": ("per_warp", "per_thread", "fp32", "fp16+fp32", "fp16", "no_smooth_k"),
        "sage_int8_fp8_cuda": ("per_warp", "per_thread", "fp32", "fp32+fp32", "fp32+fp16", "no_smooth_k"),
        "sage_int8_fp8_sm90": ("per_warp", "per_thread", "no_smooth_k"),
    }
    brackets = (f"{name}[{one}]" for name in options for one in options[name])
    assert sorted(ALL) == sorted(["sage_auto", *options, *brackets])
    assert {(all_backends()[name].modes, all_backends()[name].layout) for name in ALL} == {(("eager",), "bshd")}


@pytest.mark.parametrize("backend", ALL)
def test_a_class_of_tolerance_is_that_of_the_operands_and_of_what_was_done_to_k(backend):
    operands = "int8-qk-fp16-pv" if "_fp16_" in backend else "int8-qk-fp8-pv"
    smoothing = "-unsmoothed" if backend.endswith(UNSMOOTHED) else ""
    assert all_backends()[backend].tolerance == operands + smoothing


@pytest.mark.parametrize("backend", ALL)
def test_what_is_not_installed_is_said_with_the_way_to_get_it(backend):
    how = "(pip install sageattention)" if backend in IN_1 else SOURCE
    assert said(backend) == [f"package 'sageattention' is not installed {how}"]
    assert said(backend, CPU) == [f"package 'sageattention' is not installed {how}", NO_CUDA]


def test_of_1_the_triton_kernel_is_there_by_both_names_and_no_other(install):
    install("1.0.6")
    functions = {function.backend: function.name for function in sage.FUNCTIONS}
    for backend in ALL:
        lacking = [] if backend in IN_1 else [lacks(functions[backend.partition("[")[0]], "1.0.6")]
        too_old = [f"needs sageattention 2.2 or newer, found 1.0.6 {SOURCE}"] if "fp32+fp16" in backend else []
        assert said(backend) == [*too_old, *lacking]
    assert "sageattention" not in sys.modules  # nothing was imported to find out


@pytest.mark.parametrize(
    ("version", "backend", "reasons"),
    [
        ("2.0.0", "sage_int8_fp8_sm90[per_warp]", [lacks(SM90, "2.0.0")]),
        ("2.0.0", "sage_int8_fp8_cuda[per_warp]", []),
        ("2.1.1", "sage_int8_fp8_sm90", []),
        ("2.1.1", "sage_int8_fp8_cuda[fp32+fp16]", [f"needs sageattention 2.2 or newer, found 2.1.1 {SOURCE}"]),
        ("2.2.0", "sage_int8_fp8_cuda[fp32+fp16]", []),
    ],
)
def test_a_release_that_lacks_a_function_or_a_value_is_named(install, version, backend, reasons):
    install(version)
    assert said(backend) == reasons


def test_a_copy_without_metadata_is_judged_by_what_it_exports(install):
    install("1.0.6", metadata=False)
    assert said("sage_int8_fp8_sm90") == [lacks(SM90, "of unknown version")]
    assert said("sage_auto") == []


@pytest.mark.parametrize(
    ("backend", "facts", "needs"),
    [
        ("sage_int8_fp16_cuda", A100, []),
        ("sage_int8_fp16_triton", RTX_5090, ["needs sm_80 to below sm_120, found sm_120 (NVIDIA GeForce RTX 5090)"]),
        ("sage_int8_fp8_cuda[fp32]", A100, ["needs sm_89 or newer, found sm_80 (NVIDIA A100)"]),
        ("sage_int8_fp8_cuda", RTX_4090, []),
        ("sage_int8_fp8_cuda", H200, []),
        ("sage_int8_fp8_sm90", RTX_4090, ["needs sm_90 to below sm_100, found sm_89 (NVIDIA GeForce RTX 4090)"]),
        ("sage_int8_fp8_sm90", RTX_5090, ["needs sm_90 to below sm_100, found sm_120 (NVIDIA GeForce RTX 5090)"]),
    ],
)
def test_the_architecture_that_a_kernel_was_built_for_is_said(install, backend, facts, needs):
    install("2.2.0")
    assert said(backend, facts) == needs


def test_all_reasons_come_at_once(install):
    install("1.0.6")
    assert said("sage_int8_fp8_sm90[per_thread]", A100, Workload("w", 1, 64, 2, 256, "fp32")) == [
        lacks(SM90, "1.0.6"),
        "needs sm_90 to below sm_100, found sm_80 (NVIDIA A100)",
        "needs dtype bf16 or fp16, found fp32",
        "needs head_dim at most 128, found 256",
    ]


def refused(backend: str, head_dim: int = 64, device: str = "cuda") -> tuple[str, ...]:
    return all_backends()[backend].refuses(Workload("w", 1, 64, 2, head_dim), device)


@pytest.mark.parametrize("backend", IN_1)
def test_head_dims_that_only_2_pads_are_refused_by_1(install, monkeypatch, backend):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    install("1.0.6")
    assert refused(backend, 80) == ("needs head_dim 64, 96 or 128 in sageattention 1.0.6, found 80",)
    assert refused(backend, 96) == refused(backend, 80, "cpu") == ()
    install("2.2.0")
    assert refused(backend, 80) == ()


def test_what_the_library_does_not_dispatch_on_is_refused_by_sage_auto_alone(install, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (10, 0))
    install("2.2.0")
    needed = "needs one of sm_80, sm_90, sm_120, for which sageattention 2.2.0 has a kernel, found sm_100"
    assert refused("sage_auto") == (needed,)
    assert refused("sage_int8_fp8_cuda") == refused("sage_auto", device="cpu") == ()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (12, 0))
    assert refused("sage_auto") == ()
    install("2.2.0", core="import nothing_that_is_known\n")
    assert refused("sage_auto") == ()  # a release that dispatches in another way: its own words, when it is called


@pytest.mark.parametrize("backend", ALL)
def test_each_calls_its_function_with_its_own_option_alone(install, backend):
    install("2.2.0")
    tensors = qkv()
    torch.testing.assert_close(all_backends()[backend].load(WORKLOAD)(*tensors), expected(*tensors))
    [(name, options, k)] = sys.modules["sageattention.core"].calls
    assert k is tensors[1]  # 2.x smooths a K of its own
    base, _, value = backend.rstrip("]").partition("[")
    if base == "sage_auto":
        assert (name, options) == ("sageattn", {})
        return
    function = next(function.name for function in sage.FUNCTIONS if function.backend == base)
    wanted = {"smooth_k": value != "no_smooth_k"}
    if function in CUDA_FUNCTIONS:
        wanted |= {"qk_quant_gran": "per_thread", "pv_accum_dtype": CUDA_FUNCTIONS[function]}
    if value and wanted["smooth_k"]:
        wanted["qk_quant_gran" if value.startswith("per_") else "pv_accum_dtype"] = value
    assert (name, options) == (function, wanted)


@pytest.mark.parametrize("backend", IN_1)
def test_1_does_not_write_into_the_callers_k_and_gets_a_copy_only_to_smooth_it(install, backend):
    install("1.0.6")
    tensors = qkv()
    output = all_backends()[backend].load(WORKLOAD)(*tensors)
    assert all(torch.equal(a, b) for a, b in zip(tensors, qkv(), strict=True))
    torch.testing.assert_close(output, expected(*qkv()), rtol=0.05, atol=0.02)  # softmax does not see the shift
    [(name, options, k)] = sys.modules["sageattention.core"].calls
    assert (name, options) == ("sageattn", {"smooth_k": not backend.endswith(UNSMOOTHED)})
    assert (k is tensors[1]) == backend.endswith(UNSMOOTHED)


@pytest.mark.parametrize("text", ["2x48x2x64:bf16:causal", "1x24/48x2x64:bf16", "1x48x4/2x64:bf16:causal"])
@pytest.mark.parametrize("release", ["1.0.6", "2.2.0"])
@pytest.mark.parametrize("backend", ["sage_auto", "sage_int8_fp16_triton[no_smooth_k]"])
def test_what_a_workload_asks_for_reaches_the_library(install, release, backend, text):
    install(release)
    assert {*spelt(text).features} <= {*all_backends()[backend].takes}
    assert_is_attention(backend, spelt(text))


@pytest.mark.parametrize("backend", ALL)
def test_a_causal_mask_over_unequal_lengths_is_refused(install, backend):
    install("2.2.0")
    needs = "needs equal lengths under a causal mask, found 24 queries and 48 keys"
    assert said(backend, workload=spelt("1x24/48x2x64:bf16:causal")) == [needs]
    assert said(backend, workload=spelt("1x24/48x2x64:bf16")) == said(backend, workload=spelt("1x48x2x64:causal")) == []


def test_an_option_that_would_be_swallowed_is_an_error(install):
    swallows = CORE_2.replace('qk_quant_gran="per_thread", ', "").replace('"qk_quant_gran": qk_quant_gran, ', "")
    install("2.2.0", core=swallows)
    with pytest.raises(TypeError, match=r"^sageattn_qk_int8_pv_fp8_cuda has no option qk_quant_gran, which it would"):
        all_backends()["sage_int8_fp8_cuda[per_warp]"].load(WORKLOAD)
    all_backends()["sage_int8_fp8_cuda[fp32]"].load(WORKLOAD)
    install("1.0.6", core=CORE_1.replace("smooth_k=True", "smooth_key=True").replace("if smooth_k", "if smooth_key"))
    with pytest.raises(TypeError, match=r"^sageattn has no option smooth_k, which it would"):
        all_backends()["sage_int8_fp16_triton[no_smooth_k]"].load(WORKLOAD)
    all_backends()["sage_int8_fp16_triton"].load(WORKLOAD)


def test_a_package_that_fails_to_import_raises_its_own_words(install):
    install("2.2.0", core="raise ImportError('_fused.so: undefined symbol')\n")
    for backend in ALL:
        with pytest.raises(ImportError, match="undefined symbol"):
            all_backends()[backend].load(WORKLOAD)


RAN = {
    "sage_int8_fp16_triton": "_attn_fwd",
    "sage_int8_fp16_cuda": "void qk_int_sv_f16_attn_kernel<128u, 64u, 32u, 64u, 128u, (DataType)0>",
    "sage_int8_fp8_cuda": "void qk_int_sv_f8_attn_kernel<128u, 64u, 32u, 64u, 128u, (DataType)0>",
    "sage_int8_fp8_sm90": "void qk_int8_sv_f8_attn_kernel<64u, 128u, 128u, 128u>",
    "torch_flash": "void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<128, 128, 64, 4>>",
}


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("ran", RAN)
def test_each_is_known_by_its_own_kernel_and_by_no_other(backend, ran):
    """The beginnings of the names are those seen on an H200, the arguments behind them are made up."""
    steps = (DeviceOp("quant_per_block_int8_kernel", duration_s=1e-4), DeviceOp(RAN[ran], duration_s=3e-4))
    registered = all_backends()[backend]
    codes = [reason.code for reason in wrong_route(registered, "cuda", steps)]
    own = ran == backend.partition("[")[0] or (backend == "sage_auto" and ran != "torch_flash")
    assert codes == ([] if own else ["wrong-route", "replaced"])
    assert kernel_s(registered, "cuda", steps) == (3e-4 if own else None)


BRACKETS = "sage_int8_fp8_sm90[per_thread]"


def test_a_name_in_brackets_is_isolated_judged_and_printed_as_a_command_that_runs(sim, baseline):
    baseline(f"--attn-backend={BRACKETS}")
    chosen = ("--benchmark-only", "--benchmark-json=run.json", f"--attn-backend={BRACKETS}", "--attn-relaunch=0")
    result = sim(*chosen, "--attn-isolate", f"--attn-sim={BRACKETS}@eager:+3%")
    result.assert_outcomes(failed=1)
    stored = sim.stored()["attnbench"]
    [record], [verdict] = stored["records"], stored["verdicts"]
    assert (record["backend"], verdict["kind"]) == (BRACKETS, "regressed")
    command = verdict["reproduce"]
    assert f"'--attn-backend={BRACKETS}'" in command
    again = sim(*shlex.split(command)[1:], record["nodeid"])  # the case by its node id, too
    again.assert_outcomes(failed=1)
    assert f"REGRESSED {BRACKETS}@eager" in again.stdout.str()
