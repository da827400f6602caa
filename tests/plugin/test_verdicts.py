"""Verdicts in whole runs: what fails and with which words, what never does, and what is never judged."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TWO = ("--attn-mode=eager", "--attn-backend=torch_flash", "--attn-backend=torch_cudnn")
RUN = ("--benchmark-only", "--benchmark-json=run.json", *TWO)
#: Convicts at first sight, so that no process has to be started.
ONCE = (*RUN, "--attn-relaunch=0")
SLOWER = "--attn-sim=torch_cudnn:+2%"
REQUIRE = "--attn-require-baseline"
CUDNN, FLASH = "torch_cudnn@eager-flux-256px-t128", "torch_flash@eager-flux-256px-t128"

#: A conftest.py whose code acts in the processes of the launcher only.
IN_THE_CHILD = """
import os, sys
IN_CHILD = any("--attn-worker" in argument for argument in sys.argv)
"""


def verdicts(sim: Any) -> dict[str, dict[str, Any]]:
    """Those stored in the run's JSON, by case."""
    return {verdict["case"]: verdict for verdict in sim.stored()["attnbench"]["verdicts"]}


def kinds(sim: Any) -> dict[str, str]:
    return {case: verdict["kind"] for case, verdict in verdicts(sim).items()}


def edit(path: Path, change: Any) -> None:
    """Let `change(attnbench)` change a stored session in place."""
    document = json.loads(path.read_text())
    change(document["attnbench"])
    path.write_text(json.dumps(document))


def only_line(result: pytest.RunResult, start: str) -> str:
    (line,) = [text for text in result.outlines if text.startswith(start)]
    return line


# Regressed


def test_a_regression_fails_its_own_test_with_one_line_and_no_traceback(sim: Any, baseline: Any) -> None:
    stored = baseline(*TWO)
    result = sim(*RUN, SLOWER)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, failed=1)
    assert re.fullmatch(
        r"REGRESSED torch_cudnn@eager · flux-256px-t128  0\.0030\d → 0\.0031\d ms  \+[12]\.\d % \[\+1\.\d, \+2\.\d\]"
        r"  limit 1 %  known unit  \(reproduce: pytest --benchmark-only --attn-backend=torch_cudnn --attn-mode=eager"
        r" --attn-workload=flux-256px-t128 --attn-sim=torch_cudnn:\+2%\)",
        only_line(result, "REGRESSED"),
    )
    assert "Traceback" not in result.stdout.str()
    failure = result.outlines.index(only_line(result, "REGRESSED"))
    assert [set(text[:1]) for text in result.outlines[failure - 1 : failure + 2]] == [{"_"}, {"R"}, set()]
    assert kinds(sim) == {CUDNN: "regressed", FLASH: "unchanged"}
    found = verdicts(sim)[CUDNN]
    assert (found["launches"], found["known_unit"]) == (2, True), "it was measured again before it was judged"
    assert found["compared_with"] == [f"simulated-device/{stored.name}"]
    assert {record["status"] for record in sim.records().values()} == {"measured"}
    result.stdout.fnmatch_lines(
        [
            "median of 30 rounds in each of 1 to 2 launches, *",
            f"verdicts against simulated-device/{stored.name}",
            "regressed  torch_cudnn@eager · flux-256px-t128 *",
            "  unchanged: 1 cases, *",
            "  1 regressed, 1 unchanged",
            "2 cases: 2 measured",
        ]
    )


def test_the_launches_of_a_suspect_are_all_stored(sim: Any, baseline: Any) -> None:
    baseline(*TWO)
    sim(*RUN, SLOWER)
    records = sim.stored()["attnbench"]["records"]
    assert [record["case"] for record in records] == [FLASH, CUDNN, CUDNN]
    launches = [launch["id"] for launch in sim.stored()["attnbench"]["launches"]]
    assert {record["launch"] for record in records} == set(launches)
    assert len(launches) == 2
    assert {bench["extra_info"]["case"]: bench["stats"]["rounds"] for bench in sim.stored()["benchmarks"]} == {
        FLASH: 30,
        CUDNN: 30,
    }


def test_cases_that_no_session_holds_make_no_interval_wider(sim: Any, baseline: Any) -> None:
    baseline("--attn-backend=torch_cudnn", "--attn-mode=eager")
    widths = []
    for selected in (("--attn-backend=torch_cudnn", "--attn-mode=eager"), ()):
        sim(*RUN[:2], *selected)
        found = verdicts(sim)[CUDNN]
        widths.append(found["high"] - found["low"])
    assert widths[0] == widths[1]


@pytest.mark.parametrize(
    "slower",
    [
        (SLOWER,),
        ("--attn-inject=torch_flash:+3%", "--attn-inject=torch_c[u]dnn*:+2%"),
        ("--attn-sim=torch_cudnn:+8%", "--attn-limit=5%"),
        (SLOWER, "--attn-rounds=12", "test_suite.py"),
    ],
    ids=["simulated", "injected", "with a limit", "with rounds and a file"],
)
def test_the_printed_command_shows_the_regression_again(sim: Any, baseline: Any, slower: tuple[str, ...]) -> None:
    baseline(*TWO)
    assert sim(*ONCE, *slower).ret == pytest.ExitCode.TESTS_FAILED
    said = verdicts(sim)[CUDNN]["reproduce"]
    program, *arguments = shlex.split(said)
    assert program == "pytest"
    assert not re.search(r"(?<!')--attn-inject=\S*[*[]", said), "a shell would take its own meaning from these"
    result = sim(*arguments, "--benchmark-json=run.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert only_line(result, "REGRESSED torch_cudnn@eager · flux-256px-t128 ")
    assert kinds(sim) == {CUDNN: "regressed"}


def test_of_an_injected_slow_down_the_line_says_so(sim: Any, baseline: Any) -> None:
    baseline(*TWO)
    assert "  INJECTED +2 %  (reproduce: " in only_line(sim(*ONCE, "--attn-inject=torch_cudnn:+2%"), "REGRESSED")


def test_what_is_as_before_and_what_is_faster_pass(sim: Any, baseline: Any) -> None:
    baseline(*TWO)
    result = sim(*ONCE, "--attn-sim=torch_cudnn:-4%")
    assert result.ret == 0
    assert kinds(sim) == {CUDNN: "improved", FLASH: "unchanged"}
    result.stdout.fnmatch_lines(["improved  torch_cudnn@eager*", "  1 improved, 1 unchanged"])


@pytest.mark.parametrize("seed", range(3))
def test_another_draw_of_the_same_noise_is_not_regressed(sim: Any, baseline: Any, seed: int) -> None:
    baseline("--attn-backend=torch_*")
    result = sim("--benchmark-only", f"--attn-sim=seed={seed + 1}", "--attn-relaunch=0", "--attn-backend=torch_*")
    assert result.ret == 0
    assert "regressed," not in result.stdout.str()


def test_a_wider_limit_lets_a_slow_down_pass_wherever_it_is_given(
    sim: Any, baseline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline(*TWO)
    assert sim(*ONCE, SLOWER, "--attn-limit=5%").ret == 0
    assert verdicts(sim)[CUDNN]["limit"] == 0.05
    monkeypatch.setenv("ATTN_LIMIT", "5%")
    assert sim(*ONCE, SLOWER).ret == 0
    assert sim(*ONCE, SLOWER, "--attn-limit=1.5%").ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize("value", ["2", "0%", "-1%", "nan%", "inf%", "%", "much%", "1 percent"])
def test_a_limit_that_is_no_percentage_is_a_usage_error(sim: Any, value: str) -> None:
    result = sim(*ONCE, f"--attn-limit={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"ERROR: --attn-limit: '{value}' is no slow-down, a percentage above 0 is needed: 1%"],
    )


@pytest.mark.parametrize("value", ["-1", "two", "1.5"])
def test_a_number_of_relaunches_that_is_none_is_a_usage_error(sim: Any, value: str) -> None:
    result = sim(*RUN, f"--attn-relaunch={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"ERROR: --attn-relaunch: '{value}' is no number of launches, a whole number from 0 is needed"]
    )


def test_without_relaunches_no_process_is_started(sim: Any, baseline: Any, pytester: pytest.Pytester) -> None:
    baseline(*TWO)
    pytester.makeconftest(IN_THE_CHILD + "assert not IN_CHILD")
    assert sim(*ONCE, SLOWER).ret == pytest.ExitCode.TESTS_FAILED
    assert verdicts(sim)[CUDNN]["launches"] == 1


def test_what_only_the_first_launch_shows_is_no_regression(sim: Any, baseline: Any, pytester: pytest.Pytester) -> None:
    baseline(*TWO)
    pytester.makeconftest(
        IN_THE_CHILD
        + """
import pytest
@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    if IN_CHILD:
        config.option.attn_sim = [entry for entry in config.option.attn_sim if "%" not in entry]
"""
    )
    result = sim(*RUN, SLOWER)
    assert kinds(sim)[CUDNN] != "regressed"
    assert verdicts(sim)[CUDNN]["launches"] == 4
    assert result.ret == 0


def test_a_fresh_process_that_crashes_leaves_the_case_inconclusive_with_the_reason(
    sim: Any, baseline: Any, pytester: pytest.Pytester
) -> None:
    baseline(*TWO)
    pytester.makeconftest(
        IN_THE_CHILD
        + """
def pytest_runtest_call(item):
    if IN_CHILD:
        os.abort()
"""
    )
    result = sim(*RUN, SLOWER)
    assert result.ret == 0
    assert kinds(sim) == {CUDNN: "inconclusive", FLASH: "unchanged"}
    assert verdicts(sim)[CUDNN]["launches"] == 1
    result.stdout.fnmatch_lines(
        [
            "inconclusive  torch_cudnn@eager · flux-256px-t128 *",
            "  inconclusive: torch_cudnn@eager · flux-256px-t128: *a fresh process was error: * was ended by SIGABRT *",
        ]
    )
    assert {record["status"] for record in sim.records().values()} == {"measured"}


# What cannot be compared


def test_without_a_session_there_is_no_baseline_and_nothing_fails_unless_one_is_required(sim: Any) -> None:
    result = sim(*ONCE)
    assert result.ret == 0
    assert kinds(sim) == {CUDNN: "no-baseline", FLASH: "no-baseline"}
    result = sim(*ONCE, REQUIRE)
    result.assert_outcomes(failed=2)
    assert only_line(
        result, "NO-BASELINE torch_cudnn@eager · flux-256px-t128  no session of this device is stored  (rep"
    )


def test_a_baseline_that_is_required_needs_a_folder(sim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = sim(*ONCE, REQUIRE, "-o", "attn_baselines=")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --attn-require-baseline needs stored sessions to compare with: *"])
    monkeypatch.setenv("ATTN_REQUIRE_BASELINE", "1")
    sim(*ONCE, "-o", "attn_baselines=").stderr.fnmatch_lines(["ERROR: ATTN_REQUIRE_BASELINE needs stored sessions *"])


def test_with_every_case_compared_requiring_a_baseline_changes_nothing(sim: Any, baseline: Any) -> None:
    baseline(*TWO)
    assert sim(*ONCE, REQUIRE).ret == 0
    assert sim(*ONCE, REQUIRE, "--attn-sim=torch_cudnn:-4%").ret == 0


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [("unsupported", {"skipped": 1}), ("error", {"failed": 1}), ("incorrect", {"failed": 1})],
)
def test_a_stored_case_that_is_not_measured_any_more_is_missing(
    sim: Any, baseline: Any, outcome: str, kept: dict[str, int]
) -> None:
    stored = baseline(*TWO)
    arguments = (*ONCE, f"--attn-sim=torch_cudnn:{outcome}")
    result = sim(*arguments)
    result.assert_outcomes(passed=1, **kept)
    assert kinds(sim) == {CUDNN: "missing", FLASH: "unchanged"}
    result.stdout.fnmatch_lines(
        [
            f"  missing: torch_cudnn@eager · flux-256px-t128: in simulated-device/{stored.name}, and {outcome} here: *",
            "  1 missing, 1 unchanged",
        ]
    )
    result = sim(*arguments, REQUIRE)
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    if outcome == "unsupported":
        assert only_line(result, "MISSING torch_cudnn@eager · flux-256px-t128  in simulated-device/")


def test_a_case_that_was_never_stored_and_cannot_run_is_not_missing(sim: Any, baseline: Any) -> None:
    baseline(*TWO[:2])
    result = sim(*ONCE, REQUIRE, "--attn-sim=torch_cudnn:unsupported")
    result.assert_outcomes(passed=1, skipped=1)
    assert kinds(sim) == {FLASH: "unchanged"}


def test_a_case_that_a_skip_keeps_from_running_fails_the_run_that_requires_it(
    sim: Any, baseline: Any, pytester: pytest.Pytester
) -> None:
    baseline(*TWO)
    pytester.makeconftest(
        """
import pytest
def pytest_runtest_setup(item):
    if "cudnn" in item.name:
        pytest.skip("not today")
"""
    )
    assert sim(*ONCE).ret == 0
    assert kinds(sim) == {CUDNN: "missing", FLASH: "unchanged"}
    result = sim(*ONCE, REQUIRE)
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["  missing: torch_cudnn@eager * and not-run here: skipped: not today"])


def test_cases_that_are_not_selected_are_not_missing(sim: Any, baseline: Any) -> None:
    baseline(*TWO)
    assert sim(*ONCE, "-k", "flash", REQUIRE).ret == 0
    assert kinds(sim) == {FLASH: "unchanged"}


def test_a_session_of_another_set_up_is_incomparable(sim: Any, baseline: Any) -> None:
    def other_protocol(stored: dict[str, Any]) -> None:
        for launch in stored["launches"]:
            launch["fingerprint"]["key"]["protocol"] = "cuda-events/9"

    stored = baseline(*TWO)
    edit(stored, other_protocol)
    result = sim(*ONCE, SLOWER)
    assert result.ret == 0
    assert kinds(sim) == {CUDNN: "incomparable", FLASH: "incomparable"}
    reason = (
        f"simulated-device/{stored.name} was measured on another set-up: protocol simulated here, cuda-events/9 there"
    )
    result.stdout.fnmatch_lines([f"  incomparable: torch_cudnn@eager *, torch_flash@eager *: {reason}"])
    result = sim(*ONCE, REQUIRE)
    result.assert_outcomes(failed=2)
    assert reason in only_line(result, "INCOMPARABLE torch_cudnn@eager · flux-256px-t128  ")


def test_other_inputs_are_incomparable(bench: Any, pytester: pytest.Pytester) -> None:
    tiny = ("--attn-device=cpu", "--attn-workload=1x32x2x16:fp32", "--attn-mode=eager", "--attn-backend=torch_math")
    run = (*tiny, "--benchmark-only", "--benchmark-json=run.json", "--attn-rounds=5", "--attn-relaunch=0")
    assert bench(*run).ret == 0
    folder = pytester.mkdir("baselines") / re.sub(
        r"[^a-z0-9]+", "-", bench.stored()["machine_info"]["device"].lower()
    ).strip("-")
    folder.mkdir()
    session = folder / "0001_x.json"
    Path("run.json").rename(session)
    edit(session, lambda stored: [record.update(input_sha256="0" * 64) for record in stored["records"]])
    result = bench(*run)
    assert result.ret == 0
    (verdict,) = verdicts(bench).values()
    assert verdict["kind"] == "incomparable"
    result.stdout.fnmatch_lines(
        [f"  incomparable: *the inputs differ: SHA-256 * here, 000000000000 in {folder.name}/*"]
    )


def test_an_unknown_unit_has_a_wider_limit_and_is_named(sim: Any, baseline: Any) -> None:
    stored = baseline(*TWO)
    other = "--attn-sim=unit=other"
    assert sim(*ONCE, SLOWER, other).ret == 0
    found = verdicts(sim)[CUDNN]
    assert (found["kind"], found["known_unit"], found["limit"]) == ("inconclusive", False, 0.02)
    result = sim(*ONCE, "--attn-sim=torch_cudnn:+50%", other)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "  limit 2 %  unknown unit  (reproduce: " in only_line(result, "REGRESSED")
    result.stdout.fnmatch_lines(
        ["regressed * torch_cudnn@eager · flux-256px-t128 (unknown unit) *", "* no stored session is of this unit, *"]
    )
    recorded = baseline(*TWO, other)
    assert sim(*ONCE, SLOWER, other).ret == pytest.ExitCode.TESTS_FAILED
    assert verdicts(sim)[CUDNN]["compared_with"] == [f"simulated-device/{recorded.name}"]
    assert recorded != stored


def test_two_rounds_decide_nothing_and_start_no_process(sim: Any, baseline: Any) -> None:
    baseline(*TWO)
    result = sim(*RUN, "--attn-rounds=2", "--attn-sim=torch_cudnn:+50%")
    assert result.ret == 0
    assert kinds(sim) == {CUDNN: "inconclusive", FLASH: "inconclusive"}
    assert len(sim.stored()["attnbench"]["launches"]) == 1
    result.stdout.fnmatch_lines(
        ["*[[]?, ?] *", "  inconclusive: *: fewer than 3 rounds do not tell how they scatter: *"]
    )


# Stored sessions


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"benchmarks": [', "*0002_x.json is not JSON *: it is damaged or was cut off"),
        ('{"machine_info": {}, "benchmarks": []}', "*0002_x.json was not written by an attnbench run"),
        (
            '{"machine_info": {}, "benchmarks": [], "attnbench": {"schema": 99}}',
            "*0002_x.json cannot be used: its attnbench schema is 99, *",
        ),
    ],
)
def test_a_damaged_session_is_a_usage_error_before_anything_runs(
    sim: Any, baseline: Any, pytester: pytest.Pytester, content: str, sentence: str
) -> None:
    baseline.folder.mkdir(parents=True)
    (baseline.folder / "0002_x.json").write_text(content)
    result = sim(*RUN)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = [text for text in result.errlines if text.startswith("ERROR: ")]
    assert len(said) == 1
    result.stderr.fnmatch_lines(
        [f"ERROR: attnbench: a stored session cannot be used: {sentence}. Restore it, or remove it from the baselines"]
    )
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert "passed" not in result.stdout.str()
    assert not (pytester.path / "run.json").exists()


def test_own_saves_take_no_part(sim: Any, pytester: pytest.Pytester) -> None:
    sim(*TWO, "--benchmark-save=mine", "--attn-sim=torch_*:-30%")
    assert len(list(pytester.path.glob("baselines/*/0001_mine.json"))) == 1
    assert sim(*ONCE).ret == 0
    assert set(kinds(sim).values()) == {"no-baseline"}


def test_sessions_of_another_device_take_no_part(sim: Any, baseline: Any) -> None:
    stored = baseline(*TWO, "--attn-sim=torch_*:-30%")
    stored.parent.rename(stored.parent.with_name("another-device"))
    assert sim(*ONCE).ret == 0
    assert set(kinds(sim).values()) == {"no-baseline"}


# Reported again


def test_the_section_of_a_judged_run_is_rendered_again_byte_for_byte(
    sim: Any, baseline: Any, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    baseline(*TWO, "--attn-backend=numpy")
    run = (*ONCE, "--attn-backend=numpy", "--attn-backend=torch_math", "--color=no")
    result = sim(*run, SLOWER, "--attn-sim=torch_flash:error", "--attn-sim=numpy:-5%")
    assert sorted(kinds(sim).values()) == ["improved", "missing", "no-baseline", "regressed"]
    command = [sys.executable, "-m", "attnbench.report", "run.json"]
    again = subprocess.run(command, capture_output=True, cwd=pytester.path, timeout=60, check=True).stdout.decode()
    assert "  1 regressed, 1 missing, 1 no-baseline, 1 improved\n" in again
    assert again in "".join(f"{line}\n" for line in result.outlines)


# Never judged


@pytest.mark.parametrize(
    "arguments",
    [
        ("--benchmark-disable",),
        ("--benchmark-only", "-o", "attn_baselines="),
        ("--collect-only",),
        ("--attn-list",),
        ("--benchmark-skip",),
    ],
    ids=["benchmarks disabled", "no folder", "collected only", "listed", "benchmarks skipped"],
)
def test_nothing_is_judged_where_nothing_is_timed_or_stored(
    sim: Any, baseline: Any, arguments: tuple[str, ...]
) -> None:
    baseline(*TWO)
    (baseline.folder / "0002_damaged.json").write_text("{")  # nor even read
    result = sim(*TWO, SLOWER, *arguments)
    assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert "verdicts" not in result.stdout.str()


def test_nothing_is_judged_under_xdist(sim: Any, baseline: Any) -> None:
    pytest.importorskip("xdist")
    baseline(*TWO)
    (baseline.folder / "0002_damaged.json").write_text("{")
    result = sim.fresh("-n", "1", *TWO, SLOWER)
    result.assert_outcomes(passed=2)
    assert "verdicts" not in result.stdout.str()


def test_isolated_cases_are_judged_once_by_the_run_that_started_them(sim: Any, baseline: Any) -> None:
    baseline(*TWO)
    result = sim(*ONCE, "--attn-isolate", SLOWER)
    result.assert_outcomes(passed=1, failed=1)
    assert kinds(sim) == {CUDNN: "regressed", FLASH: "unchanged"}
    result.stdout.fnmatch_lines(["median of 30 rounds, clock simulated; *"])


def test_a_run_without_a_case_reads_no_session_and_opens_no_device(
    sim: Any, baseline: Any, pytester: pytest.Pytester
) -> None:
    baseline.folder.mkdir(parents=True)
    (baseline.folder / "0001_damaged.json").write_text("{")
    pytester.makepyfile(
        test_other="""
import sys
def test_nothing_of_ours():
    pass
"""
    )
    pytester.makeconftest(
        """
import sys
def pytest_unconfigure():
    print("heavy:", sorted({"torch", "numpy", "msgspec"} & set(sys.modules)))
"""
    )
    result = sim.fresh("test_other.py", "-s", "-o", "attn_device=cpu")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["heavy: []"])
