"""Finding names by glob, and naming the nearest ones if there is no match."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from attnbench.model import Record
from attnbench.units import listed

#: A message lists no more known names than this.
MOST_SHOWN = 12


class UnknownName(ValueError):
    """A name or glob of some `kind` that matches nothing. The message names the nearest known names."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def matches(pattern: str, name: str) -> bool:
    """Whether the glob `pattern` equals or matches `name`. Brackets may be literal, too: `sage_*[per_warp]`."""
    return name == pattern or fnmatchcase(name, pattern) or fnmatchcase(name, pattern.replace("[", "[[]"))


def matches_case(glob: str, record: Record) -> bool:
    """Whether `glob` equals or matches the backend, the variant (`torch_flash@eager`) or the id of the record's case."""
    return any(matches(glob, name) for name in (record.backend, record.variant, record.case))


def select(kind: str, pattern: str, known: Sequence[str]) -> tuple[str, ...]:
    """The known names that the glob `pattern` matches, in their order.

    A pattern that equals a name selects only that one, whatever it would match as a glob.
    Raises UnknownName if nothing matches.
    """
    if pattern in known:
        return (pattern,)
    selected = tuple(name for name in known if matches(pattern, name))
    if not selected:
        several = "; repeat the option for several" if "," in pattern else ""
        raise UnknownName(kind, f"no {kind} matches {pattern!r}; {_near(pattern, known)}{several}")
    return selected


def require(kind: str, name: str, known: Sequence[str]) -> None:
    """Raise UnknownName, with the nearest names, if `name` is not one of `known`; a glob is not a name."""
    if name not in known:
        raise UnknownName(kind, f"unknown {kind} {name!r}; {_near(name, known)}")


def _near(name: str, known: Sequence[str]) -> str:
    """The nearest names, ignoring case, without those far behind the first of them.

    If none is near, or few names are known, what is known.
    """
    asked, folded = name.lower(), {one.lower(): one for one in known}

    def likeness(one: str) -> float:
        return difflib.SequenceMatcher(None, one, asked).ratio()

    near = difflib.get_close_matches(asked, folded, n=3, cutoff=0.4)
    near = [one for one in near if likeness(one) >= likeness(near[0]) * 2 / 3]
    if near and len(known) > 3:
        return f"nearest: {', '.join(folded[one] for one in near)}"
    return f"known: {listed(known, MOST_SHOWN) or 'none'}"
