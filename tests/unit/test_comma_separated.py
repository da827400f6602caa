"""The CSV of all records: kernels-benchmarks' columns first, then ours."""

import csv
import io
import math
import re
from pathlib import Path

import pytest

from attnbench.model import Fingerprint, Launch, Reason, Sample, Verdict, VerdictKind
from attnbench.report import kbt
from attnbench.report.comma_separated import table
from attnbench.report.gather import Gathered, GatheredRun, Kind, key_of
from attnbench.workload import Workload

#: The header of kernels-benchmarks' combined latency.csv.
THEIRS = [
    "Implementation",
    "Impl ID",
    "Workload",
    "Batch",
    "Seq Length",
    "Heads",
    "Head Dim",
    "Dtype",
    "Mean (ms)",
    "P10 (ms)",
    "P50 (ms)",
    "P90 (ms)",
    "Reps",
    "Peak Mem (MB)",
    "Backend",
    "Family",
]


def gathered(run, **changes):
    return Gathered((GatheredRun("run.json", Kind.RUN, run),), **changes)


def rows(found):
    return list(csv.DictReader(io.StringIO(table(found))))


def test_their_columns_come_first_in_their_order(run_file, record):
    header = next(csv.reader(io.StringIO(table(gathered(run_file(record()))))))
    assert header[: len(THEIRS)] == THEIRS
    assert len(set(header)) == len(header)


def test_the_document_names_the_columns_in_their_order(run_file, record):
    page = (Path(__file__).parents[2] / "docs/formats.md").read_text().partition("## CSV")[2].partition("\n## ")[0]
    header = next(csv.reader(io.StringIO(table(gathered(run_file(record()))))))
    named = re.findall(r"`([A-Z][^`]*)`", page.replace("\n", " "))
    assert list(dict.fromkeys(named)) == header


def test_the_row_of_a_measured_record(run_file, record, check):
    launch = Launch(
        "0123456789ab",
        "2026-01-02T03:04:05+00:00",
        Fingerprint({"device": "NVIDIA H200"}, {"torch": "2.11.0", "driver": "580.1"}),
    )
    times = tuple(n * 1e-3 for n in (4, 1, 3, 2, 5))
    mine = record(
        "torch_cudnn@max-autotune",
        sample=Sample(times, "t", host_s=5e-6),
        checks=(check({}, max_abs=0.5, mean_abs=0.25, mse=0.125, rel_l2=0.002, cosine=0.999),),
        first_call_s=0.25,
        kernel_s=0.5e-3,
        workspace_bytes=2**20,
    )
    verdict = Verdict(mine.case, VerdictKind.REGRESSED, change=0.02, low=0.01, high=0.03)
    (row,) = rows(gathered(run_file(mine, launches=(launch,)), verdict_of={key_of(mine): verdict}))
    flop = 4 * 24 * 384 * 384 * 128
    assert row == {
        "Implementation": "torch_cudnn",
        "Impl ID": "torch_cudnn@max-autotune",
        "Workload": "flux-256px-t128",
        "Batch": "1",
        "Seq Length": "384",
        "Heads": "24",
        "Head Dim": "128",
        "Dtype": "bfloat16",
        "Mean (ms)": "3",
        "P10 (ms)": "1",
        "P50 (ms)": "3",
        "P90 (ms)": "4",
        "Reps": "5",
        "Peak Mem (MB)": f"{1 + 3 * 2 * 384 * 24 * 128 / 2**20:.12g}",
        "Backend": "torch_cudnn",
        "Family": "pytorch",
        "Median (ms)": "3",
        "P20 (ms)": "1.8",
        "P80 (ms)": "4.2",
        "Mode": "max-autotune",
        "Kernel (ms)": "0.5",
        "TFLOP/s": f"{flop / 3e-3 / 1e12:.12g}",
        "First Call (s)": "0.25",
        "Host (us)": "5",
        "Abs Max": "0.5",
        "MAE": "0.25",
        "MSE": "0.125",
        "Rel L2": "0.002",
        "Cosine": "0.999",
        "Status": "measured",
        "Reason": "",
        "GPU": "NVIDIA H200",
        "Driver": "580.1",
        "Torch": "2.11.0",
        "Verdict": "regressed",
        "Change": "0.02",
        "Low": "0.01",
        "High": "0.03",
        "Also Known As": "torch_cudnn_compile_ma",
        "Launch": "0123456789ab",
        "Started": "2026-01-02T03:04:05+00:00",
        "Injected": "",
        "Mask": "none",
        "Direction": "forward",
        "KV Length": "384",
        "KV Heads": "24",
        "Dropout": "0",
        "Layout": "bshd",
        "Sustained (ms)": "",
        "Sustained P20 (ms)": "",
        "Sustained P80 (ms)": "",
        "Power (W)": "",
        "Energy (J)": "",
        "Sustained Clock (MHz)": "",
        "Temperature (C)": "",
        "FLOP per Byte": "192",
        "Share of Datasheet Peak": f"{flop / 3e-3 / 989.4e12:.12g}",
        "Kernel TFLOP/s": f"{flop / 0.5e-3 / 1e12:.12g}",
        "Share of Matmul": "",
        "Share of Copy Bandwidth": "",
        "Chose": "",
    }


def test_the_problem_has_columns_of_its_own(run_file, record):
    workload = Workload(
        "w", 1, 1024, 32, 128, mask="causal", direction="backward", seq_kv=4096, kv_heads=8, dropout=0.1, layout="bhsd"
    )
    (row,) = rows(gathered(run_file(record(workload=workload))))
    names = ("Seq Length", "Heads", "Mask", "Direction", "KV Length", "KV Heads", "Dropout", "Layout")
    assert [row[name] for name in names] == ["1024", "32", "causal", "backward", "4096", "8", "0.1", "bhsd"]


def test_the_kernel_that_a_library_chose_is_the_last_column_and_not_in_the_form_of_others(run_file, record):
    chosen = record("torch_sdpa@eager", chose="cudnn")
    (row,) = rows(gathered(run_file(chosen)))
    assert list(row.items())[-1] == ("Chose", "cudnn")
    (line,) = kbt.lines([chosen], {one.id: one for one in run_file().launches})
    assert "cudnn" not in line


def test_what_is_not_known_is_an_empty_cell(run_file, record, check):
    wrong = record(
        "b@eager",
        status="incorrect",
        checks=(check({}, mse=math.nan),),
        reasons=(Reason("a", "first"), Reason("b", "second")),
    )
    (row,) = rows(gathered(run_file(wrong)))
    for name in (
        "Mean (ms)",
        "P50 (ms)",
        "Reps",
        "Peak Mem (MB)",
        "Median (ms)",
        "TFLOP/s",
        "MSE",
        "Verdict",
        "Change",
    ):
        assert row[name] == ""
    assert (row["Status"], row["Reason"]) == ("incorrect", "first; second")


def test_one_round_is_every_percentile(run_file, record):
    (row,) = rows(gathered(run_file(record(sample=Sample((2e-3,), "t")))))
    assert {row[name] for name in ("Mean (ms)", "P10 (ms)", "P90 (ms)", "Median (ms)", "P20 (ms)", "P80 (ms)")} == {"2"}


def test_another_tools_peak_memory_is_its_own(run_file, record):
    mine = record()
    (row,) = rows(gathered(run_file(mine), peak_bytes={key_of(mine): 3 * 2**20}))
    assert row["Peak Mem (MB)"] == "3"


@pytest.mark.parametrize("name", ['a,b "c"', "zürich-注意力", "x" * 1000])
def test_any_name_comes_back_as_it_was(run_file, record, name):
    (row,) = rows(gathered(run_file(record(f"{name}@eager"))))
    assert row["Impl ID"] == f"{name}@eager"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_a_name_is_no_formula(run_file, record, name):
    found = gathered(run_file(record(backend=name, family=name)))
    (row,) = rows(found)
    assert row["Implementation"] == row["Family"] == f"'{name}"
