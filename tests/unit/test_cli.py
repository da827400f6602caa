"""The command `attnbench`: help, version, wrong usage, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from attnbench import __version__
from attnbench.cli import report
from attnbench.cli.command import SUBCOMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
NAMES = [module.__name__.rpartition(".")[2] for module in SUBCOMMANDS]


def printed(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit, match="0"):
        main(arguments)
    return capsys.readouterr().out


def test_the_help_names_every_command_and_shows_examples_and_exit_codes(capsys):
    text = printed(capsys, "--help")
    assert [name for name in NAMES if f"\n    {name} " not in text] == []
    assert "examples:\n" in text
    assert "exit codes:\n" in text


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_a_command_shows_examples_and_exit_codes(capsys, name):
    text = printed(capsys, name, "--help")
    assert f"  attnbench {name}" in text
    assert "exit codes: 0" in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_version_is_that_of_the_package(capsys):
    assert printed(capsys, "--version") == f"attnbench {__version__}\n"


def test_the_installed_command_is_this_one():
    (script,) = entry_points(group="console_scripts", name="attnbench") or [None]
    if script is None:
        pytest.skip("attnbench is not installed here")
    assert script.load() is main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "attnbench: error: a COMMAND is missing"),
        (["nosuch"], "invalid choice: 'nosuch'"),
        (["report"], "attnbench report: error: the following arguments are required: FILE"),
        (["summary", "run.json", "more"], "attnbench summary: error: unrecognized arguments: more"),
        (["noise", "--nosuch"], "attnbench noise: error: unrecognized arguments: --nosuch"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_two(capsys, arguments, said):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_ctrl_c_is_a_sentence_and_exit_code_two(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "shown", interrupted)
    assert main(["report", "run.json"]) == 2
    assert capsys.readouterr().err == "attnbench: interrupted (Ctrl-C)\n"


def test_no_command_loads_what_measures_or_tests():
    seen = "import sys, attnbench.cli.command; print({'torch', 'pytest', 'numpy', 'msgspec'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", seen], capture_output=True, env=environment, timeout=60, check=True)
    assert done.stdout.decode().strip() == "set()"
