"""What every part of a figure is drawn with: sizes, text, lines and markers, all in pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from attnbench import printable
from attnbench.report import marks
from attnbench.report.charts.chart import HISTORY, SCATTER, Chart, Point, Series
from attnbench.report.plots import svg

#: Sizes in CSS pixels, which are matplotlib's points here (72 dots per inch). PNG has twice as many.
WIDTH, PNG_SCALE = 960.0, 2
MARGIN, LEFT, BOTTOM, LEADER = 12.0, 64.0, 50.0, 34.0
FONT, SMALL, TITLE = svg.FONT, 9.0, 15.0
KEY_LINE, SWATCH = 17.0, 22.0
MARKER, SMALL_MARKER = 5.5, 4.5
#: Pixels of a line of labels below the plot, and between names beside it.
TICK_LINE, LABEL_GAP = 13.0, 13.0
#: Characters; what is longer loses its middle.
LONGEST_LABEL, LONGEST_TITLE, LONGEST_SUBTITLE = 42, 80, 160


@dataclass(frozen=True)
class Area:
    """Where the plot lies in the figure: pixels from the left and from the bottom, and the figure's height."""

    left: float
    bottom: float
    width: float
    height: float
    whole: float


@dataclass(frozen=True)
class Canvas:
    """What every part of a figure is drawn with."""

    figure: Any
    axes: Any
    area: Area
    ink: str
    families: Mapping[str, marks.Mark]

    def text(self, x: float, y: float, text: str, gid: str, size: float = FONT, **style: Any) -> None:
        """Text at pixels from the figure's left bottom corner; y is the middle of its small letters' height."""
        width, height = WIDTH, self.area.whole
        style = {"ha": "left", "va": "baseline", "color": self.ink, **style}
        if style["va"] == "baseline":  # `center` is of the letters' box: names with and without `_` would not be level
            y -= 0.35 * size
        self.figure.text(x / width, y / height, text, fontsize=size, gid=gid, **style)

    def line(self, xs: Sequence[float], ys: Sequence[float], gid: str, **style: Any) -> None:
        """A line in pixels, anywhere in the figure."""
        from matplotlib.lines import Line2D

        width, height = WIDTH, self.area.whole
        style = {"color": self.ink, "linewidth": 1.0, "solid_capstyle": "butt", "dash_capstyle": "butt", **style}
        line = Line2D([x / width for x in xs], [y / height for y in ys], transform=self.figure.transFigure, **style)
        line.set_gid(gid)
        self.figure.add_artist(line)

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """Where a value of the axes lies, in pixels."""
        at = self.axes.transData.transform((x, y))
        return float(at[0]), float(at[1])

    def mark(self, series: Series) -> marks.Mark:
        return self.families[series.family]


def draw_marker(
    canvas: Canvas, one: Series, x: float, y: float, gid: str, size: float = MARKER, hollow: bool = False
) -> None:
    """The marker of a series' family at a place in pixels."""
    mark = canvas.mark(one)
    style = {"markerfacecolor": "none", "markeredgewidth": 1.4} if hollow else {"markeredgewidth": 0.0}
    if mark.marker in ("X", "P", "D") and not hollow:
        size *= 0.92
    canvas.line([x], [y], gid, color=mark.colour, marker=mark.marker, markersize=size, linestyle="none", **style)


def pixel_of(canvas: Canvas, chart: Chart, point: Point) -> tuple[float, float]:
    """Where a point of the chart lies, in pixels."""
    return canvas.pixel(across(chart, point), point.value)


def across(chart: Chart, point: Point) -> float:
    """Where a point lies on the horizontal axis."""
    return point.x if chart.kind in (SCATTER, HISTORY) and point.x is not None else float(point.seq)


def dashes(mode: str) -> dict[str, Any]:
    """The line style of a mode."""
    pattern = marks.dash(mode)
    return {"linestyle": (0, pattern)} if pattern else {"linestyle": "-"}


def cut(name: str, longest: int) -> str:
    """The name in printable characters; one that is too long loses its middle."""
    return marks.shortened(printable.message(name), longest)


@lru_cache(4096)
def text_width(text: str, size: float = FONT) -> float:
    """Pixels that matplotlib's own font takes; a browser's sans-serif takes about the same or less."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    renderer: Any = RendererAgg(1, 1, 72)
    width, _, _ = renderer.get_text_width_height_descent(text, FontProperties(family="DejaVu Sans", size=size), False)
    return float(width)
