"""The JSONL of Hugging Face's kernels-benchmarks tools (`kernels_benchmark_tools`), written and read.

Their `summarize`, `outliers`, `viz` and combined results take what is written here unchanged. One line is one record of one
launch. What a field holds where the two differ:

    run            id of the launch
    impl           the variant, `torch_flash@max-autotune`: their summary groups by it alone
    tags.compile   "none" for eager, else the mode
    lat_ms         p10, p50, p90 and iqr by their definition: the sorted round at place ⌊q·(n − 1)⌋, so that raw_times give
                   the same again; has_warnings: iqr above a tenth of p50; reps: rounds
    lat_ms.warmup  null: calls before the rounds go on until the clock is settled, and are not counted
    compile_ms     the first call, as theirs is
    peak_bytes     q, k, v and what one call allocates, output included; theirs is the whole process's, with the
                   reference's output
    ok             measured or checked: every input set within the tolerance
    corr           absmax, mae, mse on the timed inputs; rtol and atol are null: limits are relative to plain attention's own
                   error (docs/method.md); ref: `math_fp64`
    err            null with a latency, else {type: status, msg: reasons}, which their summary prints

Their files are read as runs of one launch. A record that is not `ok` has no latency here. One without `raw_times` has its
p50 as its only round, so it has no band. `peak_bytes` of their files is no workspace: it is kept beside the records.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attnbench.codec import Unreadable, to_digits
from attnbench.model import MODES, Check, ErrorMetrics, Fingerprint, Launch, Reason, Record, RunFile, Sample, Status
from attnbench.report import jsonl
from attnbench.report.quantities import peak_bytes, timed_check
from attnbench.workload import Workload

#: `Record.source` of what their own tools measured.
SOURCE = "kernels-benchmarks"
#: How their harness times: `torch.utils.benchmark.Timer`, one call a time.
TIMER = "torch.utils.benchmark"
#: What their attention workloads draw, and what they compare with.
DISTRIBUTION = "randn*randint(1,5)"

#: Our names of dtypes and theirs.
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_OUR_DTYPES = {theirs: ours for ours, theirs in DTYPES.items()}
_EAGER = "none"
_SHARE_OF_WARNING = 0.1
_CAPABILITY = re.compile(r"sm_(\d+)(\d)")
_AXES = {"batch": "batch", "seq": "seq_len", "heads": "heads", "head_dim": "head_dim"}
_LARGEST_AXIS, _LONGEST_MS = 2**31, 1e9


@dataclass(frozen=True)
class KbtLine:
    """One line of theirs: the record, the launch that their run is, and the peak memory that they recorded."""

    launch: Launch
    record: Record
    peak_bytes: int | None = None

    @property
    def foreign(self) -> bool:
        """Whether their own tools measured it, and not attnbench."""
        return self.record.source == SOURCE


def lines(records: Sequence[Record], launches: Mapping[str, Launch]) -> Iterator[str]:
    """A line per record, without line ends, workload by workload as their harness writes them, the shortest sequence first.

    Their plot connects the points of an implementation in the order of the lines, and has the workloads in this order too.
    Records that were slowed down on purpose are left out, as their form has no field that says so.
    """
    records = [record for record in records if record.injected is None]
    workloads = {name: at for at, name in enumerate(dict.fromkeys(record.workload.name for record in records))}
    variants = {name: at for at, name in enumerate(dict.fromkeys(record.variant for record in records))}
    ordered = sorted(records, key=lambda r: (r.workload.seq, workloads[r.workload.name], variants[r.variant]))
    return (jsonl.to_json(to_kbt(record, launches[record.launch])) for record in ordered)


def to_kbt(record: Record, launch: Launch) -> dict[str, Any]:
    """The record as plain data in their form."""
    key, context = launch.fingerprint.key, launch.fingerprint.context
    capability = _CAPABILITY.fullmatch(str(key.get("capability") or ""))
    device = "sim" if launch.simulated else "cuda" if capability else "cpu"
    workload = record.workload
    ok = record.status in (Status.MEASURED, Status.CHECKED)
    corr = _corr(record, ok)
    plain = {
        "ts": re.sub(r"[+]00:00$", "Z", launch.started_at),
        "run": launch.id,
        "impl": record.variant,
        "tags": {
            "family": record.family,
            "backend": record.backend,
            "compile": _EAGER if record.mode == MODES[0] else record.mode,
        },
        "wl": {
            "name": workload.name,
            **{theirs: getattr(workload, ours) for ours, theirs in _AXES.items()},
            "dtype": DTYPES.get(workload.dtype, workload.dtype),
            "device": device,
            "seed": workload.seed,
        },
        "env": {
            "torch": context.get("torch") or "",
            "cuda": context.get("cuda") or "",
            "gpu": key.get("device") or "",
            "sm": f"{capability[1]}.{capability[2]}" if capability else "",
            "py": context.get("python") or "",
            "plat": context.get("os") or "",
        },
        "lat_ms": _lat_ms(record.sample) if record.sample else None,
        "compile_ms": None if record.first_call_s is None else record.first_call_s * 1e3,
        "peak_bytes": peak_bytes(record),
        "ok": ok,
        "absmax": corr.get("absmax"),
        "corr": corr,
        "err": None if record.sample else {"type": str(record.status), "msg": _why(record)},
    }
    rounded = to_digits(plain)
    assert isinstance(rounded, dict)
    return rounded


def at_rank(values: list[float], share: float) -> float:
    """Their quantile of sorted values: the one at place ⌊share · (n − 1)⌋."""
    return values[int(share * (len(values) - 1))]


def is_line(plain: Any) -> bool:
    """Whether a JSON value looks like a line of theirs."""
    return isinstance(plain, dict) and "impl" in plain and "wl" in plain


def line_from(plain: Mapping[str, Any], otherwise: str) -> KbtLine:
    """What a line of theirs, or of ours in their form, says. `otherwise` is the run's id where the line has none.

    Raises Unreadable: it lacks what no report can do without, holds figures that no run has, or is of another kernel than
    attention.
    """
    impl, tags = _text(plain, "impl"), _part(plain, "tags")
    workload = _workload(_part(plain, "wl"))
    mode = str(tags.get("compile") or _EAGER)
    mode = MODES[0] if mode in (_EAGER, "None", "") else mode
    ours = mode in MODES and impl == f"{tags.get('backend')}@{mode}"
    backend = str(tags["backend"]) if ours else impl
    launch = _launch(plain, otherwise, str(_part(plain, "wl").get("device") or ""))
    peak = plain.get("peak_bytes")
    peak = peak if isinstance(peak, int) and not isinstance(peak, bool) and peak >= 0 else None
    status, reasons = _status(plain)
    record = Record(
        f"{backend}@{mode}-{workload.name}",
        backend,
        str(tags.get("family") or "unknown"),
        mode,
        workload,
        launch.id,
        status,
        reasons,
        source="" if ours else SOURCE,
        first_call_s=_milliseconds(plain.get("compile_ms"), "compile_ms"),
        checks=_checks(_part(plain, "corr"), status),
        sample=_sample(_part(plain, "lat_ms"), "unknown" if ours else TIMER) if status is Status.MEASURED else None,
    )
    return KbtLine(launch, record, peak)


def by_launch(lines: Iterable[KbtLine]) -> list[list[KbtLine]]:
    """The lines of each launch, which are as one in run and environment; a second environment under a run's id is `ID-2`."""
    environments: dict[str, list[Fingerprint]] = {}
    launches: dict[tuple[str, int], list[KbtLine]] = {}
    for line in lines:
        known = environments.setdefault(line.launch.id, [])
        if line.launch.fingerprint not in known:
            known.append(line.launch.fingerprint)
        number = known.index(line.launch.fingerprint)
        launches.setdefault((line.launch.id, number), []).append(line)
    return [
        [
            replace(line, launch=launch, record=replace(line.record, launch=launch.id))
            for launch in [replace(mine[0].launch, id=f"{run}-{number + 1}" if number else run)]
            for line in mine
        ]
        for (run, number), mine in launches.items()
    ]


def run_of(lines: Sequence[KbtLine]) -> RunFile:
    """Lines of one launch as a run."""
    return RunFile(1, "", "", (lines[0].launch,), tuple(line.record for line in lines))


def _lat_ms(sample: Sample) -> dict[str, Any]:
    times = [round_s * 1e3 for round_s in sample.rounds_s]
    ordered = sorted(times)
    p10, p25, p50, p75, p90 = (at_rank(ordered, share) for share in (0.1, 0.25, 0.5, 0.75, 0.9))
    return {
        "p10": p10,
        "p50": p50,
        "p90": p90,
        "mean": math.fsum(times) / len(times),
        "iqr": p75 - p25,
        "raw_times": times,
        "has_warnings": (p75 - p25) / p50 > _SHARE_OF_WARNING,
        "reps": len(times),
        "warmup": None,
    }


def _corr(record: Record, ok: bool) -> dict[str, Any]:
    check = timed_check(record)
    if check is None:
        return {}
    error = check.error
    return {
        "ok": ok,
        "rtol": None,
        "atol": None,
        "absmax": error.max_abs,
        "mae": error.mean_abs,
        "mse": error.mse,
        "ref": "math_fp64" if check.rows == "all" else f"math_fp64, {check.rows}",
    }


def _why(record: Record) -> str:
    reasons = "; ".join(reason.text for reason in record.reasons)
    return reasons or "accurate, not timed"


def _workload(wl: Mapping[str, Any]) -> Workload:
    if missing := [name for name in ("name", *_AXES.values()) if wl.get(name) is None]:
        raise Unreadable(f"its workload 'wl' lacks {', '.join(missing)}: only attention can be read")
    for name in _AXES.values():
        size = wl[name]
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= _LARGEST_AXIS:
            raise Unreadable(f"its {name} is {size!r}, expected an integer from 1 to {_LARGEST_AXIS}")
    batch, seq, heads, head_dim = (wl[name] for name in _AXES.values())
    dtype, seed = str(wl.get("dtype") or "unknown"), wl.get("seed")
    return Workload(
        _text(wl, "name"),
        batch,
        seq,
        heads,
        head_dim,
        dtype=_OUR_DTYPES.get(dtype, dtype),
        distribution=DISTRIBUTION,
        seed=seed if isinstance(seed, int) else 0,
    )


def _launch(plain: Mapping[str, Any], otherwise: str, device: str) -> Launch:
    env = _part(plain, "env")
    named = {name: str(env[name]) for name in ("torch", "cuda", "gpu", "sm", "py", "plat") if env.get(name)}
    sm = re.fullmatch(r"(\d+)\.(\d)", named.get("sm", ""))
    key: dict[str, str | int | float | None] = {"device": named.get("gpu") or device or None}
    if sm:
        key["capability"] = f"sm_{sm[1]}{sm[2]}"
    theirs = {"torch": "torch", "cuda": "cuda", "python": "py", "os": "plat"}
    context: dict[str, str | int | float | None] = {ours: named[name] for ours, name in theirs.items() if name in named}
    run = plain.get("run")
    started = str(plain.get("ts") or "")
    return Launch(
        run if isinstance(run, str) and run else otherwise,
        re.sub("Z$", "+00:00", started),
        Fingerprint(key, context),
        simulated=device == "sim",
    )


def _status(plain: Mapping[str, Any]) -> tuple[Status, tuple[Reason, ...]]:
    err, latency, ok = plain.get("err"), plain.get("lat_ms"), plain.get("ok")
    if ok is True and isinstance(latency, dict):
        return Status.MEASURED, ()
    if isinstance(err, str) and err:
        err = {"msg": err}
    if isinstance(err, dict):
        kind, message = str(err.get("type") or "error"), str(err.get("msg") or "no message")
        known = {str(status): status for status in Status if status is not Status.MEASURED}
        status = known.get(kind, Status.ERROR)
        text = message if status is not Status.ERROR or kind == str(status) else f"{kind}: {message}"
        return status, () if status is Status.CHECKED else (Reason(kind, text),)
    if ok is False and isinstance(latency, dict):
        corr = _part(plain, "corr")
        errors = ", ".join(f"{name} {corr[name]}" for name in ("absmax", "rtol", "atol") if corr.get(name) is not None)
        return Status.INCORRECT, (Reason("accuracy", f"{SOURCE} found its output wrong: {errors or 'no figures'}"),)
    missing = "no 'ok'" if isinstance(latency, dict) else "neither 'lat_ms' nor 'err'"
    return Status.ERROR, (Reason("incomplete", f"its record has {missing}"),)


def _sample(lat_ms: Mapping[str, Any], timer: str) -> Sample:
    raw = lat_ms.get("raw_times")
    times: list[Any] = raw if isinstance(raw, list) and raw else [lat_ms.get("p50")]
    where = "lat_ms.raw_times" if times is raw else "lat_ms.p50"
    if wrong := [time for time in times if not _is_number(time) or not 0 < time <= _LONGEST_MS]:
        raise Unreadable(f"its {where} holds {wrong[0]!r}, expected milliseconds above 0")
    return Sample(tuple(float(time) / 1e3 for time in times), timer)


def _checks(corr: Mapping[str, Any], status: Status) -> tuple[Check, ...]:
    """What they know of the accuracy: their limits are not ours, so none stands beside the figures."""
    figures = [corr.get(name) for name in ("absmax", "mae", "mse")]
    if all(figure is None for figure in figures) or status not in (Status.MEASURED, Status.CHECKED, Status.INCORRECT):
        return ()
    absmax, mae, mse = (float(figure) if _is_number(figure) else math.nan for figure in figures)  # type: ignore[arg-type]
    nan = math.nan
    unknown = ErrorMetrics(nan, nan, nan, nan, nan, nan, 0, (), None, None)
    error = ErrorMetrics(absmax, mae, mse, nan, nan, nan, 0, (), None, None)
    return (Check(DISTRIBUTION, error, unknown, unknown, {}, "all", poisoned=False),)


def _milliseconds(value: Any, name: str) -> float | None:
    """Seconds; None where there is no such figure. Raises Unreadable for one that no run has."""
    if value is None:
        return None
    if not _is_number(value) or not 0 <= value <= _LONGEST_MS:
        raise Unreadable(f"its {name} is {value!r}, expected milliseconds, 0 or more")
    return float(value) / 1e3


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _part(plain: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = plain.get(name)
    return part if isinstance(part, dict) else {}


def _text(plain: Mapping[str, Any], name: str) -> str:
    value = plain.get(name)
    if not isinstance(value, str) or not value.strip():
        raise Unreadable(f"its {name} is {value!r}, expected a name")
    return value
