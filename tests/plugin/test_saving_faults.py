"""What cannot be written: one sentence, an exit code that is not green, and nothing that was stored before is lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ALL = ("--benchmark-only",)  # every simulated case: some 60 kB of JSON
NOTHING = ("--benchmark-only", "--attn-backend=torch_math", "--attn-sim=torch_math:error")

Mount = Callable[[Path, str], None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mount a tmpfs on a folder. Skips where that is not permitted, which is everywhere but as root with the right."""
    mounted: list[Path] = []

    def add(folder: Path, options: str) -> None:
        if shutil.which("mount") is None:
            pytest.skip("no mount command here")
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if "remount" in options:
            command = ["mount", "-o", options, str(folder)]
        ended = subprocess.run(command, check=False, capture_output=True, text=True)
        if ended.returncode:
            pytest.skip(f"mounting a tmpfs is not permitted here: {ended.stderr.strip()}")
        if folder not in mounted:
            mounted.append(folder)

    yield add
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def _assert_said_once(result: pytest.RunResult, where: str, cause: str) -> None:
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    result.stdout.fnmatch_lines(
        [
            f"attnbench: could not save this run to *{where}*: {cause}; files stored before are unchanged",
            "*cases: *measured*",  # what was measured is shown all the same
        ]
    )
    assert result.stdout.str().count("could not save") == 1
    for ours in ("INTERNALERROR", "Traceback"):
        assert ours not in result.stdout.str() + result.stderr.str()


def test_a_full_disk_leaves_earlier_saves_as_they_are_and_no_cut_off_file(
    sim: Any, pytester: pytest.Pytester, mount: Mount
) -> None:
    folder = pytester.path / "baselines"
    mount(folder, "size=32k")
    assert sim("--benchmark-only", "--attn-backend=numpy", "--benchmark-save=small").ret == 0
    [saved] = folder.glob("*/*.json")
    before = saved.read_bytes()
    _assert_said_once(sim(*ALL, "--benchmark-save=large"), "baselines", "No space left on device")
    assert [path.name for path in folder.glob("*/*")] == ["0001_small.json"]
    assert saved.read_bytes() == before


def test_a_full_disk_under_an_existing_json_file_leaves_it_byte_for_byte(
    sim: Any, pytester: pytest.Pytester, mount: Mount
) -> None:
    folder = pytester.path / "disk"
    mount(folder, "size=32k")
    run = folder / "run.json"
    run.write_text('{"measured": "last week"}\n')
    _assert_said_once(sim(*ALL, f"--benchmark-json={run}"), "run.json", "No space left on device")
    assert [path.name for path in folder.iterdir()] == ["run.json"]
    assert run.read_text() == '{"measured": "last week"}\n'


def test_a_full_disk_leaves_no_new_json_file_that_is_cut_off(sim: Any, pytester: pytest.Pytester, mount: Mount) -> None:
    folder = pytester.path / "disk"
    mount(folder, "size=32k")
    _assert_said_once(sim(*ALL, f"--benchmark-json={folder}/run.json"), "run.json", "No space left on device")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("option", ["--benchmark-save=name", "--benchmark-json=baselines/run.json"])
@pytest.mark.parametrize("arguments", [ALL, NOTHING], ids=["measured", "nothing-measured"])
def test_a_read_only_file_system_is_one_sentence(
    sim: Any, pytester: pytest.Pytester, mount: Mount, option: str, arguments: tuple[str, ...]
) -> None:
    folder = pytester.path / "baselines"
    mount(folder, "size=32k")
    (folder / "run.json").write_text("{}")
    mount(folder, "remount,ro")
    result = sim(*arguments, option)
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    result.stdout.fnmatch_lines(["attnbench: could not save this run to *baselines/*: Read-only file system; *"])
    assert "INTERNALERROR" not in result.stdout.str()
    assert (folder / "run.json").read_text() == "{}"


@pytest.mark.parametrize("option", ["--benchmark-save=name", "--benchmark-json=taken/run.json"])
def test_a_folder_that_is_a_file_is_one_sentence_and_the_file_stays(
    sim: Any, pytester: pytest.Pytester, option: str
) -> None:
    (pytester.path / "taken").write_text("not a folder\n")
    _assert_said_once(sim(*ALL, option, "--benchmark-storage=file://./taken"), "taken/", "Not a directory")
    assert (pytester.path / "taken").read_text() == "not a folder\n"


def test_a_json_file_in_a_folder_that_does_not_exist_is_one_sentence(sim: Any) -> None:
    _assert_said_once(sim(*ALL, "--benchmark-json=nowhere/run.json"), "nowhere/run.json", "No such file or directory")


def test_a_save_that_fails_does_not_take_the_json_file_with_it(sim: Any, pytester: pytest.Pytester) -> None:
    (pytester.path / "taken").write_text("not a folder\n")
    (pytester.path / "run.json").write_text('{"measured": "last week"}')
    options = ("--benchmark-json=run.json", "--benchmark-save=x", "--benchmark-storage=file://./taken")
    _assert_said_once(sim(*ALL, *options), "taken/", "Not a directory")
    assert len(sim.records()) == 15


def test_a_json_file_that_fails_does_not_take_the_save_with_it(sim: Any, pytester: pytest.Pytester) -> None:
    _assert_said_once(sim(*ALL, "--benchmark-json=no/run.json", "--benchmark-save=x"), "no/run.json", "No such file *")
    [saved] = (pytester.path / "baselines").glob("*/0001_x.json")
    assert len(sim.records(str(saved))) == 15


def test_what_is_no_json_is_one_sentence_and_leaves_the_file(sim: Any, pytester: pytest.Pytester) -> None:
    """What a test stores in `extra_info` may not fit."""
    pytester.makeconftest(
        """
def pytest_benchmark_update_json(output_json):
    output_json["mine"] = output_json
"""
    )
    (pytester.path / "run.json").write_text('{"measured": "last week"}')
    _assert_said_once(sim(*ALL, "--benchmark-json=run.json"), "run.json", "Circular reference detected")
    assert (pytester.path / "run.json").read_text() == '{"measured": "last week"}'


@pytest.mark.parametrize("arguments", [ALL, NOTHING], ids=["measured", "nothing-measured"])
def test_no_file_is_touched_but_the_one_that_is_named(
    sim: Any, pytester: pytest.Pytester, arguments: tuple[str, ...]
) -> None:
    mine = [f"run.json{suffix}" for suffix in (".before", ".new", ".tmp", "~")] + [
        ".run.json.tmp",
        "target.json.before",
    ]
    for name in mine:
        (pytester.path / name).write_text("mine")
    (pytester.path / "run.json").symlink_to("target.json")
    before = {path.name for path in pytester.path.iterdir()}
    for _ in range(2):
        sim(*arguments, "--benchmark-json=run.json")
        assert (pytester.path / "run.json").is_symlink()
        assert "attnbench" in sim.stored("target.json")
        assert {(pytester.path / name).read_text() for name in mine} == {"mine"}
    new = {path.name for path in pytester.path.iterdir() if not path.name.startswith("__")} - before
    assert new <= {"target.json", ".pytest_cache"}


@pytest.mark.parametrize("device", ["/dev/null", "/dev/stdout"])
def test_a_device_is_written_to(sim: Any, device: str) -> None:
    result = sim.fresh("--benchmark-only", "--attn-backend=numpy", f"--benchmark-json={device}")
    assert result.ret == 0
    assert ('"machine_info": {' in result.stdout.str()) == (device == "/dev/stdout")
    result.stdout.fnmatch_lines(["1 case: 1 measured"])


def test_of_runs_at_once_each_exits_as_it_ended_and_one_whole_file_stands(sim: Any, pytester: pytest.Pytester) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "attnbench.plugin", "--benchmark-only", "--attn-backend=numpy"]
    command += ["--benchmark-json=run.json", "--benchmark-save=same"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    runs = [pytester.popen(command, **quiet) for _ in range(3)]
    assert [run.wait(60) for run in runs] == [0, 0, 0]
    assert len(sim.records()) == 1
    saved = sorted(path.name for path in (pytester.path / "baselines").glob("*/*"))
    assert saved == ["0001_same.json", "0002_same.json", "0003_same.json"]
    assert not list(pytester.path.rglob(".attnbench-*"))


def test_a_run_in_which_nothing_was_measured_is_stored_with_its_reasons(sim: Any, pytester: pytest.Pytester) -> None:
    result = sim(*NOTHING, "--benchmark-json=run.json", "--benchmark-save=name")
    assert result.ret == 1
    [saved] = (pytester.path / "baselines").glob("*/0001_name.json")
    for path in (pytester.path / "run.json", saved):
        document = sim.stored(str(path))
        assert document["benchmarks"] == []
        reasons = [record["reasons"][0]["text"] for record in document["attnbench"]["records"]]
        assert reasons == ["simulated: cannot be loaded: ImportError: undefined symbol"] * 3
    printed = result.stdout.str() + result.stderr.str()
    assert "Not saving anything" not in printed
    assert "fixture was not used" not in printed


def test_a_run_that_measures_nothing_and_saves_nothing_writes_nothing(sim: Any, pytester: pytest.Pytester) -> None:
    assert sim(*NOTHING).ret == 1
    assert not list(pytester.path.rglob("*.json"))
