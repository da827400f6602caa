"""`--attn-sustained` and `--attn-roofline`: measured, stored and shown when asked for, and never otherwise."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attnbench.codec import run_from

STORED = ("--benchmark-only", "--benchmark-json=run.json", "--attn-mode=eager")
EAGER = (*STORED, "--attn-backend=torch_math", "--attn-backend=torch_flash")
FLASH = "torch_flash@eager-flux-256px-t128"


def test_a_case_under_load_is_stored_and_shown(sim: Any) -> None:
    result = sim(*EAGER, "--attn-sustained=3")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["under load * settled  sustained * power *", "torch_flash@eager * 700 *"])
    load = sim.records()[FLASH]["sustained"]
    assert load["joules"] == pytest.approx(load["power_w"] * load["median_s"], rel=1e-6)
    assert load["loaded_s"] == pytest.approx(3, rel=0.3)


def test_without_the_options_nothing_is_loaded_and_nothing_reached(sim: Any) -> None:
    result = sim(*EAGER)
    assert "under load" not in result.stdout.str()
    assert "reached:" not in result.stdout.str()
    assert {record["sustained"] for record in sim.records().values()} == {None}
    assert [launch["ceilings"] for launch in sim.stored()["attnbench"]["launches"]] == [None]


def test_fresh_processes_load_the_gpu_too_and_a_bare_option_means_five_seconds(sim: Any) -> None:
    result = sim(*EAGER, "--attn-launches=2", "--attn-roofline", "--attn-sustained")
    assert result.ret == 0
    stored = sim.stored()["attnbench"]
    assert len(stored["records"]) == 4
    assert all(record["sustained"]["energy_s"] == 5.0 for record in stored["records"])
    assert [launch["ceilings"]["copy_bytes"] for launch in stored["launches"]] == [2**31, 2**31]


def test_a_case_that_is_not_timed_is_not_loaded(sim: Any) -> None:
    sim("--benchmark-disable", "--attn-backend=torch_flash", "--attn-sustained", "--attn-roofline", "--attn-report=out")
    sim(*STORED, "--attn-backend=torch_flash", "--attn-sustained=1", "--attn-sim=torch_flash:incorrect")
    (record,) = sim.records().values()
    assert (record["status"], record["sustained"]) == ("incorrect", None)


@pytest.mark.parametrize("given", ["0", "-1", "nan"])
def test_a_duration_that_is_none_is_refused(sim: Any, given: str) -> None:
    result = sim(*EAGER, f"--attn-sustained={given}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.re_match_lines([f"ERROR: --attn-sustained: expected a number of seconds above 0, got '{given}'$"])


def test_a_path_behind_the_option_is_told_how_to_be_collected(sim: Any) -> None:
    result = sim("--attn-sustained", "test_suite.py")
    said = "ERROR: --attn-sustained: expected a number of seconds above 0, got 'test_suite.py'; if that is what to collect, "
    result.stderr.fnmatch_lines([f"{said}write --attn-sustained=5 test_suite.py"])


KERNELS = """
import torch.nn.functional as F
from attnbench import register

def kernel(name, factor):
    def load(workload):
        calls = [0]
        def call(q, k, v):
            calls[0] += 1
            out = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2).clone()
            return out * factor(calls[0])
        return call
    register(name, "example")(load)

kernel("a_right", lambda n: 1)
kernel("tires", lambda n: 1 if n < 200 else 1.5)
"""


def test_the_cpu_is_loaded_without_energy_and_the_last_output_is_checked(bench: Any, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(KERNELS)
    chosen = ("--attn-backend=a_right", "--attn-backend=tires", "--attn-workload=1x64x2x16:bf16", "--attn-device=cpu")
    result = bench(*STORED, *chosen, "--attn-sustained=0.2")
    right, tired = sorted(bench.records().values(), key=lambda record: record["backend"])
    load = right["sustained"]
    assert load["loaded_s"] >= 0.2
    assert load["low_s"] <= load["median_s"] <= load["high_s"]
    assert (load["joules"], load["note"]) == (None, "no energy: NVML knows GPUs only")
    result.stdout.fnmatch_lines(["no energy: NVML knows GPUs only: a_right@eager"])
    assert (tired["status"], tired["sample"], tired["sustained"]) == ("incorrect", None, None)
    result.stdout.fnmatch_lines(["*tires@eager*rel_l2 found*"])


def test_the_roofline_is_measured_once_and_shown_everywhere(sim: Any, pytester: pytest.Pytester) -> None:
    result = sim(*EAGER, "--attn-roofline", "--attn-report=out")
    result.stdout.fnmatch_lines(["reached: matmul 8192x8192x8192 bf16 800 TFLOP/s; copy 4.00 TB/s"])
    out = Path(pytester.path, "out")
    assert (out / "roofline.svg").read_text().count('class="guide roof"') == 1
    page = (out / "index.html").read_text()
    assert "Of matmul" in page
    assert "Of copy" in page
    (row, *_) = csv.DictReader((out / "latency.csv").open())
    assert float(row["Share of Matmul"]) == pytest.approx(float(row["TFLOP/s"]) / 800, rel=1e-6)
    moved_per_s = 4 * 384 * 24 * 128 * 2 / (float(row["Median (ms)"]) / 1e3)
    assert float(row["Share of Copy Bandwidth"]) == pytest.approx(moved_per_s / 4e12, rel=1e-5)
    assert float(row["FLOP per Byte"]) == 192


def test_load_has_its_plots_and_columns(sim: Any, pytester: pytest.Pytester) -> None:
    sim(*EAGER, "--attn-sustained", "--attn-report=out")
    out = Path(pytester.path, "out")
    assert {"energy.svg", "sustained.svg"} <= {path.name for path in out.iterdir()}
    (row, *_) = csv.DictReader((out / "latency.csv").open())
    assert float(row["Energy (J)"]) == pytest.approx(700 * float(row["Sustained (ms)"]) / 1e3, rel=1e-5)
    assert "J/call" in (out / "index.html").read_text()


def test_a_suspect_that_is_measured_again_is_not_loaded_again(sim: Any, baseline: Any) -> None:
    one = ("--attn-mode=eager", "--attn-backend=torch_flash")
    baseline(*one)
    sim(*STORED, *one, "--attn-sim=torch_flash:+2%", "--attn-sustained", "--attn-roofline")
    stored = sim.stored()["attnbench"]
    (verdict,) = stored["verdicts"]
    assert verdict["launches"] > 1
    assert [record["sustained"] is not None for record in stored["records"]] == [True] + [False] * (
        len(stored["records"]) - 1
    )
    assert sum(launch["ceilings"] is not None for launch in stored["launches"]) == 1
    assert "--attn-sustained" not in verdict["reproduce"]


def test_a_recorded_session_holds_what_its_gpu_reaches(sim: Any) -> None:
    suite = ("-p", "attnbench.plugin", "--attn-mode=eager", "--attn-backend=torch_flash")
    command = [sys.executable, "-m", "attnbench", "record", "--launches", "2", *suite]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    (session,) = Path("baselines").rglob("*.json")
    stored = run_from(json.loads(session.read_text()))
    assert [launch.ceilings is not None for launch in stored.launches] == [True, True]
    assert [record.sustained for record in stored.records] == [None, None]
