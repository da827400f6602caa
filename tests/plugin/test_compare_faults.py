"""Stored files that cannot be compared with: one sentence that names the file, by number, by path, and bare."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ONE = ("--benchmark-only", "--attn-backend=torch_math", "--attn-mode=eager")


def _changed(**changes: Any) -> Callable[[str], str]:
    return lambda text: json.dumps({**json.loads(text), **changes})


def _with_stats(stats: Any) -> Callable[[str], str]:
    def damage(text: str) -> str:
        document = json.loads(text)
        document["benchmarks"][0]["stats"] = stats(document["benchmarks"][0]["stats"])
        return json.dumps(document)

    return damage


DAMAGE: dict[str, tuple[Callable[[str], str | bytes], str]] = {
    "truncated": (lambda text: text[: len(text) // 2], "is not JSON (line *: *): it is damaged or was cut off"),
    "empty": (lambda text: "", "is not JSON (line 1: Expecting value): it is damaged or was cut off"),
    "binary": (lambda text: b"\x80\x81\xfe\xff" * 99, "is not text: it is damaged, or no JSON file"),
    "foreign": (lambda text: '{"hello": 1}', "is JSON, but not from pytest-benchmark: it has no list 'benchmarks'"),
    "list": (lambda text: "[1, 2]", "is JSON, but not from pytest-benchmark: it has no list 'benchmarks'"),
    "unmeasured": (_changed(benchmarks=[]), "holds no measurement: nothing in that run could be measured"),
    "newer": (_changed(attnbench={"schema": 99}), "its attnbench schema is 99, this version reads up to *: upgrade*"),
    "odd": (_changed(attnbench={"schema": 1, "records": 3}), "its attnbench records do not fit schema 1: *"),
    "no-machine": (_changed(machine_info=None), "is not from pytest-benchmark: it has no 'machine_info'"),
    "no-stats": (_with_stats(lambda stats: {"min": 1.0}), "entry 0 of 'benchmarks' (*) lacks stats max, *"),
    "nan": (
        _with_stats(lambda stats: {**stats, "median": float("nan")}),
        "entry 0 of 'benchmarks' (*) lacks stats median",
    ),
}


@pytest.fixture
def stored(sim: Any, pytester: pytest.Pytester) -> Path:
    """A good save of one case."""
    assert sim(*ONE, "--benchmark-save=good").ret == 0
    [path] = (pytester.path / "baselines").glob("*/0001_good.json")
    return path


def _damage(stored: Path, kind: str) -> Path:
    """A newer save beside the good one, damaged."""
    content = DAMAGE[kind][0](stored.read_text())
    path = stored.with_name(f"0002_{kind}.json")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_file_that_is_asked_for_and_unusable_is_a_usage_error_that_names_it(
    sim: Any, stored: Path, pytester: pytest.Pytester, kind: str
) -> None:
    path = _damage(stored, kind)
    for wanted in ("0002", str(path), str(path.relative_to(pytester.path))):
        result = sim(*ONE, f"--benchmark-compare={wanted}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: --benchmark-compare={wanted.replace('[', '[[]')}: *{path.name}*"])
        result.stderr.fnmatch_lines([f"*{DAMAGE[kind][1]}"])
        result.stderr.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_bare_comparison_passes_over_an_unusable_save_and_says_so(sim: Any, stored: Path, kind: str) -> None:
    path = _damage(stored, kind)
    result = sim(*ONE, "--benchmark-compare")
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"*passed over: *{path.name}*", "*torch_math@eager*(0001_good)*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_a_save_that_pytest_benchmark_alone_wrote_can_be_compared_with_and_is_marked(sim: Any, stored: Path) -> None:
    document = json.loads(stored.read_text())
    del document["attnbench"]
    stored.write_text(json.dumps({**document, "machine_info": {"node": "elsewhere", "cpu": {"flags": ["x"] * 99}}}))
    result = sim(*ONE, "--benchmark-compare=0001")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*NOT COMPARABLE*it was not recorded by attnbench, so its machine is unknown*"])
