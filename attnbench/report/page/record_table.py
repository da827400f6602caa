"""The table of every record."""

from __future__ import annotations

from dataclasses import replace

from attnbench import stats
from attnbench.model import Record
from attnbench.report.page.index import Index
from attnbench.report.page.tables import Cell, Column, Row, Table, minute, number, scientific, without_empty
from attnbench.report.page.verdict_rows import change_with_interval
from attnbench.report.quantities import median_s, share_of_copy, share_of_matmul, tflop_per_s, timed_check
from attnbench.units import mebibytes, milliseconds, signed_percent, significant

COLUMNS: tuple[Column, ...] = (
    ("Variant", "", ""),
    ("Workload", "tokens", ""),
    ("GPU", "", ""),
    ("Status", "", ""),
    ("Median", "ms", "of the rounds of one launch"),
    ("20–80 %", "ms", "band that these shares of the rounds lie in"),
    ("TFLOP/s", "", "at the median"),
    ("Kernel", "ms", "the attention kernel's own time, by the profiler"),
    ("Sustained", "ms", "median of the batches under continuous load (--attn-sustained)"),
    ("Power", "W", "average of the board under that load, by NVML's energy counter"),
    ("Energy", "J/call", "of the board under that load"),
    ("Clock", "MHz", "average SM clock under that load"),
    ("Of matmul", "%", "of the FLOP/s that this GPU reached in a bf16 product of 8192³ (--attn-roofline)"),
    ("Of copy", "%", "bytes that one call must move at least, of what this GPU reached in a copy"),
    ("Workspace", "MiB", "peak of the allocator over one warm call, output included"),
    ("First call", "s", ""),
    ("Rel. L2", "", "error on the timed inputs"),
    ("Verdict", "", ""),
    ("Change", "% [interval]", "against the baseline; positive is slower"),
    ("Launch", "number · start, UTC", ""),
)


def record_table(index: Index) -> Table:
    """A row per record, in the order of the files."""
    return without_empty(COLUMNS, [_row(index, record) for record in index.gathered.records])


def _row(index: Index, record: Record) -> Row:
    verdict = index.gathered.verdict(record)
    launch = index.gathered.launches[record.launch]
    check = timed_check(record)
    low, high = _band(record)
    reasons = "; ".join(reason.text for reason in record.reasons)
    cells = (
        Cell(f"{record.workload.name} ({record.workload.seq})", record.workload.seq),
        Cell(index.gpu_if_several(record)),
        Cell(str(record.status), title=reasons),
        number(median_s(record), milliseconds),
        Cell("" if low is None or high is None else f"{milliseconds(low)}–{milliseconds(high)}", low, is_spelt=True),
        number(tflop_per_s(record), lambda value: significant(value, 4)),
        number(record.kernel_s, milliseconds),
        *_under_load(record),
        number(share_of_matmul(record, launch), _percents),
        number(share_of_copy(record, launch), _percents),
        number(record.workspace_bytes, lambda value: mebibytes(int(value))),
        number(record.first_call_s, lambda value: significant(value, 3)),
        number(check.error.rel_l2 if check else None, scientific),
        Cell(str(verdict.kind) if verdict else ""),
        Cell(change_with_interval(verdict) if verdict else "", verdict.change if verdict else None),
        Cell(f"{index.launch_number(record)} · {minute(launch.started_at)}", title=record.launch),
    )
    slowed = (f"slowed {signed_percent(record.injected, 1)} %",) if record.injected is not None else ()
    chose = (f"chose {record.chose}",) if record.chose else ()
    return Row(index.key(record), index.name(record), cells, (*slowed, *chose))


def _band(record: Record) -> tuple[float | None, float | None]:
    if record.sample is None:
        return None, None
    rounds = record.sample.rounds_s
    return stats.quantile(rounds, 0.2), stats.quantile(rounds, 0.8)


def _under_load(record: Record) -> tuple[Cell, ...]:
    """Latency, power, energy and clock under continuous load; why one is missing is in the tooltip of the first."""
    load = record.sustained
    if load is None:
        return (Cell(""),) * 4
    return (
        replace(number(load.median_s, milliseconds), title=load.note),
        number(load.power_w, lambda value: f"{value:.0f}"),
        number(load.joules, lambda value: significant(value, 3)),
        number(load.clock_hz, lambda value: f"{value / 1e6:.0f}"),
    )


def _percents(share: float) -> str:
    return significant(share * 100, 3)
