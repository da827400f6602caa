"""How a process that traced CUDA kernels ends: with pytest's exit code.

torch's profiler now and then leaves the heap damaged on CUDA. With torch 2.11.0+cu130 on an H200, 3 of 11 processes that
had traced their kernels were aborted while the interpreter was being torn down ("free(): invalid pointer", "double free or
corruption"), after everything was measured, printed and saved; of 14 that ran the same kernels untraced, none was. Such an
abort would turn a green run into exit code 134, so a traced `pytest` program ends without the tear-down. So does one whose
CUDA context is lost: destructors that call CUDA then may end the process as well.
"""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path

import pytest

from attnbench.hardware.device import has_lost_context


class QuickExit:
    """Registered early, so that what others asked to be done at exit is done before it."""

    def __init__(self) -> None:
        self._session: pytest.Session | None = None
        self._code: int | None = None
        atexit.register(self._leave)

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._session = session  # its exit status is final only after the last report

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self) -> None:
        if self._session is not None:
            self._code = int(self._session.exitstatus)
            self._session = None  # a program that calls pytest many times must not keep all that they collected

    def _leave(self) -> None:
        if self._code is None or not _is_the_pytest_program() or not (_cuda_was_traced() or has_lost_context()):
            return
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self._code)


def _cuda_was_traced() -> bool:
    route = sys.modules.get("attnbench.checks.route")  # nobody traced without it
    return route is not None and bool(route.cuda_was_traced())


def _is_the_pytest_program() -> bool:
    """Whether this process is `pytest` or `python -m pytest`, and not somebody's program that calls pytest.main()."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec.name == "pytest.__main__" if spec is not None else Path(sys.argv[0]).name in ("pytest", "py.test")
