"""attnbench's JSONL: a line stands alone, and lines together are the run again."""

import json
import math
from dataclasses import replace

import pytest

from attnbench.codec import NewerSchema, Unreadable
from attnbench.model import SCHEMA_VERSION, Fingerprint, Launch, Status, Verdict, VerdictKind
from attnbench.report import jsonl


def read(text):
    return jsonl.line_from(json.loads(text))


def test_lines_together_are_the_run_again(run_file, record, check):
    second = Launch("ba9876543210", "2026-01-02T03:05:05+00:00", Fingerprint({"device": "A CPU"}, {}))
    run = run_file(
        record(checks=(check({}),)),
        record("b@default", status="unsupported", launch=second.id),
        verdicts=(Verdict("torch_flash@eager-flux-256px-t128", VerdictKind.UNCHANGED, change=0.001),),
        interrupted="Ctrl-C",
        baselines_from="HEAD^1 (0f1e2d)",
        baseline_changes=("edited nvidia-h200/0001_a.json",),
    )
    run = replace(run, launches=(*run.launches, second))
    lines = list(jsonl.lines(run))
    assert len(lines) == 2
    assert jsonl.joined(map(read, lines)) == run


def test_each_line_holds_its_launch_and_the_verdict_on_its_case(run_file, record):
    verdict = Verdict("b@eager-flux-256px-t128", VerdictKind.REGRESSED)
    first, second = map(json.loads, jsonl.lines(run_file(record(), record("b@eager"), verdicts=(verdict,))))
    assert first["launch"] == second["launch"]
    assert first["launch"]["fingerprint"]["key"] == {"device": "A CPU"}
    assert first["record"]["case"] == "torch_flash@eager-flux-256px-t128"
    assert "verdict" not in first
    assert second["verdict"]["kind"] == "regressed"
    assert second["schema"] == SCHEMA_VERSION


def test_a_metric_that_is_no_number_is_null_and_reads_as_none_again(run_file, record, check):
    wrong = record(status="incorrect", checks=(check({}, max_abs=math.nan, mse=math.inf, worst_found=None),))
    (line,) = jsonl.lines(run_file(wrong))
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    (found,) = read(line).run.records
    assert found.status is Status.INCORRECT
    assert math.isnan(found.checks[0].error.max_abs)
    assert math.isnan(found.checks[0].error.mse)
    assert found.checks[0].error.worst_found is None


def test_a_line_is_ascii_without_line_ends_whatever_is_in_a_name(run_file, record):
    named = record("zürich\u2028ü@eager")
    (line,) = jsonl.lines(run_file(named))
    assert line.isascii()
    assert line.splitlines() == [line]
    assert read(line).run.records == (named,)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": "2"}, "schema is '2'"),
        ({"record": {}}, "missing required field"),
        ({"record": None}, "Expected `object`"),
        ({"record": {"checks": [None, 1, {"error": None}]}}, "do not fit schema"),
        ({"launch": []}, "Expected `object`, got `array`"),
        ({"run": None}, "no 'run' with an 'id'"),
        ({"run": {"id": "a"}}, "got `null`"),
        ({"attnbench": None}, "got `null`"),
    ],
)
def test_a_line_of_another_form_says_what_is_wrong(run_file, record, change, said):
    (line,) = jsonl.lines(run_file(record()))
    with pytest.raises(Unreadable, match=said):
        jsonl.line_from({**json.loads(line), **change})


def test_a_newer_schema_is_told_apart(run_file, record):
    (line,) = jsonl.lines(run_file(record()))
    with pytest.raises(NewerSchema, match="upgrade attnbench"):
        jsonl.line_from({**json.loads(line), "schema": 99})
