"""Charts as SVG and PNG, drawn by matplotlib (the extra `report`), which is imported inside functions only.

The same chart gives the same bytes on every machine: matplotlib's own font, its default settings whatever a user's
matplotlibrc says, no dates, and ids that do not depend on the process. No display and no folder to write to is needed.
"""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from attnbench import printable
from attnbench.report import marks, svg
from attnbench.report.series import DOTS, HISTORY, LINES, PAIRS, SCATTER, Chart, Point, Series, Session
from attnbench.units import significant

#: Sizes in CSS pixels, which are matplotlib's points here (72 dots per inch). PNG has twice as many.
WIDTH, PNG_SCALE = 960.0, 2
PLOT_HEIGHT, LABEL_GAP, ROW_GAP = 340.0, 13.0, 17.0
MARGIN, LEFT, BOTTOM, LEADER = 12.0, 64.0, 50.0, 34.0
FONT, SMALL, TITLE = svg.FONT, 9.0, 15.0
KEY_LINE, SWATCH = 17.0, 22.0
MARKER, SMALL_MARKER = 5.5, 4.5
#: Of a history: pixels from a point to the mark of its verdict, half of the mark of other versions, a line of labels.
VERDICT_GAP, VERSIONS_HALF, TICK_LINE = 10.0, 8.0, 13.0
#: A history shows at least so many percent in both directions: noise is not drawn as a mountain.
LEAST_CHANGE = 1.0
#: Marks of events: matplotlib's marker, or a bar, and its text in the key.
_EVENTS = {
    "versions": ("|", "other versions than before"),
    "regressed": ("^", "regressed"),
    "improved": ("v", "improved"),
}
_HOLLOW = "another GPU unit than the newest"
#: Points of a scatter chart that are within this many pixels share a block of labels.
CLUSTER_WIDTH, CLUSTER_HEIGHT = 24.0, 12.0
#: Characters; what is longer loses its middle.
LONGEST_LABEL, LONGEST_TITLE, LONGEST_SUBTITLE = 42, 80, 160
#: From this ratio of largest to smallest value on an axis is logarithmic (values) or in powers of two (lengths).
LOG_FROM = 5.0
#: From this ratio on a linear axis begins at zero; below it zero would leave the lines no room.
ZERO_FROM = 2.5


def unavailable() -> str:
    """Why no plot can be drawn here and what to do, one sentence; empty where matplotlib can be imported."""
    try:
        with _quiet():
            import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] == "matplotlib":
            return "No plots: matplotlib is not installed. To have them: pip install matplotlib"
        return f"No plots: matplotlib cannot be imported: {printable.message(str(exc))}"
    except Exception as exc:  # a build for another numpy, a broken matplotlibrc
        return f"No plots: matplotlib cannot be imported: {printable.message(f'{type(exc).__name__}: {exc}')}"
    return ""


def draw_svg(
    chart: Chart, families: Mapping[str, marks.Mark] | None = None, *, prefix: str = "", standalone: bool = True
) -> str:
    """The chart as SVG with text as text, and the ids and classes that attnbench/report/svg.py lists.

    families: `marks.family_marks` of every family in the report, by default of the chart's. prefix: put before every id,
    for a page with several plots. standalone: a file of its own, with a style for light and dark; otherwise an element
    for a page, whose text inherits `color`. Raises ImportError where `unavailable` says why.
    """
    return svg.rewritten(_raw_svg(chart, families), chart, prefix, standalone)


def _raw_svg(chart: Chart, families: Mapping[str, marks.Mark] | None) -> bytes:
    """What matplotlib writes, from which both forms of the SVG are made."""
    with _settings():
        figure = _figure(chart, families, marks.INK)
        raw = io.BytesIO()
        figure.savefig(raw, format="svg", transparent=True)
    return raw.getvalue()


def draw_png(chart: Chart, families: Mapping[str, marks.Mark] | None = None, *, dark: bool = False) -> bytes:
    """The chart as a transparent PNG of twice the SVG's size; dark: with light text, for a dark background.

    Raises ImportError where `unavailable` says why.
    """
    with _settings():
        figure = _figure(chart, families, marks.DARK_INK if dark else marks.INK)
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
    """Every chart in those of the formats svg, png and html (inline) that are asked for, each SVG drawn once.

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
            raw = _raw_svg(chart, families) if "svg" in formats or "html" in formats else b""
            if "svg" in formats:
                files[f"{chart.stem}.svg"] = svg.rewritten(raw, chart, "", True).encode()
            if "html" in formats:
                figures.append((chart, svg.rewritten(raw, chart, f"{chart.stem}--", False)))
            if "png" in formats:
                files[f"{chart.stem}.png"] = draw_png(chart, families)
                files[f"{chart.stem}-dark.png"] = draw_png(chart, families, dark=True)
        except Exception as exc:  # a plot that fails never fails a run
            text = f"The plot {chart.stem} was not drawn: {type(exc).__name__}: {exc}"
            sentences.append(printable.message(text))
    return Drawn(files, figures, sentences)


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on stderr: neither of a folder that cannot be written, nor of a glyph that the font lacks."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


@contextmanager
def _settings() -> Iterator[None]:
    """matplotlib's defaults and what plots need beside them, whatever the user has set; theirs come back afterwards."""
    with _quiet():
        import matplotlib as mpl

        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(
                {
                    "svg.fonttype": "none",  # text as text
                    "svg.hashsalt": "attnbench",
                    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same widths everywhere
                    "font.size": FONT,
                    "text.parse_math": False,  # `$` in a name is a dollar
                    "text.usetex": False,
                    "path.simplify": False,
                    "savefig.dpi": 72,
                    "figure.dpi": 72,
                }
            )
            yield


@dataclass(frozen=True)
class _Axis:
    """Limits, scale and ticks of one axis."""

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class _Area:
    """Where the plot lies in the figure: pixels from the left and from the bottom, and the figure's height."""

    left: float
    bottom: float
    width: float
    height: float
    whole: float


@dataclass(frozen=True)
class _Canvas:
    """What every part of a figure is drawn with."""

    figure: Any
    axes: Any
    area: _Area
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


def _figure(chart: Chart, families: Mapping[str, marks.Mark] | None, ink: str) -> Any:
    from matplotlib.figure import Figure

    families = {**marks.family_marks(one.family for one in chart.series), **(families or {})}
    labels = [_label(one) for one in chart.series]
    widest = max(map(_text_width, labels))
    is_rows = chart.kind in (DOTS, PAIRS)
    key = _key_lines(chart)
    top = MARGIN + TITLE + 22 + len(key) * KEY_LINE + 8
    height = max(PLOT_HEIGHT, len(labels) * LABEL_GAP + 4)
    if is_rows:
        values = max(_text_width(_row_value(chart, one.points[-1]), SMALL) for one in chart.series)
        left, right, height = widest + MARGIN + 14, values + 10 + MARGIN, len(labels) * ROW_GAP + 6
    elif chart.kind == SCATTER and not chart.roofs:
        left, right = LEFT, MARGIN
    else:
        signs = 14 if chart.kind == HISTORY else 0  # of -0.5
        left, right = LEFT + signs, LEADER + SWATCH + 8 + widest + MARGIN
    bottom = BOTTOM + _tick_room(chart)
    area = _Area(left, bottom, WIDTH - left - right, height, top + height + bottom)
    figure = Figure(figsize=(WIDTH / 72, area.whole / 72), dpi=72)
    axes = figure.add_axes((area.left / WIDTH, area.bottom / area.whole, area.width / WIDTH, area.height / area.whole))
    axes.set_axis_off()
    canvas = _Canvas(figure, axes, area, ink, families)
    x_axis, y_axis = _axes(chart, area)
    _scale(canvas, x_axis, y_axis)
    _grid(canvas, chart, x_axis, y_axis)
    _heading(canvas, chart, key)
    if is_rows:
        _draw_rows(canvas, chart, labels)
    else:
        _draw_points(canvas, chart)
        (_draw_blocks if chart.kind == SCATTER and not chart.roofs else _draw_labels)(canvas, chart, labels)
    return figure


def _axes(chart: Chart, area: _Area) -> tuple[_Axis, _Axis]:
    points = [point for one in chart.series for point in one.points]
    if chart.kind in (DOTS, PAIRS):
        guide = [] if chart.guide is None else [chart.guide]
        return _value_axis(_values(points) + guide, chart.unit), _row_axis(len(chart.series))
    if chart.kind == SCATTER:
        roofs = [corner for roof in chart.roofs for corner in roof]
        horizontal = [*(point.x for point in points if point.x is not None), *(x for x, _ in roofs)]
        vertical = [*(point.value for point in points), *(y for _, y in roofs)]
        return _value_axis(horizontal, "ms"), _value_axis(vertical, "")
    if chart.kind == HISTORY:
        values = [one.value for one in points]
        return _session_axis(chart.sessions, area.width), _value_axis([*values, -LEAST_CHANGE, LEAST_CHANGE], "%")
    guide = [] if chart.guide is None else [chart.guide]
    return _length_axis([point.seq for point in points], area.width), _value_axis(_values(points) + guide, chart.unit)


def _values(points: Iterable[Point]) -> list[float]:
    found = (part for point in points for part in (point.value, point.low, point.high, point.inner))
    return [part for part in found if part is not None]


def _value_axis(values: Sequence[float], unit: str) -> _Axis:
    low, high = min(values), max(values)
    ratio = high / low if low > 0 else math.inf
    log = low > 0 and ratio >= LOG_FROM and unit not in ("TFLOP/s", "%")
    if log:
        margin = ratio**0.04
        low, high = low / margin, high * margin
    elif low >= 0 and ratio >= ZERO_FROM:
        low, high = 0.0, high * 1.05 or 1.0
    else:
        margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
        low, high = low - margin, high + margin
    found = tuple(marks.ticks(low, high, log))
    return _Axis(low, high, log, found, tuple(map(_digits, found)))


def _length_axis(lengths: Sequence[int], width: float) -> _Axis:
    unique = sorted(set(lengths))
    low, high = float(unique[0]), float(unique[-1])
    log = high / low >= LOG_FROM
    if log:
        margin = (high / low) ** 0.03
        limits = low / margin, high * margin
        places = [math.log(one / limits[0]) / math.log(limits[1] / limits[0]) * width for one in unique]
    else:
        margin = (high - low) * 0.03
        limits = low - margin, high + margin
        places = [(one - limits[0]) / (limits[1] - limits[0]) * width for one in unique]
    gap = max(len(str(one)) for one in unique) * 6.5 + 8
    kept = tuple(marks.spaced([float(one) for one in unique], places, gap))
    return _Axis(*limits, log, kept, tuple(f"{one:.0f}" for one in kept))


def _session_axis(sessions: Sequence[Session], width: float) -> _Axis:
    """Sessions from 1, evenly spaced, each with its day where there are several, its time and its unit."""
    low, high = 0.6, len(sessions) + 0.4
    places = [float(at) for at in range(1, len(sessions) + 1)]
    kept = marks.spaced(places, [(one - low) / (high - low) * width for one in places], 62)
    days = _has_days(sessions)
    shown = (sessions[int(at) - 1] for at in kept)
    labels = ((one.started_at[5:10] if days else "", one.started_at[11:16], one.unit) for one in shown)
    return _Axis(low, high, False, tuple(kept), tuple(map("\n".join, labels)))


def _has_days(sessions: Sequence[Session]) -> bool:
    return len({one.started_at[:10] for one in sessions}) > 1


def _row_axis(count: int) -> _Axis:
    """Rows from the top: the first series has the greatest place."""
    places = tuple(float(count - 1 - at) for at in range(count))
    return _Axis(-0.6, count - 0.4, False, places, tuple("" for _ in places))


def _scale(canvas: _Canvas, x_axis: _Axis, y_axis: _Axis) -> None:
    axes = canvas.axes
    axes.set_xscale("log" if x_axis.log else "linear")
    axes.set_yscale("log" if y_axis.log else "linear")
    axes.set_xlim(x_axis.low, x_axis.high)
    axes.set_ylim(y_axis.low, y_axis.high)


def _grid(canvas: _Canvas, chart: Chart, x_axis: _Axis, y_axis: _Axis) -> None:
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
        left + area.width / 2, bottom - 32 - _tick_room(chart), f"{chart.x_label}{x_note}", "label|x", ha="center"
    )
    if chart.y_label:
        middle = bottom + area.height / 2
        canvas.text(MARGIN + 4, middle, f"{chart.y_label}{y_note}", "label|y", ha="center", va="center", rotation=90)


def _tick_room(chart: Chart) -> float:
    """Pixels that labels below the plot take beyond one line: a session may have a day and a unit, too."""
    return (_has_days(chart.sessions) + any(one.unit for one in chart.sessions)) * TICK_LINE


def _heading(canvas: _Canvas, chart: Chart, key: Sequence[Sequence[_KeyEntry]]) -> None:
    y = canvas.area.whole - MARGIN - TITLE / 2
    canvas.text(MARGIN, y, _cut(chart.title, LONGEST_TITLE), "title|main", TITLE, weight="bold")
    y -= 20
    canvas.text(MARGIN, y, _cut(chart.subtitle, LONGEST_SUBTITLE), "subtitle|main", FONT, alpha=0.8)
    y -= KEY_LINE + 2
    for line in key:
        x = MARGIN
        for entry in line:
            _draw_key_entry(canvas, entry, x, y, chart.kind in (LINES, HISTORY))
            x += entry.width
        y -= KEY_LINE


@dataclass(frozen=True)
class _KeyEntry:
    """A family, a mode or an event in the key, with the pixels that it takes."""

    kind: str
    name: str
    text: str
    number: int

    @property
    def width(self) -> float:
        return (30.0 if self.kind == "mode" else 16.0) + _text_width(self.text, SMALL) + 16


def _key_lines(chart: Chart) -> list[list[_KeyEntry]]:
    """Families, then modes, in lines that fit the figure. Where nothing is dashed, hollow markers are compiled modes."""
    mine = {one.family for one in chart.series}
    families = [one for one in marks.family_marks(one.family for one in chart.series) if one in mine]
    modes = {} if chart.kind == PAIRS else dict.fromkeys(one.mode for one in chart.series)
    entries = [_KeyEntry("family", one, _cut(one, 30), at) for at, one in enumerate(families, 1)]
    lines: list[list[_KeyEntry]] = [[]]
    for entry in entries:
        if lines[-1] and entry.width > _room(lines[-1]):
            lines.append([])
        lines[-1].append(entry)
    if len(modes) > 1:
        known = [one for one in marks.DASHES if one in modes] + [one for one in modes if one not in marks.DASHES]
        entries = [_KeyEntry("mode", one, _cut(one, 30), at) for at, one in enumerate(known, 1)]
        if sum(one.width for one in entries) > _room(lines[-1]):
            lines.append([])
        lines[-1] += entries
    points = [point for one in chart.series for point in one.points]
    shown = {event for point in points for event in point.events}
    events = [(name, text) for name, (_, text) in _EVENTS.items() if name in shown]
    events += [("hollow", _HOLLOW)] if any(point.is_hollow for point in points) else []
    for at, (name, text) in enumerate(events, 1):
        entry = _KeyEntry("event", name, text, at)
        if entry.width > _room(lines[-1]):
            lines.append([])
        lines[-1].append(entry)
    return lines


def _room(line: Sequence[_KeyEntry]) -> float:
    return WIDTH - 2 * MARGIN - sum(one.width for one in line)


def _draw_key_entry(canvas: _Canvas, entry: _KeyEntry, x: float, y: float, dashed: bool) -> None:
    gid = f"key-{entry.kind}|{entry.number}"
    if entry.kind == "family":
        mark = canvas.families[entry.name]
        canvas.line([x + 5], [y], f"{gid}|mark", color=mark.colour, marker=mark.marker, markersize=7, linestyle="none")
        canvas.text(x + 16, y, entry.text, f"{gid}|text", SMALL)
    elif entry.kind == "event":
        if entry.name == "hollow":
            canvas.line([x + 5], [y], f"{gid}|mark", marker="o", markersize=6, linestyle="none", markerfacecolor="none")
        else:
            _draw_event(canvas, entry.name, x + 5, y, f"{gid}|mark", canvas.ink)
        canvas.text(x + 16, y, entry.text, f"{gid}|text", SMALL)
    else:
        if dashed:
            canvas.line([x, x + 24], [y, y], f"{gid}|mark", linewidth=1.6, **_dashes(entry.name))
        else:
            style = {} if entry.name == "eager" else {"markerfacecolor": "none"}
            canvas.line([x + 18], [y], f"{gid}|mark", marker="o", markersize=6, linestyle="none", **style)
        canvas.text(x + 30, y, entry.text, f"{gid}|text", SMALL)


def _draw_points(canvas: _Canvas, chart: Chart) -> None:
    """Lines with their bands or events, or the points of a scatter chart; the best is drawn last, on top."""
    for one in reversed(chart.series):
        mark = canvas.mark(one)
        pixels = [_pixel(canvas, chart, point) for point in one.points]
        gid = f"series|{one.slug}"
        if chart.kind == LINES:
            lows = [canvas.pixel(p.seq, p.value if p.low is None else p.low) for p in one.points]
            highs = [canvas.pixel(p.seq, p.value if p.high is None else p.high) for p in one.points]
            _band(canvas, [*lows, *reversed(highs)], mark.colour, f"{gid}|band")
            xs, ys = [x for x, _ in pixels], [y for _, y in pixels]
            canvas.line(xs, ys, f"{gid}|line", color=mark.colour, linewidth=1.6, **_dashes(one.mode))
        elif chart.kind == HISTORY:
            xs, ys = [x for x, _ in pixels], [y for _, y in pixels]
            canvas.line(xs, ys, f"{gid}|line", color=mark.colour, linewidth=1.3, **_dashes(one.mode))
        for at, (point, (x, y)) in enumerate(zip(one.points, pixels, strict=True)):
            for event in point.events:
                place = y + {"regressed": VERDICT_GAP, "improved": -VERDICT_GAP}.get(event, 0.0)
                _draw_event(canvas, event, x, place, f"{gid}|event event--{event}", mark.colour)
            hollow = point.is_hollow or (chart.kind == SCATTER and one.mode != "eager")
            _draw_marker(canvas, one, x, y, f"{gid}|point|{at}", hollow=hollow)


def _draw_event(canvas: _Canvas, event: str, x: float, y: float, gid: str, colour: str) -> None:
    """A bar in the series' colour where versions changed, a triangle in ink for a verdict."""
    if event == "versions":
        canvas.line([x, x], [y - VERSIONS_HALF, y + VERSIONS_HALF], gid, color=colour, linewidth=2.0)
    else:
        marker, _ = _EVENTS[event]
        canvas.line([x], [y], gid, marker=marker, markersize=7, markeredgewidth=0.0, linestyle="none")


def _draw_labels(canvas: _Canvas, chart: Chart, labels: Sequence[str]) -> None:
    """The names right of the plot, level with where their lines end as far as their neighbours allow."""
    area = canvas.area
    ends = [_pixel(canvas, chart, one.points[-1]) for one in chart.series]
    longest = max(_across(chart, one.points[-1]) for one in chart.series)
    column = area.left + area.width + LEADER
    places = marks.apart([y for _, y in ends], LABEL_GAP, area.bottom + 2, area.bottom + area.height - 2)
    for one, label, (x, y), place in zip(chart.series, labels, ends, places, strict=True):
        colour, gid = canvas.mark(one).colour, f"legend-label|{one.slug}"
        xs, ys = [x, column - LEADER + 8, column - 3], [y, y, place]
        ended = _across(chart, one.points[-1]) < longest  # its leader crosses the plot, and must not look like data
        style = {"linestyle": (0, (1.0, 3.0))} if ended else {}
        canvas.line(xs, ys, f"series|{one.slug}|leader", color=colour, linewidth=0.7, alpha=0.55, **style)
        swatch = [column, column + SWATCH]
        canvas.line(swatch, [place] * 2, f"{gid}|swatch", color=colour, linewidth=1.6, **_dashes(one.mode))
        _draw_marker(canvas, one, column + SWATCH / 2, place, f"{gid}|marker", SMALL_MARKER)
        canvas.text(column + SWATCH + 6, place, label, f"{gid}|text")


def _draw_blocks(canvas: _Canvas, chart: Chart, labels: Sequence[str]) -> None:
    """The names beside their points, with a line from one to the other; points that lie together share a block."""
    area = canvas.area
    places = [_pixel(canvas, chart, one.points[-1]) for one in chart.series]
    groups = marks.clusters(places, CLUSTER_WIDTH, CLUSTER_HEIGHT)
    points = [marks.Box(x - 4, y - 4, 8, 8) for x, y in places]
    anchors = [_around([points[at] for at in group]) for group in groups]
    sizes = [(max(_text_width(labels[at]) for at in group) + 10, len(group) * LABEL_GAP) for group in groups]
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


def _draw_rows(canvas: _Canvas, chart: Chart, labels: Sequence[str]) -> None:
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
            _draw_marker(canvas, one, inner, y, f"{gid}|inner", hollow=True)
        _draw_marker(canvas, one, x, y, f"{gid}|point|0", hollow=chart.kind == DOTS and one.mode != "eager")
        canvas.text(area.left - 10, y, label, f"legend-label|{one.slug}|text", FONT, ha="right")
        canvas.text(area.left + area.width + 8, y, _row_value(chart, point), f"{gid}|value", SMALL)


def _row_value(chart: Chart, point: Point) -> str:
    if point.inner is not None and point.told:
        return point.told[0]
    if point.inner is not None:
        return f"{point.inner / point.value * 100:.0f} % kernel"
    return f"{significant(point.value, 4)} {chart.unit}" if chart.unit != "×" else f"{point.value:.3f}×"


def _draw_marker(
    canvas: _Canvas, one: Series, x: float, y: float, gid: str, size: float = MARKER, hollow: bool = False
) -> None:
    mark = canvas.mark(one)
    style = {"markerfacecolor": "none", "markeredgewidth": 1.4} if hollow else {"markeredgewidth": 0.0}
    if mark.marker in ("X", "P", "D") and not hollow:
        size *= 0.92
    canvas.line([x], [y], gid, color=mark.colour, marker=mark.marker, markersize=size, linestyle="none", **style)


def _band(canvas: _Canvas, corners: Sequence[tuple[float, float]], colour: str, gid: str) -> None:
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


def _pixel(canvas: _Canvas, chart: Chart, point: Point) -> tuple[float, float]:
    return canvas.pixel(_across(chart, point), point.value)


def _across(chart: Chart, point: Point) -> float:
    """Where a point lies on the horizontal axis."""
    return point.x if chart.kind in (SCATTER, HISTORY) and point.x is not None else float(point.seq)


def _dashes(mode: str) -> dict[str, Any]:
    pattern = marks.dash(mode)
    return {"linestyle": (0, pattern)} if pattern else {"linestyle": "-"}


def _label(one: Series) -> str:
    return _cut(one.name, LONGEST_LABEL)


def _cut(name: str, longest: int) -> str:
    return marks.shortened(printable.message(name), longest)


def _digits(value: float) -> str:
    """A tick in plain digits, without zeros at the end."""
    text = f"{value:.12f}".rstrip("0").rstrip(".")
    return text or "0"


def _text_width(text: str, size: float = FONT) -> float:
    """Pixels that matplotlib's own font takes; a browser's sans-serif takes about the same or less."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    renderer: Any = RendererAgg(1, 1, 72)
    width, _, _ = renderer.get_text_width_height_descent(text, FontProperties(family="DejaVu Sans", size=size), False)
    return float(width)
