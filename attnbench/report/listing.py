"""What `--attn-list` prints: backends × modes × workloads, each ready or with every reason why not (layer 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attnbench.model import Reason, Workload


@dataclass(frozen=True)
class Entry:
    """One case before it runs: `reasons` is empty when it is ready."""

    backend: str
    family: str
    mode: str
    workload: Workload
    reasons: tuple[Reason, ...]


def listing(device: str, entries: Sequence[Entry]) -> list[str]:
    """A line per backend with its modes, then the workloads with what they are for."""
    lines = [f"device: {device}", "", "backends"]
    width = max(len(e.backend) for e in entries)
    for backend in dict.fromkeys(e.backend for e in entries):
        mine = [e for e in entries if e.backend == backend]
        modes = ", ".join(dict.fromkeys(e.mode for e in mine))
        states: dict[tuple[str, ...], list[Entry]] = {}
        for entry in mine:
            states.setdefault(tuple(r.text for r in entry.reasons), []).append(entry)
        for texts, members in states.items():
            state = "ready" if not texts else "; ".join(texts)
            part = "" if len(states) == 1 else f" [{_which(members)}]"
            lines.append(f"  {backend:{width}}  {modes}: {state}{part}")
    lines += ["", "workloads"]
    workloads = list(dict.fromkeys(e.workload for e in entries))
    width = max(len(w.name) for w in workloads)
    lines += [f"  {w.name:{width}}  {w.spelt}  {w.why}" for w in workloads]
    ready = sum(not e.reasons for e in entries)
    return [*lines, "", f"{len(entries)} cases: {ready} ready, {len(entries) - ready} not"]


def _which(members: Sequence[Entry]) -> str:
    names = dict.fromkeys(f"{e.mode}-{e.workload.name}" for e in members)
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} cases"
