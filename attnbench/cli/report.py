"""`attnbench report`: stored runs again, as the tables that they printed, or in any other format."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.cli.exit_codes import DAMAGED, NOTHING_FOUND
from attnbench.cli.stored_run import shown
from attnbench.cli.subparser import subparser
from attnbench.codec import Unreadable
from attnbench.report.bundle import FORMATS, NAMES, USUAL, rendered, tables, texts, write
from attnbench.report.gather import SUFFIXES_OF_LINES, Gathered, Outcome, gather, summary

if TYPE_CHECKING:
    from attnbench.cli.subparser import Subparsers

TEXT = f"""\
Show stored runs again. No GPU is needed, and the same files give the same bytes.

Without -o and --format it prints what each run printed after its tests, as --format text does. With -o it writes a
folder with one page for everything, {", ".join(USUAL[1:])}. FILES are sessions, runs,
JSON lines of attnbench or of kernels-benchmarks, and folders of them, of one GPU or several.

examples:
  attnbench report run.json
  attnbench report -o report run.json                    then open report/index.html
  attnbench report -o report baselines/nvidia-h200 run.json
  attnbench report -o report --history baselines/nvidia-h200
  attnbench report --format csv run.json > latency.csv

exit codes: 0 done, 1 no record was found, 2 wrong usage, 4 a file is missing, damaged or of another schema (the others
are shown), or DIR cannot be written to.
"""


def add_parser(commands: Subparsers) -> None:
    """Add `attnbench report`."""
    parser = subparser(commands, "report", run, "show stored runs: tables, a page, plots, CSV and more", TEXT)
    parser.add_argument("-v", "--verbose", action="store_true", help="add what the verdicts rest on, as pytest -v does")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="write files into this folder")
    parser.add_argument(
        "--format",
        dest="formats",
        action="append",
        choices=FORMATS,
        help="repeatable; without -o one format of text goes to standard output",
    )
    parser.add_argument(
        "--history",
        action="store_true",
        help="add how each latency changed over the runs: plots, and a table in the page",
    )
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="written by --benchmark-json, --benchmark-save, attnbench record or attnbench report; or a folder",
    )


def run(options: argparse.Namespace, arguments: list[str]) -> int:
    """Print or write. The exit code is the worst of all files."""
    del arguments
    if options.output is None and options.formats is None and any(map(_holds_several, options.files)):
        options.formats = ["text"]
    if options.output is None and options.formats is None:
        return _print_tables(options.files, options.verbose)
    if options.output is None and (len(options.formats) > 1 or options.formats[0] not in NAMES):
        options.parser.error(f"--format {' '.join(options.formats)}: name a folder with -o DIR")
    with _seldom_collected():
        return _report(options)


def _holds_several(path: Path) -> bool:
    """Whether it may hold several runs: a folder, or JSON lines."""
    # Unlike pathlib's, this is_dir raises nothing: whoever reads the file says why it cannot.
    return os.path.isdir(path) or path.suffix.lower() in SUFFIXES_OF_LINES  # noqa: PTH112


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """The garbage collector runs seldom: of the millions of objects of a report hardly any are garbage."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _report(options: argparse.Namespace) -> int:
    """Write the formats that were asked for. The exit code is the worst of all files."""
    gathered = gather([str(file) for file in options.files])
    messages = sys.stderr if options.output is None else sys.stdout
    messages.write("".join(f"{line}\n" for line in summary(gathered)))
    if not gathered.records:
        return NOTHING_FOUND
    if options.output is None:
        sys.stdout.write(texts(gathered, options.verbose)[options.formats[0]]())
    elif not _write_folder(gathered, options):
        return DAMAGED
    return 0 if all(file.outcome in (Outcome.FOUND, Outcome.EMPTY) for file in gathered.files) else DAMAGED


def _write_folder(gathered: Gathered, options: argparse.Namespace) -> bool:
    """Write the report; whether it could be written."""
    folder: Path = options.output
    chosen = options.formats or USUAL
    files, sentences = rendered(gathered, chosen, _descriptions(), options.history, details=options.verbose)
    try:
        write(folder, files)
    except OSError as exc:
        sys.stderr.write(f"attnbench: {folder} cannot be written to: {exc.strerror}\n")
        return False
    for sentence in sentences:
        sys.stdout.write(f"{sentence}\n")
    for name in files:
        sys.stdout.write(f"wrote {folder / name}\n")
    return True


def _descriptions() -> dict[str, str]:
    """By backend of this package, what it is."""
    from attnbench.backends import families
    from attnbench.backends.registry import all_backends

    assert families.FAMILIES
    return {backend.name: backend.description for backend in all_backends().values()}


def _print_tables(files: list[Path], details: bool) -> int:
    """Print every file, with its name above it if there are several."""
    code = 0
    for file in files:
        try:
            text = shown(file, partial(tables, details=details))
        except Unreadable as exc:
            sys.stdout.flush()
            sys.stderr.write(f"attnbench: {exc}\n")
            code = DAMAGED
        else:
            sys.stdout.write(f"{file}:\n{text}\n" if len(files) > 1 else text)
    return code
