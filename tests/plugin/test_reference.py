"""The reference against NumPy, which shares no code with torch."""

# torch and NumPy are imported where they are used: `pytest --collect-only` imports this file.
from __future__ import annotations

import pytest

from attnbench.backends.numpy_math import numpy_math
from attnbench.checks import attention, excerpt
from attnbench.checks import reference as reference_module
from attnbench.execution import steps
from attnbench.workload import Workload
from attnbench.workloads.inputs import make_inputs

SHAPES = [(1, 7, 1, 8), (2, 33, 3, 16), (1, 64, 2, 128), (3, 1, 2, 4)]  # [batch, seq, heads, head_dim]


def attention_in_numpy(q, k, v):
    """softmax(q·kᵀ / √head_dim)·v of `[batch, seq, heads, head_dim]` tensors, one row at a time, from the definition."""
    import numpy as np
    import torch

    q, k, v = (x.to(torch.float64).numpy() for x in (q, k, v))
    out = np.zeros_like(q)
    for b, i, h in np.ndindex(q.shape[:3]):
        weights = np.exp(k[b, :, h] @ q[b, i, h] / np.sqrt(q.shape[-1]))
        out[b, i, h] = weights @ v[b, :, h] / weights.sum()
    return torch.from_numpy(out)


def random_triple(shape, dtype, seed=0):
    import torch

    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(shape, generator=generator, dtype=torch.float64).to(getattr(torch, dtype)) for _ in range(3)
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_the_reference_is_what_numpy_computes_from_the_same_quantised_inputs(shape, dtype):
    import torch

    triple = random_triple(shape, dtype)
    reference = reference_module.make_reference(triple)
    torch.testing.assert_close(reference.output, attention_in_numpy(*triple), rtol=1e-12, atol=1e-13)
    assert reference.output.dtype == torch.float64


def test_the_reference_in_chunks_of_rows_is_the_reference(monkeypatch):
    import torch

    triple = random_triple((2, 33, 3, 16), "bfloat16")
    whole = reference_module.make_reference(triple).output
    monkeypatch.setattr(attention, "CHUNK_BYTES", 5 * 2 * 3 * 33 * 8)  # five rows
    torch.testing.assert_close(reference_module.make_reference(triple).output, whole, rtol=1e-13, atol=1e-14)


def test_a_large_problem_has_a_reference_of_one_row_out_of_every_64(monkeypatch):
    import torch

    triple = random_triple((1, 150, 2, 16), "bfloat16")
    whole = attention_in_numpy(*triple)
    monkeypatch.setattr(excerpt, "ALL_SCORES", 2 * 150 * 150 - 1)
    reference = reference_module.make_reference(triple, seed=3)
    rows = reference.excerpt.rows
    assert reference.excerpt.text == "3 of 150 query rows, one of every 64, seed 3"
    assert [row // 64 for row in rows.tolist()] == [0, 1, 2]
    torch.testing.assert_close(reference.output, whole[:, rows], rtol=1e-12, atol=1e-13)
    monkeypatch.setattr(excerpt, "ALL_SCORES", 2 * 150 * 150 // 100)
    assert reference_module.make_reference(triple).excerpt.text == "2 of 150 query rows, one of every 100, seed 0"
    monkeypatch.setattr(excerpt, "ALL_SCORES", 2 * 150 * 150)
    assert reference_module.make_reference(triple).excerpt.text == "all"


def test_grouped_heads_have_as_many_more_rows_as_a_block_may_pack(monkeypatch):
    (q, _, _), (k, _, _) = (random_triple((1, 150, heads, 16), "bfloat16") for heads in (8, 2))
    monkeypatch.setattr(excerpt, "ALL_SCORES", 8 * 150 * 150 - 1)
    rows = excerpt.some_rows(q, k, seed=3).rows
    assert [row // 16 for row in rows.tolist()] == list(range(10))


def test_an_error_in_a_sampled_row_is_placed_in_the_whole_output(monkeypatch):
    triple = random_triple((2, 150, 2, 16), "bfloat16")
    monkeypatch.setattr(excerpt, "ALL_SCORES", 1000)
    reference = reference_module.make_reference(triple)
    output = attention_in_numpy(*triple)
    row = int(reference.excerpt.rows[-1])
    output[1, row, 1, 5] += 10
    assert steps.error_of(output, reference).worst_index == (1, row, 1, 5)
    output[1, row, 1, 5] -= 10
    output[1, row - 1] += 10  # which nobody compares
    assert steps.error_of(output, reference).max_abs < 1e-10


def test_what_is_not_finite_counts_outside_of_the_excerpt_too(monkeypatch):
    triple = random_triple((2, 150, 2, 16), "bfloat16")
    monkeypatch.setattr(excerpt, "ALL_SCORES", 1000)
    reference = reference_module.make_reference(triple)
    output = attention_in_numpy(*triple)
    row = int(reference.excerpt.rows[-1]) - 1
    output[1, row, 1, 5:] = float("nan")
    error = steps.error_of(output, reference)
    assert (error.nonfinite, error.worst_index, error.worst_found) == (11, (1, row, 1, 5), None)


def test_plain_attention_in_fp32_is_near_numpy_and_in_bf16_further():
    import torch

    q, k, v = random_triple((2, 33, 3, 16), "bfloat16")
    expected = attention_in_numpy(q, k, v)
    error = {
        d: (reference_module.attend(q, k, v, d).double() - expected).abs().max().item()
        for d in (torch.float32, q.dtype)
    }
    assert error[torch.float32] < 1e-5 < 1e-3 < error[torch.bfloat16] < 0.1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_numpy_backend_is_the_definition(shape):
    import torch

    triple = random_triple(shape, "float32")
    found = numpy_math(Workload("tiny", *shape, dtype="fp32"))(*triple)
    torch.testing.assert_close(found, attention_in_numpy(*triple).float())


def test_metrics_are_what_numpy_computes():
    import numpy as np
    import torch

    generator = torch.Generator().manual_seed(1)
    reference = torch.randn((1, 5, 2, 8), generator=generator, dtype=torch.float64)
    output = (reference + 0.01 * torch.randn(reference.shape, generator=generator)).to(torch.float32)
    o, r = output.double().numpy(), reference.numpy()
    found = reference_module.metrics(output, reference)
    distance = np.abs(o - r)
    assert found.max_abs == pytest.approx(distance.max())
    assert found.mean_abs == pytest.approx(distance.mean())
    assert found.mse == pytest.approx(np.mean((o - r) ** 2))
    assert found.rel_l1 == pytest.approx(distance.sum() / np.abs(r).sum())
    assert found.rel_l2 == pytest.approx(np.linalg.norm(o - r) / np.linalg.norm(r))
    assert found.cosine == pytest.approx((o * r).sum() / (np.linalg.norm(o) * np.linalg.norm(r)))
    assert found.worst_index == np.unravel_index(distance.argmax(), r.shape)


def test_every_input_set_of_a_workload_has_a_reference_that_numpy_confirms():
    import torch

    inputs = make_inputs(Workload("tiny", 1, 24, 2, 16), "cpu")
    references = reference_module.make_references(inputs)
    assert len(references) >= 3
    for name, reference in references.items():
        expected = attention_in_numpy(*inputs.sets[name])
        torch.testing.assert_close(reference["output"].output, expected, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("distribution", ["randn*randint(1,5)", "randn", "outlier-k"])
def test_tolerances_pass_a_good_kernel_and_stop_one_percent_of_error(distribution):
    import torch

    from attnbench.backends.tolerances import SIXTEEN_BIT, allowed, violations
    from attnbench.checks.reference import make_reference, metrics
    from attnbench.workloads.inputs import make_inputs
    from attnbench.workloads.table import select_workloads

    (workload,) = select_workloads(("1x128x4x64:bf16",))
    triple = make_inputs(workload, "cpu").sets[distribution]
    reference = make_reference(triple)
    limits = allowed(
        *(SIXTEEN_BIT, distribution, reference.plain, reference.fused, reference.rounding, reference.magnitude)
    )
    q, k, v = (x.transpose(1, 2) for x in triple)
    right = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    assert violations(metrics(right, reference.output), limits, distribution) == ()
    wrong = (right.float() * 1.01).to(right.dtype)
    (reason,) = violations(metrics(wrong, reference.output), limits, distribution)
    assert "rel_l2" in reason.text


def test_an_output_of_zeros_is_called_that():
    import torch

    from attnbench.backends.tolerances import violations
    from attnbench.checks.reference import metrics

    reference = torch.randn(2, 3, 4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def said(output):
        (reason,) = violations(metrics(output, reference), {"rel_l2": 0.003}, "randn", "dq")
        return reason.text

    assert said(torch.zeros(2, 3, 4, 8)) == "rel_l2 found 1, allowed 0.003 in dq on randn inputs; every element is 0"
    almost = torch.zeros(2, 3, 4, 8)
    almost[0, 0, 0, 0] = 1e-6
    for other in (almost, 2 * reference, -reference):
        assert "; worst element at [" in said(other)
