"""The rows of the verdicts, each with its interval as a small drawing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from attnbench.model import Record, Verdict
from attnbench.report.gather import Gathered
from attnbench.report.page.index import Index
from attnbench.report.page.tables import Cell, minute, number
from attnbench.report.verdicts import IN_THE_ROW, worst_first
from attnbench.units import milliseconds, signed_percent


@dataclass(frozen=True)
class Bar:
    """An interval drawn on a scale of 0 to 100; `is_cut` where it goes on beyond the scale."""

    low: float
    high: float
    change: float
    zero: float
    limit: float | None
    is_cut: bool


@dataclass(frozen=True)
class VerdictRow:
    """A verdict, with `bar` to draw its interval: None without one."""

    key: str
    kind: str
    name: str
    workload: str
    gpu: str
    run: str  # when it started, where there are several
    baseline: Cell
    found: Cell
    change: Cell
    interval: Cell
    limit: Cell
    finds: Cell
    launches: int
    said: tuple[str, ...]
    reproduce: str
    bar: Bar | None


@dataclass(frozen=True)
class _Judged:
    """A verdict with the first record of its case, None where none is stored, and its run's start among several."""

    verdict: Verdict
    record: Record | None
    started: str


def verdict_rows(index: Index) -> tuple[VerdictRow, ...]:
    """Worst first, over all runs."""
    judged = {id(one.verdict): one for one in _judged(index.gathered)}
    ordered = worst_first(index.gathered.verdicts)
    scale = _scale(ordered)
    return tuple(_row(index, judged[id(verdict)], scale) for verdict in ordered)


def change_with_interval(verdict: Verdict) -> str:
    """`+3.1 % [+2.0, +5.0]`; nothing without a change."""
    return "" if verdict.change is None else f"{signed_percent(verdict.change)} % [{_ends(verdict)}]"


def _judged(gathered: Gathered) -> Iterable[_Judged]:
    runs = [source.run for source in gathered.runs if source.run.verdicts]
    for run in runs:
        started = minute(run.launches[0].started_at) if len(runs) > 1 and run.launches else ""
        by_test = {(record.case, record.nodeid): record for record in reversed(run.records)}
        by_case = {record.case: record for record in reversed(run.records)}
        for verdict in run.verdicts:
            record = by_test.get((verdict.case, verdict.nodeid)) or by_case.get(verdict.case)
            yield _Judged(verdict, record, started)


def _row(index: Index, judged: _Judged, scale: tuple[float, float]) -> VerdictRow:
    verdict, record = judged.verdict, judged.record
    return VerdictRow(
        index.key(record) if record is not None else index.key_with(verdict=str(verdict.kind)),
        str(verdict.kind),
        index.name(record) if record is not None else verdict.case,
        record.workload.name if record is not None else "",
        index.gpu_if_several(record) if record is not None else "",
        judged.started,
        number(verdict.baseline_s, milliseconds),
        number(verdict.found_s, milliseconds),
        number(verdict.change, signed_percent),
        Cell("" if verdict.change is None else f"[{_ends(verdict)}]", verdict.low),
        number(verdict.limit, lambda value: f"{value * 100:.3g}"),
        number(verdict.found_by, signed_percent),
        verdict.launches,
        _said(verdict, record),
        verdict.reproduce,
        _bar(verdict, scale),
    )


def _said(verdict: Verdict, record: Record | None) -> tuple[str, ...]:
    """What stands under the case's name, each sentence once."""
    sentences = [reason.text for reason in verdict.reasons if verdict.change is None or reason.code not in IN_THE_ROW]
    if verdict.change is not None and not verdict.known_unit:
        sentences.append("a GPU unit that the baseline does not know: a slow-down is only suspected")
    sentences += [*([verdict.chose] if verdict.chose else []), *verdict.notes]
    if record is not None and record.injected is not None and not any("INJECTED" in one for one in sentences):
        sentences.insert(0, f"slowed down on purpose by {signed_percent(record.injected, 1)} %")
    return tuple(dict.fromkeys(sentences))


def _ends(verdict: Verdict) -> str:
    return ", ".join("?" if end is None else signed_percent(end) for end in (verdict.low, verdict.high))


def _scale(verdicts: Iterable[Verdict]) -> tuple[float, float]:
    """Left and right end of the drawn intervals: all of most of them, and at least the limits."""
    ends = sorted(end for v in verdicts for end in (v.low, v.high) if end is not None and math.isfinite(end))
    limits = [v.limit for v in verdicts if v.limit is not None]
    if not ends:
        return -0.01, 0.02
    low, high = ends[len(ends) // 50], ends[-1 - len(ends) // 50]
    return min(low, -0.005), max(high, 1.2 * max(limits, default=0.0), 0.01)


def _bar(verdict: Verdict, scale: tuple[float, float]) -> Bar | None:
    ends = (verdict.low, verdict.high, verdict.change)
    if any(end is None or not math.isfinite(end) for end in ends):
        return None
    low, high, change = (float(end) for end in ends if end is not None)

    def place(value: float) -> float:
        share = (value - scale[0]) / (scale[1] - scale[0])
        return round(100 * min(max(share, 0.0), 1.0), 1)

    limit = None if verdict.limit is None else place(verdict.limit)
    return Bar(place(low), place(high), place(change), place(0.0), limit, low < scale[0] or high > scale[1])
