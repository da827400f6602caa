"""The route: what one call ran, by torch's profiler. Device kernels on CUDA, aten operators on the CPU."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbench import torch_private
from attnbench.backends.registry import UNFUSED, Backend
from attnbench.model import DeviceOp, Reason

NAME_LENGTH = 240

#: Spins of about 10 ms before the call, so that the host has queued all of it in time, and of about 1 µs behind it.
LEAD_CYCLES, MARKER_CYCLES = 20_000_000, 1000
#: Work that is ordered with the stream overlaps neither spin, within this tolerance of the profiler's time stamps.
SLACK_US = 1.0

#: What is said of a choice (`Backend.chooses`) that no pattern knows.
UNRECOGNISED = "an unrecognised kernel"

_CUDA_TRACES: list[str] = []


@dataclass(frozen=True)
class Unordered:
    """A device kernel, copy or set of the call on a stream that the current one did not wait for, or the reverse."""

    name: str
    stream: int


@dataclass(frozen=True)
class Traced:
    """What one call ran, in order of first appearance, and which of it may run outside the timed interval.

    recorded: whether the profiler saw anything, the spins around the call included.
    """

    ops: tuple[DeviceOp, ...]
    unordered: tuple[Unordered, ...] = ()
    recorded: bool = True


def cuda_was_traced() -> bool:
    """Whether this process has run the profiler on CUDA."""
    return bool(_CUDA_TRACES)


def trace(call: Callable[[], object], device: str, settle: Callable[[], None]) -> Traced:
    """Run `call` once under torch's profiler, and return what ran.

    On CUDA the call stands between two spins on the current stream: work that runs during one of them did not wait for
    that stream, or that stream did not wait for it. `settle` is called before, and waits for the clock.
    """
    import torch

    if device != "cuda":
        # Not torch.profiler, which imports torch._inductor: 1 s, in a process that may compile nothing.
        with torch.autograd.profiler.profile() as operators:
            call()
        return Traced(_merged(DeviceOp(e.name) for e in operators.function_events or () if e.name.startswith("aten::")))
    from torch.profiler import ProfilerActivity, profile

    _CUDA_TRACES.append(device)
    spin = torch_private.spin_kernel()
    settle()  # the kernels' durations are then those of the rounds that follow
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        torch.cuda.synchronize()  # what earlier calls left on other streams is not this call's
        spin(LEAD_CYCLES)
        call()
        spin(MARKER_CYCLES)
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        chrome_trace = json.loads(path.read_text())
    return traced(chrome_trace)


def traced(chrome_trace: dict[str, Any]) -> Traced:
    """What a Chrome trace of the call between its spins says."""
    recorded = bool(_device_events(chrome_trace))
    return Traced(device_ops(chrome_trace), unordered(chrome_trace), recorded)


def device_ops(chrome_trace: dict[str, Any]) -> tuple[DeviceOp, ...]:
    """Kernels, copies and sets of a Chrome trace as torch's profiler writes it, without the spins around the call."""
    events = _device_events(chrome_trace)
    around = _around(events)
    return _merged(_device_op(e) for e in events if not any(e is spin for spin in around))


def unordered(chrome_trace: dict[str, Any]) -> tuple[Unordered, ...]:
    """What ran on another stream than the spins' and overlaps one of them.

    However late the host was: work that the current stream waits for, and that waits for it, can neither start before
    the first spin has ended nor end after the last one has begun. Empty where the trace does not show both spins.
    """
    events = _device_events(chrome_trace)
    around = _around(events)
    if len(around) < 2:
        return ()
    lead, marker = around
    from_us, until_us = lead["ts"] + lead["dur"] - SLACK_US, marker["ts"] + SLACK_US
    outside = [e for e in events if e["ts"] < from_us or e["ts"] + e["dur"] > until_us]
    others = [e for e in outside if _stream(e) is not None and _stream(e) != _stream(lead)]
    return tuple(dict.fromkeys(Unordered(e["name"][:NAME_LENGTH], e["args"]["stream"]) for e in others))


def side_streams(ran: tuple[Unordered, ...]) -> tuple[Reason, ...]:
    """Why a call cannot be timed that ran this on another stream, unordered; empty when it ran nothing there."""
    if not ran:
        return ()
    names = ", ".join(f"{one.name} on stream {one.stream}" for one in ran)
    return (
        Reason(
            "side-stream",
            f"ran on a side stream that is not ordered with the current one, so outside the timed interval: {names}; "
            "a side stream must wait for the current stream before its work, and the current stream for it before the "
            "call returns (torch.cuda.Stream.wait_stream)",
        ),
    )


def _device_events(chrome_trace: dict[str, Any]) -> list[dict[str, Any]]:
    """Kernels, copies and sets by their start; `ts` and `dur` are microseconds."""
    events = [e for e in chrome_trace["traceEvents"] if e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    return sorted(events, key=lambda e: e["ts"])


def _around(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The spins before and behind the call: of `events`, the first one and the last one on its stream."""
    spins = [e for e in events if torch_private.SPIN_KERNEL_NAME in e["name"]]
    same = [e for e in spins if _stream(e) == _stream(spins[0])]
    return same if len(same) < 2 else [same[0], same[-1]]


def _stream(event: dict[str, Any]) -> tuple[object, object] | None:
    """Device and stream of an event, None where the trace does not say."""
    details = event.get("args", {})
    return (details.get("device"), details["stream"]) if details.get("stream") is not None else None


def _device_op(event: dict[str, Any]) -> DeviceOp:
    details = event.get("args", {})
    grid, block = details.get("grid"), details.get("block")
    return DeviceOp(
        name=event["name"][:NAME_LENGTH],
        grid=tuple(grid) if grid else None,
        block=tuple(block) if block else None,
        registers=details.get("registers per thread"),
        shared_bytes=details.get("shared memory"),
        duration_s=event["dur"] / 1e6,
    )


def _merged(ops: Iterable[DeviceOp]) -> tuple[DeviceOp, ...]:
    """Equal steps once, with their count and their summed duration."""
    merged: dict[tuple[object, ...], DeviceOp] = {}
    for op in ops:
        same = (op.name, op.grid, op.block)
        seen = merged.get(same)
        if seen is None:
            merged[same] = op
        else:
            total = None if op.duration_s is None else (seen.duration_s or 0.0) + op.duration_s
            merged[same] = DeviceOp(op.name, seen.count + 1, op.grid, op.block, op.registers, op.shared_bytes, total)
    return tuple(merged.values())


def wrong_route(backend: Backend, device: str, ran: tuple[DeviceOp, ...]) -> tuple[Reason, ...]:
    """Why the kernels that ran are not this backend's; empty when they are, or when it states no pattern for the device."""
    names = [op.name for op in ran]
    listed = ", ".join(names) or "nothing that the profiler sees"
    reasons = []
    needed = backend.route.get(device)
    if needed is not None and not any(re.search(needed, name) for name in names):
        reasons.append(
            Reason("wrong-route", f"expected a kernel that matches {needed!r}, but {backend.name} ran: {listed}")
        )
    foreign = backend.foreign.get(device)
    if foreign is not None and any(re.search(foreign, name) for name in names):
        reasons.append(
            Reason("replaced", f"expected no kernel that matches {foreign!r}, but {backend.name} ran: {listed}")
        )
    return tuple(reasons)


def kernel_s(backend: Backend, device: str, ran: tuple[DeviceOp, ...]) -> float | None:
    """Device seconds of the attention kernel alone: the sum of all that the backend's `route`, or its choice, matches.

    None where the backend states neither, nothing matches, the choice is unfused, or the profiler has no times.
    """
    pattern = backend.route.get(device) or _pattern_of_choice(backend, device, ran)
    own = [op.duration_s for op in ran if pattern is not None and re.search(pattern, op.name)]
    known = [duration_s for duration_s in own if duration_s is not None]
    return sum(known) if known and len(known) == len(own) else None


def chosen(backend: Backend, device: str, ran: tuple[DeviceOp, ...]) -> str:
    """Which of the kernels that the backend's library may choose from ran: `cudnn`, of several `flash + cudnn`.

    `UNRECOGNISED` where none of their patterns matches what ran; empty for a backend that states no choices here.
    """
    if not ran or not backend.chooses.get(device):
        return ""
    return " + ".join(_matching_choices(backend, device, ran)) or UNRECOGNISED


def _matching_choices(backend: Backend, device: str, ran: tuple[DeviceOp, ...]) -> dict[str, str]:
    """Those of its choices that match a kernel that ran, with their patterns, in the order of the backend.

    The unfused one only where nothing else does: a fused kernel may have a softmax in its name, too.
    """
    choices = backend.chooses.get(device, {})
    matching = {name: pattern for name, pattern in choices.items() if any(re.search(pattern, op.name) for op in ran)}
    fused = {name: pattern for name, pattern in matching.items() if name != UNFUSED}
    return fused or matching


def _pattern_of_choice(backend: Backend, device: str, ran: tuple[DeviceOp, ...]) -> str | None:
    """What the kernels of a fused choice match; None where there is none."""
    choices = _matching_choices(backend, device, ran)
    return None if UNFUSED in choices else "|".join(choices.values()) or None
