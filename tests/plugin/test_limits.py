"""`--attn-limit` for all cases and for some: which entry counts, where it may be given, what a wrong one is told."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

TWO = ("--attn-mode=eager", "--attn-backend=torch_flash", "--attn-backend=torch_cudnn")
RUN = ("--benchmark-only", "--benchmark-json=run.json", "--attn-relaunch=0", *TWO)
CUDNN, FLASH = "torch_cudnn@eager-flux-256px-t128", "torch_flash@eager-flux-256px-t128"


@pytest.fixture
def limits(sim: Any, baseline: Any) -> Any:
    """`limits(arguments)` runs two cases against a session: by case, the limit that each was judged by, in percent."""
    baseline(*TWO)

    def run(*arguments: str) -> dict[str, float]:
        assert sim(*RUN, *arguments).ret == 0
        found = sim.stored()["attnbench"]["verdicts"]
        return {verdict["case"]: round(100 * verdict["limit"], 6) for verdict in found}

    return run


@pytest.mark.parametrize(
    ("entries", "flash", "cudnn"),
    [
        (("7%",), 7, 7),
        (("torch_flash:7%", "torch_cudnn:8%"), 7, 8),
        (("5%", "torch_f*:7%"), 7, 5),
        (("torch_f*:7%", "5%"), 5, 5),
        (("torch_*:7%", "torch_cudnn@eager:8%"), 7, 8),
        (("5%", "torch_flash@*-flux-256px-*:7%"), 7, 5),
        (("5%", f"{FLASH}:7%"), 7, 5),
    ],
)
def test_the_last_entry_that_matches_a_case_is_its_limit(
    limits: Any, entries: tuple[str, ...], flash: float, cudnn: float
) -> None:
    assert limits(*(f"--attn-limit={entry}" for entry in entries)) == {FLASH: flash, CUDNN: cudnn}


def test_a_case_that_no_entry_matches_has_the_limit_that_it_has_without(limits: Any) -> None:
    without = limits()
    assert limits("--attn-limit=torch_flash:9%") == {FLASH: 9, CUDNN: without[CUDNN]}


def test_the_command_line_beats_the_environment_beats_the_ini_file(
    limits: Any, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    ini = pytester.path / "tox.ini"
    ini.write_text(f"{ini.read_text()}\nattn_limit =\n    5%\n    torch_flash:6%\n")
    assert limits() == {FLASH: 6, CUDNN: 5}
    monkeypatch.setenv("ATTN_LIMIT", "7% torch_cudnn:8%")
    assert limits() == {FLASH: 7, CUDNN: 8}
    assert limits("--attn-limit=9%") == {FLASH: 9, CUDNN: 9}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (
            "torch_flash:2",
            "expected P% or GLOB:P% with P above 0, such as 1% or sage_[*]:2%, got 'torch_flash:2'",
        ),
        ("torch_flash:0%", "expected P% or GLOB:P% *, got 'torch_flash:0%'"),
        (":2%", "expected P% or GLOB:P% *, got ':2%'"),
        ("", "expected P% or GLOB:P% *, got ''"),
        ("torch_falsh:2%", "no selected case matches 'torch_falsh'; nearest: torch_flash*"),
    ],
)
def test_a_wrong_entry_is_a_usage_error_that_names_it(sim: Any, value: str, sentence: str) -> None:
    result = sim(*RUN, "--attn-limit=1%", f"--attn-limit={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --attn-limit: {sentence}"])
    assert "Traceback" not in result.stderr.str()


def test_a_wrong_entry_elsewhere_names_its_place(sim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = sim(*RUN, "-o", "attn_limit=2")
    result.stderr.fnmatch_lines(["ERROR: ini key attn_limit: expected P% or GLOB:P% *, got '2'"])
    monkeypatch.setenv("ATTN_LIMIT", "torch_flash:2")
    sim(*RUN).stderr.fnmatch_lines(["ERROR: ATTN_LIMIT: expected P% or GLOB:P% *, got 'torch_flash:2'"])


def test_a_lasting_limit_of_cases_that_are_not_selected_is_no_error(limits: Any, sim: Any) -> None:
    lasting = ("-o", "attn_limit=5% sage_*:2% torch_flash@default:3% torch_flash@eager-flux-1024px-t512:4%")
    assert limits(*lasting) == {FLASH: 5, CUDNN: 5}
    assert "has no effect" not in sim(*RUN, *lasting).stdout.str()


def test_a_lasting_limit_of_no_case_at_all_is_said(sim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTN_LIMIT", "torch_falsh:2%")
    result = sim(*RUN)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["ATTN_LIMIT has no effect: no known case matches 'torch_falsh'; nearest: torch_flash*"]
    )


def test_the_command_that_repeats_a_case_has_its_own_limit(sim: Any, baseline: Any, pytester: pytest.Pytester) -> None:
    baseline(*TWO)
    slow = ("--attn-sim=torch_cudnn:+20%", "--attn-limit=torch_f*:3%", "--attn-limit=torch_c[u]dnn*:7.5%")
    result = sim(*RUN, *slow)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    found = {verdict["case"]: verdict for verdict in sim.stored()["attnbench"]["verdicts"]}[CUDNN]
    _, *arguments = shlex.split(found["reproduce"])
    assert [argument for argument in arguments if "limit" in argument] == ["--attn-limit=7.5%"]
    assert sim(*arguments, "--benchmark-json=run.json").ret == pytest.ExitCode.TESTS_FAILED
    (again,) = sim.stored()["attnbench"]["verdicts"]
    assert (again["kind"], again["limit"]) == ("regressed", 0.075)


def test_the_command_of_a_case_without_a_limit_of_its_own_has_that_of_no_ini_file(sim: Any, baseline: Any) -> None:
    baseline(*TWO)
    lasting = ("-o", "attn_limit=90%")
    assert sim(*RUN, *lasting, "--attn-sim=torch_cudnn:+20%").ret == 0
    result = sim(*RUN, *lasting, "--attn-sim=torch_cudnn:+20%", "--attn-limit=torch_flash:3%")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    found = {verdict["case"]: verdict for verdict in sim.stored()["attnbench"]["verdicts"]}[CUDNN]
    _, *arguments = shlex.split(found["reproduce"])
    assert sim(*arguments).ret == pytest.ExitCode.TESTS_FAILED


def test_a_suspect_is_measured_again_under_a_limit_of_some_cases(sim: Any, baseline: Any) -> None:
    baseline(*TWO)
    result = sim(*RUN[:2], *TWO, "--attn-sim=torch_cudnn:+20%", "--attn-limit=torch_cudnn:7%")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    found = {verdict["case"]: verdict for verdict in sim.stored()["attnbench"]["verdicts"]}[CUDNN]
    assert (found["launches"], found["limit"]) == (2, 0.07)
