"""The head of the page: what was measured, when and on which software, and what a reader must know first."""

from __future__ import annotations

from collections.abc import Iterable

from attnbench.report.gather import Gathered, Outcome
from attnbench.report.page.index import Index
from attnbench.units import counted

#: Fields of a launch's context that the head names, with their spelling.
_SOFTWARE = (("torch", "torch"), ("cuda", "CUDA"), ("driver", "driver"))


def title(index: Index) -> str:
    """`Attention on NVIDIA H200`."""
    return f"Attention on {', '.join(index.gpus)}" if index.gpus else "Attention: no record"


def facts(gathered: Gathered) -> tuple[str, ...]:
    """What was measured, when, and on which software."""
    records = gathered.records
    if not records:
        return ()
    variants, workloads = {r.variant for r in records}, {r.workload.name for r in records}
    launches = {r.launch for r in records}
    plural = "launch" if len(launches) == 1 else "launches"
    units = {unit for launch in launches if (unit := gathered.launches[launch].unit) is not None}
    among = f" on {len(units)} GPU units" if len(units) > 1 else ""  # they differ by a percent and more
    sentences = [
        f"{counted(len(variants), 'variant')} × {counted(len(workloads), 'workload')}",
        f"{counted(len(records), 'record')} from {len(launches)} {plural}{among}",
        span(gathered.launches[launch].started_at for launch in launches),
    ]
    for field, spelt in _SOFTWARE:
        known = _context(gathered, field)
        if len(known) == 1:
            sentences.append(f"{spelt} {known[0]}")
        elif known:
            sentences.append(f"{len(known)} versions of {spelt}")
    return tuple(one for one in sentences if one)


def warnings(gathered: Gathered) -> tuple[str, ...]:
    """What a reader must know before the first figure."""
    sentences = []
    if any(launch.simulated for launch in gathered.launches.values()):
        sentences.append("A simulated device: its latencies are computed and not measured.")
    if slowed := sum(record.injected is not None for record in gathered.records):
        sentences.append(
            f"{slowed} of {counted(len(gathered.records), 'record')} were slowed down on purpose (--attn-inject) "
            "to see whether the rule finds it."
        )
    sentences += list(dict.fromkeys(f"Ended early: {s.run.interrupted}" for s in gathered.runs if s.run.interrupted))
    if failed := sum(file.outcome is not Outcome.FOUND for file in gathered.files):
        sentences.append(f"{failed} of {counted(len(gathered.files), 'file')} could not be used: see Files below.")
    if skipped := sum(len(file.skipped) for file in gathered.files if file.outcome is Outcome.FOUND):
        sentences.append(f"{counted(skipped, 'line')} could not be read: see Files below.")
    return tuple(sentences)


def has_problems(gathered: Gathered) -> bool:
    """Whether a file or a line was not used, or says something else than an earlier one."""
    return any(file.outcome is not Outcome.FOUND or file.skipped or file.notes for file in gathered.files)


def span(times: Iterable[str]) -> str:
    """First and last day of ISO 8601 times: `2026-11-27 to 2026-11-28`; one where they are the same."""
    days = sorted({time[:10] for time in times if time})
    if not days:
        return ""
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _context(gathered: Gathered, field: str) -> list[str]:
    values = (launch.fingerprint.context.get(field) for launch in gathered.launches.values())
    return list(dict.fromkeys(str(value) for value in values if value not in (None, "")))
