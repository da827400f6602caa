"""What fresh processes of the tests are started with."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def environment(without: tuple[str, ...] = ("ATTN_", "PYTEST_"), **variables: str) -> dict[str, str]:
    """This process's, without what begins so, with attnbench importable from this tree, and with these variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(without)}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**kept, "PYTHONPATH": path, **variables}
