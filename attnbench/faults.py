"""What a kernel raises, as the reason of its row (layer 2)."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    error: …`), else the last one. Where there is none, the place that raised it; dynamo's internal errors are one of
    these when they repeat an exception that said nothing.
    """
    text = str(exc).partition("Set TORCHDYNAMO_VERBOSE")[0]  # and how to get a stack trace, which is not to be had here
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return f"{type(exc).__name__}{_raised_at(exc)}"
    first, *others = lines
    if first.endswith(":") and others:
        first += " " + next((line for line in others if "error: " in line), others[-1])
    elif re.fullmatch(r"\w+:", first) and not others:
        first = f"{first[:-1]}{_raised_at(exc)}"
    return f"{type(exc).__name__}: {first}"


def _raised_at(exc: BaseException) -> str:
    """` in NAME (FILE, line N)`, empty for one that was never raised."""
    frames = traceback.extract_tb(exc.__traceback__)
    if not frames:
        return ""
    last = frames[-1]
    return f" in {last.name} ({'/'.join(Path(last.filename).parts[-3:])}, line {last.lineno})"
