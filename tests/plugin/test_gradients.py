"""The references of gradients: against autograd, finite differences and NumPy; and what their tolerance lets through."""

# torch is imported where it is used: `pytest --collect-only` imports this file.
from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from attnbench.checks import attention, excerpt, reference
from attnbench.execution import steps
from attnbench.workload import Workload
from attnbench.workloads.table import parse_spelt

SPELT = (
    "2x7x2x8:bf16",
    "1x5/9x2x8:fp16",
    "2x6x4/2x8:bf16",
    "1x6x3/1x4/6:bf16",
    "1x9x2x8:bf16:causal",
    "1x9/4x2x8:bf16:causal",  # the first queries see no key
    "1x4/9x4/2x8:fp32:causal",
    "3x6x2x8:bf16:padding=6+3+0",  # the last entry has no key
    "1x8/6x2x8:bf16:bool",
    "1x8/6x2x8/4:bf16:additive",
    "1x9x2x8:bf16:packed=2+6+1",
    "1x9x4/2x8:fp32:packed=5+4:causal",
    "1x1x1x4:fp32",
)


def workload_of(spelt: str, direction: str = "backward") -> Workload:
    workload = parse_spelt(spelt)
    assert workload is not None
    return replace(workload, direction=direction)


@cache
def inputs_of(spelt: str, direction: str = "backward") -> Any:
    from attnbench.workloads.inputs import make_inputs

    return make_inputs(workload_of(spelt, direction), "cpu")


def by_autograd(attend: Any, triple: Any, gradient: Any) -> dict[str, Any]:
    import torch

    leaves = [one.detach().clone().requires_grad_() for one in triple]
    found = torch.autograd.grad(attend(*leaves), leaves, gradient)
    return dict(zip(("dq", "dk", "dv"), found, strict=True))


def in_float64(workload: Workload) -> Any:
    """Attention of PyTorch in fp64, unfused, with the mask as one matrix: shares no step with the reference."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from attnbench.workloads import masks

    dense = masks.dense_mask(workload, "cpu")
    if dense is not None and dense.dtype is not torch.bool:
        dense = dense.double()

    def attend(*triple: Any) -> Any:
        q, k, v = (one.double().transpose(1, 2) for one in triple)
        with sdpa_kernel(SDPBackend.MATH):
            out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=dense, enable_gqa=True)
        return out.transpose(1, 2)

    return attend


@pytest.mark.parametrize("spelt", SPELT)
def test_the_reference_is_autograds_gradient_in_float64(spelt):
    import torch

    inputs = inputs_of(spelt)
    for distribution, known in reference.make_references(inputs).items():
        triple = [one.double() for one in inputs.kept[distribution]]
        expected = by_autograd(in_float64(inputs.workload), triple, inputs.gradient.double())
        assert list(known) == ["dq", "dk", "dv"]
        for name, right in known.items():
            torch.testing.assert_close(
                right.output, expected[name], rtol=1e-10, atol=1e-11, msg=f"{name} {distribution}"
            )


@pytest.mark.parametrize("spelt", SPELT)
def test_the_numpy_backend_gives_the_reference_rounded_once(spelt):
    import torch

    from attnbench.backends.numpy_math import numpy_math

    inputs = inputs_of(spelt)
    triple = inputs.kept["randn"]
    found = by_autograd(numpy_math(inputs.workload), triple, inputs.gradient)
    for name, right in reference.make_references(inputs)["randn"].items():
        expected = right.output.to(triple[0].dtype)
        torch.testing.assert_close(found[name], expected, rtol=2**-8, atol=1e-7, msg=name)


@pytest.mark.parametrize("spelt", ["1x2/3x2/1x2/1:fp32", "1x3x1x2:fp32:causal"])
def test_the_reference_is_what_finite_differences_say(spelt):
    import torch

    inputs = inputs_of(spelt)
    triple = [one.double() for one in inputs.kept["randn"]]
    known = reference.make_references(inputs)["randn"]
    step = 1e-5
    for at, name in enumerate(("dq", "dk", "dv")):
        for index in range(triple[at].numel()):
            sides = []
            for by in (step, -step):
                moved = [one.clone() for one in triple]
                moved[at].view(-1)[index] += by
                output = attention.attend(*moved, torch.float64, workload=inputs.workload)
                sides.append((output * inputs.gradient.double()).sum().item())
            slope = (sides[0] - sides[1]) / (2 * step)
            assert known[name].output.flatten()[index].item() == pytest.approx(slope, rel=1e-7, abs=1e-8), name


@pytest.mark.parametrize("spelt", ["1x9/7x4/2x8:bf16:bool", "3x6x2x8:bf16:padding=6+3+0", "1x9/4x2x8:bf16:causal"])
def test_gradients_in_chunks_of_rows_are_the_gradients(spelt, monkeypatch):
    import torch

    inputs = inputs_of(spelt)
    whole = reference.make_references(inputs)["randn"]
    monkeypatch.setattr(attention, "CHUNK_BYTES", 1)  # one row
    for name, right in reference.make_references(inputs)["randn"].items():
        torch.testing.assert_close(right.output, whole[name].output, rtol=1e-12, atol=1e-13)
        assert right.plain.rel_l2 == pytest.approx(whole[name].plain.rel_l2, rel=0.05), (
            name
        )  # fp32 sums in other orders
        assert right.fused.rel_l2 == pytest.approx(whole[name].fused.rel_l2, rel=0.05), name


@pytest.mark.parametrize(
    "spelt", ["1x30/21x4/2x8:bf16", "2x30/21x3x8:bf16:causal", "3x30x4/2x8:bf16:padding=30+7+1", "1x30x2x8:bf16:bool"]
)
@pytest.mark.parametrize("direction", ["backward", "forward+backward"])
def test_gradients_of_a_large_problem_are_those_of_some_heads(spelt, direction, monkeypatch):
    import torch

    inputs = inputs_of(spelt, direction)
    workload = inputs.workload
    whole = reference.make_references(inputs)["randn"]
    heads = workload.k_shape[2]
    monkeypatch.setattr(
        excerpt, "ALL_SCORES", 4 * workload.group * workload.seq * workload.k_shape[1]
    )  # one of the keys'
    sampled = reference.make_references(inputs)["randn"]
    assert set(sampled) == set(whole)
    assert direction == "backward" or sampled["output"].excerpt.heads is None  # by rows, as in a forward pass
    for name, right in sampled.items():
        if name == "output":
            continue
        part = right.excerpt
        assert part.text.startswith(
            f"head {part.heads.start // (1 if name in ('dk', 'dv') else workload.group)} of the {heads}"
        )
        assert ("of batch entry" in part.text) == (workload.batch > 1)
        torch.testing.assert_close(right.output, part.of(whole[name].output), rtol=1e-12, atol=1e-13)
        wrong = whole[name].output.clone()
        at = (part.entry, 20, part.heads.stop - 1, 5)
        wrong[at] += 10
        assert steps.error_of(wrong, right).worst_index == at
    monkeypatch.setattr(excerpt, "ALL_SCORES", 1)  # one head however long
    tiny = reference.make_references(inputs)["randn"]
    assert len(tiny["dk"].excerpt.heads) == 1
    assert direction == "backward" or (tiny["output"].excerpt.heads, len(tiny["output"].excerpt.rows)) == (None, 1)


@pytest.mark.parametrize("spelt", ["1x64x2x16:bf16", "1x64x4/2x16:fp16:causal", "1x40/64x2x16:bf16:additive"])
def test_plain_attention_errs_as_autograd_in_the_dtype_does(spelt):
    """Autograd through every step in bf16 or fp16 is what FlashAttention's tests call pt."""
    from attnbench.checks.reference import metrics

    inputs = inputs_of(spelt)
    known = reference.make_references(inputs)["randn"]
    triple = inputs.kept["randn"]

    def plain(*leaves: Any) -> Any:
        q, k, v = leaves
        keys, values = attention.of_query_heads(q, k * k.shape[-1] ** -0.5, v)
        scores, seen = attention.masked(q.transpose(1, 2) @ keys, inputs.workload, None, 0, q.shape[1])
        return (attention.without_keyless(scores.softmax(-1), seen) @ values).transpose(1, 2)

    for name, found in by_autograd(plain, triple, inputs.gradient).items():
        error = metrics(found, known[name].output)
        assert error.rel_l2 == pytest.approx(known[name].plain.rel_l2, rel=0.1), name
        assert known[name].fused.rel_l2 < known[name].plain.rel_l2, name


def test_a_direction_has_the_references_of_what_its_call_returns():
    forward = reference.make_references(inputs_of("2x7x2x8:bf16", "forward"))
    both = reference.make_references(inputs_of("2x7x2x8:bf16", "forward+backward"))
    assert [list(one) for one in forward.values()] == [["output"]] * 3
    assert [list(one) for one in both.values()] == [["output", "dq", "dk", "dv"]] * 3
    assert both["randn"]["output"].output.equal(forward["randn"]["output"].output)


def test_rows_without_a_key_are_asked_nothing_and_unseen_keys_have_no_gradient():
    inputs = inputs_of("3x6x2x8:bf16:padding=6+3+0")
    known = reference.make_references(inputs)["randn"]
    assert known["dq"].keyless.flatten().tolist() == [False, False, True]
    assert [known[name].keyless for name in ("dk", "dv")] == [None, None]
    for name in ("dk", "dv"):
        assert known[name].output[1, 3:].abs().max() == known[name].output[2].abs().max() == 0


SMALL = [
    f"{batch}x{seq}{keys}x{heads}x{dim}:{dtype}{mask}"
    for batch, heads in ((1, "4/1"), (2, "1"))
    for seq, keys in ((1, ""), (3, "/17"), (31, ""), (50, "/2"))
    for dim in (8, 40, 128)
    for dtype in ("bf16", "fp16", "fp32")
    for mask in (("", ":causal") if not keys else ("", ":bool"))
]


def sdpa(q: Any, k: Any, v: Any, workload: Workload) -> Any:
    return in_dtype(q, k, v, workload, "MATH")


def flash(q: Any, k: Any, v: Any, workload: Workload) -> Any:
    return in_dtype(q, k, v, workload, "FLASH_ATTENTION" if workload.mask != "bool" else "MATH")


def in_dtype(q: Any, k: Any, v: Any, workload: Workload, implementation: str) -> Any:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from attnbench.workloads import masks

    causal = workload.mask == "causal"
    dense = None if causal else masks.dense_mask(workload, "cpu")
    q, k, v = (one.transpose(1, 2) for one in (q, k, v))
    with sdpa_kernel(getattr(SDPBackend, implementation)):
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, dense, is_causal=causal, enable_gqa=True)
    return out.transpose(1, 2)


def failed(spelt: str, gradients: Any) -> dict[str, list[str]]:
    """By input distribution, which gradients are outside the tolerance; `gradients` of q, k, v, dO and the workload."""
    from attnbench.execution import steps

    inputs = inputs_of(spelt)
    return {
        distribution: [
            name
            for name, found in gradients(inputs.kept[distribution], inputs.gradient, inputs.workload).items()
            if steps.judged(steps.error_of(found, known[name]), known[name], "16-bit", distribution, True, name)[1]
        ]
        for distribution, known in references_of(spelt).items()
    }


@cache
def references_of(spelt: str) -> Any:
    return reference.make_references(inputs_of(spelt))


@pytest.mark.parametrize("kernel", [sdpa, flash])
def test_no_right_gradient_is_refused(kernel):
    def gradients(triple: Any, gradient: Any, workload: Workload) -> Any:
        return by_autograd(lambda *leaves: kernel(*leaves, workload), triple, gradient)

    assert {spelt: found for spelt in SMALL if any((found := failed(spelt, gradients)).values())} == {}


@pytest.mark.parametrize("spelt", ["1x8/65536x1x64:fp16", "1x33/70x4/2x40:bf16"])
@pytest.mark.parametrize("memory_efficient", [False, True])
def test_kernels_that_scale_before_or_after_they_round_are_right(spelt, memory_efficient):
    """Of fp16 a probability of 1/65,536 is no normal number, so that it matters what is rounded."""
    from gradient_errors import flash_2

    def gradients(triple: Any, gradient: Any, workload: Workload) -> Any:
        return by_autograd(flash_2(workload, memory_efficient=memory_efficient), triple, gradient)

    def wrong(triple: Any, gradient: Any, workload: Workload) -> Any:
        return one_percent_off(gradients(triple, gradient, workload), "dk")

    assert not any(failed(spelt, gradients).values())
    assert failed(spelt, wrong)["randn"] == ["dk"]


def one_percent_off(found: dict[str, Any], name: str) -> dict[str, Any]:
    return {**found, name: (found[name].double() * 1.01).to(found[name].dtype)}


def without_a_row(found: dict[str, Any], name: str) -> dict[str, Any]:
    found[name][:, -1] = 0
    return found


@pytest.mark.parametrize("name", ["dq", "dk", "dv"])
@pytest.mark.parametrize("break_", [one_percent_off, without_a_row])
def test_a_wrong_gradient_is_refused_by_its_name(break_, name):
    def gradients(triple: Any, gradient: Any, workload: Workload) -> Any:
        return break_(by_autograd(lambda *leaves: sdpa(*leaves, workload), triple, gradient), name)

    for spelt in ("1x64x2x64:bf16", "1x64x4/2x64:fp16:causal", "1x64/40x2x64:fp32:bool"):
        found = failed(spelt, gradients)
        assert found["randn"] == [name], spelt
        assert all(set(names) <= {name} for names in found.values())
