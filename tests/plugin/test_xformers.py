"""The xFormers family against a stand-in: the files, names and signatures of 0.0.35, and SDPA inside."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from adapters import H200, assert_is_attention, expected, qkv, spelt
from torch._subclasses.fake_tensor import FakeTensorMode

from attnbench.backends import xformers
from attnbench.backends.families import FAMILIES
from attnbench.backends.registry import all_backends
from attnbench.backends.requirements import unmet
from attnbench.checks.route import wrong_route
from attnbench.hardware.facts import Facts
from attnbench.model import MODES, DeviceOp
from attnbench.workload import Workload

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("xformers") is not None, reason="the stand-in would be mixed with the real package"
)

WORKLOAD = Workload("w", 1, 64, 2, 64, "bf16")
NAMES = ("xformers", "xformers_cutlass", "xformers_flash")
MISSING = "package 'xformers' is not installed (pip install xformers)"
NOT_BUILT = "xFormers wasn't build with CUDA support"

OPERATOR = """
import torch
from torch.nn.functional import scaled_dot_product_attention

class FwOp:
    NAME = "NAMED"
    REASONS = []
    BIASES = None  # all
    calls = 0

    @classmethod
    def not_supported_reasons(cls, d):
        assert d.query.device.type == d.key.device.type == d.value.device.type
        if cls.BIASES is not None and type(d.attn_bias).__name__ not in cls.BIASES:
            return [f"attn_bias type is {type(d.attn_bias).__name__}"]
        return [f"{d.query.dtype}"] if d.query.dtype is torch.float32 else list(cls.REASONS)

    @classmethod
    def apply(cls, inp, needs_gradient):
        cls.calls += 1
        q, k, v = (x.flatten(2, 3) if x.ndim == 5 else x for x in (inp.query, inp.key, inp.value))
        assert q.shape[2] == k.shape[2] == v.shape[2]
        bias = inp.attn_bias
        if isinstance(bias, torch.Tensor):
            expected = (q.shape[0], *inp.query.shape[2:-1], q.shape[1], k.shape[1])
            assert bias.shape == expected and all(stride % 8 == 0 for stride in bias.stride()[:-1])
            bias = bias.reshape(q.shape[0], -1, q.shape[1], k.shape[1])
        elif bias is not None:
            bias = bias.materialize((q.shape[1], k.shape[1]))
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        out = scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=inp.p, scale=inp.scale)
        return out.transpose(1, 2).reshape(*inp.query.shape[:-1], -1), None

class BwOp(FwOp):
    NAME = "NAMED backward"

    @classmethod
    def not_supported_reasons(cls, d):
        return (["operator does not support BMGHK format"] if d.query.ndim == 5 else []) + super().not_supported_reasons(d)
"""
#: The classes of masks that are used here, with the real ones' constructors; `materialize` gives True where a query sees.
ATTN_BIAS = """
import torch

class LowerTriangularFromBottomRightMask:
    def materialize(self, shape):
        return torch.ones(shape, dtype=torch.bool).tril(shape[1] - shape[0])

class BlockDiagonalMask:
    def __init__(self, lengths):
        self.lengths = lengths

    @classmethod
    def from_seqlens(cls, q_seqlen, kv_seqlen=None, *, device=None):
        return cls(q_seqlen)

    def make_causal(self):
        return BlockDiagonalCausalMask(self.lengths)

    def materialize(self, shape):
        return torch.block_diag(*(torch.ones(one, one) for one in self.lengths)).bool()

class BlockDiagonalCausalMask(BlockDiagonalMask):
    def materialize(self, shape):
        return super().materialize(shape).tril()

class BlockDiagonalPaddedKeysMask:
    def __init__(self, q_seqlen, kv_padding, kv_seqlen):
        self.queries, self.padding, self.lengths = q_seqlen, kv_padding, kv_seqlen

    @classmethod
    def from_seqlens(cls, q_seqlen, kv_padding, kv_seqlen, causal_diagonal=None, *, device=None):
        return cls(q_seqlen, kv_padding, kv_seqlen)

    def materialize(self, shape):
        blocks = [(torch.arange(self.padding) < one).expand(rows, -1) for rows, one in zip(self.queries, self.lengths)]
        return torch.block_diag(*(block.float() for block in blocks)).bool()
"""
#: The first lines of the real `flash.py`: what it asks of a package flash-attn.
FLASH = """
import importlib.util

if importlib.util.find_spec("flash_attn"):
    import flash_attn
    import flash_attn.flash_attn_interface
"""
FMHA = """
from dataclasses import dataclass
from typing import Any, Optional

import torch

from . import attn_bias, cutlass, flash, flash3, triton_splitk

@dataclass
class Inputs:
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    attn_bias: Any = None
    p: float = 0.0
    scale: Optional[float] = None
    output_dtype: Optional[torch.dtype] = None
    is_partial: bool = False

ALL_FW_OPS = [cutlass.FwOp, flash.FwOp, flash3.FwOp, triton_splitk.FwOp]
flash3.FwOp.REASONS = ["operator wasn't built"]

def memory_efficient_attention(query, key, value, attn_bias=None, p=0.0, scale=None, *, op=None, output_dtype=None):
    chosen = flash.FwOp if op is None else op[0]
    if op is not None and query.requires_grad:
        assert issubclass(op[1], op[0]), "both of one module"
    out, *_ = chosen.apply(Inputs(query, key, value, attn_bias, p, scale, output_dtype), needs_gradient=False)
    return out
"""
FILES = {
    "xformers/__init__.py": "",
    "xformers/ops/__init__.py": "from .fmha import memory_efficient_attention\n",
    "xformers/ops/fmha/__init__.py": FMHA,
    "xformers/ops/fmha/attn_bias.py": ATTN_BIAS,
    "xformers/ops/fmha/cutlass.py": OPERATOR.replace("NAMED", "cutlassF-pt"),
    "xformers/ops/fmha/flash3.py": OPERATOR.replace("NAMED", "fa3F@2.8.3"),
    "xformers/ops/fmha/triton_splitk.py": OPERATOR.replace("NAMED", "triton_splitKF"),  # never chosen here
    "xformers/ops/fmha/flash.py": FLASH + OPERATOR.replace("NAMED", "fa2F@2.8.3"),
}


def refused(backend: str, workload: Workload = WORKLOAD) -> tuple[str, ...]:
    """What it says of a GPU: tensors of one exist here without their memory."""
    with FakeTensorMode():
        return all_backends()[backend].refuses(workload, "cuda")


@pytest.mark.parametrize(("backend", "ran"), [("xformers", "flash"), (NAMES[1], "cutlass"), (NAMES[2], "flash")])
def test_the_operator_that_a_backend_names_is_the_one_that_runs(backend, ran, stand_in):
    stand_in(FILES)
    tensors = qkv()
    output = all_backends()[backend].load(WORKLOAD)(*tensors)
    torch.testing.assert_close(output, expected(*tensors))
    from xformers.ops import fmha

    assert {m: getattr(fmha, m).FwOp.calls for m in ("cutlass", "flash")} == {"cutlass": 0, "flash": 0, ran: 1}


def test_the_adapter_adds_no_graph_break(stand_in):
    stand_in(FILES)
    torch.compiler.reset()
    compiled = torch.compile(all_backends()["xformers_cutlass"].load(WORKLOAD), fullgraph=True, backend="eager")
    tensors = qkv()
    torch.testing.assert_close(compiled(*tensors), expected(*tensors))


def test_reasons_of_one_operator_are_shown_in_its_own_words(stand_in):
    stand_in(FILES)
    assert [refused(name) for name in NAMES] == [(), (), ()]
    from xformers.ops import fmha

    fmha.cutlass.FwOp.REASONS = [NOT_BUILT, "bf16 is only supported on A100+ GPUs"]
    assert refused("xformers_cutlass") == (NOT_BUILT, "bf16 is only supported on A100+ GPUs")
    assert refused("xformers_flash") == ()
    assert refused("xformers") == ()  # it may take the other one


def test_xformers_says_a_reason_once_with_the_operators_that_give_it(stand_in):
    stand_in(FILES)
    from xformers.ops import fmha

    fmha.cutlass.FwOp.REASONS = [NOT_BUILT]
    fmha.flash.FwOp.REASONS = ["operator wasn't built", NOT_BUILT]
    assert refused("xformers") == (
        "fa3F@2.8.3, fa2F@2.8.3: operator wasn't built",
        f"fa2F@2.8.3, cutlassF-pt: {NOT_BUILT}",
    )


def test_the_library_is_asked_about_the_workloads_own_dtype(stand_in):
    stand_in(FILES)
    assert refused("xformers_cutlass", Workload("w", 1, 64, 2, 64, "fp32")) == ("torch.float32",)


ASKED = {
    "causal": "2x48x2x32:bf16:causal",
    "causal-cross": "1x24/48x2x32:bf16:causal",
    "gqa": "2x48x4/2x32:bf16:causal",
    "additive": "2x24/37x3x32:bf16:additive",
    "additive-gqa": "2x24/37x6/3x32:bf16:additive",
    "padding": "3x24/40x2x32:bf16:padding=40+13+1",
    "padding-gqa": "2x24x4/2x32:bf16:padding=24+7",
    "packed": "1x24x2x32:bf16:packed=11+13",
    "packed-causal": "1x24x4/2x32:bf16:packed=11+7+6:causal",
    "bwd": "1x24x2x32:bf16:causal:bwd",
    "bwd-gqa": "1x24x4/2x32:bf16:fwdbwd",
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("backend", ["xformers", "xformers_flash"])
def test_what_a_workload_asks_for_reaches_the_library(backend, asked, stand_in):
    stand_in(FILES)
    workload = spelt(ASKED[asked])
    assert {*workload.features} <= {*all_backends()[backend].takes}
    assert_is_attention(backend, workload)


def test_each_operator_is_asked_about_the_mask_and_about_gradients(stand_in):
    stand_in(FILES)
    assert [refused(name, spelt(ASKED["padding"])) for name in NAMES] == [(), (), ()]
    from xformers.ops import fmha

    fmha.cutlass.FwOp.BIASES = ("NoneType", "LowerTriangularFromBottomRightMask")
    fmha.flash.BwOp.BIASES = ("NoneType",)
    assert refused("xformers_cutlass", spelt(ASKED["padding"])) == ("attn_bias type is BlockDiagonalPaddedKeysMask",)
    assert refused("xformers", spelt(ASKED["padding"])) == (), "flash takes it"
    causal = ("attn_bias type is LowerTriangularFromBottomRightMask",)
    assert refused("xformers_flash", spelt(ASKED["causal"])) == ()
    assert refused("xformers_flash", spelt(ASKED["bwd"])) == causal
    assert refused("xformers_cutlass", spelt(ASKED["bwd"])) == ()
    assert refused("xformers_cutlass", spelt(ASKED["bwd-gqa"])) == (), "no groups where there are gradients"


def test_dropout_reaches_the_library(stand_in, monkeypatch):
    stand_in(FILES)
    import xformers.ops

    given = []
    monkeypatch.setattr(
        xformers.ops, "memory_efficient_attention", lambda q, k, v, **options: given.append(options) or q
    )
    all_backends()["xformers"].load(spelt("1x64x2x64:bf16:dropout=0.1"))(*qkv())
    assert given == [{"op": None, "p": 0.1}]


def test_without_a_gpu_it_is_not_asked():
    assert [all_backends()[name].refuses(WORKLOAD, "cpu") for name in NAMES] == [(), (), ()]


@pytest.mark.parametrize(
    ("backend", "reasons"),
    [
        ("xformers", [MISSING, "needs device cuda, found cpu"]),
        ("xformers_cutlass", [MISSING, "needs device cuda, found cpu"]),
        (
            "xformers_flash",
            [
                MISSING,
                "needs device cuda, found cpu",
                "needs dtype bf16 or fp16, found fp32",
                "needs head_dim a multiple of 8, at most 256, found 260",
            ],
        ),
    ],
)
def test_what_is_lacking_is_said_at_once(backend, reasons):
    cpu, workload = Facts("cpu", "A CPU", None, (2, 13)), Workload("w", 1, 64, 2, 260, "fp32")
    assert [reason.text for reason in unmet(all_backends()[backend].requires, cpu, workload)] == reasons


def test_an_installed_package_on_a_gpu_lacks_nothing(stand_in):
    stand_in(FILES)
    assert [unmet(all_backends()[name].requires, H200, WORKLOAD) for name in NAMES] == [(), (), ()]


RAN = {
    "flash_attn_2": "void flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4, false, false>>",
    "torch_flash": "void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<128, 128, 64, 4>>",
    "flash_attn_3": "void cutlass::device_kernel<flash::enable_sm90<flash::FlashAttnFwdSm90<flash::CollectiveMainloop>>>",
    "flash_attn_4": "kernel_cutlass_kernel_flash_attncuteflash_fwd_sm90FlashAttentionForwardSm90_object_at__tensor0",
    "cutlass": "fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel::Params)",
    "cudnn": "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_64x128x128_4x1x1_kernel0_0",
}
OWN = {
    "xformers": {"flash_attn_2", "torch_flash", "flash_attn_3", "cutlass"},  # whichever it chose
    "xformers_cutlass": {"cutlass"},
    "xformers_flash": {"flash_attn_2", "torch_flash"},  # of the package, or PyTorch's copy
}


@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize("ran", RAN)
def test_each_is_known_by_the_kernels_of_its_operators(backend, ran):
    """The beginnings of the names are those seen on an H200, the arguments behind them are shortened."""
    codes = [reason.code for reason in wrong_route(all_backends()[backend], "cuda", (DeviceOp(RAN[ran]),))]
    assert codes == ([] if ran in OWN[backend] else ["wrong-route", "replaced"])


def test_the_family_is_registered_with_all_modes():
    assert xformers in FAMILIES
    found = {name: b.modes for name, b in all_backends().items() if b.family == "xformers"}
    assert found == dict.fromkeys(NAMES, MODES)


#: The adapter's own functions, asked as on a GPU, which the CPU has not.
BROKEN = """
from attnbench import register
from attnbench.backends import xformers

on_a_gpu = lambda workload, device: xformers._refusals(workload, "cuda", "flash")
register("asked_first", "xformers", modes=("eager", "default"), refuses=on_a_gpu)(lambda workload: None)
register("loaded", "xformers")(xformers.xformers_flash)
"""
CAUSE = "ModuleNotFoundError: No module named 'flash_attn.flash_attn_interface'"
ROWS = {
    "asked_first@eager": f"cannot say whether it runs here: {CAUSE}",
    "asked_first@default": f"cannot say whether it runs here: {CAUSE}",
    "loaded@eager": f"cannot be loaded: {CAUSE}",
}


@pytest.fixture
def broken(stand_in, pytester):
    """xFormers beside flash-attn-4 without flash-attn: its own import fails, as the real one's does."""
    stand_in({**FILES, "flash_attn/cute/__init__.py": ""})
    pytester.makeconftest(BROKEN)
    return ("--attn-device=cpu", "--attn-workload=1x64x2x64", "--attn-backend=asked_first", "--attn-backend=loaded")


def test_a_package_that_fails_to_import_is_an_error_row_with_the_cause(bench, broken):
    bench(*broken, "--benchmark-json=run.json").assert_outcomes(failed=3)
    records = bench.records().values()
    assert {record["status"] for record in records} == {"error"}
    assert {f"{r['backend']}@{r['mode']}": r["reasons"][0]["text"] for r in records} == ROWS


def test_a_package_that_fails_to_import_is_listed_with_the_cause(bench, broken):
    result = bench(*broken, "--attn-list")
    assert result.ret == pytest.ExitCode.OK
    listed = " ".join(result.stdout.str().split())
    assert f" asked_first eager, default: cannot say whether it runs here: {CAUSE} " in listed
    assert f" loaded eager: cannot be loaded: {CAUSE} " in listed
    assert " 3 cases: 0 ready, 3 not " in listed
