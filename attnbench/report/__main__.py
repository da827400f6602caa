"""`python -m attnbench.report FILE`: the section of a stored run again, in the bytes that the run printed.

With `--markdown` the same run as GitHub's job summary, which scripts/job_summary puts where GitHub looks for it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from attnbench.codec import Unreadable, run_from
from attnbench.model import RunFile
from attnbench.report.markdown import markdown, without_run
from attnbench.report.terminal import section
from attnbench.storage.benchmark_json import load_document


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one stored run. Exit code 2 with one sentence for a file that holds none; as Markdown it is a summary, too."""
    parser = argparse.ArgumentParser(
        prog="python -m attnbench.report",
        description="Print the attnbench section of a run stored with --benchmark-json or --benchmark-save.",
    )
    parser.add_argument("--markdown", action="store_true", help="print Markdown for a GitHub job summary")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="add what the verdicts and limits rest on, as pytest -v does"
    )
    parser.add_argument(
        "file", type=Path, help="JSON file that an attnbench run wrote (--benchmark-json, --benchmark-save)"
    )
    options = parser.parse_args(arguments)
    path: Path = options.file
    show = markdown if options.markdown else partial(_section, details=options.verbose)
    try:
        text, code = _shown(path, show), 0
    except Unreadable as exc:
        sys.stderr.write(f"attnbench: {exc}\n")
        text, code = without_run(str(exc)) if options.markdown else "", 2
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _shown(path: Path, show: Callable[[RunFile], str]) -> str:
    document = load_document(path)
    try:
        run = run_from(document)
        text = show(run)
    except Unreadable as exc:
        raise Unreadable(f"{path}: {exc}") from exc
    except (ArithmeticError, ValueError) as exc:  # a file of the right form, whose figures no run can have
        raise Unreadable(f"{path} cannot be shown: {exc}") from exc
    if not run.records:
        raise Unreadable(f"{path} holds no case: that run selected none")
    return text


def _section(run: RunFile, details: bool) -> str:
    return "".join(f"{line}\n" for line in section(run, details))


if __name__ == "__main__":
    # A terminal that cannot show `×` gets an escape instead of a traceback.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(main())
