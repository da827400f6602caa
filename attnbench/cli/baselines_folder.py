"""Where the sessions of a project lie."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from attnbench.cli.pytest_command import pytest_command
from attnbench.codec import Unreadable
from attnbench.storage.folders import ANSWER

DEFAULT = "baselines"


def baselines_folder(arguments: Sequence[str] = ()) -> Path:
    """The folder that the ini key attn_baselines names for a pytest with these arguments; without the key `baselines` here.

    Raises Unreadable where pytest refuses the arguments or its ini file.
    """
    asked = subprocess.run(
        pytest_command("-p", "attnbench.plugin.baselines_folder", *arguments),
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,  # Ctrl-C in a terminal reaches this process only
    )
    if asked.returncode:
        lines = [line for line in asked.stderr.splitlines() if line.strip()]
        why = lines[-1].removeprefix("ERROR: ") if lines else f"exit code {asked.returncode}"
        raise Unreadable(f"pytest cannot tell which folder the ini key attn_baselines names: {why}")
    folders = [line.removeprefix(ANSWER) for line in asked.stdout.splitlines() if line.startswith(ANSWER)]
    if not folders:
        return Path(DEFAULT)
    return Path(min(folders[-1], os.path.relpath(folders[-1]), key=len))
