"""The calls that scripts/sampling times are those of the suite: checked each round, on the inputs and on copies of them."""

from __future__ import annotations

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from attnbench.workloads.table import select_workloads

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "sampling"


@pytest.fixture
def sampling(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [*sys.path])  # which the script extends
    loader = SourceFileLoader("sampling", str(SCRIPT))
    spec = spec_from_loader("sampling", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_calls_on_the_inputs_and_elsewhere_are_checked(sampling: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "KeepingPacer", lambda *_, **__: None)  # which needs a GPU
    monkeypatch.setattr(sampling, "sm_clock", lambda: None)
    (workload,) = select_workloads(("1x64x4x16:bf16",))
    inputs = sampling.make_inputs(workload, "cpu")
    copies = tuple(one.clone() for one in inputs.timed)
    bench = SimpleNamespace(workload=workload, inputs=inputs, places=[copies])
    variant = sampling.Variant(sampling.registry.all_backends()["torch_flash"], "eager")
    reasons = (sampling.Reason("not-reached", ""),)
    names = ("torch_flash@eager", "torch_flash", "torch", "eager")
    record = sampling.Record(*names, workload, "here", sampling.Status.NOT_RUN, reasons=reasons)
    case = sampling.TorchCase(variant, record, lambda: inputs, lambda: sampling.make_references(inputs))
    case.prepare(sampling.open_device("cpu", True))
    case.assert_accurate()
    segments = sampling.Segments(bench, case, 0.0)
    segments.elsewhere()
    assert len(segments._calls) == 2
    for call in segments._calls:
        for _ in range(workload.heads + 2):
            call.advance()
            call.ready()
            call()
            call.compare()
    segments.conclude()
    case.leave()
    assert [call.unequal for call in segments._calls] == [0, 0]
