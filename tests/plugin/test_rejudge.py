"""scripts/rejudge: stored runs against sessions of one's choice."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SESSIONS = ROOT / "baselines" / "nvidia-h200"


def rejudge(*arguments: object) -> str:
    command = [sys.executable, ROOT / "scripts" / "rejudge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_stored_run_is_judged_by_the_sessions_that_are_named(tmp_path):
    first, second, third = sorted(SESSIONS.glob("000[678]_*.json"))  # of one GPU, ten minutes apart
    folder = tmp_path / SESSIONS.name
    folder.mkdir()
    shutil.copy(first, folder)
    one = rejudge("--baselines", tmp_path, third)
    assert "no change: 14 unchanged" in one
    assert "runs with a false regressed: 0 of 1" in one
    shutil.copy(second, folder)
    two = rejudge("--baselines", tmp_path, third)
    assert "limits 2.2" in one
    assert "limits 1.99" in two  # two sessions carry a smaller limit than one
