"""What cases did under continuous load (--attn-sustained), beside their settled latency. Shown and never judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from attnbench.model import Launch, Record, RunFile
from attnbench.report.pooling import marked, numbered_tests, pooled
from attnbench.report.quantities import device_name, median_s
from attnbench.report.table import WIDTH, fitted, without_empty, wrapped
from attnbench.units import milliseconds, significant
from attnbench.workload import Workload

#: Two settled latencies, and two under load, count as different from these shares on.
SETTLED_APART, SUSTAINED_APART = 0.003, 0.01

_COLUMNS = (
    ("under load", ""),
    ("settled", "ms"),
    ("sustained", "ms"),
    ("", "×"),
    ("20–80 %", "ms"),
    ("power", "W"),
    ("energy", "J/call"),
    ("clock", "MHz"),
    ("GPU", "°C"),
    ("drift", "%"),
)


@dataclass(frozen=True)
class Reversal:
    """On one workload and GPU, the variants that are fastest when settled, and the one that is under continuous load.

    settled: one, or several that count as equal, the fastest first.
    """

    gpu: str
    workload: Workload
    settled: tuple[Record, ...]
    sustained: Record

    @property
    def sentence(self) -> str:
        """What happened, with the latencies, and where the host was a part of it."""
        names, winner = " and ".join(record.variant for record in self.settled), self.sustained.variant
        text = (
            f"{self.workload.name}: {names} {'is' if len(self.settled) == 1 else 'are'} the fastest when settled "
            f"({_each(_settled_ms, self.settled)} ms, {winner} {_settled_ms(self.sustained)}) and not under continuous load "
            f"({_each(_sustained_ms, self.settled)} ms, {winner} {_sustained_ms(self.sustained)})"
        )
        starved = [record.variant for record in self.settled if record.sustained and record.sustained.starved]
        return f"{text}; the GPU waited for the host under load: {', '.join(starved)}" if starved else text


def table(records: Sequence[Record], tests: Mapping[str, int], width: int = WIDTH) -> list[str]:
    """The cases of one workload that ran under load, fastest there first, and what limits their figures; else empty."""
    ran = sorted((r for r in records if r.sustained is not None), key=_sustained_s)
    if not ran:
        return []
    header = [[name for name, _ in _COLUMNS], [unit for _, unit in _COLUMNS]]
    named = [(f"{record.variant}{marked(record.nodeid, tests)}", record) for record in ran]
    rows = [_row(record, name) for name, record in named]
    slowed = [name for name, record in named if record.injected is not None]
    found = {**({"slowed down on purpose (--attn-inject)": slowed} if slowed else {}), **doubts(named)}
    return [
        *fitted(*without_empty(header, rows), left=1, most=width),
        *(line for what, names in found.items() for line in wrapped(f"{what}: {', '.join(names)}")),
    ]


def doubts(named: Iterable[tuple[str, Record]]) -> dict[str, list[str]]:
    """What limits the figures under load, or why power or energy is missing: a clause, and the names it is true of."""
    found: dict[str, list[str]] = {}
    for name, record in named:
        load = record.sustained
        if load is None:
            continue
        if load.starved:
            share = f"{name} ({load.starved} of {load.batches} batches)"
            found.setdefault("the GPU waited for the host, so latency under load is the host's too", []).append(share)
        if not load.steady:
            found.setdefault("latency under load was not steady when counting began", []).append(name)
        if "heat" in load.held_by:
            found.setdefault("heat lowered the clock, so a cooler GPU is faster under load", []).append(name)
        if load.note:
            found.setdefault(load.note, []).append(name)
    return found


def reversals(records: Sequence[Record], launches: Sequence[Launch]) -> tuple[Reversal, ...]:
    """Every workload on every GPU unit whose fastest variant differs between settled and continuous load.

    Differences count from `SETTLED_APART` and `SUSTAINED_APART` on: two routes to one kernel are as fast. Of several
    launches of a case on one unit the figures are medians. What was slowed down on purpose takes no part.
    """
    units = {launch.id: (device_name(launch), launch.unit or "") for launch in launches}
    groups: dict[tuple[tuple[str, str], Workload], list[Record]] = {}
    for record in records:
        if record.sustained is not None and record.injected is None and record.launch in units:
            groups.setdefault((units[record.launch], record.workload), []).append(record)
    found = (_reversal(gpu, workload, pooled(mine)) for ((gpu, _), workload), mine in groups.items())
    return tuple(one for one in found if one is not None)


def sentences(run: RunFile) -> list[str]:
    """The reversals of one run, a sentence each."""
    return [one.sentence for one in reversals(run.records, run.launches)]


def summary(run: RunFile) -> list[str]:
    """Tables of every workload and the reversals: the lines that Markdown shows; empty without such a figure."""
    numbers, records = numbered_tests(run.records), pooled(run.records)
    lines = []
    for workload in dict.fromkeys(r.workload for r in records if r.sustained is not None):
        lines += [workload.name, *table([r for r in records if r.workload == workload], numbers)]
    return [*lines, *(part for one in sentences(run) for part in wrapped(one))]


def _reversal(gpu: str, workload: Workload, records: Sequence[Record]) -> Reversal | None:
    rows = [record for record in records if record.sustained is not None]
    if len(rows) < 2:
        return None
    rows.sort(key=_settled_s)
    by_variant: dict[str, Record] = {}
    for record in rows:
        by_variant.setdefault(record.variant, record)  # one in several tests is no tie
    settled = tuple(one for one in by_variant.values() if _settled_s(rows[0]) >= _settled_s(one) * (1 - SETTLED_APART))
    sustained, best = min(rows, key=_sustained_s), min(settled, key=_sustained_s)
    loses = _sustained_s(sustained) < _sustained_s(best) * (1 - SUSTAINED_APART)
    return Reversal(gpu, workload, settled, sustained) if loses else None


def _each(spelt: Callable[[Record], str], records: Sequence[Record]) -> str:
    return " and ".join(spelt(record) for record in records)


def _row(record: Record, name: str) -> list[str]:
    load = record.sustained
    assert load is not None
    return [
        name,
        _settled_ms(record),
        _sustained_ms(record),
        f"{load.median_s / _settled_s(record):.3f}",
        f"{milliseconds(load.low_s)}–{milliseconds(load.high_s)}",
        "" if load.power_w is None else f"{load.power_w:.0f}",
        "" if load.joules is None else significant(load.joules, 3),
        "" if load.clock_hz is None else f"{load.clock_hz / 1e6:.0f}",
        "" if load.temperature_c is None else f"{load.temperature_c:.0f}",
        f"{round(load.drift * 100, 1) + 0.0:+.1f}",  # no -0.0
    ]


def _settled_s(record: Record) -> float:
    median = median_s(record)
    assert median is not None
    return median


def _sustained_s(record: Record) -> float:
    assert record.sustained is not None
    return record.sustained.median_s


def _settled_ms(record: Record) -> str:
    return milliseconds(_settled_s(record))


def _sustained_ms(record: Record) -> str:
    return milliseconds(_sustained_s(record))
