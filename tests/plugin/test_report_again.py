"""A stored run rendered again is the section that the run printed, byte for byte."""

from __future__ import annotations

import subprocess
import sys

import pytest

MANY = ("--attn-workload=flux-*-t128", "--attn-workload=1x2048x4x64:fp16", "--attn-reference=torch_math@eager")

RUNS = {
    "every case measured": (),
    "several workloads and another reference": MANY,
    "every status": (
        "--attn-sim=torch_math@default:incorrect",
        "--attn-sim=torch_flash*:unsupported",
        "--attn-sim=torch_cudnn@eager:error",
        "--attn-sim=torch_flex*:context-lost",
    ),
    "nothing measured": ("--attn-sim=*:error",),
    "nothing can run": ("--attn-sim=*:unsupported",),
    "ended early": ("--attn-sim=torch_flash@eager:incorrect", "-x"),
    "one process per backend": ("--attn-backend=torch_math", "--attn-backend=numpy", "--attn-isolate"),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_section_of_a_run_is_rendered_again_byte_for_byte(sim, pytester, monkeypatch, name):
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    result = sim("--benchmark-only", "--benchmark-json=run.json", "--color=no", *RUNS[name])
    command = [sys.executable, "-m", "attnbench", "report", "run.json"]
    again = subprocess.run(command, capture_output=True, cwd=pytester.path, timeout=60, check=False)
    assert (again.returncode, again.stderr) == (0, b"")
    section = again.stdout.decode()
    assert "attnbench (simulated)" in section.splitlines()[0]
    assert section in "".join(f"{line}\n" for line in result.outlines)
    assert f"{len(sim.records())} cases: " in section


def test_another_width_and_colour_of_the_terminal_do_not_change_it(sim, pytester, monkeypatch):
    monkeypatch.setenv("COLUMNS", "61")
    sim("--benchmark-only", "--benchmark-json=run.json")
    command = [sys.executable, "-m", "attnbench", "report", "run.json"]
    narrow = subprocess.run(command, capture_output=True, cwd=pytester.path, timeout=60, check=True).stdout
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")
    wide = subprocess.run(command, capture_output=True, cwd=pytester.path, timeout=60, check=True).stdout
    assert wide == narrow
    assert b"\x1b" not in wide
