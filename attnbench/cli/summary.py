"""`attnbench summary`: a stored run as the Markdown of a job summary."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.cli.exit_codes import DAMAGED
from attnbench.cli.stored_run import shown
from attnbench.cli.subparser import subparser
from attnbench.codec import Unreadable
from attnbench.report.markdown import markdown, without_run

if TYPE_CHECKING:
    from attnbench.cli.subparser import Subparsers

TEXT = """\
Print a stored run as Markdown: verdicts, worst first, with the command that measures each case again.
GitHub shows it as the summary of a job. No GPU is needed.

example, in a step of GitHub Actions:
  attnbench summary run.json >> "$GITHUB_STEP_SUMMARY"

exit codes: 0, or 4 if the file is missing, damaged or without a case; the Markdown says so too.
"""


def add_parser(commands: Subparsers) -> None:
    """Add `attnbench summary`."""
    parser = subparser(commands, "summary", run, "print a stored run as Markdown", TEXT)
    parser.add_argument("file", type=Path, metavar="FILE", help="written by --benchmark-json or --benchmark-save")


def run(options: argparse.Namespace, arguments: list[str]) -> int:
    """Print Markdown in UTF-8, whatever the locale; where there is no run, Markdown that says why."""
    del arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    try:
        text, code = shown(options.file, markdown), 0
    except Unreadable as exc:
        sys.stderr.write(f"attnbench: {exc}\n")
        text, code = without_run(str(exc)), DAMAGED
    sys.stdout.write(text)
    return code
