"""pytest plugin of scripts/launches: heat before each measurement when told to, and triton's do_bench beside it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from attnbench.model import Sample
from attnbench.plugin.case import AttnCase

PREHEAT_S = 0.3
#: The type of device that is heated, and that do_bench times.
DEVICE = "cuda"


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
    take_rounds = AttnCase._timed  # the case still has its call behind it; measure() lets go of that
    heats, stored = bool(os.environ.get("LAUNCHES_PREHEAT")), os.environ.get("LAUNCHES_DO_BENCH")

    def taken(case: AttnCase) -> Sample:
        is_meant = case._run.here.device_type == DEVICE
        if is_meant and heats:
            preheat(PREHEAT_S)
        sample = take_rounds(case)
        if is_meant and stored:
            with Path(stored).open("a") as file:
                file.write(json.dumps({"case": case.record.case, "median_s": do_bench_s(case)}) + "\n")
        return sample

    monkeypatch.setattr(AttnCase, "_timed", taken)
