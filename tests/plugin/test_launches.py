"""`--attn-launches N`: every case in N fresh processes, each of them a launch of its own."""

from __future__ import annotations

import os
import resource
from typing import Any

import pytest

TWO = ("--attn-mode=eager", "--attn-backend=torch_flash", "--attn-backend=torch_cudnn")
RUN = ("--benchmark-only", "--benchmark-json=run.json", *TWO)
CUDNN, FLASH = "torch_cudnn@eager-flux-256px-t128", "torch_flash@eager-flux-256px-t128"

#: A conftest.py that says in which process each case was called; `body` is what happens to a case in the launcher's ones.
PROCESSES = """
import os, sys
IN_CHILD = any("--attn-child" in argument for argument in sys.argv)
NUMBER = next((argument[-1] for argument in sys.argv if "launch=" in argument), "0")
def pytest_runtest_call(item):
    with open("called.txt", "a") as file:
        print(os.getpid(), item.name, file=file)
    {body}
"""


def by_case(sim: Any) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for record in sim.stored()["attnbench"]["records"]:
        found.setdefault(record["case"], []).append(record)
    return found


def test_every_case_is_measured_in_each_launch(sim: Any, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(PROCESSES.format(body="pass"))
    result = sim(*RUN, "--attn-launches=3")
    result.assert_outcomes(passed=2)
    launches = [launch["id"] for launch in sim.stored()["attnbench"]["launches"]]
    assert len(set(launches)) == 3, "and this process, which measured nothing, is none of them"
    found = by_case(sim)
    assert set(found) == {CUDNN, FLASH}
    for records in found.values():
        assert [record["status"] for record in records] == ["measured"] * 3
        assert sorted(record["launch"] for record in records) == sorted(launches)
        samples = [tuple(record["sample"]["rounds_s"]) for record in records]
        assert len(set(samples)) == 3, "every launch draws noise of its own"
    called = [line.split() for line in (pytester.path / "called.txt").read_text().splitlines()]
    children = {pid for pid, _ in called} - {str(os.getpid())}
    assert len(children) == 3, "a launch takes all cases"
    pooled = {bench["extra_info"]["case"]: bench["stats"] for bench in sim.stored()["benchmarks"]}
    assert {case: stats["rounds"] for case, stats in pooled.items()} == {CUDNN: 90, FLASH: 90}
    assert pooled[FLASH]["data"] == pytest.approx(
        [round_s for record in found[FLASH] for round_s in record["sample"]["rounds_s"]], rel=1e-9
    )
    result.stdout.fnmatch_lines(["median of 30 rounds in each of 3 launches, *", "2 cases: 2 measured"])


def test_a_launch_that_fails_makes_the_case_an_error_and_costs_the_others_nothing(
    sim: Any, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(PROCESSES.format(body='IN_CHILD and NUMBER == "2" and "flash" in item.name and os.abort()'))
    result = sim(*RUN, "--attn-launches=3")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["ERROR torch_flash@eager · flux-256px-t128: its process was ended by SIGABRT *"])
    found = by_case(sim)
    assert [record["status"] for record in found[FLASH]] == ["error", "measured"], "the third was not begun"
    assert [record["status"] for record in found[CUDNN]] == ["measured"] * 3
    assert [bench["extra_info"]["case"] for bench in sim.stored()["benchmarks"]] == [CUDNN]
    result.stdout.fnmatch_lines(["2 cases: 1 measured, 1 error"])
    assert not any("torch_flash@eager" in line and "0.00" in line for line in result.outlines), "it has no latency"


def test_in_one_launch_a_fault_costs_its_own_case_and_the_rest_go_on_in_a_fresh_process(sim: Any) -> None:
    """What bench.yml runs."""
    faults = {"torch_math": "crash", "torch_flash@default": "hang", "torch_cudnn@eager": "context-lost"}
    chosen = [f"--attn-backend={name}" for name in ("torch_math", "torch_flash", "torch_cudnn", "numpy")]
    result = sim(
        *("--benchmark-only", "--benchmark-json=run.json", "--attn-launches=1", "--attn-timeout=5", *chosen),
        *(f"--attn-sim={glob}:{outcome}" for glob, outcome in faults.items()),
    )
    result.assert_outcomes(passed=5, failed=5)
    records = {case.removesuffix("-flux-256px-t128"): record for case, record in sim.records().items()}
    said = {case: record["reasons"][0]["text"] for case, record in records.items() if record["status"] == "error"}
    assert {case: text.partition(" in ")[0] for case, text in said.items() if case.startswith("torch_math")} == {
        f"torch_math@{mode}": "its process was ended by SIGSEGV" for mode in ("eager", "default", "max-autotune")
    }
    assert said["torch_flash@default"] == "its process gave no answer within 5 s (--attn-timeout) and was killed"
    assert said["torch_cudnn@eager"] == "simulated: an illegal memory access took the context"
    assert {case for case, record in records.items() if record["status"] == "measured"} == {
        *("torch_flash@eager", "torch_flash@max-autotune", "torch_cudnn@default", "torch_cudnn@max-autotune"),
        "numpy@eager",
    }


def test_what_cannot_run_is_said_by_the_first_launch(sim: Any, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(PROCESSES.format(body="pass"))
    result = sim(*RUN, "--attn-launches=2", "--attn-sim=torch_flash:unsupported")
    result.assert_outcomes(passed=1, skipped=1)
    assert [record["status"] for record in by_case(sim)[FLASH]] == ["unsupported"]


def test_with_isolation_every_backend_has_its_processes_in_each_launch(sim: Any, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(PROCESSES.format(body="pass"))
    result = sim(*RUN, "--attn-launches=2", "--attn-isolate")
    result.assert_outcomes(passed=2)
    records = sim.stored()["attnbench"]["records"]
    assert len(records) == 4
    assert len({record["launch"] for record in records}) == 4
    result.stdout.fnmatch_lines(["median of 30 rounds in each of 2 launches, *"])


def test_launches_that_only_check_are_not_timed(sim: Any) -> None:
    result = sim(*RUN[1:], "--benchmark-disable", "--attn-launches=2")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["2 cases: 2 checked"])


def test_all_launches_are_judged_together_and_a_regression_needs_no_further_one(sim: Any, baseline: Any) -> None:
    baseline(*TWO)
    result = sim(*RUN, "--attn-launches=2", "--attn-sim=torch_cudnn:+2%")
    result.assert_outcomes(passed=1, failed=1)
    found = {verdict["case"]: verdict for verdict in sim.stored()["attnbench"]["verdicts"]}
    assert {case: (verdict["kind"], verdict["launches"]) for case, verdict in found.items()} == {
        CUDNN: ("regressed", 2),
        FLASH: ("unchanged", 2),
    }
    assert "--attn-launches=2" in found[CUDNN]["reproduce"]


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_a_number_of_launches_that_is_none_is_a_usage_error(sim: Any, value: str) -> None:
    result = sim(*RUN, f"--attn-launches={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --attn-launches: expected an integer >= 1, got '{value}'"])


def test_a_process_with_many_open_files_can_start_launches(sim: Any) -> None:
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < 2048:
        pytest.skip("this machine allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit, 2048), most))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        sim(*RUN, "--attn-launches=1").assert_outcomes(passed=2)
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
