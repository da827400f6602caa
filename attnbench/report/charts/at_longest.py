"""What is plotted of the greatest length alone: accuracy against latency, and the kernel's time beside the call's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from attnbench.model import Record
from attnbench.report.charts.chart import PAIRS, SCATTER, Chart, Missing, Point
from attnbench.report.charts.measures import latency_of
from attnbench.report.charts.rows import Row, absent, series_of
from attnbench.report.quantities import timed_check


def accuracy(
    device: str, where: str, rows: Sequence[Row], slugs: Mapping[str, str], notes: Sequence[str]
) -> Chart | Missing:
    """Relative L2 error on the timed inputs over latency: what a quantised kernel trades."""
    points = []
    for row in rows:
        error = rel_l2_of(row.record)
        if error is not None:
            latency, low, high = latency_of(row.record, 1e3)
            workload = row.record.workload
            points.append((row, Point(workload.seq, workload.name, error, low, high, x=latency)))
    if not points:
        why = f"Accuracy against latency: no measured record on {where} has an accuracy check on the timed inputs."
        return Missing("accuracy", device, why)
    known = {row.name for row, _ in points}
    return Chart(
        "accuracy",
        "",
        device,
        SCATTER,
        "Accuracy against latency",
        f"{where} · lower left is better",
        "median latency (ms)",
        "relative L2 error on the timed inputs",
        "",
        series_of(points, slugs),
        notes=(*notes, *absent("no accuracy check", (row.name for row in rows if row.name not in known))),
    )


def kernel_times(
    device: str, where: str, rows: Sequence[Row], slugs: Mapping[str, str], notes: Sequence[str]
) -> Chart | Missing:
    """Latency of the call beside the attention kernel's own time: the rest is quantisation, layout and other kernels."""
    points = []
    for row in rows:
        kernel_s = row.record.kernel_s
        if kernel_s is not None and math.isfinite(kernel_s) and kernel_s > 0:
            value, low, high = latency_of(row.record, 1e3)
            workload = row.record.workload
            points.append((row, Point(workload.seq, workload.name, value, low, high, inner=kernel_s * 1e3)))
    if not points:
        why = f"Kernel time against call time: no record on {where} has the attention kernel's own time."
        return Missing("kernel", device, why)
    known = {row.name for row, _ in points}
    return Chart(
        "kernel",
        "",
        device,
        PAIRS,
        "Kernel time against call time",
        f"{where} · filled: the call, hollow: its attention kernel by the profiler",
        "time (ms)",
        "",
        "ms",
        series_of(points, slugs),
        notes=(*notes, *absent("no kernel time", (row.name for row in rows if row.name not in known))),
    )


def rel_l2_of(record: Record) -> float | None:
    """The error on the timed inputs; None without a check on them, and for an error that no axis can show."""
    check = timed_check(record)
    is_timed = check is not None and check.distribution == record.workload.distribution
    error = check.error.rel_l2 if check is not None and is_timed else math.nan
    return error if math.isfinite(error) and error > 0 else None
