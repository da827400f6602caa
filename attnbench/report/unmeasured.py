"""Every case without a latency and every reason for it, each reason once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from attnbench.model import Record, Status
from attnbench.reasons import ERRORS, told
from attnbench.report.table import WIDTH, wrapped
from attnbench.units import counted

#: The order of the list: what needs an author's eye comes first.
ORDER = (Status.INCORRECT, Status.ERROR, Status.NOT_RUN, Status.CHECKED, Status.UNSUPPORTED)
LONGEST_REASON = 600
#: Of more workloads than these, the first few are named, and under -v all.
MOST_NAMED, FIRST_NAMED = 8, 3
#: So many wrong cases of one variant are told with their errors; the others are one entry, and -v tells theirs.
MOST_WRONG = 3
#: Codes of the reasons of requirements that ask for a package, and the words with which they say that it is absent.
_OF_PACKAGES, _ABSENT = ("package", "distribution"), " is not installed ("


#: A status, and the sentences that cases of it share.
_Why: TypeAlias = tuple[Status, tuple[str, ...]]


def unmeasured(records: Sequence[Record], tests: Mapping[str, int] | None = None, *, details: bool = True) -> list[str]:
    """Cases that share status and reasons are one entry, which names them all.

    A case that was checked and not timed, as requested, is not listed; one whose test ended before it measured is.
    tests: numbers of the tests of cases that are in several.
    details: list every reason. Without, the backends of packages that are not installed are one line of names, as long as
    anything ran at all, and of many errors of one kernel, and many wrong cases of one variant, the first few are told.
    """
    absent: list[Record] = []
    rest: list[Record] = []
    folds = not details and _ran(records)
    for record in records:
        (absent if folds and _is_not_installed(record) else rest).append(record)
    everywhere, modes = len({r.workload for r in records}), _modes(records)
    lines: list[str] = []
    for (status, texts), members in groups(rest, details=details):
        whole = modes if status is Status.UNSUPPORTED else {}
        cases = named(members, everywhere, tests or {}, whole, details=details)
        lines += _entry(f"{status}: {cases}", [_shortened(text) for text in texts])
    lines += _not_installed(absent)
    return ["not measured", *lines] if lines else []


def groups(
    records: Iterable[Record], *, details: bool, where: str = "-v names them"
) -> list[tuple[_Why, list[Record]]]:
    """Cases by status and reasons, in the order of the list.

    details: with every reason. Without, many errors and many wrong cases are cut, and `where` says where the rest is.
    """
    alike: dict[_Why, list[Record]] = {}
    for record in records:
        if record.status in ORDER and record.reasons:
            texts = told(record.reasons, whole=details, where=where)
            alike.setdefault((record.status, texts), []).append(record)
    if not details:
        alike = _without_many_wrong(alike, where)
    return sorted(alike.items(), key=lambda group: ORDER.index(group[0][0]))


def _without_many_wrong(alike: Mapping[_Why, list[Record]], where: str) -> dict[_Why, list[Record]]:
    """These groups, of which those of an incorrect variant behind its first `MOST_WRONG` of one kind are one."""
    entries: dict[tuple[tuple[str, ...], frozenset[str]], list[_Why]] = {}
    for why, members in alike.items():
        kinds = frozenset(reason.code for record in members for reason in record.reasons)
        if why[0] is Status.INCORRECT and kinds <= set(ERRORS):
            entries.setdefault((tuple(dict.fromkeys(r.variant for r in members)), kinds), []).append(why)
    more = {whys[MOST_WRONG - 1]: whys[MOST_WRONG:] for whys in entries.values() if len(whys) > MOST_WRONG + 1}
    others = {why for whys in more.values() for why in whys}
    merged: dict[_Why, list[Record]] = {}
    for why, members in alike.items():
        if why not in others:
            merged[why] = members
        if why in more:  # right behind those that are told
            variants = ", ".join(dict.fromkeys(record.variant for record in members))
            said = f"errors of the same kind as the {MOST_WRONG} of {variants} above ({where})"
            merged[why[0], (said,)] = [record for other in more[why] for record in alike[other]]
    return merged


def _ran(records: Sequence[Record]) -> bool:
    return any(record.status in (Status.MEASURED, Status.CHECKED) for record in records)


def _is_not_installed(record: Record) -> bool:
    """Whether a package that the backend needs is absent; one that is too old, or broken, is not."""
    absent = (reason.code in _OF_PACKAGES and _ABSENT in reason.text for reason in record.reasons)
    return record.status is Status.UNSUPPORTED and any(absent)


def _not_installed(records: Sequence[Record]) -> list[str]:
    """One line of names: `sage_int8_fp16_cuda` stands for its configurations `sage_int8_fp16_cuda[…]` too.

    A configuration that needs a package which the backend itself does not need has its own name: `torch_flash[FA4]`.
    """
    if not records:
        return []
    absent = dict.fromkeys(record.backend for record in records)
    bases = ((name, name.partition("[")[0]) for name in absent)
    names = dict.fromkeys(base if base in absent else name for name, base in bases)
    count = counted(len(names), "backend")
    return wrapped(f"not installed: {', '.join(names)} ({count}; --attn-list says how to install them)", "  ")


def _entry(cases: str, texts: Sequence[str]) -> list[str]:
    """One line where it fits, else the cases and below them a paragraph per reason."""
    line = f"  {cases}: {'; '.join(texts)}"
    if len(line) <= WIDTH:
        return [line]
    return [*wrapped(cases, "  "), *(part for text in texts for part in wrapped(text, "      "))]


def _modes(records: Sequence[Record]) -> dict[str, int]:
    """By backend of several modes, how many."""
    modes: dict[str, set[str]] = {}
    for record in records:
        modes.setdefault(record.backend, set()).add(record.mode)
    return {backend: len(its) for backend, its in modes.items() if len(its) > 1}


_NONE: Mapping[str, int] = MappingProxyType({})


def named(
    members: Sequence[Record],
    everywhere: int,
    tests: Mapping[str, int],
    whole: Mapping[str, int] = _NONE,
    *,
    details: bool = True,
) -> str:
    """`a@{eager,default}, b@eager, c on w1, w2; …`: cases by the variants that the same workloads have in common.

    everywhere: how many workloads there are in all; tests: numbers of the tests of cases that are in several; whole: by
    backend, how many modes stand for the backend as such; details: name every workload.
    """
    variants: dict[str, list[Record]] = {}
    for record in members:
        variants.setdefault(record.workload.name, []).append(record)
    parts: dict[str, list[str]] = {}
    for name, mine in variants.items():
        parts.setdefault(_variants(mine, tests, whole), []).append(name)
    return "; ".join(f"{said} on {_workloads(names, everywhere, details)}" for said, names in parts.items())


def _variants(records: Iterable[Record], tests: Mapping[str, int], whole: Mapping[str, int]) -> str:
    numbers: dict[str, dict[str, list[int]]] = {}
    for record in records:
        of_mode = numbers.setdefault(record.backend, {}).setdefault(record.mode, [])
        of_mode += [tests[record.nodeid]] if record.nodeid in tests else []
    return ", ".join(_of_backend(backend, its, whole.get(backend)) for backend, its in numbers.items())


def _of_backend(backend: str, modes: Mapping[str, Sequence[int]], whole: int | None) -> str:
    """`a@eager`, `a@{eager,default} (tests 1 and 2)`, or `a` where these are all of its modes. modes: numbers of tests."""
    alike: dict[tuple[int, ...], list[str]] = {}
    for mode, numbers in modes.items():
        alike.setdefault(tuple(numbers), []).append(mode)
    return ", ".join(f"{_of_modes(backend, its, whole)}{_in_tests(numbers)}" for numbers, its in alike.items())


def _of_modes(backend: str, modes: Sequence[str], whole: int | None) -> str:
    if whole == len(modes):
        return backend
    return f"{backend}@{modes[0]}" if len(modes) == 1 else f"{backend}@{{{','.join(modes)}}}"


def _in_tests(numbers: Sequence[int]) -> str:
    """` (test 2)`, ` (tests 1, 2 and 4)`; nothing for cases in a single test."""
    if not numbers:
        return ""
    *others, last = map(str, numbers)
    return f" (tests {', '.join(others)} and {last})" if others else f" (test {last})"


def _workloads(names: Sequence[str], everywhere: int, details: bool) -> str:
    if len(names) == everywhere > 1:
        return f"all {everywhere} workloads"
    if details or len(names) <= MOST_NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:FIRST_NAMED])}, … ({len(names)} of {everywhere} workloads)"


def _shortened(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= LONGEST_REASON else f"{flat[:LONGEST_REASON]} … (whole in the stored record)"
