"""A case that needs more memory than the GPU has free for certain is unsupported, with both numbers: plain attention."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from adapters import H200

from attnbench.backends.registry import Backend, all_backends
from attnbench.backends.variant import Variant
from attnbench.execution.refusals import refusals
from attnbench.hardware.device import OpenDevice
from attnbench.model import CaseEnded, Status
from attnbench.workload import Workload
from attnbench.workloads.table import select_workloads

(LONG,) = select_workloads(("fa-b8h12d64-65536-fwd",))
SCORES = 8 * 12 * 65536**2
GPU = OpenDevice(H200, {}, {})


@pytest.fixture
def free(monkeypatch):
    """`free(count)`: a GPU with so many bytes free, of which torch keeps 1000 that it does not use."""

    def put(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (count - 1000, 80 * 2**30))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 1500)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 500)
        monkeypatch.setattr(torch.backends.cuda, "fp16_bf16_reduction_math_sdp_allowed", lambda: False)

    return put


def said(workload: Workload, mode: str = "eager", backend: str = "torch_math", device: OpenDevice = GPU) -> list[str]:
    return [reason.text for reason in refusals(Variant(all_backends()[backend], mode), device, workload)]


@pytest.mark.parametrize(
    ("changes", "mode", "bytes_each"),
    [
        ({}, "eager", 9),
        ({}, "default", 4),
        ({"direction": "backward"}, "eager", 16),
        ({"direction": "forward+backward"}, "default", 4),
        ({"dropout": 0.1}, "eager", 9),
        ({"seq_kv": 32768}, "eager", 4.5),
    ],
)
def test_plain_attention_needs_its_scores_in_fp32_as_often_as_they_stand_at_one_time(free, changes, mode, bytes_each):
    workload, needed = replace(LONG, **changes), int(bytes_each * SCORES)
    enough = needed * 10 // 9 + 1
    free(enough)
    assert said(workload, mode) == []
    free(enough - 2)
    found = f"found {enough - 2:,} bytes free, of which 90 % count"
    assert said(workload, mode) == [f"needs at least {needed:,} bytes of the GPU's memory, {found}"]


def test_with_reduced_precision_allowed_the_scores_have_the_dtype_of_the_inputs(free, monkeypatch):
    free(1000)
    monkeypatch.setattr(torch.backends.cuda, "fp16_bf16_reduction_math_sdp_allowed", lambda: True)
    assert f"{5 * SCORES:,} bytes" in said(LONG)[0]
    assert f"{9 * SCORES:,} bytes" in said(replace(LONG, dtype="fp32"))[0]


def test_the_memory_is_asked_for_only_where_all_else_holds_and_on_a_gpu(free):
    cpu = OpenDevice(replace(H200, device="cpu", capability=None), {}, {})
    assert said(LONG, device=cpu) == []
    free(1000)
    assert said(LONG, backend="torch_flex", mode="default") == [], "which states nothing"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda workload, mode: 1 // 0, "ZeroDivisionError"),
        (lambda workload, mode: None, "TypeError: `least_bytes` must return a number, found None"),
    ],
)
def test_a_kernel_whose_own_answer_fails_is_an_error(free, answer, error):
    free(1000)
    backend = Backend(lambda workload: None, "mine", "mine", least_bytes=answer)
    with pytest.raises(CaseEnded, match=f"cannot say whether it runs here.*{error}") as ended:
        refusals(Variant(backend, "eager"), GPU, replace(LONG, dropout=0.0))
    assert ended.value.status is Status.ERROR
