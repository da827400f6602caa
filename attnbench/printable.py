"""Making foreign strings safe to show: messages of kernels, names in stored files.

The author of a pull request may control what a kernel raises and what a stored file holds. Both end up in terminals, logs
and job summaries. So characters that do not print are escaped, and no line works as a command to GitHub's runner.
"""

from __future__ import annotations

import dataclasses
import re
from enum import Enum
from typing import Any, TypeVar

#: Longest message in characters, with the note that it was cut.
LONGEST_MESSAGE = 2000
#: Longest name of a backend, a family or a workload, in characters.
LONGEST_NAME = 200

#: Whitespace but the plain space: wide blanks, tabs, line breaks.
_BLANKS = re.compile(r"[^\S ]+")
#: What GitHub's runner executes as a command: `::` at the start of a line, after any blanks, and `##[` anywhere.
_COMMAND = re.compile(r"^(\s*):(?=:)|#(?=#(?:vso)?\[)")

_T = TypeVar("_T")


def escaped(text: str) -> str:
    r"""`text` with an escape (`\x1b`, `\u202e`) for every character that does not print; the result is one line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def message(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """A foreign sentence on one line, escaped, at most `longest` characters; a cut one ends with a note."""
    text = text.strip()
    flat = escaped(_BLANKS.sub(" ", text[: longest + 1]))  # of megabytes only this much: escapes make text longer
    if len(text) <= longest and len(flat) <= longest:
        return flat
    note = f" … (cut: {len(text)} characters in all)"
    return flat[: longest - len(note)] + note


def line(text: str) -> str:
    r"""A line that is safe to print: escaped, and the first character of a command to GitHub's runner is `\x3a` instead."""
    return _COMMAND.sub(lambda match: f"{match[1]}\\x3a" if match[1] is not None else r"\x23", escaped(text))


def lines(text: str) -> str:
    """The same for a text with intended line breaks."""
    return "\n".join(map(line, text.split("\n")))


def require_name(what: str, name: object) -> None:
    """Raise ValueError if `name` cannot be shown in a report: not text, empty, too long, or with unprintable characters."""
    __tracebackhide__ = True  # the traceback ends at the line that registers
    if not isinstance(name, str):
        raise ValueError(f"{what} {message(repr(name), LONGEST_NAME)}: must be text, found {type(name).__name__}")
    if not name.strip() or not name.isprintable():
        raise ValueError(f"{what} {message(ascii(name), LONGEST_NAME)}: must be non-empty and printable")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"{what} {name[:40]!r}…: must be at most {LONGEST_NAME} characters, found {len(name)}")


def shown(value: _T) -> _T:
    """The same data with every string in it safe to show: for stored files, before a report shows them.

    Line breaks stay, because a command would be another one without them. Shares everything that needs no change.
    """
    if value is None or isinstance(value, (int, float, Enum)):
        return value
    made: Any = value
    if isinstance(value, str):
        made = "\n".join(message(part) if _is_unsafe(part) else part for part in value.split("\n"))
        return value if made == value else made
    if isinstance(value, tuple):
        items = tuple(map(shown, value))
        return value if all(a is b for a, b in zip(items, value, strict=True)) else items  # type: ignore[return-value]
    if isinstance(value, dict):
        made = {shown(key): shown(one) for key, one in value.items()}
        return value if made == value else made
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        changed = {name: new for name, old in fields.items() if (new := shown(old)) is not old}
        return dataclasses.replace(value, **changed) if changed else value
    return value


def _is_unsafe(text: str) -> bool:
    return not text.isprintable() or len(text) > LONGEST_MESSAGE


def described(value: object) -> str:
    """A value and its type, cut to the length of a name: `'foo' (str)`."""
    return f"the class {value.__name__}" if isinstance(value, type) else f"{written(value)} ({type(value).__name__})"


def written(value: object) -> str:
    """A value as it is written in code, printable and cut to the length of a name."""
    return message(repr(value), LONGEST_NAME)
