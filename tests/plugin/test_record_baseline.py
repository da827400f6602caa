"""`attnbench record`: a session is written whole, numbered and reviewed, or not at all."""

from __future__ import annotations

import json
import os
import pkgutil
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attnbench.cli.command import main
from attnbench.codec import run_from
from attnbench.storage.folders import NUMBERED

ROOT = Path(__file__).resolve().parents[2]
SUITE = ("-p", "attnbench.plugin", "--attn-mode=eager", "--attn-backend=torch_flash", "--attn-backend=torch_cudnn")
FOLDER = Path("baselines", "simulated-device")
UNTOUCHED = "attnbench: nothing was written; sessions stored before are unchanged\n"


@pytest.fixture
def scratch(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    folder = pytester.mkdir("scratch")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def project(sim: Any, scratch: Path) -> Iterator[None]:
    """The simulated project, in which nothing but sessions may be left behind."""
    yield
    assert not Path(".benchmarks").exists()
    assert not [path for path in Path("baselines").rglob("*") if path.is_file() and not NUMBERED.fullmatch(path.name)]
    assert list(scratch.iterdir()) == []


def sessions() -> dict[str, str]:
    """Everything in the folder of sessions, by name."""
    return {path.name: path.read_text() for path in sorted(FOLDER.iterdir())} if FOLDER.is_dir() else {}


def test_sessions_are_recorded_numbered_and_compared_with(sim: Any, project: None) -> None:
    command = [sys.executable, "-m", "attnbench", "record", "--launches", "2", *SUITE]
    first = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert first.returncode == 0
    ((name, content),) = sessions().items()
    assert name.startswith("0001_")
    assert first.stderr.splitlines()[-1] == (
        f"attnbench: recorded baselines/simulated-device/{name}: 2 cases × 2 launches; review it, then commit it"
    )
    stored = run_from(json.loads(content))
    assert name == f"0001_{stored.launches[0].id}.json"
    assert len({record.launch for record in stored.records}) == len(stored.launches) == 2
    assert [record.status for record in stored.records] == ["measured"] * 4
    assert "verdicts" not in first.stdout, "a session is not judged by the one before"

    one = ("--benchmark-json=run.json", "--benchmark-only", *SUITE[2:4])
    assert sim(*one, "--attn-sim=torch_flash:+2%", "--attn-relaunch=0").ret == pytest.ExitCode.TESTS_FAILED
    assert sim.stored()["attnbench"]["verdicts"][0]["compared_with"] == [f"simulated-device/{name}"]
    result = sim(*one, "--benchmark-compare=simulated-device/0001")
    assert result.ret == 0
    assert any(line.startswith("torch_flash@eager (") and "0001" in line for line in result.outlines)


def test_a_next_session_may_be_slower_and_names_launches_that_differ(
    baseline: Any, project: None, monkeypatch: pytest.MonkeyPatch, capfd: Any, pytester: pytest.Pytester
) -> None:
    earlier = baseline("--attn-mode=eager", "--attn-backend=torch_flash")
    content = earlier.read_text()
    monkeypatch.setenv("ATTN_REQUIRE_BASELINE", "1")  # of runs that are judged
    pytester.makeconftest(
        """
import pytest
@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    if "launch=2" in config.option.attn_sim:
        config.option.attn_sim = ["torch_flash:+1%", *config.option.attn_sim]
"""
    )
    assert main(["record", "--launches=2", *SUITE, "--attn-sim=torch_*:+5%"]) == 0
    assert [name[:5] for name in sessions()] == ["0001_", "0002_"]
    assert earlier.read_text() == content
    printed = capfd.readouterr()
    (said,) = [line for line in printed.err.splitlines() if line.startswith("attnbench: launches of ")]
    assert "REQUIRE_BASELINE" not in printed.out, "the header names what the user set, and not what a recording sets"
    assert re.fullmatch(r"attnbench: launches of torch_flash@eager-flux-256px-t128 differ by [01]\.\d\d %", said)


def test_sessions_that_hold_a_part_of_the_cases_each_are_one_baseline(sim: Any, baseline: Any, project: None) -> None:
    baseline("--attn-mode=eager", "--attn-backend=torch_flash")
    assert main(["record", "--launches=2", *SUITE[:3], "--attn-backend=torch_cudnn"]) == 0
    result = sim("--benchmark-json=run.json", "--benchmark-only", *SUITE[2:], "--attn-require-baseline")
    assert result.ret == 0
    verdicts = sim.stored()["attnbench"]["verdicts"]
    assert [verdict["kind"] for verdict in verdicts] == ["unchanged", "unchanged"]
    assert sorted(verdict["compared_with"] for verdict in verdicts) == [
        [f"simulated-device/{name}"] for name in sessions()
    ]


def test_every_reason_against_a_session_is_said_and_nothing_is_written(
    baseline: Any, project: None, capfd: Any
) -> None:
    baseline("--attn-mode=eager", "--attn-backend=torch_flash")
    before = sessions()
    faults = ("--attn-inject=torch_flash:+2%", "--attn-sim=torch_cudnn:error")
    assert main(["record", "--launches=2", "--keep-going", *SUITE, *faults]) == 1
    said = capfd.readouterr().err
    assert said.endswith(
        "attnbench: refused: slowed down on purpose (--attn-inject): torch_flash@eager-flux-256px-t128\n"
        "attnbench: refused: torch_cudnn@eager-flux-256px-t128 is error: simulated: cannot be loaded: ImportError: "
        "undefined symbol\n" + UNTOUCHED
    )
    assert sessions() == before


BROKEN = "torch_flash@eager-flux-256px-t128 is error: simulated: cannot be loaded: ImportError: undefined symbol"
INJECTED = "slowed down on purpose (--attn-inject): torch_flash@eager-flux-256px-t128"
ENDED = "the run ended early: cannot become a baseline session; use --keep-going to run the rest"


@pytest.mark.parametrize(
    ("fault", "reasons"),
    [
        ("--attn-sim=torch_flash:error", [ENDED, BROKEN, "no case was measured, expected at least one"]),
        ("--attn-inject=torch_flash:+2%", [ENDED, INJECTED]),
    ],
    ids=["failed", "injected"],
)
def test_the_first_case_that_rules_a_session_out_ends_the_run(
    project: None, capfd: Any, fault: str, reasons: list[str]
) -> None:
    assert main(["record", "--launches=2", *SUITE, fault]) == 1
    captured = capfd.readouterr()
    assert "not-run: torch_cudnn@eager" in captured.out
    refused = [line for line in captured.err.splitlines() if line.startswith("attnbench: ")]
    assert refused == [*(f"attnbench: refused: {reason}" for reason in reasons), UNTOUCHED.rstrip()]
    assert not sessions()


def test_a_test_of_another_kind_that_fails_refuses_the_session_too(
    project: None, capfd: Any, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        test_more="""
def test_benchmarked(benchmark):
    benchmark.pedantic(lambda: None)
    assert not "this one"
"""
    )
    assert main(["record", "--launches=2", *SUITE[:4]]) == 1
    assert capfd.readouterr().err.endswith("attnbench: refused: a test failed; see the lines above\n" + UNTOUCHED)
    assert not sessions()


def test_a_refused_recording_leaves_no_empty_folder(project: None, pytester: pytest.Pytester) -> None:
    arguments = [
        "record",
        "--launches=2",
        *SUITE,
        "--attn-sim=torch_flash:unsupported",
        "--attn-sim=torch_cudnn:unsupported",
    ]
    for folder in (Path("new"), Path("old")):
        Path("old").mkdir(exist_ok=True)
        assert main([*arguments, f"--into={folder}"]) == 1
    assert [Path(name).exists() for name in ("new", "old")] == [False, True]


@pytest.mark.parametrize("keep_going", [(), ("--keep-going",)], ids=["", "keep going"])
def test_a_cpu_is_refused_before_any_case_is_loaded(
    project: None, capfd: Any, pytester: pytest.Pytester, keep_going: tuple[str, ...]
) -> None:
    pytester.makeconftest(
        """
from attnbench import register

@register("mine", "mine")
def load(workload):
    open("loaded", "w").close()
"""
    )
    on_cpu = ("--attn-device=cpu", "--attn-backend=mine", "--attn-workload=1x64x2x16:fp32")
    assert main(["record", "--launches=2", *keep_going, *SUITE[:2], *on_cpu]) == pytest.ExitCode.USAGE_ERROR
    said = capfd.readouterr().err
    refusal = "CPU timings cannot be a baseline; record on a machine with an NVIDIA GPU, without --attn-device=cpu"
    assert [line for line in said.splitlines() if line.strip()] == [
        f"ERROR: attnbench record: {refusal}",
        "attnbench: nothing was written: pytest ended with exit code 4; see the lines above",
    ]
    assert not Path("loaded").exists()
    assert not sessions()


def test_a_run_that_measures_nothing_is_refused(project: None, capfd: Any) -> None:
    assert main(["record", "--launches=2", *SUITE[:4], "--attn-sim=*:unsupported"]) == 1
    assert capfd.readouterr().err.endswith(
        "attnbench: refused: no case was measured, expected at least one\n" + UNTOUCHED
    )
    assert not sessions()


NO_SUITE = "attnbench: no test of attnbench was collected; to measure its suite, add --pyargs attnbench.suite"


def test_a_name_that_pytest_refuses_is_the_one_complaint(project: None, capfd: Any) -> None:
    assert main(["record", "--launches=2", *SUITE[:3], "--attn-backend=nosuch"]) == 4
    error, ended = [line for line in capfd.readouterr().err.splitlines() if line]
    assert error.startswith("ERROR: --attn-backend: ")
    assert ended == "attnbench: nothing was written: pytest ended with exit code 4; see the lines above"
    assert not sessions()


def test_filters_that_leave_no_case_are_named_and_no_other_suite(project: None, capfd: Any) -> None:
    assert main(["record", "--launches=2", *SUITE, "-k", "nosuch"]) == 5
    captured = capfd.readouterr()
    assert "attnbench: no case is left; -k, -m or --deselect removed all 2\n" in captured.out
    assert captured.err == "attnbench: nothing was written: pytest ended with exit code 5; see the lines above\n"
    assert NO_SUITE not in captured.out
    assert not sessions()


def test_a_recording_of_other_tests_points_to_the_suite_of_the_package(
    project: None, capfd: Any, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(test_suite="def test_other():\n    pass\n")
    assert main(["record", "--launches=2", *SUITE[:3]]) == 1
    captured = capfd.readouterr()
    assert NO_SUITE in captured.out
    assert captured.err == "attnbench: nothing was written: pytest measured no case\n"


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--attn-launches=5", "--attn-launches: use --launches=N"),
        ("--attn-list", "--attn-list: a recording has to measure; use attnbench list"),
        ("--attn-require-baseline", "--attn-require-baseline: a recording is not judged by earlier sessions"),
        ("--benchmark-autosave", "--benchmark-autosave: a recording writes the session and no other file"),
        ("--benchmark-compare", "--benchmark-compare: a recording is not compared with earlier runs"),
        ("--benchmark-disable", "--benchmark-disable: a recording has to measure"),
        ("--benchmark-json=own.json", "--benchmark-json: a recording writes the session and no other file"),
        ("--co", "--co: a recording has to measure; give it to pytest"),
        (
            "-oattn_baselines=other",
            "-o attn_baselines: a recording is not judged by earlier sessions; use --into=FOLDER",
        ),
        ("attn_require_verdict=true", "-o attn_require_verdict: a recording is not judged by earlier sessions"),
    ],
)
def test_an_option_that_does_not_fit_a_recording_is_wrong_usage(
    project: None, capfd: Any, argument: str, said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["record", *SUITE, argument])
    assert ended.value.code == 2
    captured = capfd.readouterr()
    assert f"attnbench record: error: {said}" in captured.err
    assert not captured.out
    assert not sessions()


def test_settings_for_other_runs_do_not_change_a_recording(
    project: None, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setenv("ATTN_LAUNCHES", "5")
    monkeypatch.setenv("ATTN_LIST", "1")
    assert main(["record", "--launches=2", *SUITE[:4]]) == 0
    captured = capfd.readouterr()
    assert "1 case × 2 launches" in captured.err
    assert "Wrote benchmark data" not in captured.out + captured.err, "that file is gone when the recording ends"
    (content,) = sessions().values()
    assert len(run_from(json.loads(content)).launches) == 2


def test_sessions_go_to_the_folder_of_the_project_from_each_of_its_folders(
    project: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    below = pytester.mkdir("below")
    ini = Path("tox.ini").read_text().replace("attn_baselines = baselines", "attn_baselines = reviewed")
    pytester.makeini(ini)
    pytester.makepyfile(**{"below/test_here": "from attnbench.suite import test_attention"})
    monkeypatch.chdir(below)
    assert main(["record", "--launches=2", *SUITE[:4]]) == 0
    (session,) = (pytester.path / "reviewed" / "simulated-device").iterdir()
    assert f"attnbench: recorded ../reviewed/simulated-device/{session.name}: " in capfd.readouterr().err
    assert list(below.glob("baselines")) == []
    assert main(["noise"]) == 0
    assert f"simulated-device/{session.name}" in capfd.readouterr().out
    assert main(["record", "--launches=2", "--into=own", *SUITE[:4]]) == 0
    assert len(list((below / "own" / "simulated-device").iterdir())) == 1


def test_several_sessions_start_some_time_apart(project: None, capfd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("attnbench.cli.record.time.sleep", slept.append)
    assert main(["record", "--launches=2", "--sessions=3", "--apart=3600", *SUITE[:4]]) == 0
    assert [name[:5] for name in sessions()] == ["0001_", "0002_", "0003_"]
    assert [3500 < seconds <= 3600 for seconds in slept] == [True, True]
    said = capfd.readouterr().err
    assert "attnbench: session 2 of 3 begins in 60 min\n" in said
    assert said.count("attnbench: recorded ") == 3


def test_a_signal_between_two_sessions_leaves_the_sessions_before(
    project: None, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnbench.cli.record.time.sleep", lambda seconds: signal.raise_signal(signal.SIGTERM))
    assert main(["record", "--launches=2", "--sessions=2", *SUITE[:4]]) == 2
    assert len(sessions()) == 1
    assert capfd.readouterr().err.splitlines()[-1] == "attnbench: ended by SIGTERM after 1 of 2 sessions"


def test_a_session_that_is_refused_ends_the_recording(project: None, capfd: Any) -> None:
    assert (
        main(["record", "--launches=2", "--sessions=2", "--apart=0", *SUITE[:4], "--attn-sim=torch_flash:incorrect"])
        == 1
    )
    assert capfd.readouterr().err.count("nothing was written") == 1
    assert not sessions()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--sessions=0", "--sessions: expected an integer >= 1, got 0"),
        ("--apart=-1", "--apart: expected a number of seconds >= 0, got -1"),
        ("--apart=nan", "--apart: expected a number of seconds >= 0, got nan"),
    ],
)
def test_an_impossible_number_of_sessions_is_wrong_usage(project: None, capsys: Any, option: str, said: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["record", option])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("value", ["1", "0", "two"])
def test_fewer_than_two_launches_are_wrong_usage(project: None, capsys: Any, value: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["record", f"--launches={value}"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "expected an integer >= 2, to know how launches differ" in said or "invalid int value" in said


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_measured(project: None, capfd: Any) -> None:
    Path("elsewhere").write_text("a file in its place")
    assert main(["record", "--launches=2", "--into", "elsewhere", *SUITE[:4]]) == 1
    captured = capfd.readouterr()
    assert captured.err == "attnbench: refused: elsewhere cannot be written to: File exists\n" + UNTOUCHED
    assert not captured.out
    assert not sessions()
    assert Path("elsewhere").read_text() == "a file in its place"


#: A recording of two cases, the second of which hangs.
HANGS = ("--launches=2", *SUITE, "--attn-sim=torch_cudnn:hang")


@pytest.fixture
def recording(sim: Any, pytester: pytest.Pytester) -> Iterator[subprocess.Popen[str]]:
    """One that hangs: `pids()` are its pytest and the launch."""
    pytester.makeconftest(
        """
import os
def pytest_runtest_call(item):
    with open("at.txt", "a") as file:
        print(os.getpid(), item.name, file=file)
"""
    )
    started = pytester.popen(
        [sys.executable, "-m", "attnbench", "record", *HANGS],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until(lambda: len(pids()) == 2)
        yield started
    finally:
        for pid in (started.pid, *pids()):
            if runs(pid):
                os.kill(pid, signal.SIGKILL)
        started.communicate(timeout=60)


@pytest.mark.parametrize(
    ("sent", "to"),
    [
        (signal.SIGTERM, "it alone"),
        (signal.SIGINT, "it alone"),
        (signal.SIGINT, "its group"),  # as a terminal does
        (signal.SIGHUP, "it alone"),
    ],
)
def test_a_recording_that_is_ended_leaves_old_sessions_and_no_process(
    baseline: Any, project: None, recording: subprocess.Popen[str], sent: signal.Signals, to: str
) -> None:
    baseline("--attn-mode=eager", "--attn-backend=torch_flash")
    before, processes = sessions(), pids()
    os.kill(recording.pid, sent) if to == "it alone" else os.killpg(recording.pid, sent)
    _, said = recording.communicate(timeout=60)
    assert recording.returncode == 2
    assert said.endswith("attnbench: nothing was written: pytest ended with exit code 2; see the lines above\n")
    assert "Traceback" not in said
    assert sessions() == before
    assert not [pid for pid in processes if runs(pid)]


@pytest.mark.skipif(sys.platform != "linux", reason="a process dies with its parent on Linux only")
def test_a_recording_that_is_killed_leaves_no_process(scratch: Path, recording: subprocess.Popen[str]) -> None:
    processes = pids()
    recording.kill()
    recording.communicate(timeout=60)
    until(lambda: not [pid for pid in processes if runs(pid)])
    assert not sessions()


def test_a_recording_says_which_signal_ended_its_pytest(project: None, capfd: Any, pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import os\ndef pytest_collection_finish():\n    os.kill(os.getpid(), 9)\n")
    assert main(["record", "--launches=2", *SUITE[:4]]) == 128 + signal.SIGKILL
    said = capfd.readouterr().err
    assert said.endswith("attnbench: nothing was written: pytest was ended by SIGKILL; see the lines above\n")


WHILE = {
    "it looks at the GPU": ("attnbench.cli.record.look", "nothing was written: ended by {name}", 0),
    "it writes": (
        "attnbench.storage.sessions.write_new",
        "{name} came while the session was being written; the session was finished first",
        1,
    ),
}


@pytest.mark.parametrize(
    ("sent", "at"),
    [
        (signal.SIGTERM, "it looks at the GPU"),
        (signal.SIGINT, "it looks at the GPU"),
        (signal.SIGHUP, "it looks at the GPU"),
        (signal.SIGTERM, "it writes"),
    ],
)
def test_a_signal_outside_of_the_measurement_is_exit_code_2_too(
    project: None, capfd: Any, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals, at: str
) -> None:
    function, said, written = WHILE[at]
    original = pkgutil.resolve_name(function)

    def signalled(*arguments: Any) -> Any:
        signal.raise_signal(sent)
        return original(*arguments)

    monkeypatch.setattr(function, signalled)
    assert main(["record", "--launches=2", *SUITE[:4]]) == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert capfd.readouterr().err.splitlines()[-1] == f"attnbench: {said.format(name=sent.name)}"
    assert len(sessions()) == written


def test_the_script_shows_the_help_of_the_command_without_installing_anything() -> None:
    script = ROOT / "scripts" / "record_baseline"
    said = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.startswith("usage: attnbench record [OPTIONS] [PYTEST ARGUMENTS]\n")
    assert said.stderr == ""


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def pids() -> set[int]:
    """The processes at the case that hangs: that of the launch, and the pytest that waits for it."""
    lines = Path("at.txt").read_text().splitlines() if Path("at.txt").exists() else []
    return {int(line.split()[0]) for line in lines if "cudnn" in line}


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_session_of_two_rounds_is_refused(project: None, capfd: Any) -> None:
    assert main(["record", *SUITE, "--attn-rounds=2"]) == 1
    said = "torch_flash@eager-flux-256px-t128 has 2 rounds, expected at least 3 to know how they scatter"
    assert f"attnbench: refused: {said}" in capfd.readouterr().err
    assert not sessions()
