"""The axes of a figure: limits, scale and ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from attnbench.report import marks
from attnbench.report.charts.chart import DOTS, HISTORY, PAIRS, SCATTER, Chart, Point, Session
from attnbench.report.plots.canvas import Area

#: A history shows at least so many percent in both directions: noise is not drawn as a mountain.
LEAST_CHANGE = 1.0
#: From this ratio of largest to smallest value on an axis is logarithmic (values) or in powers of two (lengths).
LOG_FROM = 5.0
#: From this ratio on a linear axis begins at zero; below it zero would leave the lines no room.
ZERO_FROM = 2.5


@dataclass(frozen=True)
class Axis:
    """Limits, scale and ticks of one axis."""

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]
    labels: tuple[str, ...]


def axes_of(chart: Chart, area: Area) -> tuple[Axis, Axis]:
    """The horizontal and the vertical axis of a chart."""
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
    parts = (part for point in points for part in (point.value, point.low, point.high, point.inner))
    return [part for part in parts if part is not None]


def _value_axis(values: Sequence[float], unit: str) -> Axis:
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
    places = tuple(marks.ticks(low, high, log))
    return Axis(low, high, log, places, tuple(map(_digits, places)))


def _length_axis(lengths: Sequence[int], width: float) -> Axis:
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
    return Axis(*limits, log, kept, tuple(f"{one:.0f}" for one in kept))


def _session_axis(sessions: Sequence[Session], width: float) -> Axis:
    """Sessions from 1, evenly spaced, each with its day where there are several, its time and its unit."""
    low, high = 0.6, len(sessions) + 0.4
    places = [float(at) for at in range(1, len(sessions) + 1)]
    kept = marks.spaced(places, [(one - low) / (high - low) * width for one in places], 62)
    days = has_days(sessions)
    shown = (sessions[int(at) - 1] for at in kept)
    labels = ((one.started_at[5:10] if days else "", one.started_at[11:16], one.unit) for one in shown)
    return Axis(low, high, False, tuple(kept), tuple(map("\n".join, labels)))


def has_days(sessions: Sequence[Session]) -> bool:
    """Whether the sessions are of several days, so that their labels need one."""
    return len({one.started_at[:10] for one in sessions}) > 1


def _row_axis(count: int) -> Axis:
    """Rows from the top: the first series has the greatest place."""
    places = tuple(float(count - 1 - at) for at in range(count))
    return Axis(-0.6, count - 0.4, False, places, tuple("" for _ in places))


def _digits(value: float) -> str:
    """A tick in plain digits, without zeros at the end."""
    text = f"{value:.12f}".rstrip("0").rstrip(".")
    return text or "0"
