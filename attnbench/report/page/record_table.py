"""The table of every record."""

from __future__ import annotations

from attnbench import stats
from attnbench.model import Record
from attnbench.report.page.index import Index
from attnbench.report.page.tables import Cell, Column, Row, Table, minute, number, scientific, without_empty
from attnbench.report.page.verdict_rows import change_with_interval
from attnbench.report.quantities import median_s, tflop_per_s, timed_check
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
        number(record.workspace_bytes, lambda value: mebibytes(int(value))),
        number(record.first_call_s, lambda value: significant(value, 3)),
        number(check.error.rel_l2 if check else None, scientific),
        Cell(str(verdict.kind) if verdict else ""),
        Cell(change_with_interval(verdict) if verdict else "", verdict.change if verdict else None),
        Cell(f"{index.launch_number(record)} · {minute(launch.started_at)}", title=record.launch),
    )
    slowed = (f"slowed {signed_percent(record.injected, 1)} %",) if record.injected is not None else ()
    return Row(index.key(record), index.name(record), cells, slowed)


def _band(record: Record) -> tuple[float | None, float | None]:
    if record.sample is None:
        return None, None
    rounds = record.sample.rounds_s
    return stats.quantile(rounds, 0.2), stats.quantile(rounds, 0.8)
