"""What a kernel says, in terminal, stored file and listing; and skips that are a test's own."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from attnbench.cli.command import main
from attnbench.report.table import WIDTH

TINY = ("--benchmark-only", "--benchmark-json=run.json", "--attn-device=cpu", "--attn-rounds=1", "--attn-mode=eager")
SHAPE = "1x16x1x16:fp32"

SPEAKS = """
from attnbench import register

@register("speaks", "example"{more})
def load(workload):
    raise RuntimeError({words})
"""


def run(bench: Any, pytester: pytest.Pytester, words: str, *arguments: str, more: str = "") -> Any:
    pytester.makeconftest(SPEAKS.format(words=words, more=more))
    return bench(*TINY, f"--attn-workload={SHAPE}", "--attn-backend=speaks", *arguments)


@pytest.mark.parametrize("launched", [(), ("--attn-isolate",)], ids=["here", "isolated"])
def test_megabytes_of_words_are_cut_everywhere(bench, pytester, launched):
    result = run(bench, pytester, '"A" * 5_000_000', *launched)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert len(result.stdout.str()) < 10_000
    assert (pytester.path / "run.json").stat().st_size < 20_000
    assert "characters in all)" in bench.records()[f"speaks@eager-{SHAPE}"]["reasons"][0]["text"]


def test_the_traceback_of_an_error_is_printed_where_pytest_is_asked_for_tracebacks(bench, pytester):
    where = "conftest.py*, line 5, in load"
    run(bench, pytester, '"no such file"').stdout.no_fnmatch_line(f"*{where}")
    run(bench, pytester, '"no such file"', "--tb=short").stdout.fnmatch_lines(["ERROR speaks@eager*", f"*{where}"])


def test_control_characters_and_commands_reach_neither_terminal_nor_file(bench, pytester, capsys):
    words = r'"\x1b[2J\x07\u202e " + "word " * 20 + " ::error::from_a_kernel ##[error]x " + "::warning::x " * 30'
    printed = run(bench, pytester, words, "-rA").stdout.str()
    capsys.readouterr()
    main(["report", "run.json"])
    main(["summary", "run.json"])
    again = capsys.readouterr().out
    for text in (printed, again, json.dumps(bench.stored(), ensure_ascii=False)):
        assert not set("\x1b\x07\u202e") & set(text.replace("\\u001b", "\x1b"))
    for line in (*printed.splitlines(), *again.splitlines()):
        assert not line.lstrip().startswith("::"), line
    assert "##[" not in again.partition("##")[0]
    assert r"\x1b[2J\x07\u202e" in bench.records()[f"speaks@eager-{SHAPE}"]["reasons"][0]["text"]


def test_a_librarys_own_reasons_are_cut_and_cleaned_too(bench, pytester):
    refuses = r', refuses=lambda workload, device: ("no\x1b[31m\nred " + "z" * 5_000_000,)'
    result = run(bench, pytester, '"x"', more=refuses)
    result.assert_outcomes(skipped=1)
    [reason] = bench.records()[f"speaks@eager-{SHAPE}"]["reasons"]
    assert reason["text"].startswith(r"no\x1b[31m red zzz")
    listed = run(bench, pytester, '"x"', "--attn-list", more=refuses).stdout.str()
    assert len(listed) < 10_000
    assert "\x1b" not in listed


RIGHT = """
import torch.nn.functional as F
from attnbench import register

@register("speaks", "example"{more})
def load(workload):
    return lambda q, k, v: F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2).clone()
"""


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("5", ("error", "", "cannot be loaded: TypeError: its `source` must return text, found int")),
        (r'"v1\x1b[2J\udc80\n::error::x"', ("measured", r"v1\x1b[2J\udc80 ::error::x", "")),
    ],
)
def test_whatever_a_backend_says_of_its_source_ends_no_run(bench, pytester, source, found):
    pytester.makeconftest(RIGHT.format(more=f", source=lambda: {source}"))
    bench(*TINY, f"--attn-workload={SHAPE}", "--attn-backend=speaks")
    record = bench.records()[f"speaks@eager-{SHAPE}"]
    assert (record["status"], record["source"], "".join(reason["text"] for reason in record["reasons"])) == found


def test_one_reason_of_a_library_need_not_stand_in_a_tuple(bench, pytester):
    run(bench, pytester, '"x"', more=', refuses=lambda workload, device: "no such mask"').assert_outcomes(skipped=1)
    [reason] = bench.records()[f"speaks@eager-{SHAPE}"]["reasons"]
    assert reason["text"] == "no such mask"


def test_an_exception_of_a_fixture_that_says_nothing_is_named(bench, pytester):
    pytester.makeconftest("def pytest_runtest_setup(item):\n    raise MemoryError\n")
    bench(*TINY, f"--attn-workload={SHAPE}", "--attn-backend=torch_math")
    [reason] = bench.records()[f"torch_math@eager-{SHAPE}"]["reasons"]
    assert reason["text"] == "its fixtures failed: MemoryError"


def test_a_file_of_somebody_else_is_refused_in_a_line_that_can_be_shown(tmp_path, capsys):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"attnbench": {"schema": "\x1b[2J\n::error::x" * 9999}}))
    assert main(["report", str(path)]) == 4
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said[:-1].isprintable()
    assert len(said) < 3000


OWN_SKIP = """
import pytest
def test_mine(attn_case):
    attn_case.prepare()
    pytest.{word}("not for this project")
"""


#: What a launched process answers is the same on the simulated device, which needs no torch there.
LAUNCHED = ("--attn-launches=1", "--attn-device=sim")


@pytest.mark.parametrize("launched", [(), LAUNCHED], ids=["here", "launched"])
def test_a_skip_of_the_tests_own_stays_a_skip(bench, pytester, launched):
    pytester.makepyfile(test_suite=OWN_SKIP.format(word="skip"))
    result = bench(*TINY, f"--attn-workload={SHAPE}", "--attn-backend=numpy", *launched)
    result.assert_outcomes(skipped=1)
    [reason] = bench.records()[f"numpy@eager-{SHAPE}"]["reasons"]
    assert reason["text"] == "skipped: not for this project"
    assert bench.records()[f"numpy@eager-{SHAPE}"]["status"] == "not-run"


def test_a_skip_of_a_fixture_of_the_tests_own_stays_a_skip(bench, pytester):
    pytester.makeconftest(
        "import pytest\n@pytest.fixture(scope='session')\ndef attn_inputs():\n    pytest.skip('no data here')\n"
    )
    bench(*TINY, f"--attn-workload={SHAPE}", "--attn-backend=numpy").assert_outcomes(skipped=1)


@pytest.mark.parametrize("launched", [(), ("--attn-isolate",)], ids=["here", "isolated"])
def test_a_kernel_that_skips_fails_its_test(bench, pytester, launched):
    pytester.makeconftest(SPEAKS.replace("raise RuntimeError({words})", "pytest.skip('I skip myself')").format(more="")
        .replace("from attnbench", "import pytest\nfrom attnbench"))  # fmt: skip
    result = bench(*TINY, f"--attn-workload={SHAPE}", "--attn-backend=speaks", *launched)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert bench.records()[f"speaks@eager-{SHAPE}"]["status"] == "error"


def test_a_function_that_only_loading_shows_to_be_missing_is_unsupported(bench, pytester):
    pytester.mkpydir("starkernels").joinpath("__init__.py").write_text("from .core import *\n")
    (pytester.path / "starkernels" / "core.py").write_text("def other(q, k, v): pass\n")
    pytester.syspathinsert()
    pytester.makeconftest(
        """
from attnbench import Function, register

@register("star", "example", requires=(Function("starkernels", "forward_fp8"),))
def load(workload):
    from starkernels import forward_fp8
    return forward_fp8
"""
    )
    arguments = (f"--attn-workload={SHAPE}", "--attn-backend=star")
    bench(*TINY, *arguments).assert_outcomes(skipped=1)
    record = bench.records()[f"star@eager-{SHAPE}"]
    assert record["status"] == "unsupported"
    assert (
        record["reasons"][0]["text"]
        == "needs the function forward_fp8, found starkernels of unknown version without it"
    )
    bench("--attn-list", *TINY, *arguments).stdout.fnmatch_lines(["*star*needs the function forward_fp8, found*"])


ZEROS = """
from attnbench import register

@register("zeros", "example", takes=("backward",))
def load(workload):
    return lambda q, k, v: (q + k + v) * 0
"""


@pytest.mark.parametrize(("asked", "told"), [((), 3), (("-v",), 24)], ids=["short", "-v"])
def test_of_many_errors_of_one_kernel_three_are_told_and_how_many_more(bench, pytester, asked, told):
    pytester.makeconftest(ZEROS)
    result = bench(*TINY, "--attn-workload=1x64x2x32:bf16:fwdbwd", "--attn-backend=zeros", *asked)
    lines = result.stdout.lines
    (at,) = (number for number, line in enumerate(lines) if line.startswith("INCORRECT zeros@eager"))
    below = itertools.takewhile(lambda line: line.startswith("  "), lines[at + 1 :])
    failure = "\n".join([lines[at], *below])
    assert max(map(len, failure.split("\n")[1:])) <= WIDTH  # the first is whole, for those who show nothing else
    listed = result.stdout.str().partition("not measured")[2].partition("1 case: ")[0]  # not pytest's summary
    assert failure.count(" found ") == listed.count("_l2 found ") + listed.count("_abs found ") == told
    for places in ("on randn*randint(1,5)", "in dq on randn*randint(1,5)", "in dk on randn*randint(1,5)"):
        assert f"{places} inputs; every element is 0" in failure  # one of each output before the second of any
    if not asked:
        assert failure.endswith("\n  21 more errors (-v names them)")
        assert "21 more errors (-v names them)" in listed
    (record,) = bench.records().values()
    assert len(record["reasons"]) == 24
    assert main(["report", "run.json", "--format", "text", "-o", "out", *asked]) == 0
    written = (pytester.path / "out" / "tables.txt").read_text()
    assert ("21 more errors (-v names them)" in written) == (not asked)
