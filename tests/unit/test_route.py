"""The route from a trace of torch's profiler: what a call ran, and what of it escapes the timed interval."""

from types import SimpleNamespace

import pytest

from attnbench.backends.families import FAMILIES
from attnbench.backends.registry import Backend, all_backends
from attnbench.backends.variant import Variant
from attnbench.checks import route
from attnbench.execution import steps
from attnbench.execution.local_case import TorchCase
from attnbench.model import CaseEnded, DeviceOp, Status

MAIN, SIDE = 7, 13
SPIN = "at::cuda::(anonymous namespace)::spin_kernel(long)"


def event(name, start_us, end_us, stream=MAIN, cat="kernel", **launch):
    return {
        "ph": "X",
        "cat": cat,
        "name": name,
        "ts": start_us,
        "dur": end_us - start_us,
        "args": {"device": 0, "stream": stream, **launch},
    }


def trace(*events):
    """A trace as the profiler writes it: host events among the device's, and no order."""
    host = [{"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 1.0, "dur": 3.0, "args": {}}]
    return {"traceEvents": [*reversed(events), *host, {"ph": "M", "name": "process_name"}]}


def between_spins(*events, lead_end_us=10_000.0, marker_us=10_500.0):
    return trace(event(SPIN, 0.0, lead_end_us), *events, event(SPIN, marker_us, marker_us + 1.0))


def names(found):
    return [(one.name, one.stream) for one in found]


def test_the_route_is_what_the_call_ran_without_the_spins_around_it():
    found = between_spins(
        event("attention", 10_001.0, 10_400.0, grid=[64, 24, 1], block=[128, 1, 1]),
        event("Memcpy DtoD", 10_400.0, 10_420.0, cat="gpu_memcpy"),
        event("Memcpy DtoD", 10_430.0, 10_440.0, cat="gpu_memcpy"),
    )
    attention, copies = route.device_ops(found)
    assert (attention.name, attention.count, attention.grid) == ("attention", 1, (64, 24, 1))
    assert (copies.name, copies.count, copies.duration_s) == ("Memcpy DtoD", 2, pytest.approx(30e-6))


def test_a_spin_of_the_call_itself_is_in_the_route():
    found = between_spins(event(SPIN, 10_100.0, 10_200.0), event("attention", 10_200.0, 10_400.0))
    assert [op.name for op in route.device_ops(found)] == [SPIN, "attention"]
    assert route.unordered(found) == ()


def test_work_on_a_joined_side_stream_is_ordered():
    found = between_spins(
        event("attention", 10_000.0, 10_300.0),
        event("joined", 10_000.0, 10_500.0, SIDE),  # to the very ends
        event("Memset", 10_200.0, 10_201.0, SIDE, cat="gpu_memset"),
    )
    assert route.unordered(found) == ()


@pytest.mark.parametrize(
    ("start_us", "end_us"),
    [(40.0, 500.0), (9_990.0, 10_100.0), (10_100.0, 10_700.0), (10_600.0, 10_700.0), (40.0, 10_700.0)],
    ids=["before the call", "into it", "out of it", "after it", "before and after"],
)
@pytest.mark.parametrize("cat", ["kernel", "gpu_memcpy", "gpu_memset"])
def test_work_that_overlaps_a_spin_on_another_stream_is_not(start_us, end_us, cat):
    found = between_spins(event("attention", 10_000.0, 10_300.0), event("beside", start_us, end_us, SIDE, cat))
    assert names(route.unordered(found)) == [("beside", SIDE)]


def test_a_late_host_is_no_side_stream():
    """Gaps after the lead and before the marker, because the profiler slowed the launches down."""
    found = between_spins(
        event("attention", 25_000.0, 25_400.0),
        event("joined", 25_100.0, 25_300.0, SIDE),
        marker_us=31_000.0,
    )
    assert route.unordered(found) == ()


def test_the_grain_of_the_time_stamps_is_no_side_stream():
    found = between_spins(event("joined", 9_999.9, 10_500.1, SIDE))
    assert route.unordered(found) == ()


def test_the_spins_own_stream_is_ordered_whatever_the_stamps_say():
    """A kernel may be launched before the one ahead of it has ended (programmatic dependent launch)."""
    found = between_spins(event("overlapping", 9_900.0, 10_600.0))
    assert route.unordered(found) == ()


def test_the_same_kernel_on_the_same_stream_is_named_once():
    found = between_spins(*(event("beside", 100.0 + n, 101.0 + n, SIDE) for n in range(3)))
    assert names(route.unordered(found)) == [("beside", SIDE)]


def test_a_spin_on_a_side_stream_is_not_taken_for_the_marker():
    found = between_spins(event(SPIN, 10_600.0, 10_900.0, SIDE))
    assert names(route.unordered(found)) == [(SPIN, SIDE)]
    assert [op.name for op in route.device_ops(found)] == [SPIN]


def test_another_gpus_stream_of_the_same_number_is_another_stream():
    found = between_spins(event("beside", 100.0, 200.0, device=1))
    assert names(route.unordered(found)) == [("beside", MAIN)]


@pytest.mark.parametrize(
    "spins",
    [(), (event(SPIN, 0.0, 10_000.0),), (event("sleep", 0.0, 10_000.0), event("sleep", 10_500.0, 10_501.0))],
    ids=["none", "one", "of another name"],
)
def test_without_both_spins_nothing_is_said(spins):
    found = trace(*spins, event("beside", 100.0, 200.0, SIDE))
    assert route.unordered(found) == ()
    assert "beside" in [op.name for op in route.device_ops(found)]
    assert SPIN not in [op.name for op in route.device_ops(found)]


@pytest.mark.parametrize("events", [(), (event(SPIN, 0.0, 1.0),), (event("attention", 0.0, 1.0),)])
def test_a_trace_without_any_event_of_the_gpu_recorded_nothing(events):
    assert route.traced(trace(*events)).recorded == bool(events)


@pytest.mark.parametrize(("recorded", "calls"), [((True,), 1), ((False, True), 2), ((False, False), 2)])
def test_a_profiler_that_recorded_nothing_is_asked_once_more_and_is_then_an_error(monkeypatch, recorded, calls):
    """Not a kernel that is incorrect because it ran nothing."""
    answers, ready = iter(recorded), []
    monkeypatch.setattr(route, "trace", lambda *_, **__: route.Traced((), (), next(answers)))
    run, backend = SimpleNamespace(ready=lambda: ready.append(1)), all_backends()["torch_math"]
    if recorded[-1]:
        assert steps.traced_route(run, backend, "cpu").ops == ()
    else:
        with pytest.raises(CaseEnded, match="the profiler recorded nothing that ran on the GPU") as ended:
            steps.traced_route(run, backend, "cpu")
        assert ended.value.status is Status.ERROR
    assert len(ready) == calls


def test_events_without_a_stream_are_left_alone():
    bare = {"ph": "X", "cat": "kernel", "name": "bare", "ts": 5.0, "dur": 1.0}
    assert route.unordered(between_spins(bare)) == ()


def test_the_reason_names_kernel_and_stream_and_says_what_to_do():
    assert route.side_streams(()) == ()
    (reason,) = route.side_streams((route.Unordered("beside", SIDE), route.Unordered("Memset", 14)))
    assert reason.code == "side-stream"
    assert "beside on stream 13, Memset on stream 14" in reason.text
    assert "wait_stream" in reason.text


@pytest.mark.parametrize(("kernel", "codes"), [("mine", ["side-stream"]), ("fused", ["replaced", "side-stream"])])
def test_such_a_case_is_incorrect_and_keeps_its_route(monkeypatch, record, kernel, codes):
    """Also where Inductor put another kernel in place, which alone would make the variant unsupported."""
    traced = route.Traced((DeviceOp(kernel),), (route.Unordered("beside", SIDE),))
    monkeypatch.setattr(route, "trace", lambda call, device, settle: traced)
    backend = Backend(lambda workload: None, "b", "f", foreign={"cuda": "fused"})
    case = TorchCase(Variant(backend, "default"), record(status="checked"), lambda: None, dict)
    case._device, case._inputs = "cuda", SimpleNamespace(timed=(), gradient=None, reshaped=lambda: ())
    with pytest.raises(CaseEnded) as ended:
        case.assert_route()
    assert ended.value.status is Status.INCORRECT
    assert [reason.code for reason in ended.value.reasons] == codes
    assert case.record.route == traced.ops


STEPS = (
    DeviceOp("quantise", 2, duration_s=30e-6),
    DeviceOp("qk_attention", duration_s=200e-6),
    DeviceOp("qk_attention", 3, grid=(2,), duration_s=40e-6),
)


@pytest.mark.parametrize(
    ("routes", "ran", "found_s"),
    [
        ({"cuda": "attention$"}, STEPS, 240e-6),
        ({"cuda": "attention$"}, (*STEPS, DeviceOp("copy")), 240e-6),
        ({"cuda": "attention$"}, (*STEPS, DeviceOp("my_attention")), None),  # a part of it without a time
        ({"cuda": "softmax"}, STEPS, None),
        ({"cpu": "attention$"}, STEPS, None),
        ({}, STEPS, None),  # no kernel of it is the attention, as with torch_math
        ({"cuda": "attention$"}, (), None),
    ],
)
def test_the_kernels_own_time_is_that_of_all_steps_that_the_route_matches(monkeypatch, record, routes, ran, found_s):
    monkeypatch.setattr(route, "trace", lambda call, device, settle: route.Traced(ran))
    monkeypatch.setattr(route, "wrong_route", lambda *_: ())
    case = TorchCase(
        Variant(Backend(lambda workload: None, "b", "f", route=routes), "eager"),
        record(status="checked"),
        lambda: None,
        dict,
    )
    case._device, case._inputs = "cuda", SimpleNamespace(timed=(), gradient=None, reshaped=lambda: ())
    case.assert_route()
    assert case.record.kernel_s == (None if found_s is None else pytest.approx(found_s))


SPLIT = (
    "void flash::flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits>",
    "void flash::flash_fwd_splitkv_combine_kernel<1>",
)


def test_split_and_combine_kernels_both_count_as_flash_attn_2():
    assert FAMILIES, "imported for its registrations"
    ran = tuple(DeviceOp(name, duration_s=1e-4) for name in SPLIT)
    found = {
        name: route.kernel_s(backend, "cuda", ran)
        for name, backend in all_backends().items()
        if not route.wrong_route(backend, "cuda", ran) and backend.route.get("cuda")
    }
    assert found == dict.fromkeys(found, pytest.approx(2e-4))
    assert {"flash_attn_2", "hf_flash_attn", "xformers", "xformers_flash", "te_flash"} <= set(found)
