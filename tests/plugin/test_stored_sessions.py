"""Sessions that a verdict cannot rest on: refused before anything runs, in a sentence that names the file, or read right."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnbench.cli.command import main

ONE = ("--benchmark-only", "--attn-backend=torch_math", "--attn-mode=eager")
SLOWER = (*ONE, "--attn-sim=torch_math:+5%", "--attn-relaunch=0", "--benchmark-json=run.json")


@pytest.fixture
def session(baseline: Any) -> Path:
    """A good one, which holds the slow-down of `SLOWER` against it."""
    path: Path = baseline(*ONE[1:])
    return path


def _of(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Damage that changes the document."""

    def damage(path: Path) -> None:
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return damage


def _rounds(rounds_s: list[float]) -> Callable[[Path], object]:
    return _of(lambda document: document["attnbench"]["records"][0]["sample"].update(rounds_s=rounds_s))


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


NESTED = '{"benchmarks": [], "machine_info": %s}'
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "deep": (
        lambda path: path.write_text(NESTED % ("[" * 10**5 + "]" * 10**5)),
        "0001_recorded.json is nested too deeply",
    ),
    "digits": (lambda path: path.write_text(NESTED % ('{"a": ' + "9" * 5000 + "}")), "a whole number of 5000 digits"),
    "fifo": (_fifo, "0001_recorded.json cannot be read: it is a FIFO, and a stored run is a regular file"),
    "zero rounds": (_rounds([]), "a Sample needs at least one round"),
    "endless rounds": (_rounds([1e308] * 30), "torch_math@eager-flux-256px-t128 has rounds_s 1e+308"),
    "an error that is no number": (
        _of(lambda document: document["attnbench"]["records"][0]["checks"][0]["error"].update(rel_l1=float("nan"))),
        "has rel_l1 nan on ",
    ),
    "negative rounds": (_rounds([-1e-3] * 30), "every round of a Sample is a positive number"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "0001_recorded.json cannot be read: Is a directory"),
    "a dangling link": (
        lambda path: (path.unlink(), path.symlink_to("no")),
        "cannot be read: No such file or directory",
    ),
    "no number": (
        lambda path: path.rename(path.with_name("session.json")),
        "session.json is not read: sessions are named NNNN_NAME.json. Rename it (0001_session.json)",
    ),
    "capitals": (
        lambda path: path.rename(path.with_name("0001_a.JSON")),
        "0001_a.JSON is not read: sessions are named NNNN_NAME.json. Rename it (0001_a.json)",
    ),
    "no folder": (
        lambda path: (shutil.rmtree(path.parent), path.parent.write_text("")),
        "baselines/simulated-device cannot be listed: Not a directory. Put a folder there",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_session_that_cannot_be_used_is_a_usage_error_that_names_it(sim: Any, session: Path, kind: str) -> None:
    damage, said = REFUSED[kind]
    damage(session)
    result = sim(*SLOWER)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    [error] = [line for line in result.stderr.lines if line.startswith("ERROR: attnbench: ")]
    assert said in error
    assert str(session.parent) in error
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert not Path("run.json").exists()


@pytest.mark.parametrize("folder", ["baselines", "baselines/simulated-device"])
def test_a_folder_that_this_user_may_not_read_is_a_usage_error(
    pytester: pytest.Pytester, session: Path, folder: str
) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "attnbench.plugin", "-p", "no:cacheprovider", *SLOWER]
    if not os.geteuid():
        if shutil.which("setpriv") is None:
            pytest.skip("root may read everything, and there is no setpriv here that takes that right away")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--", *command]
    Path(folder).chmod(0)
    try:
        result = pytester.run(*command)
    finally:
        Path(folder).chmod(0o755)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"ERROR: attnbench: the stored sessions in */{folder} cannot be listed: Permission denied*"]
    )
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


READ: dict[str, Callable[[Path], object]] = {
    "a byte order mark": lambda path: path.write_text(path.read_text(), encoding="utf-8-sig"),
    "UTF-16": lambda path: path.write_text(path.read_text(), encoding="utf-16"),
    "a repeated record": _of(
        lambda document: document["attnbench"]["records"].append(document["attnbench"]["records"][0])
    ),
    "a repeated launch": _of(
        lambda document: document["attnbench"]["launches"].append(document["attnbench"]["launches"][0])
    ),
    "an editor's backup beside it": lambda path: path.with_name(f"{path.name}~").write_text("old"),
    "a hidden file beside it": lambda path: path.with_name(".0002_a.json.swp").write_text("open"),
    "a text beside it": lambda path: path.with_name("README.md").write_text("why"),
    "a link to it": lambda path: path.symlink_to(path.rename("elsewhere.json").absolute()),
}


@pytest.mark.parametrize("kind", READ)
def test_a_session_that_can_be_read_is_compared_with(sim: Any, session: Path, kind: str) -> None:
    assert sim(*SLOWER).ret == pytest.ExitCode.TESTS_FAILED
    [expected] = sim.stored()["attnbench"]["verdicts"]
    READ[kind](session)
    assert sim(*SLOWER).ret == pytest.ExitCode.TESTS_FAILED
    [verdict] = sim.stored()["attnbench"]["verdicts"]
    assert verdict == expected
    assert verdict["kind"] == "regressed"


def test_a_folder_whose_name_cannot_be_looked_up_is_a_usage_error(sim, capsys):
    name = "x" * 300
    result = sim(*ONE, "-o", f"attn_baselines={name}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = f"{result.stderr.str()}{result.stdout.str()}"
    assert (
        f"the stored sessions in {Path.cwd() / name} cannot be listed: File name too long. Put a folder there" in said
    )
    for command, code in ((["report", name], 4), (["record", f"--into={name}", *ONE[1:], "--attn-device=sim"], 1)):
        capsys.readouterr()
        assert main(command) == code
        captured = capsys.readouterr()
        assert "File name too long" in captured.out + captured.err


def test_a_folder_for_the_report_whose_name_cannot_be_looked_up_is_a_usage_error(sim):
    result = sim(*ONE, f"--attn-report={'x' * 300}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"--attn-report: the folder '{'x' * 300}' cannot be used: File name too long" in result.stderr.str()
