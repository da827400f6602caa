"""Turn what a kernel raises into the reason of its row."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attnbench.hardware.device import context_is_lost
from attnbench.model import CaseEnded, Reason, Status

#: What pytest and unittest call what a test says of itself; a kernel is no test, so they are its errors.
_OUTCOMES = {"Skipped": "pytest.skip", "XFailed": "pytest.xfail", "Failed": "pytest.fail", "Exit": "pytest.exit"}
#: Code whose frame may only be suspended: clearing it would end it, and skip what its owner does behind its `yield`.
_SUSPENDS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_SKIPS = ("Skipped", "XFailed", "SkipTest")


class EndedFromOutside(BaseException):
    """Raised by what ends a case from outside, such as its time limit. It is not a kernel's error."""


def is_from_outside(exc: BaseException) -> bool:
    """Whether an exception did not come from the code that it left, but from Ctrl-C, a signal or a time limit."""
    return isinstance(exc, (KeyboardInterrupt, EndedFromOutside))


@contextmanager
def errors_as_rows(what: str, code: str, device: str, *, of_a_test: bool = False) -> Iterator[None]:
    """Turn whatever is raised inside into CaseEnded (error) with the reason `code` and a text that begins with `what`.

    Not only `Exception`: a kernel that calls `pytest.skip` or `pytest.xfail` would be a green test, and Rust's panics and
    asyncio's cancellation are `BaseException`s. of_a_test: a fixture of the test may run inside, whose `pytest.skip` is
    passed on.
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


def free_frames(exc: BaseException | None) -> None:
    """Let go of what the ended calls of an exception, and of those behind it, hold: tensors of a kernel that failed.

    What was raised stays, and whoever keeps the exception would keep them: in one run 64 GiB, until later cases had no room.
    """
    seen: set[int] = set()
    todo: list[object] = [exc]
    while todo:
        one = todo.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        with suppress(Exception):  # a library's own exception may answer anything
            todo += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
            for frame, _ in traceback.walk_tb(one.__traceback__):
                if not frame.f_code.co_flags & _SUSPENDS:
                    with suppress(RuntimeError):  # it runs still
                        frame.clear()


def describe_error(exc: BaseException) -> str:
    """An exception in one line: its type, and the first line of its message.

    If the first line only introduces others, it is followed by the line that names an error as compilers do (`file.h:52:
    fatal error: …`), else by the last line. If there is no message, it is followed by the place that raised it; that holds
    for dynamo's internal errors too, when they repeat an exception without a message.
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
    """`pytest.skip`, where that is what was raised; empty for an error."""
    for kind in type(exc).__mro__:  # by their names: pytest is not to be imported here
        if kind.__module__ == "unittest.case" and kind.__name__ == "SkipTest":
            return "unittest.SkipTest"
        if kind.__module__ == "_pytest.outcomes" and kind.__name__ in ("OutcomeException", "Exit"):
            return _OUTCOMES.get(type(exc).__name__, type(exc).__name__)
    return ""


def _words(exc: BaseException) -> str:
    """Its message. One that cannot be converted to text is replaced by a sentence that says so."""
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
