"""Finding names by glob, and saying which names were near when there was none."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from attnbench.model import Record

#: A message lists no more known names than this.
MOST_SHOWN = 12


class UnknownName(ValueError):
    """A name or glob of some `kind` that matches nothing. The message names the nearest known names."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def matches(pattern: str, name: str) -> bool:
    """Whether the glob `pattern` is or matches `name`. Brackets may mean themselves, too: `sage_*[per_warp]`."""
    return name == pattern or fnmatchcase(name, pattern) or fnmatchcase(name, pattern.replace("[", "[[]"))


def matches_case(glob: str, record: Record) -> bool:
    """Whether `glob` is or matches the backend, the variant (`torch_flash@eager`) or the id of the record's case."""
    return any(matches(glob, name) for name in (record.backend, record.variant, record.case))


def select(kind: str, pattern: str, known: Sequence[str]) -> tuple[str, ...]:
    """The known names that the glob `pattern` matches, in their order.

    A pattern that is one of the names selects that one alone, whatever it would match as a glob.
    Raises UnknownName when nothing matches.
    """
    if pattern in known:
        return (pattern,)
    found = tuple(name for name in known if matches(pattern, name))
    if not found:
        raise UnknownName(kind, f"no {kind} matches {pattern!r}; {_near(pattern, known)}")
    return found


def require(kind: str, name: str, known: Sequence[str]) -> None:
    """Raise UnknownName, with the nearest names, when `name` is not one of `known`; a glob is not a name."""
    if name not in known:
        raise UnknownName(kind, f"unknown {kind} {name!r}; {_near(name, known)}")


def _near(name: str, known: Sequence[str]) -> str:
    """The nearest names whatever their case; where none is near, or there are few, the first that there are."""
    folded = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.4)
    if near and len(known) > 3:
        return f"nearest: {', '.join(folded[one] for one in near)}"
    more = f" and {len(known) - MOST_SHOWN} more" if len(known) > MOST_SHOWN else ""
    return f"known: {', '.join(known[:MOST_SHOWN]) or 'none'}{more}"
