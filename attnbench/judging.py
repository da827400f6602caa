"""Verdicts while tests run: which sessions, which suspects are measured again, and what fails a test (layer 4)."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from attnbench.fingerprint import slug
from attnbench.model import Judgement, Launch, Reason, Record, Status, Verdict
from attnbench.records import Unreadable
from attnbench.report.verdicts import line
from attnbench.revision import open_revision
from attnbench.rule import Rule
from attnbench.sessions import Baseline, load_baseline
from attnbench.settings import Settings
from attnbench.verdict import Judged, judge, missing

#: Under --attn-require-baseline these fail too: nothing may be green because nothing was compared.
UNCOMPARED = (Judgement.NO_BASELINE, Judgement.INCOMPARABLE, Judgement.MISSING)


@dataclass(frozen=True)
class Reviewed:
    """The sessions that verdicts rest on, and where they come from.

    With --attn-baselines-from they are those of a commit. work_tree: those that lie in the folder, where they are others;
    changes: `edited nvidia-h200/0001_….json`.
    """

    baseline: Baseline
    work_tree: Baseline | None = None
    commit: str = ""  # `HEAD^1 (0f1e2d3c4b5a)`
    changes: tuple[str, ...] = ()


def open_baseline(folder: Path, launch: Launch, device_name: str) -> Baseline:
    """The sessions for this device. Raises pytest.UsageError for one that cannot be read."""
    try:
        return load_baseline(folder, launch, device_name)
    except Unreadable as exc:
        raise pytest.UsageError(
            f"attnbench: a stored session cannot be used: {exc}. Restore it, or remove it from the baselines"
        ) from exc


def open_reviewed(settings: Settings, root: Path, launch: Launch, device_name: str) -> Reviewed:
    """The sessions for this device, of the folder or of the commit that is asked for.

    Raises pytest.UsageError for a session that cannot be read, and for a commit that is not there.
    """
    folder, ref = settings.baselines, settings.baselines_from
    assert folder is not None
    if ref is None:
        return Reviewed(open_baseline(folder, launch, device_name))
    source = f"{settings.sources['baselines-from']}: "
    device = slug(device_name)
    try:
        revision = open_revision(root, folder, ref)
        changes = revision.changes(folder)
        changed = revision.has_changed(folder, device)
        with revision.folder(device) as stored:
            try:
                baseline = load_baseline(stored, launch, device_name)
            except Unreadable as exc:
                text = str(exc).replace(str(stored), f"{ref}:{revision.below}")
                raise Unreadable(f"a session of this commit cannot be used: {text}. Name another commit") from exc
    except Unreadable as exc:
        raise pytest.UsageError(f"{source}{exc}") from exc
    work_tree = open_baseline(folder, launch, device_name) if changed else None
    return Reviewed(baseline, work_tree, revision.shown, changes)


class Judging:
    """Judges the cases of one run, one after the other, as their tests end."""

    def __init__(
        self,
        settings: Settings,
        reviewed: Reviewed,
        cases: Sequence[str],
        launches: dict[str, Launch],
        relaunch: Callable[[Record, int], Record],
        arguments: Sequence[str],
    ) -> None:
        """`relaunch(record, n)` measures its case in the n-th spare process.

        `arguments` are the tests that were named and the ini keys that were given by -o, for the command that repeats it.
        """
        self._require = settings.require_baseline
        self._settings = settings
        self.reviewed = reviewed
        baselines = [one for one in (reviewed.baseline, reviewed.work_tree) if one is not None]
        self._launches = launches
        self._relaunch = relaunch
        self._arguments = arguments
        limits = {} if settings.limit is None else {"known_limit": settings.limit, "unknown_limit": settings.limit}
        held = sum(
            any(case in one.records for one in baselines) for case in cases
        )  # the others cannot be called anything
        self._rule = Rule(held, settings.relaunches, **limits)
        self.verdicts: dict[str, Verdict] = {}

    def judge(self, records: Sequence[Record]) -> tuple[Record, ...]:
        """Reach a verdict on one measured case, measuring a suspect again; the records of those fresh launches."""
        measured = list(records)
        judged = self._judged(measured)
        trouble: tuple[Reason, ...] = ()
        spares = 0
        while judged.suspect and spares < self._rule.relaunches:
            again = self._relaunch(records[0], spares)
            spares += 1
            if again.status is not Status.MEASURED:
                trouble = (Reason("relaunch", f"a fresh process was {again.status}: {again.reasons[0].text}"),)
                break
            measured.append(again)
            judged = self._judged(measured)
        verdict = judged.verdict
        if trouble:
            kind = Judgement.INCONCLUSIVE if verdict.kind is Judgement.REGRESSED else verdict.kind
            verdict = replace(verdict, kind=kind, reasons=(*verdict.reasons, *trouble))
        self.verdicts[verdict.case] = verdict
        return tuple(measured[len(records) :])

    def failure(self, record: Record) -> str | None:
        """The one line with which the test of this case fails, None where its verdict is no failure."""
        if record.sample is None:
            found = self._missing(record)
            if found is not None:
                self.verdicts[record.case] = found
        verdict = self.verdicts.get(record.case)
        if verdict is None:
            return None
        fails = verdict.kind is Judgement.REGRESSED or (self._require and verdict.kind in UNCOMPARED)
        return line(verdict, record) if fails else None

    def finish(self, records: Sequence[Record]) -> list[str]:
        """Lines for the selected cases that ended without a test that could fail; they fail the run."""
        before = set(self.verdicts)
        lines = [self.failure(record) for record in records if record.case not in before]
        return [said for said in lines if said is not None]

    def _judged(self, records: Sequence[Record]) -> Judged:
        """By the reviewed sessions; where none is comparable, by those that are new in this change, which is said."""
        reproduce = self._reproduce(records[0])
        judged = judge(records, self._launches, self.reviewed.baseline, self._rule, reproduce)
        if self.reviewed.work_tree is None or judged.verdict.kind not in UNCOMPARED:
            return judged
        other = judge(records, self._launches, self.reviewed.work_tree, self._rule, reproduce)
        if other.verdict.kind in UNCOMPARED and judged.verdict.kind is not Judgement.NO_BASELINE:
            return judged
        return replace(other, verdict=self._as_new(other.verdict))

    def _missing(self, record: Record) -> Verdict | None:
        found = missing(record, self.reviewed.baseline, self._reproduce(record))
        if found is not None or self.reviewed.work_tree is None:
            return found
        found = missing(record, self.reviewed.work_tree, self._reproduce(record))
        return found and self._as_new(found)

    def _as_new(self, verdict: Verdict) -> Verdict:
        if verdict.kind is Judgement.NO_BASELINE:
            return verdict
        note = (
            f"compared with what is new in this change: {self.reviewed.commit} has no comparable session of this case"
        )
        return replace(verdict, notes=(note, *verdict.notes))

    def _reproduce(self, record: Record) -> str:
        """The command that measures this case again, alone."""
        chosen = [
            f"--attn-backend={record.backend}",
            f"--attn-mode={record.mode}",
            f"--attn-workload={record.workload.name}",
        ]
        return shlex.join(["pytest", "--benchmark-only", *self._arguments, *chosen, *self._settings.again(record)])
