"""The line on long runs: which case, of how many, and the time left."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from attnbench.plugin import progress

TWO = ("--attn-backend=numpy", "--attn-backend=torch_flash", "--attn-mode=eager")


@pytest.fixture
def hurried(sim, monkeypatch):
    """A run that does not wait for ten seconds before it says anything."""
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

        def pytest_runtest_logstart(nodeid):
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
