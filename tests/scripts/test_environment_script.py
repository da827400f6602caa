"""scripts/environment.sh: whatever ends it ends the installation too, which GitHub's runner signals no process of."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Stands in for Python: makes a `.venv` that holds itself, and as pip does not come back.
PYTHON = """#!/usr/bin/env bash
case "$*" in
    *"-m venv"*) mkdir -p "${@: -1}/bin" && cp "$0" "${@: -1}/bin/python" ;;
    *"-m pip"*) echo $$ >"$PID_FILE" && exec sleep 60 ;;
esac
"""


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_to_the_script_alone_ends_pip(tmp_path, sent):
    clone, stand_in, pid_file = tmp_path / "clone", tmp_path / "bin" / "python3", tmp_path / "pid"
    shutil.copytree(ROOT / "scripts", clone / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, clone)
    stand_in.parent.mkdir()
    stand_in.write_text(PYTHON)
    stand_in.chmod(0o755)
    environment = {**os.environ, "PATH": f"{stand_in.parent}:{os.environ['PATH']}", "PID_FILE": str(pid_file)}
    environment.pop("ATTN_PYTHON", None)
    script = subprocess.Popen(
        [clone / "scripts" / "bench", "--version"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    pid = int(until(lambda: pid_file.exists() and pid_file.read_text()))
    try:
        script.send_signal(sent)
        _, said = script.communicate(timeout=30)
        assert script.returncode == 128 + signal.SIGTERM
        assert said.splitlines() == [
            f"attnbench: installing into {clone}/.venv (on the first start and when pins change)"
        ]
        until(lambda: not Path(f"/proc/{pid}/cmdline").exists())
    finally:
        script.kill()
        if Path(f"/proc/{pid}/cmdline").exists():
            os.kill(pid, signal.SIGKILL)


def until(condition):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")
