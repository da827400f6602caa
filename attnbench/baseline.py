"""The folder of stored runs: what lies there, whether it can be read, and what a bare comparison is made with (layer 1).

    baselines/<gpu slug>/NNNN_<id>.json      reviewed sessions, part of the repository
    baselines/<machine id>/NNNN_<name>.json  what a user saved with --benchmark-save: git-ignored, never in a verdict

The second folder is where pytest-benchmark itself saves, so its own `--benchmark-compare=0003` finds it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbench.fingerprint import slug
from attnbench.records import Unreadable, run_from

#: pytest-benchmark's machine id: `Linux-CPython-3.11-64bit`.
MACHINE_ID = re.compile(r"[^-]+-[^-]+-[\d.]+-\d+bit")
NUMBERED = re.compile(r"(\d{4,})_.+\.json")
#: What pytest-benchmark's table reads of a compared run, by default or with --benchmark-columns.
_NUMBERS = ("min", "max", "mean", "stddev", "median", "iqr", "rounds", "iterations")
_STATS: dict[str, tuple[type, ...]] = {**dict.fromkeys(_NUMBERS, (int, float)), "outliers": (str,)}
#: A reviewed session with less than this share of the fullest one's cases leaves most of a run without a neighbour.
_WHOLE = 0.5


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
    sessions = list(_usable(reversed(numbered(folder / slug(device_name))), said))
    fullest = max((one.cases for one in sessions), default=0)
    reviewed = next((one for one in sessions if one.cases >= _WHOLE * fullest), None)
    if own is not None:
        beside = f"; newest whole reviewed session: {_shown(reviewed.path, folder)}" if reviewed else ""
        said.append(f"comparing with your newest save {_shown(own.path, folder)}{beside}")
    elif reviewed is not None:
        if newer := sessions[: sessions.index(reviewed)]:
            named = ", ".join(_shown(one.path, folder) for one in newer)
            said.append(f"passed over, with fewer than half of the cases of the fullest session: {named}")
        said.append(
            f"comparing with the newest whole reviewed session {_shown(reviewed.path, folder)} (no save of your own fits)"
        )
    else:
        said.append(
            f"nothing to compare with for {device_name} in {folder}: save a run first with --benchmark-save=NAME"
        )
    chosen = own or reviewed
    return Choice(chosen.path if chosen else None, tuple(said))


def matching(folder: Path, machine_id: str, pattern: str) -> list[Path]:
    """Files that pytest-benchmark would load for `--benchmark-compare=PATTERN`: a path, `0003`, or `nvidia-h200/0003`."""
    path = Path(pattern)
    if path.is_file():
        return [path]
    if len(path.parts) > 2 or path.is_absolute():
        return []
    parent = path.parts[0] if len(path.parts) == 2 else machine_id
    name = f"{path.name.rstrip('*')}*.json"
    return sorted([*folder.glob(f"{parent}/{name}"), *folder.glob(name)])


def check_benchmark_file(path: Path) -> None:
    """Read a file as pytest-benchmark will. Raises Unreadable with one sentence where that would end in a traceback."""
    load_document(path, need_measurements=True)


def load_document(path: Path, need_measurements: bool = False) -> dict[str, Any]:
    """A stored run as plain data. Raises Unreadable: not readable, not JSON, not pytest-benchmark's, nothing measured."""
    try:
        document = json.loads(path.read_text(encoding="utf8"))
    except OSError as exc:
        raise Unreadable(f"{path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise Unreadable(f"{path} is not text: it is damaged, or no JSON file") from exc
    except json.JSONDecodeError as exc:
        raise Unreadable(f"{path} is not JSON (line {exc.lineno}: {exc.msg}): it is damaged or was cut off") from exc
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
            run_from(document)
        except Unreadable as exc:
            raise Unreadable(f"{path} cannot be used: {exc}") from exc
    return document


def _check_entry(path: Path, at: int, entry: Any) -> None:
    if not isinstance(entry, dict) or not isinstance(entry.get("fullname"), str):
        raise Unreadable(f"{path}: entry {at} of 'benchmarks' has no 'fullname'")
    stats = entry.get("stats")
    found = stats if isinstance(stats, dict) else {}
    missing = [s for s, kind in _STATS.items() if not isinstance(found.get(s), kind) or found[s] != found[s]]  # NaN
    if missing:
        raise Unreadable(f"{path}: entry {at} of 'benchmarks' ({entry['fullname']}) lacks stats {', '.join(missing)}")


def _newest_own(folder: Path, device_name: str, said: list[str]) -> _Stored | None:
    """The newest save of this device. Numbers are compared within a machine id, dates between them."""
    newest: list[_Stored] = []
    others: dict[str, int] = {}
    for machine in sorted(folder.iterdir()) if folder.is_dir() else ():
        if machine.is_dir() and MACHINE_ID.fullmatch(machine.name):
            for stored in _usable(reversed(numbered(machine)), said):
                if stored.device == device_name:
                    newest.append(stored)
                    break
                others[stored.device] = others.get(stored.device, 0) + 1
    if others:
        counted = ", ".join(f"{count} of {device}" for device, count in others.items())
        said.append(f"passed over saves of other devices: {counted}")
    return max(newest, key=lambda stored: stored.saved_at, default=None)


def _usable(files: Iterable[Path], said: list[str]) -> Iterator[_Stored]:
    """The files that can be compared with, newest first; those on the way that cannot are said."""
    for path in files:
        try:
            document = load_document(path, need_measurements=True)
        except Unreadable as exc:
            said.append(f"passed over: {exc}")
        else:
            device = str(document["machine_info"].get("device") or "an unknown device")
            yield _Stored(path, device, str(document.get("datetime", "")), len(document["benchmarks"]))


def numbered(folder: Path) -> list[Path]:
    """Stored runs in one folder, the lowest number first; none where there is no such folder."""
    files = [f for f in folder.glob("*.json") if NUMBERED.fullmatch(f.name)] if folder.is_dir() else []
    return sorted(files, key=lambda f: (int(f.name.split("_")[0]), f.name))


def _shown(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder.parent))
