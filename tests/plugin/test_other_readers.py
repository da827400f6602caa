"""What other tools read of a run's file."""

from __future__ import annotations

import json
import math

import pytest


@pytest.fixture
def document(sim, pytester):
    """A run with a case that is measured and one that is wrong, read by a parser that knows no NaN, as JavaScript's."""
    wrong = "--attn-sim=torch_cudnn@*:incorrect"
    sim(
        "--attn-backend=torch_flash",
        "--attn-backend=torch_cudnn",
        "--attn-mode=eager",
        wrong,
        "--benchmark-json=run.json",
    )
    text = pytester.path.joinpath("run.json").read_text()
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_github_action_benchmark_finds_what_it_reads(document):
    """Its reader of pytest's files takes `fullname` and, of `stats`, `ops`, `stddev`, `mean` and `rounds`."""
    assert document["benchmarks"]
    for benchmark in document["benchmarks"]:
        assert isinstance(benchmark["fullname"], str)
        stats = [benchmark["stats"][name] for name in ("ops", "stddev", "mean", "rounds")]
        assert all(math.isfinite(value) and value > 0 for value in stats)


def test_the_wrong_case_is_no_benchmark(document):
    assert {record["status"] for record in document["attnbench"]["records"]} == {"measured", "incorrect"}
    assert all("torch_flash" in benchmark["fullname"] for benchmark in document["benchmarks"])
