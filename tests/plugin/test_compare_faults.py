"""Stored files that cannot be compared with: one sentence that names the file, by number, by path, and bare."""

from __future__ import annotations

import json
import os
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
    "newer": (
        _changed(attnbench={"schema": 99}),
        "its attnbench schema is 99, but this version reads up to *: upgrade*",
    ),
    "odd": (_changed(attnbench={"schema": 1, "records": 3}), "its attnbench records do not fit schema 2: *"),
    "no-machine": (_changed(machine_info=None), "is not from pytest-benchmark: it has no 'machine_info'"),
    "no-stats": (_with_stats(lambda stats: {"min": 1.0}), "entry 0 of 'benchmarks' (*) lacks stats max, *"),
    "deep": (
        lambda text: '{"benchmarks": [], "machine_info": ' + "[" * 10**5 + "]" * 10**5 + "}",
        "is nested too deeply for a stored run: more than 100 levels",
    ),
    "digits": (
        _with_stats(lambda stats: {**stats, "rounds": 10**4000}),
        "cannot be used: it holds a whole number of 4001 digits, at most 30 are read",
    ),
    "rounds": (_with_stats(lambda stats: {**stats, "rounds": 0}), "entry 0 of 'benchmarks' (*) lacks stats rounds"),
    "endless": (
        _with_stats(lambda stats: {**stats, "max": float("inf"), "min": -1.0}),
        "entry 0 of 'benchmarks' (*) lacks stats min, max",
    ),
    "marked": (
        lambda text: text.encode("utf-8-sig"),
        "is text in utf-8-sig, which pytest-benchmark does not read: save it as utf-8",
    ),
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
    result.stdout.fnmatch_lines(["*torch_math@eager*(0001_good)*", f"*skipped: *{path.name}*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


@pytest.mark.parametrize("wanted", ["0002", "{path}", "{below}"])
def test_a_fifo_is_not_opened(sim: Any, stored: Path, pytester: pytest.Pytester, wanted: str) -> None:
    path = stored.with_name("0002_fifo.json")
    os.mkfifo(path)
    wanted = wanted.format(path=path, below=path.relative_to(pytester.path))
    result = sim(*ONE, f"--benchmark-compare={wanted}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --benchmark-compare={wanted}: *{path.name} cannot be read: it is a FIFO, *"])
    result = sim(*ONE, "--benchmark-compare")
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"*skipped: *{path.name} cannot be read: it is a FIFO, *"])


def test_a_folder_of_saves_that_cannot_be_listed_is_an_error_where_it_is_looked_into(
    sim: Any, stored: Path, pytester: pytest.Pytester
) -> None:
    stored.parent.rename(pytester.path / "elsewhere")
    stored.parent.symlink_to(stored.parent)  # to itself, which root cannot list either
    result = sim(*ONE, "--benchmark-compare")
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"*skipped: {stored.parent} cannot be listed: Too many levels of symbolic links*"])


def test_a_save_that_pytest_benchmark_alone_wrote_can_be_compared_with_and_is_marked(sim: Any, stored: Path) -> None:
    document = json.loads(stored.read_text())
    del document["attnbench"]
    stored.write_text(json.dumps({**document, "machine_info": {"node": "elsewhere", "cpu": {"flags": ["x"] * 99}}}))
    result = sim(*ONE, "--benchmark-compare=0001")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*NOT COMPARABLE*it was not recorded by attnbench, so its machine is unknown*"])
