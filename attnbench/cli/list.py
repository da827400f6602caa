"""`attnbench list`: which cases are ready here, and why the others are not."""

from __future__ import annotations

import argparse
import subprocess
from typing import TYPE_CHECKING

from attnbench.cli.pytest_command import pytest_command
from attnbench.cli.subparser import subparser
from attnbench.execution.parentage import dying_with_this_process

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


def run(options: argparse.Namespace, arguments: list[str]) -> int:
    """Let pytest list the cases. Its exit code, or 128 and the signal that ended it."""
    del options
    with subprocess.Popen(
        pytest_command("--attn-list", "-qq", *arguments),
        start_new_session=True,  # Ctrl-C in a terminal reaches this process only: pytest would print a traceback
        preexec_fn=dying_with_this_process(),  # noqa: PLW1509  # one system call, and no thread here holds a lock
    ) as listing:
        try:
            code = listing.wait()
        except KeyboardInterrupt:
            listing.kill()
            raise
    return 128 - code if code < 0 else code
