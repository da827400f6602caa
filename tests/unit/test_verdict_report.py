"""Verdicts as text: the line that a test fails with, and the block of the section."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from attnbench.model import Reason, Verdict, VerdictKind
from attnbench.report.table import WIDTH
from attnbench.report.terminal import section
from attnbench.report.verdicts import line, verdicts, worst_first

FLASH, CUDNN, MATH = (f"torch_{name}@eager-flux-256px-t128" for name in ("flash", "cudnn", "math"))
REGRESSED = Verdict(
    case=FLASH,
    kind=VerdictKind.REGRESSED,
    reasons=(Reason("slower", "at least +1.64 %"),),
    baseline_s=0.79e-3,
    found_s=0.806e-3,
    measure="cycles",
    change=0.0203,
    low=0.0161,
    high=0.0246,
    limit=0.01,
    known_unit=True,
    found_by=0.0088,
    launches=2,
    compared_with=("nvidia-h200/0001_a.json",),
    reproduce="pytest --benchmark-only --attn-backend=torch_flash",
)
UNCHANGED = replace(REGRESSED, kind=VerdictKind.UNCHANGED, change=0.001, low=-0.001, high=0.003, launches=1)


def without(kind, text, case=FLASH):
    return Verdict(case, kind, (Reason("why", text),), reproduce="pytest again")


@pytest.fixture
def block(run_file, record):
    """The lines of some verdicts, in a run of the cases that they are of."""

    def render(*found, details=False):
        records = [record(case.partition("-")[0]) for case in dict.fromkeys(verdict.case for verdict in found)]
        return verdicts(run_file(*records, verdicts=found), details)

    return render


def test_the_line_of_a_regressed_case_says_everything_at_once(record):
    assert line(REGRESSED, record()) == (
        "REGRESSED torch_flash@eager · flux-256px-t128: +2.0 % [+1.6, +2.5], 0.790 → 0.806 ms, limit 1 %\n"
        "  baseline: nvidia-h200/0001_a.json (this GPU)\n"
        "  reproduce: pytest --benchmark-only --attn-backend=torch_flash"
    )


def test_a_long_sentence_of_the_block_is_wrapped(block):
    cases = [
        without(VerdictKind.NO_BASELINE, "no stored session holds this case", case) for case in (FLASH, CUDNN, MATH)
    ]
    assert block(UNCHANGED, *cases)[2:4] == [
        "  no-baseline: torch_cudnn@eager · flux-256px-t128, torch_flash@eager · flux-256px-t128, torch_math@eager ·",
        "    flux-256px-t128: no stored session holds this case",
    ]


def test_on_a_narrow_terminal_a_case_stands_below_its_figures(run_file, record):
    run = run_file(record("torch_flash@eager"), verdicts=(REGRESSED,))
    (at,) = (number for number, row in enumerate(verdicts(run, width=80)) if row.startswith("regressed"))
    figures, name = verdicts(run, width=80)[at : at + 2]
    assert name.startswith("  torch_flash@eager · ")
    assert figures.split() == [part for part in verdicts(run)[at].split() if part not in name.split()]
    assert max(map(len, verdicts(run, details=True, width=80)[3:6])) <= 80


def test_the_line_of_a_case_that_is_less_accurate_says_that_first(record):
    reasons = (Reason("accuracy", "less accurate: rel_l2 0.02"), Reason("below-limit", "at most"))
    first = " ".join(part.strip() for part in line(replace(REGRESSED, reasons=reasons), record()).splitlines())
    assert ": less accurate: rel_l2 0.02, +2.0 % [+1.6, +2.5], 0.790 → 0.806 ms, limit 1 %" in first


def test_what_else_differs_stands_in_the_line(record):
    noted = replace(REGRESSED, known_unit=False, notes=("torch 2.12, the baseline's was 2.11", "INJECTED +2 %"))
    said = line(noted, record())
    assert said.splitlines()[1:4] == [
        "  baseline: nvidia-h200/0001_a.json (unknown unit: another GPU of this model)",
        "  torch 2.12, the baseline's was 2.11",
        "  INJECTED +2 %",
    ]


def test_no_line_of_a_failure_is_wide_but_the_first_and_the_command(record):
    sessions = tuple(f"nvidia-h200/{number:04}_a_long_name_of_a_session.json" for number in range(9))
    why = (Reason("unknown-unit", f"suspected slow-down: {'the baseline is from other GPUs. ' * 9}"),)
    compared = replace(REGRESSED, compared_with=sessions, reasons=why, notes=("torch is another one; " * 9,))
    other = Verdict(FLASH, VerdictKind.INCOMPARABLE, (Reason("a", "one two " * 30), Reason("b", "other inputs")))
    for verdict in (compared, other):
        head, *lines, command = line(replace(verdict, reproduce=f"pytest {'--an-option ' * 12}"), record()).splitlines()
        assert head.endswith("limit 1 %" if verdict is compared else "one two"), "whole: some show nothing else"
        assert max(map(len, lines)) <= WIDTH
        assert command.startswith("  reproduce: pytest --an-option ")
    assert "\n  other inputs\n" in line(other, record())


def test_a_change_of_choice_stands_beside_the_verdict(record, block):
    chose = "chose cudnn, baseline flash"
    first = line(replace(REGRESSED, chose=chose), record()).splitlines()[0]
    assert first.startswith(f"REGRESSED torch_flash@eager · flux-256px-t128 ({chose}): +2.0 %")
    [row] = [one for one in block(replace(REGRESSED, chose=chose, known_unit=False)) if one.startswith("regressed")]
    assert f"torch_flash@eager · flux-256px-t128 (unknown unit, {chose})" in row


def test_a_change_of_choice_of_an_unchanged_case_is_named_below(block):
    lines = block(replace(UNCHANGED, chose="chose cudnn, baseline flash"), replace(UNCHANGED, case=MATH))
    assert "  chose cudnn, baseline flash: torch_flash@eager · flux-256px-t128" in lines


def test_the_line_of_a_case_that_was_not_compared_says_why(record):
    said = line(without(VerdictKind.NO_BASELINE, "no stored session holds this case"), record())
    assert said == (
        "NO-BASELINE torch_flash@eager · flux-256px-t128: no stored session holds this case\n  reproduce: pytest again"
    )


def test_a_run_without_verdicts_has_no_block(block, run_file, record):
    assert block() == []
    assert not any("verdict" in text for text in section(run_file(record())))


def test_every_verdict_but_unchanged_is_a_row(block):
    names = ["torch_math@eager · flux-256px-t128", "torch_cudnn@eager · flux-256px-t128 (unknown unit)"]
    improved = replace(REGRESSED, case=CUDNN, kind=VerdictKind.IMPROVED, change=-0.02, low=-0.025, high=-0.015)
    found = (UNCHANGED, replace(improved, known_unit=False), replace(REGRESSED, case=MATH))
    lines = block(*found)
    assert lines[0] == "verdicts: 1 regressed (fails the run), 1 improved, 1 unchanged"
    assert [re.split(r" {2,}", text.strip()) for text in lines[1:6] if "---" not in text] == [
        ["verdict", "case", "baseline", "now", "change", "interval", "limit"],
        ["ms", "ms", "%", "%", "%"],
        ["regressed", names[0], "0.7900", "0.8060", "+2.03", "[+1.61, +2.46]", "1"],
        ["improved", names[1], "0.7900", "0.8060", "-2.00", "[-2.50, -1.50]", "1"],
    ]
    assert lines[6:8] == [
        "  unchanged: 1 case, +0.10 %, limit 1 %",
        "  baseline: nvidia-h200/0001_a.json",
    ]
    assert lines[8].startswith("  limit 1 % (1 case): no session of this GPU, so slow-downs are only suspected; ")
    detailed = block(*found, details=True)
    assert detailed[1].startswith(
        "  interval: if noise is as stored or assumed, the true change is below it in at most 1 %"
    )
    assert detailed[2].endswith("; n: launches")
    assert detailed[3].split()[-2:] == ["finds", "n"]
    assert detailed[6].split()[-2:] == ["+0.88", "2"]
    assert detailed[8] == f"{lines[6]}; finds +0.88 % (median), +0.88 % (worst)"


def test_unchanged_cases_are_counted_with_what_they_rule_out(block):
    other = replace(UNCHANGED, case=CUDNN, change=-0.002, limit=0.02, found_by=0.012)
    assert block(UNCHANGED, other) == [
        "verdicts: 2 unchanged",
        "  unchanged: 2 cases, -0.20 to +0.10 %, limit 1 or 2 %",
        "  baseline: nvidia-h200/0001_a.json",
    ]
    assert block(UNCHANGED, other, details=True)[1].endswith("; finds +1.20 % (median), +1.20 % (worst)")


def test_the_worst_comes_first(block):
    found = [
        replace(REGRESSED, case=name, kind=kind, change=change)
        for name, kind, change in (
            ("a", VerdictKind.UNCHANGED, 0.0),
            ("b", VerdictKind.IMPROVED, -0.02),
            ("c", VerdictKind.REGRESSED, 0.02),
            ("d", VerdictKind.INCONCLUSIVE, 0.01),
            ("e", VerdictKind.REGRESSED, 0.04),
            ("g", VerdictKind.REGRESSED, 0.02),
        )
    ]
    missing = without(VerdictKind.MISSING, "why", case="f")
    assert [v.case for v in worst_first([*found, missing])] == ["e", "c", "g", "d", "f", "b", "a"]


ABOVE, BELOW, ALIKE = (replace(REGRESSED, measured_s=0.8012e-3, clock_change=by) for by in (0.006, -0.009, 0.001))


def test_another_clock_during_the_call_is_a_column_of_the_rows(block):
    lines = block(ABOVE, replace(BELOW, case=CUDNN), replace(ALIKE, case=MATH), replace(REGRESSED, case="sec@eager"))
    assert lines[1] == (
        "  now: latency at the baseline's clock; clock: during the call, against the baseline's (–: seconds compared)"
    )
    clocks = {text.split()[1]: text.split()[-1] for text in lines if text.startswith("regressed")}
    expected = {"torch_flash@eager": "+0.6", "torch_cudnn@eager": "-0.9", "torch_math@eager": "+0.1", "sec@eager": "–"}
    assert clocks == expected
    assert not any("clock" in text for text in block(replace(ALIKE, case=MATH), REGRESSED))


def test_a_change_that_rounds_to_nothing_has_no_minus(block):
    nothing = replace(REGRESSED, kind=VerdictKind.INCONCLUSIVE, change=-0.00001)
    assert "+0.00" in block(nothing)[4].split()


def test_another_clock_of_unchanged_cases_is_one_line(block):
    several = [replace(ABOVE, case=FLASH), replace(BELOW, case=CUDNN), replace(ALIKE, case=MATH)]
    lines = block(*(replace(v, kind=VerdictKind.UNCHANGED) for v in several))
    assert lines[2] == "    clock during the call: -0.9 to +0.6 % in 2 of them (corrected)"


def test_the_line_of_a_failing_test_says_what_was_measured_at_another_clock(record):
    said = "  measured 0.8012 ms; clock during the call: +0.6 % against the baseline's (corrected above)"
    assert said in line(ABOVE, record()).splitlines()
    assert "clock" not in line(ALIKE, record())


def test_without_any_baseline_the_reason_stands_alone(block):
    found = [without(VerdictKind.NO_BASELINE, "none", case=case) for case in (FLASH, CUDNN)]
    assert block(*found) == ["verdicts: 2 no-baseline", "  no-baseline: none"]


def test_verdicts_that_share_their_reason_are_one_line(block):
    found = [without(VerdictKind.NO_BASELINE, "none", case=case) for case in (FLASH, CUDNN)]
    assert block(*found, without(VerdictKind.MISSING, "gone", case=MATH)) == [
        "verdicts: 1 missing, 2 no-baseline",
        "  missing: torch_math@eager · flux-256px-t128: gone",
        "  no-baseline: torch_cudnn@eager · flux-256px-t128, torch_flash@eager · flux-256px-t128: none",
    ]


def test_many_cases_of_one_reason_are_counted_and_named_only_where_others_have_another(run_file):
    found = [without(VerdictKind.NO_BASELINE, "none", case=f"case {number}") for number in range(5)]
    assert verdicts(run_file(verdicts=tuple(found)))[1] == "  no-baseline: none"
    other = without(VerdictKind.NO_BASELINE, "other", case="case 5")
    assert verdicts(run_file(verdicts=(*found, other)))[1:3] == [
        "  no-baseline: 5 cases (case 0 …): none",
        "  no-baseline: case 5: other",
    ]


def test_why_nothing_was_decided_stands_below_the_rows(block):
    reasons = (Reason("interval", "between this and that"), Reason("unknown-unit", "no session of this unit"))
    found = replace(REGRESSED, kind=VerdictKind.INCONCLUSIVE, reasons=reasons)
    assert block(found)[-2] == "  inconclusive: torch_flash@eager · flux-256px-t128: no session of this unit"
    assert block(replace(found, reasons=reasons[:1]))[-2].startswith("inconclusive  torch_flash@eager")


def test_figures_that_are_not_known_are_question_marks(block):
    found = replace(REGRESSED, kind=VerdictKind.INCONCLUSIVE, low=None, high=None, found_by=None)
    assert block(found, details=True)[6].split()[-5:] == ["[?,", "?]", "1", "?", "2"]


def test_a_note_is_said_once_with_its_cases(block):
    noted = [replace(UNCHANGED, case=case, notes=("torch 2.12, the baseline's was 2.11",)) for case in (FLASH, CUDNN)]
    assert block(*noted)[-2] == "  torch 2.12, the baseline's was 2.11: all"
    assert block(noted[0], replace(noted[1], notes=()))[-2] == (
        "  torch 2.12, the baseline's was 2.11: torch_flash@eager · flux-256px-t128"
    )
    assert block(noted[0])[-2].endswith(": torch_flash@eager · flux-256px-t128")


def test_a_verdict_on_one_launch_that_none_followed_is_marked(block, record):
    why = (Reason("slower", "at least"), Reason("measured-once", "measured once"), Reason("relaunch", "it crashed"))
    once = replace(REGRESSED, reasons=why, launches=1)
    lines = block(once)
    assert [
        text for text in lines if text.startswith("regressed  torch_flash@eager · flux-256px-t128 (measured once) ")
    ]
    assert "  regressed: torch_flash@eager · flux-256px-t128: measured once; it crashed" in lines
    assert line(once, record()).splitlines()[2:4] == ["  measured once", "  it crashed"]
    elsewhere = replace(once, known_unit=False, kind=VerdictKind.INCONCLUSIVE, found_by=None)
    assert block(elsewhere)[4].startswith(
        "inconclusive  torch_flash@eager · flux-256px-t128 (unknown unit, measured once) "
    )
    assert block(elsewhere, details=True)[6].split()[-2:] == ["–", "1"], "nothing would be found there"


def test_unchanged_cases_on_an_unknown_unit_say_what_they_rule_out(block):
    elsewhere = replace(UNCHANGED, known_unit=False, found_by=None, high=0.0171, limit=0.02)
    assert block(elsewhere, replace(elsewhere, case=CUDNN, high=0.0154))[1] == (
        "  unchanged: 2 cases, +0.10 %, limit 2 %; unknown unit: the intervals end at +1.71 % or below"
    )


def test_what_was_not_decided_is_the_last_line_of_the_section(run_file, record):
    undecided = replace(REGRESSED, kind=VerdictKind.INCONCLUSIVE)
    wider = replace(undecided, case=CUDNN, high=0.0312)

    def last(*verdicts, count=1):
        return section(run_file(record(), record("torch_cudnn@eager"), verdicts=verdicts, interrupted="why"))[-count:]

    seen = "may be missed (--attn-require-verdict makes the run fail)"
    assert last(undecided, wider) == [f"undecided: 2 of 2 compared cases; a slow-down of up to 3.12 % {seen}"]
    assert last(undecided, UNCHANGED) == [f"undecided: 1 of 2 compared cases; a slow-down of up to 2.46 % {seen}"]
    unknown = replace(wider, high=None)
    assert last(undecided, unknown) == [f"undecided: 2 of 2 compared cases; any slow-down {seen}"]
    assert last(UNCHANGED) == last(REGRESSED) == ["the run ended early: why"]
    choices = Verdict(CUDNN, VerdictKind.INCOMPARABLE, (Reason("choices", "no stored launch"),))
    assert last(undecided, choices, count=2)[0] == (
        "1 case was not compared: no stored launch made its autotune choices (this alone fails no test)"
    )
    assert last(choices, replace(choices, case=FLASH))[0].startswith(
        "2 cases were not compared: no stored launch made their"
    )


def test_two_tests_of_one_case_are_two_rows(run_file, record):
    nodeids = ("test_a.py::test[x]", "test_b.py::test[x]")
    found = [replace(REGRESSED, nodeid=nodeid, change=0.02 + at / 1000) for at, nodeid in enumerate(nodeids)]
    lines = verdicts(run_file(*(record(nodeid=nodeid) for nodeid in nodeids), verdicts=tuple(found)))
    rows = [text.split()[3:5] for text in lines if text.startswith("regressed")]
    assert [" ".join(row) for row in rows] == ["flux-256px-t128 (test", "flux-256px-t128 (test"]
    assert [text.partition("(test ")[2][0] for text in lines if text.startswith("regressed")] == ["2", "1"]
    before = replace(REGRESSED, nodeid="")  # stored by a version that did not say which
    assert "(test" not in "".join(verdicts(run_file(*(record(nodeid=n) for n in nodeids), verdicts=(before,))))


def test_every_session_that_was_compared_with_is_named_once(block):
    other = replace(UNCHANGED, case=CUDNN, compared_with=("nvidia-h200/0001_a.json", "nvidia-h200/0002_b.json"))
    assert block(UNCHANGED, other)[2] == "  baseline: nvidia-h200/0001_a.json, 0002_b.json"


def test_the_block_stands_before_the_counts_of_the_section(run_file, record):
    lines = section(run_file(record(), verdicts=(REGRESSED,)))
    assert lines[-3:] == ["  baseline: nvidia-h200/0001_a.json", "", "1 case: 1 measured"]


def test_launches_are_counted_per_case(run_file, record):
    def said(*records):
        return next(text for text in section(run_file(*records)) if text.startswith("median of"))

    assert "rounds, clock" in said(record(), record("b@eager", launch="2"))
    assert "rounds in each of 2 launches, clock" in said(record(), record(launch="2"))
    assert "rounds in each of 1 to 2 launches, clock" in said(record(), record(launch="2"), record("b@eager"))
