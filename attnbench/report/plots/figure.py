"""A whole figure: heading, key, grid and what the chart shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attnbench.report import marks
from attnbench.report.charts.chart import DOTS, HISTORY, LINES, PAIRS, SCATTER, Chart, Series
from attnbench.report.plots.axes import Axis, axes_of, has_days
from attnbench.report.plots.canvas import (
    BOTTOM,
    FONT,
    KEY_LINE,
    LABEL_GAP,
    LEADER,
    LEFT,
    LONGEST_LABEL,
    LONGEST_SUBTITLE,
    LONGEST_TITLE,
    MARGIN,
    SMALL,
    SWATCH,
    TICK_LINE,
    TITLE,
    WIDTH,
    Area,
    Canvas,
    cut,
    text_width,
)
from attnbench.report.plots.key import KeyEntry, draw_key_entry, key_lines
from attnbench.report.plots.points import draw_blocks, draw_labels, draw_points
from attnbench.report.plots.rows import draw_rows, row_value

PLOT_HEIGHT, ROW_GAP = 340.0, 17.0


def figure_of(chart: Chart, families: Mapping[str, marks.Mark] | None, ink: str) -> Any:
    """The chart as a matplotlib Figure; families that are not given have marks of this chart alone."""
    from matplotlib.figure import Figure

    families = {**marks.family_marks(one.family for one in chart.series), **(families or {})}
    labels = [_label(one) for one in chart.series]
    widest = max(map(text_width, labels))
    is_rows = chart.kind in (DOTS, PAIRS)
    key = key_lines(chart)
    top = MARGIN + TITLE + 22 + len(key) * KEY_LINE + 8
    height = max(PLOT_HEIGHT, len(labels) * LABEL_GAP + 4)
    if is_rows:
        values = max(text_width(row_value(chart, one.points[-1]), SMALL) for one in chart.series)
        left, right, height = widest + MARGIN + 14, values + 10 + MARGIN, len(labels) * ROW_GAP + 6
    elif chart.kind == SCATTER and not chart.roofs:
        left, right = LEFT, MARGIN
    else:
        signs = 14 if chart.kind == HISTORY else 0  # of -0.5
        left, right = LEFT + signs, LEADER + SWATCH + 8 + widest + MARGIN
    bottom = BOTTOM + tick_room(chart)
    area = Area(left, bottom, WIDTH - left - right, height, top + height + bottom)
    figure = Figure(figsize=(WIDTH / 72, area.whole / 72), dpi=72)
    axes = figure.add_axes((area.left / WIDTH, area.bottom / area.whole, area.width / WIDTH, area.height / area.whole))
    axes.set_axis_off()
    canvas = Canvas(figure, axes, area, ink, families)
    x_axis, y_axis = axes_of(chart, area)
    _scale(canvas, x_axis, y_axis)
    _grid(canvas, chart, x_axis, y_axis)
    _heading(canvas, chart, key)
    if is_rows:
        draw_rows(canvas, chart, labels)
    else:
        draw_points(canvas, chart)
        (draw_blocks if chart.kind == SCATTER and not chart.roofs else draw_labels)(canvas, chart, labels)
    return figure


def recolour(figure: Any, ink: str, other: str) -> None:
    """Text and lines of a figure that are drawn in one ink, in another: layout, which takes longest, stays as it is."""
    from matplotlib.lines import Line2D

    lines = [artist for artist in figure.artists if isinstance(artist, Line2D)]
    for artist in (*figure.texts, *lines):
        if artist.get_color() == ink:
            artist.set_color(other)


def _scale(canvas: Canvas, x_axis: Axis, y_axis: Axis) -> None:
    axes = canvas.axes
    axes.set_xscale("log" if x_axis.log else "linear")
    axes.set_yscale("log" if y_axis.log else "linear")
    axes.set_xlim(x_axis.low, x_axis.high)
    axes.set_ylim(y_axis.low, y_axis.high)


def _grid(canvas: Canvas, chart: Chart, x_axis: Axis, y_axis: Axis) -> None:
    area = canvas.area
    left, right, bottom, top = area.left, area.left + area.width, area.bottom, area.bottom + area.height
    faint = {"alpha": 0.18, "linewidth": 0.8}
    for at, (value, label) in enumerate(zip(x_axis.ticks, x_axis.labels, strict=True), 1):
        x, _ = canvas.pixel(value, y_axis.low)
        canvas.line([x, x], [bottom, top], f"grid-x|{at}", **faint)
        for row, text in enumerate(filter(None, label.split("\n"))):
            canvas.text(x, bottom - 11 - row * TICK_LINE, text, f"tick-x|{at}", ha="center")
    for at, (value, label) in enumerate(zip(y_axis.ticks, y_axis.labels, strict=True), 1):
        _, y = canvas.pixel(x_axis.low, value)
        canvas.line([left, right], [y, y], f"grid-y|{at}", **faint)
        if label:
            canvas.text(left - 8, y, label, f"tick-y|{at}", ha="right")
    canvas.line([left, right], [bottom, bottom], "frame|x", linewidth=1.0, alpha=0.6)
    if chart.guide is not None:
        if chart.kind == DOTS:
            x, _ = canvas.pixel(chart.guide, y_axis.low)
            canvas.line([x, x], [bottom, top], "guide|1", linewidth=1.2, alpha=0.7)
        else:
            _, y = canvas.pixel(x_axis.low, chart.guide)
            canvas.line([left, right], [y, y], "guide|1", linewidth=1.2, alpha=0.7)
    for at, roof in enumerate(chart.roofs, 1):
        pixels = [canvas.pixel(x, y) for x, y in roof]
        style = {} if at == 1 else {"linestyle": (0, (4.0, 3.0))}  # the first is measured
        canvas.line([x for x, _ in pixels], [y for _, y in pixels], f"roof|{at}", linewidth=1.2, alpha=0.7, **style)
    x_note = ", log scale" if x_axis.log else ""
    y_note = ", log scale" if y_axis.log else ""
    canvas.text(
        left + area.width / 2, bottom - 32 - tick_room(chart), f"{chart.x_label}{x_note}", "label|x", ha="center"
    )
    if chart.y_label:
        middle = bottom + area.height / 2
        canvas.text(MARGIN + 4, middle, f"{chart.y_label}{y_note}", "label|y", ha="center", va="center", rotation=90)


def tick_room(chart: Chart) -> float:
    """Pixels that labels below the plot take beyond one line: a session may have a day and a unit, too."""
    return (has_days(chart.sessions) + any(one.unit for one in chart.sessions)) * TICK_LINE


def _heading(canvas: Canvas, chart: Chart, key: Sequence[Sequence[KeyEntry]]) -> None:
    y = canvas.area.whole - MARGIN - TITLE / 2
    canvas.text(MARGIN, y, cut(chart.title, LONGEST_TITLE), "title|main", TITLE, weight="bold")
    y -= 20
    canvas.text(MARGIN, y, cut(chart.subtitle, LONGEST_SUBTITLE), "subtitle|main", FONT, alpha=0.8)
    y -= KEY_LINE + 2
    for line in key:
        x = MARGIN
        for entry in line:
            draw_key_entry(canvas, entry, x, y, chart.kind in (LINES, HISTORY))
            x += entry.width
        y -= KEY_LINE


def _label(one: Series) -> str:
    return cut(one.name, LONGEST_LABEL)
