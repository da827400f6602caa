"""Gradients of the kernel in Triton: right under Triton's interpreter, and compilable for its GPUs."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from typing import Any

import pytest
from processes import fresh_triton, interpreted

from attnbench.backends.triton.triton_backward import backward_configuration

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="triton is published for Linux only")

H200_SHARED_BYTES = 227 * 1024  # that one block may have on sm_90

#: head_dim, causal, (queries, keys, heads, heads of keys). Two blocks with tails; more keys than queries; fewer, so that
#: under a causal mask the first rows see none.
CASES = tuple(itertools.product((40, 128), (False, True), ((40, 40, 2, 1), (17, 50, 1, 1), (50, 17, 2, 2))))


@pytest.fixture(scope="module", autouse=True)
def _triton_is_here() -> None:
    """Not a skip: without triton nothing below would say anything about the kernels."""
    assert importlib.util.find_spec("triton"), "triton is missing: it is in the dev group (pip install triton)"


GRADIENTS = """
import json, math
import torch
from attnbench.backends.triton.triton_backward import differentiable

def plain(q, k, v, causal):
    group = q.shape[2] // k.shape[2]
    q, k, v = q.transpose(1, 2), *(x.transpose(1, 2).repeat_interleave(group, 1) for x in (k, v))
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if causal:
        queries, keys = scores.shape[-2:]
        seen = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
        scores = scores.masked_fill(~seen, -1e9)
        return ((torch.softmax(scores, -1) * seen) @ v).transpose(1, 2)
    return (torch.softmax(scores, -1) @ v).transpose(1, 2)

def relative(found, expected):
    return ((found.double() - expected).norm() / expected.norm()).item()

def errors(head_dim, causal, shape, dtype=torch.float32):
    queries, keys, heads, kv_heads = shape
    torch.manual_seed(0)
    q, k, v, out_grad = (
        torch.randn(2, seq, count, head_dim).to(dtype)
        for seq, count in ((queries, heads), (keys, kv_heads), (keys, kv_heads), (queries, heads))
    )
    exact = [x.double().requires_grad_() for x in (q, k, v)]
    expected = plain(*exact, causal)
    mine = [x.requires_grad_() for x in (q, k, v)]
    found = differentiable((32, 16, 4, 2), (16, 32, 4, 2), (32, 16, 4, 2), causal)(*mine)
    pairs = zip(
        (found, *torch.autograd.grad(found, mine, out_grad)),
        (expected, *torch.autograd.grad(expected, exact, out_grad.double())),
    )
    return [relative(*pair) for pair in pairs]

print(json.dumps([errors(*case) for case in CASES] + [errors(64, True, (40, 40, 2, 1), torch.float16)]))
"""


#: Rows that see none of these keys have NaN gradients: a block that is read, and only masked, makes NaN of the sums.
SKIPPED = """
import json
import torch
from attnbench.backends.triton.triton_backward import differentiable

q, k, v = torch.randn(3, 1, 64, 1, 16).unbind()
leaves = [x.requires_grad_() for x in (q, k, v)]
out = differentiable(*[(16, 16, 4, 2)] * 3, causal=True)(*leaves)
out_grad = torch.ones_like(out)
out_grad[:, :16] = float("nan")
print(json.dumps([x[:, 16:].isfinite().all().item() for x in torch.autograd.grad(out, leaves, out_grad)]))
"""


ROWS_WITHOUT_KEYS = """
import json
import torch
from attnbench.backends.triton.triton_backward import differentiable

q, k, v = torch.randn(1, 50, 1, 16), torch.randn(1, 17, 1, 16), torch.randn(1, 17, 1, 16)
leaves = [x.requires_grad_() for x in (q, k, v)]
out = differentiable(*[(16, 16, 4, 2)] * 3, causal=True)(*leaves)
out.sum().backward()  # whose gradient is one number, expanded
print(json.dumps([*(x[:, :33].abs().max().item() for x in (out, q.grad)), q.grad[:, 33:].abs().min().item()]))
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the three scripts above print."""
    scripts = (GRADIENTS, SKIPPED, ROWS_WITHOUT_KEYS)
    found = interpreted(*(f"CASES = {CASES}\n{one}" for one in scripts), cwd=tmp_path_factory.mktemp("scripts"))
    return dict(zip(scripts, found, strict=True))


@pytest.fixture(scope="module")
def gradients(printed: dict[str, Any]) -> dict[Any, list[float]]:
    """Relative errors of the output, dq, dk and dv by case, in fp32, and one in fp16."""
    return dict(zip((*CASES, "fp16"), printed[GRADIENTS], strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_output_and_gradients_are_those_of_autograd_in_fp64(gradients, case):
    assert max(gradients[case]) < 2e-6  # NaN is not


def test_gradients_in_16_bits_are_as_exact_as_their_rounding(gradients):
    assert max(gradients["fp16"]) < 1e-3


def test_causal_skips_the_blocks_that_see_nothing_of_each_other(printed):
    assert printed[SKIPPED] == [True] * 3


def test_rows_without_keys_give_zeros_and_get_no_gradient(printed):
    out, q_grad, of_the_others = printed[ROWS_WITHOUT_KEYS]
    assert (out, q_grad) == (0, 0)
    assert of_the_others >= 0  # NaN is not


COMPILED = """
import json
import triton
from triton.backends.compiler import GPUTarget
from attnbench.backends.triton import kernel_backward
from attnbench.backends.triton.triton_backward import ROWSUM_ROWS, backward_configuration

def compiled(name, head_dim, causal):
    kernel = getattr(kernel_backward, f"attnbench_backward_{name}")
    block_m, block_n, warps, stages = ROWSUM_ROWS, 16, 4, 3
    if name != "rowsum":
        block_m, block_n, warps, stages = backward_configuration(name, "nvidia-h200", head_dim, 2, causal)
    rows, keys = (f"tensordesc<bf16[1, 1, {block}, {head_dim}]>" for block in (block_m, block_n))
    constants = dict(GROUP=2, HEAD_DIM=head_dim, BLOCK_M=block_m, BLOCK_N=block_n, CAUSAL=causal, WHOLE_BLOCKS=True)
    kinds = dict.fromkeys(("q", "out", "out_grad", "q_grad"), rows) | dict.fromkeys(("k", "v", "k_grad", "v_grad"), keys)
    kinds |= dict(lse="*fp32", rowsum="*fp32", seq_q="i32", seq_kv="i32", scale="fp32")
    kinds |= dict.fromkeys(constants, "constexpr")
    constants = {key: value for key, value in constants.items() if key in kernel.arg_names}
    source = triton.compiler.ASTSource(kernel, {key: kinds[key] for key in kernel.arg_names}, constants)
    done = triton.compile(source, GPUTarget("cuda", 90, 32), options={"num_warps": warps, "num_stages": stages})
    return [done.metadata.shared, "wgmma" in done.asm["ptx"]]

cases = [(name, d, causal) for name in ("keys", "queries") for d, causal in ((64, True), (128, False), (256, True))]
print(json.dumps([compiled(*case) for case in (*cases, ("rowsum", 128, False))]))
"""


def test_the_kernels_compile_for_an_h200_within_its_shared_memory(tmp_path):
    compiled = json.loads(fresh_triton("-c", COMPILED, cwd=tmp_path, interpreted=False))
    assert len(compiled) == 7
    assert max(shared_bytes for shared_bytes, _ in compiled) <= H200_SHARED_BYTES
    assert [tensor_cores for _, tensor_cores in compiled] == [True] * 6 + [False]


def test_a_configuration_is_looked_up_by_kernel_gpu_and_the_room_of_a_row():
    for kernel in ("keys", "queries"):
        wide = backward_configuration(kernel, "some-gpu", 128, 4, True)
        assert wide == backward_configuration(kernel, "some-gpu", 256, 2, True)
        assert wide != backward_configuration(kernel, "some-gpu", 128, 2, True)
