"""A run that is ended from outside: Ctrl-C keeps what was measured, a kill loses nothing that was stored before."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

#: Says which process is at which case, so that a test can wait until the right one hangs.
CONFTEST = """
import os
def pytest_runtest_call(item):
    with open("at.txt", "a") as file:
        print(os.getpid(), item.name, file=file)
"""
#: Three cases, the second of which never ends by itself.
HANGS = ("--benchmark-only", "--attn-backend=torch_math", "--attn-sim=torch_math@default:hang", "--benchmark-save=mid")
FIRST, SECOND, THIRD = (f"torch_math@{mode}-flux-256px-t128" for mode in ("eager", "default", "max-autotune"))


def _until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited in vain until {what}")


def _pids_at(case: str) -> set[int]:
    """The processes that are at `case`: with isolation its own, and the one that waits for it."""
    lines = Path("at.txt").read_text().splitlines() if Path("at.txt").exists() else []
    return {int(line.split()[0]) for line in lines if case in line}


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.fixture
def hanging(sim: Any, pytester: pytest.Pytester) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], int]]]:
    """Start a run that hangs in its second case: the run, and the id of the process that hangs."""
    pytester.makeconftest(CONFTEST)
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> tuple[subprocess.Popen[bytes], int]:
        command = [sys.executable, "-m", "pytest", "-p", "attnbench.plugin", *HANGS, *arguments]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        # CI may have been started in the background, where SIGINT is ignored, and that is inherited.
        run = pytester.popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **pipes)
        started.append(run)
        waiting = {run.pid} if "--attn-isolate" in arguments else set()
        return run, _until(lambda: _pids_at(SECOND) - waiting, f"a process hangs in {SECOND}").pop()

    yield start
    for run in started:
        run.kill()
        run.wait()


@pytest.mark.parametrize(
    ("sent", "said"), [(signal.SIGINT, "interrupted (Ctrl-C)"), (signal.SIGTERM, "terminated (SIGTERM)")]
)
@pytest.mark.parametrize("isolate", [(), ("--attn-isolate",)], ids=["in-process", "isolated"])
def test_a_signal_keeps_and_shows_what_was_measured_and_names_the_rest(
    hanging: Any, sim: Any, pytester: pytest.Pytester, isolate: tuple[str, ...], sent: signal.Signals, said: str
) -> None:
    run, hung = hanging("--benchmark-json=run.json", *isolate)
    run.send_signal(sent)
    printed = run.communicate(timeout=60)[0].decode()
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    [saved] = (pytester.path / "baselines").glob("*/0001_mid.json")
    for path in ("run.json", str(saved)):
        records = sim.records(path)
        assert [records[case]["status"] for case in (FIRST, SECOND, THIRD)] == ["measured", "not-run", "not-run"]
        assert said in records[THIRD]["reasons"][0]["text"]
        assert [entry["extra_info"]["case"] for entry in sim.stored(path)["benchmarks"]] == [FIRST]
    assert "3 cases: 1 measured, 2 not-run" in printed
    assert "INTERNALERROR" not in printed
    _until(lambda: not _runs(hung), "the isolated process is gone")


def test_a_killed_run_leaves_earlier_files_alone_and_no_new_one(
    hanging: Any, sim: Any, pytester: pytest.Pytester
) -> None:
    assert sim("--benchmark-only", "--attn-mode=eager", "--benchmark-save=old", "--benchmark-json=run.json").ret == 0
    Path("at.txt").unlink()
    before = {path: path.read_bytes() for path in pytester.path.rglob("*.json")}
    run, _ = hanging("--benchmark-json=run.json")
    run.kill()
    run.communicate(timeout=60)
    assert {path: path.read_bytes() for path in pytester.path.rglob("*.json")} == before
    assert len(before) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="a process dies with its parent on Linux only")
@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGTERM], ids=lambda s: s.name)
def test_an_isolated_process_that_hangs_goes_with_its_killed_parent(hanging: Any, ended_by: signal.Signals) -> None:
    run, hung = hanging("--attn-isolate")
    assert hung != run.pid
    run.send_signal(ended_by)
    run.communicate(timeout=60)
    _until(lambda: not _runs(hung), "the isolated process is gone")


def test_a_test_that_ends_the_run_is_named_as_what_ended_it(sim: Any, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
import pytest
def pytest_runtest_call(item):
    if "default" in item.name:
        pytest.exit("the GPU is needed elsewhere")
"""
    )
    sim("--benchmark-only", "--attn-backend=torch_math", "--benchmark-json=run.json")
    records = sim.records()
    assert records[FIRST]["status"] == "measured"
    assert "the GPU is needed elsewhere" in records[THIRD]["reasons"][0]["text"]
