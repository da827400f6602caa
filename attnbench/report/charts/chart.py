"""A chart as data: its points by series, its words and its names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from attnbench.fingerprint import slug as device_slug

#: How a chart is drawn. LINES: value over sequence length. DOTS: one length, a row per variant. SCATTER: value over `x`.
#: PAIRS: one length, a row per variant with `inner` beside its value. HISTORY: value over the sessions, of which the first
#: is at `x` 1.
LINES, DOTS, SCATTER, PAIRS, HISTORY = "lines", "dots", "scatter", "pairs", "history"
#: A chart shows so many series at most, the best ones; its notes count the others.
MOST_SERIES = 60
LONGEST_SLUG = 60


@dataclass(frozen=True)
class Point:
    """One variant at one length. low and high: the 20 and 80 % quantiles of the rounds, None without rounds of its own.

    x: the position in a SCATTER or HISTORY chart; inner: the second value of a PAIRS chart. All in the chart's units.
    told: what a hover tells, in place of the chart's usual figures; of a PAIRS chart the first stands beside the row.
    Of a HISTORY chart, low and high are of the launches, told is what a hover tells beside the value, events name the
    marks beside the point, and a hollow point is of another GPU unit than the newest.
    """

    seq: int
    workload: str
    value: float
    low: float | None = None
    high: float | None = None
    x: float | None = None
    inner: float | None = None
    told: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    is_hollow: bool = False


@dataclass(frozen=True)
class Series:
    """The points of one variant by length. slug: the same in every chart of one call of `charts`, and unique there."""

    name: str
    slug: str
    variant: str
    backend: str
    family: str
    mode: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Session:
    """A place on the axis of a HISTORY chart. started_at: ISO 8601. unit: `unit 2`, empty where there is one only."""

    started_at: str
    unit: str = ""


@dataclass(frozen=True)
class Chart:
    """One plot. stem: its file's name without the suffix, unique. subtitle: device, problem and what a point is.

    series: the best first, in a HISTORY chart the one that became slower by most. guide: a value to draw a line at, None
    without one. notes: sentences on what is not in it. sessions: of a HISTORY chart, from the oldest. roofs: of a SCATTER
    chart, lines of (x, value) that bound its points.
    """

    name: str
    stem: str
    device: str
    kind: str
    title: str
    subtitle: str
    x_label: str
    y_label: str
    unit: str
    series: tuple[Series, ...]
    lower_is_better: bool = True
    guide: float | None = None
    notes: tuple[str, ...] = ()
    sessions: tuple[Session, ...] = ()
    roofs: tuple[tuple[tuple[float, float], ...], ...] = ()


@dataclass(frozen=True)
class Missing:
    """A plot that the records have no data for, with the sentence that says why."""

    name: str
    device: str
    why: str


def unique_slugs(names: Iterable[str]) -> dict[str, str]:
    """By name a part of an XML id: lower-case ASCII letters, digits and dashes, at most about 60 characters, unique."""
    slugs: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(names):
        stem = device_slug(name)[:LONGEST_SLUG].strip("-") or "variant"
        slug, number = stem, 1
        while slug in taken:
            number += 1
            slug = f"{stem}-{number}"
        taken.add(slug)
        slugs[name] = slug
    return slugs


def named(drawn: Sequence[Chart]) -> tuple[Chart, ...]:
    """The charts with their stems: `latency`, with the device where there are several, numbered where that is not enough."""
    several = len({chart.device for chart in drawn}) > 1
    devices = unique_slugs(chart.device for chart in drawn)
    counts: dict[str, int] = {}
    named = []
    for chart in drawn:
        stem = f"{chart.name}-{devices[chart.device]}" if several else chart.name
        counts[stem] = counts.get(stem, 0) + 1
        named.append(replace(chart, stem=stem if counts[stem] == 1 else f"{stem}-{counts[stem]}"))
    return tuple(named)


def best_series(chart: Chart) -> Chart:
    """The chart with at most `MOST_SERIES` series: those with the greatest length first, of these the best first."""
    sign = 1 if chart.lower_is_better else -1

    def place(one: Series) -> tuple[int, float, str]:
        last = one.points[-1]
        return (-last.seq, sign * (last.value if last.x is None else last.x), one.name)

    ordered = sorted(chart.series, key=place)
    notes = chart.notes
    if len(ordered) > MOST_SERIES:
        notes = (*notes, f"The best {MOST_SERIES} of {len(ordered)} variants are drawn.")
    return replace(chart, series=tuple(ordered[:MOST_SERIES]), notes=notes)
