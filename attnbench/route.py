"""The route: what one call really ran. Device kernels on CUDA, aten operators on the CPU (layer 2)."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from attnbench.model import DeviceOp, Reason
from attnbench.registry import Backend

NAME_LENGTH = 240

_CUDA_TRACES: list[str] = []


def cuda_was_traced() -> bool:
    """Whether this process has run the profiler on CUDA."""
    return bool(_CUDA_TRACES)


def trace(call: Callable[[], object], device: str) -> tuple[DeviceOp, ...]:
    """Run `call` once under torch's profiler and say what ran, in order of first appearance."""
    from torch.profiler import ProfilerActivity, profile

    if device != "cuda":
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            call()
        return _merged(DeviceOp(e.name) for e in profiler.events() if e.name.startswith("aten::"))
    import torch

    _CUDA_TRACES.append(device)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        return device_ops(json.loads(path.read_text()))


def device_ops(chrome_trace: dict[str, Any]) -> tuple[DeviceOp, ...]:
    """Kernels, copies and sets of a Chrome trace as torch's profiler writes it; `dur` there is microseconds."""
    events = [e for e in chrome_trace["traceEvents"] if e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    return _merged(_device_op(e) for e in sorted(events, key=lambda e: e["ts"]))


def _device_op(event: dict[str, Any]) -> DeviceOp:
    found = event.get("args", {})
    grid, block = found.get("grid"), found.get("block")
    return DeviceOp(
        name=event["name"][:NAME_LENGTH],
        grid=tuple(grid) if grid else None,
        block=tuple(block) if block else None,
        registers=found.get("registers per thread"),
        shared_bytes=found.get("shared memory"),
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
    """Why the kernels that ran are not this backend's; empty when they are, or when it states nothing for the device."""
    names = [op.name for op in ran]
    said = ", ".join(names) or "nothing that the profiler sees"
    reasons = []
    needed = backend.route.get(device)
    if needed is not None and not any(re.search(needed, name) for name in names):
        reasons.append(
            Reason("wrong-route", f"{backend.name} must run a kernel that matches {needed!r}, and ran: {said}")
        )
    foreign = backend.foreign.get(device)
    if foreign is not None and any(re.search(foreign, name) for name in names):
        reasons.append(Reason("replaced", f"{backend.name} must not run what matches {foreign!r}, and ran: {said}"))
    return tuple(reasons)
