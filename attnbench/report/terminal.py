"""The section after pytest-benchmark's table, from a stored run: the same bytes whenever it is rendered (layer 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from attnbench import stats
from attnbench.fingerprint import unknown_fields
from attnbench.model import MODES, Launch, Record, RunFile, Status
from attnbench.report.table import aligned
from attnbench.units import mebibytes, microseconds, milliseconds, seconds, share

#: What stands in the wide table where a case has no latency.
MARKS = {
    Status.CHECKED: "checked",
    Status.UNSUPPORTED: "–",
    Status.INCORRECT: "INCORRECT",
    Status.ERROR: "ERROR",
    Status.NOT_RUN: "not run",
}


def section(run: RunFile) -> list[str]:
    """Every line of the section, without colour."""
    if not run.records:
        return []
    lines = [*_head(run), ""]
    timed = [r for r in run.records if r.status in (Status.MEASURED, Status.CHECKED)]
    if timed:
        for mode in sorted(_in_order(r.mode for r in timed), key=MODES.index):
            lines += [*_wide(run, mode), ""]
        for name in _in_order(r.workload.name for r in timed):
            lines += [*_of_workload(run, name), ""]
    lines += [*_not_measured(run.records), *_counts(run)]
    return lines


def title(run: RunFile) -> str:
    """The title of the section; a simulated run says so in it."""
    return "attnbench (simulated)" if any(launch.simulated for launch in run.launches) else "attnbench"


def _head(run: RunFile) -> list[str]:
    lines = [_device(launch) for launch in run.launches]
    unknown = sorted({name for launch in run.launches for name in unknown_fields(launch.fingerprint)})
    if unknown:
        lines.append(f"unknown here: {', '.join(unknown)}")
    if any(launch.simulated for launch in run.launches):
        lines.append("SIMULATED: seeded noise, no kernel ran and nothing was measured")
    return list(dict.fromkeys(lines))


def _device(launch: Launch) -> str:
    key, context = launch.fingerprint.key, launch.fingerprint.context
    parts = [str(key.get("device")), str(key.get("capability") or "")]
    parts += [f"{name} {context[name]}" for name in ("torch", "cuda", "cudnn", "driver") if context.get(name)]
    if key.get("torch_threads"):
        parts.append(f"{key['torch_threads']} threads")
    return " · ".join(part for part in parts if part)


def _wide(run: RunFile, mode: str) -> list[str]:
    """Variant × sequence length, milliseconds: one table per mode."""
    records = [r for r in run.records if r.mode == mode]
    workloads = list(dict.fromkeys(r.workload for r in sorted(records, key=lambda r: r.workload.seq)))
    cells = {(r.variant, r.workload.name): _cell(r) for r in records}
    rows = [
        [variant, *(cells.get((variant, w.name), "") for w in workloads)]
        for variant in _in_order(r.variant for r in records)
    ]
    header = [f"{mode}: median ms", *(w.name for w in workloads)]
    return aligned([header[0], *(_short(w.name, workloads[0].name) for w in workloads)], rows)


def _cell(record: Record) -> str:
    if record.sample is not None:
        return milliseconds(stats.median_s(record.sample.rounds_s))
    return MARKS[record.status]


def _short(name: str, first: str) -> str:
    """The first column is named in full, the others by what follows the last dash."""
    return name if name == first or name.rsplit("-", 1)[0] != first.rsplit("-", 1)[0] else name.rsplit("-", 1)[-1]


def _of_workload(run: RunFile, name: str) -> list[str]:
    records = [r for r in run.records if r.workload.name == name]
    workload = records[0].workload
    reference = next((r for r in records if r.variant == run.reference and r.sample), None)
    reference_s = stats.median_s(reference.sample.rounds_s) if reference and reference.sample else None
    header = [
        "backend",
        "mode",
        "median ms",
        "±",
        "TFLOP/s",
        "speed",
        "host µs",
        "MiB",
        "first s",
        "rel. L2",
        "max abs",
    ]
    shown = [r for r in records if r.status in (Status.MEASURED, Status.CHECKED)]
    rows = [_row(r, reference_s) for r in sorted(shown, key=_by_latency)]
    speed = f"speed against {run.reference}" if reference_s else f"no speed: {run.reference} was not measured"
    shape = "×".join(map(str, workload.shape))
    return [f"{name}  [{shape}] {workload.dtype} {workload.distribution}; {speed}", *aligned(header, rows, left=2)]


def _row(record: Record, reference_s: float | None) -> list[str]:
    timed = next((c for c in record.checks if c.distribution == record.workload.distribution), None)
    check = timed or (record.checks[0] if record.checks else None)
    error = [f"{check.error.rel_l2:.2e}", f"{check.error.max_abs:.2e}"] if check else ["", ""]
    rest = [mebibytes(record.workspace_bytes), seconds(record.first_call_s), *error]
    if record.sample is None:
        return [record.backend, record.mode, MARKS[record.status], "", "", "", "", *rest]
    median_s = stats.median_s(record.sample.rounds_s)
    return [
        record.backend,
        record.mode,
        milliseconds(median_s),
        share(stats.coefficient_of_variation(record.sample.rounds_s)),
        f"{stats.tflop_per_s(record.workload.flop, median_s):.3g}",
        f"{reference_s / median_s:.2f}×" if reference_s else "",
        microseconds(record.sample.host_s),
        *rest,
    ]


def _by_latency(record: Record) -> float:
    return stats.median_s(record.sample.rounds_s) if record.sample else float("inf")


def _not_measured(records: Iterable[Record]) -> list[str]:
    """Every case without a latency with its reasons; the same reasons on several workloads are one line."""
    groups: dict[tuple[str, str, tuple[str, ...], str], list[Record]] = {}
    for record in records:
        texts = tuple(reason.text for reason in record.reasons)
        if record.status not in (Status.MEASURED, Status.CHECKED):
            groups.setdefault((str(record.status), record.backend, texts, ""), []).append(record)
    lines = []
    for (status, backend, texts, _), members in sorted(groups.items(), key=lambda g: _severity(g[0][0])):
        modes = ", ".join(_in_order(r.mode for r in members))
        names = _in_order(r.workload.name for r in members)
        where = names[0] if len(names) == 1 else f"{len(names)} workloads"
        lines.append(f"{status} {backend}@{modes} on {where}: {'; '.join(texts)}")
    return ["not measured", *(f"  {line}" for line in lines), ""] if lines else []


def _severity(status: str) -> int:
    return ["incorrect", "error", "not-run", "unsupported"].index(status)


def _counts(run: RunFile) -> list[str]:
    found = Counter(record.status for record in run.records)
    said = ", ".join(f"{found[status]} {status}" for status in Status if found[status])
    lines = [f"{len(run.records)} cases: {said}"]
    breaks = [r for r in run.records if r.compilation and r.compilation.graph_breaks]
    for record in breaks:
        assert record.compilation is not None
        lines.append(f"graph breaks in {record.case}: {'; '.join(record.compilation.graph_breaks)}")
    if run.interrupted:
        lines.append(f"the run ended early: {run.interrupted}")
    return lines


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
