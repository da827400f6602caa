"""What every pytest run in the environment pays for the plugin, and what looking at the suite imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "numpy", "msgspec", "triton", "pynvml")


def loaded(after: str) -> str:
    """Which of the heavy modules a fresh process has after running `after`."""
    program = f"import sys\n{after}\nprint('loaded:', *(m for m in {HEAVY} if m in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    return ran.stdout.splitlines()[-1]


def test_importing_the_plugin_loads_nothing_heavy():
    assert loaded("import attnbench.plugin") == "loaded:"


@pytest.mark.parametrize("options", [["--collect-only", "-q"], ["--help"], ["--markers"]], ids=" ".join)
def test_looking_at_the_whole_suite_loads_nothing_heavy(options):
    run = f"import pytest; assert pytest.main({['tests/suite', '-p', 'no:cacheprovider', *options]}) == 0"
    assert loaded(run) == "loaded:"
