"""The cuDNN frontend against a stand-in: the names and signatures of 1.32, and SDPA in the place of cuDNN."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch
from adapters import H200, assert_is_attention, expected, spelt, tensors_of

from attnbench.backends import cudnn_frontend
from attnbench.backends.families import FAMILIES
from attnbench.backends.registry import all_backends
from attnbench.backends.requirements import unmet
from attnbench.backends.variant import Variant, in_common_layout
from attnbench.checks.route import wrong_route
from attnbench.hardware.facts import Facts
from attnbench.model import DeviceOp
from attnbench.workload import Workload

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("cudnn") is not None, reason="the stand-in would be mixed with the real package"
)

WORKLOAD = Workload("w", 2, 64, 3, 32, "fp16")
MISSING = "package 'nvidia-cudnn-frontend' is not installed (pip install nvidia-cudnn-frontend)"

CUDNN = """
from enum import Enum

import torch
from torch.nn.functional import scaled_dot_product_attention

version = 91900
MARK = 7.0  # that stands for the statistics of the forward pass
said = []  # in the order in which it was done
refusal = None

data_type = Enum("data_type", "NOT_SET FLOAT HALF BFLOAT16 INT32 FP8_E4M3")
heur_mode = Enum("heur_mode", "A B FALLBACK OPENSOURCE")

class cudnnGraphNotSupportedError(Exception):
    pass

def backend_version():
    return version

def create_handle():
    said.append("create_handle")
    return "a handle"

def set_stream(handle, stream):
    said.append((handle, stream))

class Tensor:
    def __init__(self, dim=None, stride=None, data_type=None):
        self.dim, self.stride, self.data_type, self.is_virtual = dim, stride, data_type, dim is None

    def set_output(self, value):
        self.is_virtual = not value
        return self

    def set_dim(self, dim):
        self.dim = dim
        return self

    def set_stride(self, stride):
        self.stride = stride
        return self

    def set_data_type(self, data_type):
        self.data_type = data_type
        return self

class pygraph:
    def __init__(self, name="test_graph", io_data_type=None, intermediate_data_type=None, compute_data_type=None,
                 handle=None, sm_count=None, sm_version=None, kernel_cache=None, device_property=None,
                 is_dynamic_shape_enabled=False, is_override_shape_enabled=False, cuda_graph_retention=None, *,
                 is_cuda_graph_replay_expected=False):
        assert (intermediate_data_type, compute_data_type) == (data_type.FLOAT, data_type.FLOAT)
        self.io_data_type, self.handle = io_data_type, handle

    def tensor(self, dim, stride=None, data_type=None, is_virtual=False, is_pass_by_value=False, ragged_offset=None,
               reordering_type=None, name="", uid=None, ragged_offset_multiplier=1, alignment_value=1):
        return Tensor(dim, stride, data_type)

    def sdpa(self, q, k, v, *, attn_scale=None, bias=None, use_padding_mask=False, seq_len_q=None, seq_len_kv=None,
             use_causal_mask=False, use_causal_mask_bottom_right=False, generate_stats=None, name=""):
        assert not (use_causal_mask and use_causal_mask_bottom_right)
        self.bias, self.lengths = bias, (seq_len_q, seq_len_kv) if use_padding_mask else None
        self.causal = use_causal_mask or use_causal_mask_bottom_right
        self.from_the_end = use_causal_mask_bottom_right
        self.q, self.k, self.v, self.scale, self.o = q, k, v, attn_scale, Tensor()
        self.scales = self.gradients = None
        self.stats = Tensor() if generate_stats else None
        return [self.o, self.stats]

    def sdpa_backward(self, q, k, v, o, dO, stats, *, attn_scale=None, name="", **mask):
        self.sdpa(q, k, v, attn_scale=attn_scale, **mask)
        self.saved, self.gradients = (o, dO, stats), [Tensor() for _ in range(3)]
        self.o = self.gradients[0]
        return self.gradients

    def sdpa_fp8(self, q, k, v, descale_q, descale_k, descale_v, descale_s, scale_s, scale_o, *, attn_scale=None, **options):
        assert self.io_data_type == data_type.FP8_E4M3
        self.sdpa(q, k, v, attn_scale=attn_scale, **options)
        self.scales = [descale_q, descale_k, descale_v, scale_s, descale_s, scale_o]
        self.largest = [Tensor(), Tensor()]
        return [self.o, None, *self.largest]

    def validate(self):
        assert not self.o.is_virtual
        if self.scales is not None:
            assert [(one.is_virtual, one.data_type) for one in self.largest] == [(False, data_type.FLOAT)] * 2
        said.append("validate")

    def build_operation_graph(self):
        said.append("build_operation_graph")

    def create_execution_plans(self, heuristics=None):
        assert heuristics == [heur_mode.A, heur_mode.FALLBACK]
        said.append("create_execution_plans")
        if refusal is not None:
            raise cudnnGraphNotSupportedError(refusal)

    def check_support(self):
        said.append("check_support")

    def build_plans(self):
        said.append("build_plans")

    def get_workspace_size(self, handle=None):
        return 0

    def execute(self, tensor_dict, workspace=None, handle=None):
        said.append("execute")
        assert handle == self.handle == "a handle"
        assert workspace.is_contiguous() and workspace.element_size() == 1 and workspace.numel() > 0
        for declared, given in tensor_dict.items():
            assert (declared.dim, declared.stride) == (list(given.shape), list(given.stride()))
            dtypes = {data_type.HALF: torch.float16, data_type.BFLOAT16: torch.bfloat16, data_type.INT32: torch.int32}
            dtypes |= {data_type.FLOAT: torch.float32, data_type.FP8_E4M3: torch.float8_e4m3fn}
            assert given.dtype == dtypes[declared.data_type or self.io_data_type]
        q, k, v = (tensor_dict[x] for x in (self.q, self.k, self.v))
        rows, keys = q.shape[2], k.shape[2]
        mask = None if self.bias is None else tensor_dict[self.bias]
        if self.causal:
            mask = torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows if self.from_the_end else 0)
        if self.lengths is not None:
            queries, lengths = (tensor_dict[x] for x in self.lengths)
            assert queries.flatten().tolist() == [rows] * len(q)
            mask = torch.arange(keys) < lengths
        grouped = q.shape[1] != k.shape[1]
        if self.gradients is not None:
            o, dO, stats = (tensor_dict[x] for x in self.saved)
            with torch.enable_grad():
                given = [x.detach().requires_grad_() for x in (q, k, v)]
                again = scaled_dot_product_attention(*given, attn_mask=mask, scale=self.scale, enable_gqa=grouped)
                torch.testing.assert_close(o, again.detach(), atol=2e-2, rtol=2e-2)
                assert (stats == MARK).all()
                found = torch.autograd.grad(again, given, dO)
            for declared, gradient in zip(self.gradients, found):
                tensor_dict[declared].copy_(gradient)
            return
        if self.stats is not None:
            tensor_dict[self.stats].fill_(MARK)
        scale_o = 1.0
        if self.scales is not None:
            of_q, of_k, of_v, scale_s, descale_s, scale_o = (tensor_dict[x] for x in self.scales)
            assert scale_s == 448 and scale_s * descale_s == 1
            q, k, v = (x.float() * of for x, of in ((q, of_q), (k, of_k), (v, of_v)))
            said.append("descaled")
        output = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale, enable_gqa=grouped)
        tensor_dict[self.o].copy_((output * scale_o).to(tensor_dict[self.o].dtype))
"""
FILES = {
    "cudnn/__init__.py": CUDNN,
    "nvidia_cudnn_frontend-1.32.0.dist-info/METADATA": (
        "Metadata-Version: 2.4\nName: nvidia-cudnn-frontend\nVersion: 1.32.0\n"
    ),
}


@pytest.fixture
def cudnn(stand_in, monkeypatch):
    """The stand-in, beside a torch that has cuDNN 9.19.0 and a current stream."""
    stand_in(FILES)
    cudnn_frontend._handle.cache_clear()
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=7))
    import cudnn

    yield cudnn
    cudnn_frontend._handle.cache_clear()


def qkv(workload: Workload) -> list[torch.Tensor]:
    """Contiguous `[batch, seq, heads, head_dim]`, as every backend gets them."""
    torch.manual_seed(0)
    shape = (workload.batch, workload.seq, workload.heads, workload.head_dim)
    dtype = torch.bfloat16 if workload.dtype == "bf16" else torch.float16
    return [torch.randn(shape, dtype=dtype) for _ in range(3)]


def call(workload: Workload = WORKLOAD):
    return Variant(all_backends()["cudnn_frontend"], "eager").load(workload, ExitStack())


@pytest.mark.parametrize("workload", [WORKLOAD, Workload("w", 1, 48, 4, 64, "bf16")], ids=lambda w: w.spelt)
def test_tensors_reach_the_graph_without_a_copy_and_the_output_is_the_attention(workload, cudnn, monkeypatch):
    for copies in ("contiguous", "clone"):
        monkeypatch.setattr(torch.Tensor, copies, None)
    attention, tensors = call(workload), qkv(workload)
    output = attention(*tensors)
    torch.testing.assert_close(output, expected(*tensors))
    assert output.is_contiguous()


@pytest.mark.parametrize(
    "text",
    [
        "2x48x2x32:bf16:causal",
        "1x24/48x2x32:bf16:causal",
        "2x24/48x4/2x32:fp16",
        "2x24x2x32/64:fp16",
        "2x24/40x2x32:bf16:padding=40+13",
        "1x24/40x2x32:bf16:additive",
        "2x24/40x4/2x32:fp16:bhsd",
        "1x48x2x32:bf16:bwd",
        "2x48x4/2x32:fp16:causal:fwdbwd",
        "2x24/40x2x32:bf16:padding=40+13:bwd",
        "1x24/40x2x32:bf16:additive:bwd",
        "2x24/40x2x32/64:fp16:bhsd:bwd",
    ],
)
def test_what_a_workload_asks_for_reaches_the_graph(text, cudnn):
    workload = spelt(text)
    assert {*workload.features} <= {*all_backends()["cudnn_frontend"].takes}
    assert_is_attention("cudnn_frontend", workload)


FP8 = "cudnn_frontend_fp8"


@pytest.mark.parametrize(
    "text",
    [
        "2x48x2x32:bf16:causal",
        "1x24/48x2x32:bf16:causal",
        "2x24/48x4/2x32:fp16",
        "2x24x2x32/64:fp16",
        "2x24/40x2x32:bf16:padding=40+13",
        "2x24/40x4/2x32:fp16:bhsd",
    ],
)
def test_in_e4m3_each_tensor_has_its_scale_and_the_output_that_of_v(text, cudnn):
    workload = spelt(text)
    assert {*workload.features} <= {*all_backends()[FP8].takes}
    given = tensors_of(workload)
    given = [x * factor for x, factor in zip(given, (0.25, 4.0, 3000.0), strict=True)]  # e4m3 does not reach so far
    output = in_common_layout(all_backends()[FP8].load(workload), "bhsd")(*given)
    right = all_backends()["numpy"].load(workload)(*given)
    assert (output.dtype, output.shape) == (given[0].dtype, workload.shape)
    torch.testing.assert_close(output, right, rtol=0.13, atol=0.1 * float(right.abs().max()))
    assert cudnn.said[-2:] == ["execute", "descaled"]
    refuses = all_backends()[FP8].refuses
    assert refuses(workload, "cuda") == ()
    cudnn.refusal = "sdpa fp8 forward is not supported"
    assert refuses(workload, "cuda") == ("sdpa fp8 forward is not supported",)


def test_in_e4m3_it_needs_hopper_and_has_a_class_of_tolerance_of_its_own(stand_in):
    stand_in(FILES)
    ampere = Facts("cuda", "NVIDIA A100", (8, 0), (2, 13))
    workload = Workload("w", 1, 64, 2, 72, "bf16")
    assert [reason.text for reason in unmet(all_backends()[FP8].requires, ampere, workload)] == [
        "needs sm_90 or newer, found sm_80 (NVIDIA A100)",
        "needs head_dim a multiple of 16, found 72",
    ]
    assert all_backends()[FP8].tolerance == "fp8-output"


def test_the_graph_is_built_once_and_before_the_call(cudnn):
    attention, tensors = call(), qkv(WORKLOAD)
    built = ["validate", "build_operation_graph", "create_execution_plans", "check_support", "build_plans"]
    assert cudnn.said == ["create_handle", *built]
    cudnn.said.clear()
    attention(*tensors)
    attention(*tensors)
    assert cudnn.said == [("a handle", 7), "execute"] * 2


def test_gradients_have_a_graph_of_their_own_that_is_built_before_the_call_too(cudnn):
    workload = spelt("1x48x2x32:bf16:bwd")
    attention, given = call(workload), tensors_of(workload)
    assert cudnn.said.count("build_plans") == 2
    cudnn.said.clear()
    output = attention(*given)
    assert cudnn.said == [("a handle", 7), "execute"]
    output.sum().backward()  # whose gradient is one number, expanded: the graph reads whole tensors
    assert cudnn.said == [("a handle", 7), "execute"] * 2
    assert all(x.grad is not None for x in given)


def test_a_backward_pass_without_a_plan_is_unsupported(cudnn, monkeypatch):
    workload = spelt("1x48x2x32:bf16:bwd")
    refuses = all_backends()["cudnn_frontend"].refuses
    assert refuses(workload, "cuda") == ()

    def refused(*given, **options):
        raise cudnn.cudnnGraphNotSupportedError("no backward plan")

    monkeypatch.setattr(cudnn.pygraph, "sdpa_backward", refused)
    assert refuses(workload, "cuda") == ("no backward plan",)
    assert refuses(spelt("1x48x2x32:bf16"), "cuda") == ()


def test_every_call_returns_memory_of_its_own(cudnn):
    attention, tensors = call(), qkv(WORKLOAD)
    first, second = attention(*tensors), attention(*tensors)
    assert first.data_ptr() != second.data_ptr()


def test_a_call_runs_on_the_stream_that_is_current_then(cudnn, monkeypatch):
    attention, tensors = call(), qkv(WORKLOAD)
    cudnn.said.clear()
    for stream in (3, 4):
        monkeypatch.setattr(torch.cuda, "current_stream", lambda stream=stream: SimpleNamespace(cuda_stream=stream))
        attention(*tensors)
    assert cudnn.said == [("a handle", 3), "execute", ("a handle", 4), "execute"]


def test_all_cases_share_one_handle(cudnn):
    for workload in (WORKLOAD, Workload("w", 1, 48, 4, 64, "bf16")):
        assert all_backends()["cudnn_frontend"].refuses(workload, "cuda") == ()
        call(workload)
    assert cudnn.said.count("create_handle") == 1


def test_what_cudnn_refuses_is_said_in_its_own_words_and_on_one_line(cudnn):
    cudnn.refusal = "no engine proposed a plan\n  for this graph"
    refuses = all_backends()["cudnn_frontend"].refuses
    assert refuses(WORKLOAD, "cuda") == ("no engine proposed a plan for this graph",)
    assert refuses(WORKLOAD, "cpu") == ()


def test_another_cudnn_than_torchs_is_an_error_that_says_both(cudnn):
    cudnn.version = 90801
    with pytest.raises(
        RuntimeError, match=r"loaded cuDNN 9\.8\.1, needed 9\.19\.0, which torch uses: .*LD_LIBRARY_PATH"
    ):
        call()
    assert cudnn.said == []


@pytest.mark.parametrize(
    ("installed", "facts", "workload", "reasons"),
    [
        (True, H200, WORKLOAD, []),
        (
            False,
            Facts("cuda", "Tesla T4", (7, 5), (2, 13)),
            Workload("w", 1, 64, 2, 100, "fp32"),
            [
                MISSING,
                "needs sm_80 or newer, found sm_75 (Tesla T4)",
                "needs dtype bf16 or fp16, found fp32",
                "needs head_dim a multiple of 8, found 100",
            ],
        ),
        (False, Facts("cpu", "A CPU", None, (2, 13)), WORKLOAD, [MISSING, "needs device cuda, found cpu"]),
    ],
)
def test_what_is_lacking_is_said_at_once(installed, facts, workload, reasons, stand_in):
    stand_in(FILES if installed else {"cudnn/README": "a folder of this name is no package of NVIDIA's"})
    assert [reason.text for reason in unmet(all_backends()["cudnn_frontend"].requires, facts, workload)] == reasons


@pytest.mark.parametrize(
    ("ran", "codes"),
    [
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_64x128x128_4x1x1_kernel0_0", []),
        ("void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits>", ["wrong-route", "replaced"]),
        ("void flash::flash_fwd_kernel<Flash_fwd_kernel_traits>", ["wrong-route", "replaced"]),
        ("fmha_cutlassF_bf16_aligned_64x128_rf_sm80", ["wrong-route", "replaced"]),
        ("void at::native::elementwise_kernel", ["wrong-route"]),
    ],
)
def test_it_is_known_by_cudnns_kernels(ran, codes):
    found = wrong_route(all_backends()["cudnn_frontend"], "cuda", (DeviceOp(ran),))
    assert [reason.code for reason in found] == codes


def test_it_is_registered_eager_only():
    assert cudnn_frontend in FAMILIES
    assert all_backends()["cudnn_frontend"].modes == all_backends()[FP8].modes == ("eager",)
