"""Which version of its code a backend runs: what is installed, and the repository that it is written in.

Only metadata and git are asked: no library is imported for it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from attnbench.backends import requirements
from attnbench.backends.installed import first_module
from attnbench.codec import Unreadable
from attnbench.git import ask_git
from attnbench.hardware.facts import installed_version
from attnbench.model import DIRTY, REPOSITORY

if TYPE_CHECKING:
    from attnbench.backends.registry import Backend

_PACKAGE = Path(__file__).resolve().parents[1]
_SITE_PACKAGES = ("site-packages", "dist-packages")
_DIGITS = 12
#: Kernels of our own, which change without a new version: their files, by backend.
_OWN_KERNELS = {"triton_fwd": ("kernel.py",), "triton_bwd": ("kernel.py", "kernel_backward.py")}
#: Files of a repository that no kernel is made of: stored sessions, whose commit would make the next one another version's,
#: and texts. As git's patterns, and as a regular expression.
_NO_CODE = ("**/[0-9][0-9][0-9][0-9]*_*.json", "**/*.md", "**/*.rst")
_IS_NO_CODE = re.compile(rb"(^|/)\d{4,}_[^/]*\.json$|\.(md|rst)$")
#: Suffixes of what a kernel is made of, and up to which size a file is read.
_MOST_BYTES = 2**24
_CODE = (".py", ".cu", ".cuh", ".cpp", ".cc", ".h", ".hpp", ".so")
#: Distributions whose kernels a family calls where they are installed, beside those that it requires.
CALLED_TOO = {"xformers": ("flash-attn",), "transformer-engine": ("flash-attn", "flash-attn-4", "flash_attn_3")}


class CodeVersions:
    """Asked by one run, of whose code nothing changes while it lasts."""

    def __init__(self) -> None:
        self._versions: dict[str, dict[str, str]] = {}
        self._installed: dict[str, str] = {}
        self._repositories: dict[Path, str] = {}

    def of(self, backend: Backend) -> dict[str, str]:
        """By distribution, the version of what the backend needs, and under `repository` the code that defines it.

        A build of one's own, which keeps its version while its code changes, is told apart by its files: `2.8.3 (build
        0f1e2d…)`. `repository` is there for a backend that is not an installed distribution's: a hash of all files of the
        commit that may be code, where they were changed since with `+dirty`; outside of git, of the code in its folder.
        What cannot be told is left out.
        """
        if backend.name not in self._versions:
            self._versions[backend.name] = {name: version for name, version in self._asked(backend) if version}
        return self._versions[backend.name]

    def _asked(self, backend: Backend) -> list[tuple[str, str]]:
        names = [one.name for one in backend.requires if isinstance(one, requirements.Distribution)]
        names += [_distribution(one) for one in backend.requires if isinstance(one, requirements.Package)]
        names += CALLED_TOO.get(backend.family, ())
        file = _defined_in(backend)
        repository = ""
        if backend.name in _OWN_KERNELS:
            files = (_PACKAGE / "backends" / "triton" / name for name in _OWN_KERNELS[backend.name])
            repository = _sha256(b"".join(file.read_bytes() for file in files))
        elif file is not None and _PACKAGE not in file.parents:
            if set(_SITE_PACKAGES).isdisjoint(file.parts):
                repository = self._repository(file) or _folder(file)
            else:
                names += _providers(_top_module(file))
        return [*((name, self._version(name)) for name in sorted(set(names))), (REPOSITORY, repository)]

    def _version(self, distribution: str) -> str:
        if distribution not in self._installed:
            self._installed[distribution] = self._looked_up(distribution)
        return self._installed[distribution]

    def _looked_up(self, distribution: str) -> str:
        """Its version, and of a build of one's own what tells this one from the next; empty where it is not installed."""
        try:
            installed = importlib.metadata.distribution(distribution)
            version, origin = str(installed.version), json.loads(installed.read_text("direct_url.json") or "{}")
            commit = origin.get("vcs_info", {}).get("commit_id")
            editable = bool(origin.get("dir_info", {}).get("editable"))
            folder = Path(unquote(urlsplit(origin.get("url", "")).path))
        except (importlib.metadata.PackageNotFoundError, OSError, ValueError, AttributeError):
            return installed_version(distribution) or ""
        if editable:
            code = self._repository(folder / "pyproject.toml")
            return f"{version} (editable, {code})" if code else version
        if commit:
            return f"{version} (commit {str(commit)[:_DIGITS]})"
        return f"{version} (build {_build(installed)})" if origin else version

    def _repository(self, file: Path) -> str:
        if file not in self._repositories:
            self._repositories[file] = _repository(file)
        return self._repositories[file]


def _build(distribution: importlib.metadata.Distribution) -> str:
    """A hash over the installed code, by the lines of RECORD; what pip writes itself differs between environments."""
    listed = (distribution.read_text("RECORD") or "").splitlines()
    code = [line for line in listed if "sha256=" in line and ".dist-info/" not in line and not line.startswith("..")]
    return _sha256("\n".join(sorted(code)).encode())


def _distribution(package: requirements.Package) -> str:
    """What pip calls the package whose module is found first; the module's name where pip knows none."""
    module = first_module(package.module, *package.also) or package.module
    own = package.distribution or package.module
    if module == package.module and installed_version(own) is not None:
        return own
    return next(iter(_providers(module)), module)


def _providers(module: str) -> list[str]:
    """Distributions that the module came with; none where it is not installed, for which nothing is listed."""
    if first_module(module) is None:
        return []
    return sorted(set(importlib.metadata.packages_distributions().get(module, ())))


def _top_module(file: Path) -> str:
    """`kernels` of `…/site-packages/kernels/attention.py`."""
    at = max(at for at, part in enumerate(file.parts) if part in _SITE_PACKAGES)
    return file.parts[at + 1].removesuffix(".py")


def _defined_in(backend: Backend) -> Path | None:
    code = getattr(inspect.unwrap(backend.load), "__code__", None)
    file = Path(code.co_filename) if code is not None else None
    return file.resolve() if file is not None and file.is_file() else None


def _repository(file: Path) -> str:
    """A hash of the commit's files in the work tree that this file lies in; empty where git knows none."""
    try:
        top = Path(os.fsdecode(ask_git(file.parent, "rev-parse", "--show-toplevel").rstrip(b"\n")))
        listed = ask_git(top, "ls-tree", "-r", "--full-tree", "-z", "HEAD").split(b"\0")
        changed = ask_git(top, "diff", "--name-only", "HEAD", "--", ".", *(f":(exclude,glob){one}" for one in _NO_CODE))
        is_known = not file.exists() or ask_git(top, "ls-files", "--", str(file))
    except Unreadable:
        return ""
    code = [one for one in listed if not _IS_NO_CODE.search(one.partition(b"\t")[2])]
    return f"{_sha256(bytes(1).join(code))}{'' if is_known and not changed else DIRTY}"


def _folder(file: Path) -> str:
    """A hash of the code beside this file, itself included, where no repository knows it; empty where it cannot be read.

    Of files above `_MOST_BYTES` the size stands for the content, so that a folder of large libraries costs no second.
    """
    try:
        code = sorted(one for one in file.parent.iterdir() if one.suffix in _CODE and one.is_file())
        parts = [(one.name.encode(), str(size := one.stat().st_size).encode(), _content(one, size)) for one in code]
    except OSError:
        return ""
    return _sha256(bytes(1).join(part for of_one in parts for part in of_one))


def _content(file: Path, size: int) -> bytes:
    return file.read_bytes() if size <= _MOST_BYTES else b""


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]
