"""One stored run of pytest-benchmark, read with care: any damage is one sentence and never a traceback."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attnbench.codec import Unreadable, run_from
from attnbench.model import Record, RunFile

#: What pytest-benchmark's table reads of a compared run, by default or with --benchmark-columns.
_TIMES, _COUNTS = ("min", "max", "mean", "stddev", "median", "iqr"), ("rounds", "iterations")
#: Limits far above any stored run, so that no file can exhaust memory: the largest runs have 10 MB, 9 levels and some dozens
#: of rounds in a sample.
MOST_BYTES = 2**28
MOST_LEVELS = 100
MOST_DIGITS = 30
MOST_ROUNDS = 10**6
LONGEST_S, FASTEST_HZ = 1e6, 1e12


def check_benchmark_file(path: Path) -> None:
    """Read a file as pytest-benchmark will. Raises Unreadable with one sentence if that would end in a traceback."""
    load_document(path, need_measurements=True)


def load_document(path: Path, need_measurements: bool = False) -> dict[str, Any]:
    """A stored run as plain data, read from a regular file only.

    Raises Unreadable for a file that cannot be read, is not JSON or not pytest-benchmark's, or holds figures that no run can
    have. With `need_measurements`, which is for files that pytest-benchmark reads too, also for one that it cannot read and
    for one without a measurement.
    """
    text, encoding = _text(path)
    document = _parsed(path, text)
    if need_measurements and encoding != "utf-8":
        raise Unreadable(f"{path} is text in {encoding}, which pytest-benchmark does not read: save it as utf-8")
    if not isinstance(document, dict) or not isinstance(document.get("benchmarks"), list):
        raise Unreadable(f"{path} is JSON, but not from pytest-benchmark: it has no list 'benchmarks'")
    if need_measurements and not document["benchmarks"]:
        raise Unreadable(f"{path} holds no measurement: nothing in that run could be measured")
    for at, entry in enumerate(document["benchmarks"]):
        _check_entry(path, at, entry)
    if not isinstance(document.get("machine_info"), dict):
        raise Unreadable(f"{path} is not from pytest-benchmark: it has no 'machine_info'")
    if "attnbench" in document:
        try:
            check_run(run_from(document))
        except Unreadable as exc:
            raise Unreadable(f"{path} cannot be used: {exc}") from exc
    return document


def _text(path: Path) -> tuple[str, str]:
    """The text of a regular file, and its encoding: that of its byte order mark, if it has one.

    Raises Unreadable. Only regular files are opened: a FIFO would wait for a writer, and a device may do anything.
    """
    try:
        _require_regular(path, path.stat())
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            _require_regular(path, status)  # the path may lead to another file by now
            if status.st_size > MOST_BYTES:
                size, most = status.st_size / 2**20, MOST_BYTES / 2**20
                raise Unreadable(
                    f"{path} is too large for a stored run: {size:.0f} MiB, at most {most:.0f} MiB are read"
                )
            content = file.read(MOST_BYTES)
    except OSError as exc:
        raise Unreadable(f"{path} cannot be read: {exc.strerror}") from exc
    except MemoryError as exc:
        raise Unreadable(f"{path} cannot be read: it needs more memory than there is") from exc
    encoding = json.detect_encoding(content)  # by its byte order mark, or by where the first bytes are zero
    try:
        return content.decode(encoding), encoding
    except UnicodeDecodeError as exc:
        raise Unreadable(f"{path} is not text: it is damaged, or no JSON file") from exc


def _require_regular(path: Path, status: os.stat_result) -> None:
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        raise Unreadable(f"{path} cannot be read: Is a directory")
    if kind != stat.S_IFREG:
        raise Unreadable(
            f"{path} cannot be read: it is {kinds.get(kind, 'no file')}, and a stored run is a regular file"
        )


def _parsed(path: Path, text: str) -> Any:
    """The JSON of a text. Raises Unreadable for deeper nesting, or a longer integer, than any stored run has."""
    too_deep = Unreadable(f"{path} is nested too deeply for a stored run: more than {MOST_LEVELS} levels")
    try:
        document = json.loads(text, parse_int=_whole_number)
    except json.JSONDecodeError as exc:
        raise Unreadable(f"{path} is not JSON (line {exc.lineno}: {exc.msg}): it is damaged or was cut off") from exc
    except RecursionError as exc:
        raise too_deep from exc
    except ValueError as exc:
        raise Unreadable(f"{path} cannot be used: {exc}") from exc
    except MemoryError as exc:
        raise Unreadable(f"{path} cannot be read: it needs more memory than there is") from exc
    if not _is_nested_at_most(MOST_LEVELS, document):
        raise too_deep
    return document


def _is_nested_at_most(levels: int, document: Any) -> bool:
    """Level by level, not by recursion, which has a limit of its own."""
    level = [document]
    for _ in range(levels):
        inside = (part.values() if isinstance(part, dict) else part for part in level if isinstance(part, (dict, list)))
        level = [part for parts in inside for part in parts if isinstance(part, (dict, list))]
    return not level


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"it holds a whole number of {len(digits)} digits, at most {MOST_DIGITS} are read")
    return int(digits)


def _check_entry(path: Path, at: int, entry: Any) -> None:
    if not isinstance(entry, dict) or not isinstance(entry.get("fullname"), str):
        raise Unreadable(f"{path}: entry {at} of 'benchmarks' has no 'fullname'")
    stats = entry["stats"] if isinstance(entry.get("stats"), dict) else {}
    usable = {
        **{name: _is_within(stats.get(name), 0, math.inf) for name in _TIMES},
        **{name: _is_within(stats.get(name), 1, math.inf) for name in _COUNTS},
        "outliers": isinstance(stats.get("outliers"), str),
        # pytest-benchmark before 3.1 does not store it: it is computed from the mean then
        "ops": _is_within(stats["ops"], 0, math.inf) if "ops" in stats else stats.get("mean") != 0,
    }
    if unusable := [name for name, is_usable in usable.items() if not is_usable]:
        raise Unreadable(f"{path}: entry {at} of 'benchmarks' ({entry['fullname']}) lacks stats {', '.join(unusable)}")


def _is_within(value: Any, lowest: float, highest: float) -> bool:
    """Whether `value` is a finite number in this range, ends included."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and lowest <= value <= highest


def check_run(run: RunFile) -> None:
    """Raises Unreadable for a run that contradicts itself, or that holds figures that no run can have."""
    launches = {launch.id for launch in run.launches}
    if len(launches) < len(run.launches):
        raise Unreadable("two of its launches have the same id, with different contents")
    seen = set()
    for record in run.records:
        which = (record.case, record.nodeid, record.launch)
        if which in seen:
            raise Unreadable(
                f"two of its records are of {record.case} in launch {record.launch!r}, with different contents"
            )
        seen.add(which)
        if record.launch not in launches:
            raise Unreadable(f"a record of {record.case} names launch {record.launch!r}, which the file does not hold")
        if figure := next(_impossible_figures(record), None):
            raise Unreadable(f"{record.case} has {figure}")


def _impossible_figures(record: Record) -> Iterator[str]:
    """Every figure that no run can have, with what is needed."""
    workload, sample = record.workload, record.sample
    for name, size in zip(("batch", "seq", "heads", "head_dim"), workload.shape, strict=True):
        if size < 1:
            yield f"{name} {size}, expected at least 1"
    seconds = {"first_call_s": record.first_call_s, "compilers_s": record.compilers_s, "kernel_s": record.kernel_s}
    seconds.update(record.spent_s)
    clocks: tuple[float, ...] = ()
    if sample is not None:
        if len(sample.rounds_s) > MOST_ROUNDS:
            yield f"{len(sample.rounds_s)} rounds, at most {MOST_ROUNDS} are read"
        seconds.update(host_s=sample.host_s, empty_s=sample.empty_s, waited_s=sample.waited_s)
        seconds.update(rounds_s=max(sample.rounds_s))
        clocks = (*sample.before_hz, *(() if sample.ceiling_hz is None else (sample.ceiling_hz,)))
        if not 0 <= sample.unsettled <= len(sample.rounds_s):
            yield f"{sample.unsettled} unsettled rounds of {len(sample.rounds_s)}"
    if record.sustained is not None:
        load = record.sustained
        seconds.update(sustained_s=load.high_s, loaded_s=load.loaded_s, lead_s=load.lead_s, energy_s=load.energy_s)
        figures = {"power_w": load.power_w, "joules": load.joules, "clock_hz": load.clock_hz, "drift": load.drift}
        if wrong := [name for name, value in figures.items() if value is not None and not math.isfinite(value)]:
            yield f"{wrong[0]} {figures[wrong[0]]} under load, expected a finite number"
    for name, value in seconds.items():
        if value is not None and not _is_within(value, 0, LONGEST_S):
            yield f"{name} {value:g}, expected 0 to {LONGEST_S:g} s"
    for check in record.checks if sample is not None else ():
        for metric in ("rel_l1", "rel_l2"):
            if not _is_within(getattr(check.error, metric), 0, math.inf):
                yield f"{metric} {getattr(check.error, metric)} {check.where}, expected a finite error"
    for clock_hz in clocks:
        if not 1 <= clock_hz <= FASTEST_HZ:  # NaN is not, either
            yield f"a clock of {clock_hz:g} Hz, expected 1 to {FASTEST_HZ:g} Hz"
