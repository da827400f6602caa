"""Any mix of stored files as one `Gathered`, and what is said of files and lines that cannot be used."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from test_kbt import THEIRS

from attnbench import printable
from attnbench.codec import to_plain
from attnbench.model import Fingerprint, Launch, Sample, Verdict, VerdictKind
from attnbench.report import jsonl, kbt
from attnbench.report.gather import FOREIGN, Kind, Outcome, gather, summary

CASE = "torch_flash@eager-flux-256px-t128"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def document(run, **changes):
    return json.dumps({"machine_info": {}, "benchmarks": [], "attnbench": {**to_plain(run), **changes}})


def lines_of(run):
    return "".join(f"{line}\n" for line in jsonl.lines(run))


def kbt_of(run):
    launches = {launch.id: launch for launch in run.launches}
    return "".join(f"{line}\n" for line in kbt.lines(run.records, launches))


def theirs(**changes):
    return f"{json.dumps({**THEIRS, **changes})}\n"


def on(device, run, launch="ba9876543210"):
    """The same run on another device."""
    launches = (Launch(launch, "2026-01-03T03:04:05+00:00", Fingerprint({"device": device}, {})),)
    records = tuple(replace(record, launch=launch) for record in run.records)
    return replace(run, launches=launches, records=records)


def outcomes(gathered):
    return {file.path: (file.kind, file.outcome) for file in gathered.files}


def test_files_of_every_form_go_into_one(folder, run_file, record):
    (folder / "a-cpu").mkdir()
    Path("a-cpu/0001_0123456789ab.json").write_text(document(run_file(record())))
    Path("run.json").write_text(document(on("GPU 1", run_file(record()))))
    Path("ours.jsonl").write_text(lines_of(on("GPU 2", run_file(record()), "2" * 12)))
    Path("theirs.jsonl").write_text(theirs())
    gathered = gather(["a-cpu", "run.json", "ours.jsonl", "theirs.jsonl"])
    assert outcomes(gathered) == {
        "a-cpu/0001_0123456789ab.json": (Kind.SESSION, Outcome.FOUND),
        "run.json": (Kind.RUN, Outcome.FOUND),
        "ours.jsonl": (Kind.JSONL, Outcome.FOUND),
        "theirs.jsonl": (Kind.KBT, Outcome.FOUND),
    }
    assert gathered.gpus == ("A CPU", "GPU 1", "GPU 2", "NVIDIA L4")
    assert [gathered.gpu(record) for record in gathered.records] == list(gathered.gpus)
    assert [source.kind for source in gathered.runs] == [Kind.SESSION, Kind.RUN, Kind.JSONL, Kind.KBT]
    assert summary(gathered) == [
        "read 4 of 4 files: 4 records of 2 implementations, 2 variants, 4 launches, on A CPU, GPU 1, GPU 2, NVIDIA L4",
        "  session: 1 file, 1 record",
        "  run: 1 file, 1 record",
        "  JSONL: 1 file, 1 record",
        "  kbt JSONL: 1 file, 1 record",
    ]


def test_a_folder_gives_all_that_lies_below_it_in_the_order_of_names(folder, run_file, record):
    for number, name in enumerate(("b/2.json", "a.jsonl", "b/1.json", ".hidden/3.json", "b/notes.txt", "b/.4.json")):
        Path(name).parent.mkdir(exist_ok=True)
        run = on(f"GPU {number}", run_file(record()), f"{number}" * 12)
        Path(name).write_text(lines_of(run) if name.endswith("l") else document(run))
    assert [file.path for file in gather(["."]).files] == ["a.jsonl", "b/1.json", "b/2.json"]


def test_the_records_of_one_launch_count_once_whatever_form_they_come_in(folder, run_file, record, check):
    run = run_file(record(checks=(check({}, mse=math.nan),)), record("b@eager"))
    Path("b.jsonl").write_text(lines_of(run) * 2)
    Path("c.json").write_text(document(run))
    Path("a.jsonl").write_text(kbt_of(run) * 2)
    for order in (["a.jsonl", "b.jsonl", "c.json"], ["c.json", "b.jsonl", "a.jsonl"]):
        gathered = gather(order)
        assert [record.nodeid for record in gathered.records] == ["", ""]
        assert gathered.launches == {"0123456789ab": run.launches[0]}
        assert "counted once: 8 records repeated from an earlier file or line" in summary(gathered)


def test_our_own_record_comes_before_its_export_to_kbt(folder, run_file, record):
    run = run_file(record(nodeid="test_attention.py::test_attention[x]", layout="bhsd"))
    Path("a.jsonl").write_text(kbt_of(run))
    Path("b.json").write_text(document(run))
    assert gather(["a.jsonl", "b.json"]).records == run.records


def test_other_contents_under_the_id_of_a_launch_are_said_and_the_first_taken(folder, run_file, record):
    first = run_file(record())
    Path("a.json").write_text(document(first))
    Path("b.json").write_text(document(run_file(record(sample=Sample((9.0,), "t")))))
    Path("c.json").write_text(document(on("GPU", first, "0123456789ab")))
    gathered = gather(["a.json", "b.json", "c.json"])
    assert gathered.records == first.records
    assert gathered.gpus == ("A CPU",)
    assert summary(gathered)[-2:] == [
        "conflict: b.json: 1 record of a launch in a.json, with other contents: those there count",
        "conflict: c.json: launch 0123456789ab has a different fingerprint in a.json, which counts",
    ]


def test_the_verdict_of_a_record(folder, run_file, record):
    regressed = Verdict(CASE, VerdictKind.REGRESSED)
    run = run_file(record(), record("b@eager"), verdicts=(regressed,))
    Path("run.json").write_text(document(run))
    gathered = gather(["run.json"])
    assert [gathered.verdict(record) for record in gathered.records] == [regressed, None]
    assert gathered.verdicts == (regressed,)


def test_a_verdict_on_records_of_an_earlier_file_is_theirs_and_counts_once(folder, run_file, record):
    verdict = Verdict(CASE, VerdictKind.REGRESSED)
    Path("session.json").write_text(document(run_file(record())))
    Path("run.json").write_text(document(run_file(record(), verdicts=(verdict,))))
    Path("lines.jsonl").write_text(lines_of(run_file(record(), verdicts=(verdict,))))
    gathered = gather(["session.json", "run.json", "lines.jsonl"])
    (found,) = gathered.records
    assert gathered.verdict(found) == verdict
    assert gathered.verdicts == (verdict,)


def test_a_verdict_is_of_its_test(folder, run_file, record):
    verdicts = (Verdict(CASE, VerdictKind.REGRESSED, nodeid="a"), Verdict(CASE, VerdictKind.UNCHANGED, nodeid="b"))
    Path("run.json").write_text(document(run_file(record(nodeid="b"), record(nodeid="a"), verdicts=verdicts)))
    gathered = gather(["run.json"])
    assert [str(gathered.verdict(record).kind) for record in gathered.records] == ["unchanged", "regressed"]


def test_another_tools_implementation_keeps_apart_from_ours_of_the_same_name(folder, run_file, record):
    Path("run.json").write_text(document(run_file(record("xformers_meff@eager"))))
    Path("kbt.jsonl").write_text(theirs() + theirs(impl="other", wl={**THEIRS["wl"], "name": "w"}))
    gathered = gather(["kbt.jsonl", "run.json"])
    assert [record.variant for record in gathered.records] == [
        "xformers_meff@eager",
        "kbt:xformers_meff@eager",
        "other@eager",
    ]
    assert gathered.peak_bytes[THEIRS["run"], "kbt:xformers_meff@eager-cuda_attn_L128_bfloat16", ""] == 1000


BAD = {
    "empty.json": ("", Outcome.EMPTY, "the file is empty"),
    "blank.jsonl": ("\n \n", Outcome.EMPTY, "the file is empty"),
    "cut.json": ('{"machine_info": {', Outcome.UNREADABLE, "is not JSON"),
    "list.json": ("[]", Outcome.UNREADABLE, "not from pytest-benchmark"),
    "other.json": ('{"machine_info": {}, "benchmarks": []}', Outcome.UNREADABLE, "no attnbench records"),
    "lines.jsonl": (
        "{}\n[1]\n",
        Outcome.UNREADABLE,
        "none of its 2 lines can be read; line 1: JSON, but not a record",
    ),
    "words.jsonl": ("hello\n", Outcome.UNREADABLE, "line 1: not JSON (column 1"),
    "deep.jsonl": ("[" * 10**5 + "]" * 10**5, Outcome.UNREADABLE, "line 1: cannot be read"),
    "digits.jsonl": ("9" * 5000, Outcome.UNREADABLE, "line 1: cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_used_is_a_row_with_its_reason(folder, run_file, record, name):
    content, outcome, said = BAD[name]
    Path(name).write_text(content)
    Path("good.json").write_text(document(run_file(record())))
    gathered = gather([name, "good.json"])
    assert gathered.files[0].outcome is outcome
    assert said in gathered.files[0].problem
    assert len(gathered.records) == 1
    assert any(line.startswith(f"{outcome}: {name}: ") for line in summary(gathered))


def test_a_newer_schema_is_told_apart_in_every_form(folder, run_file, record):
    run = run_file(record())
    Path("a.json").write_text(document(run, schema=99))
    Path("b.jsonl").write_text(lines_of(run).replace('"schema":2', '"schema":99'))
    gathered = gather(["a.json", "b.jsonl"])
    assert [file.outcome for file in gathered.files] == [Outcome.OTHER_SCHEMA] * 2
    assert all("upgrade attnbench" in file.problem for file in gathered.files)
    assert summary(gathered)[0] == "read 0 of 2 files: no record"


def test_what_is_no_file_is_a_row_too(folder):
    Path("folder").mkdir()
    os.mkfifo("fifo.json")
    gathered = gather(["none.json", "folder", "fifo.json", "a\0b", ""])
    assert [file.outcome for file in gathered.files] == [
        Outcome.MISSING,
        Outcome.EMPTY,
        Outcome.UNREADABLE,
        Outcome.UNREADABLE,
        Outcome.UNREADABLE,
    ]
    assert gathered.files[2].problem == "not a regular file"
    assert gathered.records == ()


def test_a_run_that_selected_nothing_is_empty(folder, run_file):
    Path("run.json").write_text(document(run_file()))
    assert gather(["run.json"]).files[0].outcome is Outcome.EMPTY


def test_lines_that_cannot_be_read_are_named_and_the_others_go_in(folder, run_file, record):
    good = lines_of(run_file(record()))
    wrong = good.replace('"seq":384', '"seq":0')
    content = [good.encode(), b"\n", b"{cut\n", b"\xff\xfe\n", wrong.encode(), theirs().encode()]
    content += [theirs(impl="nan", lat_ms={"raw_times": [math.nan]}).encode(), theirs(wl={"name": "swiglu"}).encode()]
    Path("mixed.jsonl").write_bytes(b"".join(content))
    gathered = gather(["mixed.jsonl"])
    assert [record.backend for record in gathered.records] == ["torch_flash", "xformers_meff"]
    (file,) = gathered.files
    assert [one.line for one in file.skipped] == [3, 4, 5, 7, 8]
    assert [one.reason for one in file.skipped] == [
        "not JSON (column 2: Expecting property name enclosed in double quotes)",
        "not UTF-8",
        f"{CASE} has seq 0, expected at least 1",
        "its lat_ms.raw_times holds nan, expected milliseconds above 0",
        "its workload 'wl' lacks batch, seq_len, heads, head_dim: only attention can be read",
    ]
    assert "skipped: mixed.jsonl, line 4: not UTF-8" in summary(gathered)
    assert "skipped: and 3 more" in summary(gathered, most=2)


def test_a_byte_order_mark_and_windows_line_ends_are_read(folder, run_file, record):
    text = lines_of(run_file(record(), record("b@eager"))).replace("\n", "\r\n")
    Path("a.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    gathered = gather(["a.jsonl"])
    assert len(gathered.records) == 2
    assert gathered.files[0].skipped == ()


def test_lines_are_known_whatever_the_file_is_called(folder, run_file, record):
    run = run_file(record())
    Path("lines.json").write_text(lines_of(run))
    Path("run.txt").write_text(document(run))
    Path("kbt").write_text(theirs())
    assert [file.kind for file in gather(["lines.json", "run.txt", "kbt"]).files] == [Kind.JSONL, Kind.RUN, Kind.KBT]


@pytest.mark.parametrize(
    "name",
    [
        "x" * 1000,
        "zürich-注意力-🚀",
        "a\ud800b",
        "a\\nb",
        "\x7f",
        "a\x1b[31mb",
        "\u202ec",
        "y" * 3000,
        'y"' * 1500,
        "</script><svg onload=x>",
        "a|b`c",
    ],
)
def test_any_name_is_read_and_can_be_shown(folder, run_file, record, name):
    Path("run.json").write_text(document(run_file(record(f"{name}@eager"))))
    Path("kbt.jsonl").write_text(theirs(impl=name))
    gathered = gather(["run.json", "kbt.jsonl"])
    assert len(gathered.records) == 2
    assert all(record.case.isprintable() and record.backend.isprintable() for record in gathered.records)
    assert max(len(record.backend) for record in gathered.records) <= len(FOREIGN) + printable.LONGEST_MESSAGE
    assert all(line.isprintable() for line in summary(gathered))


def test_two_gpus_in_one_folder_stay_two(folder, run_file, record):
    Path("a.json").write_text(document(run_file(record())))
    Path("b.json").write_text(document(on("NVIDIA H100", run_file(record()))))
    gathered = gather(["."])
    assert gathered.gpus == ("A CPU", "NVIDIA H100")
    assert [gathered.gpu(record) for record in gathered.records] == ["A CPU", "NVIDIA H100"]


def test_records_that_were_slowed_down_are_counted(folder, run_file, record):
    Path("a.json").write_text(document(run_file(record(injected=0.02))))
    assert "slowed down on purpose (--attn-inject): 1 record" in summary(gather(["a.json"]))
