"""A CUDA context that a case took with it: every later call on the GPU raises, and the others are measured elsewhere.

There is no GPU here. What would raise then raises as soon as a kernel says that the context is lost, in the process that it
says it in.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

from attnbench.backends import errors
from attnbench.execution import local_case, refusals, steps
from attnbench.hardware import device
from attnbench.plugin import run_state
from attnbench.workloads.inputs import Inputs

CONFTEST = """
import lost_context
from attnbench import register
from torch.nn.functional import scaled_dot_product_attention

@register("a_layout", "a")  # its output is wrong, and as if it had the other layout it reads outside its memory
def a_layout(workload):
    def attention(q, k, v):
        if q.shape[1] == workload.heads:
            lost_context.by_now = True
            raise RuntimeError(lost_context.SAID)
        return q * 0
    return attention

@register("a_load", "a")
def a_load(workload):
    lost_context.by_now = True  # a kernel that only the next look at the device tells of
    return lambda q, k, v: q

@register("a_call", "a", layout="bhsd")
def a_call(workload):
    calls = []
    def attention(q, k, v):
        calls.append(1)
        if len(calls) > 1:
            lost_context.by_now = True
        return scaled_dot_product_attention(q, k, v)
    return attention

for name in ("b_right", "c_right"):
    @register(name, name, layout="bhsd", least_bytes=lambda workload, mode: 1)
    def right(workload):
        return scaled_dot_product_attention
"""
SAID = "CUDA error: an illegal memory access was encountered"
RUN = (
    "--benchmark-only",
    "--benchmark-json=run.json",
    "--attn-device=cpu",
    "--attn-mode=eager",
    "--attn-workload=1x64x2x32:bf16",
    "--attn-rounds=1",
)


@pytest.fixture
def project(bench: Any, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(lost_context=f"by_now, SAID = False, {SAID!r}")
    monkeypatch.syspath_prepend(pytester.path)
    monkeypatch.delitem(sys.modules, "lost_context", raising=False)

    def lost(*_: object) -> bool:
        return bool(getattr(sys.modules.get("lost_context"), "by_now", False))

    def raising(real: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if lost():
                raise RuntimeError(SAID)
            return real(*arguments)

        return call

    for module in (errors, local_case):
        monkeypatch.setattr(module, "context_is_lost", lost)
    monkeypatch.setattr(run_state, "has_lost_context", lost)
    monkeypatch.setattr(refusals, "free_bytes", raising(lambda _: 10**9))
    monkeypatch.setattr(steps, "synchronize", raising(steps.synchronize))
    monkeypatch.setattr(Inputs, "overwritten", raising(Inputs.overwritten))
    yield bench
    sys.modules.pop("lost_context", None)


@pytest.mark.parametrize(
    ("kernel", "status", "said"),
    [
        ("a_layout", "incorrect", "called as if it had the other layout, to see whether that is why"),
        ("a_load", "error", f"cannot be loaded and took the CUDA context with it: RuntimeError: {SAID}"),
        ("a_call", "error", f"failed on its second call and took the CUDA context with it: RuntimeError: {SAID}"),
    ],
)
def test_only_the_case_that_took_it_pays(
    project: Any, monkeypatch: pytest.MonkeyPatch, kernel: str, status: str, said: str
) -> None:
    monkeypatch.setattr(steps, "allocated_bytes", lambda *_: 0)  # so that there is a second call, as on a GPU
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda: None)
    result = project(*RUN, f"--attn-backend={kernel}", "--attn-backend=?_right")
    result.assert_outcomes(passed=2, failed=1)
    records = {record["backend"]: record for record in project.records().values()}
    assert {name: record["status"] for name, record in records.items()} == {
        kernel: status,
        "b_right": "measured",
        "c_right": "measured",
    }
    assert said in " ".join(reason["text"] for reason in records[kernel]["reasons"])
    assert len({record["launch"] for record in records.values()}) == 2, "the others ran in one fresh process"
    assert "Traceback" not in result.stdout.str()
    assert f"{kernel} changed the process: its CUDA context is lost (cannot be restored" in result.stdout.str()


def test_a_context_that_is_lost_behind_a_measured_case_spoils_the_process_all_the_same(
    project: Any, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        test_mine="""
        import pytest

        @pytest.mark.attn
        def test_mine(attn_case):
            attn_case.prepare()
            attn_case.assert_accurate()
            attn_case.assert_route()
            attn_case.measure()
            if attn_case.record.backend == "b_right":
                import lost_context

                lost_context.by_now = True  # a user's own kernel, after attnbench's last look
        """
    )
    result = project("test_mine.py", *RUN, "--attn-backend=?_right")
    result.assert_outcomes(passed=2)
    records = {record["backend"]: record for record in project.records().values()}
    assert {record["status"] for record in records.values()} == {"measured"}
    assert records["b_right"]["launch"] != records["c_right"]["launch"]
    result.stdout.fnmatch_lines(
        ["something between two cases, in a test or a fixture, took the CUDA context with it; *"]
    )


def test_memory_is_given_back_only_where_others_would_miss_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back = []
    for name, value in {
        "memory_reserved": 20,
        "memory_allocated": 10,
        "current_device": 0,
    }.items():
        monkeypatch.setattr(f"torch.cuda.{name}", lambda value=value: value)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: given_back.append(1))
    for total_memory in (160, 159):  # of which 10 are the share that may be kept, and more
        properties = type("Properties", (), {"total_memory": total_memory})
        monkeypatch.setattr("torch.cuda.get_device_properties", lambda _, found=properties: found)
        device.release_memory_beyond_share("cuda")
        device.release_memory_beyond_share("cpu")
        assert len(given_back) == (0 if total_memory == 160 else 1)
