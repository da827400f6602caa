"""What a kernel raises, as the reason of its row."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attnbench.hardware.device import context_is_lost
from attnbench.model import CaseEnded, Reason, Status

#: What pytest and unittest call what a test says of itself; a kernel is no test, so they are its errors.
_OUTCOMES = {"Skipped": "pytest.skip", "XFailed": "pytest.xfail", "Failed": "pytest.fail", "Exit": "pytest.exit"}
_SKIPS = ("Skipped", "XFailed", "SkipTest")


class EndedFromOutside(BaseException):
    """Whoever ends a case from outside, such as its time limit, raises one of these: it is no kernel's error."""


def is_from_outside(exc: BaseException) -> bool:
    """Whether what came out of foreign code was put into it: Ctrl-C, a signal, a time limit."""
    return isinstance(exc, (KeyboardInterrupt, EndedFromOutside))


@contextmanager
def errors_as_rows(what: str, code: str, device: str, *, of_a_test: bool = False) -> Iterator[None]:
    """Turn whatever a kernel raises inside into CaseEnded(error): its row, and the session goes on.

    Whatever, because a kernel that skips or expects its failure with pytest's words would else be a green test, and
    Rust's panics and asyncio's cancellation are no `Exception` either. of_a_test: what runs inside may be the test's own,
    a fixture, whose `pytest.skip` is meant.
    """
    try:
        yield
    except CaseEnded:
        raise
    except BaseException as exc:
        if is_from_outside(exc) or isinstance(exc, GeneratorExit) or (of_a_test and _outcome(exc)):
            raise
        no_memory = "OutOfMemory" in type(exc).__name__ or "can't allocate memory" in _words(exc)
        if isinstance(exc, MemoryError) or no_memory:
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
    name = _outcome(exc) or type(exc).__name__
    text = _words(exc).partition("Set TORCHDYNAMO_VERBOSE")[
        0
    ]  # and how to get a stack trace, which is not to be had here
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return f"{name}{_raised_at(exc)}"
    first, *others = lines
    if first.endswith(" raised:") and others:  # dynamo, of a compiler: its words, where they came up, and advice
        first += f" {others[0]}"
    elif first.endswith(":") and others:
        first += " " + next((line for line in others if "error: " in line), others[-1])
    elif re.fullmatch(r"\w+:", first) and not others:
        first = f"{first[:-1]}{_raised_at(exc)}"
    if type(exc).__name__ in _SKIPS and _outcome(exc):
        first += " (a kernel cannot skip its case: say in `requires` or `refuses` where it does not run)"
    return f"{name}: {first}"


def _outcome(exc: BaseException) -> str:
    """`pytest.skip`, where that is what was raised; empty for every error proper."""
    for kind in type(exc).__mro__:  # by their names: pytest is not to be imported here
        if kind.__module__ == "unittest.case" and kind.__name__ == "SkipTest":
            return "unittest.SkipTest"
        if kind.__module__ == "_pytest.outcomes" and kind.__name__ in ("OutcomeException", "Exit"):
            return _OUTCOMES.get(type(exc).__name__, type(exc).__name__)
    return ""


def _words(exc: BaseException) -> str:
    """Its own words; an exception that cannot be turned into words says that."""
    try:
        return str(exc)
    except Exception as broken:
        return f"(its message cannot be shown: {type(broken).__name__})"


def _raised_at(exc: BaseException) -> str:
    """` in NAME (FILE, line N)`, empty for one that was never raised."""
    frames = traceback.extract_tb(exc.__traceback__)
    if not frames:
        return ""
    last = frames[-1]
    return f" in {last.name} ({'/'.join(Path(last.filename).parts[-3:])}, line {last.lineno})"
