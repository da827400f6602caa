"""`--benchmark-compare` finds the same case wherever its test is now; what has no counterpart is said."""

from __future__ import annotations

import json

import pytest

CASE = "numpy@eager-flux-256px-t128"
ONE = "--attn-backend=numpy"
SLOW = ("--benchmark-compare=0001", "--benchmark-compare-fail=median:5%", "--attn-sim=*:+50%")
SUITE = "from attnbench.suite import test_attention\n"


@pytest.fixture
def stored(sim, pytester):
    """The file of a run that measured numpy."""
    sim(ONE, "--benchmark-save=before").assert_outcomes(passed=1)
    (path,) = pytester.path.glob("baselines/*/0001_before.json")
    return path


def said(result: pytest.RunResult, start: str) -> list[str]:
    """The lines of the section that begin so."""
    return [line for line in result.outlines if line.startswith(start)]


def renamed(pytester):
    pytester.path.joinpath("test_suite.py").rename(pytester.path / "test_kernels.py")
    return ()


def moved(pytester):
    pytester.mkdir("kernels")
    pytester.path.joinpath("test_suite.py").rename(pytester.path / "kernels" / "test_suite.py")
    return ()


def own_test(pytester):
    steps = "".join(f"        attn_case.{s}()\n" for s in ("prepare", "assert_accurate", "assert_route", "measure"))
    pytester.makepyfile(test_suite=f"class TestMine:\n    def test_mine(self, attn_case):\n{steps}")
    return ()


def by_package(pytester):
    return ("--pyargs", "attnbench.suite")


@pytest.mark.parametrize("change", [renamed, moved, own_test, by_package], ids=lambda change: change.__name__)
def test_a_slow_down_is_found_however_the_test_is_called_now(sim, pytester, stored, change):
    arguments = change(pytester)
    result = sim(ONE, *SLOW, *arguments)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "Performance has regressed" in result.stderr.str()
    assert said(result, "compared by case") == [
        f"compared by case with {stored.parent.name}/0001_before.json: 1 of 1 selected case"
    ]


def test_a_run_from_another_folder_is_compared(sim, pytester, monkeypatch, stored):
    monkeypatch.chdir(pytester.mkdir("below"))
    result = sim(f"--rootdir={pytester.path}", f"-c{pytester.path / 'tox.ini'}", "../test_suite.py", ONE, *SLOW)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_what_has_no_counterpart_is_said_in_both_directions(sim):
    eager = ("--attn-mode=eager", "--attn-backend=torch_flash")
    sim(*eager, "--attn-backend=torch_math", "--benchmark-save=before").assert_outcomes(passed=2)
    (line,) = said(sim(*eager, ONE, "--benchmark-compare=0001"), "compared by case")
    assert line.partition(": ")[2] == (
        f"1 of 2 selected cases; not stored there: {CASE}; "
        "1 stored case not selected here: torch_math@eager-flux-256px-t128"
    )


def test_no_case_in_common_is_a_warning(sim, stored):
    result = sim("--attn-backend=torch_math", "--attn-mode=eager", "--benchmark-compare=0001")
    assert result.ret == pytest.ExitCode.OK
    where = f"{stored.parent.name}/0001_before.json (it holds {CASE})"
    assert said(result, "WARNING") == [f"WARNING: none of the 1 selected cases is in {where}: nothing is compared"]


def test_no_case_in_common_is_refused_under_compare_fail_before_anything_runs(sim, stored):
    result = sim("--attn-backend=torch_math", "--attn-mode=eager", *SLOW)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"ERROR: --benchmark-compare-fail: none of the 1 selected cases is in *, which holds {CASE}: compare with *"]
    )
    assert "1 passed" not in result.stdout.str()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((), "--benchmark-compare-fail needs a run to compare with: add --benchmark-compare, or drop it"),
        (
            ("--benchmark-compare=0099",),
            "--benchmark-compare-fail: nothing to compare with: no stored run in * matches 0099",
        ),
    ],
)
def test_compare_fail_without_a_run_to_compare_with_is_refused(sim, stored, options, complaint):
    result = sim(ONE, *options, "--benchmark-compare-fail=median:5%")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {complaint}"])


def test_a_number_that_no_stored_run_has_is_said(sim, stored):
    result = sim(ONE, "--benchmark-compare=0099")
    result.assert_outcomes(passed=1)
    assert len(said(result, "nothing to compare with: no stored run in ")) == 1


def test_a_run_that_measured_no_case_it_could_compare_is_not_green_under_compare_fail(sim, stored):
    result = sim(ONE, "--attn-backend=torch_math", *SLOW[:2], "--attn-sim=numpy:unsupported")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert len(said(result, "failed by --benchmark-compare-fail: none of the measured cases is in")) == 1


def test_other_benchmarks_are_compared_by_their_full_name_as_ever(sim, pytester):
    pytester.makepyfile(test_other="def test_other(benchmark): benchmark.pedantic(sum, args=([1],), rounds=3)\n")
    sim(ONE, "--benchmark-save=before").assert_outcomes(passed=2)
    renamed(pytester)
    result = sim(ONE, "--benchmark-compare=0001", "--benchmark-columns=rounds")
    compared = {line.partition(" (")[0] for line in result.outlines if "(0001_before)" in line}
    assert compared == {f"test_attention[{CASE}]", "test_other"}
    pytester.path.joinpath("test_other.py").rename(pytester.path / "test_moved.py")
    result = sim(ONE, "--benchmark-compare=0001", "--benchmark-columns=rounds")
    assert not [line for line in result.outlines if line.startswith("test_other") and "(0001_before" in line]


def test_a_case_with_a_slow_down_made_on_purpose_is_compared_and_shown_as_such(sim, pytester, stored):
    renamed(pytester)
    result = sim(ONE, *SLOW[:2], "--attn-inject=numpy:+20%")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "numpy@eager INJECTED +20 % (NOW)" in result.stdout.str()


def test_a_stored_slow_down_that_was_made_on_purpose_is_said(sim):
    sim(ONE, "--benchmark-save=slow", "--attn-inject=numpy:+20%")
    result = sim(ONE, "--benchmark-compare=0001")
    assert [line.partition("json ")[2] for line in result.outlines if "was slowed down on purpose" in line] == [
        f"was slowed down on purpose (--attn-inject): {CASE}"
    ]


def test_the_same_name_of_another_problem_is_not_compared(sim, stored):
    document = json.loads(stored.read_text())
    document["attnbench"]["records"][0]["workload"]["seq"] = 999
    stored.write_text(json.dumps(document))
    result = sim(ONE, "--benchmark-compare=0001")
    assert (
        len(said(result, f"not compared: {stored.parent.name}/0001_before.json has this workload with another shape"))
        == 1
    )
    other = f"holds {CASE}, of workloads with another shape, dtype or input"
    assert f"it {other}" in said(result, "WARNING: none of the 1 selected cases is in")[0]
    refused = sim(ONE, *SLOW)
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines([f"*which {other}: compare with a run of these cases, *"])


def test_a_reviewed_session_is_compared_by_case(sim, baseline, pytester):
    baseline()
    renamed(pytester)
    result = sim(ONE, "--benchmark-compare")
    (line,) = said(result, "compared by case with simulated-device/0001_recorded.json")
    assert ": 1 of 1 selected case; 14 stored cases not selected here: " in line


FOUL = "numpy\x1b[31m\n::error::" + "x" * 5000


def test_what_a_stored_run_calls_its_cases_is_escaped_and_cut(sim, stored):
    document = json.loads(stored.read_text())
    document["benchmarks"][0]["extra_info"]["case"] = FOUL
    document["machine_info"]["device"] = FOUL
    stored.write_text(json.dumps(document))
    result = sim(ONE, "--benchmark-compare=0001")
    assert result.ret == pytest.ExitCode.OK
    refused = sim(ONE, *SLOW)
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    for line in [line for line in (*result.outlines, *refused.errlines) if "x" * 100 in line]:
        assert line.isprintable()
        assert r"numpy\x1b[31m ::error::x" in line
        assert len(line) < 2500


def test_a_case_that_is_in_several_tests_is_one_case(sim, pytester, stored):
    pytester.makepyfile(test_other=SUITE)
    result = sim("--attn-backend=torch_math", "--attn-mode=eager", *SLOW)
    result.stderr.fnmatch_lines(["ERROR: --benchmark-compare-fail: none of the 1 selected cases is in *"])
