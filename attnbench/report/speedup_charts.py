"""Plots of speed-up and memory saving against plain attention over the sequence length, as FlashAttention's README has them.

What they show is what the tables of `attnbench.report.speedup` hold: two charts per GPU and problem.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from attnbench.model import Record
from attnbench.report.charts.chart import DOTS, LINES, Chart, Missing, Point, Series, best_series, named, unique_slugs
from attnbench.report.gather import Gathered
from attnbench.report.speedup import PLAIN, SpeedupTable, speedup_tables
from attnbench.units import counted, listed

#: Problems of one GPU that have these plots: a shape in three directions, plain and causal.
MOST_TABLES = 6
#: A note names so many lengths, and counts the others.
MOST_LENGTHS = 6

#: A ratio of a table by variant and length; None where one of both sides has no figure.
_Ratio = Callable[[str, int], "float | None"]


def speedup_charts(gathered: Gathered) -> tuple[tuple[Chart, ...], tuple[Missing, ...]]:
    """Speed-up and memory saving of every problem that plain attention was measured on, the largest first.

    A GPU without plain attention has no such plot, and no sentence that it is missing: most runs are without it. A chart
    that plain attention is there for, and nothing to set against it, has a sentence.
    """
    by_gpu: dict[str, list[SpeedupTable]] = defaultdict(list)
    for table in speedup_tables(gathered):
        by_gpu[table.gpu].append(table)
    records = {(gathered.gpu(record), record.variant): record for record in reversed(gathered.records)}
    slugs = unique_slugs(record.variant for record in gathered.records)
    drawn: list[Chart] = []
    missing: list[Missing] = []
    for gpu, tables in by_gpu.items():
        ordered = sorted(tables, key=lambda table: -len(table.lengths) * len(table.variants))
        if left := ordered[MOST_TABLES:]:
            most = f"Speed-up and memory saving of {MOST_TABLES} problems on {gpu} are drawn"
            missing.append(Missing("speedup", gpu, f"{most}, those of {counted(len(left), 'problem')} are not."))
        mine = {variant: record for (of, variant), record in records.items() if of == gpu}
        for table in ordered[:MOST_TABLES]:
            for found in (_speedup(table, mine, slugs), _saving(table, mine, slugs)):
                if isinstance(found, Chart):
                    drawn.append(found)
                else:
                    missing.append(found)
    return named(drawn), tuple(missing)


def _speedup(table: SpeedupTable, records: Mapping[str, Record], slugs: Mapping[str, str]) -> Chart | Missing:
    series = _series(table, table.speedup, records, slugs)
    without = [length for length in table.lengths if table.call(PLAIN, length).median_s is None]
    notes = _notes("was not measured", without)
    title = "Speed-up against plain attention"
    return _chart("speedup", title, "times as fast (×)", table, series, notes)


def _saving(table: SpeedupTable, records: Mapping[str, Record], slugs: Mapping[str, str]) -> Chart | Missing:
    series = _series(table, table.saving, records, slugs)
    without = [length for length in table.lengths if table.call(PLAIN, length).workspace_bytes is None]
    notes = _notes("has no figure of its memory", without)
    title = "Memory saving against plain attention"
    return _chart("saving", title, "times less memory (×)", table, series, notes)


def _chart(
    name: str, title: str, label: str, table: SpeedupTable, series: Sequence[Series], notes: Sequence[str]
) -> Chart | Missing:
    if not series:
        why = f"{title}: on {table.gpu}, {table.problem}, no other variant has a figure at a length of {PLAIN}'s."
        return Missing(name, table.gpu, why)
    lengths = sorted({point.seq for one in series for point in one.points})
    is_lines = len(lengths) > 1
    inputs = ", the inputs not counted" if name == "saving" else ""
    where = f"{table.gpu} · {table.problem}{'' if is_lines else f', sequence length {lengths[0]}'}"
    chart = Chart(
        name,
        "",
        table.gpu,
        LINES if is_lines else DOTS,
        f"{title} over sequence length" if is_lines else title,
        f"{where} · against {PLAIN}{inputs} · higher is better",
        "sequence length (tokens)" if is_lines else label,
        label if is_lines else "",
        "×",
        tuple(series),
        lower_is_better=False,
        guide=1.0,
        notes=tuple(notes),
    )
    return best_series(chart)


def _series(
    table: SpeedupTable, ratio: _Ratio, records: Mapping[str, Record], slugs: Mapping[str, str]
) -> list[Series]:
    """The variants that have a ratio at a length or more."""
    series = []
    for variant in table.variants:
        values = {length: ratio(variant, length) for length in table.lengths}
        points = tuple(
            Point(length, table.call(variant, length).workload, value)
            for length, value in values.items()
            if value is not None and value > 0
        )
        if points:
            record = records[variant]
            series.append(Series(variant, slugs[variant], variant, record.backend, record.family, record.mode, points))
    return series


def _notes(why: str, lengths: Sequence[int]) -> list[str]:
    shown = listed([str(length) for length in lengths], MOST_LENGTHS)
    return [f"No ratio where {PLAIN} {why}: sequence length {shown}."] if lengths else []
