"""Verdicts in whole runs: what fails and with which words, what never does, and what is never judged."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from printed import sentences

from attnbench.codec import run_from
from attnbench.report.markdown import markdown as render

TWO = ("--attn-mode=eager", "--attn-backend=torch_flash", "--attn-backend=torch_cudnn")
RUN = ("--benchmark-only", "--benchmark-json=run.json", *TWO)
#: Convicts at first sight, so that no process has to be started.
ONCE = (*RUN, "--attn-relaunch=0")
SLOWER = "--attn-sim=torch_cudnn:+2%"
REQUIRE, REQUIRE_VERDICT = "--attn-require-baseline", "--attn-require-verdict"
#: Leaves the first of the two undecided.
UNDECIDED = ("--attn-limit=2%", "--attn-sim=torch_cudnn:+1.1%", "--attn-sim=torch_flash:-0.5%")
CUDNN, FLASH = "torch_cudnn@eager-flux-256px-t128", "torch_flash@eager-flux-256px-t128"

#: A conftest.py whose code acts in the processes of the launcher only.
IN_THE_CHILD = """
import os, sys
IN_CHILD = any("--attn-child" in argument for argument in sys.argv)
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


def markdown(sim: Any) -> str:
    """The job summary of the run that was stored last."""
    return render(run_from(sim.stored()))


def section(result: pytest.RunResult) -> list[str]:
    """The lines of the section up to pytest's own, failures and their summary left out."""
    lines = result.outlines[next(at for at, text in enumerate(result.outlines) if " attnbench (simulated) " in text) :]
    end = next(at for at, text in enumerate(lines) if text.startswith(("===", "FAILED")))
    return lines[:end]


def only_line(result: pytest.RunResult, start: str) -> str:
    (line,) = [text for text in sentences(result).lines if text.startswith(start)]
    return line


def failure(result: pytest.RunResult, start: str) -> list[str]:
    """What a test fails with: its only line that starts so, and the indented ones below it."""
    lines = sentences(result).lines
    at = lines.index(only_line(result, start))
    below = itertools.takewhile(lambda text: text.startswith("  "), lines[at + 1 :])
    return [lines[at], *below]


# Regressed


def test_a_regression_fails_its_own_test_with_one_line_and_no_traceback(sim: Any, baseline: Any) -> None:
    stored = baseline(*TWO)
    result = sim(*RUN, SLOWER)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, failed=1)
    first, *below = failure(result, "REGRESSED")
    repeats = (
        f"pytest --benchmark-only --attn-backend=torch_cudnn --attn-mode=eager --attn-workload=flux-256px-t128 {SLOWER}"
    )
    assert re.fullmatch(
        r"REGRESSED torch_cudnn@eager · flux-256px-t128: \+[12]\.\d % \[\+[01]\.\d, \+3\.\d\], 0\.0030\d → 0\.0031\d ms, "
        r"limit 2\.\d+ %",
        first,
    )
    assert below == [
        f"  baseline: simulated-device/{stored.name} (this GPU)",
        f"  reproduce: {repeats}",
    ]
    assert "Traceback" not in result.stdout.str()
    at = result.outlines.index(first)
    assert [set(text[:1]) for text in (result.outlines[at - 1], result.outlines[at + 3])] == [{"_"}, set()]
    assert kinds(sim) == {CUDNN: "regressed", FLASH: "unchanged"}
    found = verdicts(sim)[CUDNN]
    assert (found["launches"], found["known_unit"]) == (2, True), "it was measured again before it was judged"
    assert found["compared_with"] == [f"simulated-device/{stored.name}"]
    assert {record["status"] for record in sim.records().values()} == {"measured"}
    result.stdout.fnmatch_lines(
        [
            "median of 30 rounds in each of 1 to 2 launches, *",
            "verdicts: 1 regressed (fails the run), 1 unchanged",
            "regressed  torch_cudnn@eager · flux-256px-t128 *",
            "  unchanged: 1 case, *",
            f"  baseline: simulated-device/{stored.name}",
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
    assert only_line(result, "REGRESSED torch_cudnn@eager · flux-256px-t128: ")
    assert kinds(sim) == {CUDNN: "regressed"}


def test_of_an_injected_slow_down_the_line_says_so(sim: Any, baseline: Any) -> None:
    baseline(*TWO)
    assert "  INJECTED +2 %" in failure(sim(*ONCE, "--attn-inject=torch_cudnn:+2%"), "REGRESSED")


def test_what_is_as_before_and_what_is_faster_pass(sim: Any, baseline: Any) -> None:
    baseline(*TWO)
    result = sim(*ONCE, "--attn-sim=torch_cudnn:-4%")
    assert result.ret == 0
    assert kinds(sim) == {CUDNN: "improved", FLASH: "unchanged"}
    result.stdout.fnmatch_lines(["verdicts: 1 improved, 1 unchanged", "improved  torch_cudnn@eager*"])


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
        [f"ERROR: --attn-limit: expected P% or GLOB:P% with P above 0, such as 1% or sage_[*]:2%, got '{value}'"],
    )


@pytest.mark.parametrize("value", ["-1", "two", "1.5"])
def test_a_number_of_relaunches_that_is_none_is_a_usage_error(sim: Any, value: str) -> None:
    result = sim(*RUN, f"--attn-relaunch={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --attn-relaunch: expected an integer >= 0, got '{value}'"])


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
    assert kinds(sim)[CUDNN] == "unchanged"
    assert 2 <= verdicts(sim)[CUDNN]["launches"] <= 4
    assert result.ret == 0


#: What keeps the children from measuring, and what is said of it.
IN_THE_WAY = {
    "cannot start": ("if IN_CHILD:\n    raise ImportError('no such library')", "could not start: *"),
    "cannot collect": ("if IN_CHILD:\n    sys.modules['attnbench.suite'] = None", "could not collect it: *"),
    "does not find the case": (
        "@pytest.hookimpl(tryfirst=True)\ndef pytest_collection_modifyitems(items):\n    items[:] = items * (not IN_CHILD)",
        "did not collect it: *",
    ),
    "crashes": ("def pytest_runtest_call():\n    if IN_CHILD:\n        os.abort()", "was ended by SIGABRT *"),
    "hangs": (
        "def pytest_runtest_call():\n    if IN_CHILD:\n        import time; time.sleep(60)",
        "gave no answer within 3 s (--attn-timeout) and was killed",
    ),
    "skips it": (
        "def pytest_runtest_setup():\n    if IN_CHILD:\n        pytest.skip('not there')",
        "*not there",
    ),
    "fails": (
        "def pytest_configure(config):\n    if IN_CHILD:\n        config.option.attn_sim = ['*:error']",
        "*undefined symbol",
    ),
}


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_a_suspect_that_no_fresh_process_can_measure_is_regressed_on_what_is_known(
    sim: Any, baseline: Any, pytester: pytest.Pytester, what: str
) -> None:
    baseline(*TWO)
    code, said = IN_THE_WAY[what]
    pytester.makeconftest(f"{IN_THE_CHILD}import pytest\n{_first(code)}\n")
    result = sim(*RUN, SLOWER, *(["--attn-timeout=3"] if what == "hangs" else []))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert kinds(sim) == {CUDNN: "regressed", FLASH: "unchanged"}
    found = verdicts(sim)[CUDNN]
    assert [reason["code"] for reason in found["reasons"]] == ["slower", "measured-once", "relaunch"]
    assert found["launches"] == 1
    assert "  measured once" in failure(result, "REGRESSED")
    sentences(result).fnmatch_lines(
        [
            "regressed  torch_cudnn@eager · flux-256px-t128 (measured once) *",
            f"  regressed: torch_cudnn@eager · flux-256px-t128: measured once; a fresh process could not *{said}",
        ]
    )
    assert {record["status"] for record in sim.records().values()} == {"measured"}
    summary = markdown(sim)
    assert "| **regressed**, measured once | `torch_cudnn@eager · flux-256px-t128` |" in summary
    assert "\nmeasured once\n" in summary


def _first(code: str) -> str:
    """pytest_configure before attnbench reads the options."""
    return code.replace("def pytest_configure", "@pytest.hookimpl(tryfirst=True)\ndef pytest_configure")


def test_a_case_that_is_undecided_stays_so_where_it_cannot_be_measured_again(
    sim: Any, baseline: Any, pytester: pytest.Pytester
) -> None:
    baseline(*TWO)
    pytester.makeconftest(IN_THE_CHILD + "assert not IN_CHILD")
    result = sim(*RUN, *UNDECIDED)
    assert result.ret == 0
    assert kinds(sim) == {CUDNN: "inconclusive", FLASH: "unchanged"}
    codes = [reason["code"] for reason in verdicts(sim)[CUDNN]["reasons"]]
    assert codes == ["interval", "measured-once", "relaunch"]
    result.stdout.fnmatch_lines(["  inconclusive: torch_cudnn@eager *: measured once; a fresh process could not *"])


def test_a_case_that_some_fresh_processes_measured_says_how_often(
    sim: Any, baseline: Any, pytester: pytest.Pytester
) -> None:
    baseline(*TWO)
    pytester.makeconftest(IN_THE_CHILD + "assert not (IN_CHILD and '--attn-sim=launch=2' in sys.argv)")
    assert sim(*RUN, "--attn-limit=2%", "--attn-sim=torch_cudnn:+1.1%", "-k", "cudnn").ret == 0
    found = verdicts(sim)[CUDNN]
    assert (found["kind"], found["launches"]) == ("inconclusive", 2)
    assert found["reasons"][1]["text"] == "measured 2 times"


def test_without_room_for_a_fresh_process_a_regression_stays_one(
    sim: Any, baseline: Any, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline(*TWO)
    monkeypatch.setattr(tempfile, "tempdir", tempfile.gettempdir())  # given back afterwards
    below_a_file = pytester.makefile(".txt", notes="mine") / "none"
    pytester.makeconftest(f"import tempfile\ndef pytest_runtest_call():\n    tempfile.tempdir = {str(below_a_file)!r}")
    assert sim(*RUN, SLOWER).ret == pytest.ExitCode.TESTS_FAILED
    assert kinds(sim)[CUDNN] == "regressed"
    said = "a fresh process could not measure it again (error): its process could not start: no temporary folder can be made"
    assert verdicts(sim)[CUDNN]["reasons"][-1]["text"].startswith(said)


def test_a_suspect_that_a_fresh_process_finds_wrong_is_incorrect(
    sim: Any, baseline: Any, pytester: pytest.Pytester
) -> None:
    baseline(*TWO)
    wrong = "def pytest_configure(config):\n    if IN_CHILD:\n        config.option.attn_sim = ['*:incorrect']"
    pytester.makeconftest(f"{IN_THE_CHILD}import pytest\n{_first(wrong)}")
    result = sim(*RUN, SLOWER)
    result.assert_outcomes(passed=1, failed=1)
    line = only_line(result, "INCORRECT torch_cudnn@eager · flux-256px-t128: ")
    assert line.endswith(
        "correct in this process, wrong in a fresh one: simulated: max_abs found 0.2, allowed 0.002 on randn inputs"
    )
    assert kinds(sim) == {CUDNN: "missing", FLASH: "unchanged"}
    assert [record["status"] for record in sim.stored()["attnbench"]["records"]] == [
        "measured",
        "incorrect",
        "incorrect",
    ]
    assert [bench["extra_info"]["case"] for bench in sim.stored()["benchmarks"]] == [FLASH]


# Undecided


def test_what_a_run_could_not_decide_is_its_last_line_and_fails_on_request(sim: Any, baseline: Any) -> None:
    baseline(*TWO)
    arguments = (*ONCE, *UNDECIDED)
    result = sim(*arguments)
    assert result.ret == 0
    assert kinds(sim) == {CUDNN: "inconclusive", FLASH: "unchanged"}
    high = verdicts(sim)[CUDNN]["high"]
    last = f"undecided: 1 of 2 compared cases; a slow-down of up to {high * 100:.2f} % may be missed"
    assert section(result)[-1] == f"{last} (--attn-require-verdict makes the run fail)"
    assert f"**Undecided**: {last.removeprefix('undecided: ')}." in markdown(sim)

    result = sim(*arguments, REQUIRE_VERDICT)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, failed=1)
    line = failure(result, "INCONCLUSIVE torch_cudnn@eager · flux-256px-t128: ")[-1]
    assert f" {REQUIRE_VERDICT}" in line, "the command that repeats it fails as well"
    assert "Traceback" not in result.stdout.str()
    assert kinds(sim) == {CUDNN: "inconclusive", FLASH: "unchanged"}


def test_rounds_too_few_to_tell_could_have_missed_any_slow_down(sim: Any, baseline: Any) -> None:
    baseline(*TWO)
    result = sim(*RUN, "--attn-rounds=2", REQUIRE_VERDICT)
    result.assert_outcomes(failed=2)
    assert section(result)[-1].startswith("undecided: 2 of 2 compared cases; any slow-down may be missed")


def test_a_required_verdict_is_not_a_required_baseline(sim: Any, baseline: Any) -> None:
    assert sim(*ONCE, REQUIRE_VERDICT).ret == 0
    assert set(kinds(sim).values()) == {"no-baseline"}
    baseline(*TWO)
    assert sim(*ONCE, REQUIRE_VERDICT).ret == 0
    assert sim(*ONCE, REQUIRE_VERDICT, "--attn-sim=torch_cudnn:unsupported").ret == 0
    result = sim(*ONCE, REQUIRE_VERDICT)
    assert not any("undecided" in text for text in result.outlines)


def test_a_verdict_that_is_required_needs_a_folder(sim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = sim(*ONCE, REQUIRE_VERDICT, "-o", "attn_baselines=")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --attn-require-verdict needs a folder of baseline sessions: *"])
    monkeypatch.setenv("ATTN_REQUIRE_VERDICT", "1")
    sim(*ONCE, "-o", "attn_baselines=").stderr.fnmatch_lines(
        ["ERROR: ATTN_REQUIRE_VERDICT needs a folder of baseline sessions: *"]
    )


# What cannot be compared


def test_a_run_without_a_session_fails_only_where_a_baseline_is_required(sim: Any) -> None:
    result = sim(*ONCE)
    assert result.ret == 0
    assert kinds(sim) == {CUDNN: "no-baseline", FLASH: "no-baseline"}
    result = sim(*ONCE, REQUIRE)
    result.assert_outcomes(failed=2)
    first, *_ = failure(result, "NO-BASELINE torch_cudnn")
    assert first == (
        "NO-BASELINE torch_cudnn@eager · flux-256px-t128: no session of this device is stored; record one with "
        "attnbench record"
    )


def test_a_baseline_that_is_required_needs_a_folder(sim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = sim(*ONCE, REQUIRE, "-o", "attn_baselines=")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --attn-require-baseline needs a folder of baseline sessions: *"])
    monkeypatch.setenv("ATTN_REQUIRE_BASELINE", "1")
    sim(*ONCE, "-o", "attn_baselines=").stderr.fnmatch_lines(
        ["ERROR: ATTN_REQUIRE_BASELINE needs a folder of baseline sessions: *"]
    )


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
            "verdicts: 1 missing, 1 unchanged",
            f"  missing: torch_cudnn@eager · flux-256px-t128: in simulated-device/{stored.name}, and {outcome} here",
        ]
    )
    result = sim(*arguments, REQUIRE)
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    if outcome == "unsupported":
        assert only_line(result, "MISSING torch_cudnn@eager · flux-256px-t128: in simulated-device/")


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
    result.stdout.fnmatch_lines(["  missing: torch_cudnn@eager * and not-run here"])


def test_a_new_case_that_a_mark_keeps_from_running_fails_the_run_that_requires_a_baseline(
    sim: Any, baseline: Any, pytester: pytest.Pytester
) -> None:
    baseline(*TWO[:2])  # which has torch_flash alone
    pytester.makeconftest(
        """
import pytest
def pytest_collection_modifyitems(items):
    for item in items:
        if "cudnn" in item.name:
            item.add_marker(pytest.mark.skip("not today"))
"""
    )
    assert sim(*ONCE).ret == 0
    result = sim(*ONCE, REQUIRE)
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    said = "failed by --attn-require-baseline: 1 case did not run, and no comparable session has it"
    assert said in " ".join(result.stdout.str().split())
    nothing = (option for option in ONCE if not option.startswith("--benchmark-"))
    assert sim(*nothing, REQUIRE, "--benchmark-disable").ret == 0  # nothing is compared


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
        f"simulated-device/{stored.name} cannot be compared with this run: protocol simulated here, cuda-events/9 there. "
        "Record a session with attnbench record"
    )
    sentences(result).fnmatch_lines([f"  incomparable: torch_cudnn@eager *, torch_flash@eager *: {reason}"])
    result = sim(*ONCE, REQUIRE)
    result.assert_outcomes(failed=2)
    assert reason in only_line(result, "INCOMPARABLE torch_cudnn@eager · flux-256px-t128: ")


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
    sentences(result).fnmatch_lines(
        [f"  incomparable: *the inputs differ: SHA-256 * here, 000000000000 in {folder.name}/*"]
    )


@pytest.mark.parametrize("slower", ["+3%", "+50%"])
def test_an_unknown_unit_is_a_screen_that_fails_nothing(sim: Any, baseline: Any, slower: str) -> None:
    stored = baseline(*TWO)
    other = "--attn-sim=unit=other"
    result = sim(*RUN, f"--attn-sim=torch_cudnn:{slower}", other)
    assert result.ret == 0
    found = verdicts(sim)[CUDNN]
    assert (found["kind"], found["known_unit"]) == ("inconclusive", False)
    assert 0.04 < found["limit"] < 0.06, "units differ by more than sessions"
    assert (found["found_by"], found["launches"]) == (None, 1), "more launches would not make the unit known"
    sentences(result).fnmatch_lines(
        [
            "inconclusive  torch_cudnn@eager · flux-256px-t128 (unknown unit) *",
            "  inconclusive: torch_cudnn@eager *of this model, which differ by 0.6 % (sd). To decide, record a session *",
            "undecided: * of 2 compared cases; *",
        ]
    )
    if slower == "+50%":
        assert "suspected slow-down: " in result.stdout.str()
    assert sim(*RUN, f"--attn-sim=torch_cudnn:{slower}", other, REQUIRE_VERDICT).ret == pytest.ExitCode.TESTS_FAILED
    recorded = baseline(*TWO, other)
    assert sim(*ONCE, SLOWER, other).ret == pytest.ExitCode.TESTS_FAILED
    assert verdicts(sim)[CUDNN]["compared_with"] == [f"simulated-device/{recorded.name}"]
    assert recorded != stored


def test_a_gain_on_an_unknown_unit_is_said_and_not_claimed(sim: Any, baseline: Any) -> None:
    baseline(*TWO)
    result = sim(*ONCE, "--attn-sim=torch_cudnn:-30%", "--attn-sim=unit=other", REQUIRE_VERDICT, "-k", "cudnn")
    assert result.ret == 0
    assert kinds(sim) == {CUDNN: "unchanged"}
    said = "  unchanged: torch_cudnn@eager * -29.* %: suspected gain: *"
    result.stdout.fnmatch_lines(
        ["  unchanged: 1 case, *, limit 5* %; unknown unit: the intervals end at -2* % or below", said]
    )
    assert "suspected gain: " in markdown(sim)


def test_two_rounds_decide_nothing_and_start_no_process(sim: Any, baseline: Any) -> None:
    baseline(*TWO)
    result = sim(*RUN, "--attn-rounds=2", "--attn-sim=torch_cudnn:+50%")
    assert result.ret == 0
    assert kinds(sim) == {CUDNN: "inconclusive", FLASH: "inconclusive"}
    assert len(sim.stored()["attnbench"]["launches"]) == 1
    sentences(result).fnmatch_lines(
        ["*[[]?, ?] *", "  inconclusive: *: fewer than 3 rounds: their scatter is unknown, *"]
    )


def test_a_stored_session_of_two_rounds_is_named_and_does_not_blind_what_others_can_decide(
    sim: Any, baseline: Any
) -> None:
    short = baseline(*TWO, "--attn-rounds=2")
    name = f"simulated-device/{short.name}"
    result = sim(*ONCE, SLOWER)
    assert kinds(sim) == {CUDNN: "inconclusive", FLASH: "inconclusive"}
    sentences(result).fnmatch_lines([f"  inconclusive: *: fewer than 3 rounds: *, so nothing is decided ({name})"])
    baseline(*TWO)
    result = sim(*RUN, SLOWER)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert kinds(sim) == {CUDNN: "regressed", FLASH: "unchanged"}
    left_out = f"{name} has fewer than 3 rounds of it, which do not count: their scatter is unknown"
    assert [verdict["notes"] for verdict in verdicts(sim).values()] == [[left_out]] * 2


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


def test_a_copied_session_changes_no_figure(sim: Any, baseline: Any) -> None:
    stored = baseline(*TWO)
    found = []
    for _ in range(2):
        sim(*ONCE, "--attn-sim=torch_cudnn:+0.8%")
        found.append(verdicts(sim))
        for number in (2, 3, 4):
            stored.with_name(f"000{number}_copy.json").write_text(stored.read_text())
    notes = {note for verdict in found[1].values() for note in verdict["notes"]}
    assert {note.partition(" ")[0] for note in notes} == {f"simulated-device/000{n}_copy.json" for n in (2, 3, 4)}
    plain, copied = ({case: {**one, "notes": []} for case, one in run.items()} for run in found)
    assert copied == plain


def test_other_contents_under_the_id_of_a_launch_are_a_usage_error_that_names_both_files(
    sim: Any, baseline: Any
) -> None:
    stored = baseline(*TWO)
    other = stored.with_name("0002_copy.json")
    other.write_text(stored.read_text())
    edit(other, lambda run: run["records"][0]["sample"].update(rounds_s=[1e-3] * 30))
    result = sim(*RUN)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"ERROR: attnbench: *{stored.name} and *{other.name} both hold the launch * of {FLASH}, with different *"]
    )


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
    command = [sys.executable, "-m", "attnbench", "report", "run.json"]
    again = subprocess.run(command, capture_output=True, cwd=pytester.path, timeout=60, check=True).stdout.decode()
    assert "verdicts: 1 regressed (fails the run), 1 missing, 1 no-baseline, 1 improved\n" in again
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


def test_a_folder_of_baselines_that_is_not_there_is_named(sim, baseline, pytester):
    baseline(*TWO)
    said = f"attn_baselines: there is no folder {pytester.path / 'baselnes'}; attnbench record makes it"
    assert said in sim(*RUN, "-o", "attn_baselines=baselnes").outlines
    assert not any(line.startswith("attn_baselines:") for line in sim(*RUN).outlines)


def test_sessions_that_no_ini_key_names_are_pointed_at(sim, baseline, pytester):
    baseline(*TWO)
    ini = pytester.path / "tox.ini"
    ini.write_text(ini.read_text().replace("attn_baselines = baselines\n", ""))
    hint = "not compared with baselines/simulated-device: set the ini key attn_baselines = baselines"
    assert hint in sim(*RUN).outlines
    assert hint not in sim(*RUN, "-o", "attn_baselines=").outlines
