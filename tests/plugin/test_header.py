"""The header: what runs, and where that was chosen other than on the command line."""

from __future__ import annotations

import pytest

PLAIN = "attnbench: 0.1.0, device simulated (chosen), 30 rounds"


@pytest.fixture
def plain(bench, pytester):
    """A project that sets nothing of ours."""
    pytester.makeini("[pytest]\n")
    return bench


def header(result: pytest.RunResult) -> str:
    (line,) = [line for line in result.outlines if line.startswith("attnbench:")]
    return line


def test_what_the_command_line_says_is_not_repeated_in_the_header(plain):
    result = plain("--attn-device=sim", "--attn-backend=numpy", "--attn-rounds=7")
    assert header(result) == "attnbench: 0.1.0, device simulated (chosen), 7 rounds"


def test_a_variable_of_another_program_that_selects_cases_is_named(plain, monkeypatch):
    monkeypatch.setenv("ATTN_BACKEND", "xformers")
    result = plain("--benchmark-only")
    result.assert_outcomes(skipped=9)
    assert header(result) == (
        "attnbench: 0.1.0, device cpu (default), 5 rounds; cases selected by ATTN_BACKEND=xformers (environment)"
    )


def test_the_header_names_an_ini_key_that_selects_and_one_that_sets(sim):
    assert header(sim("--attn-mode=eager")) == (
        f"{PLAIN}; cases selected by attn_backend = torch_math torch_flash torch_efficient torch_cudnn torch_flex numpy, "
        "attn_workload = flux-256px-t128 (tox.ini); "
        "set by attn_device = sim (tox.ini)"
    )


def test_the_header_groups_what_was_set_by_its_place(sim, monkeypatch):
    monkeypatch.setenv("ATTN_BACKEND", "numpy")
    monkeypatch.setenv("ATTN_ROUNDS", "4")
    monkeypatch.setenv("ATTN_ISOLATE", "0")
    assert header(sim("--attn-mode=eager")).partition(" 4 rounds; ")[2] == (
        "cases selected by ATTN_BACKEND=numpy (environment), attn_workload = flux-256px-t128 (tox.ini); "
        "set by attn_device = sim (tox.ini), ATTN_ROUNDS=4, ATTN_ISOLATE=0 (environment)"
    )


@pytest.mark.parametrize("place", ["PYTEST_ADDOPTS", "addopts in tox.ini"])
def test_options_that_are_added_to_the_command_line_are_named_with_their_place(plain, pytester, monkeypatch, place):
    added = "--attn-backend=numpy --attn-mode eager"
    if place == "PYTEST_ADDOPTS":
        monkeypatch.setenv("PYTEST_ADDOPTS", added)
    else:
        pytester.makeini(f"[pytest]\naddopts = {added}\n")
    result = plain("--attn-device=sim", "--attn-workload=flux-256px-t128")
    result.assert_outcomes(passed=1)
    assert header(result) == f"{PLAIN}; cases selected by --attn-backend=numpy, --attn-mode=eager ({place})"


def test_an_ini_key_that_is_given_on_the_command_line_is_not_repeated(plain):
    result = plain("-o", "attn_device=sim", "-o", "attn_backend=numpy", "--attn-workload=flux-256px-t128")
    assert header(result) == PLAIN


def test_a_long_value_is_cut_and_a_control_character_is_escaped(sim, monkeypatch):
    monkeypatch.setenv("ATTN_BACKEND", " ".join(["numpy"] * 40) + " torch_m*\x1b[31m torch_*")
    result = sim("--collect-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR  # nothing matches the one with the escape
    assert f"ATTN_BACKEND={' '.join(['numpy'] * 40)[:80]}… (environment)" in header(result)
    monkeypatch.setenv("ATTN_BACKEND", "torch_m*\x1b[31m")
    assert r"ATTN_BACKEND=torch_m*\x1b[31m (environment)" in header(sim("--collect-only"))


@pytest.mark.parametrize("quiet", ["-q", "--no-header"])
def test_without_pytest_s_header_there_is_none(plain, monkeypatch, quiet):
    monkeypatch.setenv("ATTN_BACKEND", "xformers")
    assert "attnbench: " not in plain(quiet).stdout.str()


def test_a_run_that_times_nothing_says_so_and_names_the_options_without_effect(sim, baseline):
    baseline()
    saving = ("--benchmark-json=run.json", "--benchmark-save=mine")
    result = sim("--benchmark-disable", "--attn-limit=3%", "--attn-require-baseline", "--attn-timeout=9", *saving)
    head, *_, idle = header(result).split("; ")
    assert head == "attnbench: 0.1.0, device simulated (chosen), accuracy only (--benchmark-disable)"
    ours, theirs = "--attn-limit, --attn-require-baseline", "--benchmark-json, --benchmark-save"
    assert idle == f"no effect, because nothing is timed: {ours}, {theirs}"


def test_under_xdist_the_options_without_effect_are_named_once(sim, baseline, monkeypatch):
    baseline()
    monkeypatch.setenv("ATTN_ROUNDS", "3")
    result = sim.fresh("-n1", "--attn-require-baseline", "--attn-backend=numpy")
    assert "accuracy only (pytest-xdist)" in header(result)
    assert header(result).endswith("no effect, because nothing is timed: ATTN_ROUNDS, --attn-require-baseline")


def test_an_ini_key_that_a_variable_gives_is_named_with_it(plain, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "-o attn_backend=numpy --override-ini=attn_mode=eager")
    result = plain("-oattn_device=sim", "--attn-workload=flux-256px-t128")
    assert header(result) == f"{PLAIN}; cases selected by attn_backend = numpy, attn_mode = eager (PYTEST_ADDOPTS)"
