"""Latency of each case over time, from all files of a report: one point per file, each as it was measured.

This judges nothing. Sessions of other units and other clocks stand beside each other; a verdict (docs/method.md) corrects
for both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from attnbench.model import Launch, Record, Verdict
from attnbench.report.gather import Gathered
from attnbench.report.page.index import Index
from attnbench.report.page.tables import Cell, number
from attnbench.report.quantities import median_s
from attnbench.units import milliseconds, signed_percent

#: Of the drawing, in its own units.
WIDTH, HEIGHT = 100.0, 24.0
#: The least relative range that the height stands for: noise is not drawn as a mountain.
LEAST_RANGE = 0.04


@dataclass(frozen=True)
class Moment:
    """One file's latency of a case: the median over its launches of each one's median.

    changed: what differs from the moment before, `torch 2.10.0 → 2.11.0`. x, y: in the drawing.
    """

    started_at: str
    latency_s: float
    unit: str
    verdict: str
    changed: tuple[str, ...]
    x: float
    y: float


@dataclass(frozen=True)
class Course:
    """A case over time, oldest first: at least two moments."""

    gpu: str
    name: str
    record: Record
    moments: tuple[Moment, ...]

    @property
    def change(self) -> float:
        """The newest latency against the oldest, relative; positive is slower."""
        return self.moments[-1].latency_s / self.moments[0].latency_s - 1


@dataclass(frozen=True)
class HistoryRow:
    """A case over time: the oldest and the newest latency in ms, and by how much they differ."""

    key: str
    course: Course
    oldest: Cell
    newest: Cell
    change: Cell
    changes: tuple[str, ...]  # of versions, each with its day


@dataclass(frozen=True)
class _Measured:
    """What one file holds of a case."""

    started_at: str
    latency_s: float
    unit: str
    verdict: str
    versions: Mapping[str, str]
    record: Record


def history_rows(index: Index) -> tuple[HistoryRow, ...]:
    """The cases that changed most first."""
    return tuple(_row(index, one) for one in sorted(courses(index), key=lambda one: -one.change))


def courses(index: Index) -> tuple[Course, ...]:
    """Every case that two files or more have a latency of. Records that were slowed down on purpose are left out."""
    found: dict[tuple[str, str, str], list[_Measured]] = defaultdict(list)
    for source in index.gathered.runs:
        mine: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
        for record in source.run.records:
            if record.sample is not None and record.injected is None:
                mine[index.gpu(record), index.name(record), record.workload.name].append(record)
        for case, records in mine.items():
            found[case].append(_measured(index.gathered, records))
    return tuple(
        Course(gpu, name, moments[-1].record, _placed(sorted(moments, key=lambda one: one.started_at)))
        for (gpu, name, _), moments in found.items()
        if len(moments) > 1
    )


def _row(index: Index, course: Course) -> HistoryRow:
    oldest, newest = course.moments[0], course.moments[-1]
    return HistoryRow(
        index.key(course.record),
        course,
        number(oldest.latency_s, milliseconds),
        number(newest.latency_s, milliseconds),
        number(course.change, signed_percent),
        tuple(f"{one.started_at[:10]}: {', '.join(one.changed)}" for one in course.moments if one.changed),
    )


def _measured(gathered: Gathered, records: Sequence[Record]) -> _Measured:
    launches = [gathered.launches[record.launch] for record in records]
    medians = [value for record in records if (value := median_s(record)) is not None]
    verdict: Verdict | None = next(filter(None, map(gathered.verdict, records)), None)
    return _Measured(
        min(launch.started_at for launch in launches),
        median(medians),
        launches[0].unit or "",
        str(verdict.kind) if verdict else "",
        _versions(records[-1], launches[-1]),
        records[-1],
    )


def _versions(record: Record, launch: Launch) -> dict[str, str]:
    context = launch.fingerprint.context
    software = {name: str(context[name]) for name in ("driver", "torch", "cuda", "triton") if context.get(name)}
    return {**software, **record.versions, **({"source": record.source} if record.source else {})}


def _placed(measured: Sequence[_Measured]) -> tuple[Moment, ...]:
    """Evenly spaced, as sessions cluster in time, and on a scale of at least `LEAST_RANGE`."""
    low, high = min(one.latency_s for one in measured), max(one.latency_s for one in measured)
    middle, span = (low + high) / 2, max(high - low, LEAST_RANGE * low)
    moments = []
    for at, one in enumerate(measured):
        before = measured[at - 1].versions if at else one.versions
        names = dict.fromkeys((*before, *one.versions))
        moments.append(
            Moment(
                one.started_at,
                one.latency_s,
                one.unit,
                one.verdict,
                tuple(
                    f"{name} {before.get(name, 'none')} → {one.versions.get(name, 'none')}"
                    for name in names
                    if before.get(name) != one.versions.get(name)
                ),
                round(WIDTH * at / (len(measured) - 1), 1),
                round(HEIGHT * (0.5 - 0.8 * (one.latency_s - middle) / span), 1),
            )
        )
    return tuple(moments)
