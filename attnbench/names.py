"""Finding names by glob, and saying which names were near when there was none (layer 0)."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase


class UnknownName(ValueError):
    """A name or glob that matches nothing. The message names the nearest known names."""


def select(kind: str, pattern: str, known: Sequence[str]) -> tuple[str, ...]:
    """The known names that the glob `pattern` matches, in their order.

    A name with brackets (`sage[per_thread]`) matches literally first, because brackets mean something in a glob.
    Raises UnknownName when nothing matches.
    """
    if pattern in known:
        return (pattern,)
    found = tuple(name for name in known if fnmatchcase(name, pattern))
    if not found:
        near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.4)
        hint = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(known)}"
        raise UnknownName(f"no {kind} matches {pattern!r}; {hint}")
    return found
