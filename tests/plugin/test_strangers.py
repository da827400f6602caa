"""A project that merely has attnbench installed: its runs are what they were without it."""

from __future__ import annotations

import json
import re

import pytest

THEIRS = """
def test_theirs(benchmark):
    benchmark.pedantic(sum, args=([1, 2],), rounds=2)
"""


@pytest.fixture
def stranger(pytester, bench):
    """A project with one benchmark of its own, and neither ini file nor cases."""
    pytester.path.joinpath("test_suite.py").unlink()
    pytester.path.joinpath("tox.ini").unlink()
    pytester.makepyfile(test_theirs=THEIRS)
    return bench


def test_its_storage_and_machine_info_are_pytest_benchmarks_own(stranger, pytester):
    stranger("--benchmark-save=x").assert_outcomes(passed=1)
    (path,) = pytester.path.glob(".benchmarks/*/0001_x.json")
    document = json.loads(path.read_text())
    assert "python_compiler" in document["machine_info"]
    assert "attnbench" not in document


def test_its_output_does_not_mention_attnbench(stranger, pytester):
    result = stranger("--benchmark-min-rounds=3", "--benchmark-compare", "--benchmark-save=x")
    result.assert_outcomes(passed=1)
    text = result.stdout.str().replace(str(pytester.path), "")
    text = re.sub("^plugins: .*", "", text, flags=re.M)  # pytest's own line names what is installed
    assert not re.search("attnbench|attention", text)


def test_it_may_switch_pytest_benchmark_off(stranger, pytester):
    pytester.makepyfile(test_theirs="def test_theirs(): pass")
    stranger.fresh("-p", "no:benchmark").assert_outcomes(passed=1)


def test_a_run_with_cases_is_ours_without_any_ini_key(bench, pytester, monkeypatch):
    pytester.makeini("[pytest]\n")
    for name, value in (("DEVICE", "sim"), ("WORKLOAD", "1x64x2x16"), ("BACKEND", "numpy")):
        monkeypatch.setenv(f"ATTN_{name}", value)
    bench("--benchmark-save=x").assert_outcomes(passed=1)
    (path,) = pytester.path.glob(".benchmarks/*/0001_x.json")
    document = json.loads(path.read_text())
    assert document["machine_info"]["protocol"] == "simulated"
    result = bench.fresh("--benchmark-compare")
    assert "NOT COMPARABLE" not in result.stdout.str()
    assert "machine_info is different" not in result.stdout.str() + result.stderr.str()
