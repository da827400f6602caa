"""What has no latency, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attnbench.report.page.index import Index
from attnbench.report.unmeasured import groups


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
    """Cases without a latency: what needs an author's eye first, and each reason once; the table of records has all."""
    return tuple(
        Unmeasured(
            " ".join(_unique(map(index.key, members))),
            str(status),
            _unique(map(index.name, members)),
            _unique(record.workload.name for record in members),
            _unique(map(index.gpu, members)),
            reasons,
        )
        for (status, reasons), members in groups(index.gathered.records, details=False, where="the records have all")
    )


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
