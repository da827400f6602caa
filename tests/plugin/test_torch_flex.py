"""flex_attention's masks against NumPy's oracle, most of them uncompiled: compiled is what is measured."""

from __future__ import annotations

import warnings

import pytest
import torch
from adapters import assert_is_attention, spelt
from torch.nn.attention.flex_attention import create_block_mask

from attnbench.backends import torch_flex
from attnbench.backends.registry import all_backends
from attnbench.checks.route import wrong_route
from attnbench.model import DeviceOp
from attnbench.workloads import masks

FLEX = all_backends()["torch_flex"]


@pytest.mark.parametrize(
    "text",
    [
        "2x48x2x32:fp32",
        "2x48x2x32:fp32:causal",
        "1x24/160x2x32:fp32:causal",
        "1x24/48x4/2x32:fp32",
        "3x24/140x2x32:fp32:padding=140+13+1",
        "1x140x2x32:fp32:bool",
        "1x150x2x32:fp32:packed=11+129+10",
        "1x150x4/2x32:fp32:packed=11+129+10:causal",
    ],
)
def test_what_a_workload_asks_for_is_computed(text):
    workload = spelt(text)
    assert {*workload.features} <= {*FLEX.takes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is not compiled
        assert_is_attention("torch_flex", workload)


@pytest.mark.parametrize(
    "text",
    [
        "1x300x2x32:fp32:causal",
        "1x24/300x2x32:fp32:causal",
        "1x512x2x32:fp32:causal",
        "3x150/300x2x32:fp32:padding=300+13+128",
        "1x300x2x32:fp32:bool",
        "1x300x2x32:fp32:packed=100+128+72",
        "1x300x2x32:fp32:packed=150+150:causal",
    ],
)
@pytest.mark.parametrize("chunk", [128, 256, 2048])
def test_its_block_mask_is_the_one_that_pytorch_makes(text, chunk, monkeypatch):
    workload = spelt(text)
    monkeypatch.setattr(torch_flex, "CHUNK", chunk)
    found = torch_flex.block_mask(workload, "cpu")
    batch = workload.batch if workload.mask == "padding" else None
    right = create_block_mask(found.mask_mod, batch, None, workload.seq, workload.k_shape[1], device="cpu")
    assert (found.seq_lengths, found.BLOCK_SIZE) == (right.seq_lengths, right.BLOCK_SIZE)
    blocks = ("kv_num_blocks", "kv_indices", "q_num_blocks", "q_indices")
    for name in (*blocks, *(f"full_{one}" for one in blocks)):
        torch.testing.assert_close(getattr(found, name), getattr(right, name))


def test_without_a_mask_there_is_no_block_mask():
    assert torch_flex.block_mask(spelt("1x300x2x32:fp32"), "cpu") is None


def test_the_block_mask_of_a_long_workload_takes_no_matrix_of_its_scores(monkeypatch):
    largest = []
    visible = masks.visible

    def seen(*arguments):
        found = visible(*arguments)
        largest.append(found.numel())
        return found

    monkeypatch.setattr(masks, "visible", seen)
    made = torch_flex.block_mask(spelt("1x20000x24x128:bf16:padding=19000"), "cpu")
    assert max(largest) == torch_flex.CHUNK * 20000
    assert made.shape == (1, 1, 20000, 20000)


def test_a_boolean_mask_of_more_elements_than_int32_counts_is_read_with_wider_indices(monkeypatch):
    index = torch.arange(3, dtype=torch.int32)
    taken = []

    class Mask:
        def __init__(self, elements):
            self.elements = elements

        def numel(self):
            return self.elements

        def __getitem__(self, at):
            taken.append([one.dtype for one in at])

    for elements in (2**31 - 1, 2**31):
        monkeypatch.setattr(masks, "dense_mask", lambda *_, elements=elements: {(0, 0): Mask(elements)})
        torch_flex._mask_mod(spelt("1x140x2x32:fp32:bool"), "cpu")(0, 0, index, index)
    assert taken == [[torch.int32] * 2, [torch.int64] * 2]


@pytest.mark.parametrize(
    "text",
    [
        "1x150x2x32:fp32:causal",
        "3x24/140x2x32:fp32:padding=140+13+1",
        "1x150x4/2x32:fp32:packed=11+129+10:causal",
    ],
)
def test_compiled_as_it_is_measured_it_is_right(bench, text):
    result = bench("--attn-device=cpu", "--attn-backend=torch_flex", "--attn-mode=default", f"--attn-workload={text}")
    result.assert_outcomes(passed=1)


def test_its_kernel_for_the_cpu_has_no_gradients():
    workload = spelt("1x24x2x32:fp32:bwd")
    assert FLEX.refuses(workload, "cpu") == ("needs device cuda for gradients, found cpu",)
    assert FLEX.refuses(workload, "cuda") == FLEX.refuses(spelt("1x24x2x32:fp32"), "cpu") == ()


@pytest.mark.parametrize("ran", ["triton_tem_fused_flex_attention_0", "triton_tem_fused_flex_attention_backward_1"])
def test_it_is_known_by_the_templates_of_both_passes(ran):
    assert wrong_route(FLEX, "cuda", (DeviceOp(ran),)) == ()
