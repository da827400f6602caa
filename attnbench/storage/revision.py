"""Reviewed sessions as a git commit has them, and what the work tree changed in them.

A pull request that makes a kernel slower may also edit the session that would show it. So sessions are read from the commit
that it is based on, by git itself. The work tree's files are only compared with those.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from attnbench import printable
from attnbench.codec import Unreadable
from attnbench.git import ask_git
from attnbench.storage.folders import MACHINE_ID

_SHOWN_DIGITS = 12
_LINK = "120000"  # the mode of a symbolic link in a tree


@dataclass(frozen=True)
class Revision:
    """The folder of baselines in one commit.

    top: the root of the work tree; below: the folder of baselines from there, with slashes; files: blob by path below the
    folder, reviewed sessions of every device.
    """

    ref: str
    commit: str
    top: Path
    below: str
    files: Mapping[str, str]

    @property
    def shown(self) -> str:
        """`HEAD^1 (0f1e2d3c4b5a)`."""
        return f"{self.ref} ({self.commit[:_SHOWN_DIGITS]})"

    def has_changed(self, folder: Path, device: str) -> bool:
        """Whether the sessions of one device folder differ in the work tree."""
        here = {name: blob for name, blob in self._work_tree(folder).items() if name.startswith(f"{device}/")}
        return here != {name: blob for name, blob in self.files.items() if name.startswith(f"{device}/")}

    @contextmanager
    def folder(self, device: str) -> Iterator[Path]:
        """A temporary folder of baselines that holds the sessions of one device folder, as the commit has them.

        Raises Unreadable for a file that git cannot give.
        """
        with tempfile.TemporaryDirectory(prefix="attnbench-") as scratch:
            below = Path(scratch, device)
            below.mkdir()
            for name, blob in self.files.items():
                if name.startswith(f"{device}/"):
                    path = f"--path={posixpath.join(self.below, name)}"
                    content = ask_git(self.top, "cat-file", "--filters", path, blob)
                    below.joinpath(PurePosixPath(name).name).write_bytes(content)
            yield Path(scratch)

    def changes(self, folder: Path) -> tuple[str, ...]:
        """How the work tree's sessions below `folder` differ from the commit's: `edited nvidia-h200/0001_….json`."""
        here = self._work_tree(folder)
        removed = [name for name in self.files if name not in here]
        added = [name for name in here if name not in self.files]
        edited = [f"edited {name}" for name in self.files if name in here and here[name] != self.files[name]]
        renamed = []
        for name in removed:
            moved = next((other for other in added if here[other] == self.files[name]), None)
            if moved is not None:
                added.remove(moved)
            renamed.append(f"removed {name}" if moved is None else f"renamed {name} to {moved}")
        return tuple(map(printable.escaped, (*edited, *renamed, *(f"added {name}" for name in added))))

    def _work_tree(self, folder: Path) -> dict[str, str]:
        """Blob by path of the sessions that are in the folder now; empty for what is not a regular file."""
        paths = sorted(path for path in folder.glob("*/*.json") if not MACHINE_ID.fullmatch(path.parent.name))
        names = [f"{path.parent.name}/{path.name}" for path in paths]
        regular = [name for name in names if folder.joinpath(name).is_file() and "\n" not in name]
        listed = "".join(f"{posixpath.join(self.below, name)}\n" for name in regular)
        blobs = ask_git(self.top, "hash-object", "--stdin-paths", given=os.fsencode(listed)).decode().split()
        return {**dict.fromkeys(names, ""), **dict(zip(regular, blobs, strict=True))}


def open_revision(root: Path, folder: Path, ref: str) -> Revision:
    """The sessions below `folder` in the commit `ref` of the repository that `root`, an existing folder, lies in.

    Links in the commit are followed, as they are in a work tree. Raises Unreadable with one sentence: no git, no
    repository, no such commit here, a folder that lies outside, a link that leads nowhere in the commit.
    """
    if shutil.which("git") is None:
        raise Unreadable(
            "git is not installed, and only it can read the sessions of a commit: install it, or drop the option"
        )
    top = Path(os.fsdecode(ask_git(root, "rev-parse", "--show-toplevel").rstrip(b"\n")))
    prefix = os.fsdecode(ask_git(root, "rev-parse", "--show-prefix").rstrip(b"\n"))
    below = _below(root, folder, top, prefix)
    commit = _commit(top, ref)
    return Revision(ref, commit, top, below, _sessions(top, commit, below))


def _sessions(top: Path, commit: str, below: str) -> dict[str, str]:
    """Blob by path below the folder of baselines, of what may be a session there."""
    _refuse_submodule(top, commit, below)
    blobs: dict[str, str] = {}
    for device, kind, _ in _listed(top, commit, below):
        if kind == "commit":
            _refuse_submodule(top, commit, posixpath.join(below, device))
        if kind == "tree" and not MACHINE_ID.fullmatch(device):
            inside = _listed(top, commit, posixpath.join(below, device))
            names = [(f"{device}/{name}", blob) for name, what, blob in inside if what == "blob"]
            blobs.update((name, blob) for name, blob in names if name.endswith(".json"))
    return blobs


def _refuse_submodule(top: Path, commit: str, folder: str) -> None:
    """Raise Unreadable for a folder in another repository: the commit names its commit, and holds no file of it."""
    above = ""
    for part in PurePosixPath(folder).parts:
        if any(name == part and kind == "commit" for name, kind, _ in _listed(top, commit, above)):
            raise Unreadable(
                f"{posixpath.join(above, part)} is a submodule, so no commit of {top} holds its sessions: "
                "keep them in this repository, or drop the option"
            )
        above = posixpath.join(above, part)


def _listed(top: Path, commit: str, folder: str) -> list[tuple[str, str, str]]:
    """Name, kind (`tree`, `blob`, of a submodule `commit`) and id of what lies in a folder of a commit, links followed."""
    tree = _followed(top, commit, folder)
    if tree is None or tree[0] != "tree":
        return []
    entries = []
    for line in filter(None, os.fsdecode(ask_git(top, "ls-tree", "-z", tree[1])).split("\0")):
        (mode, kind, blob), name = line.partition("\t")[0].split(), line.partition("\t")[2]
        entry: tuple[str, str] | None = (kind, blob)
        if mode == _LINK:
            entry = _followed(top, commit, posixpath.join(folder, name))
        if entry is not None:
            entries.append((name, *entry))
    return entries


def _followed(top: Path, commit: str, path: str) -> tuple[str, str] | None:
    """Kind and id of what is at a path in a commit, all links followed; None without anything."""
    asked = f"{commit}:{path}"
    if "\n" in path:  # git reads one line
        return None
    answer = os.fsdecode(
        ask_git(top, "cat-file", "--batch-check", "--follow-symlinks", given=os.fsencode(f"{asked}\n"))
    )
    first, _, rest = answer.removesuffix("\n").partition("\n")
    if first == f"{asked} missing" or first.startswith("notdir "):
        return None
    blob, kind, _ = f"{first}  ".split(" ", 2)
    if blob in ("symlink", "dangling", "loop"):  # a length follows, and then a path
        leads = f"out of the repository, to {rest}" if blob == "symlink" else "nowhere in that commit"
        raise Unreadable(
            f"{path} is a link that leads {leads}: name another commit, or another folder in attn_baselines"
        )
    return kind, blob


def _below(root: Path, folder: Path, top: Path, prefix: str) -> str:
    """The folder as the repository names it. Links below the root count as they are called: a change may set them."""
    texts = (
        os.path.normpath(Path(prefix, os.path.relpath(folder, root))),
        os.path.relpath(Path(folder).resolve(), top.resolve()),
    )
    for text in texts:
        if not Path(text).is_absolute() and ".." not in Path(text).parts:
            return "" if text == "." else Path(text).as_posix()
    raise Unreadable(
        f"the folder of baselines {folder} is outside the repository {top}, so no commit holds it: drop the option"
    )


def _commit(top: Path, ref: str) -> str:
    try:
        if ref.startswith("-"):  # git would take it for an option
            raise Unreadable("no name")
        return ask_git(top, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").decode().strip()
    except Unreadable:
        is_shallow = ask_git(top, "rev-parse", "--is-shallow-repository").strip() == b"true"
        what_to_do = (
            ", a shallow clone: fetch more of its history (git fetch --deepen=1; for actions/checkout, fetch-depth: 2)"
            if is_shallow
            else ": name a commit, branch or tag that is there"
        )
        raise Unreadable(f"there is no commit {ref!r} in {top}{what_to_do}") from None
