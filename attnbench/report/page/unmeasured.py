"""What has no latency, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from attnbench.model import Record, Status
from attnbench.report.page.index import Index
from attnbench.report.unmeasured import ORDER


@dataclass(frozen=True)
class Unmeasured:
    """Cases without a latency that share a status and its reasons."""

    key: str
    status: str
    names: tuple[str, ...]
    workloads: tuple[str, ...]
    gpus: tuple[str, ...]
    reasons: tuple[str, ...]


def unmeasured(index: Index) -> tuple[Unmeasured, ...]:
    """Cases without a latency: what needs an author's eye first, and each reason once."""
    groups: dict[tuple[Status, tuple[str, ...]], list[Record]] = defaultdict(list)
    for record in index.gathered.records:
        if record.status in ORDER and record.reasons:
            groups[record.status, tuple(reason.text for reason in record.reasons)].append(record)
    ordered = sorted(groups.items(), key=lambda group: ORDER.index(group[0][0]))
    return tuple(
        Unmeasured(
            " ".join(_unique(map(index.key, members))),
            str(status),
            _unique(map(index.name, members)),
            _unique(record.workload.name for record in members),
            _unique(map(index.gpu, members)),
            reasons,
        )
        for (status, reasons), members in ordered
    )


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
