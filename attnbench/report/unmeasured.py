"""Every case without a latency and every reason for it, each reason once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attnbench.model import Record, Status
from attnbench.report.pooling import marked
from attnbench.report.table import WIDTH, wrapped

#: In this order they are listed: what needs an author's eye comes first.
ORDER = (Status.INCORRECT, Status.ERROR, Status.NOT_RUN, Status.CHECKED, Status.UNSUPPORTED)
LONGEST_REASON = 600


def unmeasured(records: Sequence[Record], tests: Mapping[str, int] | None = None) -> list[str]:
    """Cases that share status and reasons are one entry, which names them all.

    A case that was checked and, as asked, not timed is none of them; one whose test ended before it measured is.
    tests: numbers of the tests of cases that are in several.
    """
    groups: dict[tuple[Status, tuple[str, ...]], list[Record]] = {}
    for record in records:
        if record.status in ORDER and record.reasons:
            groups.setdefault((record.status, tuple(r.text for r in record.reasons)), []).append(record)
    everywhere = len({r.workload for r in records})
    lines: list[str] = []
    for (status, texts), members in sorted(groups.items(), key=lambda group: ORDER.index(group[0][0])):
        lines += _entry(f"{status}: {named(members, everywhere, tests or {})}", [_shortened(text) for text in texts])
    return ["not measured", *lines] if lines else []


def _entry(cases: str, texts: Sequence[str]) -> list[str]:
    """One line where it fits, else the cases and below them a paragraph per reason."""
    line = f"  {cases}: {'; '.join(texts)}"
    if len(line) <= WIDTH:
        return [line]
    return [*wrapped(cases, "  "), *(part for text in texts for part in wrapped(text, "      "))]


def named(members: Sequence[Record], everywhere: int, tests: Mapping[str, int]) -> str:
    """`a@{eager,default}, b@eager on w1, w2; …`: cases by the variants that the same workloads have in common.

    everywhere: how many workloads there are in all; tests: numbers of the tests of cases that are in several.
    """
    variants: dict[str, list[Record]] = {}
    for record in members:
        variants.setdefault(record.workload.name, []).append(record)
    parts: dict[str, list[str]] = {}
    for name, mine in variants.items():
        parts.setdefault(_variants(mine, tests), []).append(name)
    return "; ".join(f"{said} on {_workloads(names, everywhere)}" for said, names in parts.items())


def _variants(records: Iterable[Record], tests: Mapping[str, int]) -> str:
    modes: dict[str, list[str]] = {}
    for record in records:
        modes.setdefault(record.backend, []).append(f"{record.mode}{marked(record.nodeid, tests)}")
    return ", ".join(f"{b}@{m[0]}" if len(m) == 1 else f"{b}@{{{','.join(m)}}}" for b, m in modes.items())


def _workloads(names: Sequence[str], everywhere: int) -> str:
    return f"all {everywhere} workloads" if len(names) == everywhere > 1 else ", ".join(names)


def _shortened(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= LONGEST_REASON else f"{flat[:LONGEST_REASON]} … (whole in the stored record)"
