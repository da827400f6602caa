"""What `--attn-list` prints: backends, modes and workloads, with every reason why one cannot run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attnbench import printable
from attnbench.model import Reason
from attnbench.report.table import WIDTH, wrapped
from attnbench.units import counted
from attnbench.workload import Workload


@dataclass(frozen=True)
class Entry:
    """One case before it runs: `reasons` is empty when it is ready, and `ready` says how."""

    backend: str
    family: str
    mode: str
    workload: Workload
    reasons: tuple[Reason, ...]
    ready: str = "ready"


def listing(device: str, entries: Sequence[Entry]) -> list[str]:
    """A line for each backend with its modes, then the workloads and their purpose.

    Configurations of one backend (`sage_int8_fp16_cuda[per_warp]`) that fare as the backend itself are one line below it.
    """
    states = {backend: _states(backend, entries) for backend in dict.fromkeys(e.backend for e in entries)}
    same: dict[str, list[str]] = {}
    for backend, its in states.items():
        base, bracket, option = backend.partition("[")
        if bracket and states.get(base) == its:
            same.setdefault(base, []).append(f"[{option}")
    alike = {base + option for base, options in same.items() for option in options}
    rows = {backend: its for backend, its in states.items() if backend not in alike}
    width = max(map(len, rows), default=0)
    lines = [f"device: {device}", "", "backends"]
    for backend, its in rows.items():
        lines += _rows([(backend, state) for state in its], width)
        lines += _rows([("", f"the same for {' '.join(same[backend])}")], width) if backend in same else []
    lines += ["", "workloads"]
    workloads = list(dict.fromkeys(e.workload for e in entries))
    width = max((len(w.name) for w in workloads), default=0)
    lines += _rows([(w.name, f"{w.spelt}  {w.why}") for w in workloads], width)
    ready = sum(not e.reasons for e in entries)
    return [
        *map(printable.line, lines),
        "",
        f"{counted(len(entries), 'case')}: {ready} ready, {len(entries) - ready} not",
    ]


def _rows(rows: Sequence[tuple[str, str]], width: int) -> list[str]:
    """A name of `width` characters and a sentence, whose further lines stand below its first by two more."""
    hang = " " * min(width + 6, WIDTH // 2)
    return [part for name, text in rows for part in wrapped(printable.line(f"  {name:{width}}  {text}"), hang=hang)]


def _states(backend: str, entries: Sequence[Entry]) -> list[str]:
    """`eager, default: ready`: a sentence for each set of cases of one backend that fare alike."""
    mine = [e for e in entries if e.backend == backend]
    states: dict[tuple[str, ...], list[Entry]] = {}
    for entry in mine:
        states.setdefault(tuple(r.text for r in entry.reasons) or (entry.ready,), []).append(entry)
    everywhere = len({e.workload for e in mine})
    return [f"{where}: {'; '.join(texts)}" for texts, them in states.items() for where in _where(them, everywhere)]


def _where(members: Sequence[Entry], everywhere: int) -> list[str]:
    """`eager, default`, or `eager on w1, w2` where other workloads fare differently: modes that agree are together."""
    workloads: dict[str, tuple[str, ...]] = {}
    for entry in members:
        workloads[entry.mode] = (*workloads.get(entry.mode, ()), entry.workload.name)
    modes: dict[tuple[str, ...], list[str]] = {}
    for mode, names in workloads.items():
        modes.setdefault(names, []).append(mode)
    return [
        ", ".join(said) + (f" on {', '.join(names)}" if len(names) < everywhere else "")
        for names, said in modes.items()
    ]
