"""A package that attnbench needs and that is not there: one sentence with what to do, from the plugin and the command."""

from __future__ import annotations

import pytest

from attnbench import dependencies
from attnbench.cli.command import main

SAID = "no_such_package is not installed: install what attnbench needs, for example with pip install -e . in its folder"


@pytest.fixture(autouse=True)
def without(monkeypatch):
    monkeypatch.setattr(dependencies, "NEEDED", ("msgspec", "no_such_package"))


@pytest.mark.parametrize("arguments", [("--benchmark-only",), ("--attn-list",)])
def test_a_run_with_cases_says_so_and_measures_nothing(sim, arguments):
    result = sim(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: attnbench: {SAID}" in result.stderr.str().splitlines()


def test_a_run_without_cases_is_nobodys_business(pytester, sim):
    pytester.path.joinpath("test_suite.py").write_text("def test_theirs(): pass\n")
    assert sim("test_suite.py").ret == 0


def test_the_command_says_so(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["noise", "baselines"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"attnbench noise: error: {SAID}"


def test_several_are_named(monkeypatch):
    monkeypatch.setattr(dependencies, "NEEDED", ("no_such_package", "nor_this"))
    assert dependencies.missing().startswith("no_such_package and nor_this are not installed: ")
