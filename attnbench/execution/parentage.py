"""No process that attnbench starts outlives its parent, however the parent ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl


def die_with_parent() -> None:
    """Have the operating system kill this process when its parent is gone. Linux only; elsewhere it does nothing."""
    _dying_with(os.getppid())()


def dying_with_this_process() -> Callable[[], None]:
    """A `preexec_fn` for a child of this process: the child is killed when this process is gone."""
    return _dying_with(os.getpid())


def _dying_with(parent: int) -> Callable[[], None]:
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None).prctl  # looked up here: a child that was only forked should do as little as it can

    def die_with() -> None:
        prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before the kernel was told
            os.kill(os.getpid(), signal.SIGKILL)

    return die_with
