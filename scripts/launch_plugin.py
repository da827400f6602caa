"""pytest plugin of scripts/launches: heat before each measurement when told to, and triton's do_bench beside it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from attnbench.plugin.case import AttnCase

PREHEAT_S = 0.3


def preheat(seconds: float) -> None:
    """8192³ bf16 products: the hottest thing that can run before a measurement."""
    import torch

    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for _ in range(20):
            a @ a
        torch.cuda.synchronize()


def do_bench_s(case: AttnCase) -> float:
    """Median seconds of the very call that was timed, by triton.testing.do_bench with its defaults."""
    import torch
    from triton.testing import do_bench

    steps = case._steps
    q, k, v = steps._inputs.timed

    def call() -> None:
        with torch.no_grad():
            steps._call(q, k, v)

    return do_bench(call, return_mode="median") / 1e3


@pytest.fixture(autouse=True)
def _beside(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = AttnCase.measure
    heats, stored = bool(os.environ.get("LAUNCHES_PREHEAT")), os.environ.get("LAUNCHES_DO_BENCH")

    def measured(case: AttnCase) -> None:
        if case._run.device_type == "cuda" and heats:
            preheat(PREHEAT_S)
        try:
            measure(case)
        finally:
            if case._run.device_type == "cuda" and stored and case.record.sample is not None:
                with Path(stored).open("a") as file:
                    file.write(json.dumps({"case": case.record.case, "median_s": do_bench_s(case)}) + "\n")

    monkeypatch.setattr(AttnCase, "measure", measured)
