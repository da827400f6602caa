"""Where the launches ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attnbench.model import Launch
from attnbench.report.page.heading import span
from attnbench.report.page.index import Index


@dataclass(frozen=True)
class Environment:
    """What the launches on one GPU say of where they ran: a row per field with its distinct values."""

    gpu: str
    launches: int
    started: str
    fields: tuple[tuple[str, tuple[str, ...], bool], ...]  # name, values, whether a comparison needs it equal


def environments(index: Index) -> tuple[Environment, ...]:
    """One per GPU."""
    return tuple(
        Environment(gpu, len(launches), span(launch.started_at for launch in launches), _fields(launches))
        for gpu, launches in index.launches.items()
    )


def _fields(launches: Sequence[Launch]) -> tuple[tuple[str, tuple[str, ...], bool], ...]:
    found: dict[tuple[str, bool], dict[str, None]] = {}
    for launch in launches:
        for part, compared in ((launch.fingerprint.key, True), (launch.fingerprint.context, False)):
            for name, value in part.items():
                found.setdefault((name, compared), {})["unknown" if value is None else str(value)] = None
    return tuple((name, tuple(values), compared) for (name, compared), values in found.items())
