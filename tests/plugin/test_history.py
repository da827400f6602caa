"""Sessions of other versions of the code are history: neither the baseline nor noise."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnbench.cli.command import main

TWO = ("--attn-mode=eager", "--attn-backend=torch_flash", "--attn-backend=torch_cudnn")
RUN = ("--benchmark-only", "--benchmark-json=run.json", "--attn-relaunch=0", *TWO)
CUDNN, FLASH = "torch_cudnn@eager-flux-256px-t128", "torch_flash@eager-flux-256px-t128"
#: What a leak of 4 % is beside the newest of five sessions, each 0.8 % slower than the one before.
LEAK = "--attn-sim=torch_cudnn:+7.2%"


def verdicts(sim: Any) -> dict[str, dict[str, Any]]:
    return {verdict["case"]: verdict for verdict in sim.stored()["attnbench"]["verdicts"]}


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    document = json.loads(path.read_text())
    change(document["attnbench"])
    path.write_text(json.dumps(document))
    return path


def of_torch(version: str) -> Callable[[dict[str, Any]], None]:
    """A session measured with this version of torch."""

    def change(stored: dict[str, Any]) -> None:
        for launch in stored["launches"]:
            launch["fingerprint"]["context"]["torch"] = version

    return change


def of_library(version: str, *cases: str) -> Callable[[dict[str, Any]], None]:
    """A session in which these cases ran this version of their library."""

    def change(stored: dict[str, Any]) -> None:
        for record in stored["records"]:
            if record["case"] in cases:
                record["versions"] = {"flash-attn": version}

    return change


@pytest.fixture
def releases(baseline: Any) -> list[str]:
    """A session per release of torch, five of them, each 0.8 % slower than the one before."""
    return [
        f"simulated-device/{edit(baseline(*TWO, f'--attn-sim=*:+{step}%'), of_torch(f'2.{number}')).name}"
        for number, step in enumerate((0, 0.8, 1.6, 2.4, 3.2))
    ]


def test_a_leak_is_found_beside_the_newest_of_five_releases(sim: Any, releases: list[str]) -> None:
    result = sim(*RUN, LEAK)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    found = verdicts(sim)[CUDNN]
    assert (found["kind"], found["compared_with"]) == ("regressed", releases[-1:])
    assert found["change"] == pytest.approx(1.072 / 1.032 - 1, abs=2e-3)
    assert found["history"] == [
        f"{name}: torch 2.{number}, the baseline's is 2.4" for number, name in reversed([*enumerate(releases)][:4])
    ]
    assert "history" not in result.stdout.str(), "it is nothing that a reader has to know of every row"


def test_sessions_of_one_version_pool(sim: Any, baseline: Any) -> None:
    steps = ("0", "0.02", "0.04", "0.06")
    stored = [edit(baseline(*TWO, f"--attn-sim=*:+{step}%"), of_torch("2.11")) for step in steps]
    assert sim(*RUN, LEAK).ret == pytest.ExitCode.TESTS_FAILED
    found = verdicts(sim)[CUDNN]
    assert (found["kind"], found["history"]) == ("regressed", [])
    assert found["compared_with"] == [f"simulated-device/{path.name}" for path in stored]


def test_a_session_of_which_half_of_the_cases_are_new_is_history_to_no_other_case(sim: Any, baseline: Any) -> None:
    paths = [baseline(*TWO, f"--attn-sim=*:+{step}%") for step in ("0", "0.04")]
    for path, version in zip(paths, ("2.8.2", "2.8.3"), strict=True):
        edit(path, of_library(version, FLASH))
    first, second = (f"simulated-device/{path.name}" for path in paths)
    sim(*RUN)
    found = verdicts(sim)
    assert found[CUDNN]["compared_with"] == [first, second]
    assert found[FLASH]["compared_with"] == [second]
    assert found[FLASH]["history"] == [f"{first}: flash-attn 2.8.2, the baseline's is 2.8.3"]


def test_on_an_unknown_unit_too_only_the_newest_version_is_compared_with(sim: Any, baseline: Any) -> None:
    paths = [
        edit(baseline(*TWO, f"--attn-sim=unit={unit}"), of_torch(version))
        for unit, version in (("a", "2.10"), ("b", "2.11"))
    ]
    sim(*RUN, "--attn-sim=unit=c")
    assert verdicts(sim)[CUDNN]["compared_with"] == [f"simulated-device/{paths[-1].name}"]
    sim(*RUN, "--attn-sim=unit=a")
    found = verdicts(sim)[CUDNN]
    assert (found["known_unit"], found["compared_with"]) == (True, [f"simulated-device/{paths[0].name}"])


def test_a_run_that_is_verbose_names_the_history_and_so_does_its_report(
    sim: Any, releases: list[str], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    result = sim(*RUN, "-v", "--color=no")
    result.stdout.fnmatch_lines(
        [
            "  not compared: 4 older sessions of other versions",
            f"    {releases[3]}: torch 2.3, the baseline's is 2.4 (2 cases)",
        ]
    )
    command = [sys.executable, "-m", "attnbench", "report", "-v", "run.json"]
    again = subprocess.run(command, capture_output=True, cwd=pytester.path, timeout=60, check=True).stdout.decode()
    assert again in "".join(f"{line}\n" for line in result.outlines)
    assert f"    {releases[0]}: " in again


def test_the_error_and_the_workspace_of_an_older_version_excuse_nothing(sim: Any, baseline: Any) -> None:
    def lavish(stored: dict[str, Any]) -> None:
        of_torch("2.10")(stored)
        for record in stored["records"]:
            record["workspace_bytes"] *= 4

    edit(baseline(*TWO), lavish)
    newest = edit(baseline(*TWO, "--attn-sim=seed=1"), of_torch("2.11"))
    edit(newest, lambda stored: [record.update(workspace_bytes=1) for record in stored["records"]])
    result = sim(*RUN)
    assert {verdict["kind"] for verdict in verdicts(sim).values()} == {"regressed"}
    assert "more workspace: " in result.stdout.str()


OWN = """
import attnbench

@attnbench.register("mine", family="me")
def load(workload):
    return lambda q, k, v: q
"""


def test_a_recording_of_code_with_local_changes_says_what_that_means(
    sim: Any, pytester: pytest.Pytester, capfd: pytest.CaptureFixture[str]
) -> None:
    pytester.makeconftest(OWN)
    subprocess.run(["git", "init", "--quiet"], cwd=pytester.path, check=True)
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    command = ["git", *identity, "commit", "--quiet", "--allow-empty", "--message=empty"]
    subprocess.run(command, cwd=pytester.path, check=True)
    assert main(["record", "--launches=2", "-p", "attnbench.plugin", "--attn-backend=mine"]) == 0
    said = capfd.readouterr().err.splitlines()
    (line,) = [line for line in said if "uncommitted changes" in line]
    assert line.startswith(
        "attnbench: uncommitted changes in the code of mine: no other session can be combined with this one. For a"
    )


def test_a_backend_of_a_repository_is_recorded_with_its_code(sim: Any, pytester: pytest.Pytester) -> None:
    """As a kernel author has it: `load` in the conftest.py of the repository, sessions committed beside it."""

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=pytester.path, check=True, capture_output=True)

    def commit() -> None:
        git("add", "--all")
        git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "--message=change")

    def measured() -> str:
        sim("--benchmark-only", "--benchmark-json=run.json", "--attn-backend=mine").assert_outcomes(passed=1)
        (record,) = sim.records().values()
        (pytester.path / "run.json").unlink()
        return str(record["versions"]["repository"])

    pytester.path.joinpath(".gitignore").write_text("__pycache__/\n.pytest_cache/\n")
    pytester.makeconftest(OWN)
    git("init", "--quiet")
    commit()
    first = measured()
    pytester.mkdir("baselines").joinpath("0001_x.json.md").write_text("a review")
    commit()
    assert measured() == first
    pytester.path.joinpath("kernel.cu").write_text("// faster")
    commit()
    assert measured() != first
    pytester.path.joinpath("kernel.cu").write_text("// faster still")
    assert measured().endswith("+dirty")
