"""Percent of a reference, as kernel authors report the iterations of their kernel: at one length, and over all lengths.

A table is of one problem (`attnbench.report.problem`) over its sequence lengths, with a pair of columns for each GPU. Rows
are numbered in the order of registration, which is that of a run's records; of several runs, which may each have a part of
the variants, the orders are merged. 100 is the speed of the reference, more is faster.
Over the lengths the percents are averaged by the harmonic mean, n / Σ(1/p), as rates are: that
is the reference's time over the variant's when each length is weighted alike. The last row is the reference's TFLOP/s, at
the one length and as harmonic mean.

The latency of a variant is the median over the rounds of all its launches. Records that were slowed down on purpose
are left out.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from attnbench import printable, stats
from attnbench.aliases import VARIANTS
from attnbench.globs import require
from attnbench.model import Record
from attnbench.report.cells import code, literal
from attnbench.report.gather import Gathered
from attnbench.report.pooling import pooled_median_s
from attnbench.report.problem import Problem, problem
from attnbench.report.table import WIDTH
from attnbench.units import counted, significant

LONGEST_NAME = 60
UNKNOWN = "–"


@dataclass(frozen=True)
class Share:
    """Speed of a variant on one GPU in percent of the reference's; None where one of both has no latency.

    lengths: how many the harmonic mean is over.
    """

    at_length: float | None
    harmonic: float | None
    lengths: int


@dataclass(frozen=True)
class RelativeTable:
    """One problem: `shares` are by variant, in order of registration, one per GPU of `gpus`.

    left_out: GPUs on which the reference has no latency of this problem, so that there is nothing to be relative to.
    length: that of the first column of each pair. lengths: all that the reference has a latency of, on any GPU.
    reference_tflop_per_s: per GPU, at `length` and the harmonic mean over its lengths; None without a latency.
    """

    problem: str
    reference: str
    gpus: tuple[str, ...]
    length: int
    lengths: tuple[int, ...]
    shares: Mapping[str, tuple[Share, ...]]
    reference_tflop_per_s: tuple[tuple[float | None, float | None], ...]
    left_out: tuple[str, ...] = ()


#: Median seconds by GPU, variant and sequence length, of one problem.
_Latencies = Mapping[tuple[str, str, int], float]


def relative_tables(
    gathered: Gathered, reference: str | None = None, length: int | None = None
) -> tuple[RelativeTable, ...]:
    """A table per problem of which the reference has a latency, in the order of the records.

    reference: a variant, or another project's name of one; without it the first run's own.
    length: a sequence length; without it the longest of those that most variants have.
    Raises globs.UnknownName if no record of this reference has a latency.
    """
    records = [record for record in gathered.records if record.sample is not None and record.injected is None]
    asked = reference or next((source.run.reference for source in gathered.runs if source.run.reference), "")
    named = asked if asked in {record.variant for record in records} else VARIANTS.get(asked, asked)
    if reference is not None:
        require("variant", named, tuple(dict.fromkeys(record.variant for record in records)))
    problems: dict[Problem, list[Record]] = defaultdict(list)
    for record in records:
        problems[problem(record.workload)].append(record)
    order = _merged([dict.fromkeys(record.variant for record in source.run.records) for source in gathered.runs])
    tables = (_table(gathered, of.words, mine, named, length, order) for of, mine in problems.items())
    return tuple(table for table in tables if table is not None)


def as_markdown(table: RelativeTable) -> list[str]:
    """Lines of a Markdown table that any renderer takes: one line of header, names as code."""
    header, rows = _cells(table)
    heads = [f"{literal(name)}: {unit}" if unit else name for name, unit in header]
    rule = ["--:", "---", *["--:"] * (len(header) - 2)]
    named = [[cells[0], code(cells[1]) if cells[0] else cells[1], *cells[2:]] for cells in rows]
    title = f"{code(_shortened(table.problem, WIDTH))}: speed in percent of {code(_shortened(table.reference))},"
    return [title, f"{_mean_of(table)}.", "", *(f"| {' | '.join(cells)} |" for cells in (heads, rule, *named))]


def _table(
    gathered: Gathered,
    words: str,
    records: Sequence[Record],
    reference: str,
    length: int | None,
    order: Sequence[str],
) -> RelativeTable | None:
    latencies = _latencies(gathered, records)
    lengths = sorted({seq for _, variant, seq in latencies if variant == reference})
    if not lengths:
        return None
    of_reference = {gpu for gpu, variant, _ in latencies if variant == reference}
    everywhere = tuple(dict.fromkeys(gathered.gpu(record) for record in records))
    gpus = tuple(gpu for gpu in everywhere if gpu in of_reference)
    variants = sorted({record.variant for record in records if gathered.gpu(record) in of_reference}, key=order.index)
    at = _most_common(latencies, lengths) if length is None else length
    flop = {record.workload.seq: record.workload.flop for record in records}
    return RelativeTable(
        words,
        reference,
        gpus,
        at,
        tuple(lengths),
        {variant: tuple(_share(latencies, gpu, variant, reference, at) for gpu in gpus) for variant in variants},
        tuple(_rates(latencies, gpu, reference, at, flop) for gpu in gpus),
        tuple(gpu for gpu in everywhere if gpu not in of_reference),
    )


def _merged(orders: Iterable[Iterable[str]]) -> list[str]:
    """One order of the names of several runs: by first appearance, and behind all that any run has before it.

    Where two runs contradict each other, the first appearance decides.
    """
    before: dict[str, dict[str, None]] = {}
    for names in orders:
        previous: dict[str, None] = {}
        for name in names:
            before.setdefault(name, {}).update(previous)
            previous = {name: None}
    merged: dict[str, None] = {}
    for name in before:
        waiting = {} if name in merged else {name: None}
        while waiting:
            last = next(reversed(waiting))
            missing = next((one for one in before[last] if one not in merged and one not in waiting), None)
            if missing is not None:
                waiting[missing] = None
            else:
                merged[waiting.popitem()[0]] = None
    return list(merged)


def _latencies(gathered: Gathered, records: Sequence[Record]) -> _Latencies:
    of_launches: dict[tuple[str, str, int], list[Record]] = defaultdict(list)
    for record in records:
        of_launches[gathered.gpu(record), record.variant, record.workload.seq].append(record)
    medians = {key: pooled_median_s(mine) for key, mine in of_launches.items()}
    return {key: median for key, median in medians.items() if median is not None}


def _most_common(latencies: _Latencies, lengths: Sequence[int]) -> int:
    """The length that most variants have a latency of, the longest of several."""
    counts = Counter(seq for _, _, seq in latencies if seq in lengths)
    return max(counts, key=lambda seq: (counts[seq], seq))


def _share(latencies: _Latencies, gpu: str, variant: str, reference: str, at: int) -> Share:
    mine = {seq: value for (where, name, seq), value in latencies.items() if (where, name) == (gpu, variant)}
    theirs = {seq: value for (where, name, seq), value in latencies.items() if (where, name) == (gpu, reference)}
    percents = {seq: 100 * theirs[seq] / mine[seq] for seq in mine if seq in theirs}
    harmonic = statistics.harmonic_mean(list(percents.values())) if percents else None
    return Share(percents.get(at), harmonic, len(percents))


def _rates(
    latencies: _Latencies, gpu: str, reference: str, at: int, flop: Mapping[int, int]
) -> tuple[float | None, float | None]:
    rates = {
        seq: stats.tflop_per_s(flop[seq], value)
        for (where, name, seq), value in latencies.items()
        if (where, name) == (gpu, reference)
    }
    return rates.get(at), statistics.harmonic_mean(list(rates.values())) if rates else None


def _mean_of(table: RelativeTable) -> str:
    lengths = f"{counted(len(table.lengths), 'length')} ({', '.join(map(str, table.lengths))})"
    without = ", ".join(_shortened(gpu) for gpu in table.left_out)
    return f"harmonic mean over {lengths}; in brackets over how many, where fewer" + (
        f"; not on {without}, where the reference has no latency" if without else ""
    )


def _cells(table: RelativeTable) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """The columns, each with what stands below its name, and the rows."""
    pairs = [(_shortened(gpu), unit) for gpu in table.gpus for unit in (f"% at {table.length}", "% harmonic mean")]
    rows = [
        [str(number), _shortened(variant), *(cell for share in shares for cell in _pair(share, len(table.lengths)))]
        for number, (variant, shares) in enumerate(table.shares.items(), 1)
    ]
    rates = [_rate(rate) for pair in table.reference_tflop_per_s for rate in pair]
    return [("#", ""), ("variant", ""), *pairs], [*rows, ["", "reference TFLOP/s", *rates]]


def _pair(share: Share, lengths: int) -> tuple[str, str]:
    at = UNKNOWN if share.at_length is None else f"{share.at_length:.1f}"
    if share.harmonic is None:
        return at, UNKNOWN
    return at, f"{share.harmonic:.1f}" + (f" ({share.lengths})" if share.lengths < lengths else "")


def _rate(rate: float | None) -> str:
    return UNKNOWN if rate is None else significant(rate, 4)


def _shortened(name: str, longest: int = LONGEST_NAME) -> str:
    """A name on one line; a long one loses its middle, as its end tells variants apart."""
    shown = printable.line(" ".join(name.split()))
    half = longest // 2
    return shown if len(shown) <= longest else f"{shown[: half - 1]}…{shown[-half:]}"
