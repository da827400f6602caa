"""The key of a figure: families, modes and events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attnbench.report import marks
from attnbench.report.charts.chart import PAIRS, Chart
from attnbench.report.plots.canvas import MARGIN, SMALL, WIDTH, Canvas, cut, dashes, text_width
from attnbench.report.plots.events import EVENTS, HOLLOW, draw_event


@dataclass(frozen=True)
class KeyEntry:
    """A family, a mode or an event in the key, with the pixels that it takes."""

    kind: str
    name: str
    text: str
    number: int

    @property
    def width(self) -> float:
        return (30.0 if self.kind == "mode" else 16.0) + text_width(self.text, SMALL) + 16


def key_lines(chart: Chart) -> list[list[KeyEntry]]:
    """Families, then modes, in lines that fit the figure. Where nothing is dashed, hollow markers are compiled modes."""
    mine = {one.family for one in chart.series}
    families = [one for one in marks.family_marks(one.family for one in chart.series) if one in mine]
    modes = {} if chart.kind == PAIRS else dict.fromkeys(one.mode for one in chart.series)
    entries = [KeyEntry("family", one, cut(one, 30), at) for at, one in enumerate(families, 1)]
    lines: list[list[KeyEntry]] = [[]]
    for entry in entries:
        if lines[-1] and entry.width > _room(lines[-1]):
            lines.append([])
        lines[-1].append(entry)
    if len(modes) > 1:
        known = [one for one in marks.DASHES if one in modes] + [one for one in modes if one not in marks.DASHES]
        entries = [KeyEntry("mode", one, cut(one, 30), at) for at, one in enumerate(known, 1)]
        if sum(one.width for one in entries) > _room(lines[-1]):
            lines.append([])
        lines[-1] += entries
    points = [point for one in chart.series for point in one.points]
    shown = {event for point in points for event in point.events}
    events = [(name, text) for name, (_, text) in EVENTS.items() if name in shown]
    events += [("hollow", HOLLOW)] if any(point.is_hollow for point in points) else []
    for at, (name, text) in enumerate(events, 1):
        entry = KeyEntry("event", name, text, at)
        if entry.width > _room(lines[-1]):
            lines.append([])
        lines[-1].append(entry)
    return lines


def _room(line: Sequence[KeyEntry]) -> float:
    return WIDTH - 2 * MARGIN - sum(one.width for one in line)


def draw_key_entry(canvas: Canvas, entry: KeyEntry, x: float, y: float, dashed: bool) -> None:
    """The entry from `x` on. dashed: a mode is a line, otherwise a filled or hollow marker."""
    gid = f"key-{entry.kind}|{entry.number}"
    if entry.kind == "family":
        mark = canvas.families[entry.name]
        canvas.line([x + 5], [y], f"{gid}|mark", color=mark.colour, marker=mark.marker, markersize=7, linestyle="none")
        canvas.text(x + 16, y, entry.text, f"{gid}|text", SMALL)
    elif entry.kind == "event":
        if entry.name == "hollow":
            canvas.line([x + 5], [y], f"{gid}|mark", marker="o", markersize=6, linestyle="none", markerfacecolor="none")
        else:
            draw_event(canvas, entry.name, x + 5, y, f"{gid}|mark", canvas.ink)
        canvas.text(x + 16, y, entry.text, f"{gid}|text", SMALL)
    else:
        if dashed:
            canvas.line([x, x + 24], [y, y], f"{gid}|mark", linewidth=1.6, **dashes(entry.name))
        else:
            style = {} if entry.name == "eager" else {"markerfacecolor": "none"}
            canvas.line([x + 18], [y], f"{gid}|mark", marker="o", markersize=6, linestyle="none", **style)
        canvas.text(x + 30, y, entry.text, f"{gid}|text", SMALL)
