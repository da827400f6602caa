"""torch.compile: every case is really compiled, however many went before, and a graph break is never hidden."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from attnbench import torch_case
from attnbench.model import CaseEnded, Reason, Record, Status, Workload
from attnbench.registry import Backend
from attnbench.report.__main__ import main as report
from attnbench.torch_case import TorchCase
from attnbench.variant import Variant

#: For two backends ten graphs of one code object, where dynamo's recompile limit lets eight pass.
SHAPES = [f"--attn-workload=1x{16 * n}x1x16:fp32" for n in range(1, 6)]

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


@pytest.fixture
def compiled(bench, pytester):
    """`compiled(*arguments)` runs compiled backends on the CPU and gives their records."""
    pytester.makeconftest(BACKENDS)

    def run(*arguments: str, **outcomes: int) -> dict[str, dict]:
        compiled = ("--attn-device=cpu", "--attn-mode=default", "--attn-rounds=1", "--benchmark-json=run.json")
        result = bench.fresh(*compiled, *arguments, timeout_s=300)
        result.assert_outcomes(warnings=0, **outcomes)  # nothing of what torch's compiler says about torch itself
        assert "torch.__trace" not in result.stdout.str(), "a failure is not followed by pages of torch's own trace"
        return bench.records()

    return run


def test_more_shapes_of_two_backends_than_dynamo_recompiles_in_one_process_are_each_compiled(compiled):
    records = compiled(*SHAPES, "--attn-backend=first", "--attn-backend=second", passed=10)
    assert len(records) == 10
    found = [record["compilation"] for record in records.values()]
    assert [(said["graphs"], said["graph_breaks"]) for said in found] == [(1, [])] * 10


def test_what_inductor_chose_and_whether_its_cache_had_it_is_said_of_each_graph(
    compiled, pytester, monkeypatch, capsys
):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(pytester.path / "inductor"))
    chosen = ("--attn-backend=spelt_out", "--attn-workload=1x32x2x16:fp32", "--attn-workload=1x48x2x16:fp32")
    for cache in ("cold", "warm"):
        found = [r["compilation"] for r in compiled(*chosen, passed=2).values()]
        assert [one["cache"] for one in found] == [cache] * 2
        # On the CPU; a line per Triton kernel comes with CUDA.
        assert [one["choices"] for one in found] == [["extern_kernels.bmm: 2 calls"]] * 2
        report([str(pytester.path / "run.json")])
        assert f"\nfirst calls of compiled cases, by Inductor's cache: 2 {cache}, " in capsys.readouterr().out


def test_a_graph_break_is_reported(compiled):
    records = compiled(SHAPES[0], "--attn-backend=breaks", passed=1)
    (record,) = records.values()
    assert record["status"] == "measured"
    assert record["compilation"]["graphs"] >= 2
    (said,) = record["compilation"]["graph_breaks"]
    assert said.startswith("Call to `torch._dynamo.graph_break()`")


def test_a_graph_break_where_none_is_allowed_is_an_error(compiled):
    records = compiled(SHAPES[0], "--attn-backend=must_not_break", failed=1)
    (record,) = records.values()
    assert (record["status"], record["reasons"][0]["code"]) == ("error", "first-call")


def test_a_call_that_dynamo_left_alone_is_not_measured_under_a_compiled_name(compiled):
    records = compiled(SHAPES[0], "--attn-backend=never_compiled", failed=1)
    (record,) = records.values()
    assert (record["status"], record["reasons"][0]["code"]) == ("error", "not-compiled")


def test_what_a_library_settles_on_its_first_call_is_settled_before_the_compilation_where_it_asks_for_that(compiled):
    compiled(SHAPES[0], "--attn-backend=eager_first", passed=1)


REFUSES = """
import torch

def compile(*arguments, **options):
    raise RuntimeError("torch.compile is not supported on this Python")

torch.compile = compile
"""


def test_a_torch_that_cannot_compile_here_is_an_error_row(compiled, pytester):
    conftest = pytester.path / "conftest.py"
    conftest.write_text(f"{conftest.read_text()}{REFUSES}")
    (record,) = compiled(SHAPES[0], "--attn-backend=first", failed=1).values()
    (reason,) = record["reasons"]
    assert (record["status"], reason["code"]) == ("error", "load")
    assert reason["text"].startswith("cannot be compiled: RuntimeError: torch.compile is not supported on this Python")


def test_a_loader_that_fails_to_undo_what_it_set_up_leaves_no_graph_to_the_next_case(monkeypatch):
    @contextmanager
    def load(workload):
        yield torch.add
        raise ValueError("cannot be undone")

    forgotten = []
    monkeypatch.setattr(torch_case, "forget_compiled", lambda: forgotten.append("all"))
    variant, workload = Variant(Backend("undone", "mine", load), "default"), Workload("w", 1, 16, 1, 16)
    reached = Reason("not-reached", "not yet")
    draft = Record("undone@default-w", "undone", "mine", "default", workload, "a", Status.NOT_RUN, (reached,))
    case = TorchCase(variant, draft, lambda: None, dict)
    case._device, case._state = "cpu", torch_case.process_state("mine")
    case._state.note()
    case._call = variant.compiled(variant.load(workload, case._until))
    with pytest.raises(CaseEnded, match="failed to undo what its loading has set up: ValueError: cannot be undone"):
        case.leave()
    assert forgotten == ["all"]
    case.close()  # a second time there is nothing left to do
