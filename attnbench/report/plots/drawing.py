"""Charts as files: SVG for a page or on its own, and PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from attnbench import printable
from attnbench.report import marks
from attnbench.report.charts.chart import Chart
from attnbench.report.plots import svg
from attnbench.report.plots.canvas import PNG_SCALE
from attnbench.report.plots.figure import figure_of, recolour
from attnbench.report.plots.matplotlib_settings import settings, unavailable


def draw_svg(
    chart: Chart, families: Mapping[str, marks.Mark] | None = None, *, prefix: str = "", standalone: bool = True
) -> str:
    """The chart as SVG with text as text, and the ids and classes that attnbench/report/plots/svg.py lists.

    families: `marks.family_marks` of every family in the report, by default of the chart's. prefix: put before every id,
    for a page with several plots. standalone: a file of its own, with a style for light and dark; otherwise an element
    for a page, whose text inherits `color`. Raises ImportError where `unavailable` says why.
    """
    with settings():
        return svg.rewritten(_shapes(figure_of(chart, families, marks.INK)), chart, prefix, standalone)


def draw_png(chart: Chart, families: Mapping[str, marks.Mark] | None = None, *, dark: bool = False) -> bytes:
    """The chart as a transparent PNG of twice the SVG's size; dark: with light text, for a dark background.

    Raises ImportError where `unavailable` says why.
    """
    with settings():
        return _png(figure_of(chart, families, marks.DARK_INK if dark else marks.INK))


def _shapes(figure: Any) -> svg.Shapes:
    """What matplotlib draws, from which both forms of the SVG are made."""
    raw = io.BytesIO()
    figure.savefig(raw, format="svg", transparent=True)
    return svg.shapes_of(raw.getvalue())


def _png(figure: Any) -> bytes:
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=72 * PNG_SCALE, transparent=True, metadata={"Software": None})
    return raw.getvalue()


@dataclass(frozen=True)
class Drawn:
    """Plots of a report. files: file name → content (`latency.svg`; of PNG `latency.png` and `latency-dark.png`).

    figures: each chart as SVG to stand inline in a page, its ids led by its stem. sentences: what could not be drawn.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    figures: Sequence[tuple[Chart, str]] = ()
    sentences: Sequence[str] = ()


def draw_all(charts: Sequence[Chart], formats: Sequence[str] = ("svg",)) -> Drawn:
    """Every chart in those of the formats svg, png and html (inline) that are asked for, each laid out once.

    Never raises: a chart that fails is a sentence, and so is a matplotlib that is not there.
    """
    if not charts:
        return Drawn()
    if why := unavailable():
        return Drawn(sentences=[why])
    families = marks.family_marks(one.family for chart in charts for one in chart.series)
    files: dict[str, bytes] = {}
    figures: list[tuple[Chart, str]] = []
    sentences = []
    for chart in charts:
        try:
            drawn, inline = _drawn(chart, families, formats)
        except Exception as exc:  # a plot that fails never fails a run
            text = f"The plot {chart.stem} was not drawn: {type(exc).__name__}: {exc}"
            sentences.append(printable.message(text))
        else:
            files.update(drawn)
            figures += [(chart, svg_text) for svg_text in inline]
    return Drawn(files, figures, sentences)


def _drawn(
    chart: Chart, families: Mapping[str, marks.Mark], formats: Sequence[str]
) -> tuple[dict[str, bytes], list[str]]:
    """The files of a chart, and the SVG for a page if it is asked for."""
    files: dict[str, bytes] = {}
    inline: list[str] = []
    with settings():
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        figure = figure_of(chart, families, marks.INK)
        if "svg" in formats or "html" in formats:
            shapes = _shapes(figure)
            if "svg" in formats:
                files[f"{chart.stem}.svg"] = svg.rewritten(shapes, chart, "", True).encode()
            if "html" in formats:
                inline.append(svg.rewritten(shapes, chart, f"{chart.stem}--", False))
        if "png" in formats:
            FigureCanvasAgg(figure)  # the same for both, with the widths that the first one measures
            files[f"{chart.stem}.png"] = _png(figure)
            recolour(figure, marks.INK, marks.DARK_INK)
            files[f"{chart.stem}-dark.png"] = _png(figure)
    return files, inline
