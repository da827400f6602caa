"""Verdicts while tests run: which sessions, which suspects are measured again, and what fails a test."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from attnbench.codec import Unreadable
from attnbench.fingerprint import slug
from attnbench.model import CaseEnded, Launch, Reason, Record, Status, Verdict, VerdictKind
from attnbench.plugin.options import Settings
from attnbench.report.verdicts import MEASURED_ONCE, line
from attnbench.storage.folders import Unlisted
from attnbench.storage.revision import open_revision
from attnbench.storage.sessions import Baseline, load_baseline
from attnbench.verdicts.judge import CHOICES, CHOICES_AGAIN, Judged, judge, missing
from attnbench.verdicts.limits import limit_for
from attnbench.verdicts.rule import Rule

#: Under --attn-require-baseline these fail too: nothing may be green because nothing was compared.
UNCOMPARED = (VerdictKind.NO_BASELINE, VerdictKind.INCOMPARABLE, VerdictKind.MISSING)
#: Seconds that a run may spend on cases whose autotune choices no stored launch made, each in one process of its own.
CHOICES_BUDGET_S = 300.0

#: Measures the case of a record in the n-th spare process. With a folder, in a process for it alone whose compiler's cache
#: that is, and which has so many seconds to start and to answer.
Relaunch = Callable[[Record, int, Path | None, float | None], Record]


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
    """The sessions for this device. Raises pytest.UsageError for one that cannot be read, and for what is not listed."""
    try:
        return load_baseline(folder, launch, device_name)
    except Unlisted as exc:
        raise pytest.UsageError(f"attnbench: {exc}") from exc
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
        relaunch: Relaunch,
        arguments: Sequence[str],
    ) -> None:
        """`arguments`: the tests that were named and the ini keys that were given by -o, for the command that repeats it."""
        self._settings = settings
        self.reviewed = reviewed
        self._baselines = [one for one in (reviewed.baseline, reviewed.work_tree) if one is not None]
        self._launches = launches
        self._relaunch = relaunch
        self._arguments = arguments
        # The others cannot be called anything.
        held = sum(any(case in baseline.records for baseline in self._baselines) for case in cases)
        self._rule = Rule(held, settings.relaunches)
        self._choices_left_s = CHOICES_BUDGET_S
        self._own_caches = 0  # processes with a compiler's cache of their own, so far
        self.verdicts: dict[str, Verdict] = {}  # by node id: a case may be in several tests

    def judge(self, records: Sequence[Record]) -> tuple[Record, ...]:
        """Judge one measured case, measuring a suspect again; returns the records of these fresh launches.

        If one of them is *incorrect*, so is the case, and it has no verdict.
        """
        measured = list(records)
        judged = self._judged(measured)
        trouble: tuple[Reason, ...] = ()
        with ExitStack() as until:
            cache: Path | None = None
            if judged.other_choices:
                cache, again, trouble = self._try_other_choices(measured, until)
                measured += again
                if not trouble:
                    judged = self._judged(measured)
                if not trouble and judged.other_choices:
                    text = "measured again with an empty compiler cache, and autotuning made none of the stored choices"
                    trouble = (Reason(CHOICES_AGAIN, text),)
            spares = 0
            while judged.suspect and spares < self._rule.relaunches and not trouble:
                again, trouble = self._measured_again(records[0], spares, cache)
                measured += again
                spares += 1
                if not trouble:
                    judged = self._judged(measured)
        further = tuple(measured[len(records) :])
        if not any(record.status is Status.INCORRECT for record in further):
            reasons = (*judged.verdict.reasons, *_how_often(judged, trouble, spares), *trouble)
            self.verdicts[records[0].nodeid] = replace(judged.verdict, reasons=reasons)
        return further

    def failure(self, record: Record) -> str | None:
        """The message with which the test of this case fails; None where its verdict does not fail it."""
        if record.sample is None:
            found = self._missing(record)
            if found is not None:
                self.verdicts[record.nodeid] = found
        verdict = self.verdicts.get(record.nodeid)
        return line(verdict, record) if verdict is not None and self._fails(verdict) else None

    def finish(self, records: Sequence[Record]) -> list[str]:
        """Messages of selected cases that have no test left that could fail: they fail the run.

        A test that ended before it measured does not fail its case if another test measured it.
        """
        judged = {verdict.case for verdict in self.verdicts.values() if verdict.kind is not VerdictKind.MISSING}
        before = set(self.verdicts)
        left = [record for record in records if record.nodeid not in before and record.case not in judged]
        return [said for said in map(self.failure, left) if said is not None]

    def _fails(self, verdict: Verdict) -> bool:
        if verdict.kind is VerdictKind.INCONCLUSIVE:
            return self._settings.require_verdict
        if self._settings.require_baseline and verdict.kind in UNCOMPARED:
            return any(reason.code not in (CHOICES, CHOICES_AGAIN) for reason in verdict.reasons)
        return verdict.kind is VerdictKind.REGRESSED

    def _try_other_choices(
        self, measured: Sequence[Record], until: ExitStack
    ) -> tuple[Path | None, list[Record], tuple[Reason, ...]]:
        """Measure once more in a process that must autotune, if the budget allows for what that took before.

        The folder of its compiler's cache, which lasts until `until` ends; the record; and why there is none.
        """
        if not self._rule.relaunches:
            return None, [], (Reason(CHOICES_AGAIN, "not measured again (--attn-relaunch=0)"),)
        stored = [r for baseline in self._baselines for _, r in baseline.records.get(measured[0].case, ())]
        expected_s = max((record.first_call_s or 0.0 for record in (*measured, *stored)), default=0.0)
        if max(1.0, expected_s) > self._choices_left_s:
            text = f"not measured again: it would exceed the {CHOICES_BUDGET_S:g} s that a run may spend on this"
            return None, [], (Reason(CHOICES_AGAIN, text),)
        start = time.monotonic()
        try:
            folder = TemporaryDirectory(prefix="attnbench-cache-", ignore_cleanup_errors=True)
        except OSError as exc:
            text = f"not measured again: cannot make a folder for the compiler cache: {exc.strerror}"
            return None, [], (Reason(CHOICES_AGAIN, text),)
        cache = Path(until.enter_context(folder))
        limit_s = min(self._choices_left_s, self._settings.timeout_s)
        again, trouble = self._measured_again(measured[0], 0, cache, limit_s)
        self._choices_left_s -= time.monotonic() - start
        whose = "" if limit_s < self._settings.timeout_s else " (--attn-timeout)"
        texts = [reason.text.replace(" (--attn-timeout)", whose) for reason in trouble]
        return cache, again, tuple(Reason(CHOICES_AGAIN, f"with an empty compiler cache: {text}") for text in texts)

    def _measured_again(
        self, record: Record, spare: int, cache: Path | None, limit_s: float | None = None
    ) -> tuple[list[Record], tuple[Reason, ...]]:
        """The case in a fresh process: its record, or no or an incorrect record and the reason."""
        number = spare
        if cache is not None:
            number = self._rule.relaunches + self._own_caches
            self._own_caches += 1
        try:
            again = self._relaunch(record, number, cache, limit_s)
        except (CaseEnded, OSError) as exc:
            return [], (Reason("relaunch", f"no fresh process could be started: {exc}"),)
        if again.status is Status.MEASURED:
            return [again], ()
        why = "; ".join(reason.text for reason in again.reasons) or f"it was {again.status} there"
        reason = Reason("relaunch", f"a fresh process could not measure it again ({again.status}): {why}")
        return [again] if again.status is Status.INCORRECT else [], (reason,)

    def _judged(self, records: Sequence[Record]) -> Judged:
        """By the reviewed sessions; where none is comparable, by those that are new in this change, which is said."""
        reproduce = self._reproduce(records[0])
        rule = replace(self._rule, limit=limit_for(self._settings.limits, records[0]))
        judged = judge(records, self._launches, self.reviewed.baseline, rule, reproduce)
        if self.reviewed.work_tree is None or judged.verdict.kind not in UNCOMPARED:
            return judged
        other = judge(records, self._launches, self.reviewed.work_tree, rule, reproduce)
        if other.verdict.kind in UNCOMPARED and judged.verdict.kind is not VerdictKind.NO_BASELINE:
            return judged
        return replace(other, verdict=self._as_new(other.verdict))

    def _missing(self, record: Record) -> Verdict | None:
        found = missing(record, self.reviewed.baseline, self._reproduce(record))
        if found is not None or self.reviewed.work_tree is None:
            return found
        found = missing(record, self.reviewed.work_tree, self._reproduce(record))
        return found and self._as_new(found)

    def _as_new(self, verdict: Verdict) -> Verdict:
        if verdict.kind in (VerdictKind.NO_BASELINE, VerdictKind.INCOMPARABLE):
            return verdict  # nothing was compared
        note = (
            f"compared with a session that this change adds: {self.reviewed.commit} has no comparable one of this case"
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


def _how_often(judged: Judged, trouble: Sequence[Reason], spares: int) -> tuple[Reason, ...]:
    """How many launches a suspect was judged on, where fresh processes failed to add more."""
    if not judged.suspect or not spares:
        return ()
    count = judged.verdict.launches
    times = "once" if count == 1 else f"{count} times"
    if trouble:
        return (Reason(MEASURED_ONCE if count == 1 else "measured", f"measured {times}"),)
    if count == 1:
        made = "1 fresh process" if spares == 1 else f"each of {spares} fresh processes"
        return (Reason(MEASURED_ONCE, f"measured once: {made} made other autotune choices"),)
    return ()
