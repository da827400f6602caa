"""The Transformer Engine family against a stand-in: the files, names and signatures of 2.20.2, and SDPA inside.

What it has of the real one beside these: the choice is made from the variables when the parameters have changed or the flag
is set, is kept otherwise, and says at level 2 what it ruled out.
"""

from __future__ import annotations

import functools
import os
import sys
from contextlib import ExitStack

import pytest
import torch
from adapters import CPU, H200, assert_is_attention, expected, qkv, spelt, tensors_of

from attnbench.backends import transformer_engine
from attnbench.backends.families import FAMILIES
from attnbench.backends.registry import all_backends, loaded
from attnbench.backends.requirements import unmet
from attnbench.backends.variant import Variant
from attnbench.checks.route import wrong_route
from attnbench.hardware.facts import Facts, installed_version
from attnbench.model import MODES, DeviceOp
from attnbench.workload import Workload

pytestmark = pytest.mark.skipif(
    installed_version("transformer-engine") is not None, reason="the stand-in would be mixed with the real package"
)

WORKLOAD = Workload("w", 1, 64, 2, 64, "bf16")
NAMES = {"te_fused": "FusedAttention", "te_flash": "FlashAttention", "te_unfused": "UnfusedDotProductAttention"}
VARIABLES = ("NVTE_FLASH_ATTN", "NVTE_FUSED_ATTN", "NVTE_UNFUSED_ATTN")
MISSING, NO_EXTENSION = (
    f"package {name!r} is not installed (pip install 'transformer-engine[pytorch]')"
    for name in ("transformer-engine", "transformer-engine-torch")
)

UTILS = """
import logging
import os
from dataclasses import dataclass
from typing import Any, Tuple, Union

import torch


class AttentionLogging:
    _log_level = logging.WARNING


class FlashAttentionUtils:
    is_installed = True
    version_required = "2.1.1"
    version_required_blackwell = "2.7.3"
    max_version = "2.8.4"
    v3_is_installed = False
    v4_is_installed = False


@dataclass(eq=True)
class AttentionParams:
    qkv_type: Any = torch.Tensor
    qkv_dtype: torch.dtype = torch.bfloat16
    qkv_layout: str = "sbh3d"
    batch_size: int = 1
    num_heads: int = 16
    num_gqa_groups: int = 16
    max_seqlen_q: int = 128
    max_seqlen_kv: int = 128
    head_dim_qk: int = 64
    head_dim_v: int = 64
    attn_mask_type: str = "no_mask"
    window_size: Union[Tuple[int, int], None] = None
    attention_dropout: float = 0.0
    is_training: bool = True
    fp8: bool = False
    fp8_meta: Any = None
    softmax_scale: float = 1.0


fused_rejected = ""
asked = []


def get_attention_backend(attention_params: AttentionParams = None):
    if torch.compiler.is_compiling():
        raise NotImplementedError  # so dynamo of torch 2.11 ends, in the real one
    asked.append(attention_params)
    logger = logging.getLogger("DotProductAttention")
    logger.setLevel(AttentionLogging._log_level)
    use_flash_attention = int(os.environ.get("NVTE_FLASH_ATTN", "1"))
    use_fused_attention = int(os.environ.get("NVTE_FUSED_ATTN", "1"))
    use_unfused_attention = int(os.environ.get("NVTE_UNFUSED_ATTN", "1"))
    if not use_flash_attention:
        logger.debug("Disabling FlashAttention 2 due to NVTE_FLASH_ATTN=0 or NVTE_FLASH_ATTN_V2=0")
    if not use_fused_attention:
        logger.debug("Disabling FusedAttention due to NVTE_FUSED_ATTN=0")
    if not use_unfused_attention:
        logger.debug("Disabling UnfusedDotProductAttention due to NVTE_UNFUSED_ATTN=0")
    if attention_params.fp8 and attention_params.fp8_meta["recipe"].fp8_dpa:
        logger.debug("Disabling FlashAttention 2 for FP8 attention")
        logger.debug("Disabling UnfusedDotProductAttention for FP8 attention")
        use_flash_attention = use_unfused_attention = 0
    if use_flash_attention and attention_params.head_dim_qk > 256:
        logger.debug("Disabling FlashAttention 2 due to unsupported head_dim_qk. Found: %s.", attention_params.head_dim_qk)
        use_flash_attention = False
    if use_fused_attention and fused_rejected:
        logger.debug("Disabling FusedAttention: %s%s", fused_rejected, "")
        use_fused_attention = False
    use_flash_attention = use_flash_attention and FlashAttentionUtils.is_installed
    available_backends = [use_flash_attention, use_fused_attention, use_unfused_attention]
    if use_fused_attention:
        use_flash_attention = False  # preferred on Hopper and newer
    if use_flash_attention or use_fused_attention:
        use_unfused_attention = False
    return use_flash_attention, "2.8.3", use_fused_attention, 1, use_unfused_attention, available_backends
"""
MODULE = """
import torch
from torch.nn.functional import scaled_dot_product_attention

from transformer_engine.pytorch.quantization import autocast

from . import utils as dpa_utils

__all__ = ["DotProductAttention", "_attention_backends"]

_attention_backends = {
    "attention_params": None,
    "use_flash_attention": None,
    "use_fused_attention": None,
    "use_unfused_attention": None,
    "backend_selection_requires_update": False,
}
ran = []


class DotProductAttention(torch.nn.Module):
    def __init__(
        self,
        num_attention_heads,
        kv_channels,
        num_gqa_groups=None,
        attention_dropout=0.0,
        qkv_format="sbhd",
        attn_mask_type="causal",
        window_size=None,
        attention_type="self",
    ):
        super().__init__()
        assert qkv_format == "bshd"
        self.dropout = attention_dropout
        self.heads, self.groups = num_attention_heads, num_gqa_groups or num_attention_heads
        self.head_dims = kv_channels if isinstance(kv_channels, tuple) else (kv_channels, kv_channels)
        self.mask_type, self.attention_type = attn_mask_type, attention_type

    def forward(self, query_layer=None, key_layer=None, value_layer=None, attention_mask=None, qkv_format=None,
                cu_seqlens_q=None, cu_seqlens_kv=None):
        batch, seq, heads, head_dim = query_layer.shape
        keys, (groups, head_dim_v) = key_layer.shape[1], value_layer.shape[2:]
        assert (heads, groups, (head_dim, head_dim_v)) == (self.heads, self.groups, self.head_dims)
        params = dpa_utils.AttentionParams(
            torch.Tensor, query_layer.dtype, "bshd_bshd_bshd", batch, heads, groups, seq, keys, head_dim, head_dim_v,
            self.mask_type, attention_dropout=self.dropout, is_training=self.training, fp8=autocast.recipe is not None,
            fp8_meta=autocast.recipe and {"recipe": autocast.recipe},
        )
        if _attention_backends["attention_params"] is None or params != _attention_backends["attention_params"]:
            _attention_backends["attention_params"] = params
            _attention_backends["backend_selection_requires_update"] = True
        if _attention_backends["backend_selection_requires_update"]:
            flash, _, fused, _, unfused, _ = dpa_utils.get_attention_backend(params)
            _attention_backends["use_flash_attention"] = flash
            _attention_backends["use_fused_attention"] = fused
            _attention_backends["use_unfused_attention"] = unfused
            _attention_backends["backend_selection_requires_update"] = False
        chosen = [name for name in ("flash", "fused", "unfused") if _attention_backends[f"use_{name}_attention"]]
        if not chosen:
            raise ValueError("No dot product attention backend is available for the provided inputs.")
        ran.append((chosen[0] + (" in fp8" if params.fp8 else ""), self.training))
        mask = None
        if self.mask_type.startswith("causal"):
            shift = keys - seq if self.mask_type == "causal_bottom_right" else 0
            mask = torch.ones(seq, keys, dtype=torch.bool).tril(shift)
        if self.mask_type == "padding":
            assert cu_seqlens_q.dtype == cu_seqlens_kv.dtype == torch.int32
            assert cu_seqlens_q.diff().tolist() == [seq] * batch
            lengths = (cu_seqlens_q if self.attention_type == "self" else cu_seqlens_kv).diff()
            mask = (torch.arange(keys) < lengths[:, None])[:, None, None]
        tensors = (query_layer, key_layer, value_layer)
        if chosen[0] == "fused":  # takes tensors of equal strides for contiguous ones, as the real one does
            tensors = (x.as_strided(x.shape, torch.empty(x.shape, device="meta").stride()) for x in tensors)
        q, k, v = (x.transpose(1, 2) for x in tensors)
        if params.fp8:
            q, k, v = (x.to(torch.float8_e4m3fn).to(x.dtype) for x in (q, k, v))
        dropped = self.dropout if self.training else 0.0
        out = scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropped, enable_gqa=heads != groups)
        return out.transpose(1, 2).contiguous().view(batch, seq, -1)
"""
ATTENTION = "transformer_engine/pytorch/attention"
FILES = {
    "transformer_engine/__init__.py": "",
    "transformer_engine/common/__init__.py": "",
    "transformer_engine/common/recipe/__init__.py": """
from dataclasses import dataclass

@dataclass
class DelayedScaling:
    margin: int = 0
    amax_history_len: int = 1024
    fp8_dpa: bool = False
    fp8_mha: bool = False
""",
    "transformer_engine/pytorch/quantization.py": """
class autocast:
    recipe = None  # of the region that is entered

    def __init__(self, enabled=True, calibrating=False, recipe=None, amax_reduction_group=None, _graph=False):
        assert enabled
        self.asked = recipe

    def __enter__(self):
        assert autocast.recipe is None
        autocast.recipe = self.asked

    def __exit__(self, *cause):
        autocast.recipe = None
""",
    "transformer_engine/pytorch/__init__.py": """
import transformer_engine_torch
from transformer_engine.pytorch.quantization import autocast
from transformer_engine.pytorch.attention import DotProductAttention
""",
    f"{ATTENTION}/__init__.py": "from .dot_product_attention import DotProductAttention\n",
    f"{ATTENTION}/dot_product_attention/__init__.py": """
from .dot_product_attention import DotProductAttention, _attention_backends

__all__ = ["DotProductAttention", "_attention_backends"]
""",
    f"{ATTENTION}/dot_product_attention/utils.py": UTILS,
    f"{ATTENTION}/dot_product_attention/dot_product_attention.py": MODULE,
    "transformer_engine_torch.py": "version = 91900\ndef get_cudnn_version(): return version\n",
}


@pytest.fixture(autouse=True)
def _as_the_process_was_started(monkeypatch):
    for name in (*VARIABLES, "CUDNN_HOME", "CUDNN_PATH", "LD_LIBRARY_PATH", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))


def part(name: str = ""):
    """A module of the stand-in's attention."""
    return sys.modules[".".join(filter(None, (*ATTENTION.split("/"), "dot_product_attention", name)))]


def ran() -> list[tuple[str, bool]]:
    return part("dot_product_attention").ran


def refused(backend: str, workload: Workload = WORKLOAD) -> tuple[str, ...]:
    return all_backends()[backend].refuses(workload, "cuda")


def test_each_backend_runs_its_own_implementation_after_another_one(stand_in):
    stand_in(FILES)
    tensors = qkv()
    for name in (*NAMES, *reversed(NAMES)):
        with loaded(all_backends()[name], WORKLOAD) as attention:
            torch.testing.assert_close(attention(*tensors), expected(*tensors))
            attention(*tensors)
    in_turn = ["fused", "flash", "unfused", "unfused", "flash", "fused"]
    assert ran() == [(name, False) for name in in_turn for _ in range(2)], "and for inference"
    assert len(part("utils").asked) == 6, "chosen once a case, and not in every call"


@pytest.mark.parametrize("text", ["1x48x2x64:bf16:dropout=0.25", "1x48x2x64:bf16:dropout=0.25:bwd"])
@pytest.mark.parametrize("name", NAMES)
def test_dropout_reaches_the_module_which_is_in_training_for_it(name, text, stand_in):
    stand_in(FILES)
    workload = spelt(text)
    assert {*workload.features} <= {*all_backends()[name].takes}
    given = tensors_of(workload)
    with loaded(all_backends()[name], workload) as attention:
        outputs = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            outputs.append(attention(*given))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    assert refused(name, workload) == ()
    chosen, asked = part("utils").asked
    assert (asked.attention_dropout, asked.is_training) == (0.25, True)
    assert chosen == asked, "the library is asked about what then runs"


def test_in_e4m3_every_call_enters_the_recipe_and_is_held_to_cudnn(stand_in):
    stand_in(FILES)
    tensors = qkv()
    rounded = [x.to(torch.float8_e4m3fn).to(x.dtype) for x in tensors]
    for name, asked, right in (("te_fp8", rounded, " in fp8"), ("te_fused", tensors, "")):
        with loaded(all_backends()[name], WORKLOAD) as attention:
            for _ in range(2):
                torch.testing.assert_close(attention(*tensors), expected(*asked))
        assert ran()[-2:] == [(f"fused{right}", False)] * 2
    assert sys.modules["transformer_engine.pytorch.quantization"].autocast.recipe is None
    fp8, fused = part("utils").asked
    assert (fp8.fp8, fp8.fp8_meta["recipe"].fp8_dpa, fp8.is_training) == (True, True, False)
    assert not fused.fp8


def test_in_e4m3_the_library_is_asked_about_what_then_runs(stand_in):
    stand_in(FILES)
    workload = spelt("3x24/40x4/2x64:bf16:padding=40+13+1")
    assert {*workload.features} <= {*all_backends()["te_fp8"].takes}
    assert refused("te_fp8", workload) == ()
    with loaded(all_backends()["te_fp8"], workload) as attention:
        given = tensors_of(workload)
        right = all_backends()["numpy"].load(workload)(*given)
        torch.testing.assert_close(attention(*given), right, atol=0.15, rtol=0.1)
    chosen, asked = part("utils").asked
    assert chosen == asked
    part("utils").fused_rejected = "FP8 current scaling on arch < sm100"
    assert refused("te_fp8", workload) == ("Disabling FusedAttention: FP8 current scaling on arch < sm100",)


def test_in_e4m3_it_needs_hopper_and_has_a_class_of_tolerance_of_its_own():
    ampere = Facts("cuda", "NVIDIA A100", (8, 0), (2, 13))
    workload = Workload("w", 1, 64, 2, 72, "bf16")
    assert [reason.text for reason in unmet(all_backends()["te_fp8"].requires, ampere, workload)] == [
        MISSING,
        NO_EXTENSION,
        "needs sm_90 or newer, found sm_80 (NVIDIA A100)",
        "needs head_dim a multiple of 16, found 72",
    ]
    assert (all_backends()["te_fp8"].tolerance, all_backends()["te_fp8"].modes) == ("fp8-output-unscaled", ("eager",))


def test_before_and_after_a_case_the_choice_is_the_users_own(stand_in, monkeypatch):
    stand_in(FILES)
    monkeypatch.setenv("NVTE_FUSED_ATTN", "0")
    before = dict(os.environ)
    from transformer_engine.pytorch import DotProductAttention

    own = DotProductAttention(2, 64, qkv_format="bshd", attn_mask_type="no_mask").eval()
    own(*qkv())
    with loaded(all_backends()["te_unfused"], WORKLOAD) as attention:
        attention(*qkv())
        assert [os.environ[name] for name in VARIABLES] == ["0", "0", "1"]
    assert dict(os.environ) == before
    own(*qkv())
    assert [name for name, _ in ran()] == ["flash", "unfused", "flash"]


def test_a_compiled_call_runs_the_implementation_too(stand_in, monkeypatch):
    stand_in(FILES)
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    tensors = qkv()
    with ExitStack() as until, torch.no_grad():
        variant = Variant(all_backends()["te_flash"], "default")
        assert variant.backend.eager_first
        attention = variant.load(WORKLOAD, until)
        attention(*tensors)
        compiled = variant.compiled(attention)
        torch.testing.assert_close(compiled(*tensors), expected(*tensors))
    assert [name for name, _ in ran()] == ["flash", "flash"], "in eager mode first, where the choice is made"
    assert len(part("utils").asked) == 1


def test_what_was_loaded_is_said_with_both_versions(stand_in):
    metadata = "Metadata-Version: 2.4\nName: transformer_engine\nVersion: 2.20.2\n"
    stand_in({**FILES, "transformer_engine-2.20.2.dist-info/METADATA": metadata})
    with loaded(all_backends()["te_flash"], WORKLOAD):
        assert {all_backends()[name].source() for name in NAMES} == {"Transformer Engine 2.20.2, cuDNN 9.19.0"}


def test_what_it_can_run_it_does_not_refuse_and_asking_leaves_no_trace(stand_in):
    stand_in(FILES)
    before = dict(os.environ)
    assert [refused(name) for name in NAMES] == [()] * 3
    assert dict(os.environ) == before
    assert part("utils").AttentionLogging._log_level == 30
    asked = part("utils").asked[0]
    assert (asked.batch_size, asked.num_heads, asked.max_seqlen_q, asked.head_dim_qk) == (1, 2, 64, 64)
    assert (asked.qkv_layout, asked.attn_mask_type, asked.is_training) == ("bshd_bshd_bshd", "no_mask", False)


ASKED = {
    "2x48x2x64:bf16:causal": "causal",
    "1x24/48x2x64:bf16:causal": "causal_bottom_right",
    "2x24/48x4/2x64:bf16": "no_mask",
    "2x24x2x64/32:bf16": "no_mask",
    "3x24/40x2x64:bf16:padding=40+13+1": "padding",
    "2x24x2x64:bf16:padding=24+7": "padding",  # which self-attention would take for the lengths of the queries
    "1x48x4/2x64:bf16:causal:bwd": "causal",
    "1x48x2x64:bf16:fwdbwd": "no_mask",
    "1x48x3x64:bf16:bhsd": "no_mask",
}


@pytest.mark.parametrize("text", ASKED)
@pytest.mark.parametrize("name", NAMES)
def test_what_a_workload_asks_for_reaches_the_module_and_the_choice(name, text, stand_in):
    stand_in(FILES)
    workload = spelt(text)
    assert {*workload.features} <= {*all_backends()[name].takes}
    assert_is_attention(name, workload)
    assert refused(name, workload) == ()
    chosen, asked = part("utils").asked
    assert (chosen, chosen.attn_mask_type) == (asked, ASKED[text]), "the library is asked about what then runs"
    assert asked.is_training == (workload.direction != "forward")


REJECTED = "cuDNN Error: CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH"


@pytest.mark.parametrize("by_pip", [True, False])
def test_another_cudnn_than_torchs_is_named_with_the_cure(by_pip, stand_in, tmp_path):
    stand_in({**FILES, "nvidia/cudnn/lib/libcudnn.so.9": ""} if by_pip else FILES)
    assert refused("te_fused") == ()
    part("utils").fused_rejected = REJECTED
    sys.modules["transformer_engine_torch"].version = 90800
    where = tmp_path / "nvidia/cudnn" if by_pip else "the folder of torch's cuDNN, which pip has not installed"
    clash = (
        "needs cuDNN 9.19.0, which torch has, found 9.8.0, which Transformer Engine loaded: set CUDNN_HOME, CUDNN_PATH, "
        f"LD_LIBRARY_PATH and LD_PRELOAD to {where}, before Python starts"
    )
    assert refused("te_fused") == (clash, f"Disabling FusedAttention: {REJECTED}")
    assert refused("te_flash") == refused("te_unfused") == ()


def test_with_torchs_cudnn_only_its_own_reason_is_left(stand_in):
    stand_in(FILES)
    refused("te_fused")
    part("utils").fused_rejected = "head_dim 512 is not supported"
    assert refused("te_fused") == ("Disabling FusedAttention: head_dim 512 is not supported",)


@pytest.mark.parametrize(("capability", "oldest"), [((9, 0), "2.1.1"), ((10, 0), "2.7.3")])
def test_a_flash_attn_that_it_does_not_take_is_named_with_those_that_it_takes(
    capability, oldest, stand_in, monkeypatch
):
    metadata = "Metadata-Version: 2.4\nName: flash_attn\nVersion: 2.9.0\n"
    stand_in({**FILES, "flash_attn-2.9.0.dist-info/METADATA": metadata})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    assert refused("te_flash") == ()
    part("utils").FlashAttentionUtils.is_installed = False
    (reason,) = refused("te_flash")
    assert reason == (
        f"needs flash-attn >= {oldest}, < 2.8.4, or on sm_90 flash-attn-3, or from sm_90 on a flash-attn-4 that "
        "Transformer Engine can load; found flash-attn 2.9.0, flash-attn-3 not installed, flash-attn-4 not installed"
    )


def test_a_shape_that_flash_attn_does_not_take_is_refused_in_its_words(stand_in):
    stand_in(FILES)
    assert refused("te_flash", Workload("w", 1, 64, 2, 264)) == (
        "Disabling FlashAttention 2 due to unsupported head_dim_qk. Found: 264.",
    )


def test_a_package_that_fails_to_import_says_why_when_it_is_loaded_and_when_it_is_asked(stand_in):
    cause = "Found empty `transformer-engine` meta package installed."
    stand_in({**FILES, "transformer_engine/__init__.py": f"raise RuntimeError({cause!r})\n"})
    with pytest.raises(RuntimeError, match=cause), loaded(all_backends()["te_fused"], WORKLOAD):
        pass
    with pytest.raises(RuntimeError, match=cause):
        refused("te_fused")


def test_its_process_is_started_with_the_cudnn_that_pip_installed_for_torch(stand_in, tmp_path, monkeypatch):
    apart = all_backends()["te_fused"].own_process
    assert apart.unset() == {}, "torch may have the system's here, as Transformer Engine will"
    stand_in({f"nvidia/cudnn/lib/{name}": "" for name in ("libcudnn.so.9", "libcudnn_graph.so.9", "libother.so.1")})
    folder = tmp_path / "nvidia/cudnn"
    libraries = [f"{folder}/lib/libcudnn.so.9", f"{folder}/lib/libcudnn_graph.so.9"]
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
    monkeypatch.setenv("LD_PRELOAD", f"/opt/first.so {libraries[1]}")
    needed = {
        "CUDNN_HOME": str(folder),
        "CUDNN_PATH": str(folder),
        "LD_LIBRARY_PATH": f"{folder}/lib:/opt/lib",
        "LD_PRELOAD": ":".join([*libraries, "/opt/first.so"]),
    }
    assert apart.unset() == needed
    for name, value in needed.items():
        monkeypatch.setenv(name, value)
    assert apart.unset() == {}, "nothing is missing in a process that was started like this"


def test_the_family_is_apart_as_one_group_and_offers_the_modes_that_it_claims():
    assert transformer_engine in FAMILIES
    found = {name: b for name, b in all_backends().items() if b.family == "transformer-engine"}
    assert set(found) == {*NAMES, "te_fp8"}
    assert len({b.own_process for b in found.values()}) == 1
    assert {(found[name].modes, found[name].fullgraph) for name in NAMES} == {(MODES, False)}
    assert {b.layout for b in found.values()} == {"bshd"}


def said(backend: str, facts: Facts, workload: Workload = WORKLOAD) -> list[str]:
    return [reason.text for reason in unmet(all_backends()[backend].requires, facts, workload)]


def test_all_that_is_lacking_is_said_at_once(stand_in):
    assert said("te_flash", CPU, Workload("w", 1, 64, 2, 260, "fp32")) == [
        MISSING,
        NO_EXTENSION,
        "needs device cuda, found cpu",
        "needs dtype bf16 or fp16, found fp32",
        "needs head_dim a multiple of 8, at most 256, found 260",
    ]
    assert said("te_unfused", H200, Workload("w", 1, 64, 2, 260, "fp32")) == [MISSING, NO_EXTENSION]
    metadata = "Metadata-Version: 2.4\nName: transformer_engine\nVersion: 2.20.2\n"
    stand_in({"transformer_engine-2.20.2.dist-info/METADATA": metadata})
    assert said("te_fused", H200) == [NO_EXTENSION]
    stand_in(FILES)  # as a build from source leaves the extension, which pip does not know then
    assert said("te_fused", H200) == []


RAN = {
    "torch_flash": ["void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<128, 128, 64, 4>>"],
    "te_fused": ["cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_64x128x128_4x1x1_kernel0_0"],
    "te_flash": ["void flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4, false, false>>"],
    "te_flash, 3": ["void cutlass::device_kernel<flash::enable_sm90<flash::FlashAttnFwdSm90<flash::Collective>>>"],
    "te_flash, 4": ["kernel_cutlass_kernel_flash_attncuteflash_fwd_sm90FlashAttentionForwardSm90_object_at__tensor"],
    "te_unfused": ["nvjet_hsh_128x256_64x4_1x2_h_bz_NNT", "void scaled_softmax_warp_forward<__nv_bfloat16>"],
    "te_unfused, long": ["nvjet_hsh_128x256_64x4", "void at::native::(anonymous namespace)::cunn_SoftMaxForward<8>"],
    "te_unfused, compiled": ["triton_red_fused_softmax_1", "triton_bmm_14"],
}


#: By backend, what it must not run: another fused kernel is known as one that replaced it.
FUSED = {"torch_flash", "te_fused", "te_flash", "te_flash, 3", "te_flash, 4"}
FOREIGN = {
    "te_fused": RAN.keys() - {"te_fused", "te_unfused, compiled"},
    "te_flash": {"torch_flash", "te_fused"},
    "te_unfused": FUSED,
}


@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize("ran", RAN)
def test_each_is_known_by_its_own_kernels_and_by_no_other(backend, ran):
    """Names of cuDNN and flash-attn begin as they do on an H200; the others are from the sources, and were not seen yet."""
    codes = [r.code for r in wrong_route(all_backends()[backend], "cuda", tuple(map(DeviceOp, RAN[ran])))]
    if ran.split(",")[0] == backend:
        assert codes == []
    else:
        assert codes == ["wrong-route", *(["replaced"] if ran in FOREIGN[backend] else [])]
