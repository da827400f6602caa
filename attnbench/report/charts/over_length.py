"""One measure over the sequence length; with one length alone, a row per variant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from attnbench.report.charts.chart import DOTS, LINES, Chart, Missing, Point
from attnbench.report.charts.measures import Measure, Value
from attnbench.report.charts.rows import Row, absent, series_of


def over_length(
    measure: Measure,
    device: str,
    where: str,
    rows: Sequence[Row],
    slugs: Mapping[str, str],
    notes: Sequence[str],
) -> Chart | Missing:
    """The chart of a measure, or why there is none. where: device and problem in words; notes: on what the rows lack."""
    values = [(row, value) for row in rows if (value := measure.of(row.record)) is not None and _is_drawable(value)]
    if not values:
        return Missing(measure.name, device, f"{measure.title}: no record on {where} has data for this plot.")
    known = {row.name for row, _ in values}
    lengths = sorted({row.record.workload.seq for row, _ in values})
    series = series_of(((row, _point(row, value)) for row, value in values), slugs)
    banded = any(point.low is not None for one in series for point in one.points)
    better = f" · {'lower' if measure.lower_is_better else 'higher'} is better"
    band = f"{better} · band: 20 to 80 % of the rounds" if banded else better
    if len(lengths) > 1:
        kind, title, x_label = LINES, f"{measure.title} over sequence length", "sequence length (tokens)"
    else:
        kind, title, x_label = DOTS, measure.title, f"{measure.label} ({measure.unit})"
        where = f"{where}, sequence length {lengths[0]}"
    return Chart(
        measure.name,
        "",
        device,
        kind,
        title,
        f"{where}{band}",
        x_label,
        f"{measure.label} ({measure.unit})" if kind == LINES else "",
        measure.unit,
        series,
        measure.lower_is_better,
        measure.guide,
        (*notes, *absent(measure.absent, (row.name for row in rows if row.name not in known))),
    )


def _point(row: Row, value: Value) -> Point:
    return Point(row.record.workload.seq, row.record.workload.name, *value)


def _is_drawable(value: Value) -> bool:
    return all(part is None or math.isfinite(part) for part in value)
