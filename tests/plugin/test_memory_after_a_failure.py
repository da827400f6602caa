"""What a kernel that failed had in memory is free again when the next case begins: it is not that case's to go without."""

from __future__ import annotations

import pytest

KERNELS = """
import weakref
import torch
from torch.nn.functional import scaled_dot_product_attention
from attnbench import register
from attnbench.suite import test_attention

held = []


def hold(tensor):
    held.append(weakref.ref(tensor))
    return tensor


def no_memory(q, k, v):
    scores = hold(torch.ones(1000))
    try:
        raise RuntimeError("of a library")
    except RuntimeError as first:
        torch.empty(2**50)


def raises_a_ring(q, k, v):
    scores = hold(torch.ones(1000))
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


def raises_a_group(q, k, v):
    def inner():
        scores = hold(torch.ones(1000))
        raise ValueError("inner")
    try:
        inner()
    except ValueError as first:
        raise Several("outer", first) from KeyError("another cause")


class Several(Exception):
    def __init__(self, text, *exceptions):
        super().__init__(text)
        self.exceptions = exceptions


def wrong(q, k, v):
    return hold(torch.ones_like(q))


@register("a_failing", "faults", layout="bhsd")
def a_failing(workload):
    return FAILING


@register("b_next", "others", layout="bhsd")
def b_next(workload):
    assert held, "the first case did not run"
    assert not any(one() is not None for one in held), "memory of the first case is not free"
    return scaled_dot_product_attention
"""


@pytest.mark.parametrize("failing", ["no_memory", "raises_a_ring", "raises_a_group", "wrong"])
def test_what_a_failed_kernel_held_is_free_for_the_next_case(bench, pytester, failing):
    pytester.path.joinpath("test_suite.py").write_text(KERNELS.replace("FAILING", failing))
    result = bench(
        "--benchmark-only", "--attn-backend=a_failing", "--attn-backend=b_next", "--attn-workload=1x16x2x8:fp32"
    )
    result.assert_outcomes(failed=1, passed=1)


LOADED = """
from contextlib import contextmanager
import torch
from attnbench import register
from attnbench.suite import test_attention


class Odd(Exception):
    def __bool__(self):
        raise RuntimeError("odd")

    @property
    def __cause__(self):
        raise RuntimeError("odder")


@register("a_loaded", "faults", layout="bhsd")
@contextmanager
def a_loaded(workload):
    try:
        raise ImportError("not built")
    except ImportError as caught:
        failure = caught

    def attention(q, k, v):
        raise RuntimeError("cannot run") from failure

    yield attention
    open("undone", "w").close()


@register("b_odd", "others", layout="bhsd")
def b_odd(workload):
    def attention(q, k, v):
        raise Odd("odd")

    return attention
"""


def test_what_loading_set_up_is_undone_and_an_odd_exception_is_a_row(bench, pytester):
    """Its generator is suspended, and stands in the traceback of what it raised and caught."""
    pytester.path.joinpath("test_suite.py").write_text(LOADED)
    result = bench("--benchmark-only", "--attn-backend=?_*", "--attn-workload=1x16x2x8:fp32")
    result.assert_outcomes(failed=2)
    assert pytester.path.joinpath("undone").exists()
