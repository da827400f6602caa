"""What the parsers of all subcommands have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 — it has no public name

#: Gets the options, and the arguments that no parser of ours knows. Returns the exit code.
Run = Callable[[argparse.Namespace, list[str]], int]


def subparser(
    commands: Subparsers, name: str, run: Run, summary: str, text: str, passes_on: bool = False
) -> argparse.ArgumentParser:
    """A parser whose namespace has the function `run`.

    summary: the line in `attnbench --help`; text: what follows it in the subcommand's own, its first paragraph above the
    options and the rest below; passes_on: whether unknown arguments go to pytest.
    """
    head, _, tail = text.partition("\n\n")
    parser = commands.add_parser(
        name,
        help=summary,
        description=head,
        epilog=tail,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, parser=parser, passes_on=passes_on)
    if passes_on:
        parser.usage = "%(prog)s [OPTIONS] [PYTEST ARGUMENTS]"
    return parser
