"""The folder of stored runs: what lies there, whether it can be read, and what a bare comparison is made with.

    baselines/<gpu slug>/NNNN_<id>.json      reviewed sessions, part of the repository
    baselines/<machine id>/NNNN_<name>.json  what a user saved with --benchmark-save: git-ignored, never in a verdict

The second folder is where pytest-benchmark itself saves, so its own `--benchmark-compare=0003` finds it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbench.codec import Unreadable, run_from
from attnbench.fingerprint import slug
from attnbench.model import Record, RunFile

#: pytest-benchmark's machine id: `Linux-CPython-3.11-64bit`.
MACHINE_ID = re.compile(r"[^-]+-[^-]+-[\d.]+-\d+bit")
NUMBERED = re.compile(r"(\d{4,})_.+\.json")
#: What pytest-benchmark's table reads of a compared run, by default or with --benchmark-columns.
_TIMES, _COUNTS = ("min", "max", "mean", "stddev", "median", "iqr"), ("rounds", "iterations")
#: What no stored run comes near, so that no file costs more than a sentence: the largest ones have 10 MB, 9 levels and some
#: dozens of rounds in a sample.
MOST_BYTES = 2**28
MOST_LEVELS = 100
MOST_DIGITS = 30
MOST_ROUNDS = 10**6
LONGEST_S, FASTEST_HZ = 1e6, 1e12
#: A reviewed session with less than this share of the fullest one's cases leaves most of a run without a neighbour.
_WHOLE = 0.5


class Unlisted(Unreadable):
    """A folder of sessions that does not tell which it holds; the message says what to do."""


@dataclass(frozen=True)
class Choice:
    """What a bare `--benchmark-compare` compares with, and the sentences that say why and what was passed over."""

    path: Path | None
    said: tuple[str, ...]


@dataclass(frozen=True)
class _Stored:
    path: Path
    device: str
    saved_at: str  # ISO 8601, UTC: sorts as text
    cases: int


def choose(folder: Path, device_name: str) -> Choice:
    """The newest own save that measured `device_name`; without one, the newest whole session of that device model.

    Whole is one with half of the cases of the fullest or more; newer ones are named where it is taken. Files that cannot
    be read or that hold no measurement are passed over and named; own saves of other devices are passed over and counted.
    """
    said: list[str] = []
    own = _newest_own(folder, device_name, said)
    sessions = list(_usable(reversed(_reviewed(folder, device_name, said)), said))
    fullest = max((one.cases for one in sessions), default=0)
    reviewed = next((one for one in sessions if one.cases >= _WHOLE * fullest), None)
    if own is not None:
        beside = f"; latest complete reviewed session: {_shown(reviewed.path, folder)}" if reviewed else ""
        said.append(f"comparing with {_shown(own.path, folder)} (latest local save){beside}")
    elif reviewed is not None:
        if newer := sessions[: sessions.index(reviewed)]:
            named = ", ".join(_shown(one.path, folder) for one in newer)
            said.append(f"skipped, with fewer than half of the cases of the largest session: {named}")
        said.append(
            f"comparing with {_shown(reviewed.path, folder)} (latest complete reviewed session; no local save fits)"
        )
    else:
        said.append(
            f"nothing to compare with for {device_name} in {folder}: save a run first with --benchmark-save=NAME"
        )
    chosen = own or reviewed
    return Choice(chosen.path if chosen else None, tuple(said))


def matching(folder: Path, machine_id: str, pattern: str) -> list[Path]:
    """Files that pytest-benchmark would load for `--benchmark-compare=PATTERN`: a path, `0003`, or `nvidia-h200/0003`.

    Raises Unreadable where a folder that it would look into cannot be listed: pytest-benchmark finds nothing there.
    """
    path = Path(pattern)
    if path.exists() and not path.is_dir():
        return [path]
    if len(path.parts) > 2 or path.is_absolute():
        return []
    parent = path.parts[0] if len(path.parts) == 2 else machine_id
    name = f"{path.name.rstrip('*')}*.json"
    try:
        for looked_into in (folder, *(below for below in folder.glob(parent) if below.is_dir())):
            _entries(looked_into)
    except OSError as exc:
        raise Unreadable(f"{exc.filename} cannot be listed: {exc.strerror}") from exc
    return sorted([*folder.glob(f"{parent}/{name}"), *folder.glob(name)])


def check_benchmark_file(path: Path) -> None:
    """Read a file as pytest-benchmark will. Raises Unreadable with one sentence where that would end in a traceback."""
    load_document(path, need_measurements=True)


def load_document(path: Path, need_measurements: bool = False) -> dict[str, Any]:
    """A stored run as plain data, read from a regular file only.

    Raises Unreadable: not readable, not JSON, not pytest-benchmark's, figures that no run can have. With
    `need_measurements` also where nothing was measured, or where pytest-benchmark, which then reads it too, cannot.
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
    """What a regular file holds, and the encoding: that of its byte order mark, if it has one.

    Raises Unreadable. Nothing else is opened: a FIFO would wait for a writer, and a device may do anything.
    """
    try:
        _require_regular(path, path.stat())
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            found = os.fstat(file.fileno())
            _require_regular(path, found)  # it may be another one by now
            if found.st_size > MOST_BYTES:
                size, most = found.st_size / 2**20, MOST_BYTES / 2**20
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


def _require_regular(path: Path, found: os.stat_result) -> None:
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFDIR:
        raise Unreadable(f"{path} cannot be read: Is a directory")
    if kind != stat.S_IFREG:
        raise Unreadable(
            f"{path} cannot be read: it is {kinds.get(kind, 'no file')}, and a stored run is a regular file"
        )


def _parsed(path: Path, text: str) -> Any:
    """The JSON of a text that is nested no deeper, and holds no longer whole number, than any stored run."""
    deep = Unreadable(f"{path} is nested too deeply for a stored run: more than {MOST_LEVELS} levels")
    try:
        document = json.loads(text, parse_int=_whole_number)
    except json.JSONDecodeError as exc:
        raise Unreadable(f"{path} is not JSON (line {exc.lineno}: {exc.msg}): it is damaged or was cut off") from exc
    except RecursionError as exc:
        raise deep from exc
    except ValueError as exc:
        raise Unreadable(f"{path} cannot be used: {exc}") from exc
    except MemoryError as exc:
        raise Unreadable(f"{path} cannot be read: it needs more memory than there is") from exc
    level = [document]
    for _ in range(MOST_LEVELS):
        inside = (part.values() if isinstance(part, dict) else part for part in level if isinstance(part, (dict, list)))
        level = [part for parts in inside for part in parts if isinstance(part, (dict, list))]
    if level:
        raise deep
    return document


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"it holds a whole number of {len(digits)} digits, at most {MOST_DIGITS} are read")
    return int(digits)


def _check_entry(path: Path, at: int, entry: Any) -> None:
    if not isinstance(entry, dict) or not isinstance(entry.get("fullname"), str):
        raise Unreadable(f"{path}: entry {at} of 'benchmarks' has no 'fullname'")
    stats = entry.get("stats")
    found = stats if isinstance(stats, dict) else {}
    usable = {
        **{name: _is_within(found.get(name), 0, math.inf) for name in _TIMES},
        **{name: _is_within(found.get(name), 1, math.inf) for name in _COUNTS},
        "outliers": isinstance(found.get("outliers"), str),
        # worked out of the mean where it is not stored, as before pytest-benchmark 3.1
        "ops": _is_within(found["ops"], 0, math.inf) if "ops" in found else found.get("mean") != 0,
    }
    if missing := [name for name, fits in usable.items() if not fits]:
        raise Unreadable(f"{path}: entry {at} of 'benchmarks' ({entry['fullname']}) lacks stats {', '.join(missing)}")


def _is_within(value: Any, lowest: float, highest: float) -> bool:
    """Whether it is a number, finite, and in this range."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and lowest <= value <= highest


def check_run(run: RunFile) -> None:
    """Raises Unreadable for a run that contradicts itself, or whose figures no run can have."""
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
        if odd := next(_odd_figures(record), None):
            raise Unreadable(f"{record.case} has {odd}")


def _odd_figures(record: Record) -> Iterator[str]:
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
    for name, value in seconds.items():
        if value is not None and not _is_within(value, 0, LONGEST_S):
            yield f"{name} {value:g}, expected 0 to {LONGEST_S:g} s"
    for check in record.checks if sample is not None else ():
        for metric in ("rel_l1", "rel_l2"):
            if not _is_within(getattr(check.error, metric), 0, math.inf):
                yield f"{metric} {getattr(check.error, metric)} on {check.distribution} inputs, expected a finite error"
    for clock_hz in clocks:
        if not _is_within(clock_hz, 1, FASTEST_HZ):
            yield f"a clock of {clock_hz:g} Hz, expected 1 to {FASTEST_HZ:g} Hz"


def _reviewed(folder: Path, device_name: str, said: list[str]) -> list[Path]:
    """The sessions of this device; what a verdict would refuse is passed over and said."""
    try:
        return session_files(folder, device_name)
    except Unlisted as exc:
        said.append(f"skipped: {exc}")
    try:
        return numbered(folder / slug(device_name))
    except OSError:  # that is what was said
        return []


def _newest_own(folder: Path, device_name: str, said: list[str]) -> _Stored | None:
    """The newest save of this device. Numbers are compared within a machine id, dates between them."""
    newest: list[_Stored] = []
    others: dict[str, int] = {}
    for machine in (folder / name for name in _names(folder, said) if MACHINE_ID.fullmatch(name)):
        for stored in _usable(reversed(_numbered(machine, _names(machine, said))), said):
            if stored.device == device_name:
                newest.append(stored)
                break
            others[stored.device] = others.get(stored.device, 0) + 1
    if others:
        counted = ", ".join(f"{count} of {device}" for device, count in others.items())
        said.append(f"skipped local saves of other devices: {counted}")
    return max(newest, key=lambda stored: stored.saved_at, default=None)


def _usable(files: Iterable[Path], said: list[str]) -> Iterator[_Stored]:
    """The files that can be compared with, newest first; those on the way that cannot are said."""
    for path in files:
        try:
            document = load_document(path, need_measurements=True)
        except Unreadable as exc:
            said.append(f"skipped: {exc}")
        else:
            device = str(document["machine_info"].get("device") or "an unknown device")
            yield _Stored(path, device, str(document.get("datetime", "")), len(document["benchmarks"]))


def numbered(folder: Path) -> list[Path]:
    """Stored runs in one folder, the lowest number first; none where there is no such folder. Raises OSError."""
    return _numbered(folder, _entries(folder))


def next_number(folder: Path) -> int:
    """The number of the next stored run in this folder: of two with one number, which is compared with? Raises OSError.

    pytest-benchmark looks for a number in the folder above, too, where it may be listed.
    """
    taken = numbered(folder)
    with contextlib.suppress(OSError):
        taken += numbered(folder.parent)
    return 1 + max((int(path.name.split("_")[0]) for path in taken), default=0)


def session_files(folder: Path, device_name: str) -> list[Path]:
    """The reviewed sessions of a GPU model below the folder of baselines, the lowest number first.

    None where there is no folder for them. Raises Unlisted where one cannot be listed, or holds a file that looks like a
    session and would not be compared with: a baseline that silently lacks a part would let a regression through.
    """
    expected = slug(device_name)
    try:
        for name in _entries(folder):
            if name != expected and slug(name) == expected and (folder / name).is_dir():
                raise Unlisted(
                    f"{folder / name} is not read: sessions of {device_name} belong in {expected}. Rename the folder"
                )
            if NUMBERED.fullmatch(name) and (folder / name).is_file():
                raise Unlisted(
                    f"{folder / name} is not read: sessions belong in the folder of their device. "
                    f"Move it there ({folder.name}/{expected}/{name} for {device_name}), or out of {folder}"
                )
        device = folder / expected
        names = _entries(device)
    except OSError as exc:
        to_do = "Let this user read that folder" if isinstance(exc, PermissionError) else "Put a folder there"
        raise Unlisted(
            f"the stored sessions in {exc.filename} cannot be listed: {exc.strerror}. {to_do}, or name another one in "
            "attn_baselines"
        ) from exc
    sessions = _numbered(device, names)
    known = {path.name for path in sessions}
    for name in names:
        if name not in known and _looks_like_a_session(name, known):
            raise Unlisted(
                f"{device / name} is not read: sessions are named NNNN_NAME.json. "
                f"{_how_to_rename(name, sessions)}, or move it out of this folder"
            )
    return sessions


def _looks_like_a_session(name: str, known: set[str]) -> bool:
    """Whether it has `.json` in its name, and is no copy of a session beside it (`0001_a.json~`, `0001_a.json.orig`)."""
    is_a_copy = any(other in name for other in known)
    return ".json" in name.lower() and not name.startswith(".") and not is_a_copy


def _how_to_rename(name: str, sessions: list[Path]) -> str:
    number = 1 + max((int(path.name.split("_")[0]) for path in sessions), default=0)
    stem = re.split(r"\.json", name, maxsplit=1, flags=re.IGNORECASE)[0]
    proposed = f"{number:04}_{re.sub(r'^[0-9]+_', '', stem) or 'session'}.json"
    is_packed = name.lower().endswith((".gz", ".bz2", ".xz", ".zst", ".zip"))
    return f"Unpack it ({proposed})" if is_packed else f"Rename it ({proposed})"


def _numbered(folder: Path, names: Iterable[str]) -> list[Path]:
    files = [folder / name for name in names if NUMBERED.fullmatch(name)]
    return sorted(files, key=lambda file: (int(file.name.split("_")[0]), file.name))


def _entries(folder: Path) -> list[str]:
    """What lies in a folder, sorted; nothing where there is none. Raises OSError, also for a link that leads nowhere."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208
    except FileNotFoundError:
        if folder.is_symlink():
            raise
        return []


def _names(folder: Path, said: list[str]) -> list[str]:
    """The same for a comparison that goes on without it: what cannot be listed is passed over and said."""
    try:
        return _entries(folder)
    except OSError as exc:
        said.append(f"skipped: {folder} cannot be listed: {exc.strerror}")
        return []


def _shown(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder.parent))
