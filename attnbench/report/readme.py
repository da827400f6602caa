"""The latencies as Markdown tables for a README or an issue: variants down, sequence lengths across, the fastest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from attnbench.model import Record, RunFile
from attnbench.report.cells import code, literal
from attnbench.report.charts.chart import Chart, Series
from attnbench.report.charts.every import charts
from attnbench.report.charts.rows import by_device
from attnbench.report.quantities import timed_check
from attnbench.units import significant


def latency_tables(runs: Sequence[RunFile]) -> list[str]:
    """Lines of Markdown: one table for each GPU and problem, with medians in ms and the largest relative L2 error.

    Records that were slowed down on purpose are left out: a README has no place that says so.
    """
    runs = [replace(run, records=tuple(one for one in run.records if one.injected is None)) for run in runs]
    drawn, _ = charts(runs)
    errors = {device: _errors(records) for device, records in by_device(runs).items()}
    lines: list[str] = []
    for chart in drawn:
        if chart.name == "latency":
            lines += [*([""] if lines else []), *_table(chart, errors.get(chart.device, {}))]
    return lines


def _errors(records: Sequence[Record]) -> dict[tuple[str, str], float]:
    """By variant and workload, the largest relative L2 error on the timed inputs."""
    largest: dict[tuple[str, str], float] = {}
    for record in records:
        if record.sample is not None and (check := timed_check(record)) is not None:
            key = (record.variant, record.workload.name)
            largest[key] = max(check.error.rel_l2, largest.get(key, 0.0))
    return largest


def _table(chart: Chart, errors: Mapping[tuple[str, str], float]) -> Iterator[str]:
    """Heading, columns and rows of one chart of latencies."""
    lengths = sorted({point.seq for series in chart.series for point in series.points})
    yield f"{literal(chart.subtitle.split(' · lower is better')[0])}: median ms of one call by sequence length"
    yield ""
    yield f"| variant | {' | '.join(map(str, lengths))} | rel. L2 error |"
    yield f"| --- |{' --: |' * len(lengths)} --: |"
    for series in sorted(chart.series, key=lambda series: _order(series, lengths)):
        values = {point.seq: significant(point.value, 4) for point in series.points}
        cells = " | ".join(values.get(length, "–") for length in lengths)
        known = [errors[key] for point in series.points if (key := (series.variant, point.workload)) in errors]
        yield f"| {code(series.name)} | {cells} | {format(max(known), '.2e') if known else '–'} |"


def _order(series: Series, lengths: Sequence[int]) -> tuple[bool, float, str]:
    """The fastest at the greatest length first; what was not measured there comes last."""
    at_greatest = [point.value for point in series.points if point.seq == lengths[-1]]
    return not at_greatest, min(at_greatest, default=0.0), series.name
