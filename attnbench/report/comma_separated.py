"""Every record as a row of CSV: the columns of kernels-benchmarks' combined `latency.csv` first, in its order, then ours.

A figure that is not known is an empty cell. Percentiles of the first columns are by kernels-benchmarks' definition
(attnbench/report/kbt.py), p20 and p80 are between rounds by linear interpolation. Accuracy is that on the timed inputs.
`Peak Mem (MB)` is in MiB, as there: q, k, v and what one call allocates; of other tools' records, what they recorded.
A verdict is of the case, so it stands in the row of each of its launches.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping

from attnbench.aliases import aliases
from attnbench.model import ErrorMetrics, Record
from attnbench.report import kbt
from attnbench.report.charts.matrix_peak import matrix_peak
from attnbench.report.gather import Gathered, key_of
from attnbench.report.quantities import (
    SIXTEEN_BIT,
    device_name,
    intensity,
    kernel_tflop_per_s,
    median_s,
    peak_bytes,
    share_of_copy,
    share_of_matmul,
    tflop_per_s,
    timed_check,
)
from attnbench.stats import quantile

#: What a cell may hold; None is an empty one.
Value = str | int | float | None

#: A spreadsheet takes a cell that begins so as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def table(gathered: Gathered) -> str:
    """The whole file, with a header, lines ending in CRLF (RFC 4180)."""
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(_COLUMNS)
    for record in gathered.records:
        row = _Row(gathered, record)
        writer.writerow([_cell(value(row)) for value in _COLUMNS.values()])
    return written.getvalue()


class _Row:
    """One record, with what its columns share."""

    def __init__(self, gathered: Gathered, record: Record) -> None:
        self.record = record
        self.workload = record.workload
        self.launch = gathered.launches[record.launch]
        self.context = self.launch.fingerprint.context
        self.gpu = gathered.gpu(record)
        self.verdict = gathered.verdict(record)
        self.times_ms = sorted(round_s * 1e3 for round_s in record.sample.rounds_s) if record.sample else []
        self.peak_bytes = gathered.peak_bytes.get(key_of(record), peak_bytes(record))

    def rank_ms(self, share: float) -> float | None:
        return kbt.at_rank(self.times_ms, share) if self.times_ms else None

    def quantile_ms(self, share: float) -> float | None:
        return quantile(self.times_ms, share) if self.times_ms else None

    def error(self, metric: str) -> float | None:
        check = timed_check(self.record)
        value = getattr(check.error, metric) if check else None
        return float(value) if value is not None else None

    def sustained(self, field: str) -> float | None:
        value: float | None = getattr(self.record.sustained, field) if self.record.sustained else None
        return value

    def judged(self, field: str) -> Value:
        value: Value = getattr(self.verdict, field) if self.verdict else None
        return value


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _mean_ms(row: _Row) -> float | None:
    return math.fsum(row.times_ms) / len(row.times_ms) if row.times_ms else None


def _host_us(row: _Row) -> float | None:
    return _scaled(row.record.sample.host_s, 1e6) if row.record.sample else None


def _share_of_datasheet(row: _Row) -> float | None:
    """Of the dense 16-bit matrix peak, for inputs of 16 bits."""
    rate, peak = tflop_per_s(row.record), matrix_peak(device_name(row.launch))
    return rate / peak if rate is not None and peak and row.workload.dtype in SIXTEEN_BIT else None


def _error(metric: str) -> Callable[[_Row], Value]:
    assert metric in ErrorMetrics.__dataclass_fields__
    return lambda row: row.error(metric)


_COLUMNS: Mapping[str, Callable[[_Row], Value]] = {
    "Implementation": lambda row: row.record.backend,
    "Impl ID": lambda row: row.record.variant,
    "Workload": lambda row: row.workload.name,
    "Batch": lambda row: row.workload.batch,
    "Seq Length": lambda row: row.workload.seq,
    "Heads": lambda row: row.workload.heads,
    "Head Dim": lambda row: row.workload.head_dim,
    "Dtype": lambda row: kbt.DTYPES.get(row.workload.dtype, row.workload.dtype),
    "Mean (ms)": _mean_ms,
    "P10 (ms)": lambda row: row.rank_ms(0.1),
    "P50 (ms)": lambda row: row.rank_ms(0.5),
    "P90 (ms)": lambda row: row.rank_ms(0.9),
    "Reps": lambda row: len(row.times_ms) or None,
    "Peak Mem (MB)": lambda row: None if row.peak_bytes is None else round(row.peak_bytes / 2**20, 2),
    "Backend": lambda row: row.record.backend,
    "Family": lambda row: row.record.family,
    "Median (ms)": lambda row: _scaled(median_s(row.record), 1e3),
    "P20 (ms)": lambda row: row.quantile_ms(0.2),
    "P80 (ms)": lambda row: row.quantile_ms(0.8),
    "Mode": lambda row: row.record.mode,
    "Kernel (ms)": lambda row: _scaled(row.record.kernel_s, 1e3),
    "TFLOP/s": lambda row: tflop_per_s(row.record),
    "First Call (s)": lambda row: row.record.first_call_s,
    "Host (us)": _host_us,
    "Abs Max": _error("max_abs"),
    "MAE": _error("mean_abs"),
    "MSE": _error("mse"),
    "Rel L2": _error("rel_l2"),
    "Cosine": _error("cosine"),
    "Status": lambda row: str(row.record.status),
    "Reason": lambda row: "; ".join(reason.text for reason in row.record.reasons),
    "GPU": lambda row: row.gpu,
    "Driver": lambda row: _text(row.context.get("driver")),
    "Torch": lambda row: _text(row.context.get("torch")),
    "Verdict": lambda row: _text(row.judged("kind")),
    "Change": lambda row: row.judged("change"),
    "Low": lambda row: row.judged("low"),
    "High": lambda row: row.judged("high"),
    "Also Known As": lambda row: ", ".join(aliases(row.record.variant)),
    "Launch": lambda row: row.launch.id,
    "Started": lambda row: row.launch.started_at,
    "Injected": lambda row: row.record.injected,
    "Mask": lambda row: row.workload.mask,
    "Direction": lambda row: row.workload.direction,
    "KV Length": lambda row: row.workload.k_shape[1],
    "KV Heads": lambda row: row.workload.k_shape[2],
    "Dropout": lambda row: row.workload.dropout,
    "Layout": lambda row: row.workload.layout,
    "Sustained (ms)": lambda row: _scaled(row.sustained("median_s"), 1e3),
    "Sustained P20 (ms)": lambda row: _scaled(row.sustained("low_s"), 1e3),
    "Sustained P80 (ms)": lambda row: _scaled(row.sustained("high_s"), 1e3),
    "Power (W)": lambda row: row.sustained("power_w"),
    "Energy (J)": lambda row: row.sustained("joules"),
    "Sustained Clock (MHz)": lambda row: _scaled(row.sustained("clock_hz"), 1e-6),
    "Temperature (C)": lambda row: row.sustained("temperature_c"),
    "FLOP per Byte": lambda row: intensity(row.record),
    "Share of Datasheet Peak": _share_of_datasheet,
    "Share of Matmul": lambda row: share_of_matmul(row.record, row.launch),
    "Share of Copy Bandwidth": lambda row: share_of_copy(row.record, row.launch),
    "Kernel TFLOP/s": lambda row: kernel_tflop_per_s(row.record),
    "Chose": lambda row: row.record.chose,
}


def _cell(value: Value) -> str:
    """Numbers with as many digits as are stored, text that no spreadsheet takes as a formula."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.12g}" if isinstance(value, float) else str(value)
