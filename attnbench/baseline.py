"""The folder of stored runs: what lies there, whether it can be read, and what a bare comparison is made with (layer 1).

    baselines/<gpu slug>/NNNN_<id>.json      reviewed sessions, part of the repository
    baselines/<machine id>/NNNN_<name>.json  what a user saved with --benchmark-save: git-ignored, never in a verdict

The second folder is where pytest-benchmark itself saves, so its own `--benchmark-compare=0003` finds it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbench.records import Unreadable

#: pytest-benchmark's machine id: `Linux-CPython-3.11-64bit`.
_MACHINE_ID = re.compile(r"[^-]+-[^-]+-[\d.]+-\d+bit")
_NUMBERED = re.compile(r"(\d{4,})_.+\.json")
_STATS = ("min", "max", "mean", "stddev", "median", "iqr", "rounds")


@dataclass(frozen=True)
class Choice:
    """What a bare `--benchmark-compare` compares with, and the sentences that say why and what was passed over."""

    path: Path | None
    said: tuple[str, ...]


def choose(folder: Path, device_slug: str | None) -> Choice:
    """The newest own save with measurements; without one, the newest reviewed session of this device model.

    Files that cannot be read, or that hold no measurement, are passed over and named.
    """
    said: list[str] = []
    own = _newest(_files(folder, own=True), said)
    reviewed_folder = folder / device_slug if device_slug else None
    reviewed = _newest(_numbered(reviewed_folder) if reviewed_folder else [], said)
    if own is not None:
        beside = f"; newest reviewed session: {_shown(reviewed, folder)}" if reviewed else ""
        said.append(f"comparing with your newest save {_shown(own, folder)}{beside}")
    elif reviewed is not None:
        said.append(f"comparing with the newest reviewed session {_shown(reviewed, folder)} (no save of your own)")
    else:
        said.append(f"nothing to compare with in {folder}: save a run first with --benchmark-save=NAME")
    return Choice(own or reviewed, tuple(said))


def matching(folder: Path, machine_id: str, pattern: str) -> list[Path]:
    """Files that pytest-benchmark would load for `--benchmark-compare=PATTERN`: a path, `0003`, or `nvidia-h200/0003`."""
    path = Path(pattern)
    if path.is_file():
        return [path]
    if len(path.parts) > 2:
        return []
    parent = path.parts[0] if len(path.parts) == 2 else machine_id
    return sorted(folder.glob(f"{parent}/{path.name.rstrip('*')}*.json"))


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
    if "machine_info" not in document:
        raise Unreadable(f"{path} is not from pytest-benchmark: it has no 'machine_info'")
    return document


def _check_entry(path: Path, at: int, entry: Any) -> None:
    if not isinstance(entry, dict) or not isinstance(entry.get("fullname"), str):
        raise Unreadable(f"{path}: entry {at} of 'benchmarks' has no 'fullname'")
    stats = entry.get("stats")
    missing = [s for s in _STATS if not isinstance(stats, dict) or not isinstance(stats.get(s), (int, float))]
    if missing:
        raise Unreadable(f"{path}: entry {at} of 'benchmarks' ({entry['fullname']}) lacks stats {', '.join(missing)}")


def _files(folder: Path, own: bool) -> list[Path]:
    if not folder.is_dir():
        return []
    children = (child for child in folder.iterdir() if child.is_dir())
    return [f for child in children if bool(_MACHINE_ID.fullmatch(child.name)) == own for f in _numbered(child)]


def _numbered(folder: Path) -> list[Path]:
    return [f for f in folder.glob("*.json") if _NUMBERED.fullmatch(f.name)] if folder.is_dir() else []


def _newest(files: list[Path], said: list[str]) -> Path | None:
    """The file with the highest number (then the latest) that can be read; the others on the way are said."""
    for path in sorted(files, key=lambda f: (int(f.name.split("_")[0]), f.stat().st_mtime), reverse=True):
        try:
            check_benchmark_file(path)
        except Unreadable as exc:
            said.append(f"passed over: {exc}")
        else:
            return path
    return None


def _shown(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder.parent))
