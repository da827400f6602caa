"""The command `attnbench`: its arguments, and how it ends."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from attnbench import __version__, dependencies
from attnbench.cli import list as list_
from attnbench.cli import noise, record, report, summary
from attnbench.cli.exit_codes import DAMAGED, INTERRUPTED
from attnbench.codec import Unreadable

DESCRIPTION = """\
attnbench catches latency, accuracy and memory regressions of attention kernels.
`pytest --benchmark-only` measures and compares; these commands do the rest.
"""
EPILOG = """\
examples:
  attnbench list --attn-backend='flash_attn*'    what is ready here, and why the rest is not
  attnbench record --sessions=4                  measure a baseline on this GPU
  attnbench summary run.json                     a stored run as Markdown

exit codes:
  0  done
  1  the session was refused (record), or no record was found (report)
  2  wrong usage, or ended by Ctrl-C or another signal
  4  a file is damaged, or is not a stored run
  list and record otherwise end with the exit code of pytest

`attnbench COMMAND --help` explains one command, `pytest --help` the --attn-* options.
"""
SUBCOMMANDS = (list_, record, report, summary, noise)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code. Raises SystemExit for wrong usage (2), --help and --version (0)."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that cannot show `×` gets an escape
    options, rest = parse(arguments)
    if lacking := dependencies.missing():
        options.parser.error(lacking)
    try:
        code: int = options.run(options, rest)
        sys.stdout.flush()
    except Unreadable as exc:
        sys.stderr.write(f"attnbench: {exc}\n")
        return DAMAGED
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        sys.stderr.write("attnbench: interrupted (Ctrl-C)\n")
        return INTERRUPTED
    return code


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The options of a subcommand, whose function is `run`, and the arguments that pytest gets."""
    parser = argparse.ArgumentParser(
        prog="attnbench",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"attnbench {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for module in SUBCOMMANDS:
        module.add_parser(commands)
    options, rest = parser.parse_known_args(arguments)
    if not hasattr(options, "run"):
        parser.print_help(sys.stderr)
        parser.exit(2, "\nattnbench: error: a COMMAND is missing\n")
    if rest and not options.passes_on:
        options.parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options, rest
