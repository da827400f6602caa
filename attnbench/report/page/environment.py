"""Where the launches ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attnbench.model import Launch
from attnbench.report.page.heading import span
from attnbench.report.page.index import Index


@dataclass(frozen=True)
class Environment:
    """What the launches on one GPU say of where they ran: a row per field with its distinct values.

    nvidia_smi: the same of the fields of nvidia-smi as each launch started; empty where none were stored.
    """

    gpu: str
    launches: int
    started: str
    fields: tuple[tuple[str, tuple[str, ...], bool], ...]  # name, values, whether a comparison needs it equal
    nvidia_smi: tuple[tuple[str, tuple[str, ...]], ...] = ()


def environments(index: Index) -> tuple[Environment, ...]:
    """One per GPU."""
    return tuple(
        Environment(
            gpu,
            len(launches),
            span(launch.started_at for launch in launches),
            _fields(launches),
            _nvidia_smi(launches),
        )
        for gpu, launches in index.launches.items()
    )


def _fields(launches: Sequence[Launch]) -> tuple[tuple[str, tuple[str, ...], bool], ...]:
    values_of: dict[tuple[str, bool], dict[str, None]] = {}
    for launch in launches:
        for part, compared in ((launch.fingerprint.key, True), (launch.fingerprint.context, False)):
            for name, value in part.items():
                values_of.setdefault((name, compared), {})["unknown" if value is None else str(value)] = None
    return tuple((name, tuple(values), compared) for (name, compared), values in values_of.items())


def _nvidia_smi(launches: Sequence[Launch]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    values_of: dict[str, dict[str, None]] = {}
    for launch in launches:
        for name, value in launch.nvidia_smi.items():
            values_of.setdefault(name, {})[value] = None
    return tuple((name, tuple(values)) for name, values in values_of.items())
