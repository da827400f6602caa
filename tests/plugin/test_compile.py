"""torch.compile: every case is really compiled, however many went before, and a graph break is never hidden."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import environment

from attnbench.backends.registry import Backend
from attnbench.backends.variant import Variant
from attnbench.cli.command import main
from attnbench.execution import local_case
from attnbench.execution.local_case import TorchCase
from attnbench.model import CaseEnded, Reason, Record, Status
from attnbench.workload import Workload

ROOT = Path(__file__).resolve().parents[2]

#: For two backends four graphs of one code object, where the limit lets three pass; dynamo's own is eight.
SHAPES = [f"1x{16 * n}x1x16:fp32" for n in (1, 2)]
LIMIT = "\nimport torch._dynamo\ntorch._dynamo.config.recompile_limit = 3\n"
SPELT_OUT = SHAPES  # of the first the C++ is compiled once: `eager_first`, which comes later, has the same

BACKENDS = """
import torch
from attnbench import register

def attention(q, k, v):  # one code object for both: what runs into dynamo's recompile limit
    weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
    return weights @ v

@register("first", "mine", layout="bhsd", modes=("default",))
def first(workload):
    return attention

@register("second", "mine", layout="bhsd", modes=("default",), fullgraph=False)
def second(workload):
    return attention

@register("breaks", "mine", layout="bhsd", modes=("default",), fullgraph=False)
def breaks(workload):
    def attention(q, k, v):
        weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
        torch._dynamo.graph_break()
        return weights @ v
    return attention

@register("must_not_break", "mine", layout="bhsd", modes=("default",))
def must_not_break(workload):
    return breaks(workload)

@register("spelt_out", "mine", layout="bhsd", modes=("default",))
def spelt_out(workload):
    def attention(q, k, v):  # in a form that Inductor does not replace by one fused call
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        weights = torch.exp(scores - scores.amax(-1, keepdim=True))
        return weights @ v / weights.sum(-1, keepdim=True)
    return attention

@register("eager_first", "mine", layout="bhsd", modes=("default",), eager_first=True)
def eager_first(workload):
    chosen = []
    def attention(q, k, v):
        if not chosen:
            if torch.compiler.is_compiling():
                raise NotImplementedError("no compiler follows this choice")
            chosen.append(q.shape)
        return spelt_out(workload)(q, k, v)
    return attention

@register("never_compiled", "mine", modes=("default",), fullgraph=False)
def never_compiled(workload):
    def whole(q, k, v):
        return attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)
    eager = torch.compiler.disable(whole)
    return lambda q, k, v: eager(q, k, v)
"""


@dataclass(frozen=True)
class Compiled:
    """What one process printed that compiled these cases, what it stored, and its records by backend."""

    printed: str
    file: Path
    records: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def compile_cases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, dict[str, list[str]]], Compiled]:
    """`compile_cases(name, {backend: workloads})`: in a fresh process on the CPU; all share one cache of Inductor's."""
    project = tmp_path_factory.mktemp("compiled")
    (project / "conftest.py").write_text(BACKENDS + LIMIT)
    (project / "test_suite.py").write_text("from attnbench.suite import test_attention\n")
    (project / "pytest.ini").write_text("[pytest]\n")
    # Without the second variable it compiles a program for each set of instructions, to try it.
    there = environment(TORCHINDUCTOR_CACHE_DIR=str(project / "inductor"), TORCHINDUCTOR_VEC_ISA_OK="1")

    def run(name: str, chosen: dict[str, list[str]]) -> Compiled:
        command = [sys.executable, "-m", "pytest", "-p", "attnbench.plugin", "--attn-device=cpu", "--attn-mode=default"]
        command += ["--attn-rounds=1", f"--benchmark-json={name}.json"]
        command += [f"--attn-backend={backend}" for backend in chosen]
        command += [f"--attn-workload={workload}" for workload in {w: 0 for some in chosen.values() for w in some}]
        for backend, workloads in chosen.items():
            command += [f"test_suite.py::test_attention[{backend}@default-{workload}]" for workload in workloads]
        ended = subprocess.run(
            command, check=False, cwd=project, env=there, capture_output=True, text=True, timeout=300
        )
        file, records = project / f"{name}.json", defaultdict(list)
        for record in json.loads(file.read_text())["attnbench"]["records"]:
            records[record["backend"]].append(record)
        return Compiled(ended.stdout + ended.stderr, file, dict(records))

    return run


@pytest.fixture(scope="module")
def compiled(compile_cases: Any) -> Compiled:
    """All of the backends in one process, where none spoils what follows, with nothing in Inductor's cache before."""
    once = ("breaks", "must_not_break", "eager_first", "never_compiled")
    chosen = {"spelt_out": SPELT_OUT, **dict.fromkeys(once, SHAPES[:1]), "first": SHAPES, "second": SHAPES}
    return compile_cases("cold", chosen)


def test_a_compiler_failure_fails_its_test_without_the_compilers_trace(compiled):
    assert re.search(r"^=+ 2 failed, 8 passed in [\d.:s() ]+ =+$", compiled.printed, re.M), "and no warnings"
    assert "torch.__trace" not in compiled.printed, "a failure is not followed by pages of torch's own trace"


def test_more_shapes_than_dynamos_recompile_limit_are_each_compiled(compiled):
    records = [*compiled.records["first"], *compiled.records["second"]]
    assert [record["status"] for record in records] == ["measured"] * 4
    found = [record["compilation"] for record in records]
    assert [(said["graphs"], said["graph_breaks"]) for said in found] == [(1, [])] * 4


def test_what_inductor_chose_and_whether_its_cache_had_it_is_said_of_each_graph(compiled, compile_cases, capsys):
    warm = compile_cases("warm", {"spelt_out": SPELT_OUT})
    for cache, run in (("cold", compiled), ("warm", warm)):
        found = [record["compilation"] for record in run.records["spelt_out"]]
        assert [one["cache"] for one in found] == [cache] * 2
        # On the CPU; a line per Triton kernel comes with CUDA.
        assert [one["choices"] for one in found] == [["extern_kernels.bmm: 2 calls"]] * 2
        caches = [(r["compilation"] or {}).get("cache") for some in run.records.values() for r in some]
        main(["report", str(run.file)])
        (line,) = re.findall(r"^first calls of compiled cases: .*", capsys.readouterr().out, re.M)
        assert f" s with a {cache} Inductor cache ({caches.count(cache)} case" in line


def test_a_graph_break_is_reported(compiled):
    (record,) = compiled.records["breaks"]
    assert record["status"] == "measured"
    assert record["compilation"]["graphs"] >= 2
    (said,) = record["compilation"]["graph_breaks"]
    assert said.startswith("Call to `torch._dynamo.graph_break()`")


def test_a_graph_break_where_none_is_allowed_is_an_error(compiled):
    (record,) = compiled.records["must_not_break"]
    assert (record["status"], record["reasons"][0]["code"]) == ("error", "first-call")


def test_a_call_that_dynamo_left_alone_is_not_measured_under_a_compiled_name(compiled):
    (record,) = compiled.records["never_compiled"]
    assert (record["status"], record["reasons"][0]["code"]) == ("error", "not-compiled")


def test_a_backend_with_eager_first_is_called_before_it_is_compiled(compiled):
    (record,) = compiled.records["eager_first"]
    assert record["status"] == "measured"


def test_a_torch_that_cannot_compile_here_is_an_error_row(bench, pytester, monkeypatch):
    def refuse(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("torch.compile is not supported on this Python")

    monkeypatch.setattr(torch, "compile", refuse)
    pytester.makeconftest(BACKENDS)
    case = ("--attn-backend=first", f"--attn-workload={SHAPES[0]}", "--attn-mode=default", "--attn-device=cpu")
    result = bench(*case, "--benchmark-json=run.json")
    result.assert_outcomes(failed=1)
    assert "torch.__trace" not in result.stdout.str()
    (record,) = bench.records().values()
    (reason,) = record["reasons"]
    assert (record["status"], reason["code"]) == ("error", "load")
    assert reason["text"].startswith("cannot be compiled: RuntimeError: torch.compile is not supported on this Python")


def test_a_loader_that_fails_to_undo_what_it_set_up_leaves_no_graph_to_the_next_case(monkeypatch):
    @contextmanager
    def load(workload):
        yield torch.add
        raise ValueError("cannot be undone")

    forgotten = []
    monkeypatch.setattr(local_case, "forget_compiled", lambda: forgotten.append("all"))
    variant, workload = Variant(Backend(load, "undone", "mine"), "default"), Workload("w", 1, 16, 1, 16)
    reached = Reason("not-reached", "not yet")
    draft = Record("undone@default-w", "undone", "mine", "default", workload, "a", Status.NOT_RUN, (reached,))
    case = TorchCase(variant, draft, lambda: None, dict)
    case._device, case._state = "cpu", local_case.process_state("mine")
    case._state.note()
    case._call = variant.compiled(variant.load(workload, case._until))
    with pytest.raises(CaseEnded, match="failed to undo what its loading has set up: ValueError: cannot be undone"):
        case.leave()
    assert forgotten == ["all"]
    case.close()  # a second time there is nothing left to do
