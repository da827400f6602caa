"""Asking git, of the repository that a folder lies in and no other."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from attnbench.codec import Unreadable

#: Would have git look at another repository than the one that the folder lies in, as in a hook.
_REPOSITORY_VARIABLES = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_NAMESPACE"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE"),
)


def ask_git(folder: Path, *arguments: str, given: bytes | None = None) -> bytes:
    """What git prints. Raises Unreadable with what it said, which may end with what to do."""
    environment = {name: value for name, value in os.environ.items() if name not in _REPOSITORY_VARIABLES}
    environment |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, input=given or b"", capture_output=True, env=environment, check=False)
    except OSError as exc:
        raise Unreadable(f"git cannot be started: {exc.strerror}") from exc
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        said = re.sub("^(fatal|error): ", "", " ".join(words)) if words else f"exit code {done.returncode}"
        raise Unreadable(f"git {arguments[0]} in {folder}: {said}")
    return done.stdout
