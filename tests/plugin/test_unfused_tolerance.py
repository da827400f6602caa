"""The tolerance of kernels that write their scores in 16 bits: they pass it, fail `16-bit`, and broken ones fail both."""

from __future__ import annotations

import pytest
import torch

from attnbench.backends.tolerances import TOLERANCES, allowed, violations
from attnbench.checks.reference import make_reference, metrics
from attnbench.workloads.inputs import make_inputs
from attnbench.workloads.table import select_workloads


@pytest.fixture(scope="module")
def inputs():
    (workload,) = select_workloads(("1x512x2x128:bf16",))
    return make_inputs(workload, "cpu").sets


def unfused(q, k, v, scale=1.0, causal=False):
    """Scores to bf16, a softmax in fp32, probabilities to bf16: what an unfused kernel stores between its three steps."""
    scores = (torch.einsum("bqhd,bkhd->bhqk", q.float(), k.float()) * scale * q.shape[-1] ** -0.5).to(q.dtype)
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), float("-inf"))
    weights = torch.softmax(scores.float(), dim=-1).to(q.dtype)
    return torch.einsum("bhqk,bkhd->bqhd", weights.float(), v.float()).to(q.dtype)


def broken(name, sets, **changed):
    """Distributions on which the class refuses such a kernel."""
    found = set()
    for distribution, triple in sets.items():
        right = make_reference(triple)
        error = metrics(unfused(*triple, **changed), right.output)
        limits = allowed(TOLERANCES[name], distribution, right.plain, right.fused, right.rounding, right.magnitude)
        if violations(error, limits, distribution):
            found.add(distribution)
    return found


def test_it_passes_its_own_class_and_not_that_of_fused_kernels(inputs):
    assert broken("16-bit-unfused", inputs) == set()
    assert "randn*randint(1,5)" in broken("16-bit", inputs)


@pytest.mark.parametrize("changed", [{"scale": 1.02}, {"causal": True}])
def test_a_broken_one_is_refused_by_both(inputs, changed):
    for name in ("16-bit", "16-bit-unfused"):
        assert broken(name, inputs, **changed) >= {"randn", "outlier-k"}  # wide scores round more than 2 % moves them
