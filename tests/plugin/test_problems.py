"""Masks, cross lengths, grouped heads, packed sequences, layouts: right kernels are measured, wrong ones found out."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import torch

from attnbench.checks.checked_call import CheckedCall
from attnbench.checks.reference import attend
from attnbench.checks.symmetry import Flip, Negate, Roll, moves
from attnbench.workloads import masks
from attnbench.workloads.inputs import make_inputs
from attnbench.workloads.table import parse_spelt

#: Every feature by itself, and those that are combined in use; rows without a key among them.
PROBLEMS = (
    *("2x24/40x4/2x16/24:fp32", "1x32x4x16:fp32:causal", "2x24/40x4/2x16:fp32:causal", "1x40/24x2x16:fp32:causal"),
    *("2x32x4x16:fp32:padding", "2x32x2x16:fp32:padding=0+5", "1x32x1x16:fp32:bool", "1x24/40x4x16:fp32:additive"),
    *("1x32x4x16:fp32:packed=12+20", "1x32x4x16:fp32:causal:packed=12+20", "2x32x4x16:fp16:bhsd"),
)

KERNELS = """
import torch

from attnbench import register
from attnbench.backends.registry import all_backends
from attnbench.workload import FEATURES

EVERYTHING = tuple(one for one in FEATURES if one != "dropout")


def kernel(takes=EVERYTHING, layout="bshd"):
    "Called with the right kernel for the workload, and q, k, v."
    def add(function):
        def load(workload):
            right = all_backends()["numpy"].load(workload)
            return lambda q, k, v: function(workload, right, q, k, v)
        register(function.__name__, "example", takes=takes, layout=layout)(load)
    return add


@kernel()
def ignores_the_mask(workload, right, q, k, v):
    return torch.softmax(torch.einsum("bqhd,bkhd->bhqk", q, k) / 4, -1).matmul(v.transpose(1, 2)).transpose(1, 2)

@kernel()
def aligned_at_the_first(workload, right, q, k, v):
    seen = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril()
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k).masked_fill(~seen, float("-inf")) / 4
    return torch.softmax(scores, -1).matmul(v.transpose(1, 2)).transpose(1, 2)

@kernel()
def mixes_up_the_groups(workload, right, q, k, v):
    return right(q.roll(1, 2), k, v).roll(-1, 2)

@kernel()
def remembers(workload, right, q, k, v):
    if not hasattr(workload, "seen"):
        object.__setattr__(workload, "seen", [])
    workload.seen.append(1)
    if len(workload.seen) < 12:
        workload.__dict__["last"] = right(q, k, v)
    return workload.__dict__["last"].clone()

@kernel()
def nothing_for_keyless_rows(workload, right, q, k, v):
    out = right(q, k, v)
    for entry, length in enumerate(workload.lengths):
        if not length:
            out[entry] = float("nan")
    return out

@kernel(takes=())
def plain_alone(workload, right, q, k, v):
    return right(q, k, v)

@kernel(layout="bhsd")
def wants_heads_first(workload, right, q, k, v):
    print("CONTIGUOUS", workload.layout, q.is_contiguous(), k.is_contiguous(), v.is_contiguous())
    return right(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2)
"""


@pytest.fixture
def measured(bench: Any, pytester: pytest.Pytester) -> Any:
    """`measured(backends, *workloads)`: the records by backend and workload, and all that was printed."""

    def run(backends: str, *workloads: str) -> tuple[dict[tuple[str, str], dict[str, Any]], str]:
        pytester.makeconftest(KERNELS)
        chosen = [f"--attn-workload={one}" for one in workloads] + [f"--attn-backend={one}" for one in backends.split()]
        result = bench(*chosen, "--attn-mode=eager", "--attn-rounds=16", "-s", "--benchmark-json=run.json")
        records = json.loads((pytester.path / "run.json").read_text())["attnbench"]["records"]
        return {(one["backend"], one["workload"]["name"]): one for one in records}, result.stdout.str()

    return run


def test_kernels_that_share_no_code_agree_on_every_problem(measured):
    records, _ = measured("numpy torch_math", *PROBLEMS)
    refused = {name for (backend, name), one in records.items() if one["status"] == "unsupported"}
    assert refused == {"2x24/40x4/2x16:fp32:causal", "1x40/24x2x16:fp32:causal"}, (
        "SDPA aligns at the first query and key"
    )
    others = {key: one for key, one in records.items() if key[0] == "numpy" or key[1] not in refused}
    assert {key: one["status"] for key, one in others.items()} == dict.fromkeys(others, "measured")
    assert {len(one["checks"]) for one in others.values()} == {3}


@pytest.mark.parametrize(
    ("backend", "workload"),
    [
        ("ignores_the_mask", "1x32x2x16:fp32:causal"),
        ("ignores_the_mask", "2x32x2x16:fp32:padding"),
        ("ignores_the_mask", "1x32x2x16:fp32:bool"),
        ("ignores_the_mask", "1x32x2x16:fp32:additive"),
        ("ignores_the_mask", "1x32x2x16:fp32:packed=12+20"),
        ("aligned_at_the_first", "1x24/40x2x16:fp32:causal"),
        ("mixes_up_the_groups", "1x32x4/2x16:fp32"),
    ],
)
def test_a_kernel_that_misreads_the_problem_is_incorrect(measured, backend, workload):
    records, _ = measured(backend, workload)
    (record,) = records.values()
    assert (record["status"], record["reasons"][0]["code"]) == ("incorrect", "tolerance")


@pytest.mark.parametrize(
    "workload",
    [
        *("1x32x1x16:fp32:causal", "1x32x1x16:fp32:bool", "1x32x2/1x16:fp32:additive", "1x32x4/2x16:fp32:causal"),
        *("2x32x1x16:fp32:padding", "1x32x1x16:fp32:packed=12+20", "1x24/40x1x16:fp32", "1x1x1x16:fp32"),
    ],
)
def test_an_answer_that_is_remembered_is_found_out_whatever_the_mask(measured, workload):
    records, _ = measured("remembers", workload)
    (record,) = records.values()
    assert (record["status"], record["reasons"][0]["code"]) == ("incorrect", "timed-output")


def test_what_a_kernel_leaves_in_rows_without_a_key_is_its_own_business(measured):
    records, _ = measured("nothing_for_keyless_rows", "2x32x2x16:fp32:padding=0+5")
    assert [one["status"] for one in records.values()] == ["measured"]


def test_a_kernel_that_takes_less_is_unsupported_with_found_and_needed(measured):
    records, _ = measured("plain_alone", "1x32x2x16:fp32", "1x24/40x4/2x16:fp32:causal:bwd")
    plain, asked = records.values()
    assert plain["status"] == "measured"
    assert asked["status"] == "unsupported"
    assert asked["reasons"] == [
        {
            "code": "features",
            "text": "needs cross lengths, grouped heads, a causal mask, gradients, "
            "found a backend for plain forward attention",
        }
    ]


def test_a_kernel_gets_what_a_caller_of_each_layout_holds(measured):
    names = ("1x32x2x16:fp32", "1x32x2x16:fp32:bhsd", "1x32x2x16:fp32:bshd_contiguous")
    records, printed = measured("wants_heads_first", *names)
    assert {one["status"] for one in records.values()} == {"measured"}
    seen = {line.split()[1]: line.split()[2:] for line in printed.splitlines() if line.startswith("CONTIGUOUS")}
    copied, view = ["True"] * 3, ["False"] * 3
    assert seen == {"bshd": view, "bhsd": copied, "bshd_contiguous": copied}


SYMMETRIC = (
    *(one for one in PROBLEMS if ":fp16" not in one),
    *("1x16x4x16:fp32", "3x16x1x16:fp32", "2x16x4/2x16:fp32", "2x16x6/3x16:fp32:causal", "1x16x1x16:fp32:causal"),
)


@pytest.mark.parametrize("text", SYMMETRIC)
def test_moved_contents_have_the_checked_output_moved_likewise(text):
    """Over many rounds, with contents that differ from those of the round before, and are put back at the end."""
    workload = parse_spelt(text)
    inputs = make_inputs(workload, "cpu")
    contents = inputs.contents("randn")
    before = {name: one.clone() for name, one in contents.items()}
    double = {name: one.to(torch.float64) for name, one in before.items()}
    seen = []

    def call() -> torch.Tensor:
        seen.append(tuple(contents["q"].flatten().tolist()) + tuple(contents["v"].flatten().tolist()))
        return attend(*(contents[name].double() for name in "qkv"), torch.float64, workload=workload)

    right = attend(double["q"], double["k"], double["v"], torch.float64, workload=workload)
    off = []
    checked = CheckedCall(
        call,
        contents,
        {"output": right},
        moves(workload),
        ready=lambda: None,
        named=lambda returned: {"output": returned},
        spoilt=lambda: (),
        wrong_form=lambda returned: (),
        violations=lambda outputs: off.append(float((outputs["output"] - right).abs().max())) or (),
    )
    for _ in range(70):
        checked.advance()
        checked()
        checked.compare()
    checked.conclude()
    assert max(off, default=0.0) < 1e-12
    assert all(one != other for one, other in pairwise(seen)), "a round had the contents of the last"
    assert len(set(seen)) >= min(70, _states(workload))
    assert all(torch.equal(contents[name], one) for name, one in before.items())


def _states(workload: Any) -> int:
    """How many contents the moves of a workload reach."""
    product = 1
    for move in moves(workload):
        product *= move.period if isinstance(move, Roll) else 2
    assert product >= 2
    return product


def test_moves_are_those_that_the_mask_leaves():
    kinds = {text: [type(one) for one in moves(parse_spelt(text))] for text in SYMMETRIC}
    assert kinds["1x16x4x16:fp32"] == [Roll, Flip, Roll]
    assert kinds["1x16x1x16:fp32:causal"] == [Negate]
    assert kinds["2x32x4x16:fp32:padding"] == [Roll, Flip, Roll], "entries of other lengths do not change places"
    assert moves(parse_spelt("1x16x4x16:dropout=0.1")) == ()


@pytest.mark.parametrize("text", ["1x48x2x16:bool", "1x24/40x2x16:additive"])
@pytest.mark.parametrize("scores", [1, 7 * 48, masks.CHUNK_SCORES])
def test_a_dense_mask_is_the_same_in_parts(text, scores, monkeypatch):
    monkeypatch.setattr(masks, "CHUNK_SCORES", scores)
    workload = parse_spelt(text)
    rows = torch.tensor([0, 7, workload.seq - 1])
    part = masks.visible(workload, rows, "cpu") if workload.mask == "bool" else masks.bias(workload, rows, "cpu")
    whole = masks.dense_mask(workload, "cpu")
    assert torch.equal(part[0, 0], whole[0, 0, rows])
    if workload.mask == "bool":
        assert whole.any(dim=-1).all(), "each query sees a key"
        assert 0.8 < whole.float().mean() < 0.95
    else:
        assert whole.unique().numel() > 50
        assert -0.3 < whole.float().mean() < 0.3
