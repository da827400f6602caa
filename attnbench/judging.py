"""Verdicts while tests run: which sessions, which suspects are measured again, and what fails a test (layer 4)."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from attnbench.model import Judgement, Launch, Reason, Record, Status, Verdict
from attnbench.records import Unreadable
from attnbench.report.verdicts import line
from attnbench.rule import Rule
from attnbench.sessions import Baseline, load_baseline
from attnbench.settings import Settings
from attnbench.verdict import Judged, judge, missing

#: Under --attn-require-baseline these fail too: nothing may be green because nothing was compared.
UNCOMPARED = (Judgement.NO_BASELINE, Judgement.INCOMPARABLE, Judgement.MISSING)


def open_baseline(folder: Path, launch: Launch, device_name: str) -> Baseline:
    """The sessions for this device. Raises pytest.UsageError for one that cannot be read."""
    try:
        return load_baseline(folder, launch, device_name)
    except Unreadable as exc:
        raise pytest.UsageError(
            f"attnbench: a stored session cannot be used: {exc}. Restore it, or remove it from the baselines"
        ) from exc


class Judging:
    """Judges the cases of one run, one after the other, as their tests end."""

    def __init__(
        self,
        settings: Settings,
        baseline: Baseline,
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
        self._baseline = baseline
        self._launches = launches
        self._relaunch = relaunch
        self._arguments = arguments
        limits = {} if settings.limit is None else {"known_limit": settings.limit, "unknown_limit": settings.limit}
        held = sum(case in baseline.records for case in cases)  # the others cannot be called anything
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
            found = missing(record, self._baseline, self._reproduce(record))
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
        return judge(records, self._launches, self._baseline, self._rule, self._reproduce(records[0]))

    def _reproduce(self, record: Record) -> str:
        """The command that measures this case again, alone."""
        chosen = [
            f"--attn-backend={record.backend}",
            f"--attn-mode={record.mode}",
            f"--attn-workload={record.workload.name}",
        ]
        return shlex.join(["pytest", "--benchmark-only", *self._arguments, *chosen, *self._settings.again(record)])
