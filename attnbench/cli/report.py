"""`attnbench report`: the tables of stored runs again, in the bytes that the runs printed."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.cli.exit_codes import DAMAGED
from attnbench.cli.stored_run import shown
from attnbench.cli.subparser import subparser
from attnbench.codec import Unreadable
from attnbench.model import RunFile
from attnbench.report.terminal import section

if TYPE_CHECKING:
    from attnbench.cli.subparser import Subparsers

TEXT = """\
Print what a run printed after its tests: latencies, verdicts and what was not measured. No GPU is needed.

examples:
  pytest --benchmark-only --benchmark-json=run.json
  attnbench report run.json
  attnbench report -v baselines/nvidia-h200/*.json

exit codes: 0, or 4 if a file is damaged or is not a stored run; the other files are printed.
"""


def add_parser(commands: Subparsers) -> None:
    """Add `attnbench report`."""
    parser = subparser(commands, "report", run, "print the tables of stored runs", TEXT)
    parser.add_argument("-v", "--verbose", action="store_true", help="add what the verdicts rest on, as pytest -v does")
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="written by --benchmark-json, --benchmark-save or attnbench record",
    )


def run(options: argparse.Namespace, arguments: list[str]) -> int:
    """Print every file, with its name above it if there are several."""
    del arguments
    files: list[Path] = options.files
    code = 0
    for file in files:
        try:
            text = shown(file, partial(_section, details=options.verbose))
        except Unreadable as exc:
            sys.stdout.flush()
            sys.stderr.write(f"attnbench: {exc}\n")
            code = DAMAGED
        else:
            sys.stdout.write(f"{file}:\n{text}\n" if len(files) > 1 else text)
    return code


def _section(run: RunFile, details: bool) -> str:
    return "".join(f"{line}\n" for line in section(run, details))
