"""Options of a fresh process: written as they were given, and output turned aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnbench.plugin.child_command import Given, turned_aside


@pytest.mark.parametrize(
    ("given", "tokens"),
    [
        (Given("-x", ()), ["-x"]),
        (Given("--suite-size", ("-1",)), ["--suite-size=-1"]),
        (Given("--suite-size", ("",)), ["--suite-size="]),
        (Given("-k", ("not slow",)), ["-k", "not slow"]),
        (Given("-k", ("-1",)), ["-k-1"]),
        (Given("--tiles", ("64", "128")), ["--tiles", "64", "128"]),
    ],
)
def test_an_option_is_written_so_that_it_is_read_as_it_was_given(given: Given, tokens: list[str]) -> None:
    assert given.tokens() == tokens


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("--out", "results/"),
        ("--my-report", "results"),
        ("--my-report-file", "a.txt"),
        ("--results-dir", "/data/results"),
        ("--trace-json", "trace.json"),
        ("--dump_to", "x"),
        ("--save-tensors", "tensors/q.pt"),
    ],
)
def test_a_path_of_an_unknown_option_lies_in_the_folder_of_the_process(tmp_path: Path, name: str, value: str) -> None:
    aside = turned_aside(Given(name, (value,)), tmp_path / "given", tmp_path)
    assert aside.values == (str(tmp_path / "given" / Path(value).name),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("--kernel-file", "kernels/mine.py"),
        ("--config", "conf.json"),
        ("--weights-dir", "/data/weights"),
        ("--kernel-log-level", "INFO"),
        ("--report-style", "full"),
        ("--save-lse", "both"),
        ("--out", "bf16"),
        ("--store-bits", "16"),
        ("--record-ratio", "0.5"),
        ("--store", "redis://host/0"),
        ("--log-disable", "torch.fx"),
    ],
)
def test_what_a_kernel_may_depend_on_is_passed_as_it_is(tmp_path: Path, name: str, value: str) -> None:
    given = Given(name, (value,))
    assert turned_aside(given, tmp_path / "given", tmp_path) == given


def test_one_of_some_words_is_no_path(tmp_path: Path) -> None:
    given = Given("--report", ("full",), plain=False)
    assert turned_aside(given, tmp_path, tmp_path) == given


def test_a_file_that_is_there_can_be_read_where_it_was_turned_to(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "results").mkdir()
    given = Given("--dump-config", ("config.json", "results/"))
    config, results = map(Path, turned_aside(given, tmp_path / "given", tmp_path).values)
    assert config.read_text() == "{}"
    assert results.is_dir()
    assert config.parent == results.parent == tmp_path / "given"
