"""No exit code 0 for a run that did not report, whoever ended it."""

from __future__ import annotations

import sys
from typing import Any

import pytest

RUN = ("--benchmark-only", "--attn-mode=eager", "--attn-backend=torch_math", "--attn-rounds=3")
EXIT = 'pytest.exit("nothing to do", returncode=0)'


def conftest(body: str, hook: str = "") -> str:
    begin = "import os, sys, pytest\n"
    return f"{begin}{body}\n" if not hook else f"{begin}def {hook}():\n    {body}\n"


@pytest.mark.parametrize(
    ("hook", "body", "said"),
    [
        ("", "sys.exit(0)", "attnbench: sys.exit(0) ended the run (*conftest.py, line 2). The exit code is 2, not 0"),
        ("", "quit()", "attnbench: sys.exit(0) ended the run (*conftest.py, line 2). *"),
        ("", "sys.exit(256)", "attnbench: sys.exit(256) ended the run *"),  # to the system that is 0
        ("", "os._exit(0)", "attnbench: os._exit(0) ended the run (*conftest.py, line 2). *"),
        ("pytest_cmdline_main", "return 0", "attnbench: pytest ended before it reported its results. *"),
        ("pytest_configure", EXIT, "attnbench: pytest ended before it reported its results. *"),
        ("pytest_collection", EXIT, "attnbench: the run was cut short (nothing to do). *"),
        ("pytest_runtestloop", "return True", "attnbench: the run was cut short: 1 of 1 cases did not run. *"),
        ("pytest_runtest_setup", EXIT, "attnbench: the run was cut short (nothing to do): 1 of 1 cases did not run. *"),
        (
            "pytest_runtest_call",
            "os._exit(0)",
            "attnbench: os._exit(0) ended the run while test_suite.py::*--attn-launches=1*",
        ),
        ("pytest_sessionfinish", EXIT, "attnbench: pytest ended before it reported its results. *"),
        ("pytest_terminal_summary", "sys.exit(0)", "attnbench: sys.exit(0) ended the run *"),
    ],
)
def test_a_run_that_is_ended_with_0_before_it_reported_is_red(
    sim: Any, pytester: pytest.Pytester, hook: str, body: str, said: str
) -> None:
    pytester.makeconftest(conftest(body, hook))
    result = sim.fresh(*RUN)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stderr.fnmatch_lines([said])
    assert "Traceback" not in result.stderr.str()


@pytest.mark.parametrize("body", ["sys.exit(0)", "os._exit(0)"])
def test_a_failed_run_stays_failed_whoever_ends_it_afterwards(sim: Any, pytester: pytest.Pytester, body: str) -> None:
    pytester.makeconftest(conftest(body, "pytest_unconfigure"))
    assert sim.fresh(*RUN, "--attn-sim=torch_math:error").ret == pytest.ExitCode.TESTS_FAILED
    assert sim.fresh(*RUN).ret == pytest.ExitCode.OK


@pytest.mark.parametrize("body", ["sys.exit(0)", EXIT])
def test_a_kernel_that_raises_an_exit_is_an_error_row(bench: Any, pytester: pytest.Pytester, body: str) -> None:
    """As docs/runners.md says."""
    pytester.makeconftest(f"""
        import pytest, sys
        from attnbench import register
        @register("leaves", "mine")
        def leaves(workload):
            return lambda q, k, v: {body}
    """)
    run = ("--benchmark-only", "--attn-device=cpu", "--attn-workload=1x64x2x16:fp32", "--attn-mode=eager")
    result = bench(*run, "--attn-backend=leaves", "--benchmark-json=run.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert [record["status"] for record in bench.records().values()] == ["error"]


@pytest.mark.parametrize(("hook", "ends"), [("", 4), ("pytest_configure", 2)])
def test_pytest_exit_is_never_green(sim: Any, pytester: pytest.Pytester, hook: str, ends: int) -> None:
    """As docs/runners.md says."""
    pytester.makeconftest(conftest(EXIT, hook))
    assert sim.fresh(*RUN).ret == ends


def test_a_kernel_that_exits_with_0_is_red_and_isolated_an_error_row(bench: Any, pytester: pytest.Pytester) -> None:
    pytester.makeconftest("""
        import os
        from attnbench import register
        @register("leaves", "mine")
        def leaves(workload):
            return lambda q, k, v: os._exit(0)
    """)
    run = ("--benchmark-only", "--attn-device=cpu", "--attn-workload=1x64x2x16:fp32", "--attn-backend=leaves")
    here = bench.fresh(*run)
    assert here.ret == pytest.ExitCode.INTERRUPTED
    here.stderr.fnmatch_lines(["attnbench: os._exit(0) ended the run while *leaves@eager* (*conftest.py, line *"])
    apart = bench(*run, "--attn-launches=1", "--benchmark-json=run.json")
    assert apart.ret == pytest.ExitCode.TESTS_FAILED
    [record] = bench.records().values()
    assert record["reasons"][0]["text"] == "its process ended with exit code 0"


@pytest.mark.parametrize(
    ("body", "hook"), [("sys.exit(0)", ""), ("os._exit(0)", "pytest_configure"), (EXIT, "pytest_sessionstart")]
)
def test_a_fresh_process_that_ends_with_0_before_it_answered_is_an_error_row(
    sim: Any, pytester: pytest.Pytester, body: str, hook: str
) -> None:
    only_there = f'any("--attn-child" in argument for argument in sys.argv) and {body}'
    pytester.makeconftest(conftest(only_there, hook))
    result = sim(*RUN, "--attn-isolate", "--benchmark-json=run.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    [record] = sim.records().values()
    assert record["reasons"][0]["text"].startswith("its process could not start: it ended with exit code 0")


@pytest.mark.parametrize(
    ("hook", "body"), [("", "sys.exit(0)"), ("pytest_configure", "os._exit(0)"), ("pytest_sessionstart", EXIT)]
)
def test_a_project_that_merely_has_the_plugin_keeps_its_exit_code(
    pytester: pytest.Pytester, hook: str, body: str
) -> None:
    pytester.makepyfile(test_other="def test_other(): pass")
    pytester.makeconftest(conftest(body, hook))
    result = pytester.runpytest_subprocess("-p", "attnbench.plugin")
    assert result.ret == pytest.ExitCode.OK
    assert "attnbench" not in result.stderr.str()


@pytest.mark.parametrize("option", ["--help", "--version", "--collect-only", "--markers", "--fixtures"])
def test_what_only_looks_keeps_its_exit_code(sim: Any, option: str) -> None:
    assert sim(option, "--attn-backend=torch_math").ret == pytest.ExitCode.OK


def test_a_program_that_calls_pytest_gets_its_own_os_exit_back(sim: Any, pytester: pytest.Pytester) -> None:
    program = """
import os, sys, pytest
before = os._exit
assert pytest.main(sys.argv[1:]) == 0
assert os._exit is before
before(0)
"""
    assert pytester.run(sys.executable, "-c", program, "-p", "attnbench.plugin", *RUN).ret == 0


def test_processes_that_a_run_forks_end_as_they_want(sim: Any, pytester: pytest.Pytester) -> None:
    pytester.makeconftest("""
        import os
        def pytest_runtest_call(item):
            forked = os.fork()
            if not forked:
                os._exit(0)
            assert os.waitpid(forked, 0)[1] == 0
    """)
    assert sim.fresh(*RUN).ret == 0
