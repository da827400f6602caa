"""Speed-up and memory saving over the sequence length, and latencies in the form of FlashAttention's benchmarks.

FlashAttention's README shows both against plain attention: its latency over the kernel's, and the peak of its memory over
that of the kernel's, where the inputs are not counted. A table is of one GPU and of one problem over its lengths; where
the batch shrinks as the length grows, so that the tokens stay the same, of one number of tokens.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attnbench.globs import require
from attnbench.model import Record
from attnbench.report.cells import literal
from attnbench.report.gather import Gathered
from attnbench.report.problem import Problem, problem, problem_of_tokens
from attnbench.report.quantities import median_s
from attnbench.report.table import fitted, wrapped
from attnbench.units import counted, mebibytes, milliseconds, significant
from attnbench.workload import Workload

PLAIN = "torch_math@eager"
UNKNOWN = "–"

#: Of a direction, as FlashAttention's `flash_attn/utils/benchmark.py` prints it.
PASSES = {"forward": "Forward pass", "backward": "Backward pass", "forward+backward": "Forward + Backward pass"}


@dataclass(frozen=True)
class Call:
    """One variant at one length: median seconds over its launches, and the memory that one call allocates at its peak.

    state: why there is no latency, "unsupported" for instance; empty where there is one. workload: its name.
    """

    median_s: float | None
    workspace_bytes: int | None
    state: str = ""
    workload: str = ""


@dataclass(frozen=True)
class SpeedupTable:
    """`calls` are by variant and then by length; `plain` is one of the variants."""

    gpu: str
    problem: str
    plain: str
    lengths: tuple[int, ...]
    calls: Mapping[str, Mapping[int, Call]]

    def speedup(self, variant: str, length: int) -> float | None:
        """Plain attention's latency over the variant's; None where one of both has none."""
        return _ratio(*(self.call(one, length).median_s for one in (self.plain, variant)))

    def saving(self, variant: str, length: int) -> float | None:
        """Plain attention's memory over the variant's, without the inputs; None where one of both was not counted."""
        return _ratio(*(self.call(one, length).workspace_bytes for one in (self.plain, variant)))

    @property
    def variants(self) -> tuple[str, ...]:
        """Those that have a latency and are not plain attention."""
        return tuple(
            name
            for name, calls in self.calls.items()
            if name != self.plain and any(call.median_s is not None for call in calls.values())
        )

    def call(self, variant: str, length: int) -> Call:
        """What is known of it; without a record it was not selected."""
        return self.calls.get(variant, {}).get(length, Call(None, None, "not selected"))


def speedup_tables(gathered: Gathered, plain: str = PLAIN) -> tuple[SpeedupTable, ...]:
    """A table per GPU and problem that plain attention has a latency in, in the order of the records.

    Raises globs.UnknownName, with the nearest names, if `plain` is another variant than `PLAIN` and has no record.
    """
    records = [record for record in gathered.records if record.injected is None]
    if plain != PLAIN:
        require("variant", plain, tuple(dict.fromkeys(record.variant for record in records)))
    by_gpu: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_gpu[gathered.gpu(record)].append(record)
    tables = (
        _table(gpu, of.words, some, plain) for gpu, mine in by_gpu.items() for of, some in _problems(mine).items()
    )
    return tuple(table for table in tables if any(c.median_s is not None for c in table.calls.get(plain, {}).values()))


def as_text(table: SpeedupTable) -> list[str]:
    """Lines for a terminal, in as many tables as its width asks for."""
    columns, rows = _cells(table)
    header = [[name for name, _ in columns], [unit for _, unit in columns]]
    return [*wrapped(_said(table, table.plain)), *fitted(header, rows, left=1)]


def as_markdown(table: SpeedupTable) -> list[str]:
    """Lines of a Markdown table, with a sentence above it."""
    columns, rows = _cells(table)
    heads = [f"{literal(name)}: {unit}" if unit else name for name, unit in columns]
    lines = (heads, ["--:"] * len(columns), *rows)
    return [f"{literal(_said(table, table.plain))}.", "", *(f"| {' | '.join(cells)} |" for cells in lines)]


def benchmark_lines(gathered: Gathered) -> list[str]:
    """Latencies as FlashAttention's benchmarks print them, and with a launch more than one as `torch.utils.benchmark` does.

    The mean over the rounds of a launch; the median of the launches' means.
    """
    launches: dict[tuple[str, str, Workload], list[Record]] = defaultdict(list)
    for record in gathered.records:
        if record.sample is not None and record.injected is None:
            launches[gathered.gpu(record), record.variant, record.workload].append(record)
    lines: list[str] = []
    for (gpu, variant, workload), records in launches.items():
        means = [statistics.fmean(record.sample.rounds_s) for record in records if record.sample is not None]
        runs = min(len(record.sample.rounds_s) for record in records if record.sample is not None)
        several = len(means) > 1
        lines += [
            f"{variant} on {workload.name}, {gpu} - {PASSES[workload.direction]}",
            f"  {'Median: ' if several else ''}{milliseconds(statistics.median(means))} ms",
            f"  {counted(len(means), 'measurement')}, {runs} runs{' per measurement' if several else ''}",
        ]
    return lines


def _problems(records: Sequence[Record]) -> dict[Problem, list[Record]]:
    """Records that share all but the length; and those that share all but length and batch, and the number of tokens.

    What has one length alone, and stands in a table of a number of tokens, gets no table of its own.
    """
    by_batch: dict[Problem, list[Record]] = defaultdict(list)
    by_tokens: dict[Problem, list[Record]] = defaultdict(list)
    for record in records:
        by_batch[problem(record.workload)].append(record)
        by_tokens[problem_of_tokens(record.workload)].append(record)
    of_tokens = {of: some for of, some in by_tokens.items() if len(_lengths(some)) > 1}
    shown = {id(record) for some in of_tokens.values() for record in some}
    of_batch = {
        of: some
        for of, some in by_batch.items()
        if len(_lengths(some)) > 1 or any(id(record) not in shown for record in some)
    }
    return {**of_batch, **of_tokens}


def _lengths(records: Sequence[Record]) -> set[int]:
    return {record.workload.seq for record in records}


def _table(gpu: str, words: str, records: Sequence[Record], plain: str) -> SpeedupTable:
    by_call: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for record in records:
        by_call[record.variant, record.workload.seq].append(record)
    calls: dict[str, dict[int, Call]] = defaultdict(dict)
    for (variant, length), some in by_call.items():
        calls[variant][length] = _call(some)
    return SpeedupTable(gpu, words, plain, tuple(sorted(_lengths(records))), calls)


def _call(launches: Sequence[Record]) -> Call:
    medians = [median for record in launches if (median := median_s(record)) is not None]
    peaks = [record.workspace_bytes for record in launches if record.workspace_bytes is not None]
    state = "" if medians else str(launches[0].status)
    return Call(
        statistics.median(medians) if medians else None, max(peaks, default=None), state, launches[0].workload.name
    )


def _said(table: SpeedupTable, plain: str) -> str:
    return (
        f"{table.gpu}, {table.problem}: how many times faster than {plain}, and how many times less memory, "
        "the inputs not counted"
    )


def _cells(table: SpeedupTable) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """The columns, each with its unit, and a row per length."""
    columns = [("length", ""), (table.plain, "ms"), (table.plain, "MiB")]
    columns += [(variant, unit) for variant in table.variants for unit in ("× faster", "× less")]
    return columns, [_row(table, length) for length in table.lengths]


def _row(table: SpeedupTable, length: int) -> list[str]:
    own = table.call(table.plain, length)
    latency = own.state if own.median_s is None else milliseconds(own.median_s)
    ratios = (
        ratio for variant in table.variants for ratio in (table.speedup(variant, length), table.saving(variant, length))
    )
    return [str(length), latency, mebibytes(own.workspace_bytes) or UNKNOWN, *map(_times, ratios)]


def _times(ratio: float | None) -> str:
    return UNKNOWN if ratio is None else significant(ratio, 3)


def _ratio(plain: float | None, own: float | None) -> float | None:
    return None if plain is None or not own else plain / own
