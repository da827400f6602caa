"""comfy-kitchen against a stand-in: the names and signatures of 0.2.40, and SDPA in the place of its kernel."""

from __future__ import annotations

import importlib.util
import itertools
import sys

import pytest
import torch
from adapters import CPU, H200, assert_is_attention, qkv, spelt, tensors_of

from attnbench.backends import comfy_kitchen
from attnbench.backends.families import FAMILIES
from attnbench.backends.registry import all_backends
from attnbench.backends.requirements import unmet
from attnbench.backends.variant import in_common_layout
from attnbench.checks.route import kernel_s, wrong_route
from attnbench.hardware.facts import Facts
from attnbench.model import MODES, DeviceOp
from attnbench.workload import Workload

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("comfy_kitchen") is not None, reason="the stand-in would be mixed with the real package"
)

NUMBERS = itertools.count()
BACKEND = "comfy_kitchen_int8"
WORKLOAD = Workload("w", 1, 64, 2, 64, "bf16")
PACKAGE = """
import torch
from torch.nn.functional import scaled_dot_product_attention

calls = []
is_built = True

class registry:
    @staticmethod
    def list_backends():
        reason = "Failed to load extension: libcuda.so.1: cannot open\\nshared object file"
        return {"eager": {"unavailable_reason": None}, "cuda": {"unavailable_reason": None if is_built else reason}}

def int8_attention_is_available(device=None):
    return is_built

@torch.library.custom_op("STAND_IN::int8_attention", mutates_args=())
def _op(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    assert q.stride(-1) == k.stride(-1) == v.stride(-1) == 1
    assert v.shape == k.shape and q.shape[3] == k.shape[3] and q.shape[1] % k.shape[1] == 0
    grouped = q.shape[1] != k.shape[1]
    calls.append((q, k, v, mask))
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=grouped).contiguous()

@_op.register_fake
def _(q, k, v, mask):
    return q.new_empty(q.shape)

def int8_attention(q, k, v, *, scale=None, attn_mask=None):
    assert scale is None
    return _op(q, k, v, attn_mask)
"""
METADATA = {"comfy_kitchen-0.2.40.dist-info/METADATA": "Metadata-Version: 2.4\nName: comfy-kitchen\nVersion: 0.2.40\n"}


def files() -> dict[str, str]:
    """The package, with its operator under a name of its own each time: torch keeps operators."""
    return {"comfy_kitchen/__init__.py": PACKAGE.replace("STAND_IN", f"comfy_stand_in_{next(NUMBERS)}"), **METADATA}


def said(facts: Facts = H200, workload: Workload = WORKLOAD) -> list[str]:
    return [reason.text for reason in unmet(all_backends()[BACKEND].requirements, facts, workload)]


def test_it_is_registered_with_a_class_of_tolerance_of_its_own():
    backend = all_backends()[BACKEND]
    assert comfy_kitchen in FAMILIES
    assert (backend.family, backend.layout, backend.tolerance) == ("comfy-kitchen", "bhsd", "int8")
    assert backend.modes == MODES


@pytest.mark.parametrize(
    "text",
    [
        "1x48x2x64:bf16",
        "2x24/48x2x32:fp16",
        "1x48x4/2x64:bf16",
        "3x24/40x2x32:bf16:padding=40+13+1",
        "1x24/40x2x32:bf16:bool",
        "2x24x4/2x32:fp32:additive",
        "2x24/40x4/2x32:fp16:bhsd",
    ],
)
def test_what_a_workload_asks_for_reaches_the_library(text, stand_in):
    stand_in(files())
    assert {*spelt(text).features} <= {*all_backends()[BACKEND].takes}
    assert_is_attention(BACKEND, spelt(text))


def test_the_library_gets_heads_first_and_nothing_is_copied(stand_in):
    stand_in(files())
    tensors = qkv()
    attention = in_common_layout(all_backends()[BACKEND].load(WORKLOAD), "bhsd")
    output = attention(*tensors)
    [(q, k, v, mask)] = sys.modules["comfy_kitchen"].calls
    assert [x.data_ptr() for x in (q, k, v)] == [x.data_ptr() for x in tensors]
    assert [tuple(x.shape) for x in (q, k, v)] == [(1, 2, 64, 64)] * 3
    assert mask is None
    assert output.shape == (1, 64, 2, 64)


def test_a_mask_of_padded_keys_is_one_row_that_all_queries_share(stand_in):
    """Which the library has a faster path for than for a whole matrix."""
    stand_in(files())
    workload = spelt("2x24/40x2x64:bf16:padding=40+13")
    in_common_layout(all_backends()[BACKEND].load(workload), "bhsd")(*tensors_of(workload))
    [(*_, mask)] = sys.modules["comfy_kitchen"].calls
    assert (tuple(mask.shape), mask.dtype) == ((2, 1, 1, 40), torch.bool)
    assert mask.sum(-1).flatten().tolist() == [40, 13]


def test_it_is_traced_whole_by_torch_compile(stand_in):
    stand_in(files())
    torch.compiler.reset()
    attention = in_common_layout(all_backends()[BACKEND].load(WORKLOAD), "bhsd")
    compiled = torch.compile(attention, fullgraph=True, dynamic=False, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(*qkv()), attention(*qkv()))


def test_an_extension_that_does_not_load_is_unsupported_in_its_own_words(stand_in):
    stand_in(files())
    refuses = all_backends()[BACKEND].refuses
    assert refuses(WORKLOAD, "cuda") == ()
    sys.modules["comfy_kitchen"].is_built = False
    cause = "Failed to load extension: libcuda.so.1: cannot open shared object file"
    assert refuses(WORKLOAD, "cuda") == (
        f"needs comfy-kitchen's compiled extension for this GPU, found none ({cause})",
    )
    assert refuses(WORKLOAD, "cpu") == ()


def test_what_is_lacking_is_said_at_once(stand_in):
    missing = "package 'comfy_kitchen' is not installed (pip install comfy-kitchen)"
    assert said(Facts("cuda", "Tesla V100", (7, 0), (2, 13)), Workload("w", 1, 64, 2, 264)) == [
        missing,
        "needs sm_75 or newer, found sm_70 (Tesla V100)",
        "needs head_dim at most 256, found 264",
    ]
    assert said(CPU) == [missing, "needs device cuda, found cpu"]
    older = {"comfy_kitchen/__init__.py": "def sol_attn(): ...\n"}
    stand_in(older | {name: text.replace("0.2.40", "0.1.0") for name, text in METADATA.items()})
    assert said() == [
        "needs the function int8_attention, found comfy_kitchen 0.1.0 without it (pip install comfy-kitchen)"
    ]
    assert "comfy_kitchen" not in sys.modules  # nothing was imported to find out


@pytest.mark.parametrize("text", ["1x48x2x64:bf16:causal", "1x24x2x64:bf16:packed=11+13", "1x24x2x64:bf16:bwd"])
def test_what_it_has_no_argument_for_is_unsupported(text, stand_in):
    stand_in(files())
    (reason,) = said(workload=spelt(text))
    assert reason.startswith("needs ")
    assert "found a backend for plain forward attention, cross lengths, grouped heads" in reason


def test_it_is_known_by_its_kernel_and_by_no_other():
    """The beginning of the name is that of the wheel's symbols."""
    backend = all_backends()[BACKEND]
    steps = (
        DeviceOp("void (anonymous namespace)::quant_qk_fused<__nv_bfloat16, 4, 16, 128>", duration_s=1e-5),
        DeviceOp("void qk_int_sv_i8_attn_kernel<128u, 128u, 16u, 128u, 128u, (DataType)1>", duration_s=3e-4),
    )
    assert wrong_route(backend, "cuda", steps) == ()
    assert kernel_s(backend, "cuda", steps) == 3e-4
    sage = (DeviceOp("void qk_int_sv_f16_attn_kernel<128u, 64u, 32u, 64u, 128u, (DataType)0>"),)
    flash = (DeviceOp("void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits>"),)
    assert [reason.code for reason in wrong_route(backend, "cuda", sage)] == ["wrong-route"]
    assert [reason.code for reason in wrong_route(backend, "cuda", flash)] == ["wrong-route", "replaced"]
