"""`--attn-isolate`: each backend in a process of its own, whatever becomes of that process."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

TWO = ("--benchmark-only", "--benchmark-json=run.json", "--attn-mode=eager", "--attn-backend=torch_math")
CASES = (*TWO, "--attn-backend=torch_flash")
MATH, FLASH = "torch_math@eager-flux-256px-t128", "torch_flash@eager-flux-256px-t128"

#: A backend that does in its process what `body` says; the simulated device would not call it, so it acts when loaded.
IN_THE_CHILD = """
import ctypes, os, signal, sys, time
IN_CHILD = any("--attn-child" in argument for argument in sys.argv)
"""


def test_isolated_cases_give_the_same_records_as_cases_in_this_process(sim: Any) -> None:
    assert sim(*CASES).ret == 0
    here = sim.records()
    assert sim(*CASES, "--attn-isolate").ret == 0
    isolated = sim.records()
    assert {name: record["sample"] for name, record in isolated.items()} == {
        name: record["sample"] for name, record in here.items()
    }


def test_the_command_line_beats_the_environment_in_fresh_processes_too(
    sim: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTN_REFERENCE", "torch_fast@eager")
    assert sim(*CASES, "--attn-isolate", "--attn-reference=torch_math@eager").ret == 0
    assert {record["status"] for record in sim.records().values()} == {"measured"}


def test_each_backend_has_one_process_and_its_cases_share_it(sim: Any) -> None:
    workloads = ("--attn-workload=flux-256px-t128", "--attn-workload=flux-256px-t256")
    sim("--benchmark-only", "--benchmark-json=run.json", "--attn-isolate", "--attn-backend=torch_[mf]*[hx]", *workloads)
    launches: dict[str, set[str]] = {}
    for record in sim.records().values():
        launches.setdefault(record["backend"], set()).add(record["launch"])
    assert {name: len(ids) for name, ids in launches.items()} == {"torch_math": 1, "torch_flash": 1, "torch_flex": 1}
    assert len(set.union(*launches.values())) == 3


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        ("crash", "its process was ended by SIGSEGV in prepare ("),
        ("exit", "its process ended with exit code 3"),
        ("hang", "its process gave no answer within 5 s (--attn-timeout) and was killed"),
        ("context-lost", "an illegal memory access took the context"),
    ],
)
def test_a_process_that_ends_costs_the_case_that_it_was_at(sim: Any, outcome: str, sentence: str) -> None:
    result = sim(
        *("--benchmark-only", "--benchmark-json=run.json", "--attn-backend=torch_math", "--attn-isolate"),
        *("--attn-timeout=5", f"--attn-sim=torch_math@default:{outcome}"),
    )
    assert result.ret == 1
    result.assert_outcomes(passed=2, failed=1)
    records = sim.records()
    [reason] = records.pop("torch_math@default-flux-256px-t128")["reasons"]
    assert sentence in reason["text"]
    assert {record["status"] for record in records.values()} == {"measured"}
    assert "INTERNALERROR" not in result.stdout.str()


def test_an_abort_is_reported_with_the_last_words_of_the_library(sim: Any, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        IN_THE_CHILD
        + """
def pytest_runtest_call(item):
    if IN_CHILD and "math" in item.name:
        os.write(2, b"CUTLASS: misaligned operand\\n")
        os.abort()
"""
    )
    assert sim(*CASES, "--attn-isolate").ret == 1
    [reason] = sim.records()[MATH]["reasons"]
    assert reason["text"].startswith("its process was ended by SIGABRT in pytest_runtest_call (")
    assert reason["text"].endswith("its last output: CUTLASS: misaligned operand")
    assert sim.records()[FLASH]["status"] == "measured"


def test_megabytes_of_output_block_nobody(sim: Any, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        IN_THE_CHILD
        + """
def pytest_runtest_call(item):
    for fd in (1, 2):
        os.write(fd, b"x" * 79 + b"\\n") if not IN_CHILD else [os.write(fd, b"y" * 2**20) for _ in range(8)]
"""
    )
    assert sim(*CASES, "--attn-isolate", "--attn-timeout=20").ret == 0


def test_a_death_is_noticed_though_a_forked_process_still_holds_the_pipe(sim: Any, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        IN_THE_CHILD
        + """
def pytest_runtest_call(item):
    if IN_CHILD:
        forked = os.fork()
        if not forked:
            time.sleep(600)
            os._exit(0)
        with open("forked.txt", "a") as file:
            print(forked, file=file)
        os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    assert sim(*TWO, "--attn-isolate", "--attn-timeout=60").ret == 1
    [reason] = sim.records()[MATH]["reasons"]
    assert reason["text"] == "its process was ended by SIGKILL"
    for pid in (pytester.path / "forked.txt").read_text().split():
        assert not _runs(pid), "what the child forked went with it"


def test_a_process_that_hangs_before_it_starts_dies_with_the_one_that_started_it(
    sim: Any, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(
        IN_THE_CHILD
        + """
if IN_CHILD:
    with open("child.new", "w") as file:
        file.write(str(os.getpid()))
    os.rename("child.new", "child.txt")
    time.sleep(600)
"""
    )
    run = pytester.popen([sys.executable, "-m", "pytest", "-p", "attnbench.plugin", *TWO, "--attn-isolate"])
    child = pytester.path / "child.txt"
    until = time.monotonic() + 60
    while not child.exists() and time.monotonic() < until:
        time.sleep(0.05)
    run.kill()
    run.wait()
    while _runs(child.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(child.read_text())


def test_a_process_that_cannot_start_is_started_once_for_its_group(sim: Any, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        IN_THE_CHILD
        + """
if IN_CHILD:
    with open("starts.txt", "a") as file:
        file.write("start\\n")
    raise RuntimeError("only in the child")
"""
    )
    backends = ("--attn-backend=torch_math", "--attn-backend=torch_flash")
    assert sim("--benchmark-only", "--benchmark-json=run.json", *backends, "--attn-isolate").ret == 1
    said = {record["reasons"][0]["text"] for record in sim.records().values()}
    assert said == {
        "its process could not start: it ended with exit code 4; its last output: RuntimeError: only in the child"
    }
    assert len(sim.records()) == 6
    assert (pytester.path / "starts.txt").read_text().count("start") == 2


def test_a_file_that_only_the_child_cannot_collect_costs_its_own_cases(sim: Any, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_other=IN_THE_CHILD
        + """
from attnbench.suite import test_attention
if IN_CHILD:
    raise RuntimeError("no such GPU")
"""
    )
    result = sim(*TWO, "--attn-isolate")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*its process could not collect it: RuntimeError: no such GPU*"])


def test_a_case_that_is_not_asked_for_does_not_disturb_the_next(sim: Any, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        IN_THE_CHILD
        + """
import pytest
def pytest_runtest_setup(item):
    if not IN_CHILD and "@default" in item.name:
        pytest.skip("not today")
"""
    )
    arguments = ("--benchmark-only", "--benchmark-json=run.json", "--attn-backend=torch_math", "--attn-isolate")
    sim(*arguments).assert_outcomes(passed=2, skipped=1)


def test_isolation_asked_for_by_the_environment_or_the_ini_file_does_not_nest(
    sim: Any, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    ini = pytester.path / "tox.ini"
    ini.write_text(ini.read_text() + "\nattn_isolate = true\naddopts = --attn-isolate\n")
    monkeypatch.setenv("ATTN_ISOLATE", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--attn-isolate")
    assert sim(*CASES, "--attn-timeout=20").ret == 0


def test_after_a_lost_context_the_other_cases_share_another_process(sim: Any) -> None:
    more = ("--attn-backend=torch_efficient", "--attn-backend=torch_cudnn")
    result = sim(*CASES, *more, "--attn-sim=torch_flash:context-lost")
    assert result.ret == 1
    records = sim.records()
    assert records[FLASH]["reasons"][0]["code"] == "context-lost"
    assert records["torch_cudnn@eager-flux-256px-t128"]["status"] == "measured"
    assert records["torch_cudnn@eager-flux-256px-t128"]["launch"] != records[MATH]["launch"]
    assert len(sim.stored()["attnbench"]["launches"]) == 2


def test_isolated_accuracy_checks_run_under_xdist(sim: Any) -> None:
    pytest.importorskip("xdist")
    result = sim.fresh("-n2", "--attn-isolate", "--attn-backend=torch_math", "--attn-sim=torch_math@default:crash")
    assert result.ret == 1
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*- attnbench (simulated) -*", "simulated device", "*2 checked, 1 error*"])


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] not in "ZX"
    except FileNotFoundError:
        return False
