"""Plots of latency over time: a chart per device and workload, each variant against its own first session.

Relative to it, kernels of any latency share one axis. Sessions stand evenly spaced, as they cluster in time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from attnbench.model import VerdictKind
from attnbench.report.charts.chart import (
    HISTORY,
    MOST_SERIES,
    Chart,
    Missing,
    Point,
    Series,
    Session,
    named,
    unique_slugs,
)
from attnbench.report.courses import Course, Moment, courses
from attnbench.report.gather import Gathered
from attnbench.units import counted, listed, milliseconds
from attnbench.workload import Workload

#: A device has plots of so many workloads at most, those with most cases; a sentence counts the others.
MOST_WORKLOADS = 4
#: A note names so many changes of versions, and counts the others.
MOST_CHANGES = 6
#: Events that a mark beside a point stands for.
VERSIONS, REGRESSED, IMPROVED = "versions", str(VerdictKind.REGRESSED), str(VerdictKind.IMPROVED)


def history_charts(gathered: Gathered) -> tuple[tuple[Chart, ...], tuple[Missing, ...]]:
    """A chart of each workload that two files or more have cases of, and a sentence for each that is not drawn."""
    by_device: dict[str, dict[Workload, list[Course]]] = defaultdict(lambda: defaultdict(list))
    for one in courses(gathered):
        by_device[one.gpu][one.record.workload].append(one)
    if not by_device:
        return (), (Missing("history", "", "No case was measured in two files or more, so there is no history."),)
    drawn: list[Chart] = []
    missing: list[Missing] = []
    for device, by_workload in by_device.items():
        units = _numbered_units(gathered, device)
        ordered = sorted(by_workload, key=lambda one: (-len(by_workload[one]), -one.seq, one.name))
        drawn += [_chart(device, by_workload[one], units) for one in ordered[:MOST_WORKLOADS]]
        if left := ordered[MOST_WORKLOADS:]:
            most = f"The history of the {MOST_WORKLOADS} workloads with most cases on {device} is drawn"
            missing.append(Missing("history", device, f"{most}, that of {counted(len(left), 'workload')} is not."))
    return named(drawn), tuple(missing)


def _chart(device: str, mine: Sequence[Course], units: Mapping[str, int]) -> Chart:
    ordered = sorted(mine, key=lambda one: (-one.change, one.name))[:MOST_SERIES]
    sessions = _sessions(ordered, units)
    numbers = {run: at for at, run in enumerate(sessions, 1)}
    slugs = unique_slugs(one.name for one in ordered)
    notes = _version_notes(ordered)
    if len(mine) > MOST_SERIES:
        notes = (*notes, f"The {MOST_SERIES} of {len(mine)} variants that became slower by most are drawn.")
    workload = ordered[0].record.workload
    days = sorted({one.started_at[:10] for one in sessions.values()})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return Chart(
        "history",
        "",
        device,
        HISTORY,
        "Latency over time",
        f"{device} · {workload.name}, sequence length {workload.seq} · against each variant's first session · "
        "lower is better",
        f"start of the session (UTC), {span}, evenly spaced",
        "change of the median latency (%)",
        "%",
        tuple(_series(one, slugs[one.name], numbers, units) for one in ordered),
        guide=0.0,
        notes=notes,
        sessions=tuple(sessions.values()),
    )


def _sessions(drawn: Sequence[Course], units: Mapping[str, int]) -> dict[int, Session]:
    """By file, the oldest first."""
    of_run: dict[int, list[Moment]] = defaultdict(list)
    for moment in (moment for one in drawn for moment in one.moments):
        of_run[moment.run].append(moment)
    sessions: dict[int, Session] = {}
    for run, moments in of_run.items():
        mine = {moment.unit for moment in moments}
        unit = mine.pop() if len(mine) == 1 and len(units) > 1 else ""
        sessions[run] = Session(
            min(moment.started_at for moment in moments), f"unit {units[unit]}" if unit in units else ""
        )
    return dict(sorted(sessions.items(), key=lambda item: (item[1].started_at, item[0])))


def _series(course: Course, slug: str, numbers: Mapping[int, int], units: Mapping[str, int]) -> Series:
    record, first, newest = course.record, course.moments[0], course.moments[-1]

    def point(moment: Moment) -> Point:
        low, value, high = (
            (one_s / first.latency_s - 1) * 100 for one_s in (moment.low_s, moment.latency_s, moment.high_s)
        )
        return Point(
            record.workload.seq,
            record.workload.name,
            value,
            low,
            high,
            x=numbers[moment.run],
            told=_told(moment, units),
            events=_events(moment),
            is_hollow=moment.unit != newest.unit,
        )

    return Series(
        course.name,
        slug,
        record.variant,
        record.backend,
        record.family,
        record.mode,
        tuple(sorted(map(point, course.moments), key=lambda one: one.x or 0.0)),
    )


def _told(moment: Moment, units: Mapping[str, int]) -> tuple[str, ...]:
    """Lines of a hover: latency, when and on which unit, what changed, the verdict."""
    several = moment.low_s < moment.high_s
    launches = f", launches {milliseconds(moment.low_s)} to {milliseconds(moment.high_s)} ms" if several else ""
    unit = f", GPU unit {units[moment.unit]} of {len(units)}" if len(units) > 1 and moment.unit in units else ""
    when = f"{moment.started_at[:16].replace('T', ' ')} UTC{unit}"
    return (f"{milliseconds(moment.latency_s)} ms{launches}", when, *moment.changed, *filter(None, (moment.verdict,)))


def _events(moment: Moment) -> tuple[str, ...]:
    verdict = (moment.verdict,) if moment.verdict in (REGRESSED, IMPROVED) else ()
    return ((VERSIONS,) if moment.changed else ()) + verdict


def _numbered_units(gathered: Gathered, device: str) -> dict[str, int]:
    """Units of a device from 1, the one that was measured first first."""
    of_device = {record.launch for record in gathered.records if gathered.gpu(record) == device}
    launches = sorted((gathered.launches[one] for one in of_device), key=lambda launch: (launch.started_at, launch.id))
    units = dict.fromkeys(launch.unit for launch in launches if launch.unit)
    return {unit: number for number, unit in enumerate(units, 1)}


def _version_notes(ordered: Sequence[Course]) -> tuple[str, ...]:
    """`Versions that changed: 2026-11-28 flash-attn 2.8.2 → 2.8.3 (2 variants).`: the marks' meaning for a still picture."""
    variants: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in ordered:
        for moment in one.moments:
            for change in moment.changed:
                variants[moment.started_at[:10], change].add(one.name)
    changes = [
        f"{day} {change} ({counted(len(names), 'variant')})" for (day, change), names in sorted(variants.items())
    ]
    return (f"Versions that changed: {listed(changes, MOST_CHANGES)}.",) if changes else ()
