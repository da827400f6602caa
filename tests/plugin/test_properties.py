"""What holds of attention whatever the shapes are, of every backend that runs here: on a GPU those of CUDA too.

A backend that is right on the shapes of a grid may still be wrong on others. Hypothesis picks the shapes.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import attnbench.backends.families  # noqa: F401 — registers the backends
from attnbench.backends import requirements
from attnbench.backends.registry import all_backends
from attnbench.backends.variant import Variant
from attnbench.hardware.device import default_device, open_device
from attnbench.workload import Workload
from attnbench.workloads import masks
from attnbench.workloads.inputs import make_inputs

DEVICE = default_device()
#: Backends that run here in eager mode; an interpreted or fetched kernel is left out, it has tests of its own.
BACKENDS = tuple(
    name
    for name, backend in all_backends().items()
    if "eager" in backend.modes
    and not backend.fetches
    and not backend.own_process
    and backend.tolerance.startswith("16-bit")
    and not requirements.unmet(
        backend.requires, open_device(DEVICE, chosen=True).facts, Workload("", 1, 64, 2, 64, "fp16")
    )
)
DTYPE = "fp32" if DEVICE == "cpu" else "fp16"
#: Of the largest element: two right calls differ by the rounding of fp32, or of fp16 on a GPU.
CLOSE = 2e-5 if DEVICE == "cpu" else 4e-3

#: What is drawn: batch, queries, keys, query heads per key head, key heads, head_dim.
SHAPES = st.tuples(
    *(st.integers(1, 3), st.integers(1, 48), st.integers(1, 48)),
    *(st.sampled_from((1, 2, 3)), st.integers(1, 3), st.sampled_from((8, 16, 64))),
)
#: The same numbers in every run. Some backends take few of the shapes.
quick = settings(
    max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.filter_too_much]
)


def taking(feature: str) -> tuple[str, ...]:
    """Backends that take a feature by themselves."""
    return tuple(name for name in BACKENDS if feature in all_backends()[name].takes)


def workload_of(shape: tuple[int, ...], **fields: Any) -> Workload:
    batch, seq, keys, group, kv_heads, head_dim = shape
    made = Workload("drawn", batch, seq, group * kv_heads, head_dim, DTYPE, distribution="randn")
    return replace(made, seq_kv=keys, kv_heads=kv_heads, **fields)


def tensors(workload: Workload) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return make_inputs(workload, DEVICE).sets["randn"]


def call(name: str, workload: Workload, *triple: torch.Tensor) -> torch.Tensor:
    """One call of a backend for this workload; an example that it does not take is not one."""
    backend = all_backends()[name]
    device = open_device(DEVICE, chosen=True)
    assume(not requirements.unmet(backend.requirements, device.facts, workload))
    assume(backend.refuses is None or not backend.refuses(workload, DEVICE))
    with ExitStack() as until, torch.no_grad():
        output = Variant(backend, "eager").load(workload, until)(*triple)
        return output.clone()


def assert_same(one: torch.Tensor, other: torch.Tensor) -> None:
    assert one.shape == other.shape
    assert (one - other).abs().max() <= CLOSE * max(1.0, float(other.abs().max()))


@pytest.mark.parametrize("name", BACKENDS)
@quick
@given(shape=SHAPES, shift=st.integers(1, 5))
def test_heads_that_change_places_change_the_outputs_places(name, shape, shift):
    workload = workload_of(shape)
    q, k, v = tensors(workload)
    by = shift % workload.k_shape[2]
    moved = call(name, workload, q.roll(by * workload.group, 2), k.roll(by, 2), v.roll(by, 2))
    assert_same(moved, call(name, workload, q, k, v).roll(by * workload.group, 2))


@pytest.mark.parametrize("name", BACKENDS)
@quick
@given(shape=SHAPES)
def test_entries_of_a_batch_do_not_know_each_other(name, shape):
    workload = workload_of(shape)
    alone = replace(workload, batch=1)
    triple = tensors(workload)
    parts = [
        call(name, alone, *(one[entry : entry + 1].contiguous() for one in triple)) for entry in range(workload.batch)
    ]
    assert_same(torch.cat(parts), call(name, workload, *triple))


@pytest.mark.parametrize("name", BACKENDS)
@quick
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_the_order_of_keys_says_nothing_without_a_mask(name, shape, seed):
    workload = workload_of(shape)
    q, k, v = tensors(workload)
    order = torch.randperm(k.shape[1], generator=torch.Generator().manual_seed(seed)).to(k.device)
    assert_same(
        call(name, workload, q, k[:, order].contiguous(), v[:, order].contiguous()), call(name, workload, q, k, v)
    )


@pytest.mark.parametrize("name", BACKENDS)
@quick
@given(shape=SHAPES, bias=st.floats(-2, 2))
def test_scores_that_are_shifted_by_a_constant_weigh_the_same(name, shape, bias):
    """A vector that is added to every key shifts all scores of a query by the same."""
    workload = workload_of(shape)
    q, k, v = tensors(workload)
    assert_same(call(name, workload, q, k + bias / 4, v), call(name, workload, q, k, v))


@pytest.mark.parametrize("name", taking("padding"))
@quick
@given(shape=SHAPES, data=st.data())
def test_a_padding_mask_is_as_if_the_keys_were_not_there(name, shape, data):
    batch, _, keys, *_ = shape
    lengths = tuple(data.draw(st.lists(st.integers(1, keys), min_size=batch, max_size=batch)))
    workload = workload_of(shape, mask="padding", lengths=lengths)
    q, k, v = tensors(workload)
    shorter = [
        call(
            name,
            replace(workload, batch=1, mask="none", lengths=(), seq_kv=length),
            *(q[entry : entry + 1].contiguous(), *(one[entry : entry + 1, :length].contiguous() for one in (k, v))),
        )
        for entry, length in enumerate(lengths)
    ]
    assert_same(call(name, workload, q, k, v), torch.cat(shorter))


@pytest.mark.parametrize("name", taking("causal"))
@quick
@given(shape=SHAPES, square=st.booleans())
def test_a_causal_mask_is_the_dense_one(name, shape, square):
    workload = workload_of(shape, mask="causal")
    workload = replace(workload, seq_kv=None) if square else workload
    q, k, v = tensors(workload)
    rows = torch.arange(workload.seq, device=q.device)
    seen = masks.visible(workload, rows, q.device)
    keys, values = (one.repeat_interleave(workload.group, 2).transpose(1, 2).double() for one in (k, v))
    scores = q.transpose(1, 2).double() @ keys.transpose(2, 3) * workload.head_dim**-0.5
    weights = torch.softmax(scores.masked_fill(~seen, float("-inf")), -1).nan_to_num()
    expected = (weights @ values).transpose(1, 2).to(q.dtype)
    found = call(name, workload, q, k, v)
    visible = seen[0, 0].any(-1)  # of a row that sees no key nothing is asked
    assert_same(found[:, visible], expected[:, visible]) if visible.any() else None


@pytest.mark.parametrize("name", BACKENDS)
@quick
@given(shape=SHAPES)
def test_grouped_heads_are_repeated_key_heads(name, shape):
    workload = workload_of(shape)
    q, k, v = tensors(workload)
    keys, values = (one.repeat_interleave(workload.group, 2) for one in (k, v))
    assert_same(call(name, workload, q, k, v), call(name, replace(workload, kv_heads=None), q, keys, values))


def test_there_are_backends_to_try():
    assert {"torch_math", "torch_flash", "numpy"} - set(BACKENDS) == (set() if DEVICE == "cpu" else {"numpy"})
