"""The plugin of scripts/launches: it heats before the rounds of a case, and has do_bench time the same call behind them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: No GPU and no Triton here: the CPU is heated by nothing, and do_bench calls once.
CONFTEST = """
import sys
from types import ModuleType

import launch_plugin

def do_bench(call, return_mode):
    call()
    return 2.0

launch_plugin.DEVICE = "cpu"
launch_plugin.preheat = lambda seconds: print(f"heated for {seconds} s")
triton = ModuleType("triton")
triton.testing = ModuleType("triton.testing")
triton.testing.do_bench = do_bench
sys.modules |= {"triton": triton, "triton.testing": triton.testing}
"""


def test_the_timed_call_is_heated_and_timed_by_do_bench(
    bench: Any, pytester: pytest.Pytester, monkeypatch: Any
) -> None:
    pytester.makeconftest(CONFTEST)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "scripts"), prepend=":")
    monkeypatch.setenv("LAUNCHES_PREHEAT", "1")
    monkeypatch.setenv("LAUNCHES_DO_BENCH", "run.do_bench")
    chosen = ("--attn-device=cpu", "--attn-backend=torch_math", "--attn-mode=eager", "--attn-workload=1x64x2x32")
    result = bench.fresh("-s", "-p", "launch_plugin", "--benchmark-only", "--benchmark-json=run.json", *chosen)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*heated for 0.3 s*"])
    (case,) = bench.records()
    line = json.loads((pytester.path / "run.do_bench").read_text())
    assert line == {"case": case, "median_s": 0.002}
