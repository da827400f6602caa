"""The state of one pytest run: what is selected, on which device, and the result of every case."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import cached_property, partial
from pathlib import Path

import pytest

import attnbench
from attnbench import printable
from attnbench.backends import registry
from attnbench.backends.autotune import own_cache
from attnbench.backends.errors import errors_as_rows
from attnbench.backends.families import FAMILIES
from attnbench.backends.hub import hf_kernels
from attnbench.backends.registry import Backend
from attnbench.backends.variant import Variant, select_variants
from attnbench.backends.versions import CodeVersions
from attnbench.execution.launcher import Launcher
from attnbench.execution.process_groups import Group, Grouping
from attnbench.fingerprint import make_fingerprint
from attnbench.globs import UnknownName, require
from attnbench.hardware.device import DeviceUnusable, OpenDevice, default_device, open_device, release_memory
from attnbench.model import SCHEMA_VERSION, Case, Launch, Reason, Record, RunFile, Status, Workload
from attnbench.plugin.child_command import ChildCommand
from attnbench.plugin.options import Settings
from attnbench.plugin.retest import Judging, open_reviewed
from attnbench.timing.injection import require_targets
from attnbench.workloads.table import all_workloads, default_patterns, select_workloads

RUN = pytest.StashKey["Run"]()


class Run:
    """One pytest run. What costs time is computed on first use."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.config = config
        self.settings = settings
        self.variants: dict[str, Variant] = {}  # selected ones, by name
        self.workloads: dict[str, Workload] = {}
        self.offered = 0  # cases before -k, -m and their like
        self.records: dict[str, Record] = {}  # by node id, in the order of selection
        self.further: dict[str, tuple[Record, ...]] = {}  # the same cases in other launches
        self.launches: dict[str, Launch] = {}
        self.comparison_said: list[str] = []
        self.interrupted = ""
        self.judging: Judging | None = None  # the verdicts of this run
        self.uncompared: list[str] = []  # what fails the run, and has no test that could
        self.spoilt_by = ""  # the case after which nothing may be measured in this process any more
        self._launchers: dict[int, Launcher] = {}
        self._versions = CodeVersions()
        self._child_command = ChildCommand(config)
        self._entry_points_loaded = False

    @cached_property
    def device_type(self) -> str:
        """The device's type, worked out without torch."""
        return self.settings.device or default_device()

    @cached_property
    def device(self) -> OpenDevice:
        """The device, opened. Raises pytest.UsageError when it cannot be used."""
        try:
            return open_device(self.device_type, chosen=self.settings.device is not None)
        except DeviceUnusable as exc:
            raise pytest.UsageError(f"attnbench: {exc}") from exc

    @cached_property
    def launch(self) -> Launch:
        """This process as a launch."""
        context = dict(self.device.context)
        if self.device_type == "sim":
            context["unit"] = self.settings.scenario.unit
        fingerprint = make_fingerprint(self.device.key, context, self.settings.salt)
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return Launch(uuid.uuid4().hex[:12], started, fingerprint, simulated=self.device_type == "sim")

    def select(self) -> None:
        """Work out `variants` and `workloads` from what is registered by now: a nested conftest.py may add to it.

        Raises pytest.UsageError that names the source of an unknown name and the nearest known ones.
        """
        assert FAMILIES, "imported for its registrations"
        if not self._entry_points_loaded:
            registry.load_entry_points()
            self._entry_points_loaded = True
        settings = self.settings
        try:
            wanted, from_the_hub = hf_kernels.asked_for(settings.backends)
            backends = {**registry.all_backends(), **from_the_hub}
            workloads = select_workloads(settings.workloads or default_patterns(self.device_type))
            variants = select_variants(backends, wanted, settings.modes)
            cases = [str(variant.case(workload)) for variant in variants for workload in workloads]
            names = [*dict.fromkeys(v.backend.name for v in variants), *map(str, variants), *cases]
            require_targets("inject", (injection.glob for injection in settings.injections), names)
            self._require_limits(names, backends)
            require(
                "reference", settings.reference, [f"{b.name}@{mode}" for b in backends.values() for mode in b.modes]
            )
        except ValueError as exc:
            source = settings.sources[exc.kind if isinstance(exc, UnknownName) else "workload"]
            raise pytest.UsageError(f"{source}: {exc}") from exc
        self.workloads = {workload.name: workload for workload in workloads}
        self.variants = {str(variant): variant for variant in variants}

    def _require_limits(self, selected: Sequence[str], backends: dict[str, Backend]) -> None:
        """Raise UnknownName for a limit of the command line that is no selected case's.

        One of the ini file or the environment stays while other cases are selected: one that is of no case that is known
        here is said.
        """
        globs = [limit.glob for limit in self.settings.limits if limit.glob]
        source = self.settings.sources["limit"]
        try:
            require_targets("limit", globs, selected)
        except UnknownName:
            if source.startswith("--"):
                raise
        else:
            return
        variants = select_variants(backends, (), ())
        cases = [str(variant.case(workload)) for variant in variants for workload in all_workloads().values()]
        for glob in globs:
            try:
                require_targets("limit", [glob], [*selected, *backends, *map(str, variants), *cases], "known case")
            except UnknownName as exc:
                self.say(f"{source} has no effect: {exc}")

    def launched(self, draft: Record, number: int) -> Record:
        """One case as the process `number` of those that this run starts measures it.

        0 is that of an isolated case, 1 to N are those of --attn-launches N, and spare ones for suspects follow. A process
        stays and takes the later cases of its group too.
        """
        launcher = self._launchers.get(number)
        if launcher is None:
            release_memory(self.device_type)
            launcher = self._launchers[number] = self._launcher(self._child_settings(number))
        with errors_as_rows("cannot run in its own process", "launch", self.device_type):
            group = self.grouping.of(draft.nodeid)
        record = launcher.record(group, draft)
        self.launches.update((launch.id, launch) for launch in launcher.launches)
        apart = self.grouping.apart(draft.nodeid)
        return replace(record, apart=apart.why if apart else "")

    def relaunched(self, draft: Record, number: int, cache: Path | None, limit_s: float | None) -> Record:
        """One case measured again, in the spare process `number`.

        With a folder `cache`, in a process for it alone, which has that as its compiler's cache and so many seconds.
        """
        if cache is None:
            return self.launched(draft, number)
        release_memory(self.device_type)
        group = Group((draft.nodeid,), {**self.grouping.of(draft.nodeid).environment, **own_cache(cache)})
        settings = self._child_settings(number)
        settings += ["--attn-sim=cache=own"] if self.device_type == "sim" else []
        launcher = self._launcher(settings, limit_s)
        try:
            record = launcher.record(group, draft)
        finally:
            launcher.close()
        self.launches.update((launch.id, launch) for launch in launcher.launches)
        return record

    @property
    def is_child(self) -> bool:
        """Whether another process started this one, and asks it for cases."""
        return bool(self.config.getoption("attn_worker", None))

    @property
    def launch_numbers(self) -> Sequence[int]:
        """The processes that measure a case which is not measured in this one."""
        return range(1, self.settings.launches + 1) if self.settings.launches else (0,)

    def begin_judging(self, cases: Sequence[str]) -> None:
        """Read the baseline for these selected cases, where cases are timed and a folder of baselines is configured.

        Raises pytest.UsageError for a stored session that cannot be read: before anything runs, and is a row.
        """
        times = not (self.config.getoption("benchmark_disable", False) or self.is_child)
        if self.settings.baselines is None or not times:
            return
        named = self.config.args if self.config.args_source is pytest.Config.ArgsSource.ARGS else ()
        overrides = [part for override in self.config.option.override_ini or () for part in ("-o", override)]
        first_spare = (self.settings.launches or 0) + 1
        self.judging = Judging(
            self.settings,
            open_reviewed(self.settings, self.config.rootpath, self.launch, self.device.facts.device_name),
            cases,
            launches=self.launches,
            relaunch=lambda record, spare, cache, limit_s: self.relaunched(record, first_spare + spare, cache, limit_s),
            arguments=[*overrides, *named],
        )

    @cached_property
    def order(self) -> dict[str, int]:
        """By backend, where its cases stand: those that may share a process of the launcher, together."""
        backends = [variant.backend for variant in self.variants.values()]
        if self.settings.isolate:
            process = {backend.name: backend.name for backend in backends}
        else:
            process = {b.name: b.own_process.group for b in backends if b.own_process and self.device_type != "sim"}
        places = {key: at for at, key in enumerate(dict.fromkeys(process.values()), 1)}
        return {name: places[key] for name, key in process.items()}

    @property
    def rounds(self) -> int:
        return self.settings.rounds_on(self.device_type)

    @cached_property
    def grouping(self) -> Grouping:
        """The selected cases by the process that they would run in."""
        return Grouping(self.device.facts, each_backend=self.settings.isolate)

    def isolates(self, nodeid: str) -> bool:
        """Whether this case runs in another process: on request, because of its backend, or because this one is spoilt."""
        if self.is_child:
            return False  # this is the other process
        asked = self.settings.isolate or bool(self.settings.launches)
        return asked or bool(self.spoilt_by) or self.grouping.apart(nodeid) is not None

    def draft(self, variant: Variant, workload: Workload, nodeid: str) -> Record:
        """The record of a case that has not run yet."""
        return Record(
            case=str(Case(variant.backend.name, variant.mode, workload.name)),
            backend=variant.backend.name,
            family=variant.backend.family,
            mode=variant.mode,
            workload=workload,
            launch=self.launch.id,
            status=Status.NOT_RUN,
            reasons=(Reason("not-reached", "the run ended before this case"),),
            nodeid=nodeid,
            versions=self._versions.of(variant.backend),
        )

    def expect(self, items: Sequence[pytest.Item]) -> None:
        """Note every selected case, so that one that never runs has a row too."""
        self.launches[self.launch.id] = self.launch
        for item in items:
            variant, workload = case_of(item, self)
            self.records[item.nodeid] = self.draft(variant, workload, item.nodeid)
            self.grouping.add(item.nodeid, variant.backend, workload)

    def note(self, record: Record, *further: Record) -> None:
        """Keep what became of a case, in this launch and in further ones."""
        self.records[record.nodeid] = record
        self.further[record.nodeid] = further
        here = record.launch == self.launch.id  # what happened in another process did not happen in this one
        if here and record.spoils_process:
            self.spoilt_by = record.case

    def say(self, text: str) -> None:
        """Print a line below the section, once for all cases; quotes from a stored run are escaped."""
        shown = printable.line(printable.message(text))
        if shown not in self.comparison_said:
            self.comparison_said.append(shown)

    @property
    def unreached(self) -> list[Record]:
        """Selected cases that have not run yet."""
        waiting = (record for record in self.records.values() if record.status is Status.NOT_RUN)
        return [record for record in waiting if record.reasons[0].code == "not-reached"]

    def finish(self, ended_by: str) -> None:
        """Give the cases that did not run their reason; `ended_by` is pytest's reason for a run that ended early."""
        self.interrupted = self.interrupted or ended_by
        if self.interrupted:
            reason = Reason("not-reached", f"the run ended before this case: {self.interrupted}")
            for record in self.unreached:
                self.records[record.nodeid] = replace(record, reasons=(reason,))
        for launcher in self._launchers.values():
            launcher.close()
        self.uncompared = self.judging.finish(list(self.records.values())) if self.judging else []

    def file(self) -> RunFile:
        """What this run prints, and stores beside pytest-benchmark's figures; its strings are safe to print."""
        records = tuple(r for nodeid, record in self.records.items() for r in (record, *self.further.get(nodeid, ())))
        used = {record.launch for record in records}
        launches = tuple(launch for launch in self.launches.values() if launch.id in used)
        return printable.shown(
            RunFile(
                SCHEMA_VERSION,
                attnbench.__version__,
                self.settings.reference,
                launches,
                records,
                self.interrupted,
                tuple(self.judging.verdicts.values()) if records and self.judging else (),
                baselines_from=self.judging.reviewed.commit if self.judging else "",
                baseline_changes=self.judging.reviewed.changes if self.judging else (),
            )
        )

    def _launcher(self, settings: list[str], limit_s: float | None = None) -> Launcher:
        command = partial(self._child_command, settings=settings)
        return Launcher(command, self.config.invocation_params.dir, limit_s or self.settings.timeout_s)

    def _child_settings(self, number: int) -> list[str]:
        """What tells a fresh process our settings, the same on both sides."""
        arguments = self.settings.arguments(self.device_type)
        if self.device_type == "sim" and number:
            arguments.append(f"--attn-sim=launch={number}")  # or every launch would draw the same noise
        return arguments


def case_of(item: pytest.Item, run: Run) -> tuple[Variant, Workload]:
    """The variant and workload of an attnbench item."""
    params = item.callspec.params  # type: ignore[attr-defined]
    return run.variants[params["attn_variant"]], run.workloads[params["attn_workload"]]


def is_selected(item: pytest.Item) -> bool:
    """Whether a case has a variant and a workload: its file may have been collected while their names were unknown."""
    return "attn_variant" in getattr(getattr(item, "callspec", None), "params", ())


def is_case(item: pytest.Item) -> bool:
    """Whether a collected item is one of ours: it uses the fixture `attn_case`."""
    return "attn_case" in getattr(item, "fixturenames", ())
