"""`attnbench report FILE…` and `attnbench summary FILE`, on stored runs and on what is none."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench.cli.command import main
from attnbench.codec import to_plain
from attnbench.report.jsonl import lines
from attnbench.report.markdown import markdown
from attnbench.report.terminal import section

ROOT = Path(__file__).resolve().parents[2]


def document(run, **changes):
    return json.dumps({"machine_info": {}, "benchmarks": [], "attnbench": {**to_plain(run), **changes}})


def as_program(*arguments, **variables):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "attnbench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, env=environment, timeout=60, check=False)


BAD = {
    "an empty file": (lambda run: "", "is not JSON"),
    "a truncated file": (lambda run: document(run)[:-40], "was cut off"),
    "foreign JSON": (lambda run: '{"results": []}', "not from pytest-benchmark"),
    "a run of another suite": (lambda run: '{"machine_info": {}, "benchmarks": []}', "not written by an attnbench run"),
    "a newer schema": (lambda run: document(run, schema=99), "schema is 99, but this version reads up to 2: upgrade"),
    "a field of another type": (lambda run: document(run, reference=[]), r"Expected `str`, got `array`"),
    "nested lists": (lambda run: '{"a": ' + "[" * 10**5 + "]" * 10**5 + "}", "nested too deeply for a stored run"),
    "a number of 5000 digits": (lambda run: '{"a": ' + "9" * 5000 + "}", "a whole number of 5000 digits"),
    "a workload without a size": (
        lambda run: document(run).replace('"seq": ', '"seq": -'),
        "expected at least 1",
    ),
    "a run that selected nothing": (lambda run: document(run, records=[]), "holds no case"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_exit_code_four(tmp_path, capsys, run_file, record, name):
    content, said = BAD[name]
    path = tmp_path / "run.json"
    path.write_text(content(run_file(record())))
    assert main(["report", str(path)]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"attnbench: {path}")
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_a_path_that_is_no_file_says_the_systems_reason(tmp_path, capsys):
    assert main(["report", str(tmp_path / "none.json")]) == 4
    said = f"attnbench: {tmp_path / 'none.json'} cannot be read: No such file or directory\n"
    assert capsys.readouterr().err == said


def test_a_folder_and_json_lines_are_printed_like_a_run(tmp_path, capsys, run_file, record):
    run = run_file(record())
    (tmp_path / "run.json").write_text(document(run))
    (tmp_path / "lines.jsonl").write_text("".join(f"{line}\n" for line in lines(run)))
    for path in (tmp_path, tmp_path / "lines.jsonl"):
        assert main(["report", str(path)]) == 0
        captured = capsys.readouterr()
        assert captured.out == "".join(f"{line}\n" for line in section(run))
        assert "read " in captured.err


def test_a_report_leaves_the_garbage_collector_as_it_was(tmp_path, run_file, record):
    (tmp_path / "run.json").write_text(document(run_file(record())))
    threshold, frozen = gc.get_threshold(), gc.get_freeze_count()
    assert main(["report", str(tmp_path / "run.json"), "-o", str(tmp_path / "out"), "--format", "csv"]) == 0
    assert gc.get_threshold() == threshold
    assert gc.get_freeze_count() <= frozen  # what the tests froze may have been freed since


def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "run.json")
    done = as_program("report", tmp_path / "run.json")
    assert done.returncode == 4
    said = f"attnbench: {tmp_path}/run.json cannot be read: it is a FIFO, and a stored run is a regular file\n"
    assert done.stderr.decode() == said


def test_a_byte_order_mark_is_no_damage(tmp_path, capsys, run_file, record):
    path = tmp_path / "run.json"
    path.write_text(document(run_file(record())), encoding="utf-8-sig")
    assert main(["report", str(path)]) == 0
    assert capsys.readouterr().out == "".join(f"{line}\n" for line in section(run_file(record())))


def test_a_run_is_printed_and_a_terminal_without_unicode_gets_escapes(tmp_path, run_file, record):
    path = tmp_path / "run.json"
    path.write_text(document(run_file(record())))
    text = "".join(f"{line}\n" for line in section(run_file(record())))
    assert "×" in text
    assert as_program("report", path, PYTHONIOENCODING="utf-8").stdout.decode() == text
    assert (
        as_program("report", path, PYTHONIOENCODING="ascii").stdout.decode()
        == text.encode("ascii", "backslashreplace").decode()
    )


def test_several_runs_are_printed_each_below_its_name_and_a_damaged_one_is_passed_over(
    tmp_path, capsys, run_file, record
):
    good, bad, other = (tmp_path / name for name in ("1.json", "2.json", "3.json"))
    for path in (good, other):
        path.write_text(document(run_file(record())))
    bad.write_text("")
    assert main(["report", str(good), str(bad), str(other)]) == 4
    captured = capsys.readouterr()
    text = "".join(f"{line}\n" for line in section(run_file(record())))
    assert captured.out == f"{good}:\n{text}\n{other}:\n{text}\n"
    assert captured.err.startswith(f"attnbench: {bad} is not JSON")
    assert captured.err.count("\n") == 1


def test_a_summary_is_utf8_in_any_locale(tmp_path, run_file, record):
    path = tmp_path / "run.json"
    path.write_text(document(run_file(record())))
    done = as_program("summary", path, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == markdown(run_file(record()))


def test_a_reader_that_has_read_enough_gets_no_traceback(tmp_path, run_file, record):
    path = tmp_path / "run.json"
    path.write_text(document(run_file(record())))
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "attnbench", "report", path]
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
