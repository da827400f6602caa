"""flex_attention's masks against NumPy's oracle, uncompiled: compiled is what is measured."""

from __future__ import annotations

import warnings

import pytest
from adapters import assert_is_attention, spelt

from attnbench.backends.registry import all_backends
from attnbench.checks.route import wrong_route
from attnbench.model import DeviceOp

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


def test_its_kernel_for_the_cpu_has_no_gradients():
    workload = spelt("1x24x2x32:fp32:bwd")
    assert FLEX.refuses(workload, "cpu") == ("needs device cuda for gradients, found cpu",)
    assert FLEX.refuses(workload, "cuda") == FLEX.refuses(spelt("1x24x2x32:fp32"), "cpu") == ()


@pytest.mark.parametrize("ran", ["triton_tem_fused_flex_attention_0", "triton_tem_fused_flex_attention_backward_1"])
def test_it_is_known_by_the_templates_of_both_passes(ran):
    assert wrong_route(FLEX, "cuda", (DeviceOp(ran),)) == ()
