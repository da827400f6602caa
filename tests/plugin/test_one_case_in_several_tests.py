"""One case in several tests of a run: each is shown and judged by itself, and none of them is a launch."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from attnbench.codec import run_from, to_plain
from attnbench.report.markdown import markdown

ONE = ("--attn-mode=eager", "--attn-backend=torch_flash", "--benchmark-json=run.json")
RUN = ("--benchmark-only", *ONE)

MINE = """
def test_fails(attn_case):
    attn_case.prepare()
    attn_case.assert_accurate()
    assert False, "an expectation of my own"

def test_only_prepares(attn_case):
    attn_case.prepare()

def test_only_checks(attn_case):
    attn_case.prepare()
    attn_case.assert_accurate()

def test_only_routes(attn_case):
    attn_case.prepare()
    attn_case.assert_accurate()
    attn_case.assert_route()

def test_does_nothing(attn_case):
    pass
"""


def by_test(sim: Any) -> dict[str, dict[str, Any]]:
    """The stored records by the name of their test."""
    return {
        record["nodeid"].partition("[")[0].rpartition("::")[2]: record
        for record in sim.stored()["attnbench"]["records"]
    }


def test_the_same_suite_in_two_files_is_two_rows_and_one_launch(sim: Any, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_copy="from attnbench.suite import test_attention")
    result = sim(*RUN)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "1 case ran in 2 tests (repeats are not launches): 1 test_copy.py::test_attention, *",
            "median of 30 rounds, clock simulated; *",
            "torch_flash@eager (test 1) *0.00*",
            "torch_flash@eager (test 2) *0.00*",
            "1 case in 2 tests: 2 measured",
        ]
    )
    assert "launches, clock" not in result.stdout.str()


def test_what_each_test_came_to_is_its_own_row_with_its_own_reason(sim: Any, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_mine=MINE)
    result = sim(*RUN)
    result.assert_outcomes(passed=5, failed=1)
    found = {name: (record["status"], [r["text"] for r in record["reasons"]]) for name, record in by_test(sim).items()}
    assert found == {
        "test_fails": ("error", ["the test ended with AssertionError: an expectation of my own assert False"]),
        "test_only_prepares": ("not-run", ["the test ended after prepare(), before measure()"]),
        "test_only_checks": ("checked", ["the test ended after assert_accurate(), before measure()"]),
        "test_only_routes": ("checked", ["the test ended after assert_route(), before measure()"]),
        "test_does_nothing": ("not-run", ["the test ended before prepare()"]),
        "test_attention": ("measured", []),
    }
    result.stdout.fnmatch_lines(
        [
            "  error: torch_flash@eager (test 1) on flux-256px-t128",
            "      the test ended with AssertionError: an expectation of my own assert False",
            "  not-run: torch_flash@eager (test 2) on *: the test ended after prepare(), before measure()",
            "  not-run: torch_flash@eager (test 5) on *: the test ended before prepare()",
            "  checked: torch_flash@eager (test 3) on *: the test ended after assert_accurate(), before measure()",
            "1 case in 6 tests: 1 measured, 2 checked, 1 error, 2 not-run",
        ]
    )
    summary = markdown(run_from(sim.stored()))
    assert "| error | `torch_flash@eager · flux-256px-t128 (test 1)` |" in summary


def test_a_test_that_only_prepares_does_so_in_a_process_of_its_own_too(sim: Any, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_mine="def test_only_prepares(attn_case):\n    attn_case.prepare()\n")
    sim(*RUN, "--attn-isolate", "test_mine.py").assert_outcomes(passed=1)
    assert (
        by_test(sim)["test_only_prepares"]["reasons"][0]["text"] == "the test ended after prepare(), before measure()"
    )


def test_what_is_not_timed_on_request_has_no_reason(sim: Any) -> None:
    result = sim(*ONE, "--benchmark-disable", "--benchmark-storage=file://.")
    result.stdout.fnmatch_lines(["1 case: 1 checked"])
    assert "not measured" not in result.outlines


def test_each_test_is_judged_and_fails_by_itself(sim: Any, baseline: Any, pytester: pytest.Pytester) -> None:
    baseline(*ONE[:2])
    pytester.makepyfile(test_copy="from attnbench.suite import test_attention")
    pytester.makeconftest(
        """
import pytest
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    slower = ["torch_flash:+3%"] if "suite" in item.nodeid else []
    from attnbench.plugin.run_state import RUN
    from dataclasses import replace
    run = item.config.stash[RUN]
    settings = replace(run.settings, sim=tuple(slower))
    run.selection = replace(run.selection, settings=settings)
"""
    )
    result = sim(*RUN, "--attn-relaunch=0")
    result.assert_outcomes(passed=1, failed=1)
    verdicts = {one["nodeid"].partition(".")[0]: one for one in sim.stored()["attnbench"]["verdicts"]}
    assert {name: (one["kind"], one["launches"]) for name, one in verdicts.items()} == {
        "test_copy": ("unchanged", 1),
        "test_suite": ("regressed", 1),
    }
    result.stdout.fnmatch_lines(
        [
            "verdicts: 1 regressed (fails the run), 1 unchanged",
            "regressed  torch_flash@eager · flux-256px-t128 (test 2) *",
            "  unchanged: 1 case, *",
        ]
    )
    summary = markdown(run_from(sim.stored()))
    assert "| **regressed** | `torch_flash@eager · flux-256px-t128 (test 2)` |" in summary


def test_a_case_that_another_test_measured_is_not_missing(sim: Any, baseline: Any, pytester: pytest.Pytester) -> None:
    baseline(*ONE[:2])
    pytester.makepyfile(test_mine="def test_only_prepares(attn_case):\n    attn_case.prepare()\n")
    assert sim(*RUN, "--attn-require-baseline").ret == 0
    assert [one["kind"] for one in sim.stored()["attnbench"]["verdicts"]] == ["unchanged"]
    assert sim(*RUN, "--attn-require-baseline", "test_mine.py").ret == pytest.ExitCode.TESTS_FAILED
    (missing,) = sim.stored()["attnbench"]["verdicts"]
    assert missing["kind"] == "missing"
    assert missing["reasons"][0]["text"].endswith("not-run here: the test ended after prepare(), before measure()")


def test_a_session_of_a_case_in_two_tests_holds_as_many_launches_as_processes(
    sim: Any, baseline: Any, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(test_copy="from attnbench.suite import test_attention")
    baseline(*ONE[:2], "--attn-rounds=29")  # not the cached session of one test
    (pytester.path / "test_copy.py").unlink()
    sim(*RUN)
    two = sim.stored()["attnbench"]["verdicts"][0]
    stored = next(baseline.folder.glob("*.json"))
    document = json.loads(stored.read_text())
    run = run_from(document)
    assert len(run.records) == 6
    once = tuple(record for record in run.records if "test_copy" in record.nodeid)
    stored.write_text(json.dumps({**document, "attnbench": to_plain(replace(run, records=once))}))
    sim(*RUN)
    one = sim.stored()["attnbench"]["verdicts"][0]
    assert two["high"] - two["low"] == pytest.approx(one["high"] - one["low"], rel=1e-9)


OUT_OF_ORDER = {
    "assert_accurate": "assert_accurate() before prepare(): there is no kernel to check yet",
    "assert_route": "assert_route() before prepare(): there is no kernel to trace yet",
    "measure": "measure() before assert_accurate(): a wrong kernel has no latency",
    "prepare measure": "measure() before assert_accurate(): a wrong kernel has no latency",
    "prepare prepare": "prepare() a second time: a case takes each step once",
    "prepare assert_accurate assert_accurate": "assert_accurate() a second time: a case takes each step once",
    "prepare assert_accurate measure measure": "measure() a second time: a case takes each step once",
    "prepare assert_accurate measure assert_route": (
        "assert_route() after measure(): the kernel is let go of once it is timed"
    ),
}


@pytest.mark.parametrize("device", ["cpu", "sim"])
def test_a_test_that_takes_the_steps_in_another_order_is_told_so(
    bench: Any, pytester: pytest.Pytester, device: str
) -> None:
    tests = [
        f"def test_{at}(attn_case):\n    for step in {steps.split()}:\n        getattr(attn_case, step)()\n"
        for at, steps in enumerate(OUT_OF_ORDER)
    ]
    pytester.makepyfile(test_suite="\n".join(tests))
    result = bench(
        *("--benchmark-only", "--attn-rounds=2", f"--attn-device={device}", "--attn-workload=1x32x2x16:fp32"),
        "--attn-backend=numpy",
    )
    result.assert_outcomes(failed=len(OUT_OF_ORDER))
    for sentence in OUT_OF_ORDER.values():
        result.stdout.fnmatch_lines([f"E*RuntimeError: {sentence}"])
    assert "failed while it was timed" not in result.stdout.str()
    assert "case.py:" not in result.stdout.str(), "the traceback ends at the line of the test"


def test_after_a_step_has_ended_the_case_no_other_one_is_taken(sim: Any, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite="""
        import pytest

        def test_mine(attn_case):
            attn_case.prepare()
            with pytest.raises(pytest.fail.Exception):
                attn_case.assert_accurate()
            attn_case.measure()
        """
    )
    result = sim(*RUN, "--attn-sim=torch_flash:incorrect")
    result.assert_outcomes(failed=1)
    said = "measure() after assert_accurate() has ended the case, which is incorrect"
    result.stdout.fnmatch_lines([f"E*RuntimeError: {said}"])
    assert by_test(sim)["test_mine"]["status"] == "incorrect"
