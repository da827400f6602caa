"""`attnbench report` with -o and --format, on real sessions of one H200 and on what is none."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import pytest

from attnbench.cli.command import main
from attnbench.cli.stored_run import load_run
from attnbench.report import bundle
from attnbench.report.bundle import FORMATS, NAMES

SESSIONS = Path(__file__).resolve().parents[2] / "baselines" / "nvidia-h200"
SESSION = next(SESSIONS.glob("0006_*.json"))  # 14 variants, one length, three launches


@pytest.fixture
def report(capsys):
    """Runs `attnbench report`: exit code, standard output, standard error."""

    def run(*arguments):
        code = main(["report", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_folder_gets_every_usual_format_and_the_same_bytes_twice(report, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "attnbench.report.plots.drawing.unavailable", lambda: "No plots."
    )  # theirs are in test_plots.py
    code, said, _ = report("-o", tmp_path / "a", SESSION)
    assert code == 0
    assert said.startswith("read 1 of 1 file: 42 records of 14 implementations")
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names >= {"latency.csv", "records.jsonl", "summary.md", "latency.md", "relative.md"}
    assert f"wrote {tmp_path / 'a' / 'latency.csv'}" in said
    report("-o", tmp_path / "b", SESSION)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_page_and_the_plots_are_written(report, tmp_path):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    report("-o", tmp_path, "--format", "html", "--format", "svg", SESSION)
    page = (tmp_path / "index.html").read_text()
    assert "flash_attn_3@eager" in page
    assert "<svg" in page
    assert (tmp_path / "latency.svg").read_text().startswith("<?xml")


def test_without_matplotlib_a_sentence_says_what_to_install_and_the_rest_is_written(report, tmp_path, monkeypatch):
    monkeypatch.setattr("attnbench.report.plots.drawing.unavailable", lambda: "No plots: install matplotlib.")
    code, said, _ = report("-o", tmp_path, SESSION)
    assert code == 0
    assert said.count("No plots: install matplotlib.") == 1
    assert not list(tmp_path.glob("*.svg"))
    assert (tmp_path / "index.html").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_one_text_format_goes_to_standard_output(report, name):
    code, text, said = report("--format", name, SESSION)
    assert code == 0
    assert said.startswith("read 1 of 1 file")
    assert text
    if name in ("text", "readme", "relative"):
        assert "flash_attn_3@eager" in text
    if name == "csv":
        assert len(list(csv.DictReader(io.StringIO(text)))) == 42
    if name in ("jsonl", "kbt"):
        assert len([json.loads(line) for line in text.splitlines()]) == 42


def test_a_report_reads_its_own_json_lines(report, tmp_path):
    _, lines, _ = report("--format", "jsonl", SESSION)
    (tmp_path / "records.jsonl").write_text(lines)
    _, again, said = report("--format", "csv", tmp_path / "records.jsonl")
    assert said.startswith("read 1 of 1 file: 42 records")
    assert again == report("--format", "csv", SESSION)[1]


def test_damaged_and_missing_files_are_said_and_the_others_go_in(report, tmp_path):
    shutil.copy(SESSION, tmp_path)
    (tmp_path / "broken.json").write_text("{")
    code, said, _ = report("-o", tmp_path / "out", tmp_path, tmp_path / "none.json")
    assert code == 4
    assert said.startswith("read 1 of 3 files: 42 records")
    assert "broken.json" in said
    assert "none.json" in said
    assert (tmp_path / "out" / "latency.csv").is_file()


def test_a_folder_without_a_record_is_exit_code_one(report, tmp_path):
    code, said, _ = report("-o", tmp_path / "out", tmp_path)
    assert code == 1
    assert not (tmp_path / "out").exists()
    assert said


def test_plots_on_standard_output_are_wrong_usage(report, capsys):
    with pytest.raises(SystemExit) as ended:
        report("--format", "svg", SESSION)
    assert ended.value.code == 2
    assert "name a folder with -o DIR" in capsys.readouterr().err


def test_a_folder_that_is_a_file_is_one_sentence(report, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, said = report("-o", tmp_path / "file", "--format", "csv", SESSION)
    assert code == 4
    assert said == f"attnbench: {tmp_path / 'file'} cannot be written to: File exists\n"


def test_every_format_has_a_place():
    assert set(NAMES) < set(FORMATS)


def test_the_markdown_of_many_runs_fits_into_a_comment_and_counts_what_is_cut():
    text = bundle.runs_markdown([load_run(SESSION)] * 400)
    assert len(text.encode()) <= 65_536
    shown = text.count("## attnbench")
    assert shown > 30
    assert shown + int(re.search(r"^(\d+) more runs", text, re.M).group(1)) == 400
