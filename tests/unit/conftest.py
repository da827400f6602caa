"""What tests begin with and change what they are about: records, and a virtual GPU."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any

import pytest
from virtual_gpu import VirtualGpu

from attnbench.hardware import sm_clock
from attnbench.model import (
    SCHEMA_VERSION,
    Check,
    ErrorMetrics,
    Fingerprint,
    Launch,
    Reason,
    Record,
    RunFile,
    Sample,
    Status,
)
from attnbench.timing import pacer, settling
from attnbench.workload import Workload

WORKLOAD = Workload("flux-256px-t128", 1, 384, 24, 128)


def make_error(**changes: Any) -> ErrorMetrics:
    metrics: dict[str, Any] = dict.fromkeys(("max_abs", "mean_abs", "mse", "rel_l1", "rel_l2"), 1e-3)
    fields = {"cosine": 1.0, "nonfinite": 0, "worst_index": (0, 3, 1, 7), "worst_found": 0.5, "worst_expected": 0.25}
    return ErrorMetrics(**{**metrics, **fields, **changes})


def make_record(
    variant: str = "torch_flash@eager", workload: Workload = WORKLOAD, status: str = "measured", **changes: Any
) -> Record:
    backend, mode = variant.split("@")
    fields: dict[str, Any] = {
        "case": f"{variant}-{workload.name}",
        "backend": backend,
        "family": "pytorch",
        "mode": mode,
        "workload": workload,
        "launch": "0123456789ab",
        "status": Status(status),
    }
    if status == "measured":
        fields["sample"] = Sample((1e-3, 1.1e-3, 1.2e-3), "perf_counter")
    elif status != "checked":
        fields["reasons"] = (Reason("why", f"because it is {status}"),)
    return Record(**{**fields, **changes})


def make_run(*records: Record, **changes: Any) -> RunFile:
    launch = Launch("0123456789ab", "2026-01-02T03:04:05+00:00", Fingerprint({"device": "A CPU"}, {"torch": "2.13.0"}))
    fields: dict[str, Any] = {"reference": "torch_flash@eager", "launches": (launch,), "records": records}
    return RunFile(**{"schema": SCHEMA_VERSION, "attnbench": "0.1.0", **fields, **changes})


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Importing torch takes seconds: a test that needs it is one of tests/plugin."""
    before = "torch" in sys.modules
    report = yield
    if not before and "torch" in sys.modules:
        report.outcome, report.longrepr = "failed", f"{collector.nodeid} imports torch: move it to tests/plugin"
    return report


@pytest.fixture(autouse=True)
def _no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it imported while a test runs, even where another test has imported it."""
    monkeypatch.setitem(sys.modules, "torch", None)


@pytest.fixture
def record() -> Callable[..., Record]:
    """`record("backend@mode", workload, "status", field=value …)`."""
    return make_record


@pytest.fixture
def run_file() -> Callable[..., RunFile]:
    """`run_file(record, …, field=value …)`."""
    return make_run


@pytest.fixture
def error() -> Callable[..., ErrorMetrics]:
    """`error(metric=value …)`."""
    return make_error


@pytest.fixture
def check(error: Callable[..., ErrorMetrics]) -> Callable[..., Check]:
    """`check({metric: limit}, metric=value …)` on the inputs that are timed."""
    return lambda limits, **changes: Check(
        WORKLOAD.distribution, error(**changes), error(), error(), limits, "all", True
    )


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> VirtualGpu:
    """A virtual GPU behind `torch`; the protocol's host time is its own."""
    gpu = VirtualGpu()
    monkeypatch.setitem(sys.modules, "torch", gpu.torch)
    for module in (sm_clock, pacer, settling):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: gpu.host_s))
    return gpu
