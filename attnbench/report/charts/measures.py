"""What is plotted over the sequence length, and how a record becomes a value of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from attnbench import stats
from attnbench.model import Record
from attnbench.report.charts.chart import Missing
from attnbench.report.charts.matrix_peak import matrix_peak
from attnbench.report.charts.rows import Row
from attnbench.report.quantities import SIXTEEN_BIT, median_s
from attnbench.units import significant

#: The band of a point: quantiles of its rounds.
LOW, HIGH = 0.2, 0.8
#: A value with its band, in base units of the chart.
Value = tuple[float, float | None, float | None]


@dataclass(frozen=True)
class Measure:
    """One kind of plot over sequence length: how a record becomes a value, or None where it has no such figure."""

    name: str
    title: str
    label: str
    unit: str
    of: Callable[[Record], Value | None]
    absent: str
    lower_is_better: bool = True
    guide: float | None = None


def measures(device: str, rows: Sequence[Row], reference: str) -> Iterable[Measure | Missing]:
    """What these rows can be plotted by, and why not by what they cannot. reference: the variant that speed is against."""
    yield Measure("latency", "Latency", "median latency", "ms", partial(latency_of, scale=1e3), "no latency")
    yield Measure("tflops", "Throughput", "throughput", "TFLOP/s", rate_of, "no latency", lower_is_better=False)
    peak = matrix_peak(device)
    if peak is None:
        why = f"The matrix peak of {device} is not known, so there is no share of it to plot."
        yield Missing("peak", device, why)
    elif (dtype := rows[0].record.workload.dtype) not in SIXTEEN_BIT:
        why = f"The known matrix peak of {device} is for bf16 and fp16, and these inputs are {dtype}."
        yield Missing("peak", device, why)
    else:
        label = f"share of the dense 16-bit matrix peak, {significant(peak, 3)} TFLOP/s"
        share = partial(_share, peak=peak)
        yield Measure("peak", "Share of the matrix peak", label, "%", share, "no latency", lower_is_better=False)
    bases = {
        row.record.workload.seq: base_s
        for row in rows
        if row.record.variant == reference
        and row.record.injected is None
        and (base_s := median_s(row.record)) is not None
    }
    if not bases:
        shown = reference or "no variant"
        is_slowed = any(row.record.variant == reference for row in rows)
        what = "was slowed down on purpose (--attn-inject)" if is_slowed else "was not measured"
        why = f"{shown} is the reference of speed and {what}, so there is no speed to plot."
        yield Missing("speed", device, why)
    else:
        speed = partial(_speed, bases=bases)
        title = f"Speed against {reference}"
        absent = f"no {reference} at the same length"
        yield Measure("speed", title, "times as fast", "×", speed, absent, lower_is_better=False, guide=1.0)
    yield Measure("workspace", "Workspace", "workspace of one call", "MiB", _workspace, "no workspace figure")


def latency_of(record: Record, scale: float = 1.0) -> tuple[float, float, float]:
    """Median seconds of the rounds, and their band, times `scale`. The record has a latency."""
    rounds_s = _rounds_s(record)
    low, high = (stats.quantile(rounds_s, share) * scale for share in (LOW, HIGH))
    return stats.median_s(rounds_s) * scale, low, high


def rate_of(record: Record) -> Value:
    """TFLOP/s at the median, and their band. The record has a latency."""
    median, low, high = latency_of(record)
    value, worst, best = (stats.tflop_per_s(record.workload.flop, one) for one in (median, high, low))
    return value, worst, best


def _share(record: Record, peak: float) -> Value:
    median, low, high = latency_of(record)
    value, worst, best = (stats.tflop_per_s(record.workload.flop, one) / peak * 100 for one in (median, high, low))
    return value, worst, best


def _speed(record: Record, bases: Mapping[int, float]) -> Value | None:
    """Reference median over this median; the band is of this variant's rounds alone."""
    base_s = bases.get(record.workload.seq)
    if base_s is None:
        return None
    median, low, high = latency_of(record)
    return base_s / median, base_s / high, base_s / low


def _workspace(record: Record) -> Value | None:
    return None if record.workspace_bytes is None else (record.workspace_bytes / 2**20, None, None)


def _rounds_s(record: Record) -> Sequence[float]:
    assert record.sample is not None
    return record.sample.rounds_s
