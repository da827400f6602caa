"""What fresh processes of the tests are started with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

#: A process starts in half the time without plugins that our development tools pull in and nothing here uses. That of
#: hypothesis imports all of hypothesis at the end of every run. That of pytest-rerunfailures leaves a thread and a socket
#: behind every run.
WITHOUT_PLUGINS = " ".join(f"-p no:{name}" for name in ("anyio", "hypothesispytest", "platformdirs", "rerunfailures"))


def environment(without: tuple[str, ...] = ("ATTN_", "PYTEST_"), **variables: str) -> dict[str, str]:
    """This process's, without what begins so, with attnbench importable from this tree, and with these variables.

    pytest loads no plugin that nothing here uses.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(without)}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**kept, "PYTHONPATH": path, "PYTEST_ADDOPTS": WITHOUT_PLUGINS, **variables}


def fresh_triton(*command: str, cwd: Path, interpreted: bool, may_exit_with: tuple[int, ...] = (0,)) -> str:
    """Standard output of Python with this command; whether Triton interprets is settled when a kernel is decorated."""
    there = environment(("ATTN_", "PYTEST_", "TRITON_"), TRITON_CACHE_DIR=str(cwd / "triton"))
    if interpreted:
        there["TRITON_INTERPRET"] = "1"
    ended = subprocess.run(
        [sys.executable, *command],
        check=False,
        cwd=cwd,
        env=there,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode in may_exit_with, ended.stdout + ended.stderr
    return ended.stdout


ONE_AFTER_THE_OTHER = """
import json, sys
for script in json.loads(sys.argv[1]):
    exec(script, {})
"""


def interpreted(*scripts: str, cwd: Path) -> list[Any]:
    """What each of these scripts prints, which is one line of JSON, in one process in which Triton interprets."""
    printed = fresh_triton("-c", ONE_AFTER_THE_OTHER, json.dumps(scripts), cwd=cwd, interpreted=True).splitlines()
    assert len(printed) == len(scripts), printed
    return [json.loads(line) for line in printed]
