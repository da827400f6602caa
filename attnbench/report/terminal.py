"""The section after pytest-benchmark's table, from a stored run: the same bytes for the same width."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from attnbench import printable
from attnbench.fingerprint import unknown_fields
from attnbench.model import MODES, DeviceCeilings, Launch, Record, RunFile, Status
from attnbench.report import sustained
from attnbench.report.charts.matrix_peak import matrix_peak
from attnbench.report.latency import by_sequence, of_workload
from attnbench.report.pooling import launches, numbered_tests, pooled
from attnbench.report.quantities import device_name
from attnbench.report.shown import shown_run
from attnbench.report.spread import spread
from attnbench.report.table import NARROWEST, WIDTH, wrapped
from attnbench.report.unmeasured import named, unmeasured
from attnbench.report.verdicts import undecided, verdicts
from attnbench.units import counted, format_change, seconds

SPEED = "speed: higher is faster"
#: So many variants fit on two lines, and are named also where all cases were slowed down alike.
_FEW = 4
#: What becomes of the cases after one that changed what cannot be undone.
_NOT_RESTORED = "cannot be restored, so the cases after it ran in fresh processes"


def section(run: RunFile, details: bool = False, width: int = WIDTH) -> list[str]:
    """Every line, without colour; the first is the heading. Empty for a run without a case.

    details: with spread, errors, every reason, and what verdicts and limits rest on, as under -v; width: of the terminal,
    whose tables fit.

    The lines are safe to print, whatever strings the run holds: they may come from kernels or from other people's files.
    """
    if not run.records:
        return []
    run, width = shown_run(run), max(NARROWEST, min(width, WIDTH))
    blocks = [head(run)]
    records, numbers = pooled(run.records), numbered_tests(run.records)
    ran = [r for r in records if r.status in (Status.MEASURED, Status.CHECKED)]
    reference = run.reference if _has_reference(run) else ""
    for mode in sorted(dict.fromkeys(r.mode for r in ran), key=_place):
        blocks += by_sequence(records, mode, numbers, width)
    for workload in dict.fromkeys(r.workload for r in ran):
        mine = [r for r in records if r.workload == workload]
        blocks.append(of_workload(mine, reference, numbers, width, details))
        blocks.append(sustained.table(mine, numbers, width))
        if details:
            blocks.append(spread(mine, numbers, width))
    blocks.append([part for one in sustained.sentences(run) for part in wrapped(one)])
    blocks += [unmeasured(records, numbers, details=details), [*_baselines(run), *verdicts(run, details, width)]]
    blocks.append([*_counts(run, records, numbers), *undecided(run)])
    lines = [line for block in blocks if block for line in (*block, "")][:-1]
    return [_heading(run, min(width, max(map(len, lines)))), *map(printable.line, lines)]


def _heading(run: RunFile, width: int) -> str:
    return f" attnbench{' (simulated)' if _is_simulated(run) else ''} ".center(width, "-")


def head(run: RunFile) -> list[str]:
    """The first lines of the section of a run that `shown_run` gave: devices, what was chosen or changed, the method."""
    lines = [_device(launch) for launch in run.launches]
    unknown = sorted({name for launch in run.launches for name in unknown_fields(launch.fingerprint)})
    if unknown:
        lines.append(f"unknown here: {', '.join(unknown)}")
    if _is_simulated(run):
        lines.append("SIMULATED: seeded noise, no kernel ran and nothing was measured")
    lines += _ceilings(run.launches)
    lines = [
        *dict.fromkeys(lines),
        *_sources(run.records),
        *_choices(run.records),
        *_injected(run.records),
        *_apart(run.records),
    ]
    return [*lines, *_changed(run.records), *_tests(run.records), *_method(run)]


def _ceilings(launches: Sequence[Launch]) -> list[str]:
    """What GPUs reached in a product and a copy (--attn-roofline), medians over launches, and the datasheet's peak."""
    by_device: dict[str, list[DeviceCeilings]] = {}
    for launch in launches:
        if launch.ceilings is not None:
            by_device.setdefault(device_name(launch), []).append(launch.ceilings)
    return [
        line for device, mine in by_device.items() for line in wrapped(f"reached: {'; '.join(_reached(device, mine))}")
    ]


def _reached(device: str, found: Sequence[DeviceCeilings]) -> Iterator[str]:
    if flop := [one.matmul_flop_per_s for one in found if one.matmul_flop_per_s is not None]:
        tflop, peak = median(flop) / 1e12, matrix_peak(device)
        of = f", {tflop / peak * 100:.0f} % of the datasheet's {peak:g}" if peak else ""
        yield f"matmul {found[0].matmul} {tflop:.0f} TFLOP/s{of}"
    if moved := [one.copy_bytes_per_s for one in found if one.copy_bytes_per_s is not None]:
        yield f"copy {median(moved) / 1e12:.2f} TB/s"
    yield from dict.fromkeys(one.note for one in found if one.note)


def _sources(records: Sequence[Record]) -> list[str]:
    """What a backend loaded (a commit, a build), where its name does not tell."""
    sources = dict.fromkeys(f"{record.backend}: {record.source}" for record in records if record.source)
    return [line for source in sources for line in wrapped(source)]


def _choices(records: Sequence[Record]) -> list[str]:
    """Which kernel the libraries chose that choose one: `torch_sdpa: chose cudnn; math for 1x64x2x80:fp32`."""
    cases: dict[str, dict[str, dict[str, None]]] = {}
    for record in records:
        if record.chose:
            names = cases.setdefault(record.variant, {}).setdefault(record.chose, {})
            names[record.workload.name] = None
    alike: dict[str, list[str]] = {}
    for variant, choices in cases.items():
        usual = max(choices, key=lambda chose: len(choices[chose]))
        others = (f"{chose} for {', '.join(names)}" for chose, names in choices.items() if chose != usual)
        alike.setdefault("; ".join([usual, *others]), []).append(variant)
    return [line for said, variants in alike.items() for line in wrapped(f"{', '.join(variants)}: chose {said}")]


def _injected(records: Sequence[Record]) -> list[str]:
    """Which cases were slowed down on purpose (--attn-inject), and by how much."""
    cases: dict[str, set[str]] = {}
    for record in records:
        if record.injected is not None:
            cases.setdefault(f"{record.variant} {format_change(record.injected)}", set()).add(record.case)
    if not cases:
        return []
    by, *others = {record.injected for record in records if record.sample is not None} or {None}
    if len(cases) > _FEW and by is not None and not others:
        measured = {record.case for record in records if record.sample is not None}
        return [f"INJECTED slow-down: {format_change(by)} in all {len(measured)} measured cases"]
    slow_downs = (f"{slowed} ({counted(len(names), 'case')})" for slowed, names in cases.items())
    return wrapped(f"INJECTED slow-down: {', '.join(slow_downs)}")


def _apart(records: Sequence[Record]) -> list[str]:
    """Which backends ran in their own process although nobody asked for it, and why."""
    backends: dict[str, dict[str, None]] = {}
    for record in records:
        if record.apart:
            backends.setdefault(record.apart, {})[record.backend] = None
    return [
        line
        for why, names in backends.items()
        for line in wrapped(f"{', '.join(names)}: ran in its own process: {why}")
    ]


def _tests(records: Sequence[Record]) -> list[str]:
    """Which tests the numbers `(test 2)` stand for, where a case is in several; one line for each set of tests."""
    cases: dict[str, dict[str, None]] = {}
    for record in records:
        cases.setdefault(record.case, {})[record.nodeid] = None
    groups: dict[tuple[str, ...], int] = {}
    for case, nodeids in cases.items():
        names = _names_of_tests(case, tuple(nodeids))
        groups[names] = groups.get(names, 0) + 1
    lines = []
    for names, count in groups.items():
        if len(names) > 1:
            numbered = ", ".join(f"{number} {name}" for number, name in enumerate(names, 1))
            these = "1 case" if count == 1 else f"{count} cases each"
            lines += wrapped(f"{these} ran in {len(names)} tests (repeats are not launches): {numbered}")
    return lines


def _names_of_tests(case: str, nodeids: Sequence[str]) -> tuple[str, ...]:
    """Their functions; of a function that several of them are of, with its parameters but the case: `test_par[causal]`."""
    parts = [nodeid.partition("[") for nodeid in nodeids]
    counts = Counter(function for function, _, _ in parts)
    own = [_without(rest.removesuffix("]"), case) for _, _, rest in parts]
    return tuple(
        f"{function}[{mine}]" if counts[function] > 1 and mine else function
        for (function, _, _), mine in zip(parts, own, strict=True)
    )


def _without(parameters: str, case: str) -> str:
    """The parameters of a test, which pytest joins by dashes, but for the case."""
    before, found, after = parameters.partition(case)
    return "-".join(filter(None, (before.removesuffix("-"), after.removeprefix("-")))) if found else parameters


def _changed(records: Sequence[Record]) -> list[str]:
    """Which backends changed the state of the process, and what became of it."""
    backends: dict[str, dict[str, None]] = {}
    for record in records:
        for put_back, after in ((True, "restored"), (False, _NOT_RESTORED)):
            what = [change.what for change in record.changed if change.put_back is put_back]
            if what:
                backends.setdefault(f"{'; '.join(what)} ({after})", {})[record.backend] = None
    return [
        line for what, names in backends.items() for line in wrapped(f"{', '.join(names)} changed the process: {what}")
    ]


def _is_simulated(run: RunFile) -> bool:
    return any(launch.simulated for launch in run.launches)


def _device(launch: Launch) -> str:
    key, context = launch.fingerprint.key, launch.fingerprint.context
    parts = [device_name(launch), str(key.get("capability") or "")]
    parts += [f"{name} {context[name]}" for name in ("torch", "cuda", "cudnn", "driver") if context.get(name)]
    if key.get("torch_threads"):
        parts.append(f"{key['torch_threads']} threads")
    return " · ".join(part for part in parts if part)


def _method(run: RunFile) -> list[str]:
    """How the figures were taken: rounds, launches and clock, and what CV and speed mean."""
    samples = [r.sample for r in run.records if r.sample]
    if not samples:
        return []
    counts = sorted({len(s.rounds_s) for s in samples})
    rounds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    clocks = ", ".join(dict.fromkeys(s.timer for s in samples))
    counts_of_launches = sorted(set(launches(run.records)))
    each = "" if len(counts_of_launches) == 1 else f"{counts_of_launches[0]} to "
    of = f" in each of {each}{counts_of_launches[-1]} launches" if counts_of_launches[-1] > 1 else ""
    plural = "" if counts == [1] else "s"
    figures, columns = f"median of {rounds} round{plural}{of}, clock {clocks}", "CV: their standard deviation / mean"
    if _has_reference(run):
        columns += f"; {SPEED}"
    elif run.reference:
        columns += f"; no speed: {run.reference} was not measured"
    return [figures, columns] if of else wrapped(f"{figures}; {columns}")


def _has_reference(run: RunFile) -> bool:
    """Whether any case of the run's reference has a latency, so that there is a speed to tell."""
    return any(record.variant == run.reference and record.sample for record in run.records)


def _baselines(run: RunFile) -> list[str]:
    """Which commit the baseline sessions are from, and how the work tree's differ."""
    if not run.baselines_from:
        return []
    head = f"baselines from {run.baselines_from}"
    if not run.baseline_changes:
        return [f"{head}; the work tree has the same"]
    edits = "THIS CHANGE EDITS THE BASELINES" if run.edits_baselines else "this change adds to the baselines"
    text = f"{head}; {edits} (its sessions count only where that commit has no comparable one):"
    return [*wrapped(text), *(part for change in run.baseline_changes for part in wrapped(change, "  "))]


def _counts(run: RunFile, records: Sequence[Record], numbers: Mapping[str, int]) -> list[str]:
    counts = Counter(record.status for record in records)
    statuses = ", ".join(f"{counts[status]} {status}" for status in Status if counts[status])
    cases = len({record.case for record in records})
    tests = f" in {len(records)} tests" if len(records) > cases else ""
    lines = [f"{counted(cases, 'case')}{tests}: {statuses}"]
    lines += [*_first_calls(run), *_compilers(run), *_graph_breaks(records, numbers)]
    if run.interrupted:
        lines.append(f"the run ended early: {run.interrupted}")
    return lines


def _first_calls(run: RunFile) -> list[str]:
    """Seconds of the first calls of compiled cases, by the state of Inductor's cache."""
    spent: dict[str, list[float]] = {}
    for record in run.records:
        if record.compilation and record.compilation.cache and record.first_call_s is not None:
            spent.setdefault(record.compilation.cache, []).append(record.first_call_s)
    by_cache = (
        f"{seconds(sum(spent[cache]))} s with a {cache} Inductor cache ({counted(len(spent[cache]), 'case')})"
        for cache in sorted(spent)
    )
    return [f"first calls of compiled cases: {', '.join(by_cache)}"] if spent else []


def _compilers(run: RunFile) -> list[str]:
    """Compiler CPU seconds of eager cases whose kernels were in no cache."""
    spent: dict[str, float] = {}
    for record in run.records:
        if record.mode == "eager" and record.compilers_s:
            spent[record.variant] = spent.get(record.variant, 0.0) + record.compilers_s
    by_variant = ", ".join(f"{variant} {seconds(taken_s)} s" for variant, taken_s in spent.items())
    return wrapped(f"compiler CPU time in eager cases: {by_variant}") if by_variant else []


def _graph_breaks(records: Sequence[Record], numbers: Mapping[str, int]) -> list[str]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.compilation and record.compilation.graph_breaks:
            groups.setdefault("; ".join(record.compilation.graph_breaks), []).append(record)
    everywhere = len({r.workload for r in records})
    return [
        line
        for breaks, members in groups.items()
        for line in wrapped(f"graph breaks in {named(members, everywhere, numbers)}: {breaks}")
    ]


def _place(mode: str) -> tuple[int, str]:
    """Known modes in their order, then modes of a later version."""
    return (MODES.index(mode) if mode in MODES else len(MODES), mode)
