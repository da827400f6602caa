"""The state of one pytest run: what is selected, where it runs, and the result of every case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import pytest

import attnbench
from attnbench import printable
from attnbench.hardware.device import has_lost_context
from attnbench.model import SCHEMA_VERSION, Reason, Record, RunFile, Status, VerdictKind
from attnbench.plugin.process_pool import ProcessPool, ThisProcess
from attnbench.plugin.result_log import NOT_REACHED, ResultLog
from attnbench.plugin.selection import Selection, case_of, select
from attnbench.plugin.settings import Settings
from attnbench.units import counted
from attnbench.workload import Workload

if TYPE_CHECKING:
    from attnbench.backends.variant import Variant
    from attnbench.backends.versions import CodeVersions
    from attnbench.plugin.retest import Retest

RUN = pytest.StashKey["RunState"]()


class RunState:
    """Holds the parts of one run: `selection`, `here` and `processes`, `results`, and `retest` where cases are judged."""

    def __init__(self, config: pytest.Config, settings: Settings, results: ResultLog) -> None:
        self._config = config
        self.selection = Selection(settings)  # replaced as a whole, until everything is collected
        self.here = ThisProcess(config, settings)
        self.processes = ProcessPool(config, settings, self.here)
        self.results = results
        self.retest: Retest | None = None

    @property
    def settings(self) -> Settings:
        return self.selection.settings

    @property
    def rounds(self) -> int:
        """Timed calls per case."""
        return self.settings.rounds_on(self.here.device_type)

    @property
    def shows_tracebacks(self) -> bool:
        """Whether the user asked for the traceback of an error: --tb=short, --tb=long or --tb=native."""
        return self._config.option.tbstyle in ("short", "long", "native")

    @property
    def shows_details(self) -> bool:
        """Whether the user asked for every reason: -v."""
        return bool(self._config.get_verbosity() > 0)

    @property
    def is_debugged(self) -> bool:
        """Whether the user looks at what failed: --pdb."""
        return bool(self._config.option.usepdb)

    def select(self) -> None:
        """Work out the selection from what is registered by now. Raises pytest.UsageError as `select` does."""
        _ = self._entry_points
        offered = self.selection.offered
        self.selection = replace(select(self.settings, self.here.device_type), offered=offered)
        for sentence in self.selection.without_effect:
            self.results.remark(sentence)

    def expect(self, items: Sequence[pytest.Item]) -> None:
        """Note every selected case, so that one that never runs has a row too."""
        self.results.add_launches([self.here.launch])
        for item in items:
            variant, workload = case_of(item, self.selection)
            self.results.add(self.draft(variant, workload, item.nodeid))
            self.processes.expect(item.nodeid, variant.backend, workload)

    def draft(self, variant: Variant, workload: Workload, nodeid: str) -> Record:
        """The record of a case that has not run yet."""
        return Record(
            case=str(variant.case(workload)),
            backend=variant.backend.name,
            family=variant.backend.family,
            mode=variant.mode,
            workload=workload,
            launch=self.here.launch.id,
            status=Status.NOT_RUN,
            reasons=(Reason(NOT_REACHED, "the run ended before this case"),),
            nodeid=nodeid,
            versions=self._versions.of(variant.backend),
        )

    def runs_elsewhere(self, nodeid: str) -> bool:
        """Whether this case runs in a fresh process: on request, because of its backend, or because this one is spoilt."""
        return (not self.here.is_child and self.is_spoilt) or self.processes.runs_elsewhere(nodeid)

    @property
    def is_spoilt(self) -> bool:
        """Whether no further case may be measured in this process."""
        return self.results.spoils(self.here.launch.id) or has_lost_context()

    def note_lost_context(self) -> None:
        """Remark that the CUDA context is lost, where no case's record tells of it."""
        if not self.results.spoils(self.here.launch.id) and has_lost_context():
            self.results.remark(
                "something between two cases, in a test or a fixture, took the CUDA context with it; the cases after it "
                "ran in fresh processes"
            )

    def begin_judging(self, cases: Sequence[str]) -> None:
        """Read the baseline for these selected cases, where cases are timed and a folder of baselines is configured.

        Raises pytest.UsageError for a stored session that cannot be read: before anything runs, and is a row.
        """
        config = self._config
        times = not (config.getoption("benchmark_disable", False) or self.here.is_child)
        if not times:
            return
        from attnbench.plugin.retest import Retest  # not for a child, which starts faster without
        from attnbench.plugin.reviewed_sessions import open_reviewed, unused_sessions
        from attnbench.storage.folders import is_absent

        if self.settings.baselines is None:
            if hint := unused_sessions(config, self.here.device.facts.device_name):
                self.results.remark(hint)
            return
        if self.settings.baselines_from is None and is_absent(self.settings.baselines):
            self.results.remark(
                f"attn_baselines: there is no folder {self.settings.baselines}; attnbench record makes it"
            )
        named = config.args if config.args_source is pytest.Config.ArgsSource.ARGS else ()
        overrides = [part for override in config.option.override_ini or () for part in ("-o", override)]
        here = self.here
        reviewed = open_reviewed(self.settings, config.rootpath, here.launch, here.device.facts.device_name)
        self.retest = Retest(self.settings, reviewed, cases, self.processes, arguments=[*overrides, *named])

    def failure(self, record: Record) -> str | None:
        """The message with which the test of this case fails; None where its verdict does not fail it."""
        if self.retest is None:
            return None
        from attnbench.report.verdicts import line

        missing = self.retest.missing(record) if record.sample is None else None
        if missing is not None:
            self.results.add_verdict(missing)
        verdict = self.results.verdicts.get(record.nodeid)
        return line(verdict, record) if verdict is not None and self.retest.fails(verdict) else None

    def finish(self, ended_by: str) -> bool:
        """End the processes, and give the cases that did not run their reason.

        `ended_by` is pytest's reason for a run that ended early. True if a selected case fails the run by its verdict and
        has no test left that could fail. A test that ended before it measured does not fail its case if another test
        measured it.
        """
        self.results.end(ended_by)
        self.results.explain_unreached()
        self.processes.close()
        verdicts = dict(self.results.verdicts)
        judged = {verdict.case for verdict in verdicts.values() if verdict.kind is not VerdictKind.MISSING}
        records = self.results.records.values()
        left = [record for record in records if record.nodeid not in verdicts and record.case not in judged]
        failures = [failure for failure in map(self.failure, left) if failure is not None]
        absent = [
            record for record in left if record.status is Status.NOT_RUN and record.nodeid not in self.results.verdicts
        ]
        requires = self.settings.require_baseline and self.retest is not None  # which is None where nothing is compared
        if requires and absent and not self.results.interrupted:
            self.results.remark(
                f"failed by --attn-require-baseline: {counted(len(absent), 'case')} did not run, and no comparable "
                f"session has {'it' if len(absent) == 1 else 'them'}"
            )
            return True
        return bool(failures)

    def file(self) -> RunFile:
        """What this run prints, and stores beside pytest-benchmark's figures; its strings are safe to print."""
        records = self.results.all_records
        return printable.shown(
            RunFile(
                SCHEMA_VERSION,
                attnbench.__version__,
                self.settings.reference,
                self.results.launches,
                records,
                self.results.interrupted,
                tuple(self.results.verdicts.values()) if records else (),
                baselines_from=self.retest.reviewed.commit if self.retest else "",
                baseline_changes=self.retest.reviewed.changes if self.retest else (),
            )
        )

    @cached_property
    def _versions(self) -> CodeVersions:
        from attnbench.backends.versions import CodeVersions

        return CodeVersions()

    @cached_property
    def _entry_points(self) -> None:
        """Loaded once: a broken one registers a backend that says so."""
        from attnbench.backends.registry import load_entry_points

        load_entry_points()
