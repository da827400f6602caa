"""`attnbench list`: which cases are ready here, and why the others are not."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from attnbench.cli.pytest_command import pytest_command
from attnbench.cli.subparser import subparser

if TYPE_CHECKING:
    from attnbench.cli.subparser import Subparsers

TEXT = """\
List every backend, compile mode and workload that would be measured here: ready, or every reason why not.
Kernels that a conftest.py registers are listed too. Nothing is measured.

All arguments go to pytest. The filters are those of a run:
  attnbench list --attn-backend='torch_*' --attn-mode=eager
  attnbench list --attn-workload=flux-1024px-t512
  attnbench list --attn-device=cpu

exit codes: 0, or that of pytest: 4 for an unknown name or an unusable device.
"""


def add_parser(commands: Subparsers) -> None:
    """Add `attnbench list`."""
    subparser(commands, "list", run, "what is ready here, and why the rest is not", TEXT, passes_on=True)


def run(options: argparse.Namespace, arguments: list[str]) -> NoReturn:
    """Become pytest, so that signals reach it and its exit code is ours."""
    del options
    sys.stdout.flush()
    os.execv(sys.executable, pytest_command("--attn-list", "-qq", *arguments))
