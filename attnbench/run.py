"""The state of one pytest run: what is selected, on which device, and what became of every case (layer 4)."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import cached_property

import pytest

import attnbench
from attnbench import registry
from attnbench.backends import FAMILIES
from attnbench.device import DeviceUnusable, OpenDevice, default_device, open_device
from attnbench.fingerprint import make_fingerprint
from attnbench.launcher import Launcher
from attnbench.model import SCHEMA_VERSION, Case, Launch, Reason, Record, RunFile, Status, Workload
from attnbench.settings import Settings
from attnbench.variant import Variant, select_variants
from attnbench.workloads import default_patterns, select_workloads

RUN = pytest.StashKey["Run"]()


class Run:
    """One pytest run. Everything that costs time is worked out when it is first asked for."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.config = config
        self.settings = settings
        self.records: dict[str, Record] = {}  # by node id, in the order of selection
        self.launches: dict[str, Launch] = {}
        self.comparison_said: list[str] = []
        self.interrupted = ""
        self.context_lost_by = ""
        self.groups: dict[str, list[str]] = {}  # backend → node ids, for the launcher

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
        fingerprint = make_fingerprint(self.device.key, self.device.context, self.settings.salt)
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return Launch(uuid.uuid4().hex[:12], started, fingerprint, simulated=self.device_type == "sim")

    @cached_property
    def variants(self) -> dict[str, Variant]:
        """Selected variants by name. Raises pytest.UsageError for an unknown name."""
        assert FAMILIES, "imported for its registrations"
        registry.load_entry_points()
        try:
            chosen = select_variants(registry.all_backends(), self.settings.backends, self.settings.modes)
        except ValueError as exc:
            raise pytest.UsageError(f"attnbench: {exc}") from exc
        return {str(variant): variant for variant in chosen}

    @cached_property
    def workloads(self) -> dict[str, Workload]:
        """Selected workloads by name. Raises pytest.UsageError for an unknown name."""
        patterns = self.settings.workloads or default_patterns(self.device_type)
        try:
            chosen = select_workloads(patterns)
        except ValueError as exc:
            raise pytest.UsageError(f"attnbench: --attn-workload: {exc}") from exc
        return {workload.name: workload for workload in chosen}

    @cached_property
    def launcher(self) -> Launcher:
        """The launcher of isolated cases."""
        return Launcher(self._child_command, self.settings.timeout_s)

    @property
    def backends(self) -> list[str]:
        """Names of the selected backends, in order."""
        return list(dict.fromkeys(variant.backend.name for variant in self.variants.values()))

    @property
    def rounds(self) -> int:
        return self.settings.rounds_on(self.device_type)

    def isolates(self) -> bool:
        """Whether the next case runs in a process of its own: on request, or because this one's CUDA context is gone."""
        return self.settings.isolate or bool(self.context_lost_by)

    def draft(self, variant: Variant, workload: Workload, nodeid: str) -> Record:
        """The record of a case that nothing is known of yet."""
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
        )

    def expect(self, items: Sequence[pytest.Item]) -> None:
        """Note every selected case, so that one that never runs is a row all the same."""
        self.launches[self.launch.id] = self.launch
        for item in items:
            variant, workload = case_of(item, self)
            self.records[item.nodeid] = self.draft(variant, workload, item.nodeid)
            self.groups.setdefault(variant.backend.name, []).append(item.nodeid)

    def note(self, record: Record) -> None:
        """Keep what became of a case."""
        self.records[record.nodeid] = record
        if any(reason.code == "context-lost" for reason in record.reasons) and not self.settings.isolate:
            self.context_lost_by = record.case

    def finish(self, ended_by: str) -> None:
        """Say why the cases that did not run did not: `ended_by` is pytest's own word for a run that ended early."""
        self.interrupted = self.interrupted or ended_by
        if self.interrupted:
            reason = Reason("not-reached", f"the run ended before this case: {self.interrupted}")
            for nodeid, record in self.records.items():
                if record.status is Status.NOT_RUN and record.reasons[0].code == "not-reached":
                    self.records[nodeid] = replace(record, reasons=(reason,))
        if "launcher" in self.__dict__:
            self.launches.update((launch.id, launch) for launch in self.launcher.launches)
            self.launcher.close()

    def file(self) -> RunFile:
        """What this run stores beside pytest-benchmark's own figures."""
        used = {record.launch for record in self.records.values()}
        launches = tuple(launch for launch in self.launches.values() if launch.id in used)
        return RunFile(
            SCHEMA_VERSION,
            attnbench.__version__,
            self.settings.reference,
            launches,
            tuple(self.records.values()),
            self.interrupted,
        )

    def _child_command(self, pipes: str) -> list[str]:
        """The same pytest run in a fresh process, told by `--attn-worker` which cases to wait for."""
        config = self.config
        command = [sys.executable, "-m", "pytest", "-p", "attnbench.plugin", f"--rootdir={config.rootpath}"]
        command += ["-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:xdist"]
        if config.inipath is not None:
            command += ["-c", str(config.inipath)]
        for plugin in config.option.plugins:
            command += ["-p", plugin]
        for override in config.option.override_ini or ():
            command += ["-o", override]
        if config.option.pyargs:
            command.append("--pyargs")
        if config.getoption("benchmark_disable", False):
            command.append("--benchmark-disable")
        return [*command, f"--attn-worker={pipes}", *self.settings.arguments(self.device_type), *config.args]


def case_of(item: pytest.Item, run: Run) -> tuple[Variant, Workload]:
    """The variant and workload of an attnbench item."""
    params = item.callspec.params  # type: ignore[attr-defined]
    return run.variants[params["attn_variant"]], run.workloads[params["attn_workload"]]


def is_case(item: pytest.Item) -> bool:
    """Whether a collected item is one of ours: it uses the fixture `attn_case`."""
    return "attn_case" in getattr(item, "fixturenames", ())
