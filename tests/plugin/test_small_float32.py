"""float32 on small shapes, where the error of one right kernel bounds that of another only by chance."""

# torch is imported where it is used: `pytest --collect-only` imports this file.
from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import pytest

from attnbench.workload import Workload

SHAPES = [(1, seq, heads, dim) for seq, heads, dim in product((1, 2, 3, 17, 31, 100), (1, 2), (1, 8, 40, 128))]


@cache
def prepared(shape: tuple[int, int, int, int]) -> Any:
    """Inputs and references, which all kernels share."""
    from attnbench.checks.reference import make_references
    from attnbench.workloads.inputs import make_inputs

    inputs = make_inputs(Workload("small", *shape, dtype="fp32"), "cpu")
    return inputs, make_references(inputs)


def checked(name: str, shape: tuple[int, int, int, int]) -> list[bool]:
    """Whether this kernel is within the tolerance, by input distribution."""
    from attnbench.backends.tolerances import SIXTEEN_BIT, allowed, violations
    from attnbench.checks.reference import metrics

    inputs, references = prepared(shape)
    passed = []
    for distribution, known in references.items():
        right = known["output"]
        q, k, v = (x.transpose(1, 2) for x in inputs.sets[distribution])
        output = KERNELS[name](q, k, v).transpose(1, 2)
        limits = allowed(SIXTEEN_BIT, distribution, right.plain, right.fused, right.rounding, right.magnitude)
        passed.append(not violations(metrics(output, right.output), limits, distribution))
    return passed


def flash(q: Any, k: Any, v: Any) -> Any:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return scaled_dot_product_attention(q, k, v)


def math(q: Any, k: Any, v: Any, by: float = 1.0) -> Any:
    return (q @ k.transpose(-1, -2) * (by * q.shape[-1] ** -0.5)).softmax(-1) @ v


def by_exp2(q: Any, k: Any, v: Any) -> Any:
    """As kernels in Triton do it: the scale and log2(e) in one factor, and the division last."""
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 * 1.4426950408889634)
    weights = (scores - scores.amax(-1, keepdim=True)).exp2()
    return weights @ v / weights.sum(-1, keepdim=True)


def one_percent_off(q: Any, k: Any, v: Any) -> Any:
    return math(q, k, v, 1.01)


def drops_a_key(q: Any, k: Any, v: Any) -> Any:
    return math(q, k[:, :, :-1], v[:, :, :-1])


def leaves_a_row(q: Any, k: Any, v: Any) -> Any:
    output = math(q, k, v)
    output[:, :, -1] = output[:, :, 0]
    return output


RIGHT = (flash, math, by_exp2)
WRONG = (one_percent_off, drops_a_key, leaves_a_row)
KERNELS = {kernel.__name__: kernel for kernel in (*RIGHT, *WRONG)}


@pytest.mark.parametrize("name", [kernel.__name__ for kernel in RIGHT])
def test_no_right_kernel_is_refused(name):
    assert [shape for shape in SHAPES if not all(checked(name, shape))] == []


@pytest.mark.parametrize("name", [kernel.__name__ for kernel in WRONG])
def test_a_wrong_kernel_is_refused_whatever_the_shape(name):
    more_than_a_key = [shape for shape in SHAPES if shape[1] > 1]
    assert [shape for shape in more_than_a_key if all(checked(name, shape))] == []
