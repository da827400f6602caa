"""Stored sessions: which fit, which are refused, and where a new one goes."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from attnbench.codec import Unreadable, compact, to_plain
from attnbench.model import Compilation, DeviceOp, Fingerprint, Launch, Sample
from attnbench.storage.folders import Unlisted, numbered
from attnbench.storage.sessions import load_baseline, refusal, refusals, write_session
from attnbench.verdicts.noise import ASSUMED, noise_model_of
from attnbench.verdicts.summary import CYCLES, SECONDS
from attnbench.workload import Workload

DEVICE = "NVIDIA H200"
ROUNDS = tuple(1e-3 + 1e-6 * i for i in range(30))


def launch(name="a", unit="u", **key):
    return Launch(name, "2026-01-02T03:04:05+00:00", Fingerprint({"device": DEVICE, **key}, {"unit": unit}))


BOTH = (launch("a"), launch("b"))


@pytest.fixture
def session(run_file, record):
    """`session(launches, *further records, field=value …)`: one case measured in each of the launches."""

    def make(launches=BOTH, *further, **changes):
        measured = [record(launch=one.id, sample=Sample(ROUNDS, "t")) for one in launches]
        return run_file(*measured, *further, launches=launches, **changes)

    return make


def document(run):
    return {"machine_info": {}, "benchmarks": [], "attnbench": to_plain(run)}


@pytest.fixture
def store(tmp_path):
    """`store("0001_a.json", run or text)` writes it among the sessions of the device."""

    def write(name, content):
        path = tmp_path / "nvidia-h200" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(document(content)))
        return path

    return write


# SampleSummary


@pytest.mark.parametrize("folder", ["", "none"])
def test_a_folder_without_sessions_is_an_empty_baseline(tmp_path, folder):
    baseline = load_baseline(tmp_path / folder, launch(), DEVICE)
    assert (baseline.sessions, baseline.unfit, baseline.records) == ((), (), {})


def test_sessions_are_read_by_their_numbers_and_named_below_the_folder(tmp_path, store, session, record):
    for number, name in enumerate(("0010_a.json", "0002_b.json", "10000_c.json")):
        store(name, session((launch(f"a{number}"), launch(f"b{number}"))))
    baseline = load_baseline(tmp_path, launch(), DEVICE)
    assert [one.name for one in baseline.sessions] == [
        f"nvidia-h200/{name}" for name in ("0002_b.json", "0010_a.json", "10000_c.json")
    ]
    assert len(baseline.records[record().case]) == 6
    assert [session for session, _ in baseline.records[record().case]][::2] == list(baseline.sessions)


def test_only_numbered_files_are_sessions(tmp_path, store, session):
    path = store("0001_a.json", session())
    for name in ("README.md", "notes.txt", ".0001_a.json.new", "0001_a.json.orig", "0001_a.json~", "#0001_a.json#"):
        store(name, "no session")
    assert numbered(path.parent) == [path]
    assert len(load_baseline(tmp_path, launch(), DEVICE).sessions) == 1


@pytest.mark.parametrize(
    ("name", "proposed"),
    [
        ("session.json", "Rename it (0002_session.json)"),
        ("1_short.json", "Rename it (0002_short.json)"),
        ("0003_b.JSON", "Rename it (0002_b.json)"),
        ("0003_b.json.gz", "Unpack it (0002_b.json)"),
        ("0003_b.json.ZST", "Unpack it (0002_b.json)"),
        ("0003_b.json~", "Rename it (0002_b.json)"),
        ("0003.json", "Rename it (0002_0003.json)"),
    ],
)
def test_a_file_that_looks_like_a_session_and_is_not_named_as_one_is_an_error(tmp_path, store, session, name, proposed):
    store("0001_a.json", session())
    path = store(name, session())
    with pytest.raises(Unlisted) as refused:
        load_baseline(tmp_path, launch(), DEVICE)
    assert str(refused.value) == (
        f"{path} is not read: sessions are named NNNN_NAME.json. {proposed}, or move it out of this folder"
    )


def test_a_session_beside_the_folders_of_the_devices_is_an_error(tmp_path, store, session):
    stored = store("0001_a.json", session())
    loose = tmp_path / "0002_b.json"
    stored.rename(loose)
    with pytest.raises(Unlisted) as refused:
        load_baseline(tmp_path, launch(), DEVICE)
    assert str(refused.value) == (
        f"{loose} is not read: sessions belong in the folder of their device. Move it there "
        f"({tmp_path.name}/{stored.parent.name}/0002_b.json for {DEVICE}), or out of {tmp_path}"
    )


@pytest.mark.parametrize("name", ["run.json", "README.md", "0001_notes.txt"])
def test_what_is_no_numbered_run_may_lie_beside_the_folders(tmp_path, store, session, name):
    store("0001_a.json", session())
    (tmp_path / name).write_text("{}")
    assert len(load_baseline(tmp_path, launch(), DEVICE).sessions) == 1


def test_a_folder_of_sessions_that_is_spelt_in_another_way_is_an_error(tmp_path, store, session):
    store("0001_a.json", session()).parent.rename(tmp_path / "NVIDIA_H200")
    with pytest.raises(
        Unlisted, match=r"NVIDIA_H200 is not read: sessions of .* belong in nvidia-h200\. Rename the folder$"
    ):
        load_baseline(tmp_path, launch(), DEVICE)


@pytest.mark.parametrize("where", ["", "nvidia-h200"], ids=["baselines", "of the device"])
@pytest.mark.parametrize("kind", ["file", "dangling link", "link to itself"])
def test_a_folder_of_sessions_that_is_no_folder_is_an_error(tmp_path, where, kind):
    place = tmp_path / "baselines" / where
    place.parent.mkdir(exist_ok=True)
    if kind == "file":
        place.write_text("a file")
    else:
        place.symlink_to("nowhere" if kind == "dangling link" else place)
    with pytest.raises(Unlisted, match=r"cannot be listed: (Not a directory|No such file|Too many levels)"):
        load_baseline(tmp_path / "baselines", launch(), DEVICE)


@pytest.mark.parametrize("kind", ["directory", "fifo", "dangling link"])
def test_a_session_that_is_no_regular_file_is_an_error(tmp_path, store, session, kind):
    path = store("0001_a.json", session()).with_name("0002_b.json")
    {"directory": path.mkdir, "fifo": lambda: os.mkfifo(path), "dangling link": lambda: path.symlink_to("no")}[kind]()
    with pytest.raises(Unreadable, match=r"0002_b\.json cannot be read: (Is a directory|it is a FIFO|No such file)"):
        load_baseline(tmp_path, launch(), DEVICE)


def test_a_record_that_is_repeated_counts_once(tmp_path, store, session):
    run = session()
    store("0001_a.json", replace(run, records=run.records * 3, launches=run.launches * 2))
    (stored,) = load_baseline(tmp_path, launch(), DEVICE).sessions
    assert stored.run == run


def test_two_records_of_one_case_in_one_launch_that_differ_are_an_error(tmp_path, store, session, record):
    other = record(launch="a", sample=Sample(ROUNDS[1:], "t"))
    path = store("0001_a.json", session(BOTH, other))
    with pytest.raises(
        Unreadable, match=rf"{path} cannot be used: two of its records are of .* in launch 'a', with different contents"
    ):
        load_baseline(tmp_path, launch(), DEVICE)


def test_another_devices_sessions_are_not_read(tmp_path, store, session):
    store("0001_a.json", session())
    assert load_baseline(tmp_path, launch(), "NVIDIA H100 80GB HBM3").sessions == ()


@pytest.mark.parametrize("of", [0, 1], ids=["the first launch", "a later launch"])
def test_a_session_of_another_set_up_is_kept_apart_with_what_differs(tmp_path, store, session, of):
    launches = [launch("a", power_limit_w=700), launch("b", power_limit_w=700)]
    launches[of] = launch("c", power_limit_w=650)
    store("0001_a.json", session(tuple(launches)))
    store("0002_b.json", session((launch("d", power_limit_w=700), launch("e", power_limit_w=700))))
    baseline = load_baseline(tmp_path, launch("now", power_limit_w=700), DEVICE)
    assert [one.name for one in baseline.sessions] == ["nvidia-h200/0002_b.json"]
    ((unfit, differing),) = baseline.unfit
    assert (unfit.name, differing) == ("nvidia-h200/0001_a.json", ("power_limit_w 700 here, 650 there",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not JSON"),
        ('{"benchmarks": [', "it is damaged or was cut off"),
        ("[]", "not from pytest-benchmark"),
        ('{"machine_info": {}, "benchmarks": []}', r"0002_b\.json was not written by an attnbench run"),
        ('{"machine_info": {}, "benchmarks": [], "attnbench": {"schema": 99}}', "its attnbench schema is 99"),
    ],
)
def test_a_session_that_cannot_be_read_is_said_and_not_left_out(tmp_path, store, session, content, said):
    store("0001_a.json", session())
    store("0002_b.json", content)
    with pytest.raises(Unreadable, match=said):
        load_baseline(tmp_path, launch(), DEVICE)


def test_what_the_sessions_scatter_by_is_pooled_over_their_cases(tmp_path, store, run_file, record):
    samples = {"a": Sample(ROUNDS, "t"), "b": Sample(tuple(1.05 * round_s for round_s in ROUNDS), "t")}
    records = [record(launch=name, sample=sample) for name, sample in samples.items()]
    store("0001_a.json", run_file(*records, launches=BOTH))
    found = noise_model_of(load_baseline(tmp_path, launch(), DEVICE))
    assert found.sd("pytorch", SECONDS).launch > 0.01
    assert found.sd("pytorch", CYCLES) == ASSUMED[CYCLES]  # of cycles nothing is stored


def test_other_inputs_are_another_case_to_the_scatter(tmp_path, store, run_file, record):
    for number, sha in ((1, "x"), (2, "y")):
        sample = Sample(tuple(number * round_s for round_s in ROUNDS), "t")
        launches = (launch(f"a{number}"), launch(f"b{number}"))
        records = [record(launch=one.id, sample=sample, input_sha256=sha) for one in launches]
        store(f"000{number}_a.json", run_file(*records, launches=launches))
    assert (
        noise_model_of(load_baseline(tmp_path, launch(), DEVICE)).sd("pytorch", SECONDS).launch
        <= ASSUMED[SECONDS].launch
    )


def test_a_name_that_stood_for_another_problem_is_another_case_to_the_scatter(tmp_path, store, run_file, record):
    def freedom(*lengths):
        for number, keys in enumerate(lengths, 1):
            workload = Workload("mine", 1, 384, 24, 128, mask="padding", lengths=(keys,))
            sample = Sample(tuple(keys * round_s for round_s in ROUNDS), "t")
            one = launch(f"a{number}")
            stored = record("b@eager", workload, launch=one.id, sample=sample, input_sha256="x")
            store(f"000{number}_a.json", run_file(stored, launches=(one,)))
        return noise_model_of(load_baseline(tmp_path, launch(), DEVICE)).sd("pytorch", SECONDS).session.seen_in.freedom

    assert freedom(384, 384) > 0
    assert freedom(384, 100) == 0


def test_other_autotune_choices_are_another_case_to_the_scatter(tmp_path, store, run_file, record):
    launches = tuple(launch(name) for name in "abcd")
    records = [
        record(
            launch=one.id,
            sample=Sample(tuple((1 + number // 2) * round_s for round_s in ROUNDS), "t"),
            compilation=Compilation(1, choices=(f"triton_red_0: R0_BLOCK={number // 2}", f"triton_poi_1: X={number}")),
            route=(DeviceOp("triton_red_0", duration_s=1e-3), DeviceOp("triton_poi_1", duration_s=5e-6)),
        )
        for number, one in enumerate(launches)
    ]
    store("0001_a.json", run_file(*records, launches=launches))
    assert (
        noise_model_of(load_baseline(tmp_path, launch(), DEVICE)).sd("pytorch", SECONDS).launch
        <= ASSUMED[SECONDS].launch
    )


# A launch counts once


def test_a_copied_session_counts_once_and_is_named(tmp_path, store, session, record):
    for number in range(1, 6):
        store(f"000{number}_copy.json", session())
    baseline = load_baseline(tmp_path, launch(), DEVICE)
    assert len(baseline.records[record().case]) == 2
    assert {one.name for one, _ in baseline.records[record().case]} == {"nvidia-h200/0001_copy.json"}
    assert (
        baseline.repeated[0]
        == "nvidia-h200/0002_copy.json holds the launches of nvidia-h200/0001_copy.json: each counts once"
    )
    assert len(baseline.repeated) == 4
    store("0006_other.json", session((launch("c"), launch("d"))))
    more = load_baseline(tmp_path, launch(), DEVICE)
    assert (len(more.records[record().case]), len(more.repeated)) == (4, 4)


def test_a_record_that_a_file_repeats_counts_once(tmp_path, store, session, record):
    again = record(launch="a", sample=Sample(ROUNDS, "t"))
    store("0001_a.json", session(BOTH, again, again))
    assert len(load_baseline(tmp_path, launch(), DEVICE).records[record().case]) == 2


def test_two_tests_of_one_case_are_one_launch(tmp_path, store, session, record):
    other = [record(launch=one.id, sample=Sample((2e-3,) * 30, "t"), nodeid="test_copy.py::test") for one in BOTH]
    store("0001_a.json", session(BOTH, *other))
    stored = load_baseline(tmp_path, launch(), DEVICE).records[record().case]
    assert [(one.launch, one.nodeid) for _, one in stored] == [("a", ""), ("b", "")]


@pytest.mark.parametrize("kind", ["rounds", "status", "launch"])
@pytest.mark.parametrize("where", ["in one file", "in two"])
def test_other_contents_under_the_id_of_a_launch_are_refused_with_the_files(
    tmp_path, store, session, record, kind, where
):
    launches, changed = BOTH, record(launch="a", sample=Sample((9e-3,) * 30, "t"))
    if kind == "status":
        changed = record(launch="a", status="error")
    if kind == "launch":
        launches, changed = (launch("a", unit="another"), BOTH[1]), record(launch="a", sample=Sample(ROUNDS, "t"))
    if where == "in one file":
        store("0001_a.json", replace(session(BOTH, changed), launches=(*BOTH, *launches)))
        said = r"0001_a\.json cannot be used: two of its (launches|records) .*, with different contents"
    else:
        store("0001_a.json", session())
        store("0002_b.json", replace(session((launch("c"),), changed), launches=(*launches, launch("c"))))
        said = r"0001_a\.json and .*0002_b\.json both hold the launch a.*, with different contents"
    with pytest.raises(Unreadable, match=said):
        load_baseline(tmp_path, launch(), DEVICE)


# Refusing


def test_two_launches_of_one_set_up_that_measured_something_are_a_session(session):
    assert refusals(session()) == []


def test_what_cannot_run_here_does_not_stop_a_session(session, record):
    assert refusals(session(BOTH, record("b@eager", status="unsupported", launch="a"))) == []


def test_a_run_that_measured_nothing_is_refused(run_file, record):
    assert refusals(run_file(record(status="unsupported"))) == ["no case was measured, expected at least one"]
    assert refusals(run_file()) == ["no case was measured, expected at least one"]


def test_one_launch_is_refused(session):
    assert refusals(session((launch("a"),))) == [
        "1 launch, expected at least 2 to know how launches differ",
    ]


def test_one_launch_of_each_case_is_refused_though_they_are_several_processes(run_file, record):
    measured = [record(f"{name}@eager", launch=name, sample=Sample(ROUNDS, "t")) for name in "ab"]
    one = "1 launch, expected at least 2 to know how launches differ"
    assert refusals(run_file(*measured, launches=BOTH)) == [one]
    also = record("a@eager", launch="b", sample=Sample(ROUNDS, "t"))
    assert refusals(run_file(*measured, also, launches=BOTH)) == [f"{one}: {measured[1].case}"]


def test_a_run_that_ended_early_is_refused(session):
    assert refusals(session(interrupted="interrupted (Ctrl-C)")) == ["the run ended early: interrupted (Ctrl-C)"]


@pytest.mark.parametrize("status", ["error", "incorrect"])
def test_a_failed_case_is_refused_with_its_reason(session, record, status):
    failed = record("b@eager", status=status, launch="a")
    assert refusals(session(BOTH, failed)) == [f"{failed.case} is {status}: because it is {status}"]


def test_cases_that_were_slowed_down_on_purpose_are_refused(session, record):
    slow = [record("b@eager", launch=name, sample=Sample(ROUNDS, "t"), injected=0.02) for name in "ab"]
    assert refusals(session(BOTH, *slow)) == [
        f"slowed down on purpose (--attn-inject): {slow[0].case}",
    ]


def test_a_session_of_the_host_clock_is_refused(session, record):
    on_cpu = [record("b@eager", launch=name, sample=Sample(ROUNDS, "perf_counter")) for name in "ab"]
    (said,) = refusals(session(BOTH, *on_cpu))
    assert "CPU timings cannot be a baseline" in said


def test_rounds_below_the_ceiling_count_only_where_the_call_lowers_it(session, record):
    sample = Sample(ROUNDS, "t", unsettled=2)
    settled = record("b@eager", launch="b", sample=Sample(ROUNDS, "t"))
    (said,) = refusals(session(BOTH, settled, record("b@eager", launch="a", sample=sample)))
    assert said.startswith("b@eager-flux-256px-t128 is unsettled: 2 of 30 rounds started below the clock's ceiling")
    long = record("b@eager", launch="a", sample=replace(sample, self_throttled=True))
    assert refusals(session(BOTH, settled, long)) == []


def test_launches_of_different_set_ups_are_refused(session):
    launches = (launch("a", sm_count=132), launch("b", sm_count=114))
    assert refusals(session(launches)) == ["the launches ran on different set-ups: sm_count 132 here, 114 there"]


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, True),
        ({"sample": Sample(ROUNDS, "cuda_event", unsettled=2)}, False),
        ({"sample": Sample(ROUNDS, "cuda_event", unsettled=2, self_throttled=True)}, True),
        ({"sample": Sample(ROUNDS, "perf_counter")}, False),
        ({"injected": 0.01}, False),
        ({"status": "error"}, False),
        ({"status": "incorrect"}, False),
        ({"status": "unsupported"}, True),
    ],
)
def test_a_record_that_a_session_may_not_hold_is_known_by_itself(record, fields, kept):
    given = fields if "status" in fields else {"sample": Sample(ROUNDS, "cuda_event"), **fields}
    assert (refusal(record("b@eager", **given)) is None) is kept


def test_every_reason_is_said(session, record):
    assert len(refusals(session((launch("a"),), record("b@eager", status="error"), interrupted="why"))) == 3


# Writing


def write(folder, run):
    return write_session(folder, run, document(run))


def test_sessions_are_numbered_from_one_and_never_twice(tmp_path, session):
    first = write(tmp_path, session())
    assert first == tmp_path / "nvidia-h200" / "0001_a.json"
    assert write(tmp_path, session()).name == "0002_a.json"
    (first.parent / "0007_kept-by-hand.json").write_text("")
    assert write(tmp_path, session()).name == "0008_a.json"
    (first.parent / "12345_many.json").write_text("")
    assert write(tmp_path, session()).name == "12346_a.json"


def test_a_device_that_could_not_be_named_has_a_folder_too(tmp_path, session):
    unknown = (replace(launch("a"), fingerprint=Fingerprint({"device": None}, {})),)
    assert write(tmp_path, session(unknown)) == tmp_path / "unknown" / "0001_a.json"


def test_what_is_written_is_read_again_and_nothing_lies_beside_it(tmp_path, session):
    path = write(tmp_path, session())
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    (stored,) = load_baseline(tmp_path, launch(), DEVICE).sessions
    assert stored.run == session()


def test_a_session_has_a_line_for_each_part_and_each_round_once(tmp_path, session):
    stats = {"min": 1 / 3000, "rounds": 2, "outliers": "0;0", "data": [1 / 3000, 1 / 3000]}
    entries = [{"fullname": name, "params": {"µs": None}, "stats": stats} for name in ("a", "b")]
    run = session()
    path = write_session(tmp_path, run, {**document(run), "benchmarks": entries, "empty": []})
    lines = path.read_text().splitlines()
    rest = '"params":{"\\u00b5s":null},"stats":{"min":0.0003333333,"rounds":2,"outliers":"0;0"}}'
    at = lines.index('"benchmarks": [')
    assert lines[at + 1 : at + 4] == [f'{{"fullname":"a",{rest},', f'{{"fullname":"b",{rest}', "],"]
    assert [line for line in lines if line.startswith(" ")] == []
    at = lines.index('"records": [')
    assert [line.rstrip(",") for line in lines[at + 1 : at + 1 + len(run.records)]] == [
        json.dumps(record, separators=(",", ":")) for record in compact(run)["records"]
    ]
    assert '"empty": []' in path.read_text()


def test_a_session_that_is_no_json_is_not_written(tmp_path, session):
    with pytest.raises(TypeError):
        write_session(tmp_path, session(), {**document(session()), "cut off": object()})
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_no_folder_is_an_error_of_the_system(tmp_path, session):
    (tmp_path / "nvidia-h200").write_text("a file")
    with pytest.raises(OSError, match=r"exists|Not a directory"):
        write(tmp_path, session())
    assert (tmp_path / "nvidia-h200").read_text() == "a file"
