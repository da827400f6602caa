"""The marks beside the points of a history: other versions, and verdicts."""

from __future__ import annotations

from attnbench.report.plots.canvas import Canvas

#: Marks of events: matplotlib's marker, or a bar, and its text in the key.
EVENTS = {
    "versions": ("|", "other versions than before"),
    "regressed": ("^", "regressed"),
    "improved": ("v", "improved"),
}
#: Pixels from a point to the mark of its verdict, and half of the mark of other versions.
VERDICT_GAP, VERSIONS_HALF = 10.0, 8.0
HOLLOW = "another GPU unit than the newest"


def draw_event(canvas: Canvas, event: str, x: float, y: float, gid: str, colour: str) -> None:
    """A bar in the series' colour where versions changed, a triangle in ink for a verdict."""
    if event == "versions":
        canvas.line([x, x], [y - VERSIONS_HALF, y + VERSIONS_HALF], gid, color=colour, linewidth=2.0)
    else:
        marker, _ = EVENTS[event]
        canvas.line([x], [y], gid, marker=marker, markersize=7, markeredgewidth=0.0, linestyle="none")
