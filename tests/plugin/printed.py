"""What a run printed, without the line breaks that the terminal's width asks for."""

from __future__ import annotations

import re

import pytest

#: What a sentence begins with that may go on below: an entry of a block, or what a test fails with.
_BEGINS = re.compile(r"  \S|[A-Z-]+ \S+ · \S+: ")


def sentences(result: pytest.RunResult) -> pytest.LineMatcher:
    """The lines, where what is indented by two more than an entry of a block continues its sentence."""
    joined: list[str] = []
    for line in result.outlines:
        continues = line.startswith("    ") and not line.startswith("     ")
        if continues and joined and _BEGINS.match(joined[-1]):
            joined[-1] += f" {line.strip()}"
        else:
            joined.append(line)
    return pytest.LineMatcher(joined)
