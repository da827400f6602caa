"""The folder of stored runs: which files lie there, and what number the next one gets.

    baselines/<gpu slug>/NNNN_<id>.json      reviewed sessions, part of the repository
    baselines/<machine id>/NNNN_<name>.json  what a user saved with --benchmark-save: git-ignored, never in a verdict

pytest-benchmark itself saves to the second folder, so its own `--benchmark-compare=0003` finds those files.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from attnbench.codec import Unreadable
from attnbench.fingerprint import slug

#: pytest-benchmark's machine id: `Linux-CPython-3.11-64bit`.
MACHINE_ID = re.compile(r"[^-]+-[^-]+-[\d.]+-\d+bit")
NUMBERED = re.compile(r"(\d{4,})_.+\.json")
#: What the line begins with in which a pytest process tells the command `attnbench` its folder: other plugins print, too.
ANSWER = "attnbench-baselines: "


class Unlisted(Unreadable):
    """A folder whose sessions cannot be listed without doubt; the message says what to do."""


def is_absent(path: Path) -> bool:
    """Whether nothing lies there. False where that cannot be found out: whoever reads or writes it then says why."""
    try:
        path.stat()
    except OSError as exc:
        return isinstance(exc, FileNotFoundError)
    return False


def entries(folder: Path) -> list[str]:
    """Names of what lies in a folder, sorted; none without a folder. Raises OSError, also for a link that leads nowhere."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208
    except FileNotFoundError:
        if folder.is_symlink():
            raise
        return []


def numbered(folder: Path) -> list[Path]:
    """Stored runs in one folder, the lowest number first; none without a folder. Raises OSError."""
    return numbered_among(folder, entries(folder))


def numbered_among(folder: Path, names: Iterable[str]) -> list[Path]:
    """The stored runs among these names of a folder, the lowest number first."""
    files = [folder / name for name in names if NUMBERED.fullmatch(name)]
    return sorted(files, key=lambda file: (number_of(file), file.name))


def number_of(file: Path) -> int:
    """The number of a stored run."""
    return int(file.name.split("_")[0])


def next_number(folder: Path) -> int:
    """The number of the next stored run in this folder, so that no two share one. Raises OSError.

    pytest-benchmark looks for a number in the folder above, too, so that one counts if it can be listed.
    """
    taken = numbered(folder)
    with contextlib.suppress(OSError):
        taken += numbered(folder.parent)
    return 1 + max((number_of(path) for path in taken), default=0)


def session_files(folder: Path, device_name: str) -> list[Path]:
    """The reviewed sessions of a GPU model below the folder of baselines, the lowest number first; empty without a folder.

    Raises Unlisted for a folder that cannot be listed, or that holds a file that looks like a session and would not be
    compared with: a baseline that silently lacks a part would let a regression through.
    """
    expected = slug(device_name)
    try:
        for name in entries(folder):
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
        names = entries(device)
    except OSError as exc:
        to_do = "Let this user read that folder" if isinstance(exc, PermissionError) else "Put a folder there"
        raise Unlisted(
            f"the stored sessions in {exc.filename} cannot be listed: {exc.strerror}. {to_do}, or name another one in "
            "attn_baselines"
        ) from exc
    sessions = numbered_among(device, names)
    known = {path.name for path in sessions}
    for name in names:
        if name not in known and _looks_like_a_session(name, known):
            raise Unlisted(
                f"{device / name} is not read: sessions are named NNNN_NAME.json. "
                f"{_how_to_rename(name, sessions)}, or move it out of this folder"
            )
    return sessions


def _looks_like_a_session(name: str, known: set[str]) -> bool:
    """Whether the name has `.json` in it and is not a copy of a session beside it (`0001_a.json~`, `0001_a.json.orig`)."""
    is_a_copy = any(other in name for other in known)
    return ".json" in name.lower() and not name.startswith(".") and not is_a_copy


def _how_to_rename(name: str, sessions: list[Path]) -> str:
    number = 1 + max((number_of(path) for path in sessions), default=0)
    stem = re.split(r"\.json", name, maxsplit=1, flags=re.IGNORECASE)[0]
    proposed = f"{number:04}_{re.sub(r'^[0-9]+_', '', stem) or 'session'}.json"
    is_packed = name.lower().endswith((".gz", ".bz2", ".xz", ".zst", ".zip"))
    return f"Unpack it ({proposed})" if is_packed else f"Rename it ({proposed})"
