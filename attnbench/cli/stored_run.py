"""A stored run, read for people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attnbench.codec import Unreadable, run_from
from attnbench.model import RunFile
from attnbench.storage.benchmark_json import load_document


def load_run(path: Path) -> RunFile:
    """The run in a file that pytest-benchmark wrote. Raises Unreadable with a sentence that begins with the path."""
    document = load_document(path)
    try:
        return run_from(document)
    except Unreadable as exc:
        raise Unreadable(f"{path}: {exc}") from exc


def shown(path: Path, show: Callable[[RunFile], str]) -> str:
    """What `show` makes of the run. Raises Unreadable, also for a run without a case or with impossible values."""
    run = load_run(path)
    try:
        text = show(run)
    except (ArithmeticError, ValueError) as exc:  # a file of the right form, whose values no run can have
        raise Unreadable(f"{path} cannot be shown: {exc}") from exc
    if not run.records:
        raise Unreadable(f"{path} holds no case: that run selected none")
    return text
