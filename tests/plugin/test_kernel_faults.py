"""Backends that are broken in every way that a kernel can be: a row with one sentence each, and the others are measured."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from processes import environment

import attnbench

ROOT = Path(attnbench.__file__).parents[1]
WORKLOAD = "1x64x2x16:bf16"

KERNELS = """
import asyncio
import ctypes
import sys
import unittest
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from attnbench import register

HERE = Path(__file__).parent


def right(q, k, v):
    return F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2).clone()


def kernel(function):
    register(function.__name__, "faults")(lambda workload: function)


def loads(function):
    register(function.__name__, "faults")(function)


kernel(right)


@loads
def serving(workload):
    return torch.inference_mode()(right)  # as serving libraries decorate what they offer


@loads
def serving_from_a_buffer(workload):
    with torch.inference_mode():
        buffer = torch.empty(workload.shape, dtype=torch.bfloat16)

    @torch.inference_mode()
    def call(q, k, v):
        return buffer.copy_(right(q, k, v))

    return call


@loads
def not_installed_inside(workload):
    import a_library_that_is_not_there

@loads
def broken_library(workload):
    ctypes.CDLL(str(HERE / "broken.so"))

@loads
def syntax_error(workload):
    import module_with_a_syntax_error

@loads
def leaves_while_loading(workload):
    sys.exit("no licence for this kernel")

@loads
def skips_itself(workload):
    pytest.importorskip("a_library_that_is_not_there")

@loads
def is_skipped_by_unittest(workload):
    raise unittest.SkipTest("not on this machine")

@kernel
def skips_when_called(q, k, v):
    pytest.skip("I skip myself")

@kernel
def expects_to_fail(q, k, v):
    pytest.xfail("known to be wrong")

@kernel
def fails_as_a_test(q, k, v):
    pytest.fail("wrong head_dim")

@kernel
def ends_the_run(q, k, v):
    pytest.exit("enough")

class PanicException(BaseException):  # as Rust's panics arrive in Python
    pass

@kernel
def panics(q, k, v):
    raise PanicException("index out of bounds")

@kernel
def is_cancelled(q, k, v):
    raise asyncio.CancelledError

CALLS = []

@kernel
def skips_later(q, k, v):
    CALLS.append(1)
    if len(CALLS) == 7:  # the first of the calls that are timed
        pytest.skip("I had enough")
    return right(q, k, v)

@register("skips_as_it_is_asked", "faults", refuses=lambda *asked: pytest.skip("ask me later"))
def skips_as_it_is_asked(workload):
    return right

@loads
def returns_no_function(workload):
    pass

@kernel
def leaves_when_called(q, k, v):
    sys.exit(3)

@kernel
def raises(q, k, v):
    raise RuntimeError("no kernel image is available\\nand many more lines")

@kernel
def out_of_memory(q, k, v):
    torch.empty(1 << 50)

@kernel
def cut_short(q, k, v):
    return right(q, k, v)[:, :-1].clone()

@kernel
def other_axes(q, k, v):
    return right(q, k, v).transpose(1, 2).contiguous()

@kernel
def other_dtype(q, k, v):
    return right(q, k, v).float()

@kernel
def sparse(q, k, v):
    return right(q, k, v).to_sparse()

@kernel
def nothing(q, k, v):
    right(q, k, v)

@kernel
def with_lse(q, k, v):
    return right(q, k, v), None

@kernel
def view_of_input(q, k, v):
    return v.view(v.shape)

@kernel
def half_written(q, k, v):
    out, half = torch.empty_like(q), q.shape[1] // 2
    out[:, :half] = right(q[:, :half], k, v)
    return out

@kernel
def one_nan(q, k, v):
    out = right(q, k, v)
    out[0, 3, 1, 2] = float("nan")
    return out

@kernel
def writes_into_k(q, k, v):
    out = right(q, k, v)
    k += 1
    return out

@kernel
def one_percent_off(q, k, v):
    return right(q, k, v) * 1.01

@kernel
def clips_outliers(q, k, v):
    usual = 6 if k.abs().max() < 12.5 else 20
    return right(q, k.clamp(-usual, usual), v)

LAST = {}

@kernel
def remembers_its_answer(q, k, v):
    if q.data_ptr() not in LAST:
        LAST[q.data_ptr()] = right(q, k, v)
    return LAST[q.data_ptr()]


@register("another_kernel", "faults", route={"cpu": "my_own_op"})
def another_kernel(workload):
    return right
"""

SAID = {
    "not_installed_inside": (
        "error",
        "cannot be loaded: ModuleNotFoundError: No module named 'a_library_that_is_not_there'",
    ),
    "broken_library": ("error", "broken.so: "),
    "syntax_error": ("error", "cannot be loaded: SyntaxError: expected ':' (module_with_a_syntax_error.py, line 1)"),
    "leaves_while_loading": ("error", "cannot be loaded: SystemExit: no licence for this kernel"),
    "skips_itself": (
        "error",
        "cannot be loaded: pytest.skip: could not import 'a_library_that_is_not_there'",
    ),
    "is_skipped_by_unittest": (
        "error",
        "cannot be loaded: unittest.SkipTest: not on this machine (a kernel cannot skip",
    ),
    "skips_when_called": (
        "error",
        "failed on its first call: pytest.skip: I skip myself (a kernel cannot skip its case",
    ),
    "expects_to_fail": ("error", "failed on its first call: pytest.xfail: known to be wrong (a kernel cannot skip its"),
    "fails_as_a_test": ("error", "failed on its first call: pytest.fail: wrong head_dim"),
    "ends_the_run": ("error", "failed on its first call: pytest.exit: enough"),
    "panics": ("error", "failed on its first call: PanicException: index out of bounds"),
    "is_cancelled": ("error", "failed on its first call: CancelledError in is_cancelled ("),
    "skips_later": ("error", "pytest.skip: I had enough"),
    "skips_as_it_is_asked": ("error", "cannot say whether it runs here: pytest.skip: ask me later"),
    "returns_no_function": ("error", "`load` must return a function (q, k, v) -> output, found NoneType"),
    "leaves_when_called": ("error", "failed on its first call: SystemExit: 3"),
    "raises": ("error", "failed on its first call: RuntimeError: no kernel image is available"),
    "out_of_memory": ("error", "you tried to allocate 4503599627370496 bytes"),
    "cut_short": ("incorrect", "returned shape [1, 63, 2, 16], needed [1, 64, 2, 16] of [batch, seq, heads, head_dim]"),
    "other_axes": ("incorrect", "returned shape [1, 2, 64, 16], needed [1, 64, 2, 16]"),
    "other_dtype": ("incorrect", "returned torch.float32, needed torch.bfloat16"),
    "sparse": ("incorrect", "returned a torch.sparse_coo tensor, needed torch.strided"),
    "nothing": ("incorrect", "returned NoneType, needed one tensor [1, 64, 2, 16]"),
    "with_lse": ("incorrect", "returned tuple, needed one tensor"),
    "view_of_input": ("incorrect", "returned a view of an input, needed memory of its own"),
    "half_written": ("incorrect", "inputs"),  # NaN where its memory was poisoned, a wrong number where it was not
    "one_nan": ("incorrect", "NaN or Inf on randn inputs, the first at [0, 3, 1, 2]"),
    "writes_into_k": ("incorrect", "wrote into its input: k of randn*randint(1,5)"),
    "one_percent_off": ("incorrect", "rel_l2 found 0.01"),
    "clips_outliers": ("incorrect", "on outlier-k inputs"),
    "remembers_its_answer": ("incorrect", "its memory held NaN before the call: was it written?"),
    "another_kernel": ("incorrect", "expected a kernel that matches 'my_own_op', but another_kernel ran: aten::"),
}


RIGHT = ("right", "serving", "serving_from_a_buffer")


@dataclass(frozen=True)
class Outcome:
    exit_code: int
    printed: str
    records: dict[str, Any]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """All of them in one run, the good one between them: its row shows that none spoils what follows."""
    project = tmp_path_factory.mktemp("faults")
    (project / "conftest.py").write_text(KERNELS)
    (project / "test_suite.py").write_text("from attnbench.suite import test_attention\n")
    (project / "pytest.ini").write_text("[pytest]\n")
    (project / "module_with_a_syntax_error.py").write_text("def kernel(q, k, v)\n    return q\n")
    (project / "broken.so").write_text("of another platform, or cut off: " * 9)
    chosen = [f"--attn-backend={name}" for name in (*RIGHT, *SAID)]
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "attnbench.plugin", "--benchmark-only", "--attn-device=cpu"),
            *("--attn-rounds=2", f"--attn-workload={WORKLOAD}", "--benchmark-json=run.json", *chosen),
        ],
        check=False,
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    stored = json.loads((project / "run.json").read_text())["attnbench"]["records"]
    return Outcome(ended.returncode, ended.stdout + ended.stderr, {record["backend"]: record for record in stored})


@pytest.mark.parametrize("backend", SAID)
def test_a_broken_kernel_is_a_row_that_says_what_is_wrong(backend: str, outcome: Outcome) -> None:
    status, sentence = SAID[backend]
    record = outcome.records[backend]
    assert record["status"] == status
    assert sentence in "; ".join(reason["text"] for reason in record["reasons"])
    assert record["sample"] is None


@pytest.mark.parametrize("backend", RIGHT)
def test_a_good_kernel_among_broken_ones_is_measured(backend: str, outcome: Outcome) -> None:
    assert outcome.records[backend]["status"] == "measured"
    assert len(outcome.records[backend]["sample"]["rounds_s"]) == 2
    # Which memory the next output gets is up to the CPU's allocator; what was made in inference mode can be filled, too.
    assert any(check["poisoned"] for check in outcome.records[backend]["checks"])


def test_broken_kernels_are_failed_tests_and_nothing_worse(outcome: Outcome) -> None:
    assert outcome.exit_code == 1
    assert f"{len(SAID)} failed, {len(RIGHT)} passed" in outcome.printed
    for ours in ("INTERNALERROR", "Traceback", "local_case.py", "another exception", "was not used"):
        assert ours not in outcome.printed


def test_the_memory_of_the_last_output_is_poisoned_before_the_call_that_is_checked(outcome: Outcome) -> None:
    assert [check["poisoned"] for check in outcome.records["remembers_its_answer"]["checks"]] == [True] * 3


def test_a_workload_that_is_larger_than_any_memory_costs_its_own_cases(bench: Any) -> None:
    huge = "1x17592186044416x2x64:bf16"
    result = bench(
        *("--benchmark-only", "--benchmark-json=run.json", "--attn-device=cpu", "--attn-rounds=1"),
        *("--attn-backend=torch_math", "--attn-mode=eager", f"--attn-workload={huge}", f"--attn-workload={WORKLOAD}"),
    )
    result.assert_outcomes(passed=1, failed=1)
    [reason] = bench.records()[f"torch_math@eager-{huge}"]["reasons"]
    assert reason["code"] == "out-of-memory"
    assert reason["text"].startswith("has no inputs: ")
    assert "Traceback" not in result.stdout.str()
