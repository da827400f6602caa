"""Which stored launches of a case measured the same version of the code ("Code versions" in docs/method.md).

Sessions of one version repeat one measurement: their mean is the baseline, and what they differ by is noise. Sessions of
another version differ by what was changed, so they are history. What is unknown on one side is no difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attnbench.model import DIRTY, REPOSITORY, Launch, Record
from attnbench.verdicts import autotuned

if TYPE_CHECKING:
    from attnbench.storage.sessions import Session

    StoredLaunch = tuple[Session, Record]

#: Software that the fingerprint of a launch names. Python and NumPy are no part of any device kernel.
SOFTWARE = ("torch", "cuda", "cudnn", "triton", "driver")
#: Families whose eager calls launch no Triton kernel. Compiled calls do; of other families it is unknown.
WITHOUT_TRITON = ("torch", "flash-attn", "xformers", "cudnn-frontend", "transformer-engine", "flashinfer")
_SOURCE, _KERNELS = "loaded", "kernels that ran"

#: What is known of a version: by name, the values that its launches had.
Facts = Mapping[str, frozenset[str]]


def by_version(stored: Sequence[StoredLaunch]) -> list[list[StoredLaunch]]:
    """Stored launches of one case by code version, the newest first; within one they keep their order, oldest first.

    All launches of a session have one version: the code does not change while it is recorded.
    """
    small = autotuned.negligible(record for _, record in stored)
    versions: list[tuple[dict[str, frozenset[str]], list[list[StoredLaunch]]]] = []
    for launches in reversed(_by_session(stored).values()):
        facts = _facts(launches, small)
        for known, members in versions:
            if not _differing(known, facts):
                known.update({name: known.get(name, frozenset()) | values for name, values in facts.items()})
                members.insert(0, launches)
                break
        else:
            versions.append((dict(facts), [launches]))
    return [[one for launches in members for one in launches] for _, members in versions]


def baseline_version(
    stored: Sequence[StoredLaunch], unit: str | None
) -> tuple[list[StoredLaunch], list[list[StoredLaunch]]]:
    """The launches of the version that is the baseline, and the others by session, newest first: its history.

    The newest version among the sessions of this unit, if there are any, otherwise among all. Sessions of other units that
    measured the same code belong to it too.
    """
    here = [one for one in stored if unit and _unit(*one) == unit]
    of_unit = {id(one) for one in here}
    newest, *_ = by_version([*(one for one in stored if id(one) not in of_unit), *here])
    chosen = {id(one) for one in newest}
    history = _by_session([one for one in reversed(here or stored) if id(one) not in chosen])
    return [one for one in stored if id(one) in chosen], list(history.values())


def newer_elsewhere(stored: Sequence[StoredLaunch], version: Sequence[StoredLaunch], unit: str | None) -> str:
    """A sentence if a newer session of another unit measured other code, so this unit's is out of date; otherwise empty."""
    ages = {id(one): at for at, one in enumerate(stored)}
    newest = max((ages[id(one)] for one in version if unit and _unit(*one) == unit), default=None)
    later = [] if newest is None else stored[newest + 1 :]
    chosen = {session.name for session, _ in version}
    others = [one for one in later if one[0].name not in chosen]
    if not others:
        return ""
    name = others[-1][0].name
    differing = describe_difference([one for one in others if one[0].name == name], version)
    return f"not compared with {name}, which is newer but from another GPU and another version: {differing}"


def describe_difference(history: Sequence[StoredLaunch], version: Sequence[StoredLaunch]) -> str:
    """What the launches of an older session ran instead: `torch 2.10.0, the baseline's is 2.11.0`."""
    small = autotuned.negligible(record for _, record in (*history, *version))
    then, now = _facts(history, small), _facts(version, small)
    differing = [_describe(name, then[name], now[name]) for name in _differing(then, now)]
    return "; ".join(differing) or "another version"


def software_versions(record: Record, launch: Launch | None) -> dict[str, str]:
    """The versions of the software that the call of a record depends on, by name, without unknown ones."""
    context = launch.fingerprint.context if launch else {}
    versions = {name: str(context[name]) for name in SOFTWARE if context.get(name) is not None}
    if record.mode == "eager" and record.family in WITHOUT_TRITON:
        versions.pop("triton", None)
    if record.route and not any("cudnn" in op.name.lower() for op in record.route):
        versions.pop("cudnn", None)
    return {**versions, **record.versions}


def kernels(record: Record, leave_out: frozenset[str] = frozenset()) -> frozenset[str]:
    """Names of the kernels that ran, without the numbers and hashes that change from one build to the next."""
    return frozenset(autotuned.plain(op.name) for op in record.route) - leave_out


def _by_session(stored: Sequence[StoredLaunch]) -> dict[str, list[StoredLaunch]]:
    sessions: dict[str, list[StoredLaunch]] = {}
    for one in stored:
        sessions.setdefault(one[0].name, []).append(one)
    return sessions


def _facts(launches: Sequence[StoredLaunch], small: frozenset[str]) -> dict[str, frozenset[str]]:
    """What is known of the code that one session measured in this case.

    small: kernels that take next to nothing of the call; their names do not count. Nor do any kernels' if autotuning chose
    them: then the names are its choice, not the code's.
    """
    facts: dict[str, set[str]] = {}
    for session, record in launches:
        for name, version in software_versions(record, session.launches.get(record.launch)).items():
            own = f" in {session.name}" if DIRTY in version else ""
            facts.setdefault(name, set()).add(f"{version}{own}")
        if record.source:
            facts.setdefault(_SOURCE, set()).add(record.source)
        if ran := () if autotuned.choices(record) else sorted(kernels(record, small)):
            facts.setdefault(_KERNELS, set()).add("\n".join(ran))
    return {name: frozenset(values) for name, values in facts.items()}


def _differing(one: Facts, another: Facts) -> list[str]:
    """Names of what is known of both and has no value in common."""
    return [name for name in one if name in another and one[name].isdisjoint(another[name])]


def _describe(name: str, then: frozenset[str], now: frozenset[str]) -> str:
    """One fact that differs."""
    if name == _KERNELS:
        return "other kernels ran"
    if any(DIRTY in value for value in (*then, *now)):
        return "code with local changes"
    if name == REPOSITORY:
        return "other code of the repository"
    return f"{name} {_joined(then)}, the baseline's is {_joined(now)}"


def _unit(session: Session, record: Record) -> str | None:
    launch = session.launches.get(record.launch)
    return launch.unit if launch else None


def _joined(values: frozenset[str]) -> str:
    return " or ".join(sorted(values))
