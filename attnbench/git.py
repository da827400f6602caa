"""Asking git about the repository that a folder is in, and no other."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from attnbench.codec import Unreadable

#: These make git look at another repository than the one that the folder is in; git sets them in a hook.
_REPOSITORY_VARIABLES = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_NAMESPACE"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE"),
)


def ask_git(folder: Path, *arguments: str, given: bytes | None = None) -> bytes:
    """What git prints on standard output. Raises Unreadable with git's own message.

    given: standard input.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _REPOSITORY_VARIABLES}
    environment |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, input=given or b"", capture_output=True, env=environment, check=False)
    except OSError as exc:
        raise Unreadable(f"git cannot be started: {exc.strerror}") from exc
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        message = re.sub("^(fatal|error): ", "", " ".join(lines)) if lines else f"exit code {done.returncode}"
        raise Unreadable(f"git {arguments[0]} in {folder}: {message}")
    return done.stdout
