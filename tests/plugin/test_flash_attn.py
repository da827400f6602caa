"""The flash-attn family against stand-ins: packages with the real ones' files, names and signatures, and SDPA inside."""

from __future__ import annotations

import importlib.util
import sys
from itertools import product
from pathlib import Path

import pytest
import torch

from attnbench.backends import FAMILIES, flash_attn
from attnbench.model import DeviceOp, Workload
from attnbench.registry import all_backends
from attnbench.requirements import Facts, installed_version, unmet
from attnbench.route import kernel_s, wrong_route

H200 = Facts("cuda", "NVIDIA H200", (9, 0), (2, 13))
A100 = Facts("cuda", "NVIDIA A100", (8, 0), (2, 13))
B200 = Facts("cuda", "NVIDIA B200", (10, 0), (2, 13))
CPU = Facts("cpu", "A CPU", None, (2, 13))
WORKLOAD = Workload("w", 1, 64, 2, 64, "bf16")

REAL = any(map(installed_version, ("flash-attn", "flash-attn-4"))) or importlib.util.find_spec("flash_attn_interface")
pytestmark = pytest.mark.skipif(bool(REAL), reason="stand-ins would be mixed with a real package of the family")

SDPA = """
import torch
from torch.nn.functional import scaled_dot_product_attention

def sdpa(q, k, v, scale):
    if q.dtype == torch.float8_e4m3fn:  # e4m3 gives bf16
        q, k, v = (x.to(torch.bfloat16) for x in (q, k, v))
    out = scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), scale=scale)
    return out.transpose(1, 2).contiguous()
"""

FLASH_2 = """
import flash_attn_2_cuda as flash_attn_gpu

def flash_attn_func(
    q,
    k,
    v,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),  # -1 means infinite context window
    softcap=0.0, # 0.0 means deactivated
    alibi_slopes=None,
    deterministic=False,
    return_attn_probs=False,
):
    assert deterministic is False
    return flash_attn_gpu.sdpa(q, k, v, softmax_scale)
"""

#: The signature of a release that returns a tuple, and what the later one added to it.
FLASH_3 = """
import torch
import flash_attn_3_c

def flash_attn_func(
    q,
    k,
    v,
    softmax_scale=None,
    causal=False,
    qv=None,
    q_descale=None, k_descale=None, v_descale=None,
    window_size=(-1, -1),
    attention_chunk=0,
    softcap=0.0,
    num_splits=1,
    pack_gqa=None,
    deterministic=False,
    sm_margin=0,ADDED
):
    global returned
    torch._dynamo.graph_break()  # as a release does whose operator has no fake implementation
    out = flash_attn_3_c.sdpa(q, k, v, softmax_scale)
    returned = out.data_ptr()
    return RETURNED
"""
FLASH_3_TUPLE = FLASH_3.replace("ADDED", "").replace("RETURNED", "out, torch.empty(0)")
FLASH_3_PLAIN = FLASH_3.replace("ADDED", "\n    return_attn_probs=False,").replace("RETURNED", "out")

FLASH_4 = """
from typing import Callable, Optional, Tuple

import torch

SDPA

def flash_attn_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    qv: Optional[torch.Tensor] = None,
    gather_kv_indices: Optional[torch.Tensor] = None,
    softmax_scale: Optional[float] = None,
    causal: bool = False,
    window_size: Tuple[Optional[int], Optional[int]] = (None, None),
    learnable_sink: Optional[torch.Tensor] = None,
    softcap: float = 0.0,
    num_splits: int = 1,
    pack_gqa: Optional[bool] = None,
    deterministic: bool = False,
    score_mod: Optional[Callable] = None,
    score_mod_bwd: Optional[Callable] = None,
    mask_mod: Optional[Callable] = None,
    aux_tensors: Optional[list] = None,
    aux_scalars: Optional[tuple] = None,
    block_sparse_tensors=None,
    block_sparse_tensors_bwd=None,
    return_lse: bool = False,
    gather_bwd_recompute_p: bool = False,
    gather_bwd_token_chunk: Optional[int] = None,
):
    return sdpa(q, k, v, softmax_scale), None
""".replace("SDPA", SDPA)

#: What each distribution leaves in site-packages. flash-attn brings a `cute` of its own, which flash-attn-4 writes over.
FILES = {
    "flash-attn": {
        "flash_attn-2.8.3.dist-info/METADATA": "Metadata-Version: 2.4\nName: flash_attn\nVersion: 2.8.3\n",
        "flash_attn/__init__.py": "from flash_attn.flash_attn_interface import flash_attn_func\n",
        "flash_attn/flash_attn_interface.py": FLASH_2,
        "flash_attn/cute/__init__.py": "import cutlass_of_another_release\n",
        "flash_attn_2_cuda.py": SDPA,
    },
    "flash-attn-3": {"flash_attn_interface.py": FLASH_3_PLAIN, "flash_attn_3_c.py": SDPA},
    "flash-attn-4": {
        "flash_attn_4-4.0.0b36.dist-info/METADATA": "Metadata-Version: 2.4\nName: flash-attn-4\nVersion: 4.0.0b36\n",
        "flash_attn/cute/__init__.py": "from .interface import flash_attn_func\n",
        "flash_attn/cute/interface.py": FLASH_4,
    },
    "nvidia-cutlass-dsl": {
        "nvidia_cutlass_dsl-4.6.2.dist-info/METADATA": "Metadata-Version: 2.4\nName: nvidia-cutlass-dsl\nVersion: 4.6.2\n"
    },
}
MISSING = {
    "flash-attn": "package 'flash-attn' is not installed (pip install flash-attn)",
    "flash-attn-3": (
        "package 'flash_attn_interface' is not installed (build it from the folder hopper of "
        "github.com/Dao-AILab/flash-attention)"
    ),
    "flash-attn-4": "package 'flash-attn-4' is not installed (pip install flash-attn-4)",
    "nvidia-cutlass-dsl": "package 'nvidia-cutlass-dsl' is not installed (pip install nvidia-cutlass-dsl)",
}
NEEDS = {
    "flash_attn_2": ["flash-attn"],
    "flash_attn_3": ["flash-attn-3"],
    "flash_attn_3_fp8": ["flash-attn-3"],
    "flash_attn_4": ["flash-attn-4", "nvidia-cutlass-dsl"],
}
PLAIN = [name for name in NEEDS if name != "flash_attn_3_fp8"]
EVERY = [[name for name, there in zip(FILES, chosen, strict=True) if there] for chosen in product((0, 1), repeat=4)]


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """`install(*distributions)` puts their stand-ins on the path of this process, and nothing of them is kept."""

    def forget() -> None:
        for name in [name for name in sys.modules if name.startswith("flash_attn")]:
            del sys.modules[name]
        flash_attn._flash_attn_3_op.cache_clear()

    def put(*distributions: str, **changed: str) -> None:
        for distribution in distributions:
            write(tmp_path, FILES[distribution])
        write(tmp_path, {f"{module}.py": content for module, content in changed.items()})
        monkeypatch.syspath_prepend(tmp_path)
        forget()

    yield put
    forget()


def said(backend: str, facts: Facts, workload: Workload = WORKLOAD) -> list[str]:
    return [reason.text for reason in unmet(all_backends()[backend].requires, facts, workload)]


@pytest.mark.parametrize("backend", NEEDS)
@pytest.mark.parametrize("there", EVERY, ids=lambda there: "+".join(there) or "nothing")
def test_what_is_not_installed_is_said_whatever_else_lies_in_its_folder(there, backend, install):
    install(*there)
    lacking = [MISSING[name] for name in NEEDS[backend] if name not in there]
    assert said(backend, H200) == lacking
    assert said(backend, CPU) == [*lacking, "needs device cuda, found cpu"]
    assert not [name for name in sys.modules if name.startswith("flash_attn")]  # nothing was imported to find out


@pytest.mark.parametrize(("there", "folder"), [("flash-attn-4", "flash_attn"), ("flash-attn", "flash_attn.cute")])
def test_the_stand_ins_share_a_folder_as_the_real_ones_do(there, folder, install):
    install(there)
    assert importlib.util.find_spec(folder) is not None


@pytest.mark.parametrize(
    ("backend", "facts", "workload", "reasons"),
    [
        ("flash_attn_2", A100, WORKLOAD, []),
        ("flash_attn_2", B200, WORKLOAD, []),
        ("flash_attn_3", A100, WORKLOAD, ["needs sm_90 to below sm_100, found sm_80 (NVIDIA A100)"]),
        ("flash_attn_3", B200, WORKLOAD, ["needs sm_90 to below sm_100, found sm_100 (NVIDIA B200)"]),
        ("flash_attn_4", A100, WORKLOAD, ["needs sm_90 or newer, found sm_80 (NVIDIA A100)"]),
        ("flash_attn_4", B200, WORKLOAD, []),
        *((b, H200, Workload("w", 1, 64, 2, 64, "fp32"), ["needs dtype bf16 or fp16, found fp32"]) for b in PLAIN),
        *((b, H200, Workload("w", 1, 64, 2, 256, "fp16"), []) for b in PLAIN),
        ("flash_attn_3_fp8", H200, Workload("w", 1, 64, 2, 256), []),
        ("flash_attn_3_fp8", A100, WORKLOAD, ["needs sm_90 to below sm_100, found sm_80 (NVIDIA A100)"]),
        (
            "flash_attn_3_fp8",
            H200,
            Workload("w", 1, 64, 2, 72, "fp16"),
            ["needs dtype bf16, found fp16", "needs head_dim a multiple of 16, at most 256, found 72"],
        ),
        ("flash_attn_2", H200, Workload("w", 1, 64, 2, 260), ["needs head_dim at most 256, found 260"]),
        ("flash_attn_2", H200, Workload("w", 1, 64, 2, 100), []),  # the library pads it
        (
            "flash_attn_3",
            H200,
            Workload("w", 1, 64, 2, 100),
            ["needs head_dim a multiple of 8, at most 256, found 100"],
        ),
        (
            "flash_attn_4",
            H200,
            Workload("w", 1, 64, 2, 264),
            ["needs head_dim a multiple of 8, at most 256, found 264"],
        ),
    ],
)
def test_what_device_and_workload_lack_is_said(backend, facts, workload, reasons, install):
    install(*FILES)
    assert said(backend, facts, workload) == reasons


def test_all_reasons_of_a_backend_come_at_once():
    assert said("flash_attn_3", A100, Workload("w", 1, 64, 2, 100, "fp32")) == [
        MISSING["flash-attn-3"],
        "needs sm_90 to below sm_100, found sm_80 (NVIDIA A100)",
        "needs dtype bf16 or fp16, found fp32",
        "needs head_dim a multiple of 8, at most 256, found 100",
    ]


def qkv() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(1, 64, 2, 32, dtype=torch.bfloat16) for _ in range(3)]


def expected(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    heads_first = (x.transpose(1, 2) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(*heads_first).transpose(1, 2)


CALLS = [
    ("flash_attn_2", {}),
    ("flash_attn_3", {}),
    ("flash_attn_3", {"flash_attn_interface": FLASH_3_TUPLE}),
    ("flash_attn_4", {}),
]
IDS = ["2", "3-plain", "3-tuple", "4"]


@pytest.mark.parametrize(("backend", "changed"), CALLS, ids=IDS)
def test_the_adapter_returns_the_attention_alone(backend, changed, install):
    install(*FILES, **changed)
    tensors = qkv()
    output = all_backends()[backend].load(WORKLOAD)(*tensors)
    torch.testing.assert_close(output, expected(*tensors))


@pytest.mark.parametrize(("backend", "changed"), CALLS[:3], ids=IDS[:3])
def test_the_adapter_is_traced_whole_by_torch_compile(backend, changed, install):
    install(*FILES, **changed)
    tensors = qkv()
    torch.compiler.reset()
    compiled = torch.compile(all_backends()[backend].load(WORKLOAD), fullgraph=True, dynamic=False, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(*tensors), expected(*tensors))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_fp8_casts_inside_the_call_and_gives_the_caller_its_dtype(install, compiled, monkeypatch):
    install("flash-attn-3")
    import flash_attn_interface

    given = []
    forward = flash_attn_interface.flash_attn_func
    seen = torch.compiler.disable(lambda q, k, v: given.append([x.dtype for x in (q, k, v)]) or forward(q, k, v))
    monkeypatch.setattr(flash_attn_interface, "flash_attn_func", seen)
    tensors = qkv()
    attention = all_backends()["flash_attn_3_fp8"].load(WORKLOAD)
    if compiled:
        torch.compiler.reset()
        attention = torch.compile(attention, fullgraph=True, dynamic=False, backend="aot_eager")
    with torch.no_grad():
        output = attention(*tensors)
    assert given == [[torch.float8_e4m3fn] * 3]
    assert output.dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(tensors, qkv(), strict=True))
    rounded = [x.to(torch.float8_e4m3fn).to(torch.bfloat16) for x in tensors]
    torch.testing.assert_close(output, expected(*rounded))
    assert all_backends()["flash_attn_3_fp8"].tolerance == "fp8"


def test_the_stand_in_for_flash_attention_3_cannot_be_traced_by_itself(install):
    """So the test above shows that the operator is what makes it traceable."""
    install("flash-attn-3")
    from flash_attn_interface import flash_attn_func

    torch.compiler.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(flash_attn_func, fullgraph=True, backend="eager")(*qkv())


def test_the_operator_is_registered_once_for_all_cases(install, monkeypatch):
    install("flash-attn-3")
    registered = []
    custom_op = torch.library.custom_op
    monkeypatch.setattr(torch.library, "custom_op", lambda *a, **k: registered.append(a[0]) or custom_op(*a, **k))
    load = all_backends()["flash_attn_3"].load
    first, *_ = [load(Workload("w", 1, seq, 2, 64)) for seq in (64, 128, 256)]
    assert registered == ["attnbench::flash_attn_3"]
    first(*qkv())  # what was loaded first works after the later ones


@pytest.mark.parametrize("interface", [FLASH_3_PLAIN, FLASH_3_TUPLE], ids=["plain", "tuple"])
def test_the_operator_hands_on_what_the_library_returned_without_a_copy(interface, install):
    install("flash-attn-3", flash_attn_interface=interface)
    output = flash_attn._flash_attn_3_op()(*qkv())
    assert output.data_ptr() == sys.modules["flash_attn_interface"].returned


def test_the_fake_implementation_agrees_with_the_library(install):
    install("flash-attn-3")
    operator = flash_attn._flash_attn_3_op()
    torch.library.opcheck(operator, tuple(qkv()), test_utils=("test_schema", "test_faketensor"))
    q, k, _ = (x.to("meta") for x in qkv())
    v = torch.empty(1, 64, 2, 16, dtype=torch.bfloat16, device="meta")  # head_dim may differ for v
    fake = operator(q.transpose(1, 2).contiguous().transpose(1, 2), k, v)
    assert (fake.shape, fake.dtype, fake.is_contiguous()) == ((1, 64, 2, 16), torch.bfloat16, True)
    for dtype, gives in ((torch.float16, torch.float16), (torch.float8_e4m3fn, torch.bfloat16)):
        q, k, v = (torch.empty(1, 64, 2, 16, dtype=dtype, device="meta") for _ in range(3))
        assert operator(q, k, v).dtype == gives


RAN = {
    "torch_flash": "void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<128, 128, 64, 4>>",
    "torch_efficient": "fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel::Params)",
    "torch_cudnn": "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_64x128x128_4x1x1_kernel0_0",
    "flash_attn_2": "void flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4, false, false>>",
    "flash_attn_3": "void cutlass::device_kernel<flash::enable_sm90<flash::FlashAttnFwdSm90<flash::CollectiveMainloop>>>",
    "flash_attn_4": "kernel_cutlass_kernel_flash_attncuteflash_fwd_sm90FlashAttentionForwardSm90_object_at__tensor0000",
}


@pytest.mark.parametrize("backend", NEEDS)
@pytest.mark.parametrize("ran", RAN)
def test_each_is_known_by_its_own_kernel_and_by_no_other(backend, ran):
    """The beginnings of the names are those seen on an H200, the arguments behind them are shortened."""
    codes = [reason.code for reason in wrong_route(all_backends()[backend], "cuda", (DeviceOp(RAN[ran]),))]
    assert codes == ([] if backend in (ran, f"{ran}_fp8") else ["wrong-route", "replaced"])


def test_flash_attention_2_with_split_keys_is_itself():
    split = (
        DeviceOp("void flash::flash_fwd_splitkv_kernel<...>"),
        DeviceOp("void flash::flash_fwd_splitkv_combine<...>"),
    )
    assert wrong_route(all_backends()["flash_attn_2"], "cuda", split) == ()
    timed = tuple(DeviceOp(op.name, duration_s=1e-4) for op in (*split, DeviceOp("copy")))
    assert kernel_s(all_backends()["flash_attn_2"], "cuda", timed) == pytest.approx(2e-4)


def test_the_family_is_registered_with_the_modes_that_it_claims():
    assert flash_attn in FAMILIES
    found = {name: b.modes for name, b in all_backends().items() if b.family == "flash-attn"}
    every = ("eager", "default", "max-autotune")
    assert found == {
        "flash_attn_2": every,
        "flash_attn_3": every,
        "flash_attn_3_fp8": every,
        "flash_attn_4": ("eager",),
    }
    assert {all_backends()[name].layout for name in found} == {"bshd"}


def test_a_cpu_lists_all_reasons_of_the_family(bench, pytester):
    write(pytester.path, FILES["flash-attn-4"])
    pytester.syspathinsert()
    result = bench("--attn-list", "--attn-device=cpu", "--attn-workload=1x64x2x64", "--attn-backend=flash_attn_*")
    result.stdout.fnmatch_lines(
        [
            f"  flash_attn_2      eager, default, max-autotune: {MISSING['flash-attn']}; needs device cuda, found cpu",
            f"  flash_attn_3      eager, default, max-autotune: {MISSING['flash-attn-3']}; needs device cuda, found cpu",
            f"  flash_attn_3_fp8  eager, default, max-autotune: {MISSING['flash-attn-3']}; needs device cuda, found cpu",
            f"  flash_attn_4      eager: {MISSING['nvidia-cutlass-dsl']}; needs device cuda, found cpu",
            "10 cases: 0 ready, 10 not",
        ]
    )


#: The adapters' own `load`, without the requirement of a GPU: what follows it is the same on every device.
ON_THE_CPU = """
from attnbench import register
from attnbench.backends import flash_attn

for load in (flash_attn.flash_attn_2, flash_attn.flash_attn_3, flash_attn.flash_attn_4):
    modes = ("eager",) if load is flash_attn.flash_attn_4 else ("eager", "default")
    register(f"{load.__name__}_on_cpu", "flash-attn", modes=modes)(load)
"""
UNDEFINED = "a_kernel.so: undefined symbol: _ZN3c105ErrorC2ENS_14SourceLocationESs"


def project(pytester: pytest.Pytester, *distributions: str, **changed: str) -> None:
    """Stand-ins in the project's own folder, which is on the path of a fresh process, and adapters that the CPU runs."""
    for distribution in distributions:
        write(pytester.path, FILES[distribution])
    write(pytester.path, {f"{module}.py": content for module, content in changed.items()})
    pytester.makeconftest(ON_THE_CPU)
    pytester.syspathinsert()


def test_the_stand_ins_are_measured_by_the_whole_machinery(bench, pytester):
    project(pytester, *FILES)
    arguments = ("--attn-device=cpu", "--attn-rounds=1", "--attn-workload=1x64x2x32", "--attn-workload=1x96x2x32")
    result = bench.fresh("--attn-backend=*_on_cpu", "--benchmark-only", *arguments, timeout_s=300)
    result.assert_outcomes(passed=10)


@pytest.mark.parametrize(
    ("backend", "there", "cause"),
    [
        ("flash_attn_2", ["flash-attn"], f"ImportError: {UNDEFINED}"),
        ("flash_attn_3", ["flash-attn-3"], f"ImportError: {UNDEFINED}"),
        ("flash_attn_4", ["flash-attn-4"], "ModuleNotFoundError: No module named 'cutlass_not_on_the_path'"),
        (
            "flash_attn_4",
            ["flash-attn", "flash-attn-4"],
            f"ImportError: {UNDEFINED}",
        ),  # flash_attn/__init__.py is first
        ("flash_attn_4", ["flash-attn-4", "flash-attn"], f"ImportError: {UNDEFINED}"),
    ],
)
def test_a_package_that_fails_to_import_is_an_error_row_with_the_cause(bench, pytester, backend, there, cause):
    broken = f"raise ImportError({UNDEFINED!r})\n"
    project(pytester, *there, flash_attn_2_cuda=broken, flash_attn_3_c=broken)
    if there == ["flash-attn-4"]:
        write(pytester.path, {"flash_attn/cute/interface.py": "import cutlass_not_on_the_path\n"})
    arguments = ("--attn-device=cpu", "--attn-workload=1x64x2x32", "--attn-mode=eager")
    result = bench.fresh(f"--attn-backend={backend}_on_cpu", "--benchmark-json=run.json", *arguments)
    result.assert_outcomes(failed=1)
    [record] = bench.records().values()
    assert record["status"] == "error"
    assert [reason["text"] for reason in record["reasons"]] == [f"cannot be loaded: {cause}"]
