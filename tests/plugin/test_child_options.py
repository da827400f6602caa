"""A fresh process has the options and plugins of the run that starts it, and touches none of its files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CASE = ("--benchmark-only", "--benchmark-json=run.json", "--attn-mode=eager", "--attn-backend=torch_math")
MATH = "torch_math@eager-flux-256px-t128"

#: A conftest.py with options of its own, which says in both processes what every option is there.
OPTIONS = """
import json
from pathlib import Path
def pytest_addoption(parser):
    parser.addoption("--suite-size", required=True)
    parser.addoption("--tiles", nargs="+", type=int)
    parser.addoption("--variant", nargs="?", const="plain")
    parser.addoption("--save-lse", action="store_true")  # of the kernel: what it returns
    parser.addoption("--kernel-log-level", default="none")
    parser.addoption("--kernel-file")
def pytest_configure(config):
    place = "child" if config.getoption("attn_worker") else "parent"
    options = {name: value for name, value in vars(config.option).items()}
    Path(f"{place}.json").write_text(json.dumps(options, default=str))
"""


def options_of(place: str) -> dict[str, Any]:
    return json.loads(Path(f"{place}.json").read_text())


def test_options_of_all_plugins_reach_a_fresh_process_from_all_three_places(
    sim: Any, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeconftest(OPTIONS)
    pytester.makepyfile(kernel="")
    ini = pytester.path / "tox.ini"
    ini.write_text(f"{ini.read_text()}\naddopts = --import-mode=importlib --suite-size=small\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--tiles 64 128 --kernel-log-level=INFO")
    given = ("--save-lse", "-k", "attention and not other", "--kernel-file=kernel.py", "-W", "ignore::UserWarning")
    more = ("--strict-markers", "--log-level=INFO", "-o", "xfail_strict=true", "-p", "no:doctest", "--ignore=nowhere")
    result = sim(*CASE, *given, *more, "-x", "-v", "--attn-isolate", "test_suite.py", "--variant")
    assert result.ret == 0, result.stdout.str()
    assert sim.records()[MATH]["status"] == "measured"
    parent, child = options_of("parent"), options_of("child")
    kept = ["suite_size", "tiles", "variant", "save_lse", "kernel_log_level", "kernel_file", "importmode", "keyword"]
    kept += ["pythonwarnings", "log_level", "ignore"]
    assert {name: child[name] for name in kept} == {name: parent[name] for name in kept}
    assert set(parent["override_ini"]) <= set(child["override_ini"])
    assert "no:doctest" in child["plugins"]
    assert parent["maxfail"] == 1
    assert not child["maxfail"]


@pytest.mark.parametrize(
    "switches",
    [
        ("-p", "no:terminal", "-p", "no:logging", "-p", "no:tmpdir"),
        ("-p", "no:cacheprovider", "-p", "no:xdist", "-W", "error"),
        ("--noconftest", "-c", "other.ini", "--strict-config", "--confcutdir=."),
        ("--lf", "--nf", "--maxfail=1", "--durations=3", "--junitxml=junit.xml", "-vv", "-rA", "--trace-config"),
    ],
    ids=" ".join,
)
def test_under_any_switches_a_fresh_process_finds_its_case(sim: Any, pytester: pytest.Pytester, switches: Any) -> None:
    pytester.makefile(".ini", other=(pytester.path / "tox.ini").read_text())
    assert sim.fresh(*CASE, *switches, "--attn-isolate").ret == 0
    assert sim.records()[MATH]["status"] == "measured"


def test_what_a_plugin_multiplies_is_found_under_the_same_names(sim: Any, pytester: pytest.Pytester) -> None:
    pytester.makeconftest("""
        def pytest_addoption(parser):
            parser.addoption("--count", type=int, default=1)
        def pytest_generate_tests(metafunc):
            count = metafunc.config.getoption("--count")
            metafunc.fixturenames.append("step")
            metafunc.parametrize("step", range(count))
    """)
    sim(*CASE, "--count=2", "--attn-isolate").assert_outcomes(passed=2)


def test_a_suspect_in_a_project_with_options_of_its_own_is_measured_again(
    sim: Any, baseline: Any, pytester: pytest.Pytester
) -> None:
    baseline("--attn-mode=eager", "--attn-backend=torch_math")
    pytester.makeconftest("def pytest_addoption(parser): parser.addoption('--suite-size', required=True)")
    result = sim(*CASE, "--suite-size=small", "--attn-sim=torch_math:+10%")
    result.assert_outcomes(failed=1)
    [verdict] = sim.stored()["attnbench"]["verdicts"]
    assert (verdict["kind"], verdict["launches"]) == ("regressed", 2)


def test_what_a_fresh_process_lacks_is_said_in_a_sentence(sim: Any, pytester: pytest.Pytester) -> None:
    pytester.makeconftest("""
        import sys
        def pytest_addoption(parser):
            if any("--attn-worker" in argument for argument in sys.argv):
                parser.addoption("--only-there", required=True)
    """)
    sim(*CASE, "--attn-isolate").assert_outcomes(failed=1)
    [reason] = sim.records()[MATH]["reasons"]
    assert reason["text"] == (
        "its process could not start: it ended with exit code 4; its last output: "
        "the following arguments are required: --only-there"
    )


def test_a_case_that_is_not_collected_says_what_was(sim: Any, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_other="def test_other(): pass")
    pytester.makeconftest("""
        import sys
        def pytest_collection_modifyitems(items):
            if any("--attn-worker" in argument for argument in sys.argv):
                items[:] = [item for item in items if "attention" not in item.name]
    """)
    sim(*CASE, "--attn-isolate")
    [reason] = sim.records()[MATH]["reasons"]
    assert reason["text"] == (
        "its process did not collect it: a conftest.py or parametrization differs from one process to the next "
        "(it collected 1 other tests)"
    )


#: Every file below the project as it is before a case and after it, in the parent, and as its process leaves it.
WATCHED = """
import hashlib, json, os
from pathlib import Path
import pytest
ROOT, SEEN = Path.cwd(), Path(os.environ["SEEN"])
def look():
    files = [path for path in ROOT.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(ROOT)): [path.stat().st_mtime_ns, path.read_text()] for path in files}
def pytest_addoption(parser):
    parser.addoption("--dump-to")
    parser.addoption("--table-csv")
def pytest_sessionfinish(session):
    for name in ("--dump-to", "--table-csv"):  # what was there is added to: it is read first
        path = session.config.getoption(name)
        Path(path).write_text(Path(path).read_text() + str(os.getpid()))
    if session.config.getoption("attn_worker"):
        session.config.cache.set("mine/value", os.getpid())
def pytest_unconfigure(config):
    if config.getoption("attn_worker"):
        (SEEN / "child.json").write_text(json.dumps(look()))
@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    if item.config.getoption("attn_worker"):
        item.config._tmp_path_factory.mktemp("mine").joinpath("file").write_text("of the child")
        return (yield)
    item.config._tmp_path_factory.mktemp("kept").joinpath("file").write_text("of the parent")
    item.config.cache.set("mine/value", "of the parent")
    (SEEN / "before.json").write_text(json.dumps(look()))
    try:
        return (yield)
    finally:
        (SEEN / "after.json").write_text(json.dumps(look()))
"""


def test_no_file_of_the_run_changes_while_a_suspect_is_measured_again(
    sim: Any, baseline: Any, pytester: pytest.Pytester, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    baseline("--attn-mode=eager", "--attn-backend=torch_math")
    pytester.makeconftest(WATCHED)
    seen = tmp_path_factory.mktemp("seen")
    monkeypatch.setenv("SEEN", str(seen))
    for name in ("junit.xml", "log.txt", "dump", "table.csv", ".coverage", "pytestdebug.log"):
        (pytester.path / name).write_text(f"{name} of an earlier run ")
    ini = pytester.path / "tox.ini"
    ini.write_text(f"{ini.read_text()}\nlog_file = ini-log.txt\naddopts = --junitxml=junit.xml --dump-to=dump\n")
    writes = ("--basetemp=temporary", "--log-file=log.txt", "--table-csv", "table.csv", "--benchmark-save=mine")
    result = sim.fresh(*CASE, *writes, "--debug", "--attn-sim=torch_math:+10%")
    result.assert_outcomes(failed=1)
    assert sim.stored()["attnbench"]["verdicts"][0]["launches"] == 2
    before, after, child = (json.loads((seen / f"{name}.json").read_text()) for name in ("before", "after", "child"))
    assert len(before) > 10
    for found in (before, after, child):
        del found["pytestdebug.log"], found["stdout"]  # the run itself goes on writing them
    assert after == before
    assert {name: found for name, found in child.items() if name in before} == before
    assert set(child) == set(before)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="python -P is new in 3.11")
@pytest.mark.parametrize(
    "program", [["-m", "pytest"], [str(Path(sys.executable).with_name("pytest"))]], ids=["-m", "script"]
)
def test_the_folder_of_the_start_is_importable_there_as_it_is_here(
    sim: Any, pytester: pytest.Pytester, program: list[str]
) -> None:
    """A checkout in that folder would hide the installed kernel from one of the two."""
    pytester.makeconftest("""
        import os, sys
        from pathlib import Path
        with Path("paths.txt").open("a") as file:
            print(bool({"", os.getcwd()} & set(sys.path)), file=file)
    """)
    command = [sys.executable, *program, "-p", "attnbench.plugin", "--import-mode=importlib", *CASE, "--attn-isolate"]
    subprocess.run(command, check=True, capture_output=True)  # pytester would put the folder into PYTHONPATH
    here, there = Path("paths.txt").read_text().split()
    assert here == there


def test_a_kernel_that_left_the_folder_of_the_start_does_not_lead_fresh_processes_astray(
    sim: Any, pytester: pytest.Pytester
) -> None:
    pytester.mkdir("elsewhere")
    pytester.makeconftest("""
        import os, pytest
        from pathlib import Path
        START = Path.cwd()
        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_call(item):
            os.chdir("elsewhere")
            try:
                return (yield)
            finally:
                os.chdir(START)
    """)
    sim(*CASE, "--attn-isolate", "test_suite.py").assert_outcomes(passed=1)


def test_cases_that_are_left_out_do_not_disturb_those_of_the_next_file(sim: Any, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_zoo="from attnbench.suite import test_attention")
    pytester.makeconftest("""
        import sys, pytest
        def pytest_runtest_setup(item):
            here = not any("--attn-worker" in argument for argument in sys.argv)
            if here and "suite.py" in item.nodeid and "@default" in item.name:
                pytest.skip("not today")
    """)
    modes = ("--attn-mode=eager", "--attn-mode=default")
    result = sim("--benchmark-only", "--attn-backend=torch_math", *modes, "--attn-isolate")
    result.assert_outcomes(passed=3, skipped=1)
