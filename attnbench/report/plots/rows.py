"""A row per variant, where a chart is of one length."""

from __future__ import annotations

from collections.abc import Sequence

from attnbench.report.charts.chart import DOTS, Chart, Point
from attnbench.report.plots.canvas import FONT, MARKER, SMALL, Canvas, draw_marker
from attnbench.units import significant


def draw_rows(canvas: Canvas, chart: Chart, labels: Sequence[str]) -> None:
    """A row per variant: its band and point, what it is, and the value as text."""
    area = canvas.area
    for at, (one, label) in enumerate(zip(chart.series, labels, strict=True)):
        mark, point, place = canvas.mark(one), one.points[-1], float(len(labels) - 1 - at)
        gid = f"series|{one.slug}"
        x, y = canvas.pixel(point.value, place)
        if point.low is not None and point.high is not None:
            ends = [canvas.pixel(value, place)[0] for value in (point.low, point.high)]
            if abs(ends[1] - ends[0]) > MARKER:  # a shorter one would look like a part of its marker
                canvas.line(ends, [y, y], f"{gid}|band", color=mark.colour, linewidth=5.0, alpha=0.35)
        if point.inner is not None:
            inner, _ = canvas.pixel(point.inner, place)
            canvas.line([inner, x], [y, y], f"{gid}|line", color=mark.colour, linewidth=1.6)
            draw_marker(canvas, one, inner, y, f"{gid}|inner", hollow=True)
        draw_marker(canvas, one, x, y, f"{gid}|point|0", hollow=chart.kind == DOTS and one.mode != "eager")
        canvas.text(area.left - 10, y, label, f"legend-label|{one.slug}|text", FONT, ha="right")
        canvas.text(area.left + area.width + 8, y, row_value(chart, point), f"{gid}|value", SMALL)


def row_value(chart: Chart, point: Point) -> str:
    """The value that stands right of the row."""
    if point.inner is not None and point.told:
        return point.told[0]
    if point.inner is not None:
        return f"{point.inner / point.value * 100:.0f} % kernel"
    return f"{significant(point.value, 4)} {chart.unit}" if chart.unit != "×" else f"{point.value:.3f}×"
