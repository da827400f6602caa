"""Backends that cannot share a process with the others: launched apart, with what their process needs, and said."""

from __future__ import annotations

import os
from typing import Any

import pytest

#: Two backends whose library wants a process of its own, started with a variable, beside one that does not. All say where
#: they are loaded, and what the variable was when the interpreter had just started.
CONFTEST = """
import os
from attnbench import OwnProcess, Device, HeadDim, register

AT_THE_START = os.environ.get("OTHER_LIBRARY", "unset")
APART = OwnProcess("other", "the other library brings a runtime of its own", lambda: {"OTHER_LIBRARY": "preloaded"})

def kernel(name):
    def load(workload):
        import torch
        from torch.nn.functional import scaled_dot_product_attention

        with open("loaded.txt", "a") as file:
            print(name, workload.seq, os.getpid(), AT_THE_START, file=file)

        def attention(q, k, v):
            return scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2).contiguous()

        return attention
    return load

register("other_one", "other", own_process=APART)(kernel("other_one"))
register("plain", "plain")(kernel("plain"))
register("other_two", "other", own_process=APART)(kernel("other_two"))
LOST = OwnProcess("broken", "its variables cannot be found", lambda: {}["HOME"])
register("broken", "broken", own_process=LOST)(kernel("broken"))
register("broken_on_a_gpu", "broken", requires=(Device("cuda"),))(kernel("broken_on_a_gpu"))
register("other_on_a_gpu", "other", own_process=APART, requires=(Device("cuda"),))(kernel("other_on_a_gpu"))

NARROW = HeadDim(lambda head_dim: head_dim <= 32, "at most 32")

@register("lost", "lost", own_process=OwnProcess("lost", "it takes the context with it"), requires=(NARROW,))
def lost(workload):
    from attnbench.model import CaseEnded, Reason, Status

    raise CaseEnded(Status.ERROR, Reason("context-lost", "an illegal memory access"))
"""
SHAPES = ("--attn-workload=1x64x2x32:bf16", "--attn-workload=1x96x2x32:bf16")
RUN = ("--attn-device=cpu", "--attn-rounds=1", "--benchmark-json=run.json", *SHAPES)
SAID = "other_one, other_two: ran in its own process: the other library brings a runtime of its own"


@pytest.fixture
def project(bench: Any, pytester: pytest.Pytester) -> Any:
    pytester.makeconftest(CONFTEST)
    return bench


def loaded(pytester: pytest.Pytester) -> list[list[str]]:
    return [line.split() for line in (pytester.path / "loaded.txt").read_text().splitlines()]


def test_a_group_has_a_process_of_its_own_with_its_variables_and_every_report_says_so(
    project: Any, pytester: pytest.Pytester
) -> None:
    result = project("--benchmark-only", "--attn-backend=other_*", "--attn-backend=plain", *RUN)
    result.assert_outcomes(passed=6, skipped=2)
    assert result.outlines.count(SAID) == 1

    where = {(name, pid == str(os.getpid()), variable) for name, _, pid, variable in loaded(pytester)}
    assert where == {("plain", True, "unset"), ("other_one", False, "preloaded"), ("other_two", False, "preloaded")}
    assert len({pid for _, _, pid, _ in loaded(pytester)}) == 2, "a group shares a process"

    records = project.records()
    why = "the other library brings a runtime of its own"
    assert {record["backend"]: (record["apart"], record["status"]) for record in records.values()} == {
        "plain": ("", "measured"),
        "other_one": (why, "measured"),
        "other_two": (why, "measured"),
        "other_on_a_gpu": ("", "unsupported"),
    }


def test_variables_that_cannot_be_worked_out_cost_their_own_rows(project: Any) -> None:
    result = project("--benchmark-only", "--attn-backend=broken", "--attn-backend=plain", *RUN)
    result.assert_outcomes(passed=2, failed=2)
    reasons = {r["backend"]: r["reasons"] for r in project.records().values()}
    assert reasons["broken"] == [{"code": "launch", "text": "cannot run in its own process: KeyError: 'HOME'"}]


def test_variables_that_cannot_be_worked_out_are_a_row_where_nothing_else_runs(project: Any) -> None:
    result = project("--benchmark-only", "--attn-backend=broken*", *RUN)
    result.assert_outcomes(failed=2, skipped=2)
    reasons = {r["backend"]: r["reasons"][0]["text"] for r in project.records().values()}
    assert reasons == {
        "broken": "cannot run in its own process: KeyError: 'HOME'",
        "broken_on_a_gpu": "needs device cuda, found cpu",
    }


def test_a_context_that_is_lost_in_another_process_is_not_this_one_s(project: Any) -> None:
    wide = "--attn-workload=1x64x2x64:bf16"  # refused for its head_dim, which needs no process
    result = project("--benchmark-only", "--attn-backend=lost", "--attn-backend=plain", *RUN, wide)
    result.assert_outcomes(passed=3, failed=2, skipped=1)
    launches = {case: record["launch"] for case, record in project.records().items()}
    assert launches["lost@eager-1x64x2x64:bf16"] == launches["plain@eager-1x64x2x64:bf16"]
    assert launches["lost@eager-1x64x2x32:bf16"] != launches["plain@eager-1x64x2x32:bf16"]


def test_alone_it_stays_in_a_process_that_was_started_with_its_variables(
    project: Any, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_LIBRARY", "preloaded")
    result = project("--benchmark-disable", "--attn-backend=other_one", *RUN)
    result.assert_outcomes(passed=2)
    assert {pid for _, _, pid, _ in loaded(pytester)} == {str(os.getpid())}
    assert "launched apart" not in result.stdout.str()


def test_a_listing_does_not_load_it_beside_the_others(project: Any, pytester: pytest.Pytester) -> None:
    result = project("--attn-list", "--attn-device=cpu", "--attn-backend=other_o*", "--attn-backend=plain", SHAPES[0])
    result.stdout.fnmatch_lines(
        [
            "  other_one       eager: ready, loaded when it runs",
            "  plain           eager: ready",
            "  other_on_a_gpu  eager: needs device cuda, found cpu",
            "3 cases: 2 ready, 1 not",
        ]
    )
    assert {name for name, *_ in loaded(pytester)} == {"plain"}
