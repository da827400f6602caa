"""A session is small, says what its run said, and is read by pytest-benchmark's own commands."""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pytest_benchmark import cli

from attnbench.codec import json_schema, rounded, run_from, to_digits
from attnbench.model import Check, DeviceOp, ErrorMetrics, Record
from attnbench.stats import trimmed_mean
from attnbench.storage.benchmark_json import load_document
from attnbench.storage.sessions import write_session

#: Of a round its seconds, its clock and its cycles; of a record all else, with its share of its case's benchmark. On GPUs,
#: where some cases run a dozen kernels, 282 cases in three launches of 30 rounds come to 2 MB of the 3 MB they may have.
BYTES_PER_ROUND, BYTES_PER_RECORD = 36, 700
LAUNCHES = 3


#: What the run stored, so that its launches start once.
_RUN: list[str] = []


@pytest.fixture
def launched(sim: Any) -> dict[str, Any]:
    """What a run of every simulated case in three launches stored in run.json."""
    if not _RUN:
        options = ("--benchmark-only", f"--attn-launches={LAUNCHES}", "--benchmark-json=run.json")
        assert sim(*options, "-o", "attn_baselines=", "--benchmark-storage=file://.").ret == 0
        _RUN.append(Path("run.json").read_text())
    Path("run.json").write_text(_RUN[0])
    return sim.stored()


@pytest.fixture
def session(launched: dict[str, Any]) -> Path:
    """The session that is made of it."""
    return write_session(Path("baselines"), run_from(launched), launched)


def test_a_session_holds_what_its_run_does_in_half_of_the_bytes(session: Path, launched: dict[str, Any]) -> None:
    run = run_from(launched)
    assert len(run.records) == LAUNCHES * len(launched["benchmarks"]) == LAUNCHES * 15
    document = load_document(session, need_measurements=True)
    assert run_from(document) == run
    jsonschema.Draft202012Validator(json.loads(json_schema())).validate(document["attnbench"])
    assert [set(entry["stats"]) for entry in launched["benchmarks"]] == [
        {*entry["stats"], "data"} for entry in document["benchmarks"]
    ]
    assert session.stat().st_size < 0.45 * Path("run.json").stat().st_size
    assert len(session.read_text().splitlines()) < LAUNCHES * 15 + 15 + 25


def test_a_session_as_a_gpu_gives_it_is_small(launched: dict[str, Any]) -> None:
    """The simulated records, with what an H100's have beyond: cycles, clocks, three checks, kernels with long names."""
    run = run_from(launched)
    full = dataclasses.replace(run, records=tuple(_as_on_a_gpu(at, record) for at, record in enumerate(run.records)))
    path = write_session(Path("full"), full, launched)
    assert run_from(load_document(path)) == full
    rounds = sum(len(record.sample.rounds_s) for record in full.records if record.sample is not None)
    assert path.stat().st_size < BYTES_PER_RECORD * len(full.records) + BYTES_PER_ROUND * rounds


def _as_on_a_gpu(at: int, record: Record) -> Record:
    assert record.sample is not None
    third, launch = 1 / (3 + at // LAUNCHES), at % LAUNCHES

    def error(of: float) -> ErrorMetrics:
        return ErrorMetrics(*[of] * 5, 1 - 1e-6 * of, 0, (0, 1234, 12, 34), of, of)

    checks = [
        Check(name, error(third), error(1 / 7), error(1 / 9), {"max_abs": 1.0, "rel_l2": 2 / 3}, "all", poisoned=True)
        for name in ("randn*randint(1,5)", "randn", "outlier-k")
    ]
    route = [
        DeviceOp(
            f"{'void flash::kernel<a_long_list_of_traits>':_<240}{which}", 1, (66, 1, 24), (128, 1, 1), 255, 65536, s
        )
        for which, s in enumerate((third + launch * 1e-4, third - launch * 1e-4))
    ]
    hz = [1.98e9 + 1e6 * third * round_s for round_s in range(30)]
    cycles = [int(round_s * 2e12) for round_s in record.sample.rounds_s]
    sample = dataclasses.replace(
        record.sample,
        before_hz=tuple(hz),
        cycles=tuple(cycles),
        ceiling_hz=hz[0],
        waited_s=third + launch,
        empty_s=third,
    )
    return rounded(dataclasses.replace(record, checks=tuple(checks), route=tuple(route), kernel_s=third, sample=sample))


def test_what_pytest_benchmark_shows_and_stores_is_of_the_rounds_that_are_stored(launched: dict[str, Any]) -> None:
    records: dict[str, list[Any]] = {}
    for record in launched["attnbench"]["records"]:
        records.setdefault(record["case"], []).extend(record["sample"]["rounds_s"])
    for entry in launched["benchmarks"]:
        rounds_s = records[entry["extra_info"]["case"]]
        assert entry["stats"]["data"] == rounds_s
        assert entry["stats"]["median"] == statistics.median(rounds_s)
        assert all(round_s == float(f"{round_s:.7g}") for round_s in rounds_s)
    assert to_digits(launched["attnbench"]["records"]) == launched["attnbench"]["records"]


def test_a_session_is_reported_as_its_run_is(session: Path) -> None:
    shown = [
        subprocess.run(
            [sys.executable, "-m", "attnbench", "report", path], capture_output=True, timeout=60, check=True
        ).stdout
        for path in ("run.json", str(session))
    ]
    assert shown[0] == shown[1] != b""


def test_a_verdict_stands_in_the_file_as_the_same_rounds_give_it(sim: Any, session: Path) -> None:
    options = ("--benchmark-only", "--attn-backend=torch_math", "--attn-mode=eager", "--attn-relaunch=0")
    sim(*options, "--benchmark-json=now.json")
    [verdict] = sim.stored("now.json")["attnbench"]["verdicts"]
    [record] = run_from(sim.stored("now.json")).records
    assert verdict["compared_with"] == [f"simulated-device/{session.name}"]
    assert record.sample is not None
    assert sim.stored("now.json")["benchmarks"][0]["stats"]["data"] == list(record.sample.rounds_s)
    assert verdict["measured_s"] == pytest.approx(trimmed_mean(record.sample.rounds_s), rel=1e-12)


def compared(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `pytest-benchmark ARGUMENTS` prints."""
    monkeypatch.setattr("sys.argv", ["pytest-benchmark", "--storage=file://baselines", *arguments])
    capsys.readouterr()
    cli.main()
    return capsys.readouterr().out


def test_the_commands_of_pytest_benchmark_read_a_session(
    session: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert str(session) in compared(monkeypatch, capsys, "list")
    columns = "min,max,mean,stddev,median,iqr,outliers,ops,rounds,iterations"
    options = ("--group-by=param:attn_variant", f"--columns={columns}", "--csv=table.csv")
    table = compared(monkeypatch, capsys, "compare", str(session), "run.json", *options)
    assert table.count("2 tests ---") == 15
    header, *rows = Path("table.csv").read_text().splitlines()
    assert header == f"name,param:attn_variant,param:attn_workload,{columns}"
    assert len(rows) == 30
    figures = [[float(cell) for cell in row.split(",")[-6:] if ";" not in cell] for row in rows]
    for one, other in zip(figures[::2], figures[1::2], strict=True):
        assert one == pytest.approx(other, rel=1e-6)
    between = compared(monkeypatch, capsys, "compare", str(session), "run.json", "--between=min,median", "-k", "numpy")
    assert "ΔMedian" in between


def test_a_run_is_compared_with_a_session_by_case_and_fails_where_it_is_slower(
    sim: Any, session: Path, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(test_other="from attnbench.suite import test_attention\n")
    options = ("--benchmark-only", "test_other.py", "--attn-backend=numpy", "-o", "attn_baselines=")
    compare = (f"--benchmark-compare={session}", "--benchmark-compare-fail=median:5%", "--benchmark-columns=median")
    result = sim(*options, *compare)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [f"compared by case with {session}: 1 of 1 selected case; 14 stored cases not selected *"]
    )
    assert sim(*options, *compare, "--attn-sim=numpy:+20%").ret == pytest.ExitCode.TESTS_FAILED


def test_a_workload_that_a_session_holds_with_another_shape_is_not_compared(sim: Any, session: Path) -> None:
    """Its record is a difference, in which the workload does not stand."""
    document = json.loads(session.read_text())
    records = document["attnbench"]["records"]
    [at] = [at for at, one in enumerate(records) if one.get("case") == "numpy@eager-flux-256px-t128"]
    assert "workload" not in records[at]
    records[0]["workload"]["seq"] += 1
    session.write_text(json.dumps(document))
    result = sim("--benchmark-only", "--attn-backend=numpy", "-o", "attn_baselines=", f"--benchmark-compare={session}")
    result.stdout.fnmatch_lines([f"not compared: {session} has this workload with another shape, *"])
