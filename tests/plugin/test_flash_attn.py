"""The flash-attn family against stand-ins: packages with the real ones' files, names and signatures, and SDPA inside."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from itertools import compress, product
from pathlib import Path

import pytest
import torch
from adapters import A100, CPU, H200, assert_is_attention, expected, spelt, tensors_of

from attnbench.backends import flash_attn
from attnbench.backends.families import FAMILIES
from attnbench.backends.registry import all_backends
from attnbench.backends.requirements import unmet
from attnbench.checks.route import kernel_s, wrong_route
from attnbench.hardware.facts import Facts, installed_version
from attnbench.model import DeviceOp
from attnbench.workload import Workload

B200 = Facts("cuda", "NVIDIA B200", (10, 0), (2, 13))
WORKLOAD = Workload("w", 1, 64, 2, 64, "bf16")

REAL = any(map(installed_version, ("flash-attn", "flash-attn-4"))) or any(
    importlib.util.find_spec(interface.module) for interface in flash_attn.INTERFACES
)
pytestmark = pytest.mark.skipif(bool(REAL), reason="stand-ins would be mixed with a real package of the family")

SDPA = """
import torch
from torch.nn.functional import scaled_dot_product_attention

def of_e4m3(x, kv_heads, descale):
    if descale is None:
        return x.to(torch.bfloat16)
    assert descale.dtype == torch.float32 and descale.shape == (len(x), kv_heads)
    scale = descale.repeat_interleave(x.shape[2] // kv_heads, 1)[:, None, :, None]
    return (x.float() * scale).to(torch.bfloat16)

def sdpa(q, k, v, scale, causal=False, descales=(None, None, None)):
    if q.dtype == torch.float8_e4m3fn:  # e4m3 gives bf16
        q, k, v = (of_e4m3(x, k.shape[2], descale) for x, descale in zip((q, k, v), descales))
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    rows, keys = q.shape[2], k.shape[2]
    mask = torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows) if causal else None
    out = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
    return out.transpose(1, 2).contiguous()

def packed(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, scale, causal):
    assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
    assert len(q) == cu_seqlens_q[-1] and len(k) == len(v) == cu_seqlens_k[-1]
    lengths = [one.diff().tolist() for one in (cu_seqlens_q, cu_seqlens_k)]
    assert [max(one) for one in lengths] == [max_seqlen_q, max_seqlen_k]
    sequences = zip(q.split(lengths[0]), k.split(lengths[1]), v.split(lengths[1]))
    return torch.cat([sdpa(*(x[None] for x in one), scale, causal)[0] for one in sequences])
"""

FLASH_2 = """
import torch
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
    return flash_attn_gpu.sdpa(q, k, v, softmax_scale, causal)

def flash_attn_varlen_func(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),  # -1 means infinite context window
    softcap=0.0, # 0.0 means deactivated
    alibi_slopes=None,
    deterministic=False,
    return_attn_probs=False,
    block_table=None,
):
    where = (cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
    return flash_attn_gpu.packed(q, k, v, *where, softmax_scale, causal)
"""

#: Of the releases of FlashAttention-3 and of the wheel, which have two more arguments before the scale.
VARLEN_3 = """
def flash_attn_varlen_func(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    seqused_q=None,
    seqused_k=None,
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
    sm_margin=0,
):
    where = (cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
    return MODULE.packed(q, k, v, *where, softmax_scale, causal)
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
    out = flash_attn_3_c.sdpa(q, k, v, softmax_scale, causal, (q_descale, k_descale, v_descale))
    returned = out.data_ptr()
    return RETURNED
""" + VARLEN_3.replace("MODULE", "flash_attn_3_c")
FLASH_3_TUPLE = FLASH_3.replace("ADDED", "").replace("RETURNED", "out, torch.empty(0)")
FLASH_3_PLAIN = FLASH_3.replace("ADDED", "\n    return_attn_probs=False,").replace("RETURNED", "out")

#: Of the wheel fa3-fwd, as it is but for the kernel: its operator has a fake implementation, and fp16 was left out.
FA3_FWD = """
import torch
import fa3_fwd._C

@torch.library.custom_op("NAMESPACE::_flash_attn_forward", mutates_args=())
def _flash_attn_forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, q_descale: torch.Tensor | None,
    k_descale: torch.Tensor | None, v_descale: torch.Tensor | None
) -> torch.Tensor:
    if q.dtype == torch.float16:
        raise RuntimeError("This flash attention build does not support FP16.")
    return fa3_fwd._C.sdpa(q, k, v, None, causal, (q_descale, k_descale, v_descale))

@torch.library.register_fake("NAMESPACE::_flash_attn_forward")
def _flash_attn_forward_fake(q, k, v, causal, q_descale, k_descale, v_descale):
    return torch.empty_like(q, dtype=torch.bfloat16 if q.dtype == torch.float8_e4m3fn else q.dtype)

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
    sm_margin=0,
    return_attn_probs=False,
):
    return _flash_attn_forward(q, k, v, causal, q_descale, k_descale, v_descale)
""" + VARLEN_3.replace("MODULE", "fa3_fwd._C")


def config(*left_out: str) -> str:
    """The module of flags that a build of FlashAttention-3 leaves."""
    features = (
        "BACKWARD",
        "LOCAL",
        "FP16",
        "FP8",
        "VARLEN",
        "HDIM64",
        "HDIM96",
        "HDIM128",
        "HDIM192",
        "HDIM256",
        "SM8x",
    )
    flags = {f"FLASHATTENTION_DISABLE_{feature}": feature in left_out for feature in features}
    return f"# Auto-generated by flash attention 3 setup.py\nCONFIG = {{'build_flags': {flags}}}\n"


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
    return sdpa(q, k, v, softmax_scale, causal), None
""".replace("SDPA", SDPA)

#: What each distribution leaves in site-packages. flash-attn brings a `cute` of its own, which flash-attn-4 writes over.
FILES = {
    "flash-attn": {
        "flash_attn-2.8.3.dist-info/METADATA": "Metadata-Version: 2.4\nName: flash_attn\nVersion: 2.8.3\n",
        "flash_attn/__init__.py": (
            "from flash_attn.flash_attn_interface import flash_attn_func, flash_attn_varlen_func\n"
        ),
        "flash_attn/flash_attn_interface.py": FLASH_2,
        "flash_attn/cute/__init__.py": "import cutlass_of_another_release\n",
        "flash_attn_2_cuda.py": SDPA,
    },
    "flash-attn-3": {"flash_attn_interface.py": FLASH_3_PLAIN, "flash_attn_3_c.py": SDPA},
    "fa3-fwd": {
        "fa3_fwd-0.0.3.dist-info/METADATA": "Metadata-Version: 2.1\nName: fa3_fwd\nVersion: 0.0.3\n",
        "fa3_fwd_interface.py": FA3_FWD.replace("NAMESPACE", "fa3_fwd_stand_in"),
        "fa3_fwd_config.py": config("BACKWARD", "LOCAL", "FP16"),
        "fa3_fwd/_C.py": SDPA,
    },
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
        "package 'flash_attn_interface' or 'fa3_fwd_interface' is not installed (pip install fa3-fwd, or build "
        "flash_attn_interface from the folder hopper of github.com/Dao-AILab/flash-attention)"
    ),
    "flash-attn-4": "package 'flash-attn-4' is not installed (pip install flash-attn-4)",
    "nvidia-cutlass-dsl": "package 'nvidia-cutlass-dsl' is not installed (pip install nvidia-cutlass-dsl)",
}
FP8 = ("flash_attn_3_fp8", "flash_attn_3_fp8[per_tensor]", "flash_attn_3_fp8[per_head]")
#: Of the distributions in one pair of parentheses any one will do.
NEEDS = {
    "flash_attn_2": [("flash-attn",)],
    "flash_attn_2[deterministic]": [("flash-attn",)],
    "flash_attn_2_varlen": [("flash-attn",)],
    "flash_attn_3": [("flash-attn-3", "fa3-fwd")],
    "flash_attn_3_varlen": [("flash-attn-3", "fa3-fwd")],
    **{name: [("flash-attn-3", "fa3-fwd")] for name in FP8},
    "flash_attn_4": [("flash-attn-4",), ("nvidia-cutlass-dsl",)],
}
OF_THE_FAMILY = ("flash_attn", "fa3_fwd")
#: What the workload has to ask for, where a backend is not for plain attention.
ASKED_FOR = {"flash_attn_2[deterministic]": "bwd"}
PLAIN = [name for name in NEEDS if name not in (*FP8, *ASKED_FOR)]
EVERY = [list(compress(FILES, chosen)) for chosen in product((0, 1), repeat=len(FILES))]


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """`install(*distributions)` puts their stand-ins on the path of this process, and nothing of them is kept."""

    def forget() -> None:
        for name in [name for name in sys.modules if name.startswith(OF_THE_FAMILY)]:
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
    lacking = [MISSING[names[0]] for names in NEEDS[backend] if not {*names} & {*there}]
    workload = spelt(f"1x64x2x64:bf16:{ASKED_FOR.get(backend, 'fwd')}")
    assert said(backend, H200, workload) == lacking
    assert said(backend, CPU, workload) == [*lacking, "needs device cuda, found cpu"]
    assert not [name for name in sys.modules if name.startswith(OF_THE_FAMILY)]  # nothing was imported to find out


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


BUILT = "flash_attn_interface of unknown version"
WHEEL = "fa3_fwd_interface of fa3-fwd 0.0.3"
FP16 = Workload("w", 1, 64, 2, 64, "fp16")


@pytest.mark.parametrize("backend", ["flash_attn_3", "flash_attn_3_fp8", "flash_attn_3_varlen"])
@pytest.mark.parametrize(
    ("there", "source", "imported"),
    [
        (["flash-attn-3"], BUILT, "flash_attn_interface"),
        (["fa3-fwd"], WHEEL, "fa3_fwd_interface"),
        (["fa3-fwd", "flash-attn-3"], BUILT, "flash_attn_interface"),
        (["fa3-fwd", "flash-attn", "flash-attn-4"], WHEEL, "fa3_fwd_interface"),
    ],
    ids=["built", "wheel", "both", "wheel-among-others"],
)
def test_flash_attention_3_says_which_of_its_modules_was_taken(there, source, imported, backend, install):
    install(*there)
    all_backends()[backend].load(WORKLOAD)
    modules = [interface.module for interface in flash_attn.INTERFACES if interface.module in sys.modules]
    assert modules == [imported]
    assert all_backends()[backend].source() == source


def test_the_version_of_flash_attention_3_is_in_its_source(install, tmp_path):
    install("flash-attn-3")
    metadata = "Metadata-Version: 2.1\nName: flash_attn_3\nVersion: 3.0.0\n"
    write(tmp_path, {"flash_attn_3-3.0.0.dist-info/METADATA": metadata})
    assert all_backends()["flash_attn_3"].source() == "flash_attn_interface of flash_attn_3 3.0.0"


NO_FP16 = "needs a build with fp16, found {} built without (FLASHATTENTION_DISABLE_FP16)"


@pytest.mark.parametrize(
    ("there", "reasons"),
    [
        (["fa3-fwd"], [NO_FP16.format(WHEEL)]),
        (["flash-attn-3"], []),
        (["fa3-fwd", "flash-attn-3"], []),  # the one that is taken has fp16
    ],
    ids=["wheel", "built", "both"],
)
def test_fp16_is_unsupported_in_the_wheel_that_is_built_without(there, reasons, install):
    install(*there)
    assert said("flash_attn_3", H200, FP16) == reasons
    assert said("flash_attn_3", H200) == said("flash_attn_3_fp8", H200) == []
    assert not any("FP16" in text for text in said("hf_flash_attn3", H200, FP16))  # a build of its own


def test_the_wheel_has_no_fp16_where_its_flags_cannot_be_read_either(install, tmp_path):
    install("fa3-fwd")
    (tmp_path / "fa3_fwd_config.py").unlink()
    (tmp_path / "fa3_fwd-0.0.3.dist-info" / "METADATA").unlink()
    assert said("flash_attn_3", H200, FP16) == [NO_FP16.format("fa3_fwd_interface of unknown version")]


def test_every_reason_of_a_case_that_the_wheel_cannot_run_is_said(install):
    install("fa3-fwd")
    assert said("flash_attn_3", A100, Workload("w", 1, 64, 2, 100, "fp16")) == [
        "needs sm_90 to below sm_100, found sm_80 (NVIDIA A100)",
        "needs head_dim a multiple of 8, at most 256, found 100",
        NO_FP16.format(WHEEL),
    ]


@pytest.mark.parametrize(
    ("left_out", "backend", "workload", "lacks", "flags"),
    [
        (["FP16"], "flash_attn_3", FP16, "fp16", ["FP16"]),
        (["FP16"], "flash_attn_3", WORKLOAD, "", []),
        (["FP16"], "flash_attn_3_fp8", WORKLOAD, "", []),
        (["FP8"], "flash_attn_3_fp8", WORKLOAD, "fp8", ["FP8"]),
        (["FP8"], "flash_attn_3", FP16, "", []),
        (["VARLEN"], "flash_attn_3_varlen", WORKLOAD, "varlen", ["VARLEN"]),
        (["VARLEN"], "flash_attn_3", WORKLOAD, "", []),
        (["HDIM192", "HDIM256"], "flash_attn_3", Workload("w", 1, 64, 2, 136), "head_dim 136", ["HDIM192", "HDIM256"]),
        (["HDIM192", "HDIM256"], "flash_attn_3", Workload("w", 1, 64, 2, 128), "", []),
        (["HDIM64", "HDIM96"], "flash_attn_3", WORKLOAD, "", []),  # it pads to the next that was built
        (
            ["FP16", "HDIM256"],
            "flash_attn_3",
            Workload("w", 1, 64, 2, 256, "fp16"),
            "fp16 and head_dim 256",
            ["FP16", "HDIM256"],
        ),
    ],
)
def test_what_a_build_of_ones_own_left_out_is_unsupported(left_out, backend, workload, lacks, flags, install):
    install("flash-attn-3", flash_attn_config=config(*left_out))
    without = ", ".join(f"FLASHATTENTION_DISABLE_{flag}" for flag in flags)
    text = f"needs a build with {lacks}, found {BUILT} built without ({without})"
    assert said(backend, H200, workload) == ([text] if lacks else [])


def qkv() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(1, 64, 2, 32, dtype=torch.bfloat16) for _ in range(3)]


CALLS = [
    ("flash_attn_2", "", {}),
    ("flash_attn_3", "", {}),
    ("flash_attn_3", "", {"flash_attn_interface": FLASH_3_TUPLE}),
    ("flash_attn_3", "flash-attn-3", {}),
    ("flash_attn_4", "", {}),
]
IDS = ["2", "3-plain", "3-tuple", "3-wheel", "4"]


@pytest.mark.parametrize(("backend", "without", "changed"), CALLS, ids=IDS)
def test_the_adapter_returns_the_attention_alone(backend, without, changed, install):
    install(*(name for name in FILES if name != without), **changed)
    tensors = qkv()
    output = all_backends()[backend].load(WORKLOAD)(*tensors)
    torch.testing.assert_close(output, expected(*tensors))


@pytest.mark.parametrize(("backend", "without", "changed"), CALLS[:4], ids=IDS[:4])
def test_the_adapter_is_traced_whole_by_torch_compile(backend, without, changed, install):
    install(*(name for name in FILES if name != without), **changed)
    tensors = qkv()
    torch.compiler.reset()
    compiled = torch.compile(all_backends()[backend].load(WORKLOAD), fullgraph=True, dynamic=False, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(*tensors), expected(*tensors))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(
    ("there", "module"), [("flash-attn-3", "flash_attn_interface"), ("fa3-fwd", "fa3_fwd_interface")]
)
def test_fp8_casts_inside_the_call_and_gives_the_caller_its_dtype(install, there, module, compiled, monkeypatch):
    install(there)
    library = importlib.import_module(module)

    given = []
    forward = library.flash_attn_func
    seen = torch.compiler.disable(lambda q, k, v: given.append([x.dtype for x in (q, k, v)]) or forward(q, k, v))
    monkeypatch.setattr(library, "flash_attn_func", seen)
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


def in_e4m3(x: torch.Tensor, over: tuple[int, ...]) -> torch.Tensor:
    """Rounded to e4m3, with a scale for what `over` spans of `[batch, seq, heads, head_dim]`."""
    scale = x.float().abs().amax(over, keepdim=True) / 448
    return ((x.float() / scale).to(torch.float8_e4m3fn).float() * scale).to(torch.bfloat16)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("there", ["flash-attn-3", "fa3-fwd"])
@pytest.mark.parametrize(
    ("backend", "over"), [(FP8[1], (0, 1, 2, 3)), (FP8[2], (1, 3))], ids=["per tensor", "per head"]
)
def test_fp8_with_scales_works_them_out_in_the_call_and_hands_them_to_the_kernel(
    backend, over, there, compiled, install
):
    install(there)
    tensors = [x * 2000 * (1 + torch.arange(2)[:, None]) for x in qkv()]  # which e4m3 does not reach, unscaled
    tensors[0], tensors[1] = tensors[0] / 2000, tensors[1] / 2000
    before = [x.clone() for x in tensors]
    attention = all_backends()[backend].load(WORKLOAD)
    if compiled:
        torch.compiler.reset()
        attention = torch.compile(attention, fullgraph=True, dynamic=False, backend="aot_eager")
    with torch.no_grad():
        output = attention(*tensors)
    right = expected(*(in_e4m3(x, over) for x in tensors))
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output, right, rtol=0.01, atol=0.001 * float(right.abs().max()))
    assert all(map(torch.equal, tensors, before))


@pytest.mark.parametrize("backend", FP8[1:])
def test_query_heads_that_share_a_key_head_share_a_scale(backend, install):
    install("flash-attn-3")
    workload = spelt("2x24/48x4/2x32:bf16:causal")
    given = tensors_of(workload)
    output = all_backends()[backend].load(workload)(*given)
    right = all_backends()["numpy"].load(workload)(*given)
    torch.testing.assert_close(output, right, rtol=0.1, atol=0.15)


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


OF_2 = ("flash_attn_2", "flash_attn_2_varlen", *ASKED_FOR)


@pytest.mark.parametrize("backend", NEEDS)
@pytest.mark.parametrize("ran", RAN)
def test_each_is_known_by_its_own_kernel_and_by_no_other(backend, ran):
    """The beginnings of the names are those seen on an H200, the arguments behind them are shortened."""
    codes = [reason.code for reason in wrong_route(all_backends()[backend], "cuda", (DeviceOp(RAN[ran]),))]
    own = {"flash_attn_2": OF_2, "flash_attn_3": (ran, *FP8, f"{ran}_varlen")}.get(ran, (ran,))
    assert codes == ([] if backend in own else ["wrong-route", "replaced"])


#: As the projects' sources name their kernels of the backward pass; not seen on a GPU yet.
BACKWARD = {
    "torch_flash": "void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<Flash_bwd_kernel_traits<128, 64, 128>>",
    "torch_efficient": "fmha_cutlassB_bf16_aligned_128x64_k128_sm80(PyTorchMemEffAttention::AttentionBackwardKernel)",
    "torch_cudnn": "cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma_f16_knob_7_64x128x128_4x1x1_kernel0_0",
    "flash_attn_2": "void flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<Flash_bwd_kernel_traits<128, 64, 128>>",
    "flash_attn_3": "void cutlass::device_kernel<flash::enable_sm90<flash::FlashAttnBwdSm90<flash::CollectiveMainloopBwd>>>",
    "flash_attn_4": "kernel_cutlass_kernel_flash_attncuteflash_bwd_sm90FlashAttentionBackwardSm90_object_at__tensor0000",
}


@pytest.mark.parametrize("backend", [*PLAIN, *ASKED_FOR])
@pytest.mark.parametrize("ran", BACKWARD)
def test_each_is_known_by_its_own_backward_kernel_and_by_no_other(backend, ran):
    codes = [reason.code for reason in wrong_route(all_backends()[backend], "cuda", (DeviceOp(BACKWARD[ran]),))]
    own = OF_2 if ran == "flash_attn_2" else (ran, f"{ran}_varlen")
    assert codes == ([] if backend in own else ["wrong-route", "replaced"])


@pytest.mark.parametrize("backend", ["torch_flash", "torch_efficient", "torch_cudnn"])
def test_pytorchs_own_are_known_by_their_backward_kernels(backend):
    assert wrong_route(all_backends()[backend], "cuda", (DeviceOp(BACKWARD[backend]),)) == ()


def test_what_stands_around_the_backward_kernel_is_part_of_its_time():
    names = {
        "flash_attn_2": ("flash::flash_bwd_dot_do_o_kernel<", "flash::flash_bwd_convert_dq_kernel<"),
        "flash_attn_3": ("device_kernel<flash::FlashAttnBwdPreprocess<", "<flash::FlashAttnBwdPostprocessConvertdQ<"),
        "flash_attn_4": (
            "flash_attncuteflash_bwd_preprocessFlashAttentionBackwardPreprocess_object",
            BACKWARD["flash_attn_4"],
        ),
    }
    for backend, own in names.items():
        ran = tuple(DeviceOp(f"void {name}", duration_s=1e-6) for name in (*own, "at::native::fill"))
        assert kernel_s(all_backends()[backend], "cuda", ran) == pytest.approx(2e-6)


ASKED = ["causal", "cross", "causal-cross", "gqa", "causal-gqa-cross", "bwd", "causal-gqa-bwd"]
SPELT = {
    "causal": "2x48x2x32:bf16:causal",
    "cross": "2x24/48x2x32:bf16",
    "causal-cross": "2x24/48x2x32:bf16:causal",
    "gqa": "2x48x4/2x32:bf16",
    "causal-gqa-cross": "1x24/48x4/2x32:bf16:causal",
    "bwd": "1x48x2x32:bf16:bwd",
    "causal-gqa-bwd": "1x48x4/2x32:bf16:causal:fwdbwd",
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("backend", PLAIN)
def test_what_a_workload_asks_for_reaches_the_library(backend, asked, install):
    install(*(name for name in FILES if name != "fa3-fwd"))
    workload = spelt(SPELT[asked])
    assert {*workload.features} <= {*all_backends()[backend].takes}
    assert_is_attention(backend, workload)


@pytest.mark.parametrize("text", ["1x24/48x2x32:bf16:causal", "1x48x4/2x32:bf16:causal"])
@pytest.mark.parametrize("there", ["flash-attn-3", "fa3-fwd"])
def test_a_causal_mask_reaches_the_operator_inside_torch_compile(there, text, install):
    install(there)
    workload = spelt(text)
    torch.compiler.reset()
    load = all_backends()["flash_attn_3"].load
    compiled = torch.compile(load(workload), fullgraph=True, dynamic=False, backend="aot_eager")
    tensors = tensors_of(workload)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*tensors), load(workload)(*tensors))


@pytest.mark.parametrize(
    "text",
    [
        "3x24x2x32:bf16:padding=24+7+1",
        "2x24/40x4/2x32:bf16:padding=13+40",
        "1x24x2x32:bf16:packed=11+7+6",
        "1x24x4/2x32:bf16:packed=11+13:causal",
        "2x24x2x32:bf16:padding=9+24:fwdbwd",
        "1x24x2x32:bf16:packed=11+13:bwd",
    ],
)
@pytest.mark.parametrize(
    ("backend", "there"),
    [
        ("flash_attn_2_varlen", "flash-attn"),
        ("flash_attn_3_varlen", "flash-attn-3"),
        ("flash_attn_3_varlen", "fa3-fwd"),
    ],
    ids=["2", "3-built", "3-wheel"],
)
def test_padding_and_packed_sequences_are_packed_for_the_library(backend, there, text, install):
    install(there)
    assert_is_attention(backend, spelt(text))


@pytest.mark.parametrize("backend", ["flash_attn_2_varlen", "flash_attn_3_varlen"])
def test_packed_lengths_are_made_before_the_call(backend, install, monkeypatch):
    install("flash-attn", "flash-attn-3")
    module = "flash_attn" if backend == "flash_attn_2_varlen" else "flash_attn_interface"
    given = []
    monkeypatch.setattr(
        importlib.import_module(module), "flash_attn_varlen_func", lambda q, k, v, *where, **_: given.append(where) or q
    )
    workload = spelt("1x64x2x32:bf16")
    attention = all_backends()[backend].load(workload)
    for _ in range(2):
        attention(*tensors_of(workload))
    assert given[0][0].tolist() == given[0][1].tolist() == [0, 64]
    assert given[0][2:] == (64, 64)
    assert given[0][0] is given[1][0]


@pytest.mark.parametrize(("backend", "deterministic"), [("flash_attn_2", False), ("flash_attn_2[deterministic]", True)])
def test_only_the_deterministic_variant_sets_the_option(backend, deterministic, install, monkeypatch):
    install("flash-attn")
    library, given = importlib.import_module("flash_attn"), []
    monkeypatch.setattr(library, "flash_attn_func", lambda q, k, v, **options: given.append(options) or q)
    for text in ("1x8x2x32:bf16:bwd", "1x8x2x32:bf16:dropout=0.1:causal:bwd"):
        all_backends()[backend].load(spelt(text))(*qkv())
    assert given == [
        {"deterministic": deterministic},
        {"deterministic": deterministic, "causal": True, "dropout_p": 0.1},
    ]


def test_variants_for_some_workloads_are_unsupported_on_the_others(install):
    install(*FILES)
    assert said("flash_attn_2[deterministic]", H200) == [
        "needs a workload with gradients, found plain forward attention"
    ]
    assert said("flash_attn_2[deterministic]", H200, spelt("1x8x2x64:bf16:causal")) == [
        "needs a workload with gradients, found one with a causal mask"
    ]
    assert said("flash_attn_2_varlen", H200) == []  # one sequence is a packed one, too


def test_a_flash_attention_3_without_its_backward_pass_is_unsupported_for_gradients(install):
    install("fa3-fwd")
    assert said("flash_attn_3", H200, spelt("1x8x2x64:bf16:bwd")) == [
        f"needs a build with gradients, found {WHEEL} built without (FLASHATTENTION_DISABLE_BACKWARD)"
    ]
    install("flash-attn-3")
    assert said("flash_attn_3", H200, spelt("1x8x2x64:bf16:bwd")) == []


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
        "flash_attn_2[deterministic]": every,
        "flash_attn_2_varlen": ("eager",),
        "flash_attn_3": every,
        "flash_attn_3_varlen": ("eager",),
        **dict.fromkeys(FP8, every),
        "flash_attn_4": ("eager",),
    }
    assert {all_backends()[name].layout for name in found} == {"bshd"}


def test_a_cpu_lists_all_reasons_of_the_family(bench, pytester):
    write(pytester.path, FILES["flash-attn-4"])
    pytester.syspathinsert()
    result = bench("--attn-list", "--attn-device=cpu", "--attn-workload=1x64x2x64", "--attn-backend=flash_attn_*")
    unbroken = re.sub(r"\n {33}(?=\S)", " ", result.stdout.str()).splitlines()
    pytest.LineMatcher(unbroken).fnmatch_lines(
        [
            f"  flash_attn_2 * eager, default, max-autotune: {MISSING['flash-attn']}; needs device cuda, found cpu",
            f"  flash_attn_2[[]deterministic] * eager, default, max-autotune: {MISSING['flash-attn']}; *",
            f"  flash_attn_2_varlen * eager: {MISSING['flash-attn']}; needs device cuda, found cpu",
            f"  flash_attn_3 * eager, default, max-autotune: {MISSING['flash-attn-3']}; needs device cuda, found cpu",
            f"  flash_attn_3_varlen * eager: {MISSING['flash-attn-3']}; needs device cuda, found cpu",
            f"  flash_attn_3_fp8 * eager, default, max-autotune: {MISSING['flash-attn-3']}; needs device cuda, found cpu",
            "  * the same for [[]per_tensor] [[]per_head]",
            f"  flash_attn_4 * eager: {MISSING['nvidia-cutlass-dsl']}; needs device cuda, found cpu",
            "21 cases: 0 ready, 21 not",
        ]
    )


#: The adapters' own `load`, without the requirement of a GPU: what follows it is the same on every device.
ON_THE_CPU = """
from attnbench import register
from attnbench.backends import flash_attn
from attnbench.backends.registry import all_backends

for load in (flash_attn.flash_attn_2, flash_attn.flash_attn_3, flash_attn.flash_attn_4):
    modes = ("eager",) if load is flash_attn.flash_attn_4 else ("eager", "default")
    source = all_backends()[load.__name__].source
    register(f"{load.__name__}_on_cpu", "flash-attn", modes=modes, source=source)(load)
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
    result = bench("--attn-backend=*_on_cpu", "--benchmark-only", *arguments)
    result.assert_outcomes(passed=10)


def test_what_flash_attention_3_was_is_stored_and_printed(bench, pytester):
    project(pytester, "fa3-fwd")
    arguments = ("--attn-device=cpu", "--attn-rounds=1", "--attn-workload=1x64x2x32", "--benchmark-json=run.json")
    result = bench("--attn-backend=flash_attn_3_on_cpu", *arguments)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([f"flash_attn_3_on_cpu: {WHEEL}"])
    assert [record["source"] for record in bench.records().values()] == [WHEEL] * 2


@pytest.mark.parametrize(
    ("backend", "there", "cause"),
    [
        ("flash_attn_2", ["flash-attn"], f"ImportError: {UNDEFINED}"),
        ("flash_attn_3", ["flash-attn-3"], f"ImportError: {UNDEFINED}"),
        ("flash_attn_3", ["flash-attn-3", "fa3-fwd"], f"ImportError: {UNDEFINED}"),  # the other is no stand-in for it
        ("flash_attn_3", ["fa3-fwd"], f"ImportError: {UNDEFINED}"),
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
    if there == ["fa3-fwd"]:
        write(pytester.path, {"fa3_fwd/_C.py": broken})
    if there == ["flash-attn-4"]:
        write(pytester.path, {"flash_attn/cute/interface.py": "import cutlass_not_on_the_path\n"})
    arguments = ("--attn-device=cpu", "--attn-workload=1x64x2x32", "--attn-mode=eager")
    result = bench(f"--attn-backend={backend}_on_cpu", "--benchmark-json=run.json", *arguments)
    result.assert_outcomes(failed=1)
    [record] = bench.records().values()
    assert record["status"] == "error"
    assert [reason["text"] for reason in record["reasons"]] == [f"cannot be loaded: {cause}"]
