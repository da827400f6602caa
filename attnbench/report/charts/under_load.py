"""What was measured under continuous load: energy, latency beside the settled one, and error against energy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attnbench.model import Record
from attnbench.report.charts.at_longest import rel_l2_of
from attnbench.report.charts.chart import PAIRS, SCATTER, Chart, Missing, Point
from attnbench.report.charts.measures import Measure, Value, latency_of
from attnbench.report.charts.over_length import over_length
from attnbench.report.charts.rows import Row, drawn_once, listed, series_of
from attnbench.report.sustained import doubts
from attnbench.units import milliseconds, significant


def under_load(device: str, problem: str, every: Sequence[Row], slugs: Mapping[str, str]) -> Iterable[Chart | Missing]:
    """What was measured under continuous load: energy over length, settled against sustained, error against energy.

    every: as `rows_under_load` gives them. Nothing where no case was measured so: that is an option, and no figure is
    missing. Notes name the loads that the host limited, and those that were not steady.
    """
    if not every:
        return
    loaded, notes = drawn_once(every)
    found = doubts((row.name, row.record) for row in loaded)
    notes += [f"{what[0].upper()}{what[1:]}: {listed(names)}." for what, names in found.items()]
    where = f"{device} · {problem}"
    energy = Measure("energy", "Energy", "energy of one call under load", "J", _joules, "no energy figure")
    yield over_length(energy, device, where, loaded, slugs, notes)
    longest = max(row.record.workload.seq for row in loaded)
    at_longest = [row for row in loaded if row.record.workload.seq == longest]
    where = f"{where}, sequence length {longest}"
    yield Chart(
        "sustained",
        "",
        device,
        PAIRS,
        "Under continuous load against settled",
        f"{where} · filled: under load, hollow: settled; lower is better",
        "median latency (ms)",
        "",
        "ms",
        series_of(((row, _pair(row.record)) for row in at_longest), slugs),
        notes=tuple(notes),
    )
    traded = [
        (row, Point(longest, row.record.workload.name, error, x=joules[0], told=_trade(error, joules[0])))
        for row in at_longest
        if (error := rel_l2_of(row.record)) is not None and (joules := _joules(row.record)) is not None
    ]
    if not traded:
        why = f"Accuracy against energy: no record on {where} has both an accuracy check and an energy figure."
        yield Missing("error-energy", device, why)
    else:
        yield Chart(
            "error-energy",
            "",
            device,
            SCATTER,
            "Accuracy against energy",
            f"{where} · lower left is better",
            "energy of one call under load (J)",
            "relative L2 error on the timed inputs",
            "",
            series_of(traded, slugs),
            notes=tuple(notes),
        )


def _trade(error: float, joules: float) -> tuple[str, ...]:
    return (f"{significant(joules, 3)} J a call", f"rel. L2 {error:.2e}")


def _pair(record: Record) -> Point:
    load = record.sustained
    assert load is not None
    settled, _, _ = latency_of(record)
    band = (load.low_s * 1e3, load.high_s * 1e3)
    told = (
        f"{load.median_s / settled:.3f}× settled",
        f"{milliseconds(load.median_s)} ms under load, {milliseconds(settled)} ms settled",
    )
    return Point(record.workload.seq, record.workload.name, load.median_s * 1e3, *band, inner=settled * 1e3, told=told)


def _joules(record: Record) -> Value | None:
    load = record.sustained
    return None if load is None or load.joules is None else (load.joules, None, None)
