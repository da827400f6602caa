"""The two latency tables: variant × sequence length for each mode, and all columns for one workload."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

from attnbench import stats
from attnbench.model import MODES, Record, Status
from attnbench.report.pooling import marked
from attnbench.report.quantities import median_s, timed_check
from attnbench.report.table import GAP, WIDTH, aligned, fitted, without_empty, wrapped
from attnbench.units import counted, mebibytes, microseconds, milliseconds, percent, seconds, significant
from attnbench.workload import Workload

#: What stands in a table where a case has no latency.
MARKS = {
    Status.CHECKED: "checked",
    Status.UNSUPPORTED: "–",
    Status.INCORRECT: "INCORRECT",
    Status.ERROR: "ERROR",
    Status.NOT_RUN: "not run",
}
#: Of more variants than these a line below a table says how many, and under -v their names.
MOST_NAMED = 8
#: What stands where a measured case lacks a figure that others in its table have.
UNKNOWN = "?"
#: Names of device kernels and aten operators that only copy: what a backend does to the layout inside the timed call, and
#: what a captured graph does to its inputs.
COPY = re.compile(r"aten::copy_$|Memcpy|copy_kernel|::Copy<")
LONGEST_HEAD = 28
#: Rounds that wait so long for the clock in all are said to. Right after heat, those of a fused kernel waited about 0.4 s on
#: an H200.
LONG_WAIT_S = 1.0
#: A call that keeps the host busy for more than so many times as long as the GPU is said to. In isolated calls, of which
#: `host_s` is, the host of an H200 took 1.6 times as long as in a row (docs/measurements/sustained-h200.md, `te_fp8`).
HOST_BOUND = 2.0
CELL = max(len(mark) for mark in MARKS.values())

_COLUMNS = (
    ("backend", ""),
    ("mode", ""),
    ("median", "ms"),
    ("CV", "%"),
    ("TFLOP", "/s"),
    ("speed", ""),
    ("host", "µs"),
    ("kernel", "%"),
    ("copies", ""),
    ("copy", "µs"),
    ("workspace", "MiB"),
    ("first", "call s"),
    ("rel. L2", "error"),
    ("max abs", "error"),
)
_MODE, _KERNEL, _COPIES = (
    next(at for at, (name, _) in enumerate(_COLUMNS) if name == one) for one in ("mode", "kernel", "copies")
)


#: No case is in several tests.
_ALONE: Mapping[str, int] = MappingProxyType({})


def by_sequence(
    records: Sequence[Record], mode: str, tests: Mapping[str, int] = _ALONE, width: int = WIDTH
) -> list[list[str]]:
    """Median milliseconds of one mode, variant × workload by sequence length, in as many tables as fit the width.

    tests: numbers of the tests of cases that are in several, which are rows of their own.

    A variant that is unsupported on every workload has no row; `not measured` has its reasons.
    """
    able = {r.variant for r in records if r.status is not Status.UNSUPPORTED}
    mine = [r for r in records if r.mode == mode and r.variant in able]
    if not mine:
        return []
    workloads = list(dict.fromkeys(r.workload for r in sorted(mine, key=lambda r: r.workload.seq)))
    places = {name: at for at, name in enumerate(dict.fromkeys(r.variant for r in mine))}
    named = {_name(r, tests): (places[r.variant], tests.get(r.nodeid, 0)) for r in mine}
    variants = sorted(named, key=lambda name: named[name])
    cells = {(_name(r, tests), r.workload): _cell(r) for r in mine}
    first = f"{mode}: median ms"
    tables = []
    for part in _parts(workloads, width - max(len(first), *map(len, variants))):
        header = [[first, *_heads(part)], ["seq", *(str(w.seq) for w in part)]]
        tables.append(aligned(header, [[v, *(cells.get((v, w), "") for w in part)] for v in variants]))
    return tables


def of_workload(
    records: Sequence[Record],
    reference: str,
    tests: Mapping[str, int] = _ALONE,
    width: int = WIDTH,
    details: bool = False,
) -> list[str]:
    """The cases of one workload that ran, fastest first, in as many tables as fit the width.

    `kernel` is the attention kernel's share of the device time of one call and `copy` the time in kernels that only copy,
    both from the profiler; `copies` counts these kernels where no case has a share. Columns without any figure are left
    out. details: every name in the lines below.
    """
    workload = records[0].workload
    references = [r for r in records if r.variant == reference and r.sample]
    base = next((r for r in references if r.injected is None), None)
    base_s = median_s(base) if base else None
    shown = sorted((r for r in records if r.status in (Status.MEASURED, Status.CHECKED)), key=_latency_s)
    rows = [_row(r, base_s, tests) for r in shown]
    if any(row[_KERNEL] for row in rows):
        for row in rows:
            row[_COPIES] = ""
    known = [any(row[at] for row in rows) for at in range(len(_COLUMNS))]
    for row, record in zip(rows, shown, strict=True):
        if record.sample is not None:
            row[:] = [cell or (UNKNOWN if known[at] and at != _KERNEL else "") for at, cell in enumerate(row)]
    header = [[name for name, _ in _COLUMNS], [unit for _, unit in _COLUMNS]]
    heading = [f"{workload.name}  {workload.shown} {workload.distribution}"]
    modes = {row[_MODE] for row in rows}
    if is_one := len(modes) == 1 and modes <= set(MODES):  # said once, not in every row
        heading += modes
        for row in rows:
            row[_MODE] = ""
    if base_s is not None:
        heading.append(f"speed against {reference}")
    elif reference and any(r.sample for r in shown):
        heading.append(f"no speed: {reference} was {'slowed down on purpose' if references else 'not measured'}")
    return [
        *wrapped("; ".join(heading)),
        *fitted(*without_empty(header, rows), left=1 if is_one else 2, most=width),
        *_doubts(shown, tests, details),
    ]


def _name(record: Record, tests: Mapping[str, int]) -> str:
    return f"{record.variant}{marked(record.nodeid, tests)}"


def _doubts(records: Sequence[Record], tests: Mapping[str, int], details: bool) -> list[str]:
    """Which of the figures above were taken under other conditions, and which; of many without `details` how many."""
    samples = [(_name(r, tests), r.sample) for r in records if r.sample]
    waiting = [variant for variant, sample in samples if sample.synchronising]
    below = [f"{variant} ({s.unsettled} of {len(s.rounds_s)} rounds)" for variant, s in samples if s.unsettled]
    long = [
        f"{variant} ({seconds(sample.waited_s)} s)" for variant, sample in samples if sample.waited_s >= LONG_WAIT_S
    ]
    unequal = [f"{variant} ({counted(s.unequal, 'output')})" for variant, s in samples if s.unequal]
    throttled = [variant for variant, sample in samples if sample.self_throttled]
    bound = [
        f"{variant} ({milliseconds(s.host_s)} ms)"
        for variant, s in samples
        if s.host_s and s.host_s > HOST_BOUND * stats.median_s(s.rounds_s) and not s.synchronising
    ]
    unpoisoned = [_name(r, tests) for r in records if not all(check.poisoned for check in r.checks)]
    doubts = {
        "waits for the device inside the call, so host time is part of its latency": waiting,
        "busier on the host than on the GPU, so calls in a row take the host's time": bound,
        "outputs within the tolerance, but not bit-equal to the checked one": unequal,
        "waited long for the clock to reach its ceiling (a warm or shared GPU?)": long,
        "started below the clock's ceiling": below,
        "lowered its own clock": throttled,
        "checked at least once without poisoned memory, so an unwritten element may be missed": unpoisoned,
    }
    if not details:
        many = {doubt: names for doubt, names in doubts.items() if len(names) > MOST_NAMED}
        doubts |= {doubt: [f"{len(names)} of {len(records)}"] for doubt, names in many.items()}
    return [line for doubt, names in doubts.items() if names for line in wrapped(f"{doubt}: {', '.join(names)}")]


def _row(record: Record, base_s: float | None, tests: Mapping[str, int]) -> list[str]:
    check = timed_check(record)
    # With dropout an output is judged by statistics: its distance from attention without says nothing.
    has_error = check is not None and not check.statistics
    error = [f"{check.error.rel_l2:.2e}", f"{check.error.max_abs:.2e}"] if check and has_error else ["", ""]
    latency = [MARKS.get(record.status, ""), "", "", ""]
    median = median_s(record)
    if record.sample is not None and median is not None:
        latency = [
            milliseconds(median),
            percent(stats.coefficient_of_variation(record.sample.rounds_s)),
            significant(stats.tflop_per_s(record.workload.flop, median), 3),
            f"{base_s / median:.3f}×" if base_s else "",
        ]
    host = microseconds(record.sample.host_s) if record.sample else ""
    spent = [
        host,
        percent(_kernel_share(record)),
        *_copies(record),
        mebibytes(record.workspace_bytes),
        seconds(record.first_call_s),
    ]
    return [record.backend, f"{record.mode}{marked(record.nodeid, tests)}", *latency, *spent, *error]


def _kernel_share(record: Record) -> float | None:
    """The attention kernel's time over the device time of the whole profiled call; None where times are missing."""
    times = [op.duration_s for op in record.route]
    known = [duration_s for duration_s in times if duration_s is not None]
    if record.kernel_s is None or len(known) < len(times) or not sum(known):
        return None
    return record.kernel_s / sum(known)


def _copies(record: Record) -> tuple[str, str]:
    """How many kernels of the route only copy, and their time in microseconds from the profiler; empty if unknown."""
    if not record.route:
        return "", ""
    copies = [op for op in record.route if COPY.search(op.name)]
    if any(op.duration_s is None for op in record.route):
        return str(sum(op.count for op in copies)), ""
    return str(sum(op.count for op in copies)), microseconds(sum(op.duration_s or 0.0 for op in copies))


def _cell(record: Record) -> str:
    median = median_s(record)
    return MARKS[record.status] if median is None else milliseconds(median)


def _latency_s(record: Record) -> float:
    median = median_s(record)
    return float("inf") if median is None else median


def _parts(workloads: Sequence[Workload], width: int) -> list[list[Workload]]:
    """`workloads` in order, split so that the columns of each part fit into `width`; each part has at least one."""
    parts: list[list[Workload]] = [[]]
    for workload in workloads:
        wanted = [*parts[-1], workload]
        needed = sum(len(GAP) + max(len(head), CELL) for head in _heads(wanted))
        if parts[-1] and needed > width:
            parts.append([workload])
        else:
            parts[-1] = wanted
    return parts


def _heads(workloads: Sequence[Workload]) -> list[str]:
    """Column heads: a prefix that neighbours share up to the last dash appears once; long names lose their middle."""
    names = [w.name for w in workloads]
    shared = [False, *(a.rpartition("-")[0] == b.rpartition("-")[0] != "" for a, b in pairwise(names))]
    return [_fitted(n.rpartition("-")[2] if same else n) for n, same in zip(names, shared, strict=True)]


def _fitted(name: str) -> str:
    half = LONGEST_HEAD // 2
    return name if len(name) <= LONGEST_HEAD else f"{name[: half - 1]}…{name[-half:]}"
