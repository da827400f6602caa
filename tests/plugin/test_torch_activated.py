"""SDPA on another flash implementation: activated for the case, put back after it, and said to be missing where it is.

Stand-ins take the place of the operator that SDPA calls on the CPU; PyTorch's own put one in the place of CUDA's.
"""

from __future__ import annotations

import pytest
import torch
from adapters import CPU, H200, assert_is_attention, expected, qkv, spelt
from torch.nn import attention as of_torch

from attnbench.backends import torch_activated
from attnbench.backends.installed import package_text
from attnbench.backends.registry import all_backends, loaded
from attnbench.backends.requirements import unmet
from attnbench.checks.route import kernel_s, wrong_route
from attnbench.model import CaseEnded, DeviceOp, Status
from attnbench.workload import Workload

WORKLOAD = Workload("w", 1, 64, 2, 64, "bf16")
IMPLEMENTATIONS = {"torch_flash[FA3]": "FA3", "torch_flash[FA4]": "FA4"}
OPERATOR = "_scaled_dot_product_flash_attention_for_cpu"


class Handle:
    def __init__(self, library):
        self.library = library

    def remove(self):
        self.library = None


@pytest.fixture
def activated(monkeypatch):
    """Calls of the stand-ins, by implementation: each takes the place of the CPU's flash operator while it is active."""
    calls = dict.fromkeys(IMPLEMENTATIONS.values(), 0)
    monkeypatch.setattr(of_torch._registry, "_FLASH_ATTENTION_IMPLS", {})

    def register(name):
        def put() -> Handle:
            library = torch.library.Library("aten", "IMPL", "CPU")

            def forward(q, k, v, dropout_p=0.0, is_causal=False, *, attn_mask=None, scale=None):
                calls[name] += 1
                scores = q.float() @ k.float().transpose(-1, -2) * q.shape[-1] ** -0.5
                seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril() if is_causal else scores < torch.inf
                scores = scores.masked_fill(~seen, -torch.inf)
                return (scores.softmax(-1) @ v.float()).to(q.dtype), scores.logsumexp(-1)

            library.impl(OPERATOR, forward, "CPU")
            return Handle(library)

        of_torch.register_flash_attention_impl(name, register_fn=put)

    for name in calls:
        register(name)
    yield calls
    of_torch.restore_flash_attention_impl()


@pytest.mark.parametrize(("backend", "implementation"), IMPLEMENTATIONS.items())
def test_sdpa_runs_on_it_and_on_its_own_again_after_the_case(backend, implementation, activated):
    tensors = [x.transpose(1, 2) for x in qkv()]
    with loaded(all_backends()[backend], WORKLOAD) as attention:
        assert of_torch.current_flash_attention_impl() == implementation
        torch.testing.assert_close(attention(*tensors).transpose(1, 2), expected(*qkv()))
    assert of_torch.current_flash_attention_impl() is None
    called = activated[implementation]
    assert called > 0
    torch.nn.functional.scaled_dot_product_attention(*tensors)
    assert activated[implementation] == called


@pytest.mark.parametrize("text", ["2x48x2x32:fp32:causal", "2x24/40x2x32:fp32"])
def test_what_a_workload_asks_for_reaches_it(text, activated):
    assert_is_attention("torch_flash[FA3]", spelt(text))
    assert activated["FA3"] > 0


def test_it_is_put_back_when_the_case_fails(activated):
    with pytest.raises(ZeroDivisionError), loaded(all_backends()["torch_flash[FA3]"], WORKLOAD):
        raise ZeroDivisionError
    assert of_torch.current_flash_attention_impl() is None


def test_what_somebody_else_had_activated_is_active_again(activated):
    of_torch.activate_flash_attention_impl("FA4")
    with loaded(all_backends()["torch_flash[FA3]"], WORKLOAD):
        assert of_torch.current_flash_attention_impl() == "FA3"
    assert of_torch.current_flash_attention_impl() == "FA4"


def test_nothing_is_warned_of(activated, recwarn):
    with loaded(all_backends()["torch_flash[FA3]"], WORKLOAD):
        pass
    assert [str(one.message) for one in recwarn] == []


def ended(backend):
    with pytest.raises(CaseEnded) as raised, loaded(all_backends()[backend], WORKLOAD):
        pass
    assert of_torch.current_flash_attention_impl() is None
    return raised.value.status, [reason.text for reason in raised.value.reasons]


def test_a_torch_that_cannot_activate_it_is_unsupported(activated, monkeypatch):
    monkeypatch.delitem(of_torch._registry._FLASH_ATTENTION_IMPLS, "FA3")
    text = "needs a torch that can activate FA3, found one that can activate FA4"
    assert ended("torch_flash[FA3]") == (Status.UNSUPPORTED, [text])


def test_a_library_without_what_pytorch_calls_is_unsupported(stand_in):
    stand_in({"flash_attn_interface.py": "import torch\n"})
    status, [text] = ended("torch_flash[FA3]")
    assert status is Status.UNSUPPORTED
    assert text.startswith("needs the forward and backward kernels that PyTorch calls for FA3: ")
    assert "Module 'flash_attn_interface' does not expose FA3" in text


def test_a_library_that_fails_to_import_is_an_error_of_its_own(stand_in):
    stand_in({"flash_attn_interface.py": "raise OSError('undefined symbol')\n"})
    with pytest.raises(OSError, match="undefined symbol"), loaded(all_backends()["torch_flash[FA3]"], WORKLOAD):
        pass
    assert of_torch.current_flash_attention_impl() is None


def said(backend, workload=WORKLOAD, facts=H200):
    return [reason.text for reason in unmet(all_backends()[backend].requirements, facts, workload)]


MISSING = (
    "package 'flash_attn_interface' is not installed (build flash_attn_interface from the folder hopper of "
    "github.com/Dao-AILab/flash-attention)"
)


def test_the_wheel_with_the_forward_pass_alone_cannot_serve(stand_in):
    assert said("torch_flash[FA3]") == [MISSING]
    version = "Metadata-Version: 2.1\nName: fa3_fwd\nVersion: 0.0.3\n"
    needed = "needs the operators flash_attn_3.fwd and flash_attn_3.bwd"
    stand_in({"fa3_fwd_interface.py": "", "fa3_fwd-0.0.3.dist-info/METADATA": version})
    assert said("torch_flash[FA3]") == [
        MISSING,
        f"{needed}, found fa3_fwd_interface of fa3-fwd 0.0.3 with a forward operator alone, under another name",
    ]


def test_the_build_of_both_passes_serves(stand_in):
    stand_in({"flash_attn_interface.py": "", "fa3_fwd_interface.py": ""})
    assert said("torch_flash[FA3]") == []
    assert said("torch_flash[FA3]", spelt("1x64x2x64:bf16:dropout=0.1:bwd"))[0].startswith("needs dropout, found")
    assert said("torch_flash[FA3]", spelt("1x64x2x264:fp32"), CPU) == [
        "needs device cuda, found cpu",
        "needs dtype bf16 or fp16, found fp32",
        "needs head_dim at most 256, found 264",
    ]


def test_flash_attn_4_is_asked_for_by_its_packages():
    assert said("torch_flash[FA4]") == [
        "package 'flash-attn-4' is not installed (pip install flash-attn-4)",
        "package 'nvidia-cutlass-dsl' is not installed (pip install nvidia-cutlass-dsl)",
    ]


#: The annotation says two, as it does in 4.0.0b19, whose function returns four.
OF_4 = """
def _flash_attn_fwd(q: Optional[torch.Tensor]) -> Tuple[torch.Tensor, torch.Tensor]:
    if is_empty:
        return out, lse
    RETURNED
"""


OF_TORCH = "def _forward(query):\n    {} = module._flash_attn_fwd(query, out=None)\n"


@pytest.fixture
def flash_attn_4(stand_in, monkeypatch):
    """`flash_attn_4("out, lse", "out, lse, p")`: what the forward function returns, and how torch takes that apart."""

    def install(returned, unpacked):
        stand_in(
            {
                "flash_attn/cute/interface.py": OF_4.replace("RETURNED", f"return {returned}"),
                "flash_attn_4-4.0.0b30.dist-info/METADATA": "Metadata-Version: 2.4\nName: flash-attn-4\nVersion: 4.0.0b30\n",
                "nvidia_cutlass_dsl-4.8.1.dist-info/METADATA": (
                    "Metadata-Version: 2.4\nName: nvidia-cutlass-dsl\nVersion: 4.8.1\n"
                ),
            }
        )
        if unpacked:
            texts = {"torch": OF_TORCH.format(unpacked)}
            monkeypatch.setattr(
                torch_activated, "package_text", lambda name, file: texts.get(name) or package_text(name, file)
            )
        return said("torch_flash[FA4]")

    return install


@pytest.mark.parametrize("returned", ["out, lse", "out, lse, p, row_max", "out, lse, p, row_max, v"])
def test_a_flash_attn_4_that_returns_more_than_this_torch_unpacks_is_unsupported(returned, flash_attn_4):
    count = returned.count(",") + 1
    text = (
        "needs a _flash_attn_fwd with 2 results, which this torch unpacks, found flash-attn-4 4.0.0b30 with "
        f"{count} (pip install flash-attn-4==4.0.0b18)"
    )
    assert flash_attn_4(returned, "") == ([] if count == 2 else [text])


@pytest.mark.parametrize(
    ("returned", "unpacked", "needed", "hint"),
    [
        ("out, lse", "out, lse, p, row_max", "4 results", "pip install flash-attn-4==4.0.0b19"),
        ("out, lse", "(\n        out, lse, p, m, v\n    )", "5 results", "pip install flash-attn-4==4.0.0b36"),
        ("out, lse", "out, lse, p", "3 results", "install another release of it, or of torch"),
        ("out, lse", "(out,)", "1 result", "install another release of it, or of torch"),
        ("out, lse", "out, lse, p, *_", "3 or more results", "pip install flash-attn-4==4.0.0b36"),
    ],
)
def test_a_later_torch_that_unpacks_another_number_names_the_release_for_it(
    returned, unpacked, needed, hint, flash_attn_4
):
    assert flash_attn_4(returned, unpacked) == [
        f"needs a _flash_attn_fwd with {needed}, which this torch unpacks, found flash-attn-4 4.0.0b30 with 2 ({hint})"
    ]


@pytest.mark.parametrize(
    ("returned", "unpacked"),
    [
        ("out, lse, p", "out, lse, p"),
        ("out, lse, p, m", "out, *_"),
        ("out, lse, p", "results"),
        ("results", ""),
        ("(out, *more)", ""),
        ("call(out, lse)", ""),
    ],
)
def test_what_fits_or_cannot_be_told_is_no_reason(returned, unpacked, flash_attn_4):
    assert flash_attn_4(returned, unpacked) == []


RAN = {
    "torch_flash": "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4>>",
    "torch_flash[FA3]": "void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<>>>",
    "torch_flash[FA4]": "kernel_cutlass_kernel_flash_attncuteflash_fwd_sm90FlashAttentionForwardSm90_object_at",
}


@pytest.mark.parametrize("backend", RAN)
@pytest.mark.parametrize("ran", RAN)
def test_pytorchs_own_kernel_under_another_name_is_incorrect(backend, ran):
    op = DeviceOp(RAN[ran], duration_s=1e-3)
    reasons = {reason.code for reason in wrong_route(all_backends()[backend], "cuda", (op,))}
    assert reasons <= set() if backend == ran else "wrong-route" in reasons
    assert kernel_s(all_backends()[backend], "cuda", (op,)) == (1e-3 if backend == ran else None)


def test_the_names_are_test_ids_and_are_selected_as_they_are(sim):
    result = sim("--collect-only", "-q", "--attn-backend=torch_flash[FA3]", "--attn-mode=eager")
    assert "test_suite.py::test_attention[torch_flash[FA3]@eager-flux-256px-t128]" in result.outlines
    assert "1 test collected" in result.stdout.str()
    node = "test_suite.py::test_attention[torch_flash[FA3]@eager-flux-256px-t128]"
    sim("--attn-backend=torch_flash*", "--attn-mode=eager", node).assert_outcomes(passed=1)
    result = sim("--collect-only", "-q", "--attn-backend=torch_flash[FA?]", "--attn-mode=eager")
    assert "2 tests collected" in result.stdout.str()
