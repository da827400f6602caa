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
from attnbench.stats import FEWEST_ROUNDS
from attnbench.storage.benchmark_json import load_document
from attnbench.storage.folders import next_number, session_files
from attnbench.storage.writing import laid_out, write_new
from attnbench.units import counted

FEWEST_LAUNCHES = 2
HOST_TIMER = "perf_counter"
#: Why a recording run ended, if it stopped at the first record that no session may hold.
STOPPED = "cannot become a baseline session; use --keep-going to run the rest"


@dataclass(frozen=True)
class Session:
    """One stored run on one physical GPU. name: its file below the folder of baselines."""

    name: str
    run: RunFile

    @cached_property
    def launches(self) -> Mapping[str, Launch]:
        """The launches by id."""
        return {launch.id: launch for launch in self.run.launches}


@dataclass(frozen=True, eq=False)
class Baseline:
    """The sessions that a run is compared with, oldest first.

    unfit: sessions with another fingerprint, each with what differs. A Baseline equals only itself, so results that are
    computed from it can be cached.
    """

    sessions: tuple[Session, ...] = ()
    unfit: tuple[tuple[Session, tuple[str, ...]], ...] = ()

    @cached_property
    def records(self) -> Mapping[str, tuple[tuple[Session, Record], ...]]:
        """Measured records by case, one per launch, even if a file repeats it or was copied.

        Those of too few rounds stand here only where a case has no others.
        """
        return {case: tuple(_telling(stored)) for case, stored in self._stored.items()}

    @cached_property
    def short(self) -> Mapping[str, tuple[str, ...]]:
        """By case, a sentence for each session whose rounds of it are too few to count beside the others'."""
        left_out = {
            case: dict.fromkeys(session.name for session, record in stored if is_short(record))
            for case, stored in self._stored.items()
            if not all(is_short(record) for _, record in stored)
        }
        text = f"has fewer than {FEWEST_ROUNDS} rounds of it, which do not count: their scatter is unknown"
        return {case: tuple(f"{name} {text}" for name in names) for case, names in left_out.items() if names}

    @cached_property
    def _stored(self) -> Mapping[str, list[tuple[Session, Record]]]:
        by_case: dict[str, list[tuple[Session, Record]]] = defaultdict(list)
        seen: set[tuple[str, str]] = set()
        for session in self.sessions:
            for record in one_per_launch(session.run.records):
                if (record.case, record.launch) not in seen:
                    seen.add((record.case, record.launch))
                    by_case[record.case].append((session, record))
        return by_case

    @cached_property
    def repeated(self) -> tuple[str, ...]:
        """A sentence for each session whose launches are all in earlier ones too: those count once."""
        first: dict[str, str] = {}
        messages = []
        for session in self.sessions:
            before = {first[launch.id] for launch in session.run.launches if launch.id in first}
            if before and all(launch.id in first for launch in session.run.launches):
                messages.append(f"{session.name} holds the launches of {', '.join(sorted(before))}: each counts once")
            for launch in session.run.launches:
                first.setdefault(launch.id, session.name)
        return tuple(messages)


def _telling(stored: list[tuple[Session, Record]]) -> list[tuple[Session, Record]]:
    """Those of enough rounds, or all where there are none."""
    return [(session, record) for session, record in stored if not is_short(record)] or stored


def is_short(record: Record) -> bool:
    """Whether a record has too few rounds to show how they scatter."""
    return record.sample is not None and len(record.sample.rounds_s) < FEWEST_ROUNDS


def one_per_launch(records: Iterable[Record]) -> list[Record]:
    """The measured records, the first of each case in each launch.

    A launch counts once for a case, even if several tests of the case ran in one process.
    """
    first: dict[tuple[str, str], Record] = {}
    for record in records:
        if record.sample is not None:
            first.setdefault((record.case, record.launch), record)
    return list(first.values())


def load_baseline(folder: Path, launch: Launch, device_name: str) -> Baseline:
    """All sessions of `device_name` below `folder`, compared with the fingerprint of `launch`.

    Raises Unreadable for a file there that is damaged or foreign, and for one that holds a launch of another file with other
    contents; Unlisted for a folder that cannot be listed, or that holds misnamed sessions. A baseline that silently lacks a
    part would let a regression through.
    """
    fit, unfit = [], []
    contents = _LaunchContents()
    for path in session_files(folder, device_name):
        document = load_document(path)
        if "attnbench" not in document:
            raise Unreadable(f"{path} was not written by an attnbench run")
        session = Session(f"{path.parent.name}/{path.name}", run_from(document))
        contents.add(path, session.run)
        differing = [differences(launch.fingerprint, theirs.fingerprint) for theirs in session.run.launches]
        if any(differing):
            unfit.append((session, next(fields for fields in differing if fields)))
        else:
            fit.append(session)
    return Baseline(tuple(fit), tuple(unfit))


class _LaunchContents:
    """What the files hold under each launch's id, to find one that holds something else under the same id."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, ...], tuple[Path, Launch | Record]] = {}

    def add(self, path: Path, run: RunFile) -> None:
        """Raises Unreadable if a launch, or its record of a test, differs from one that was added before."""
        for launch in run.launches:
            self._add(path, (launch.id,), launch, f"the launch {launch.id}")
        for record in run.records:
            what = f"the launch {record.launch} of {record.case}"
            self._add(path, (record.launch, record.case, record.nodeid), record, what)

    def _add(self, path: Path, key: tuple[str, ...], value: Launch | Record, what: str) -> None:
        before, first = self._first.setdefault(key, (path, value))
        if first != value:
            raise Unreadable(
                f"{before} and {path} both hold {what}, with different contents: one of them was edited. Restore it, or "
                "move it out of this folder"
            )


def refusals(run: RunFile) -> list[str]:
    """Why this run may not become a baseline: a sentence each, with found and needed values; empty if it may."""
    reasons = [f"the run ended early: {run.interrupted}"] if run.interrupted else []
    reasons += dict.fromkeys(reason for record in run.records if (reason := refusal(record)))
    measured = [record for record in run.records if record.sample is not None]
    if not measured:
        return [*reasons, "no case was measured, expected at least one"]
    # By case: those that ran in their own process have launches of their own.
    launches = Counter(case for case, _ in {(record.case, record.launch) for record in measured})
    if few := sorted(case for case, count in launches.items() if count < FEWEST_LAUNCHES):
        which = "" if len(few) == len(launches) else f": {', '.join(few)}"
        reasons.append(f"1 launch, expected at least {FEWEST_LAUNCHES} to know how launches differ{which}")
    first, *others = run.launches
    for other in others:
        if differing := differences(first.fingerprint, other.fingerprint):
            reasons.append(f"the launches ran on different set-ups: {', '.join(differing)}")
    return reasons


def refusal(record: Record) -> str | None:
    """Why no session may hold this record, whatever the others are: it failed, or is not what users of the GPU get."""
    sample = record.sample
    if sample is None:
        failed = record.status in (Status.INCORRECT, Status.ERROR)
        return f"{record.case} is {record.status}: {record.reasons[0].text}" if failed else None
    if sample.timer == HOST_TIMER:
        return "CPU timings cannot be a baseline; record on a GPU"
    if is_short(record):
        found = counted(len(sample.rounds_s), "round")
        return f"{record.case} has {found}, expected at least {FEWEST_ROUNDS} to know how they scatter"
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

    Whole or not at all, and never over another file. Raises OSError.
    """
    device = str(run.launches[0].fingerprint.key.get("device") or "unknown")
    below = folder / slug(device)
    content = laid_out(_kept(run, document), partial(json.dumps, separators=(",", ":"))).encode()
    return write_new(
        below, lambda number: f"{number:04}_{run.launches[0].id}.json", lambda: next_number(below), content
    )


def _kept(run: RunFile, document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with every round once, in the records: without pytest-benchmark's own list of them."""
    entries = [
        {**entry, "stats": {name: value for name, value in entry["stats"].items() if name != "data"}}
        for entry in document["benchmarks"]
    ]
    return {**document, "benchmarks": to_digits(entries), "attnbench": compact(run)}
