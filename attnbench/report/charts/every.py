"""Every chart that runs have data for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attnbench.model import RunFile
from attnbench.report.charts.at_longest import accuracy, kernel_times
from attnbench.report.charts.chart import Chart, Missing, best_series, named, unique_slugs
from attnbench.report.charts.measures import measures
from attnbench.report.charts.over_length import over_length
from attnbench.report.charts.roofline import reached_by_device, roofline
from attnbench.report.charts.rows import Row, by_device, by_problem, drawn_once, listed, rows_of, rows_under_load
from attnbench.report.charts.under_load import under_load
from attnbench.units import counted

#: A device has plots of so many problems at most, those with most cases; a sentence counts the others.
MOST_PROBLEMS = 4


def charts(runs: Sequence[RunFile], reference: str = "") -> tuple[tuple[Chart, ...], tuple[Missing, ...]]:
    """Every plot that these runs have data for, and a sentence for each other one.

    A device (as its driver names it, simulated ones apart) has plots of its own, and so has each problem
    (`attnbench.report.problem`). reference: the variant that speed is against, by default the first run's.
    """
    reference = reference or next((run.reference for run in runs), "")
    records_of = by_device(runs)
    devices = {device: rows_of(records) for device, records in records_of.items()}
    slugs = unique_slugs(row.name for rows in devices.values() for row in rows)
    reached = reached_by_device(runs)
    drawn: list[Chart] = []
    missing: list[Missing] = []
    for device, every in devices.items():
        rows = [row for row in every if row.record.sample is not None]
        if not rows:
            why = f"None of {counted(len(every), 'case')} on {device} was measured, so there is no plot."
            missing.append(Missing("latency", device, why))
            continue
        problems = by_problem(rows)
        if left := [words for words, _ in problems[MOST_PROBLEMS:]]:
            most = f"The {MOST_PROBLEMS} problems with most cases on {device} are drawn"
            missing.append(Missing("latency", device, f"{most}, {counted(len(left), 'problem')} not: {listed(left)}."))
        loaded = rows_under_load(records_of[device])
        for words, mine in problems[:MOST_PROBLEMS]:
            measured = {(row.name, row.record.workload) for row in mine}
            for found in (
                *_of_problem(device, words, mine, reference, slugs),
                *under_load(
                    device, words, [row for row in loaded if (row.name, row.record.workload) in measured], slugs
                ),
                *roofline(device, words, mine, reached.get(device), slugs),
            ):
                if isinstance(found, Chart):
                    drawn.append(best_series(found))
                else:
                    missing.append(found)
    return named(drawn), tuple(missing)


def _of_problem(
    device: str, problem: str, rows: Sequence[Row], reference: str, slugs: Mapping[str, str]
) -> Iterable[Chart | Missing]:
    rows, notes = drawn_once(rows)
    where = f"{device} · {problem}"
    for measure in measures(device, rows, reference):
        if isinstance(measure, Missing):
            yield measure
        else:
            yield over_length(measure, device, where, rows, slugs, notes)
    longest = max(row.record.workload.seq for row in rows)
    at_longest = [row for row in rows if row.record.workload.seq == longest]
    where = f"{device} · {problem}, sequence length {longest}"
    yield accuracy(device, where, at_longest, slugs, notes)
    yield kernel_times(device, where, at_longest, slugs, notes)
