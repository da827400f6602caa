"""`attnbench list`, and which suite the commands take."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from attnbench.cli.command import main
from attnbench.codec import run_from
from attnbench.storage.benchmark_json import load_document

OWN_KERNEL = """
from attnbench import Device, register

@register("mine", "my project", requires=(Device("cpu", "cuda"),))
def load(workload):
    return lambda q, k, v: v
"""
PICK = ("--attn-backend=mine", "--attn-backend=torch_flash", "--attn-mode=eager")


@pytest.fixture
def attnbench(pytester):
    """`attnbench(*arguments)` runs the command in the project's folder."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "attnbench", *arguments]
        return subprocess.run(
            command, capture_output=True, encoding="utf8", cwd=pytester.path, timeout=120, check=False
        )

    return call


@pytest.fixture
def folder(sim, pytester):
    """One without tests, with a kernel of its own."""
    (pytester.path / "test_suite.py").unlink()
    pytester.makeconftest(OWN_KERNEL)
    return pytester.path


def test_the_list_has_the_kernels_of_the_folder_and_nothing_around_it(folder, attnbench):
    done = attnbench("list", *PICK)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.rstrip().splitlines()
    assert lines[0].startswith("device: sim")
    assert "  torch_flash  eager: ready" in lines
    assert "  mine         eager: ready" in lines
    assert lines[-1] == "2 cases: 2 ready, 0 not"


def test_an_unknown_name_ends_the_list_with_the_exit_code_of_pytest(folder, attnbench):
    done = attnbench("list", "--attn-backend=nosuch")
    assert done.returncode == 4
    assert "nosuch" in done.stderr


def test_ctrl_c_ends_the_list_without_a_traceback(folder, pytester):
    pytester.makeconftest("import time\nopen('at.txt', 'w').close()\ntime.sleep(100)")
    started = pytester.popen(
        [sys.executable, "-m", "attnbench", "list"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf8",
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (folder / "at.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does
    out, err = started.communicate(timeout=60)
    assert (started.returncode, out, err) == (2, "", "attnbench: interrupted (Ctrl-C)\n")


def test_without_tests_the_suite_of_the_package_is_recorded(folder, capfd):
    assert main(["record", "--launches=2", *PICK]) == 0
    (path,) = (folder / "baselines").rglob("*.json")
    run = run_from(load_document(path))
    assert {(record.backend, record.nodeid.partition("::")[2].partition("[")[0]) for record in run.records} == {
        ("mine", "test_attention"),
        ("torch_flash", "test_attention"),
    }
    assert capfd.readouterr().err.splitlines()[-1].startswith("attnbench: recorded baselines/simulated-device/0001_")


OTHERS = {
    "tests that are named": ("mine.py", "", ("mine.py",)),
    "tests in the folder": ("test_mine.py", "", ()),
    "tests in tests/": ("tests/test_mine.py", "", ()),
    "testpaths": ("checks/test_mine.py", "testpaths = checks", ()),
}


@pytest.mark.parametrize("where", OTHERS)
def test_tests_of_the_project_come_before_the_suite_of_the_package(folder, pytester, where):
    file, ini, arguments = OTHERS[where]
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text("def test_mine(): pass")
    pytester.makeini(f"[pytest]\nattn_device = sim\n{ini}")
    plugins = ("-p", "attnbench.plugin", "-p", "attnbench.plugin.package_suite")
    result = pytester.runpytest_inprocess(*plugins, "--collect-only", "-q", *arguments)
    assert [line for line in result.outlines if "::" in line] == [f"{file}::test_mine"]
