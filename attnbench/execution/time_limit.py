"""A case in this process ends after --attn-timeout, so that a compilation that hangs costs its own row only."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from attnbench.backends.errors import EndedFromOutside
from attnbench.model import CaseEnded, Reason, Status

#: The shortest time that an interval timer is set to: 0 would switch it off.
_SHORTEST_S = 1e-3


class PastLimit(EndedFromOutside):
    """The time is up. No Exception, because no kernel's `except Exception` may swallow it."""


@contextmanager
def time_limit(left_s: float, limit_s: float, say: Callable[[str], None]) -> Iterator[None]:
    """Interrupt what runs inside after `left_s` seconds, with CaseEnded (error) that names the limit of the whole case.

    By SIGALRM, which Python handles when a library's call returns to it; only a process of its own can be ended at any
    moment (--attn-isolate). What swallows the interruption, or switches the signal off, ends in the same way once it is
    done. Another alarm (pytest-timeout's) that is due earlier stays in force. One that is due later is suspended, and gets
    its handler and its remaining time back. Where SIGALRM cannot be used, `say` gets a sentence why.
    """
    left_s = max(left_s, _SHORTEST_S)
    before = signal.getsignal(signal.SIGALRM)
    why_not = _why_not(before)
    if why_not:
        say(f"--attn-timeout ({limit_s:g} s) has no effect: {why_not}")
        yield
        return
    due_s, every_s = signal.getitimer(signal.ITIMER_REAL)
    if 0 < due_s <= left_s and before is not signal.SIG_IGN:
        yield
        return
    began = time.monotonic()
    signal.signal(signal.SIGALRM, _raise)
    signal.setitimer(signal.ITIMER_REAL, left_s)
    try:
        yield
        if time.monotonic() - began > left_s:
            raise _ended(f"took longer than {limit_s:g} s (--attn-timeout), and could not be stopped")
    except PastLimit:
        raise _ended(f"took longer than {limit_s:g} s (--attn-timeout) and was stopped") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if due_s > 0:
            left_of_theirs_s = due_s - (time.monotonic() - began)
            signal.setitimer(signal.ITIMER_REAL, max(left_of_theirs_s, _SHORTEST_S), every_s)


def _ended(text: str) -> CaseEnded:
    return CaseEnded(Status.ERROR, Reason("time-limit", text))


def _why_not(handler: object) -> str:
    """Why SIGALRM cannot be used and restored; empty where it can."""
    if threading.current_thread() is not threading.main_thread():
        return "pytest does not run in the main thread, so it gets no signals"
    return "a library holds SIGALRM outside Python" if handler is None else ""


def _raise(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise PastLimit
