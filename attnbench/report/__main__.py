"""`python -m attnbench.report FILE`: the section of a stored run again, in the bytes that the run printed (layer 1)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from attnbench.baseline import load_document
from attnbench.records import Unreadable, run_from
from attnbench.report.terminal import section


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the section of one stored run. Exit code 2 with one sentence for a file that holds none."""
    parser = argparse.ArgumentParser(
        prog="python -m attnbench.report",
        description="Print the attnbench section of a run stored with --benchmark-json or --benchmark-save.",
    )
    parser.add_argument("file", type=Path, help="JSON file of pytest-benchmark that an attnbench run wrote")
    path: Path = parser.parse_args(arguments).file
    try:
        lines = _lines(path)
    except Unreadable as exc:
        sys.stderr.write(f"attnbench: {exc}\n")
        return 2
    try:
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _lines(path: Path) -> list[str]:
    document = load_document(path)
    try:
        lines = section(run_from(document))
    except Unreadable as exc:
        raise Unreadable(f"{path}: {exc}") from exc
    if not lines:
        raise Unreadable(f"{path} holds no case: that run selected none")
    return lines


if __name__ == "__main__":
    # A terminal that cannot show `×` gets an escape instead of a traceback.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(main())
