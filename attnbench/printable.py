"""Strings of others that are safe to show: messages of kernels, names in stored files.

What a kernel raises and what a stored file holds may be written by the author of a pull request, and ends up in terminals,
logs and job summaries. Whatever does not show is written as an escape, and no line reads as a command to GitHub's runner.
"""

from __future__ import annotations

import dataclasses
import re
from enum import Enum
from typing import Any, TypeVar

#: A message is cut at this length, the words that say so included.
LONGEST_MESSAGE = 2000
#: A name (of a backend, a family, a workload) may be this long.
LONGEST_NAME = 200

#: What separates words without showing: blanks of every width, tabs, line breaks.
_BLANKS = re.compile(r"[^\S ]+")
#: What GitHub's runner takes as a command: `::` at the start of a line, after any blanks, and `##[` anywhere.
_COMMAND = re.compile(r"^(\s*):(?=:)|#(?=#(?:vso)?\[)")

_T = TypeVar("_T")


def escaped(text: str) -> str:
    r"""`text` with an escape (`\x1b`, `\u202e`) for every character that does not show; it is one line then."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def message(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """A sentence of somebody else on one line, escaped and at most `longest` characters; one that was cut says so."""
    text = text.strip()
    flat = escaped(_BLANKS.sub(" ", text[: longest + 1]))  # of megabytes no more: an escape only ever makes it longer
    if len(text) <= longest and len(flat) <= longest:
        return flat
    said = f" … (cut: {len(text)} characters in all)"
    return flat[: longest - len(said)] + said


def line(text: str) -> str:
    r"""A line as it may be printed: escaped, and no command to GitHub's runner, whose first character is `\x3a` instead."""
    return _COMMAND.sub(lambda found: f"{found[1]}\\x3a" if found[1] is not None else r"\x23", escaped(text))


def lines(text: str) -> str:
    """The same for a text whose line breaks are meant."""
    return "\n".join(map(line, text.split("\n")))


def require_name(what: str, name: object) -> None:
    """Raise ValueError where `name` cannot stand in a report: no text, empty, too long, or with what does not show."""
    __tracebackhide__ = True  # whoever registers wrongly is shown with the own line and the sentence
    if not isinstance(name, str):
        raise ValueError(f"{what} {message(repr(name), LONGEST_NAME)}: must be text, found {type(name).__name__}")
    if not name.strip() or not name.isprintable():
        raise ValueError(f"{what} {message(ascii(name), LONGEST_NAME)}: must be non-empty and printable")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"{what} {name[:40]!r}…: must be at most {LONGEST_NAME} characters, found {len(name)}")


def shown(value: _T) -> _T:
    """The same data with every string in it a message: what a stored file holds, before a report shows it.

    Line breaks of a command stay, as it would be another one without them. Shares everything that needs no change.
    """
    if value is None or isinstance(value, (int, float, Enum)):
        return value
    made: Any = value
    if isinstance(value, str):
        made = "\n".join(message(part) if _is_foul(part) else part for part in value.split("\n"))
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


def _is_foul(text: str) -> bool:
    return not text.isprintable() or len(text) > LONGEST_MESSAGE
