"""`python -m attnbench.report FILE` on what is no stored run: one sentence, exit code 2."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench.codec import to_plain
from attnbench.report.__main__ import main
from attnbench.report.terminal import section

ROOT = Path(__file__).resolve().parents[2]


def document(run, **changes):
    return json.dumps({"machine_info": {}, "benchmarks": [], "attnbench": {**to_plain(run), **changes}})


def as_program(*arguments, **variables):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "attnbench.report", *map(str, arguments)]
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
def test_bad_input_is_one_sentence_and_exit_code_two(tmp_path, capsys, run_file, record, name):
    content, said = BAD[name]
    path = tmp_path / "run.json"
    path.write_text(content(run_file(record())))
    assert main([str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"attnbench: {path}")
    assert said in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(("name", "said"), [("none.json", "No such file or directory"), ("", "Is a directory")])
def test_a_path_that_is_no_file_says_the_systems_reason(tmp_path, name, said):
    done = as_program(tmp_path / name)
    assert done.returncode == 2
    assert done.stderr.decode() == f"attnbench: {tmp_path / name} cannot be read: {said}\n"


def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "run.json")
    done = as_program(tmp_path / "run.json")
    assert done.returncode == 2
    said = f"attnbench: {tmp_path}/run.json cannot be read: it is a FIFO, and a stored run is a regular file\n"
    assert done.stderr.decode() == said


def test_a_byte_order_mark_is_no_damage(tmp_path, capsys, run_file, record):
    path = tmp_path / "run.json"
    path.write_text(document(run_file(record())), encoding="utf-8-sig")
    assert main([str(path)]) == 0
    assert capsys.readouterr().out == "".join(f"{line}\n" for line in section(run_file(record())))


def test_without_a_file_it_says_how_to_call_it():
    done = as_program()
    assert done.returncode == 2
    assert b"usage: python -m attnbench.report" in done.stderr


def test_a_run_is_printed_and_a_terminal_without_unicode_gets_escapes(tmp_path, run_file, record):
    path = tmp_path / "run.json"
    path.write_text(document(run_file(record())))
    text = "".join(f"{line}\n" for line in section(run_file(record())))
    assert "×" in text
    assert as_program(path, PYTHONIOENCODING="utf-8").stdout.decode() == text
    assert (
        as_program(path, PYTHONIOENCODING="ascii").stdout.decode() == text.encode("ascii", "backslashreplace").decode()
    )


def test_it_needs_neither_torch_nor_pytest():
    seen = "import sys, attnbench.report.__main__; print({'torch', 'pytest', 'numpy'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", seen], capture_output=True, env=environment, timeout=60, check=True)
    assert done.stdout.decode().strip() == "set()"
