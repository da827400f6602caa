"""A case in this process ends after --attn-timeout: a compilation that does not come back costs its own row (layer 4)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from attnbench.model import CaseEnded, Reason, Status
from attnbench.termination import is_free


class PastLimit(BaseException):
    """The time is up. No Exception, because no kernel's `except Exception` may swallow it."""


@contextmanager
def time_limit(left_s: float, limit_s: float) -> Iterator[None]:
    """End what runs inside after `left_s` seconds, with CaseEnded (error) that names the limit of the whole case.

    By SIGALRM, so what is in a library's own loop ends when it returns to Python; only another process can be ended at
    any moment (--attn-isolate). Without effect outside the main thread, and where somebody else has the signal.
    """
    if not is_free(signal.SIGALRM):
        yield
        return
    signal.signal(signal.SIGALRM, _raise)
    signal.setitimer(signal.ITIMER_REAL, max(left_s, 1e-3))  # 0 would switch it off
    try:
        yield
    except PastLimit:
        text = f"took longer than {limit_s:g} s (--attn-timeout) and was given up"
        raise CaseEnded(Status.ERROR, Reason("time-limit", text)) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _raise(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise PastLimit
