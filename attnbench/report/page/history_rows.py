"""A row per case with its latency over time, each with a small drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attnbench.report.courses import Course, Moment, courses
from attnbench.report.page.index import Index
from attnbench.report.page.tables import Cell, number
from attnbench.units import milliseconds, signed_percent

#: Of the drawing, in its own units.
WIDTH, HEIGHT = 100.0, 24.0
#: The least relative range that the height stands for: noise is not drawn as a mountain.
LEAST_RANGE = 0.04


@dataclass(frozen=True)
class Place:
    """A moment, and where it lies in the drawing."""

    moment: Moment
    x: float
    y: float


@dataclass(frozen=True)
class HistoryRow:
    """A case over time: the oldest and the newest latency in ms, and by how much they differ."""

    key: str
    course: Course
    places: tuple[Place, ...]
    oldest: Cell
    newest: Cell
    change: Cell
    changes: tuple[str, ...]  # of versions, each with its day


def history_rows(index: Index) -> tuple[HistoryRow, ...]:
    """The cases that changed most first."""
    return tuple(_row(index, one) for one in sorted(courses(index.gathered), key=lambda one: -one.change))


def _row(index: Index, course: Course) -> HistoryRow:
    oldest, newest = course.moments[0], course.moments[-1]
    return HistoryRow(
        index.key(course.record),
        course,
        _placed(course.moments),
        number(oldest.latency_s, milliseconds),
        number(newest.latency_s, milliseconds),
        number(course.change, signed_percent),
        tuple(f"{one.started_at[:10]}: {', '.join(one.changed)}" for one in course.moments if one.changed),
    )


def _placed(moments: Sequence[Moment]) -> tuple[Place, ...]:
    """Evenly spaced, as sessions cluster in time, and on a scale of at least `LEAST_RANGE`."""
    low, high = min(one.latency_s for one in moments), max(one.latency_s for one in moments)
    middle, span = (low + high) / 2, max(high - low, LEAST_RANGE * low)
    return tuple(
        Place(
            one,
            round(WIDTH * at / (len(moments) - 1), 1),
            round(HEIGHT * (0.5 - 0.8 * (one.latency_s - middle) / span), 1),
        )
        for at, one in enumerate(moments)
    )
