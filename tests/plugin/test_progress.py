"""The line on long runs: which case, of how many, and the time left."""

from __future__ import annotations

import itertools
import os
import pty
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from attnbench.plugin import progress

TWO = ("--attn-backend=numpy", "--attn-backend=torch_flash", "--attn-mode=eager")


@pytest.fixture
def hurried(sim, monkeypatch):
    """A run that does not wait for ten seconds before it says anything, nor for a minute to say more."""
    monkeypatch.setattr(progress, "QUIET_S", 0.0)
    monkeypatch.setattr(progress, "BETWEEN_LINES_S", 0.0)
    return sim


def test_each_line_names_the_case_its_place_and_the_time_left_once_that_is_known(hurried):
    two = ("--attn-workload=flux-256px-t128", "--attn-workload=flux-256px-t256")
    hurried("--attn-backend=torch_flash", "--attn-mode=eager", *two).stdout.fnmatch_lines(
        [
            "attnbench: case 1 of 2, torch_flash@eager-flux-256px-t128",
            "attnbench: case 2 of 2, torch_flash@eager-flux-256px-t256, about * left",
        ]
    )


FOUR = [f"--attn-workload=flux-256px-t{tokens}" for tokens in (128, 256, 384, 512)]


@pytest.fixture
def minute_long(hurried, monkeypatch):
    """A run in which every look at the clock finds it a minute later, so that every case takes one."""
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=itertools.count(0.0, 60.0).__next__))
    return hurried


@pytest.mark.parametrize("launches", [(), ("--attn-launches=2",)])
def test_what_is_left_is_what_the_cases_that_wait_will_take_from_start_to_end(minute_long, launches):
    found = minute_long("--attn-backend=torch_flash", "--attn-mode=eager", *FOUR, *launches).stdout
    found.fnmatch_lines(["*case 2 of 4, *, about 3 min left", "*case 3 of 4, *, about 2 min left"])
    found.fnmatch_lines(["*case 4 of 4, *, about 60 s left"])


def test_a_case_that_its_test_skips_is_not_waited_for_and_tells_nothing(hurried, pytester, monkeypatch):
    pytester.makeconftest(
        """
        import pytest
        from attnbench.plugin import progress

        def pytest_collection_modifyitems(items):
            items[1].add_marker(pytest.mark.skip(reason="after an hour"))

        def pytest_runtest_logfinish(nodeid):
            progress.time.now_s += 3600.0 if "t256" in nodeid else 60.0
        """
    )
    clock = SimpleNamespace(now_s=0.0, monotonic=lambda: clock.now_s)
    monkeypatch.setattr(progress, "time", clock)
    found = hurried("--attn-backend=torch_flash", "--attn-mode=eager", *FOUR).stdout
    found.fnmatch_lines(["*case 3 of 4, *, about 2 min left", "*case 4 of 4, *, about 60 s left"])


def test_a_short_run_prints_none(sim):
    sim(*TWO).stdout.no_fnmatch_line("attnbench: case *")


def test_a_quiet_run_prints_none(hurried):
    hurried(*TWO, "-q").stdout.no_fnmatch_line("attnbench: case *")


def test_a_log_has_at_most_one_line_a_minute(sim, monkeypatch):
    """Every look at the clock finds it 20 s later: at the start of the run, and at the start and the end of each case."""
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=itertools.count(0.0, 20.0).__next__))
    result = sim("--attn-backend=torch_flash", "--attn-mode=eager", *FOUR)
    said = [line.split(",")[0] for line in result.outlines if line.startswith("attnbench: case ")]
    assert said == ["attnbench: case 2 of 4", "attnbench: case 4 of 4"]


CURSOR = re.compile(r"\x1b\[(\d*)([ACJK])|\x1b\[[\d;]*m")


def screen(text: str) -> list[str]:
    """What a terminal shows in the end."""
    lines: list[list[str]] = [[]]
    row = column = at = 0
    while at < len(text):
        if found := CURSOR.match(text, at):
            at = found.end()
            count = int(found[1] or 1) if found[2] else 0
            row, column = row - count * (found[2] == "A"), column + count * (found[2] == "C")
            if found[2] in ("J", "K"):
                lines[row] = lines[row][:column] if found[2] == "J" else []
                lines = lines[: row + 1] if found[2] == "J" else lines
            continue
        character, at = text[at], at + 1
        if character == "\r":
            column = 0
        elif character == "\n":
            row += 1
            lines += [[]] * 0 if row < len(lines) else [[]]
        else:
            lines[row] += " " * (column + 1 - len(lines[row]))
            lines[row][column] = character
            column += 1
    return ["".join(line) for line in lines]


def on_a_terminal(*arguments: str) -> str:
    """What a fresh pytest writes to a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pytest", "-p", "attnbench.plugin", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "COLUMNS": "80"}):
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the terminal has no writer any more
                break
            if not part:
                break
            written += part
    os.close(ours)
    return written.decode()


@pytest.mark.parametrize("verbose", [(), ("-v",)])
def test_on_a_terminal_it_is_one_line_that_is_rewritten_and_gone_in_the_end(sim, pytester, verbose):
    pytester.makeconftest("from attnbench.plugin import progress\nprogress.QUIET_S = 0.0")
    arguments = ("--benchmark-only", "--attn-backend=torch_flash", *verbose)
    plain = sim(*arguments).outlines
    written = on_a_terminal(*arguments)
    shown = screen(written)
    cases = [f"attnbench: case {number} of 3, torch_flash@" for number in (1, 2, 3)]
    assert all(written.count(case) == 1 for case in cases)
    assert not any("attnbench: case" in line for line in shown)
    tests = [line.split() for line in plain if line.startswith("test_suite.py") and "case" not in line]
    assert [line.split() for line in shown if line.startswith("test_suite.py")][-len(tests[-1:]) :] == tests[-1:]


@pytest.mark.parametrize("capture", ["no", "sys", "tee-sys"])
def test_where_tests_may_write_themselves_a_terminal_gets_the_lines_of_a_log(sim, pytester, capture):
    pytester.makeconftest("from attnbench.plugin import progress\nprogress.QUIET_S = progress.BETWEEN_LINES_S = 0.0")
    shown = screen(on_a_terminal("--benchmark-only", "--attn-backend=torch_flash", f"--capture={capture}"))
    assert sum(line.startswith("attnbench: case ") for line in shown) == 3


def test_on_a_terminal_the_tables_of_the_section_are_as_wide_as_it(sim):
    arguments = ("--benchmark-only", "--attn-backend=torch_flash")
    assert any(
        line.startswith("backend ") and line.endswith("max abs") and len(line) > 80 for line in sim(*arguments).outlines
    )
    heads = [line.rstrip() for line in screen(on_a_terminal(*arguments)) if line.startswith("backend ")]
    assert len(heads) == 2
    assert max(map(len, heads)) <= 80
