"""Verdicts while tests run: suspects are measured again in fresh processes before they are judged."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from attnbench.model import CaseEnded, Reason, Record, Status, Verdict, VerdictKind
from attnbench.plugin.process_pool import ProcessPool
from attnbench.plugin.reviewed_sessions import Reviewed
from attnbench.plugin.settings import Settings
from attnbench.report.verdicts import MEASURED_ONCE
from attnbench.verdicts.judge import CHOICES, CHOICES_AGAIN, Judged, judge, missing
from attnbench.verdicts.limits import limit_for
from attnbench.verdicts.rule import Rule

#: Under --attn-require-baseline these fail too: nothing may be green because nothing was compared.
UNCOMPARED = (VerdictKind.NO_BASELINE, VerdictKind.INCOMPARABLE, VerdictKind.MISSING)
#: Seconds that a run may spend on cases whose autotune choices no stored launch made, each in one process of its own.
CHOICES_BUDGET_S = 300.0


@dataclass(frozen=True)
class Retested:
    """The verdict on one case, and its records in the fresh launches that it took.

    verdict: None if a fresh launch was *incorrect*: then so is the case.
    """

    verdict: Verdict | None
    further: tuple[Record, ...] = ()


@dataclass(frozen=True)
class _Again:
    """What one fresh launch gave: a record, none where it was not measured there, and why not."""

    records: tuple[Record, ...] = ()
    trouble: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class _SoFar:
    """One case as far as it is measured. trouble: why there are no more launches.

    cache: of the compilers of its fresh processes, where they have their own. spares: fresh processes so far, not counting
    the one that autotuned.
    """

    records: tuple[Record, ...]
    judged: Judged
    trouble: tuple[Reason, ...] = ()
    cache: Path | None = None
    spares: int = 0


class Retest:
    """Judges the cases of one run, one after the other, as their tests end."""

    def __init__(
        self,
        settings: Settings,
        reviewed: Reviewed,
        cases: Sequence[str],
        processes: ProcessPool,
        arguments: Sequence[str],
    ) -> None:
        """`cases`: all that are selected. `arguments`: for the command that measures one again, beside its own options."""
        self._settings = settings
        self.reviewed = reviewed
        self._processes = processes
        self._arguments = arguments
        # The others cannot be called anything.
        judged = sum(any(case in baseline.records for baseline in reviewed.baselines) for case in cases)
        self._rule = Rule(judged, settings.relaunches)
        self._choices_left_s = CHOICES_BUDGET_S
        self._own_caches = 0  # processes with a compiler's cache of their own, so far

    def judge(self, records: Sequence[Record]) -> Retested:
        """Judge one measured case by its records, measuring a suspect again."""
        with ExitStack() as until:
            first = _SoFar(tuple(records), self._judged(records))
            tuned = self._with_other_choices(first, until) if first.judged.other_choices else first
            last = self._with_spares(tuned)
        further = last.records[len(records) :]
        if any(record.status is Status.INCORRECT for record in further):
            return Retested(None, further)
        verdict = last.judged.verdict
        reasons = (*verdict.reasons, *_how_often(last), *last.trouble)
        return Retested(replace(verdict, reasons=reasons), further)

    def missing(self, record: Record) -> Verdict | None:
        """The verdict on a case that was not measured: *missing* where a stored session has it, else None."""
        command = self._reproduce(record)
        reviewed = missing(record, self.reviewed.baseline, command)
        if reviewed is not None or self.reviewed.work_tree is None:
            return reviewed
        verdict = missing(record, self.reviewed.work_tree, command)
        return verdict and self._as_new(verdict)

    def fails(self, verdict: Verdict) -> bool:
        """Whether the test of a case with this verdict fails."""
        if verdict.kind is VerdictKind.INCONCLUSIVE:
            return self._settings.require_verdict
        if self._settings.require_baseline and verdict.kind in UNCOMPARED:
            return any(reason.code not in (CHOICES, CHOICES_AGAIN) for reason in verdict.reasons)
        return verdict.kind is VerdictKind.REGRESSED

    def _with_spares(self, case: _SoFar) -> _SoFar:
        """Measure a suspect again, as long as it is one and fresh launches are left."""
        while case.judged.suspect and case.spares < self._rule.relaunches and not case.trouble:
            again = self._measured_again(case.records[0], case.spares, case.cache)
            case = replace(self._continued(case, again), spares=case.spares + 1)
        return case

    def _with_other_choices(self, case: _SoFar, until: ExitStack) -> _SoFar:
        """Measure once more in a process that must autotune, if the budget allows for what that took before.

        Its compiler's cache lasts until `until` ends.
        """
        refused = self._no_budget_for(case.records)
        if refused:
            return replace(case, trouble=(Reason(CHOICES_AGAIN, refused),))
        start = time.monotonic()
        try:
            folder = TemporaryDirectory(prefix="attnbench-cache-", ignore_cleanup_errors=True)
        except OSError as exc:
            text = f"not measured again: cannot make a folder for the compiler cache: {exc.strerror}"
            return replace(case, trouble=(Reason(CHOICES_AGAIN, text),))
        cache = Path(until.enter_context(folder))
        limit_s = min(self._choices_left_s, self._settings.timeout_s)
        again = self._measured_again(case.records[0], 0, cache, limit_s)
        self._choices_left_s -= time.monotonic() - start
        whose = "" if limit_s < self._settings.timeout_s else " (--attn-timeout)"
        texts = [reason.text.replace(" (--attn-timeout)", whose) for reason in again.trouble]
        trouble = tuple(Reason(CHOICES_AGAIN, f"with an empty compiler cache: {text}") for text in texts)
        tuned = replace(self._continued(case, replace(again, trouble=trouble)), cache=cache)
        if tuned.trouble or not tuned.judged.other_choices:
            return tuned
        text = "measured again with an empty compiler cache, and autotuning made none of the stored choices"
        return replace(tuned, trouble=(Reason(CHOICES_AGAIN, text),))

    def _no_budget_for(self, records: Sequence[Record]) -> str:
        """Why a case is not autotuned again, as a sentence; empty if it may be."""
        if not self._rule.relaunches:
            return "not measured again (--attn-relaunch=0)"
        stored = [r for baseline in self.reviewed.baselines for _, r in baseline.records.get(records[0].case, ())]
        expected_s = max((record.first_call_s or 0.0 for record in (*records, *stored)), default=0.0)
        if max(1.0, expected_s) > self._choices_left_s:
            return f"not measured again: it would exceed the {CHOICES_BUDGET_S:g} s that a run may spend on this"
        return ""

    def _measured_again(self, record: Record, spare: int, cache: Path | None, limit_s: float | None = None) -> _Again:
        """The case in a fresh process: its record, or no or an incorrect record and the reason.

        With a folder `cache`, in a process for it alone, which has `limit_s` seconds.
        """
        try:
            if cache is None:
                again = self._processes.measure_again(record, spare)
            else:
                number = self._rule.relaunches + self._own_caches
                self._own_caches += 1
                limit_s = limit_s or self._settings.timeout_s
                again = self._processes.measure_with_own_cache(record, number, cache, limit_s)
        except (CaseEnded, OSError) as exc:
            return _Again(trouble=(Reason("relaunch", f"no fresh process could be started: {exc}"),))
        if again.status is Status.MEASURED:
            return _Again((again,))
        why = "; ".join(reason.text for reason in again.reasons) or f"it was {again.status} there"
        reason = Reason("relaunch", f"a fresh process could not measure it again ({again.status}): {why}")
        return _Again((again,) if again.status is Status.INCORRECT else (), (reason,))

    def _continued(self, case: _SoFar, again: _Again) -> _SoFar:
        """The case with one more launch, judged on all of them where that one measured it."""
        records = (*case.records, *again.records)
        judged = case.judged if again.trouble else self._judged(records)
        return replace(case, records=records, judged=judged, trouble=again.trouble)

    def _judged(self, records: Sequence[Record]) -> Judged:
        """By the reviewed sessions; where none is comparable, by those that are new in this change, which is said."""
        command = self._reproduce(records[0])
        launches = self._processes.launches
        rule = replace(self._rule, limit=limit_for(self._settings.limits, records[0]))
        reviewed = judge(records, launches, self.reviewed.baseline, rule, command)
        if self.reviewed.work_tree is None or reviewed.verdict.kind not in UNCOMPARED:
            return reviewed
        new = judge(records, launches, self.reviewed.work_tree, rule, command)
        if new.verdict.kind in UNCOMPARED and reviewed.verdict.kind is not VerdictKind.NO_BASELINE:
            return reviewed
        return replace(new, verdict=self._as_new(new.verdict))

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


def _how_often(case: _SoFar) -> tuple[Reason, ...]:
    """How many launches a suspect was judged on, where fresh processes failed to add more."""
    if not case.judged.suspect or not case.spares:
        return ()
    count = case.judged.verdict.launches
    times = "once" if count == 1 else f"{count} times"
    if case.trouble:
        return (Reason(MEASURED_ONCE if count == 1 else "measured", f"measured {times}"),)
    if count == 1:
        made = "1 fresh process" if case.spares == 1 else f"each of {case.spares} fresh processes"
        return (Reason(MEASURED_ONCE, f"measured once: {made} made other autotune choices"),)
    return ()
