"""Records as rows of a chart: by device and problem, one per variant and length, with notes on what is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from attnbench.model import Record, RunFile
from attnbench.report.charts.chart import Point, Series
from attnbench.report.pooling import marked, numbered_tests, pooled
from attnbench.report.problem import Problem, problem
from attnbench.report.quantities import UNKNOWN_DEVICE, device_name

#: A note names so many variants, and counts the others.
MOST_NAMED = 6


@dataclass(frozen=True)
class Row:
    """One variant on one workload, its launches pooled."""

    name: str
    record: Record


def by_device(runs: Sequence[RunFile]) -> dict[str, list[Record]]:
    """The records of each device in order of appearance; a simulated one says so in its name."""
    records_of: dict[str, list[Record]] = {}
    for run in runs:
        devices = {launch.id: device_name(launch) for launch in run.launches}
        for record in run.records:
            records_of.setdefault(devices.get(record.launch, UNKNOWN_DEVICE), []).append(record)
    return records_of


def rows_of(records: Sequence[Record]) -> list[Row]:
    """A row per variant, workload and test, in order of appearance."""
    return _named(pooled(records), records)


def rows_under_load(records: Sequence[Record]) -> list[Row]:
    """The same of the launches that ran under continuous load alone: GPU units differ, so settled and load are of one."""
    return _named(pooled([record for record in records if record.sustained is not None]), records)


def _named(found: Iterable[Record], among: Sequence[Record]) -> list[Row]:
    tests = numbered_tests(among)
    return [Row(f"{record.variant}{marked(record.nodeid, tests)}", record) for record in found]


def by_problem(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """A problem in words, and its rows, whose workloads differ in their length only; the one with most rows first."""
    problems: dict[Problem, list[Row]] = {}
    for row in rows:
        problems.setdefault(problem(row.record.workload), []).append(row)
    by_size = sorted(problems.items(), key=lambda item: -len(item[1]))
    return [(of.words, mine) for of, mine in by_size]


def drawn_once(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """One row per variant and length of one problem; notes on what is left out, and on what was slowed down on purpose.

    That is drawn only where the variant has no other row of that length.
    """
    as_it_is = [row for row in rows if row.record.injected is None]
    slowed = [row for row in rows if row.record.injected is not None]
    first: dict[tuple[str, int], Row] = {}
    for row in (*as_it_is, *slowed):
        first.setdefault((row.name, row.record.workload.seq), row)
    kept = set(map(id, first.values()))
    notes = []
    if twice := [f"{row.name} on {row.record.workload.name}" for row in as_it_is if id(row) not in kept]:
        notes.append(f"The same problem under a second workload name, drawn once: {listed(twice)}.")
    if left := [row.name for row in slowed if id(row) not in kept]:
        notes.append(f"Slowed down on purpose (--attn-inject) and not drawn: {listed(left)}.")
    if injected := [row.name for row in slowed if id(row) in kept]:
        notes.append(f"Slowed down on purpose (--attn-inject): {listed(injected)}.")
    return [row for row in rows if id(row) in kept], notes


def series_of(found: Iterable[tuple[Row, Point]], slugs: Mapping[str, str]) -> tuple[Series, ...]:
    """The points by variant, those of each in order of length."""
    points: dict[str, list[Point]] = {}
    records: dict[str, Record] = {}
    for row, point in found:
        points.setdefault(row.name, []).append(point)
        records.setdefault(row.name, row.record)
    return tuple(
        Series(
            name,
            slugs[name],
            records[name].variant,
            records[name].backend,
            records[name].family,
            records[name].mode,
            tuple(sorted(mine, key=lambda point: point.seq)),
        )
        for name, mine in points.items()
    )


def absent(what: str, names: Iterable[str]) -> list[str]:
    """A note on the variants that a chart has no point of, and why; none without such variants."""
    absent = list(dict.fromkeys(names))
    return [f"Not drawn, {what}: {listed(absent)}."] if absent else []


def listed(names: Sequence[str]) -> str:
    """The first `MOST_NAMED` different names, and how many more there are."""
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - MOST_NAMED} more" if len(unique) > MOST_NAMED else ""
    return f"{'; '.join(unique[:MOST_NAMED])}{more}"
