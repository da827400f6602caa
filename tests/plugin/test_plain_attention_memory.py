"""Plain attention is unsupported where its scores are larger than the free memory of the GPU, and says both numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attnbench.backends.registry import all_backends
from attnbench.model import Workload
from attnbench.workloads.table import select_workloads

#: Its scores are 96 times 65,536².
(LONG,) = select_workloads(("fa-b8h12d64-65536-fwd",))
SCORES = 8 * 12 * 65536**2


@pytest.fixture
def gpu(monkeypatch):
    """`gpu(free)`: a GPU with so many bytes free, of which torch keeps 1000 for itself."""

    def put(free: int, reduced: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free - 1000, 80 * 2**30))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 1500)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 500)
        monkeypatch.setattr(torch.backends.cuda, "fp16_bf16_reduction_math_sdp_allowed", lambda: reduced)

    return put


def refused(workload: Workload, device: str = "cuda") -> tuple[str, ...]:
    return all_backends()["torch_math"].refuses(workload, device)


def said(needed: int, free: int) -> tuple[str, ...]:
    return (f"needs at least {needed:,} bytes for the scores of plain attention, found {free:,} bytes free",)


@pytest.mark.parametrize(
    ("changes", "copies"),
    [
        ({}, 2),
        ({"direction": "backward"}, 3),
        ({"direction": "forward+backward"}, 3),
        ({"dropout": 0.1}, 3),
        ({"seq_kv": 32768}, 1),
    ],
)
def test_it_needs_its_scores_in_fp32_as_often_as_they_stand_at_one_time(gpu, changes, copies):
    workload, needed = replace(LONG, **changes), copies * 4 * SCORES
    gpu(needed)
    assert refused(workload) == ()
    gpu(needed - 1)
    assert refused(workload) == said(needed, needed - 1)


def test_with_reduced_precision_allowed_they_have_the_dtype_of_the_inputs(gpu):
    gpu(1000, reduced=True)
    assert refused(LONG) == said(2 * 2 * SCORES, 1000)
    assert refused(replace(LONG, dtype="fp32")) == said(2 * 4 * SCORES, 1000)


def test_a_cpu_is_not_asked_for_its_memory():
    assert refused(LONG, "cpu") == ()
