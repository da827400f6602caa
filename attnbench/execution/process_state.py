"""The state of the process, which cases share: noted before each case, restored after it, with what the case changed.

A fixed list of parts is read, and all but a few of them can be written. A change while a module is imported for the first
time is not the case's: libraries set such things once, and would not set them again for the next case. It stays, unless
it decides what other kernels compute or how fast: such a setting holds for the cases of its family only, and is set again
for each of them.
"""

from __future__ import annotations

import importlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from attnbench.model import StateChange


class _Absent(Enum):
    ABSENT = "absent"

    def __str__(self) -> str:
        return "none"


#: Stands for the value of what is not there, such as a variable that is not set.
ABSENT: Final = _Absent.ABSENT

Snapshot = dict[tuple[str, str], Any]  # by title of the part and name of the value


def arrow(name: str, before: Any, after: Any) -> str:
    """`torch threads 2 → 1`, `grad mode on → off`."""
    words = {True: "on", False: "off"}
    one, other = (words[value] if isinstance(value, bool) else value for value in (before, after))
    return f"{name} {one} → {other}"


def added_in_front(noted: Any, before: Any, after: Any) -> Any:
    """`carried` for a list: what was added, then what was noted, without what was removed."""
    if noted == before:
        return after
    return (*(one for one in after if one not in before), *(one for one in noted if one in after or one not in before))


def never(_name: str, _value: Any) -> bool:
    """`Part.stays` of values of which none stays."""
    return False


@dataclass(frozen=True)
class Part:
    """Named values of one kind.

    read: all values by name. What cannot be read is left out, and is then neither compared nor written.
    write: writes one value; ABSENT removes it. Raises where that cannot be done.
    describe: one change in words, from the name and the values before and after.
    stays: whether a value, by its name, stays for every case when it is set while a module is imported.
    carried: what is noted after such a change, from what was noted before and the values before and after the import.
    once: names that a library sets on its first use: a new one stays, and is not a change.
    grows: whether a name that was not there before is a change.
    partial: whether a name that is no longer there may just not be readable now, and is then not a change.
    quiet: restored without a report, because changing it is no fault.
    """

    title: str
    read: Callable[[], Mapping[str, Any]]
    write: Callable[[str, Any], None]
    describe: Callable[[str, Any, Any], str] = arrow
    stays: Callable[[str, Any], bool] = lambda _name, _value: True
    carried: Callable[[Any, Any, Any], Any] = lambda _noted, _before, after: after
    once: frozenset[str] = frozenset()
    grows: bool = False
    partial: bool = False
    quiet: bool = False


#: By family, what its modules set as they were imported in this process.
_SET_ON_IMPORT: defaultdict[str, Snapshot] = defaultdict(dict)


class ProcessState:
    """The state of this process around one case of a family: `note` before it, `put_back` after it."""

    def __init__(self, family: str, parts: Sequence[Part]) -> None:
        self._parts = {part.title: part for part in parts}
        self._set_on_import = _SET_ON_IMPORT[family]
        self._noted: Snapshot | None = None
        self._imports = FirstImports(self._before_import, self._after_import)
        self._before: Snapshot = {}

    def note(self) -> None:
        """Note the state, set again what the family's modules set on import, and watch for further imports."""
        self._noted = self._read(self._parts)
        self._write(self._set_on_import)
        self._imports.watch()

    def accept(self, title: str) -> None:
        """Note a part as it is now: its changes so far are not this case's."""
        if self._noted is not None:
            self._noted.update(self._read([title]))

    def put_back(self) -> tuple[StateChange, ...]:
        """Restore everything that was noted, and return what the case changed; nothing the second time."""
        if self._noted is None:
            return ()
        self._imports.unwatch()
        noted, self._noted = self._noted, None
        changed = self._differing(noted, self._read(self._parts))
        self._write({key: noted.get(key, ABSENT) for key in changed})
        left = self._differing(noted, self._read({title for title, _ in changed}))
        changes = []
        for (title, name), value in changed.items():
            before = noted.get((title, name), ABSENT)
            if not self._parts[title].quiet and not _same(value, self._set_on_import.get((title, name), before)):
                changes.append(StateChange(self._parts[title].describe(name, before, value), (title, name) not in left))
        return tuple(changes)

    @property
    def _loud(self) -> list[str]:
        return [title for title, part in self._parts.items() if not part.quiet]

    def _read(self, titles: Iterable[str]) -> Snapshot:
        values: Snapshot = {}
        for title in titles:
            with suppress(Exception):  # a part that this torch, or this system, does not have
                values.update({(title, name): value for name, value in self._parts[title].read().items()})
        return values

    def _write(self, values: Snapshot) -> None:
        for (title, name), value in values.items():
            with suppress(Exception):  # whoever needs to know whether it could be written reads it again
                self._parts[title].write(name, value)

    def _differing(self, noted: Snapshot, now: Snapshot) -> Snapshot:
        """What differs `now` from what was noted, ABSENT for what is gone from the parts that could be read."""
        readable = {title for title, _ in now if not self._parts[title].partial}
        gone = {key: ABSENT for key in noted if key not in now and key[0] in readable}
        new = {key: value for key, value in {**now, **gone}.items() if not _same(value, noted.get(key, ABSENT))}
        return {key: value for key, value in new.items() if key in noted or self._counts(*key)}

    def _counts(self, title: str, name: str) -> bool:
        """Whether a name that was not noted is a change."""
        return self._parts[title].grows and name not in self._parts[title].once

    def _before_import(self) -> None:
        self._before = self._read(self._loud)

    def _after_import(self) -> None:
        """Note what the import has set as the state before the case, or keep it for the family."""
        if self._noted is None:
            return
        before, after = self._before, self._read(self._loud)
        for key in {**before, **after}:
            old, new = before.get(key, ABSENT), after.get(key, ABSENT)
            part = self._parts[key[0]]
            if _same(old, new):
                continue
            if key in before and not part.stays(key[1], new):
                self._set_on_import[key] = new
            elif new is ABSENT:
                self._noted.pop(key, None)
            else:
                noted = self._noted.get(key, ABSENT)
                self._noted[key] = new if noted is ABSENT or old is ABSENT else part.carried(noted, old, new)


class FirstImports:
    """Calls `before` and `after` around every import in this thread that runs a module which was not imported yet.

    An import inside another one belongs to it. Python has no hook for the end of an import, so while this watches, it wraps
    the function of importlib that every import of a new module calls; imports of loaded modules do not call it.
    """

    def __init__(self, before: Callable[[], None], after: Callable[[], None]) -> None:
        self._before = before
        self._after = after
        self._thread = threading.get_ident()
        self._depth = 0
        self._wrapped: Callable[..., Any] | None = None

    def watch(self) -> None:
        """Start watching."""
        machinery: Any = importlib._bootstrap  # noqa: SLF001 - see above
        find_and_load = getattr(machinery, "_find_and_load", None)
        if find_and_load is None or self._wrapped is not None:
            return

        def watched(*arguments: Any) -> Any:
            if threading.get_ident() != self._thread or self._depth:
                return find_and_load(*arguments)
            self._depth = 1
            try:
                self._before()
                try:
                    return find_and_load(*arguments)
                finally:
                    self._after()
            finally:
                self._depth = 0

        self._wrapped, machinery._find_and_load = find_and_load, watched  # noqa: SLF001

    def unwatch(self) -> None:
        """Stop watching."""
        if self._wrapped is not None:
            machinery: Any = importlib._bootstrap  # noqa: SLF001
            machinery._find_and_load, self._wrapped = self._wrapped, None  # noqa: SLF001


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    try:
        return bool(one == other)
    except Exception:  # a library's objects may refuse to be compared; they are not the same one
        return False
