"""What the plots show, as points: one chart per device, problem and measure, from records alone.

Pure: no plotting library, no file. A page can write the same points into its own data.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

from attnbench import stats
from attnbench.fingerprint import slug as device_slug
from attnbench.model import Record, RunFile
from attnbench.report.pooling import marked, numbered_tests, pooled
from attnbench.report.problem import of_any_batch_and_inputs
from attnbench.report.quantities import SIXTEEN_BIT, UNKNOWN_DEVICE, device_name, intensity, median_s, timed_check
from attnbench.units import counted, milliseconds, significant

#: How a chart is drawn. LINES: value over sequence length. DOTS: one length, a row per variant. SCATTER: value over `x`.
#: PAIRS: one length, a row per variant with `inner` beside its value. HISTORY: value over the sessions, of which the first
#: is at `x` 1.
LINES, DOTS, SCATTER, PAIRS, HISTORY = "lines", "dots", "scatter", "pairs", "history"
#: The band of a point: quantiles of its rounds.
LOW, HIGH = 0.2, 0.8
#: A chart shows so many series at most, the best ones; its notes count the others.
MOST_SERIES = 60
#: A device has plots of so many problems at most, those with most cases; a sentence counts the others.
MOST_PROBLEMS = 4
#: A note names so many variants, and counts the others.
MOST_NAMED = 6
LONGEST_SLUG = 60

#: Dense bf16/fp16 matrix peak with fp32 accumulation in TFLOP/s, by the device name that the driver reports. Sources:
#: NVIDIA's H100, H200, A100, L40S and L4 datasheets. Where one states only the rate with 2:4 sparsity, the dense peak is
#: half of it. A device whose figure was not looked up is not here, and has no plot of the share.
_PEAKS = (
    (r"NVIDIA H100 80GB HBM3", 989.4),
    (r"NVIDIA H100 PCIe", 756.0),
    (r"NVIDIA H200", 989.4),
    (r"(NVIDIA )?A100-(SXM4|PCIE|PCIe)-(40|80)GB|NVIDIA A100 80GB PCIe", 312.0),
    (r"NVIDIA L40S", 362.0),
    (r"NVIDIA L4", 121.0),
)
#: The same of fp8 (A100: int8) with fp32 (int32) accumulation, from the same datasheets.
_EIGHT_BIT_PEAKS = (
    (r"NVIDIA H100 80GB HBM3", 1978.9),
    (r"NVIDIA H100 PCIe", 1513.0),
    (r"NVIDIA H200", 1978.9),
    (r"(NVIDIA )?A100-(SXM4|PCIE|PCIe)-(40|80)GB|NVIDIA A100 80GB PCIe", 624.0),
    (r"NVIDIA L40S", 733.0),
    (r"NVIDIA L4", 242.5),
)


@dataclass(frozen=True)
class Point:
    """One variant at one length. low and high: the 20 and 80 % quantiles of the rounds, None without rounds of its own.

    x: the position in a SCATTER or HISTORY chart; inner: the second value of a PAIRS chart. All in the chart's units.
    told: what a hover tells, in place of the chart's usual figures; of a PAIRS chart the first stands beside the row.
    Of a HISTORY chart, low and high are of the launches, told is what a hover tells beside the value, events name the
    marks beside the point, and a hollow point is of another GPU unit than the newest.
    """

    seq: int
    workload: str
    value: float
    low: float | None = None
    high: float | None = None
    x: float | None = None
    inner: float | None = None
    told: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    is_hollow: bool = False


@dataclass(frozen=True)
class Series:
    """The points of one variant by length. slug: the same in every chart of one call of `charts`, and unique there."""

    name: str
    slug: str
    variant: str
    backend: str
    family: str
    mode: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Session:
    """A place on the axis of a HISTORY chart. started_at: ISO 8601. unit: `unit 2`, empty where there is one only."""

    started_at: str
    unit: str = ""


@dataclass(frozen=True)
class Chart:
    """One plot. stem: its file's name without the suffix, unique. subtitle: device, problem and what a point is.

    series: the best first, in a HISTORY chart the one that became slower by most. guide: a value to draw a line at, None
    without one. notes: sentences on what is not in it. sessions: of a HISTORY chart, from the oldest. roofs: of a SCATTER
    chart, lines of (x, value) that bound its points.
    """

    name: str
    stem: str
    device: str
    kind: str
    title: str
    subtitle: str
    x_label: str
    y_label: str
    unit: str
    series: tuple[Series, ...]
    lower_is_better: bool = True
    guide: float | None = None
    notes: tuple[str, ...] = ()
    sessions: tuple[Session, ...] = ()
    roofs: tuple[tuple[tuple[float, float], ...], ...] = ()


@dataclass(frozen=True)
class Missing:
    """A plot that the records have no data for, with the sentence that says why."""

    name: str
    device: str
    why: str


#: A value with its band, in base units of the chart.
_Value = tuple[float, float | None, float | None]


@dataclass(frozen=True)
class _Measure:
    """One kind of plot over sequence length: how a record becomes a value, or None where it has no such figure."""

    name: str
    title: str
    label: str
    unit: str
    of: Callable[[Record], _Value | None]
    absent: str
    lower_is_better: bool = True
    guide: float | None = None


@dataclass(frozen=True)
class _Row:
    """One variant on one workload, its launches pooled."""

    name: str
    record: Record


def charts(runs: Sequence[RunFile], reference: str = "") -> tuple[tuple[Chart, ...], tuple[Missing, ...]]:
    """Every plot that these runs have data for, and a sentence for each other one.

    A device (as its driver names it, simulated ones apart) has plots of its own, and so has each problem: batch, heads,
    head_dim, dtype, mask, direction and inputs. reference: the variant that speed is against, by default the first run's.
    """
    reference = reference or next((run.reference for run in runs), "")
    devices = {device: _rows(records) for device, records in by_device(runs).items()}
    slugs = unique_slugs(row.name for rows in devices.values() for row in rows)
    ceilings = _ceilings(runs)
    drawn: list[Chart] = []
    missing: list[Missing] = []
    for device, every in devices.items():
        rows = [row for row in every if row.record.sample is not None]
        if not rows:
            why = f"None of {counted(len(every), 'case')} on {device} was measured, so there is no plot."
            missing.append(Missing("latency", device, why))
            continue
        problems = _by_problem(rows)
        if left := [words for words, _ in problems[MOST_PROBLEMS:]]:
            most = f"The {MOST_PROBLEMS} problems with most cases on {device} are drawn"
            missing.append(Missing("latency", device, f"{most}, {counted(len(left), 'problem')} not: {_listed(left)}."))
        for words, mine in problems[:MOST_PROBLEMS]:
            for found in _of_problem(device, words, mine, reference, slugs):
                if isinstance(found, Chart):
                    drawn.append(_best(found))
                else:
                    missing.append(found)
            drawn += map(_best, _under_load(device, words, mine, slugs))
            drawn += map(_best, _roofline(device, words, mine, ceilings.get(device), slugs))
    return named(drawn), tuple(missing)


def by_device(runs: Sequence[RunFile]) -> dict[str, list[Record]]:
    """The records of each device in order of appearance; a simulated one says so in its name."""
    found: dict[str, list[Record]] = {}
    for run in runs:
        devices = {launch.id: device_name(launch) for launch in run.launches}
        for record in run.records:
            found.setdefault(devices.get(record.launch, UNKNOWN_DEVICE), []).append(record)
    return found


def _ceilings(runs: Sequence[RunFile]) -> dict[str, tuple[float, float]]:
    """By device what it reached in FLOP and bytes per second: medians over the launches that measured both."""
    found: dict[str, list[tuple[float, float]]] = {}
    for launch in {launch.id: launch for run in runs for launch in run.launches}.values():
        one = launch.ceilings
        if one is not None and one.matmul_flop_per_s and one.copy_bytes_per_s:
            found.setdefault(device_name(launch), []).append((one.matmul_flop_per_s, one.copy_bytes_per_s))
    return {
        device: (median(flop for flop, _ in mine), median(moved for _, moved in mine)) for device, mine in found.items()
    }


def matrix_peak(device: str) -> float | None:
    """The dense bf16/fp16 matrix peak in TFLOP/s; None for a device that the table does not know.

    Only whole names match: a laptop's part, a cut-down one or a MIG slice of the same name has another peak.
    """
    return next((peak for pattern, peak in _PEAKS if re.fullmatch(pattern, device)), None)


def eight_bit_peak(device: str) -> float | None:
    """The dense fp8/int8 matrix peak in TFLOP/s or TOP/s; None for a device that the table does not know."""
    return next((peak for pattern, peak in _EIGHT_BIT_PEAKS if re.fullmatch(pattern, device)), None)


def unique_slugs(names: Iterable[str]) -> dict[str, str]:
    """By name a part of an XML id: lower-case ASCII letters, digits and dashes, at most about 60 characters, unique."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(names):
        stem = device_slug(name)[:LONGEST_SLUG].strip("-") or "variant"
        slug, number = stem, 1
        while slug in taken:
            number += 1
            slug = f"{stem}-{number}"
        taken.add(slug)
        found[name] = slug
    return found


def _rows(records: Sequence[Record]) -> list[_Row]:
    tests = numbered_tests(records)
    return [_Row(f"{record.variant}{marked(record.nodeid, tests)}", record) for record in pooled(records)]


def _by_problem(rows: Sequence[_Row]) -> list[tuple[str, list[_Row]]]:
    """A problem in words, and its rows, whose workloads differ in their length only; the one with most rows first."""
    found: dict[tuple[str, int], list[_Row]] = {}
    for row in rows:
        workload = row.record.workload
        words = f"batch {workload.batch}, {of_any_batch_and_inputs(workload)}, {workload.distribution}"
        found.setdefault((words, workload.seed), []).append(row)
    by_size = sorted(found.items(), key=lambda item: -len(item[1]))
    return [(words, mine) for (words, _), mine in by_size]


def _of_problem(
    device: str, problem: str, rows: Sequence[_Row], reference: str, slugs: Mapping[str, str]
) -> Iterable[Chart | Missing]:
    rows, notes = _once(rows)
    where = f"{device} · {problem}"
    for measure in _measures(device, rows, reference):
        if isinstance(measure, Missing):
            yield measure
        else:
            yield _over_length(measure, device, where, rows, slugs, notes)
    longest = max(row.record.workload.seq for row in rows)
    at_longest = [row for row in rows if row.record.workload.seq == longest]
    where = f"{device} · {problem}, sequence length {longest}"
    yield _accuracy(device, where, at_longest, slugs, notes)
    yield _kernel_times(device, where, at_longest, slugs, notes)


def _measures(device: str, rows: Sequence[_Row], reference: str) -> Iterable[_Measure | Missing]:
    yield _Measure("latency", "Latency", "median latency", "ms", partial(_latency, scale=1e3), "no latency")
    yield _Measure("tflops", "Throughput", "throughput", "TFLOP/s", _rate, "no latency", lower_is_better=False)
    peak = matrix_peak(device)
    if peak is None:
        why = f"The matrix peak of {device} is not known, so there is no share of it to plot."
        yield Missing("peak", device, why)
    elif (dtype := rows[0].record.workload.dtype) not in SIXTEEN_BIT:
        why = f"The known matrix peak of {device} is for bf16 and fp16, and these inputs are {dtype}."
        yield Missing("peak", device, why)
    else:
        label = f"share of the dense 16-bit matrix peak, {significant(peak, 3)} TFLOP/s"
        share = partial(_share, peak=peak)
        yield _Measure("peak", "Share of the matrix peak", label, "%", share, "no latency", lower_is_better=False)
    bases = {
        row.record.workload.seq: base_s
        for row in rows
        if row.record.variant == reference and (base_s := median_s(row.record)) is not None
    }
    if not bases:
        shown = reference or "no variant"
        why = f"{shown} is the reference of speed and was not measured, so there is no speed to plot."
        yield Missing("speed", device, why)
    else:
        speed = partial(_speed, bases=bases)
        title = f"Speed against {reference}"
        absent = f"no {reference} at the same length"
        yield _Measure("speed", title, "times as fast", "×", speed, absent, lower_is_better=False, guide=1.0)
    yield _Measure("workspace", "Workspace", "workspace of one call", "MiB", _workspace, "no workspace figure")


def _over_length(
    measure: _Measure,
    device: str,
    where: str,
    rows: Sequence[_Row],
    slugs: Mapping[str, str],
    notes: Sequence[str],
) -> Chart | Missing:
    found = [(row, value) for row in rows if (value := measure.of(row.record)) is not None and _is_drawable(value)]
    if not found:
        return Missing(measure.name, device, f"{measure.title}: no record on {where} has data for this plot.")
    known = {row.name for row, _ in found}
    lengths = sorted({row.record.workload.seq for row, _ in found})
    series = _series(((row, _point(row, value)) for row, value in found), slugs)
    banded = any(point.low is not None for one in series for point in one.points)
    better = f" · {'lower' if measure.lower_is_better else 'higher'} is better"
    band = f"{better} · band: 20 to 80 % of the rounds" if banded else better
    if len(lengths) > 1:
        kind, title, x_label = LINES, f"{measure.title} over sequence length", "sequence length (tokens)"
    else:
        kind, title, x_label = DOTS, measure.title, f"{measure.label} ({measure.unit})"
        where = f"{where}, sequence length {lengths[0]}"
    return Chart(
        measure.name,
        "",
        device,
        kind,
        title,
        f"{where}{band}",
        x_label,
        f"{measure.label} ({measure.unit})" if kind == LINES else "",
        measure.unit,
        series,
        measure.lower_is_better,
        measure.guide,
        (*notes, *_absent(measure.absent, (row.name for row in rows if row.name not in known))),
    )


def _accuracy(
    device: str, where: str, rows: Sequence[_Row], slugs: Mapping[str, str], notes: Sequence[str]
) -> Chart | Missing:
    """Relative L2 error on the timed inputs over latency: what a quantised kernel trades."""
    found = []
    for row in rows:
        error = _rel_l2(row.record)
        if error is not None:
            latency, low, high = _latency(row.record, 1e3)
            workload = row.record.workload
            found.append((row, Point(workload.seq, workload.name, error, low, high, x=latency)))
    if not found:
        why = f"Accuracy against latency: no measured record on {where} has an accuracy check."
        return Missing("accuracy", device, why)
    known = {row.name for row, _ in found}
    return Chart(
        "accuracy",
        "",
        device,
        SCATTER,
        "Accuracy against latency",
        f"{where} · lower left is better",
        "median latency (ms)",
        "relative L2 error on the timed inputs",
        "",
        _series(found, slugs),
        notes=(*notes, *_absent("no accuracy check", (row.name for row in rows if row.name not in known))),
    )


def _kernel_times(
    device: str, where: str, rows: Sequence[_Row], slugs: Mapping[str, str], notes: Sequence[str]
) -> Chart | Missing:
    """Latency of the call beside the attention kernel's own time: the rest is quantisation, layout and other kernels."""
    found = []
    for row in rows:
        kernel_s = row.record.kernel_s
        if kernel_s is not None and math.isfinite(kernel_s) and kernel_s > 0:
            value, low, high = _latency(row.record, 1e3)
            workload = row.record.workload
            found.append((row, Point(workload.seq, workload.name, value, low, high, inner=kernel_s * 1e3)))
    if not found:
        why = f"Kernel time against call time: no record on {where} has the attention kernel's own time."
        return Missing("kernel", device, why)
    known = {row.name for row, _ in found}
    return Chart(
        "kernel",
        "",
        device,
        PAIRS,
        "Kernel time against call time",
        f"{where} · filled: the call, hollow: its attention kernel by the profiler",
        "time (ms)",
        "",
        "ms",
        _series(found, slugs),
        notes=(*notes, *_absent("no kernel time", (row.name for row in rows if row.name not in known))),
    )


def _under_load(device: str, problem: str, every: Sequence[_Row], slugs: Mapping[str, str]) -> Iterable[Chart]:
    """What was measured under continuous load: energy over length, settled against sustained, error against energy.

    Nothing where no case was measured so: that is an option, and no figure is missing.
    """
    rows, notes = _once(every)
    loaded = [row for row in rows if row.record.sustained is not None]
    if not loaded:
        return
    where = f"{device} · {problem}"
    energy = _Measure("energy", "Energy", "energy of one call under load", "J", _joules, "no energy figure")
    found = _over_length(energy, device, where, loaded, slugs, notes)
    if isinstance(found, Chart):
        yield found
    longest = max(row.record.workload.seq for row in loaded)
    at_longest = [row for row in loaded if row.record.workload.seq == longest]
    where = f"{where}, sequence length {longest}"
    yield Chart(
        "sustained",
        "",
        device,
        PAIRS,
        "Under continuous load against settled",
        f"{where} · filled: under load, hollow: settled; lower is better",
        "median latency (ms)",
        "",
        "ms",
        _series(((row, _pair(row.record)) for row in at_longest), slugs),
        notes=tuple(notes),
    )
    traded = [
        (row, Point(longest, row.record.workload.name, error, x=joules[0], told=_trade(error, joules[0])))
        for row in at_longest
        if (error := _rel_l2(row.record)) is not None and (joules := _joules(row.record)) is not None
    ]
    if traded:
        yield Chart(
            "error-energy",
            "",
            device,
            SCATTER,
            "Accuracy against energy",
            f"{where} · lower left is better",
            "energy of one call under load (J)",
            "relative L2 error on the timed inputs",
            "",
            _series(traded, slugs),
            notes=tuple(notes),
        )


def _roofline(
    device: str, problem: str, every: Sequence[_Row], reached: tuple[float, float] | None, slugs: Mapping[str, str]
) -> Iterable[Chart]:
    """TFLOP/s over FLOP per byte, below what this GPU reached and the datasheet states.

    Nothing where that was not measured, and for inputs that have not 16 bits.
    """
    if reached is None or every[0].record.workload.dtype not in SIXTEEN_BIT:
        return
    rows, notes = _once(every)
    matmul, copy = reached[0] / 1e12, reached[1] / 1e12
    points = [(row, _rate(row.record), intensity(row.record)) for row in rows]
    drawable = [(row, _under_roofs(row.record, v, x)) for row, v, x in points]
    ridge = matmul / copy
    across = [ridge, *(x for _, _, x in points)]
    low, high = min(across) / 8, max(across) * 2  # so far down that both axes are logarithmic, and the slope a line
    said = [f"this GPU: product {significant(matmul, 3)} TFLOP/s, copy {significant(copy, 3)} TB/s"]
    roofs: list[tuple[tuple[float, float], ...]] = [((low, low * copy), (ridge, matmul), (high, matmul))]
    peaks = (("16-bit", matrix_peak(device)), ("8-bit", eight_bit_peak(device)))
    for name, peak in peaks:
        if peak is not None:
            roofs.append(((peak / copy, peak), (high, peak)))
            said.append(f"{name} datasheet {significant(peak, 4)}")
    yield Chart(
        "roofline",
        "",
        device,
        SCATTER,
        "Roofline",
        f"{device} · {problem} · {', '.join(said)}",
        "arithmetic intensity (FLOP per byte that must be moved at least)",
        "throughput (TFLOP/s)",
        "TFLOP/s",
        _series(drawable, slugs),
        lower_is_better=False,
        notes=(
            *notes,
            "Bytes are each tensor once: a kernel that reads one twice moves more.",
            "A kernel that computes in 8 bits may pass the 16-bit roofs.",
        ),
        roofs=tuple(roofs),
    )


def _under_roofs(record: Record, rate: _Value, x: float) -> Point:
    told = (f"{significant(rate[0], 4)} TFLOP/s", f"{significant(x, 4)} FLOP per byte")
    return Point(record.workload.seq, record.workload.name, *rate, x=x, told=told)


def _trade(error: float, joules: float) -> tuple[str, ...]:
    return (f"{significant(joules, 3)} J a call", f"rel. L2 {error:.2e}")


def _pair(record: Record) -> Point:
    load = record.sustained
    assert load is not None
    settled, _, _ = _latency(record)
    band = (load.low_s * 1e3, load.high_s * 1e3)
    told = (
        f"{load.median_s / settled:.3f}× settled",
        f"{milliseconds(load.median_s)} ms under load, {milliseconds(settled)} ms settled",
    )
    return Point(record.workload.seq, record.workload.name, load.median_s * 1e3, *band, inner=settled * 1e3, told=told)


def _joules(record: Record) -> _Value | None:
    load = record.sustained
    return None if load is None or load.joules is None else (load.joules, None, None)


def _once(rows: Sequence[_Row]) -> tuple[list[_Row], list[str]]:
    """One row per variant and length; notes on what is left out, and on what was slowed down on purpose."""
    first: dict[tuple[str, int], _Row] = {}
    for row in rows:
        first.setdefault((row.name, row.record.workload.seq), row)
    kept = set(map(id, first.values()))
    twice = [f"{row.name} on {row.record.workload.name}" for row in rows if id(row) not in kept]
    notes = []
    if twice:
        notes.append(f"The same problem under a second workload name, drawn once: {_listed(twice)}.")
    if injected := [row.name for row in first.values() if row.record.injected is not None]:
        notes.append(f"Slowed down on purpose (--attn-inject): {_listed(injected)}.")
    return list(first.values()), notes


def _series(found: Iterable[tuple[_Row, Point]], slugs: Mapping[str, str]) -> tuple[Series, ...]:
    points: dict[str, list[Point]] = {}
    records: dict[str, Record] = {}
    for row, point in found:
        points.setdefault(row.name, []).append(point)
        records.setdefault(row.name, row.record)
    return tuple(
        Series(
            name,
            slugs[name],
            records[name].variant,
            records[name].backend,
            records[name].family,
            records[name].mode,
            tuple(sorted(mine, key=lambda point: point.seq)),
        )
        for name, mine in points.items()
    )


def _best(chart: Chart) -> Chart:
    """The chart with at most `MOST_SERIES` series: those with the greatest length first, of these the best first."""
    sign = 1 if chart.lower_is_better else -1

    def place(one: Series) -> tuple[int, float, str]:
        last = one.points[-1]
        return (-last.seq, sign * (last.value if last.x is None else last.x), one.name)

    ordered = sorted(chart.series, key=place)
    notes = chart.notes
    if len(ordered) > MOST_SERIES:
        notes = (*notes, f"The best {MOST_SERIES} of {len(ordered)} variants are drawn.")
    return replace(chart, series=tuple(ordered[:MOST_SERIES]), notes=notes)


def named(drawn: Sequence[Chart]) -> tuple[Chart, ...]:
    """The charts with their stems: `latency`, with the device where there are several, numbered where that is not enough."""
    several = len({chart.device for chart in drawn}) > 1
    devices = unique_slugs(chart.device for chart in drawn)
    counts: dict[str, int] = {}
    named = []
    for chart in drawn:
        stem = f"{chart.name}-{devices[chart.device]}" if several else chart.name
        counts[stem] = counts.get(stem, 0) + 1
        named.append(replace(chart, stem=stem if counts[stem] == 1 else f"{stem}-{counts[stem]}"))
    return tuple(named)


def _point(row: _Row, value: _Value) -> Point:
    return Point(row.record.workload.seq, row.record.workload.name, *value)


def _is_drawable(value: _Value) -> bool:
    return all(part is None or math.isfinite(part) for part in value)


def _absent(what: str, names: Iterable[str]) -> list[str]:
    absent = list(dict.fromkeys(names))
    return [f"Not drawn, {what}: {_listed(absent)}."] if absent else []


def _listed(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - MOST_NAMED} more" if len(unique) > MOST_NAMED else ""
    return f"{'; '.join(unique[:MOST_NAMED])}{more}"


def _rounds_s(record: Record) -> Sequence[float]:
    assert record.sample is not None
    return record.sample.rounds_s


def _latency(record: Record, scale: float = 1.0) -> tuple[float, float, float]:
    rounds_s = _rounds_s(record)
    low, high = (stats.quantile(rounds_s, share) * scale for share in (LOW, HIGH))
    return stats.median_s(rounds_s) * scale, low, high


def _rate(record: Record) -> _Value:
    median, low, high = _latency(record)
    value, worst, best = (stats.tflop_per_s(record.workload.flop, one) for one in (median, high, low))
    return value, worst, best


def _share(record: Record, peak: float) -> _Value:
    median, low, high = _latency(record)
    value, worst, best = (stats.tflop_per_s(record.workload.flop, one) / peak * 100 for one in (median, high, low))
    return value, worst, best


def _speed(record: Record, bases: Mapping[int, float]) -> _Value | None:
    """Reference median over this median; the band is of this variant's rounds alone."""
    base_s = bases.get(record.workload.seq)
    if base_s is None:
        return None
    median, low, high = _latency(record)
    return base_s / median, base_s / high, base_s / low


def _workspace(record: Record) -> _Value | None:
    return None if record.workspace_bytes is None else (record.workspace_bytes / 2**20, None, None)


def _rel_l2(record: Record) -> float | None:
    """The error on the timed inputs; None without a check on them, and for an error that no axis can show."""
    check = timed_check(record)
    is_timed = check is not None and check.distribution == record.workload.distribution
    error = check.error.rel_l2 if check is not None and is_timed else math.nan
    return error if math.isfinite(error) and error > 0 else None
