"""What a kernel raises, as the reason of its row (layer 2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from attnbench.device import context_is_lost
from attnbench.model import CaseEnded, Reason, Status


@contextmanager
def errors_as_rows(what: str, code: str, device: str) -> Iterator[None]:
    """Turn whatever a kernel raises inside into CaseEnded(error): its row, and the session goes on."""
    try:
        yield
    except CaseEnded:
        raise
    except (Exception, SystemExit) as exc:
        if isinstance(exc, MemoryError) or "OutOfMemory" in type(exc).__name__ or "can't allocate memory" in str(exc):
            reason = Reason("out-of-memory", f"{what}: {describe_error(exc)}")
        elif context_is_lost(device):
            reason = Reason("context-lost", f"{what} and took the CUDA context with it: {describe_error(exc)}")
        else:
            reason = Reason(code, f"{what}: {describe_error(exc)}")
        raise CaseEnded(Status.ERROR, reason) from exc


def describe_error(exc: BaseException) -> str:
    """One line: the type, and the first line.

    Where that one only points at what follows, also the line that names an error as compilers do (`file.h:52: fatal
    error: …`), else the last one.
    """
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    if not lines:
        return type(exc).__name__
    first, *others = lines
    if first.endswith(":") and others:
        first += " " + next((line for line in others if "error: " in line), others[-1])
    return f"{type(exc).__name__}: {first}"
