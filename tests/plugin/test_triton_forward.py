"""The kernel in Triton: right under Triton's interpreter, unsupported where that cannot be, and compilable for its GPUs."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import fresh_triton, interpreted

import attnbench
from attnbench.backends.registry import all_backends
from attnbench.backends.triton.triton_forward import configuration, padded

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="triton is published for Linux only")

ROOT = Path(attnbench.__file__).parents[1]
H200_SHARED_BYTES = 227 * 1024  # that one block may have on sm_90

#: Head dimensions of both precisions; seq is 1, below a block, above one by a tail, and two whole blocks of keys; more and
#: fewer keys than queries, of which the first then see none.
RIGHT = (
    *("1x70x2x16:fp16", "1x70x2x32:fp32", "1x70x2x64:fp16", "1x70x1x128:fp16", "1x40x1x256:fp32"),
    *("1x70x2x40:fp16", "1x40x1x80:fp32", "2x128x2x64:fp16", "1x1x2x64:fp16"),
    *("1x70/40x2x16:fp16:causal", "1x40/70x4/2x40:fp16:causal", "1x70/33x2/1x32:fp32", "2x128x1x32:fp16:causal:bhsd"),
)
REFUSED = {
    "1x70x2x36:fp16": "needs head_dim a multiple of 8 from 16 to 256, found 36",
    "1x32x1x8:fp16": "needs head_dim a multiple of 8 from 16 to 256, found 8",
    "1x32x1x512:fp16": "needs head_dim a multiple of 8 from 16 to 256, found 512",
    "1x32x1x16:bf16": "needs dtype fp16 or fp32 under Triton's interpreter, which cannot multiply bf16, found bf16",
    "1x1025x1x16:fp16": "needs at most 1,048,576 scores (batch × heads × queries × keys) under Triton's interpreter, "
    "found 1,050,625",
}


@pytest.fixture(scope="module", autouse=True)
def _triton_is_here() -> None:
    """Not a skip: without triton nothing below would say anything about the kernel."""
    assert importlib.util.find_spec("triton"), "triton is missing: it is in the dev group (pip install triton)"


@pytest.fixture(scope="module")
def of_the_suite(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Records by workload, of one run of the suite under Triton's interpreter."""
    project = tmp_path_factory.mktemp("interpreted")
    (project / "test_suite.py").write_text("from attnbench.suite import test_attention\n")
    (project / "pytest.ini").write_text("[pytest]\n")
    workloads = [f"--attn-workload={name}" for name in (*RIGHT, *REFUSED)]
    options = ("--benchmark-only", "--attn-device=cpu", "--attn-rounds=2", "--benchmark-json=run.json")
    pytest_run = ("-m", "pytest", "-p", "attnbench.plugin", "--attn-backend=triton_fwd", *options, *workloads)
    fresh_triton(
        *pytest_run, cwd=project, interpreted=True, may_exit_with=(0, 1)
    )  # 1: a wrong case fails its own test below
    records = json.loads((project / "run.json").read_text())["attnbench"]["records"]
    return {record["case"].removeprefix("triton_fwd@eager-"): record for record in records}


@pytest.mark.parametrize("workload", RIGHT)
def test_it_is_right_and_measured_under_the_interpreter(of_the_suite, workload):
    record = of_the_suite[workload]
    assert (record["status"], record["reasons"]) == ("measured", [])
    assert len(record["sample"]["rounds_s"]) == 2
    assert len(record["checks"]) == 3
    if "fp16" in workload:  # half of what is allowed is the error of an ideal fused kernel in 16 bits
        for check in record["checks"]:
            assert check["error"]["rel_l2"] <= 0.6 * check["allowed"]["rel_l2"], check["distribution"]


@pytest.mark.parametrize("workload", REFUSED)
def test_what_it_cannot_run_is_unsupported_with_the_reason(of_the_suite, workload):
    record = of_the_suite[workload]
    assert record["status"] == "unsupported"
    assert [reason["text"] for reason in record["reasons"]] == [REFUSED[workload]]


def test_without_the_interpreter_a_cpu_is_unsupported_whatever_the_dtype(bench, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    workloads = [f"--attn-workload=1x32x1x16:{dtype}" for dtype in ("bf16", "fp32")]
    arguments = ("--benchmark-only", "--benchmark-json=run.json", "--attn-device=cpu", *workloads)
    result = bench("--attn-backend=triton_fwd", *arguments)
    result.assert_outcomes(skipped=2)
    for record in bench.records().values():
        (reason,) = record["reasons"]
        assert record["status"] == "unsupported"
        assert reason["text"] == "needs device cuda, or TRITON_INTERPRET=1 for tiny shapes on the CPU, found cpu"


def test_all_reasons_are_said_at_once(bench, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    listed = bench("--attn-list", "--attn-backend=triton_fwd", "--attn-device=cpu", "--attn-workload=1x32x1x36:fp16")
    said = " ".join(listed.stdout.str().split())
    assert re.search(r"needs device cuda, or TRITON_INTERPRET=1 [^;]*; needs head_dim [^;]*, found 36 ", said)


STRIDED = """
import json
import torch
from attnbench.checks.reference import attend, metrics
from attnbench.backends.triton.triton_forward import triton_fwd
from attnbench.workload import Workload

def strided(batch, seq, heads, head_dim):  # [batch, heads, seq, head_dim] in memory, NaN behind the last row
    room = torch.full((batch, heads, seq + 64, head_dim), float("nan"))
    room[:, :, :seq] = torch.randn(batch, heads, seq, head_dim)
    return room[:, :, :seq].transpose(1, 2)

shape = (2, 70, 3, 32)
q, k, v = (strided(*shape) for _ in range(3))
out = triton_fwd(Workload("w", *shape, dtype="fp32"))(q, k, v)
error = metrics(out, attend(q, k, v, torch.float64))
print(json.dumps([error.rel_l2, error.nonfinite]))
"""


#: Behind the blocks that the first rows see, the values are NaN: a block that is read, and only masked, makes NaN of them.
SKIPPED = """
import json
import torch
from attnbench.backends.triton.triton_forward import forward

q, k, v = torch.randn(3, 1, 64, 1, 16).unbind()
v[:, 48:] = float("nan")
out = forward((16, 16, 4, 2), causal=True)(q, k, v)
print(json.dumps(out[:, :48].isfinite().all().item()))
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the two scripts above print."""
    return dict(
        zip((STRIDED, SKIPPED), interpreted(STRIDED, SKIPPED, cwd=tmp_path_factory.mktemp("scripts")), strict=True)
    )


def test_strided_inputs_are_read_where_they_lie_and_nothing_behind_them(printed):
    rel_l2, nonfinite = printed[STRIDED]
    assert nonfinite == 0
    assert rel_l2 < 1e-6


def test_causal_skips_the_blocks_of_keys_that_no_row_sees(printed):
    assert printed[SKIPPED]


COMPILED = """
import json
import triton
from triton.backends.compiler import GPUTarget
from attnbench.backends.triton.triton_forward import configuration
from attnbench.backends.triton.kernel import attnbench_forward as kernel

def compiled(head_dim, dtype, whole_blocks, causal):
    block_m, block_n, warps, stages = configuration("nvidia-h200", head_dim, 4 if dtype == "fp32" else 2, causal)
    rows, keys = (f"tensordesc<{dtype}[1, {block}, 1, {head_dim}]>" for block in (block_m, block_n))
    constants = dict(GROUP=1, HEAD_DIM=head_dim, BLOCK_M=block_m, BLOCK_N=block_n, CAUSAL=causal)
    constants |= dict(WHOLE_BLOCKS=whole_blocks) | ({} if causal else dict(lse=None))
    kinds = dict(q=rows, k=keys, v=keys, out=rows, lse="*fp32", seq_q="i32", seq_kv="i32", scale="fp32")
    kinds |= dict.fromkeys(constants, "constexpr")
    source = triton.compiler.ASTSource(kernel, {name: kinds[name] for name in kernel.arg_names}, constants)
    done = triton.compile(source, GPUTarget("cuda", 90, 32), options={"num_warps": warps, "num_stages": stages})
    return [done.metadata.name, done.metadata.shared, "wgmma" in done.asm["ptx"]]

cases = [(16, "bf16", False, False), (256, "bf16", False, False), (64, "bf16", True, True), (128, "bf16", False, True)]
cases += [(128, "fp16", True, False), (64, "fp32", False, False)]
print(json.dumps([compiled(*case) for case in cases]))
"""


def test_the_kernel_compiles_for_an_h200_within_its_shared_memory(tmp_path):
    compiled = json.loads(fresh_triton("-c", COMPILED, cwd=tmp_path, interpreted=False))
    assert len(compiled) == 6
    for name, shared_bytes, _ in compiled:
        assert re.search(all_backends()["triton_fwd"].route["cuda"], name)
        assert shared_bytes <= H200_SHARED_BYTES
    assert [tensor_cores for *_, tensor_cores in compiled] == [True] * 5 + [False]  # fp32 is computed in fp32


def test_a_configuration_is_looked_up_by_gpu_and_by_the_room_of_a_row():
    assert configuration("nvidia-h200", 128, 2) == (64, 64, 4, 3)
    assert configuration("nvidia-h200", 64, 4) == configuration("nvidia-h200", 128, 2)
    assert configuration("some-gpu", 128, 2) == configuration("some-gpu", 64, 4) == (64, 64, 4, 2)
    assert configuration("some-gpu", 16, 2) == configuration("some-gpu", 64, 2) == (64, 128, 4, 2)
    assert configuration("some-gpu", 80, 2) == configuration("some-gpu", 128, 2)
    assert configuration("some-gpu", 256, 4) == (32, 16, 4, 2)


@pytest.mark.parametrize("gpu", ["some-gpu", "nvidia-h200", "nvidia-h100-80gb-hbm3"])
@pytest.mark.parametrize("head_dim", range(16, 257, 8))
def test_no_16_bit_configuration_without_a_mask_has_steps_as_wide_as_a_row(gpu, head_dim):
    """Triton 3.6 adds scores up over the loop then, on an H200."""
    _, block_n, *_ = configuration(gpu, head_dim, 2)
    assert block_n != padded(head_dim)
