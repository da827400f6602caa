"""Beside other plugins: an option of ours is in force, or a line says what comes before it; no verdict is lost."""

from __future__ import annotations

import pytest

KERNELS = """
import time
import torch.nn.functional as F
from attnbench import register

def right(q, k, v):
    return F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2).clone()

@register("fine", "mine")
def fine(workload):
    return right

@register("hangs", "mine")
def hangs(workload):
    def attention(q, k, v):
        time.sleep(600)
    return attention

calls = []

@register("wrong_at_first", "mine")
def wrong_at_first(workload):
    calls.append(1)
    return right if len(calls) > 1 else lambda q, k, v: right(q, k, v) * 1.5
"""
MARKED = "import pytest\nfrom attnbench.suite import test_attention\npytestmark = pytest.mark.{}\n"
CPU = ("--benchmark-only", "--benchmark-json=run.json", "--attn-device=cpu", "--attn-workload=1x64x2x16:fp32")
HANGS = (*CPU, "--attn-backend=hangs", "--attn-mode=eager")


@pytest.fixture
def kernels(bench, pytester):
    pytester.makeconftest(KERNELS)
    return bench


def header(result: pytest.RunResult) -> str:
    return next(line for line in result.outlines if line.startswith("attnbench:"))


@pytest.mark.parametrize("theirs", [("--timeout=50",), ("--timeout=50", "--timeout-method=thread")], ids=" ".join)
def test_the_limit_of_a_case_is_in_force_below_a_longer_one_of_pytest_timeout(kernels, theirs):
    run = kernels.fresh if "--timeout-method=thread" in theirs else kernels  # which ends the process where it fires
    result = run(*HANGS, "--attn-timeout=1", *theirs)
    result.assert_outcomes(failed=1)
    (record,) = kernels.records().values()
    assert [reason["code"] for reason in record["reasons"]] == ["time-limit"]
    assert "pytest-timeout" not in header(result)


@pytest.mark.parametrize("place", ["option", "ini", "variable", "marker"])
def test_a_shorter_limit_of_pytest_timeout_ends_the_case_and_is_said(kernels, pytester, monkeypatch, place):
    given = ()
    if place == "option":
        given = ("--timeout=1",)
    elif place == "ini":
        pytester.makeini("[pytest]\ntimeout = 1\n")
    elif place == "variable":
        monkeypatch.setenv("PYTEST_TIMEOUT", "1")
    else:
        pytester.makepyfile(test_suite=MARKED.format("timeout(1)"))
    result = kernels(*HANGS, "--attn-timeout=100", *given)
    result.assert_outcomes(failed=1)
    (record,) = kernels.records().values()
    assert record["status"] == "error"
    assert "Timeout (>1.0s) from pytest-timeout" in record["reasons"][0]["text"]
    said = "pytest-timeout ends a case after 1 s, before --attn-timeout (100 s)"
    if place == "marker":  # known when the tests are collected, after the header
        assert f"{said}, by the marker 'timeout' of test_suite.py::test_attention" in result.outlines
    else:
        assert header(result).endswith(said)


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ("timeout(2, method='thread')", "ends the whole run when a case has taken 2 s"),
        ("timeout(timeout=3)", "ends a case after 3 s"),
        ("timeout(901)", ""),
        ("timeout(0)", ""),
        ("timeout(-1)", ""),
    ],
)
def test_a_marker_that_ends_a_case_before_our_limit_is_said(sim, pytester, marker, said):
    pytester.makepyfile(test_suite=MARKED.format(marker))
    found = [line for line in sim("--attn-backend=numpy").outlines if line.startswith("pytest-timeout ")]
    where = "before --attn-timeout (900 s), by the marker 'timeout' of test_suite.py::test_attention"
    assert found == ([f"pytest-timeout {said}, {where}"] if said else [])


def test_a_negative_limit_of_pytest_timeout_is_none(sim):
    assert "pytest-timeout" not in header(sim("--timeout=-1", "--attn-backend=numpy"))


def test_what_ends_the_whole_run_before_our_limit_is_said_in_the_header(sim, pytester):
    result = sim("--timeout=20", "--timeout-method=thread", "--attn-backend=numpy")
    assert header(result).endswith(
        "pytest-timeout ends the whole run when a case has taken 20 s, before --attn-timeout (900 s)"
    )
    pytester.makeini("[pytest]\nattn_device=sim\nfaulthandler_timeout = 30\nfaulthandler_exit_on_timeout = true\n")
    result = sim.fresh("--attn-backend=numpy")
    assert header(result).endswith(
        "faulthandler ends the whole run when a case has taken 30 s, before --attn-timeout (900 s)"
    )


def test_a_faulthandler_that_only_prints_is_no_limit(sim):
    assert "faulthandler" not in header(sim("-o", "faulthandler_timeout=30", "--attn-backend=numpy"))


#: `bench` leaves it out.
RERUNS = ("-p", "rerunfailures")


@pytest.mark.parametrize("place", ["option", "marker"])
def test_a_wrong_output_is_not_repeated_until_it_is_right(kernels, pytester, place):
    if place == "marker":
        steps = "".join(f"    attn_case.{s}()\n" for s in ("prepare", "assert_accurate", "assert_route", "measure"))
        pytester.makepyfile(
            test_suite=f"import pytest\n@pytest.mark.flaky(reruns=2)\ndef test_mine(attn_case):\n{steps}"
        )
    given = ("--reruns=2",) if place == "option" else ()
    result = kernels(*CPU, "--attn-backend=wrong_at_first", "--attn-mode=eager", *RERUNS, *given)
    result.assert_outcomes(failed=1)
    assert [record["status"] for record in kernels.records().values()] == ["incorrect"]
    assert header(result).endswith("pytest-rerunfailures does not repeat attention cases") == (place == "option")


@pytest.mark.parametrize("given", [("--force-reruns=1",), ("--reruns=1", "--reruns-mode=append")], ids=" ".join)
def test_an_option_that_would_repeat_a_case_all_the_same_is_refused(sim, given):
    result = sim(*RERUNS, *given)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --* would repeat a case that is wrong or regressed until it passes: drop it.*"]
    )


def test_other_tests_are_repeated_as_ever(sim, pytester):
    pytester.makepyfile(test_other="tried = []\ndef test_other():\n    tried.append(1)\n    assert len(tried) > 1\n")
    result = sim(*RERUNS, "--reruns=1", "--attn-backend=numpy", "--attn-sim=numpy:error")
    result.assert_outcomes(passed=1, failed=1)
    assert "1 rerun" in result.stdout.str()


FORKED = """
def pytest_addoption(parser):  # as pytest-forked has it
    parser.addoption("--forked", action="store_true", default=False)

def pytest_configure(config):
    config.addinivalue_line("markers", "forked: Always fork for this test.")
    config.pluginmanager.register(object(), "pytest_forked")
"""


@pytest.mark.parametrize("given", ["option", "marker"])
def test_forked_tests_are_refused_before_anything_runs(sim, pytester, given):
    pytester.makeconftest(FORKED)
    if given == "marker":
        pytester.makepyfile(test_suite=MARKED.format("forked"))
    result = sim(*(("--forked",) if given == "option" else ()))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *attnbench does not run under *forked*: *Drop *; --attn-isolate *"])


def test_other_tests_may_be_forked(pytester, bench):
    pytester.makeconftest(FORKED)
    pytester.makeini("[pytest]\n")
    pytester.makepyfile(test_suite="def test_other(): pass")
    bench("--forked").assert_outcomes(passed=1)


def test_a_slow_down_beyond_compare_fail_fails_a_run_without_a_terminal(sim):
    assert sim("--attn-backend=numpy", "--benchmark-save=before").ret == 0
    slow = ("--benchmark-compare=0001", "--benchmark-compare-fail=median:5%", "--attn-sim=numpy:+20%")
    assert sim("-p", "no:terminal", "--attn-backend=numpy", *slow).ret == pytest.ExitCode.TESTS_FAILED
