"""The folder of stored runs: what a bare comparison is made with, and what is said about the rest."""

import itertools
import json
import math
import os
import re
import socket
from pathlib import Path

import pytest

from attnbench.codec import Unreadable, to_plain
from attnbench.model import Sample
from attnbench.storage.benchmark_json import load_document
from attnbench.storage.comparison_file import find_comparison_file, matching

GPU, SLUG = "NVIDIA H200", "nvidia-h200"
MACHINE, OTHER_PYTHON = "Linux-CPython-3.11-64bit", "Linux-CPython-3.12-64bit"
NUMBERS = ("min", "max", "mean", "stddev", "median", "iqr", "rounds", "iterations")
STATS = {**dict.fromkeys(NUMBERS, 1), "outliers": "0;0"}
ENTRY = {"name": "test_a", "fullname": "test_x.py::test_a", "group": None, "stats": STATS}
DAMAGE = {
    "empty": "",
    "cut off": '{"benchmarks": [{"fullname": "a"',
    "foreign": '{"results": []}',
    "a list": "[1, 2]",
    "no measurement": json.dumps({"machine_info": {"device": GPU}, "benchmarks": []}),
    "no machine": json.dumps({"benchmarks": [ENTRY]}),
    "a machine that is text": json.dumps({"machine_info": "mine", "benchmarks": [ENTRY]}),
    "an entry without stats": json.dumps({"machine_info": {}, "benchmarks": [{"fullname": "a"}]}),
    "an entry that is text": json.dumps({"machine_info": {}, "benchmarks": ["a"]}),
    "binary": b"\xff\xfe\x00{",
}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "baselines"


@pytest.fixture
def store(folder):
    """`store("nvidia-h200/0001_a.json", device=…, saved_at=…)` or, for a damaged file, `content=…`."""

    def write(name, device=GPU, saved_at="2026-01-01T00:00:00+00:00", content=None, cases=1):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {"machine_info": {"device": device}, "benchmarks": [ENTRY] * cases, "datetime": saved_at}
        content = json.dumps(document) if content is None else content
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


OWN = {"none": None, "fits": GPU, "another device": "NVIDIA A100"}


@pytest.mark.parametrize(
    ("own", "reviewed", "damaged", "other_reviewed"),
    list(itertools.product(OWN, [False, True], [False, True], [False, True])),
)
def test_an_own_save_of_this_device_comes_before_a_reviewed_session_of_it(
    folder, store, own, reviewed, damaged, other_reviewed
):
    own_path = store(f"{MACHINE}/0001_mine.json", OWN[own]) if OWN[own] else None
    reviewed_path = store(f"{SLUG}/0001_abc.json") if reviewed else None
    if damaged:
        store(f"{MACHINE}/0002_cut.json", content=DAMAGE["cut off"])
        store(f"{SLUG}/0002_cut.json", content=DAMAGE["cut off"])
    if other_reviewed:
        store("nvidia-a100/0009_abc.json", "NVIDIA A100")

    comparison = find_comparison_file(folder, GPU)

    said = "\n".join(comparison.messages)
    assert comparison.path == (own_path if own == "fits" else reviewed_path)
    assert said.count("skipped: ") == 2 * damaged
    assert ("skipped local saves of other devices: 1 of NVIDIA A100" in said) == (own == "another device")
    if comparison.path is None:
        assert f"nothing to compare with for {GPU} in {folder}" in comparison.messages[-1]
        assert "--benchmark-save=NAME" in comparison.messages[-1]
    elif own == "fits":
        assert f"comparing with baselines/{MACHINE}/0001_mine.json (latest local save)" in comparison.choice
        assert (f"latest complete reviewed session: baselines/{SLUG}/0001_abc.json" in comparison.choice) == reviewed
    else:
        assert (
            f"comparing with baselines/{SLUG}/0001_abc.json (latest complete reviewed session; no local save fits)"
            in comparison.choice
        )


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_file_is_passed_over_and_named(folder, store, damage):
    whole = store(f"{MACHINE}/0001_whole.json")
    broken = store(f"{MACHINE}/0002_broken.json", content=DAMAGE[damage])
    comparison = find_comparison_file(folder, GPU)
    assert comparison.path == whole
    assert [str(broken) in sentence for sentence in comparison.messages] == [True]


def test_a_reviewed_session_of_a_few_cases_is_passed_over_and_named(folder, store):
    store(f"{SLUG}/0001_old.json", cases=100)
    whole = store(f"{SLUG}/0002_whole.json", cases=50)
    store(f"{SLUG}/0003_added.json", cases=49)
    store(f"{SLUG}/0004_added.json", cases=6)
    comparison = find_comparison_file(folder, GPU)
    assert comparison.path == whole, "an older one that is fuller still is no reason to take that"
    added = f"baselines/{SLUG}/0004_added.json, baselines/{SLUG}/0003_added.json"
    assert comparison.messages[0] == f"skipped, with fewer than half of the cases of the largest session: {added}"
    store(f"{MACHINE}/0001_mine.json")
    beside = f"latest complete reviewed session: baselines/{SLUG}/0002_whole.json"
    assert find_comparison_file(folder, GPU).choice == (
        f"comparing with baselines/{MACHINE}/0001_mine.json (latest local save); {beside}"
    )


def test_an_own_save_is_taken_however_few_cases_it_has(folder, store):
    store(f"{MACHINE}/0001_all.json", cases=100)
    few = store(f"{MACHINE}/0002_few.json", cases=2)
    assert find_comparison_file(folder, GPU).path == few


def test_an_older_damaged_file_is_nobodys_business(folder, store):
    store(f"{MACHINE}/0001_broken.json", content="")
    store(f"{MACHINE}/0002_whole.json")
    comparison = find_comparison_file(folder, GPU)
    assert comparison.choice == f"comparing with baselines/{MACHINE}/0002_whole.json (latest local save)"
    assert comparison.messages == ()


def test_many_saves_of_other_devices_are_one_sentence(folder, store):
    for number in range(1, 8):
        store(f"{MACHINE}/{number:04}_a.json", "a CPU" if number % 2 else "NVIDIA A100")
    assert (
        find_comparison_file(folder, GPU).messages[0]
        == "skipped local saves of other devices: 4 of a CPU, 3 of NVIDIA A100"
    )


def test_numbers_decide_within_a_folder_and_count_as_numbers(folder, store):
    for number in ("0002", "10000", "9999"):
        store(f"{MACHINE}/{number}_a.json")
    assert find_comparison_file(folder, GPU).path == folder / MACHINE / "10000_a.json"


def test_dates_decide_between_the_folders_of_two_pythons(folder, store):
    store(f"{MACHINE}/0005_old.json", saved_at="2025-03-01T10:00:00+00:00")
    new = store(f"{OTHER_PYTHON}/0001_new.json", saved_at="2026-03-01T10:00:00+00:00")
    assert find_comparison_file(folder, GPU).path == new


def test_files_that_are_no_numbered_run_are_not_looked_at(folder, store):
    for name in (f"{MACHINE}/notes.json", f"{MACHINE}/1_a.json", "some-folder/0001_a.json"):
        store(name, content="not JSON")
    (folder / MACHINE / "0001_a.json.before").write_text("")
    comparison = find_comparison_file(folder, GPU)
    assert comparison.path is None
    assert len(comparison.messages) == 1


def test_a_folder_that_is_not_there_is_nothing_to_compare_with(folder):
    assert find_comparison_file(folder, GPU).path is None
    assert not folder.exists()


@pytest.mark.parametrize("name", [*NUMBERS, "outliers"])
def test_an_entry_that_pytest_benchmark_would_stumble_over_is_named(store, name):
    stats = {key: value for key, value in STATS.items() if key != name}
    document = {"machine_info": {}, "benchmarks": [ENTRY, {**ENTRY, "stats": stats}]}
    path = store("0001_a.json", content=json.dumps(document))
    with pytest.raises(Unreadable, match=rf"entry 1 of 'benchmarks' \(test_x.py::test_a\) lacks stats {name}$"):
        load_document(path)


def test_a_file_that_cannot_be_opened_says_the_systems_reason(folder, tmp_path):
    with pytest.raises(Unreadable, match="cannot be read: No such file or directory"):
        load_document(folder / "none.json")
    with pytest.raises(Unreadable, match="cannot be read: Is a directory"):
        load_document(tmp_path)


# Reading


def of(**changes):
    """A document whose one entry has other stats."""
    return json.dumps({"machine_info": {}, "benchmarks": [{**ENTRY, "stats": {**STATS, **changes}}]})


IMPLAUSIBLE = {
    "negative": of(min=-1e-3),
    "not a number": of(median=math.nan),
    "infinite": of(mean=math.inf),
    "text": of(mean="1"),
    "true": of(rounds=True),
    "no rounds": of(rounds=0),
    "a mean of 0 and no rate": of(mean=0),
    "an infinite rate": of(ops=math.inf),
}


@pytest.mark.parametrize("name", IMPLAUSIBLE)
def test_figures_that_no_run_has_are_refused(store, name):
    path = store("0001_a.json", content=IMPLAUSIBLE[name])
    with pytest.raises(Unreadable, match=rf"{path}: entry 0 of 'benchmarks' \(test_x.py::test_a\) lacks stats \w+$"):
        load_document(path)


NESTED = '{"benchmarks": [], "machine_info": '
REFUSED = {
    "deep": (NESTED + "[" * 200_000 + "]" * 200_000 + "}", "nested too deeply for a stored run: more than 100 levels"),
    "deep enough to be read": (NESTED + "[" * 300 + "]" * 300 + "}", "nested too deeply"),
    "objects in objects": (NESTED + '{"a":' * 300 + "1" + "}" * 301, "nested too deeply"),
    "a number of 5000 digits": (NESTED + '{"a": ' + "9" * 5000 + "}}", "a whole number of 5000 digits, at most 30 are"),
    "a number of 400 digits": (NESTED + '{"a": -' + "9" * 400 + "}}", "a whole number of 401 digits"),
    "zeros": (b"\0" * 512, "is not JSON"),
    "half a UTF-16 pair": (b"\xff\xfe\x00\xd8", "is not text"),
    "lines after the end": ('{"benchmarks": []}\n{}', r"is not JSON \(line 2: Extra data\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_stored_run_holds_is_one_sentence(store, name):
    content, said = REFUSED[name]
    path = store("0001_a.json", content=content)
    with pytest.raises(Unreadable, match=f"{path} .*{said}") as refused:
        load_document(path)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_larger_than_any_run_is_not_read(store):
    path = store("0001_a.json", content="")
    os.truncate(path, 2**40)  # a hole
    with pytest.raises(Unreadable, match="is too large for a stored run: 1048576 MiB, at most 256 MiB are read"):
        load_document(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_read_right_and_refused_where_pytest_benchmark_reads_it_too(store, encoding):
    text = json.dumps({"machine_info": {"device": "µ"}, "benchmarks": [ENTRY]}, ensure_ascii=False)
    path = store("0001_a.json", content=text.encode(encoding))
    assert load_document(path)["machine_info"] == {"device": "µ"}
    with pytest.raises(
        Unreadable, match=f"{path} is text in {encoding}.*, which pytest-benchmark does not read: save it"
    ):
        load_document(path, need_measurements=True)


def fifo(path):
    os.mkfifo(path)


def socket_at(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (fifo, "it is a FIFO"),
        (socket_at, "it is a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.symlink_to("nowhere"), "No such file or directory"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    ],
    ids=["fifo", "socket", "device", "directory", "dangling", "loop"],
)
def test_only_a_regular_file_is_opened(tmp_path, monkeypatch, make, said):
    monkeypatch.chdir(tmp_path)  # the name of a socket may not be long
    make(Path("0001_a.json"))
    with pytest.raises(Unreadable, match=f"0001_a.json cannot be read: {said}"):
        load_document(Path("0001_a.json"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rounds_s": [1e308, 1e308]}, "rounds_s 1e\\+308, expected 0 to 1e\\+06 s"),
        ({"rounds_s": []}, "a Sample needs at least one round"),
        ({"rounds_s": [-1.0]}, "every round of a Sample is a positive number"),
        ({"rounds_s": [math.nan]}, "every round of a Sample is a positive number"),
        ({"rounds_s": [10**29]}, "rounds_s 1e\\+29"),
        ({"before_hz": [0.0]}, "a clock of 0 Hz"),
        ({"before_hz": [-1.5e9]}, "a clock of -1.5e\\+09 Hz"),
        ({"ceiling_hz": math.inf}, "a clock of inf Hz"),
        ({"host_s": math.nan}, "host_s nan"),
        ({"waited_s": -1.0}, "waited_s -1"),
        ({"unsettled": 7}, "7 unsettled rounds of 2"),
    ],
)
def test_a_sample_that_no_run_takes_is_refused(store, run_file, record, changes, said):
    run = to_plain(run_file(record(sample=Sample((1e-3, 2e-3), "t"))))
    run["records"][0]["sample"].update(changes)
    path = store("0001_a.json", content=json.dumps({"machine_info": {}, "benchmarks": [], "attnbench": run}))
    with pytest.raises(Unreadable, match=f"^{path} cannot be used: .*{said}"):
        load_document(path)


def test_a_sample_of_ten_million_rounds_is_refused(store, run_file, record):
    text = json.dumps({"machine_info": {}, "benchmarks": [], "attnbench": to_plain(run_file(record()))})
    (rounds,) = re.findall(r'"rounds_s": (\[.*?\])', text)
    path = store("0001_a.json", content=text.replace(rounds, f"[{'1,' * 1_000_000}1]"))
    with pytest.raises(Unreadable, match="has 1000001 rounds, at most 1000000 are read"):
        load_document(path)


@pytest.mark.parametrize("size", [0, -4096])
def test_a_workload_without_a_size_is_refused(store, run_file, record, size):
    run = to_plain(run_file(record()))
    run["records"][0]["workload"]["seq"] = size
    path = store("0001_a.json", content=json.dumps({"machine_info": {}, "benchmarks": [], "attnbench": run}))
    with pytest.raises(Unreadable, match=f"has seq {size}, expected at least 1"):
        load_document(path)


def test_a_record_of_a_launch_that_is_not_there_is_refused(store, run_file, record):
    run = {**to_plain(run_file(record())), "launches": []}
    path = store("0001_a.json", content=json.dumps({"machine_info": {}, "benchmarks": [], "attnbench": run}))
    with pytest.raises(Unreadable, match=r"names launch '.*', which the file does not hold"):
        load_document(path)


LIKE = "torch_flash@eager-flux-256px-t128 0123456789ab"


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([{"like": 7}], "its record 1 is the difference from 7, which does not come before it"),
        ([{"like": "x y"}], 'its record 1 is the difference from "x y", which does not come before it'),
        ([{"like": "b a", "case": "a", "launch": "a"}, {"like": "a a", "case": "b"}], 'from "b a", which does not'),
        ([{"like": LIKE, "workload": {"seq": 0}, "case": "x"}], "x has seq 0, expected at least 1"),
        ([{"like": LIKE, "launch": "x"}], "names launch 'x', which the file does not hold"),
        ([{"like": LIKE, "sample": None}], "'measured' needs a sample"),
    ],
)
def test_a_difference_that_cannot_be_expanded_is_refused(store, run_file, record, records, said):
    run = to_plain(run_file(record()))
    run["records"] = [*run["records"], *records]
    path = store("0001_a.json", content=json.dumps({"machine_info": {}, "benchmarks": [], "attnbench": run}))
    with pytest.raises(Unreadable, match=f"^{path} cannot be used: .*{said}") as refused:
        load_document(path)
    assert "\n" not in str(refused.value)


# Folders


def test_a_reviewed_session_with_another_name_is_passed_over_and_said(folder, store):
    store(f"{SLUG}/session.json")
    comparison = find_comparison_file(folder, GPU)
    assert comparison.path is None
    assert comparison.messages[0].startswith(f"skipped: {folder}/{SLUG}/session.json is not read: ")


@pytest.mark.parametrize("name", ["", MACHINE, SLUG], ids=["baselines", "own", "reviewed"])
def test_a_folder_that_is_none_is_passed_over_and_said(folder, store, name):
    whole = store(f"{SLUG if name == MACHINE else MACHINE}/0001_whole.json") if name else None
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to("nowhere")
    comparison = find_comparison_file(folder, GPU)
    assert comparison.path == whole
    passed_over = [said for said in comparison.messages if "skipped: " in said]
    assert all("cannot be listed: No such file or directory" in said for said in passed_over)
    assert passed_over


def test_a_pattern_finds_what_pytest_benchmark_would_load(folder, store):
    mine, theirs = store(f"{MACHINE}/0003_a.json"), store(f"{SLUG}/0003_b.json")
    loose = store("0003_loose.json")
    assert matching(folder, MACHINE, "0003") == sorted([mine, loose])
    assert matching(folder, MACHINE, f"{SLUG}/0003") == sorted([theirs, loose])
    assert matching(folder, MACHINE, "0004*") == []
    assert matching(folder, MACHINE, str(theirs)) == [theirs]
    assert matching(folder, MACHINE, "a/b/0003") == []
