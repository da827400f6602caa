"""Latency of each case over time, from all files of a report: one moment per file, each as it was measured.

This judges nothing. Sessions of other units and other clocks stand beside each other; a verdict (docs/method.md) corrects
for both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from attnbench.model import Launch, Record, Verdict
from attnbench.report.gather import Gathered
from attnbench.report.pooling import marked, numbered_tests
from attnbench.report.quantities import median_s
from attnbench.workload import Workload


@dataclass(frozen=True)
class Moment:
    """One file's latency of a case in seconds: the median over its launches of each one's median.

    run: index of the file. low_s and high_s: the lowest and the highest of its launches. unit: which one of the GPU model.
    changed: the versions that differ from the moment before, `torch 2.10.0 → 2.11.0`.
    """

    run: int
    started_at: str
    latency_s: float
    low_s: float
    high_s: float
    unit: str
    verdict: str
    changed: tuple[str, ...]


@dataclass(frozen=True)
class Course:
    """A case over time, oldest first: at least two moments. name: its variant, and its test among several."""

    gpu: str
    name: str
    record: Record  # the newest
    moments: tuple[Moment, ...]

    @property
    def change(self) -> float:
        """The newest latency against the oldest, relative; positive is slower."""
        return self.moments[-1].latency_s / self.moments[0].latency_s - 1


@dataclass(frozen=True)
class _Measured:
    """What one file holds of a case; versions: by name, of the software that its latency may depend on."""

    moment: Moment
    versions: Mapping[str, str]
    record: Record


def courses(gathered: Gathered) -> tuple[Course, ...]:
    """Every case that two files or more have a latency of. Records that were slowed down on purpose are left out."""
    tests = {gpu: numbered_tests([r for r in gathered.records if gathered.gpu(r) == gpu]) for gpu in gathered.gpus}
    by_case: dict[tuple[str, str, Workload], list[_Measured]] = defaultdict(list)
    for number, source in enumerate(gathered.runs):
        mine: dict[tuple[str, str, Workload], list[Record]] = defaultdict(list)
        for record in source.run.records:
            if record.sample is not None and record.injected is None:
                gpu = gathered.gpu(record)
                name = f"{record.variant}{marked(record.nodeid, tests[gpu])}"
                mine[gpu, name, record.workload].append(record)
        for case, records in mine.items():
            by_case[case].append(_measured(gathered, number, records))
    return tuple(_course(gpu, name, measured) for (gpu, name, _), measured in by_case.items() if len(measured) > 1)


def _measured(gathered: Gathered, run: int, records: Sequence[Record]) -> _Measured:
    launches = [gathered.launches[record.launch] for record in records]
    medians = [value for record in records if (value := median_s(record)) is not None]
    verdict: Verdict | None = next(filter(None, map(gathered.verdict, records)), None)
    moment = Moment(
        run,
        min(launch.started_at for launch in launches),
        median(medians),
        min(medians),
        max(medians),
        launches[0].unit or "",
        str(verdict.kind) if verdict else "",
        (),
    )
    return _Measured(moment, _versions(records[-1], launches[-1]), records[-1])


def _versions(record: Record, launch: Launch) -> dict[str, str]:
    context = launch.fingerprint.context
    software = {name: str(context[name]) for name in ("driver", "torch", "cuda", "triton") if context.get(name)}
    return {**software, **record.versions, **({"source": record.source} if record.source else {})}


def _course(gpu: str, name: str, measured: Sequence[_Measured]) -> Course:
    ordered = sorted(measured, key=lambda one: one.moment.started_at)
    befores = [ordered[0], *ordered]
    moments = tuple(
        replace(one.moment, changed=_changed(before.versions, one.versions))
        for before, one in zip(befores, ordered, strict=False)
    )
    return Course(gpu, name, ordered[-1].record, moments)


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(
        f"{name} {before.get(name, 'none')} → {now.get(name, 'none')}"
        for name in dict.fromkeys((*before, *now))
        if before.get(name) != now.get(name)
    )
