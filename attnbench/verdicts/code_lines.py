"""Which stored launches of a case measured the same version of the code, its line.

Sessions of one line are occasions of one measurement: their mean is the baseline, and what they differ by is noise. Those
of another version differ by what was changed, so they are history. What is unknown on one side is no difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attnbench.model import DIRTY, REPOSITORY, Launch, Record
from attnbench.verdicts import autotuned

if TYPE_CHECKING:
    from attnbench.storage.sessions import Session

    Stored = tuple[Session, Record]

#: Software that the fingerprint of a launch names; Python and NumPy are no part of any device kernel.
SOFTWARE = ("torch", "cuda", "cudnn", "triton", "driver")
#: Families whose eager calls launch no kernel in Triton. Compiled ones do, and of others nobody knows.
WITHOUT_TRITON = ("torch", "flash-attn", "xformers", "cudnn-frontend", "transformer-engine", "flashinfer")
_SOURCE, _KERNELS = "loaded", "kernels that ran"

#: By name, the values that launches of one line had.
Facts = Mapping[str, frozenset[str]]


def by_line(stored: Sequence[Stored]) -> list[list[Stored]]:
    """Stored launches of one case by line, the newest line first; within one they keep their order, oldest first.

    All launches of a session are of one line: the code does not change while it is recorded.
    """
    sessions: dict[str, list[Stored]] = {}
    for one in stored:
        sessions.setdefault(one[0].name, []).append(one)
    small = autotuned.negligible(record for _, record in stored)
    found: list[tuple[dict[str, frozenset[str]], list[list[Stored]]]] = []
    for launches in reversed(sessions.values()):
        facts = _facts(launches, small)
        for known, members in found:
            if not _differing(known, facts):
                known.update({name: known.get(name, frozenset()) | values for name, values in facts.items()})
                members.insert(0, launches)
                break
        else:
            found.append((dict(facts), [launches]))
    return [[one for launches in members for one in launches] for _, members in found]


def baseline_line(stored: Sequence[Stored], unit: str | None) -> tuple[list[Stored], list[list[Stored]]]:
    """The newest line of a case, and by session what is history to it, newest first.

    Newest among the sessions of this unit, where there are any: those of other units that measured the same code belong to
    it too. Otherwise among all.
    """
    here = [one for one in stored if unit and _unit(*one) == unit]
    mine = {id(one) for one in here}
    newest, *_ = by_line([*(one for one in stored if id(one) not in mine), *here])
    chosen = {id(one) for one in newest}
    history: dict[str, list[Stored]] = {}
    for one in reversed(here or stored):
        if id(one) not in chosen:
            history.setdefault(one[0].name, []).append(one)
    return [one for one in stored if id(one) in chosen], list(history.values())


def newer_elsewhere(stored: Sequence[Stored], line: Sequence[Stored], unit: str | None) -> str:
    """That a newer session of another unit measured other code, so that this unit's is out of date; empty where none did."""
    ages = {id(one): at for at, one in enumerate(stored)}
    newest = max((ages[id(one)] for one in line if unit and _unit(*one) == unit), default=None)
    later = [] if newest is None else stored[newest + 1 :]
    chosen = {session.name for session, _ in line}
    others = [one for one in later if one[0].name not in chosen]
    if not others:
        return ""
    name = others[-1][0].name
    differing = difference([one for one in others if one[0].name == name], line)
    return f"not compared with {name}, which is newer but from another GPU and another version: {differing}"


def difference(history: Sequence[Stored], line: Sequence[Stored]) -> str:
    """What the launches of an older session ran instead: `torch 2.10.0, the baseline's is 2.11.0`."""
    small = autotuned.negligible(record for _, record in (*history, *line))
    then, now = _facts(history, small), _facts(line, small)
    told = []
    for name in _differing(then, now):
        if name == _KERNELS:
            told.append("other kernels ran")
        elif any(DIRTY in value for value in (*then[name], *now[name])):
            told.append("code with local changes")
        elif name == REPOSITORY:
            told.append("other code of the repository")
        else:
            told.append(f"{name} {_shown(then[name])}, the baseline's is {_shown(now[name])}")
    return "; ".join(told) or "another version"


def versions(record: Record, launch: Launch | None) -> dict[str, str]:
    """The versions that the call of a record depends on, by name; those that are unknown are left out."""
    context = launch.fingerprint.context if launch else {}
    found = {name: str(context[name]) for name in SOFTWARE if context.get(name) is not None}
    if record.mode == "eager" and record.family in WITHOUT_TRITON:
        found.pop("triton", None)
    if record.route and not any("cudnn" in op.name.lower() for op in record.route):
        found.pop("cudnn", None)
    return {**found, **record.versions}


def kernels(record: Record, leave_out: frozenset[str] = frozenset()) -> frozenset[str]:
    """Names of the kernels that ran, without the numbers and hashes that change from one build to the next."""
    return frozenset(autotuned.plain(op.name) for op in record.route) - leave_out


def _facts(launches: Sequence[Stored], small: frozenset[str]) -> dict[str, frozenset[str]]:
    """What is known of the code that one session measured in this case.

    small: kernels that take next to nothing of the call, whose names say nothing. Where autotuning chose the kernels their
    names are its choice, and not the code's.
    """
    found: dict[str, set[str]] = {}
    for session, record in launches:
        for name, version in versions(record, session.launches.get(record.launch)).items():
            own = f" in {session.name}" if DIRTY in version else ""
            found.setdefault(name, set()).add(f"{version}{own}")
        if record.source:
            found.setdefault(_SOURCE, set()).add(record.source)
        if ran := () if autotuned.lines(record) else sorted(kernels(record, small)):
            found.setdefault(_KERNELS, set()).add("\n".join(ran))
    return {name: frozenset(values) for name, values in found.items()}


def _differing(one: Facts, another: Facts) -> list[str]:
    """Names of what is known of both and has no value in common."""
    return [name for name in one if name in another and one[name].isdisjoint(another[name])]


def _unit(session: Session, record: Record) -> str | None:
    launch = session.launches.get(record.launch)
    return launch.unit if launch else None


def _shown(values: frozenset[str]) -> str:
    return " or ".join(sorted(values))
