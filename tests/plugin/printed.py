"""What a run printed, without the line breaks that the terminal's width asks for."""

from __future__ import annotations

import pytest


def sentences(result: pytest.RunResult) -> pytest.LineMatcher:
    """The lines, where what is indented by two more than an entry of a block continues its sentence."""
    joined: list[str] = []
    for line in result.outlines:
        continues = line.startswith("    ") and not line.startswith("     ")
        if continues and joined and joined[-1].startswith("  ") and not joined[-1].startswith("   "):
            joined[-1] += f" {line.strip()}"
        else:
            joined.append(line)
    return pytest.LineMatcher(joined)
