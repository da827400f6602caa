"""Points with their lines, bands and events, and the names beside them."""

from __future__ import annotations

from collections.abc import Sequence

from attnbench.report import marks
from attnbench.report.charts.chart import HISTORY, LINES, SCATTER, Chart
from attnbench.report.plots.canvas import (
    LABEL_GAP,
    LEADER,
    SMALL_MARKER,
    SWATCH,
    WIDTH,
    Canvas,
    across,
    dashes,
    draw_marker,
    pixel_of,
    text_width,
)
from attnbench.report.plots.events import VERDICT_GAP, draw_event

#: Points of a scatter chart that are within this many pixels share a block of labels.
CLUSTER_WIDTH, CLUSTER_HEIGHT = 24.0, 12.0


def draw_points(canvas: Canvas, chart: Chart) -> None:
    """Lines with their bands or events, or the points of a scatter chart; the best is drawn last, on top."""
    for one in reversed(chart.series):
        mark = canvas.mark(one)
        pixels = [pixel_of(canvas, chart, point) for point in one.points]
        gid = f"series|{one.slug}"
        if chart.kind == LINES:
            if any(point.low is not None for point in one.points):
                lows = [canvas.pixel(p.seq, p.value if p.low is None else p.low) for p in one.points]
                highs = [canvas.pixel(p.seq, p.value if p.high is None else p.high) for p in one.points]
                _band(canvas, [*lows, *reversed(highs)], mark.colour, f"{gid}|band")
            xs, ys = [x for x, _ in pixels], [y for _, y in pixels]
            canvas.line(xs, ys, f"{gid}|line", color=mark.colour, linewidth=1.6, **dashes(one.mode))
        elif chart.kind == HISTORY:
            xs, ys = [x for x, _ in pixels], [y for _, y in pixels]
            canvas.line(xs, ys, f"{gid}|line", color=mark.colour, linewidth=1.3, **dashes(one.mode))
        for at, (point, (x, y)) in enumerate(zip(one.points, pixels, strict=True)):
            for event in point.events:
                place = y + {"regressed": VERDICT_GAP, "improved": -VERDICT_GAP}.get(event, 0.0)
                draw_event(canvas, event, x, place, f"{gid}|event event--{event}", mark.colour)
            hollow = point.is_hollow or (chart.kind == SCATTER and one.mode != "eager")
            draw_marker(canvas, one, x, y, f"{gid}|point|{at}", hollow=hollow)


def draw_labels(canvas: Canvas, chart: Chart, labels: Sequence[str]) -> None:
    """The names right of the plot, level with where their lines end as far as their neighbours allow."""
    area = canvas.area
    ends = [pixel_of(canvas, chart, one.points[-1]) for one in chart.series]
    longest = max(across(chart, one.points[-1]) for one in chart.series)
    column = area.left + area.width + LEADER
    places = marks.apart([y for _, y in ends], LABEL_GAP, area.bottom + 2, area.bottom + area.height - 2)
    for one, label, (x, y), place in zip(chart.series, labels, ends, places, strict=True):
        colour, gid = canvas.mark(one).colour, f"legend-label|{one.slug}"
        xs, ys = [x, column - LEADER + 8, column - 3], [y, y, place]
        ended = across(chart, one.points[-1]) < longest  # its leader crosses the plot, and must not look like data
        style = {"linestyle": (0, (1.0, 3.0))} if ended else {}
        canvas.line(xs, ys, f"series|{one.slug}|leader", color=colour, linewidth=0.7, alpha=0.55, **style)
        swatch = [column, column + SWATCH]
        canvas.line(swatch, [place] * 2, f"{gid}|swatch", color=colour, linewidth=1.6, **dashes(one.mode))
        draw_marker(canvas, one, column + SWATCH / 2, place, f"{gid}|marker", SMALL_MARKER)
        canvas.text(column + SWATCH + 6, place, label, f"{gid}|text")


def draw_blocks(canvas: Canvas, chart: Chart, labels: Sequence[str]) -> None:
    """The names beside their points, with a line from one to the other; points that lie together share a block."""
    area = canvas.area
    places = [pixel_of(canvas, chart, one.points[-1]) for one in chart.series]
    groups = marks.clusters(places, CLUSTER_WIDTH, CLUSTER_HEIGHT)
    points = [marks.Box(x - 4, y - 4, 8, 8) for x, y in places]
    anchors = [_around([points[at] for at in group]) for group in groups]
    sizes = [(max(text_width(labels[at]) for at in group) + 10, len(group) * LABEL_GAP) for group in groups]
    room = marks.Box(area.left + 4, area.bottom + 4, area.width - 4, area.height - 4)
    for group, box in zip(groups, marks.placed(anchors, sizes, points, room), strict=True):
        for row, at in enumerate(sorted(group, key=lambda at: places[at][0])):
            one, y = chart.series[at], box.y + box.height - (row + 0.5) * LABEL_GAP
            colour, gid = canvas.mark(one).colour, f"legend-label|{one.slug}"
            near = box.nearest(*places[at])
            ends = [places[at][0], near[0]], [places[at][1], near[1]]
            canvas.line(*ends, f"series|{one.slug}|leader", color=colour, linewidth=0.7, alpha=0.55)
            # A bar, as a marker would look like a point.
            canvas.line([box.x + 3] * 2, [y - 4.5, y + 4.5], f"{gid}|swatch", color=colour, linewidth=3.0)
            canvas.text(box.x + 8, y, labels[at], f"{gid}|text")


def _around(boxes: Sequence[marks.Box]) -> marks.Box:
    left, bottom = min(one.x for one in boxes), min(one.y for one in boxes)
    right, top = max(one.x + one.width for one in boxes), max(one.y + one.height for one in boxes)
    return marks.Box(left, bottom, right - left, top - bottom)


def _band(canvas: Canvas, corners: Sequence[tuple[float, float]], colour: str, gid: str) -> None:
    from matplotlib.patches import Polygon

    shares = [(x / WIDTH, y / canvas.area.whole) for x, y in corners]
    band = Polygon(
        shares,
        closed=True,
        facecolor=colour,
        edgecolor="none",
        alpha=0.22,
        transform=canvas.figure.transFigure,
        zorder=1.9,
    )
    band.set_gid(gid)
    canvas.figure.add_artist(band)
