"""Reviewed sessions of one GPU model: `baselines/<gpu slug>/NNNN_<id>.json`."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from attnbench.codec import Unreadable, compact, run_from, to_digits
from attnbench.fingerprint import differences, slug
from attnbench.model import Launch, Record, RunFile, Status
from attnbench.storage.benchmark_json import load_document, next_number, session_files
from attnbench.storage.writing import laid_out, write_new

FEWEST_LAUNCHES = 2
HOST_TIMER = "perf_counter"
#: What a run says of its end where it stopped at the first record that no session may hold.
STOPPED = "cannot become a baseline session; use --keep-going to run the rest"


@dataclass(frozen=True)
class Session:
    """One stored job on one physical GPU; `name` is its file below the folder of baselines."""

    name: str
    run: RunFile

    @cached_property
    def launches(self) -> Mapping[str, Launch]:
        return {launch.id: launch for launch in self.run.launches}


@dataclass(frozen=True, eq=False)
class Baseline:
    """The sessions that a run is compared with, oldest first, and those that do not fit it with what differs.

    Equal only to itself, so that what is worked out from it can be kept for it.
    """

    sessions: tuple[Session, ...] = ()
    unfit: tuple[tuple[Session, tuple[str, ...]], ...] = ()

    @cached_property
    def records(self) -> Mapping[str, tuple[tuple[Session, Record], ...]]:
        """Measured records by case, one per launch, whatever a file repeats of it and however often it was copied."""
        found: dict[str, list[tuple[Session, Record]]] = defaultdict(list)
        seen: set[tuple[str, str]] = set()
        for session in self.sessions:
            for record in once(session.run.records):
                if (record.case, record.launch) not in seen:
                    seen.add((record.case, record.launch))
                    found[record.case].append((session, record))
        return {case: tuple(records) for case, records in found.items()}

    @cached_property
    def repeated(self) -> tuple[str, ...]:
        """Sentences about sessions of which every launch stands in an earlier one too: those count once."""
        first: dict[str, str] = {}
        said = []
        for session in self.sessions:
            before = {first[launch.id] for launch in session.run.launches if launch.id in first}
            if before and all(launch.id in first for launch in session.run.launches):
                said.append(f"{session.name} holds the launches of {', '.join(sorted(before))}: each counts once")
            for launch in session.run.launches:
                first.setdefault(launch.id, session.name)
        return tuple(said)


def once(records: Iterable[Record]) -> list[Record]:
    """The measured ones, the first of each case in each launch.

    A launch counts once for a case, however often a file repeats it: several tests of one case ran in one process.
    """
    found: dict[tuple[str, str], Record] = {}
    for record in records:
        if record.sample is not None:
            found.setdefault((record.case, record.launch), record)
    return list(found.values())


def load_baseline(folder: Path, launch: Launch, device_name: str) -> Baseline:
    """All sessions of `device_name` below `folder`, held against the fingerprint of `launch`.

    Raises Unreadable for a file there that is damaged or foreign, and for one that holds other contents under a launch's id
    than another file; Unlisted for a folder that cannot be listed or holds files that look like sessions.
    A baseline that silently lacks a part would let a regression through.
    """
    fit, unfit = [], []
    known = _Contents()
    for path in session_files(folder, device_name):
        document = load_document(path)
        if "attnbench" not in document:
            raise Unreadable(f"{path} was not written by an attnbench run")
        session = Session(f"{path.parent.name}/{path.name}", run_from(document))
        known.add(path, session.run)
        differing = [differences(launch.fingerprint, theirs.fingerprint) for theirs in session.run.launches]
        if any(differing):
            unfit.append((session, next(found for found in differing if found)))
        else:
            fit.append(session)
    return Baseline(tuple(fit), tuple(unfit))


class _Contents:
    """What the files hold under each launch's id, to find one that holds something else under the same id."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, ...], tuple[Path, Launch | Record]] = {}

    def add(self, path: Path, run: RunFile) -> None:
        """Raises Unreadable where a launch, or its record of a test, is another one than was added before."""
        for launch in run.launches:
            self._add(path, (launch.id,), launch, f"the launch {launch.id}")
        for record in run.records:
            what = f"the launch {record.launch} of {record.case}"
            self._add(path, (record.launch, record.case, record.nodeid), record, what)

    def _add(self, path: Path, key: tuple[str, ...], value: Launch | Record, what: str) -> None:
        before, held = self._found.setdefault(key, (path, value))
        if held != value:
            raise Unreadable(
                f"{before} and {path} both hold {what}, with different contents: one of them was edited. Restore it, or "
                "move it out of this folder"
            )


def refusals(run: RunFile) -> list[str]:
    """Sentences why this run may not become a baseline, each with what was found and what is needed; empty when it may."""
    found = [f"the run ended early: {run.interrupted}"] if run.interrupted else []
    found += dict.fromkeys(why for record in run.records if (why := why_not(record)))
    measured = [record for record in run.records if record.sample is not None]
    if not measured:
        return [*found, "no case was measured, expected at least one"]
    # By case: those that are launched apart, or under --attn-isolate, have launches of their own.
    launches = Counter(case for case, _ in {(record.case, record.launch) for record in measured})
    if few := sorted(case for case, count in launches.items() if count < FEWEST_LAUNCHES):
        which = "" if len(few) == len(launches) else f": {', '.join(few)}"
        found.append(f"1 launch, expected at least {FEWEST_LAUNCHES} to know how launches differ{which}")
    first, *others = run.launches
    for other in others:
        if differing := differences(first.fingerprint, other.fingerprint):
            found.append(f"the launches ran on different set-ups: {', '.join(differing)}")
    return found


def why_not(record: Record) -> str | None:
    """Why no session may hold this record, whatever the others are: it failed, or is not what users of the GPU get."""
    sample = record.sample
    if sample is None:
        failed = record.status in (Status.INCORRECT, Status.ERROR)
        return f"{record.case} is {record.status}: {record.reasons[0].text}" if failed else None
    if sample.timer == HOST_TIMER:
        return "CPU timings cannot be a baseline; record on a GPU"
    if record.injected is not None:
        return f"slowed down on purpose (--attn-inject): {record.case}"
    if sample.unsettled and not sample.self_throttled:
        rounds = f"{sample.unsettled} of {len(sample.rounds_s)} rounds"
        return (
            f"{record.case} is unsettled: {rounds} started below the clock's ceiling, expected 0: another process uses the "
            "GPU, or it is hot"
        )
    return None


def write_session(folder: Path, run: RunFile, document: dict[str, Any]) -> Path:
    """Write the next session of this device, `<folder>/nvidia-h200/0003_<id of its first launch>.json`.

    Whole or not at all, and over no other file. Raises OSError.
    """
    device = str(run.launches[0].fingerprint.key.get("device") or "unknown")
    below = folder / slug(device)
    content = laid_out(_kept(run, document), partial(json.dumps, separators=(",", ":"))).encode()
    return write_new(
        below, lambda number: f"{number:04}_{run.launches[0].id}.json", lambda: next_number(below), content
    )


def _kept(run: RunFile, document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with every round once, in the records: what pytest-benchmark keeps of them without being asked."""
    entries = [
        {**entry, "stats": {name: value for name, value in entry["stats"].items() if name != "data"}}
        for entry in document["benchmarks"]
    ]
    return {**document, "benchmarks": to_digits(entries), "attnbench": compact(run)}
