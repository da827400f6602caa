"""A run that is ended from outside: Ctrl-C keeps what was measured, a kill loses nothing that was stored before."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

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
    pytester.path.joinpath("conftest.py").write_text(CONFTEST)
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> tuple[subprocess.Popen[bytes], int]:
        command = [sys.executable, "-m", "pytest", "-p", "attnbench.plugin", *HANGS, *arguments]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        run = pytester.popen(command, **pipes)
        started.append(run)
        waiting = {run.pid} if "--attn-isolate" in arguments else set()
        return run, _until(lambda: _pids_at(SECOND) - waiting, f"a process hangs in {SECOND}").pop()

    yield start
    for run in started:
        run.kill()
        run.wait()


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (signal.SIGINT, "interrupted (Ctrl-C)"),
        (signal.SIGTERM, "terminated (SIGTERM)"),
        (signal.SIGHUP, "terminated (SIGHUP)"),
    ],
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


ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
#: Sends signals to the run itself, at a point of its end that a test names.
SENDS = """
import os, signal
import pytest
def send():
    for number in {numbers}:
        os.kill(os.getpid(), number)
{hook}
    send()
"""
AT = {
    "when its file is put together": "def pytest_benchmark_update_json():",
    "when it is told how it ended": "def pytest_keyboard_interrupt():",
    "when it prints": "@pytest.hookimpl(tryfirst=True)\ndef pytest_terminal_summary():",
}


@pytest.mark.parametrize("at", ["when its file is put together", "when it prints"])
@pytest.mark.parametrize("sent", ENDING, ids=lambda number: number.name)
def test_a_signal_while_it_is_saved_waits_and_ends_the_run_with_2(
    sim: Any, pytester: pytest.Pytester, at: str, sent: signal.Signals
) -> None:
    pytester.makeconftest(SENDS.format(numbers=[int(sent)], hook=AT[at]))
    (pytester.path / "run.json").write_text('{"measured": "last week"}')
    result = sim.fresh("--benchmark-only", "--benchmark-json=run.json", "--benchmark-save=x")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        [
            "15 cases: 15 measured",
            f"attnbench: {sent.name} came while the run was ending; the run was saved first",
        ]
    )
    [saved] = (pytester.path / "baselines").glob("*/0001_x.json")
    for path in ("run.json", str(saved)):
        assert {record["status"] for record in sim.records(path).values()} == {"measured"}
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize("at", AT)
def test_further_signals_break_nothing(sim: Any, pytester: pytest.Pytester, at: str) -> None:
    numbers = [int(number) for number in (*ENDING, *ENDING)] if at != "when it prints" else [int(signal.SIGTERM)]
    interrupt = """
def pytest_runtest_call(item):
    if "default" in item.name:
        raise KeyboardInterrupt
"""
    pytester.makeconftest(SENDS.format(numbers=numbers, hook=AT[at]) + interrupt)
    result = sim.fresh("--benchmark-only", "--attn-backend=torch_math", "--benchmark-json=run.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert [record["status"] for record in sim.records().values()] == ["measured", "not-run", "not-run"]
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_a_program_that_calls_pytest_gets_the_signal_that_waited(sim: Any, pytester: pytest.Pytester) -> None:
    hook = "@pytest.hookimpl(tryfirst=True)\ndef pytest_benchmark_update_json():\n    os.kill(os.getpid(), signal.SIGTERM)\n"
    pytester.makeconftest(f"import os, signal\nimport pytest\n{hook}")
    program = (
        "import signal, sys, pytest\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('the program was told'))\n"
        "sys.exit(10 + pytest.main(sys.argv[1:]))"
    )
    run = pytester.run(sys.executable, "-c", program, "-p", "attnbench.plugin", "--benchmark-json=run.json")
    assert run.ret == 12
    run.stdout.fnmatch_lines(["the program was told"])
    assert len(sim.records()) == 15


def test_a_signal_that_is_ignored_stays_ignored(hanging: Any, pytester: pytest.Pytester) -> None:
    """As under nohup."""
    pytester.makeconftest(f"{CONFTEST}import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n")
    Path("at.txt").unlink(missing_ok=True)
    run, _ = hanging()
    run.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert run.poll() is None


#: LLVM does so when it first compiles: from then on the signal is answered by C code, which Python knows nothing of.
TAKEN_BY_C = """
import ctypes, os, signal, torch
from attnbench import register

def attention(q, k, v):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        ctypes.CDLL(None).signal(int(number), None)  # the default: the process ends
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)

@register("compiles", "example")
def compiles(_):
    return attention

def pytest_runtest_call(item):
    if "64" in item.name:
        os.kill(os.getpid(), signal.{name})
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_that_a_compiler_has_taken_keeps_what_was_measured(
    bench: Any, pytester: pytest.Pytester, name: str
) -> None:
    pytester.makeconftest(TAKEN_BY_C.replace("{name}", name))
    shapes = ("--attn-workload=1x32x2x16:fp32", "--attn-workload=1x64x2x16:fp32")
    tiny = ("--benchmark-only", "--attn-device=cpu", "--attn-backend=compiles", "--attn-mode=eager", "--attn-rounds=1")
    result = bench.fresh(*tiny, *shapes, "--benchmark-json=run.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert [record["status"] for record in bench.records().values()] == ["measured", "not-run"]


#: Sends SIGINT from among the timed rounds, whose inputs are then between the contents of two rounds.
INTERRUPTS = """
import os, signal, torch
from attnbench import register

calls = []

def attention(q, k, v):
    calls.append(q.shape[1])
    if calls.count(64) == 200:
        os.kill(os.getpid(), signal.SIGINT)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)

@register("interrupts", "example")
def interrupts(_):
    return attention
"""


def test_an_interrupted_round_accuses_nobody_and_keeps_the_table(bench: Any, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(INTERRUPTS)
    shapes = ("--attn-workload=1x32x2x16:fp32", "--attn-workload=1x64x2x16:fp32")
    tiny = (
        "--benchmark-only",
        "--attn-device=cpu",
        "--attn-backend=interrupts",
        "--attn-mode=eager",
        "--attn-rounds=300",
    )
    result = bench.fresh(*tiny, *shapes, "--benchmark-json=run.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert [record["status"] for record in bench.records().values()] == ["measured", "not-run"]
    result.stdout.fnmatch_lines(["interrupts@eager *"])
    result.stdout.no_fnmatch_line("*could not show its table*")
    result.stdout.no_fnmatch_line("*wrote into its input*")


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


def test_the_step_of_the_workflow_saves_when_its_shell_alone_is_signalled(tmp_path: Path) -> None:
    """As GitHub's runner does at a cancel and at the timeout of the step: SIGINT to the process that it started."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/bench.yml").read_text(encoding="utf8"))
    [step] = [step["run"] for step in workflow["jobs"]["gpu"]["steps"] if "scripts/bench" in step.get("run", "")]
    path = tmp_path / "run.json"
    options = f"-v -o attn_baselines={tmp_path} -p no:cacheprovider --attn-device=sim"
    options += " --attn-backend=torch_flash --attn-mode=eager '--attn-sim=*t320:hang'"
    step = step.replace("run.json", str(path)).replace(
        "--attn-baselines-from=HEAD^1", ""
    )  # which has none of this device
    (tmp_path / "step.sh").write_text(f"{step} {options}\n")
    shell = subprocess.Popen(
        ["bash", "-e", tmp_path / "step.sh"],
        cwd=ROOT,
        env={**os.environ, "ATTN_PYTHON": sys.executable, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert shell.stdout is not None
        while b"t320" not in os.read(shell.stdout.fileno(), 2**16):
            assert shell.poll() is None
        shell.send_signal(signal.SIGINT)
        shell.communicate(timeout=30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
    assert shell.returncode == pytest.ExitCode.INTERRUPTED
    assert "measured" in {record["status"] for record in json.loads(path.read_text())["attnbench"]["records"]}


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
