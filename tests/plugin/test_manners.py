"""pytest's own switches, and what a run prints and leaves behind."""

from __future__ import annotations

import pytest

LOOKS_ONLY = ("--help", "--version", "--markers", "--fixtures", "--collect-only", "--setup-plan")


@pytest.mark.parametrize(
    "options",
    [
        *((option,) for option in (*LOOKS_ONLY, "--benchmark-only", "--benchmark-disable", "--benchmark-skip")),
        *((option, "--benchmark-save=x") for option in LOOKS_ONLY),
    ],
    ids=" ".join,
)
def test_nothing_is_created_by_a_run_that_only_looks_or_does_not_save(sim, pytester, options):
    sim(*options, "-p", "no:cacheprovider", "--attn-backend=numpy")
    left = [str(path.relative_to(pytester.path)) for path in pytester.path.rglob("*")]
    assert sorted(name for name in left if "__pycache__" not in name) == ["test_suite.py", "tox.ini"]


@pytest.mark.parametrize(
    "switches",
    [
        ("-q",),
        ("-qq",),
        ("-v",),
        ("-vv",),
        ("--no-header",),
        ("--no-summary",),
        ("--color=yes",),
        ("-p", "no:cacheprovider"),
        ("-p", "no:xdist"),
        ("-p", "no:logging"),
        ("-s",),
        ("--tb=no",),
        ("-W", "error"),
        ("-rA",),
    ],
    ids=" ".join,
)
def test_pytests_own_switches_leave_measuring_alone(sim, switches):
    result = sim("--benchmark-only", "--attn-backend=torch_f*[hx]", "--attn-sim=torch_flex:error", *switches)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    if "--no-summary" not in switches:
        assert "5 cases: 3 measured, 2 error" in result.stdout.str()


def test_without_a_terminal_cases_are_measured_and_stored(sim):
    result = sim("-p", "no:terminal", "--attn-backend=numpy", "--benchmark-json=run.json")
    assert result.ret == pytest.ExitCode.OK
    assert result.stdout.str() == ""
    assert sim.records()["numpy@eager-flux-256px-t128"]["status"] == "measured"


def test_without_pytest_benchmark_a_sentence_says_what_is_missing(sim):
    result = sim("-p", "no:benchmark")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: attnbench times its cases with pytest-benchmark*: drop -p no:benchmark*"])


def test_colour_is_printed_when_asked_for_and_never_with_no_color(sim, monkeypatch):
    assert "\x1b[" in sim("--color=yes", "--attn-backend=numpy").stdout.str()
    monkeypatch.setenv("PY_COLORS", "")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in sim("--attn-backend=numpy").stdout.str()


def test_the_first_failure_ends_the_run_and_the_rest_are_rows_with_that_reason(sim):
    result = sim("-x", "--attn-mode=eager", "--attn-sim=torch_flash:error", "--benchmark-json=run.json")
    result.assert_outcomes(passed=1, failed=1)
    rest = [record for record in sim.records().values() if record["status"] == "not-run"]
    assert len(rest) == 3
    assert {reason["text"] for record in rest for reason in record["reasons"]} == {
        "the run ended before this case: stopping after 1 failures"
    }
    result.stdout.fnmatch_lines(["5 cases: 1 measured, 1 error, 3 not-run"])


def test_maxfail_counts_failures(sim):
    result = sim("--maxfail=2", "--attn-mode=eager", "--attn-sim=torch_*:error")
    result.stdout.fnmatch_lines(["5 cases: 2 error, 3 not-run"])


def test_deselected_cases_are_no_rows(sim):
    deselect = "--deselect=test_suite.py::test_attention[numpy@eager-flux-256px-t128]"
    result = sim("--attn-mode=eager", deselect)
    result.assert_outcomes(passed=4, deselected=1)
    result.stdout.fnmatch_lines(["4 cases: 4 measured"])


def test_a_file_that_fails_to_import_does_not_hide_behind_the_cases(sim, pytester):
    pytester.makepyfile(test_broken="import nosuch_module")
    result = sim("--attn-backend=numpy")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result = sim("--attn-backend=numpy", "--continue-on-collection-errors")
    result.assert_outcomes(passed=1, errors=1)


def test_the_installed_suite_runs_by_its_name(bench, pytester):
    pytester.path.joinpath("test_suite.py").unlink()
    result = bench(
        "--pyargs", "attnbench.suite", "--attn-device=sim", "--attn-backend=numpy", "--attn-workload=1x64x2x16"
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["1 case: 1 measured"])


def test_the_suite_runs_from_a_directory_below(sim, pytester, monkeypatch):
    below = pytester.mkdir("below")
    monkeypatch.chdir(below)
    sim("..", "--attn-backend=numpy", "--rootdir=..").assert_outcomes(passed=1)


@pytest.mark.parametrize("option", ["--benchmark-min-rounds=3", "--benchmark-timer=time.perf_counter"])
@pytest.mark.parametrize("place", ["command line", "addopts", "PYTEST_ADDOPTS"])
def test_an_option_of_pytest_benchmark_without_effect_is_said_to_have_none(sim, pytester, monkeypatch, option, place):
    ini = "[pytest]\nattn_device = sim\nattn_workload = flux-256px-t128\n"
    if place == "addopts":
        pytester.makeini(f"{ini}addopts = {option}\n")
    elif place == "PYTEST_ADDOPTS":
        monkeypatch.setenv("PYTEST_ADDOPTS", option)
    result = sim("--attn-backend=numpy", *([option] if place == "command line" else []))
    result.assert_outcomes(passed=1)
    flag = option.split("=")[0]
    result.stdout.fnmatch_lines([f"attnbench: *; {flag} has no effect on attention cases (use --attn-rounds; *"])


NOISY = """
import warnings
from attnbench import register

@register("noisy", "mine")
def noisy(workload):
    import torch
    warnings.warn("the old name of something", DeprecationWarning)
    warnings.warn("no kernel for this shape is tuned", UserWarning)
    def attention(q, k, v):
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * workload.head_dim**-0.5
        return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v)
    return attention
"""


@pytest.mark.parametrize("what", ["--benchmark-only", "--attn-list"])
def test_a_run_shows_every_warning_but_deprecations_of_libraries(bench, pytester, what):
    pytester.makeconftest(NOISY)
    result = bench.fresh(what, "--attn-backend=noisy", "--attn-device=cpu", "--attn-workload=1x64x2x64:fp32")
    said = result.stdout.str() + result.stderr.str()
    assert result.ret == 0
    assert "the old name" not in said
    assert "no kernel for this shape is tuned" in said


def test_who_asks_for_deprecation_warnings_gets_them(bench, pytester):
    pytester.makeconftest(NOISY)
    case = ("--attn-backend=noisy", "--attn-device=cpu", "--attn-workload=1x64x2x64:fp32")
    result = bench("--benchmark-only", *case, "-W", "error::DeprecationWarning")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*cannot be loaded: DeprecationWarning: the old name of something*"])
