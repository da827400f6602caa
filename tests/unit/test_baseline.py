"""The folder of stored runs: what a bare comparison is made with, and what is said about the rest."""

import itertools
import json

import pytest

from attnbench.baseline import choose, load_document, matching
from attnbench.records import Unreadable

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

    choice = choose(folder, GPU)

    said = "\n".join(choice.said)
    assert choice.path == (own_path if own == "fits" else reviewed_path)
    assert said.count("passed over: ") == 2 * damaged
    assert ("passed over saves of other devices: 1 of NVIDIA A100" in said) == (own == "another device")
    if choice.path is None:
        assert f"nothing to compare with for {GPU} in {folder}" in choice.said[-1]
        assert "--benchmark-save=NAME" in choice.said[-1]
    elif own == "fits":
        assert f"your newest save baselines/{MACHINE}/0001_mine.json" in choice.said[-1]
        assert (f"newest whole reviewed session: baselines/{SLUG}/0001_abc.json" in choice.said[-1]) == reviewed
    else:
        assert f"the newest whole reviewed session baselines/{SLUG}/0001_abc.json" in choice.said[-1]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_file_is_passed_over_and_named(folder, store, damage):
    whole = store(f"{MACHINE}/0001_whole.json")
    broken = store(f"{MACHINE}/0002_broken.json", content=DAMAGE[damage])
    choice = choose(folder, GPU)
    assert choice.path == whole
    assert [str(broken) in sentence for sentence in choice.said] == [True, False]


def test_a_reviewed_session_of_a_few_cases_is_passed_over_and_named(folder, store):
    store(f"{SLUG}/0001_old.json", cases=100)
    whole = store(f"{SLUG}/0002_whole.json", cases=50)
    store(f"{SLUG}/0003_added.json", cases=49)
    store(f"{SLUG}/0004_added.json", cases=6)
    choice = choose(folder, GPU)
    assert choice.path == whole, "an older one that is fuller still is no reason to take that"
    added = f"baselines/{SLUG}/0004_added.json, baselines/{SLUG}/0003_added.json"
    assert choice.said[0] == f"passed over, with fewer than half of the cases of the fullest session: {added}"
    store(f"{MACHINE}/0001_mine.json")
    beside = f"newest whole reviewed session: baselines/{SLUG}/0002_whole.json"
    assert choose(folder, GPU).said == (
        f"comparing with your newest save baselines/{MACHINE}/0001_mine.json; {beside}",
    )


def test_an_own_save_is_taken_however_few_cases_it_has(folder, store):
    store(f"{MACHINE}/0001_all.json", cases=100)
    few = store(f"{MACHINE}/0002_few.json", cases=2)
    assert choose(folder, GPU).path == few


def test_an_older_damaged_file_is_nobodys_business(folder, store):
    store(f"{MACHINE}/0001_broken.json", content="")
    store(f"{MACHINE}/0002_whole.json")
    assert choose(folder, GPU).said == (f"comparing with your newest save baselines/{MACHINE}/0002_whole.json",)


def test_many_saves_of_other_devices_are_one_sentence(folder, store):
    for number in range(1, 8):
        store(f"{MACHINE}/{number:04}_a.json", "a CPU" if number % 2 else "NVIDIA A100")
    assert choose(folder, GPU).said[0] == "passed over saves of other devices: 4 of a CPU, 3 of NVIDIA A100"


def test_numbers_decide_within_a_folder_and_count_as_numbers(folder, store):
    for number in ("0002", "10000", "9999"):
        store(f"{MACHINE}/{number}_a.json")
    assert choose(folder, GPU).path == folder / MACHINE / "10000_a.json"


def test_dates_decide_between_the_folders_of_two_pythons(folder, store):
    store(f"{MACHINE}/0005_old.json", saved_at="2025-03-01T10:00:00+00:00")
    new = store(f"{OTHER_PYTHON}/0001_new.json", saved_at="2026-03-01T10:00:00+00:00")
    assert choose(folder, GPU).path == new


def test_files_that_are_no_numbered_run_are_not_looked_at(folder, store):
    for name in (f"{MACHINE}/notes.json", f"{MACHINE}/1_a.json", "0001_loose.json", "some-folder/0001_a.json"):
        store(name, content="not JSON")
    (folder / MACHINE / "0001_a.json.before").write_text("")
    choice = choose(folder, GPU)
    assert choice.path is None
    assert len(choice.said) == 1


def test_a_folder_that_is_not_there_is_nothing_to_compare_with(folder):
    assert choose(folder, GPU).path is None
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


def test_a_pattern_finds_what_pytest_benchmark_would_load(folder, store):
    mine, theirs = store(f"{MACHINE}/0003_a.json"), store(f"{SLUG}/0003_b.json")
    loose = store("0003_loose.json")
    assert matching(folder, MACHINE, "0003") == sorted([mine, loose])
    assert matching(folder, MACHINE, f"{SLUG}/0003") == sorted([theirs, loose])
    assert matching(folder, MACHINE, "0004*") == []
    assert matching(folder, MACHINE, str(theirs)) == [theirs]
    assert matching(folder, MACHINE, "a/b/0003") == []
