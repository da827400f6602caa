"""Which stored run a `--benchmark-compare` compares with, and what it passes over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.codec import Unreadable
from attnbench.fingerprint import slug
from attnbench.storage.benchmark_json import load_document
from attnbench.storage.folders import MACHINE_ID, Unlisted, entries, numbered, numbered_among, session_files

#: A reviewed session with less than this share of the fullest one's cases is incomplete: most of a run would not find its
#: case there.
_COMPLETE = 0.5


@dataclass(frozen=True)
class ComparisonFile:
    """What a bare `--benchmark-compare` compares with; None without one.

    messages: what was passed over, and that nothing is left. choice: a sentence with the path and why, empty without one.
    """

    path: Path | None
    messages: tuple[str, ...]
    choice: str = ""


def find_comparison_file(folder: Path, device_name: str) -> ComparisonFile:
    """The newest own save that measured `device_name`; without one, the newest complete session of that GPU model.

    A session is complete if it has at least half of the cases of the fullest one. Files that cannot be read or hold no
    measurement are passed over and named, and so are newer incomplete sessions. Own saves of other devices are counted.
    """
    own, own_messages = _newest_own_save(folder, device_name)
    sessions, session_messages = _reviewed_sessions(folder, device_name)
    reviewed = _newest_complete(sessions)
    skipped = (*own_messages, *session_messages)
    if own is not None:
        beside = f"; latest complete reviewed session: {_shown(reviewed.path, folder)}" if reviewed else ""
        choice = f"comparing with {_shown(own.path, folder)} (latest local save){beside}"
        return ComparisonFile(own.path, skipped, choice)
    if reviewed is not None:
        incomplete = sessions[: sessions.index(reviewed)]
        choice = (
            f"comparing with {_shown(reviewed.path, folder)} (latest complete reviewed session; no local save fits)"
        )
        return ComparisonFile(reviewed.path, (*skipped, *_incomplete(incomplete, folder)), choice)
    nothing = f"nothing to compare with for {device_name} in {folder}: save a run first with --benchmark-save=NAME"
    return ComparisonFile(None, (*skipped, nothing))


def matching(folder: Path, machine_id: str, pattern: str) -> list[Path]:
    """Files that pytest-benchmark would load for `--benchmark-compare=PATTERN`: a path, `0003`, or `nvidia-h200/0003`.

    Raises Unreadable if a folder that it would look into cannot be listed: pytest-benchmark finds nothing there.
    """
    path = Path(pattern)
    if path.exists() and not path.is_dir():
        return [path]
    if len(path.parts) > 2 or path.is_absolute():
        return []
    parent = path.parts[0] if len(path.parts) == 2 else machine_id
    name = f"{path.name.rstrip('*')}*.json"
    try:
        for searched in (folder, *(below for below in folder.glob(parent) if below.is_dir())):
            entries(searched)
    except OSError as exc:
        raise Unreadable(f"{exc.filename} cannot be listed: {exc.strerror}") from exc
    return sorted([*folder.glob(f"{parent}/{name}"), *folder.glob(name)])


@dataclass(frozen=True)
class _StoredRun:
    path: Path
    device: str
    saved_at: str  # ISO 8601, UTC: sorts as text
    cases: int


def _newest_own_save(folder: Path, device_name: str) -> tuple[_StoredRun | None, list[str]]:
    """The newest save of this device, and messages. Numbers are compared within a machine id, dates between them."""
    names, messages = _names(folder)
    newest: list[_StoredRun] = []
    other_devices: Counter[str] = Counter()
    for machine in (folder / name for name in names if MACHINE_ID.fullmatch(name)):
        saves, unlistable = _names(machine)
        messages += unlistable
        for path in reversed(numbered_among(machine, saves)):
            run, unreadable = _stored_run(path)
            messages += unreadable
            if run is not None and run.device == device_name:
                newest.append(run)
                break
            if run is not None:
                other_devices[run.device] += 1
    if other_devices:
        counts = ", ".join(f"{count} of {device}" for device, count in other_devices.items())
        messages.append(f"skipped local saves of other devices: {counts}")
    return max(newest, key=lambda run: run.saved_at, default=None), messages


def _reviewed_sessions(folder: Path, device_name: str) -> tuple[list[_StoredRun], list[str]]:
    """The readable sessions of this device, newest first, and messages."""
    files, messages = _session_files(folder, device_name)
    runs = [_stored_run(path) for path in reversed(files)]
    unreadable = [message for _, of_file in runs for message in of_file]
    return [run for run, _ in runs if run is not None], [*messages, *unreadable]


def _session_files(folder: Path, device_name: str) -> tuple[list[Path], list[str]]:
    """The sessions of this device; files that a verdict would refuse are passed over, with a message."""
    try:
        return session_files(folder, device_name), []
    except Unlisted as exc:
        messages = [f"skipped: {exc}"]
    try:
        return numbered(folder / slug(device_name)), messages
    except OSError:  # the message says so already
        return [], messages


def _newest_complete(sessions: Sequence[_StoredRun]) -> _StoredRun | None:
    """sessions: newest first."""
    fullest = max((run.cases for run in sessions), default=0)
    return next((run for run in sessions if run.cases >= _COMPLETE * fullest), None)


def _incomplete(sessions: Sequence[_StoredRun], folder: Path) -> tuple[str, ...]:
    if not sessions:
        return ()
    names = ", ".join(_shown(run.path, folder) for run in sessions)
    return (f"skipped, with fewer than half of the cases of the largest session: {names}",)


def _stored_run(path: Path) -> tuple[_StoredRun | None, list[str]]:
    """A file that can be compared with; None and a message if it cannot."""
    try:
        document = load_document(path, need_measurements=True)
    except Unreadable as exc:
        return None, [f"skipped: {exc}"]
    device = str(document["machine_info"].get("device") or "an unknown device")
    return _StoredRun(path, device, str(document.get("datetime", "")), len(document["benchmarks"])), []


def _names(folder: Path) -> tuple[list[str], list[str]]:
    """What lies in a folder, and a message if it cannot be listed: the comparison goes on without it."""
    try:
        return entries(folder), []
    except OSError as exc:
        return [], [f"skipped: {folder} cannot be listed: {exc.strerror}"]


def _shown(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder.parent))
