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
from attnbench.report.cells import code
from attnbench.report.gather import Gathered
from attnbench.report.pooling import pooled_median_s
from attnbench.report.problem import Problem, problem, problem_of_tokens
from attnbench.units import counted, mebibytes, milliseconds, significant
from attnbench.workload import Workload

PLAIN = "torch_math@eager"

#: Of a direction, as FlashAttention's `flash_attn/utils/benchmark.py` prints it.
PASSES = {"forward": "Forward pass", "backward": "Backward pass", "forward+backward": "Forward + Backward pass"}


@dataclass(frozen=True)
class Call:
    """One variant at one length: median seconds over all rounds, and the memory that one call allocates at its peak.

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


def as_markdown(table: SpeedupTable) -> list[str]:
    """Lines of a Markdown table, with a sentence above it: a row per variant, a column per length."""
    title = f"{code(f'{table.gpu}, {table.problem}')}: speed-up over {code(table.plain)}"
    rows = [
        ["variant", *map(str, table.lengths)],
        ["---", *["--:"] * len(table.lengths)],
        *([code(name), *(_cell(table, name, at) for at in table.lengths)] for name in (table.plain, *table.variants)),
    ]
    return [
        f"{title},",
        "and in brackets memory saving, the inputs not counted; ms and MiB where there is no speed-up.",
        "",
        *(f"| {' | '.join(cells)} |" for cells in rows),
    ]


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
    median = pooled_median_s([record for record in launches if record.sample is not None])
    peaks = [record.workspace_bytes for record in launches if record.workspace_bytes is not None]
    state = str(launches[0].status) if median is None else ""
    return Call(median, max(peaks, default=None), state, launches[0].workload.name)


def _cell(table: SpeedupTable, variant: str, length: int) -> str:
    """`12.0× (17.4×)`; of plain attention and beside none of it `1.234 ms (40.5 MiB)`; why there is no latency."""
    call = table.call(variant, length)
    if call.median_s is None:
        return call.state
    speedup, saving = table.speedup(variant, length), table.saving(variant, length)
    if variant == table.plain or speedup is None:
        return _with(f"{milliseconds(call.median_s)} ms", _size(call.workspace_bytes))
    return _with(_times(speedup), "" if saving is None else _times(saving))


def _with(text: str, brackets: str) -> str:
    return f"{text} ({brackets})" if brackets else text


def _size(size_bytes: int | None) -> str:
    return "" if size_bytes is None else f"{mebibytes(size_bytes)} MiB"


def _times(ratio: float) -> str:
    return f"{significant(ratio, 3)}×"


def _ratio(plain: float | None, own: float | None) -> float | None:
    return None if plain is None or not own else plain / own
