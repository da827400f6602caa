"""Where cases run: in this process, or in fresh ones that the launcher starts."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from attnbench import dependencies
from attnbench.fingerprint import make_fingerprint
from attnbench.hardware.device import DeviceUnusable, OpenDevice, default_device, open_device, release_memory
from attnbench.model import DeviceCeilings, Launch, Record
from attnbench.plugin.child_command import ChildCommand, child_pipes
from attnbench.plugin.settings import Settings
from attnbench.workload import Workload

if TYPE_CHECKING:
    from attnbench.backends.registry import Backend
    from attnbench.execution.launcher import Launcher
    from attnbench.execution.process_groups import Group, Grouping


class ThisProcess:
    """The process that pytest runs in: its device, and itself as a launch. What costs time is computed on first use."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._settings = settings
        disabled = config.getoption("benchmark_disable", False) and not config.getoption("benchmark_enable", False)
        self._times = not disabled
        self.is_child = child_pipes(config) is not None  # another process started it, and asks it for cases

    @cached_property
    def device_type(self) -> str:
        """The device's type, worked out without torch."""
        return self._settings.device or default_device()

    @cached_property
    def device(self) -> OpenDevice:
        """The device, opened. Raises pytest.UsageError when it cannot be used, or a package is missing."""
        if lacking := dependencies.missing():
            raise pytest.UsageError(f"attnbench: {lacking}")
        try:
            return open_device(self.device_type, chosen=self._settings.device is not None)
        except DeviceUnusable as exc:
            raise pytest.UsageError(f"attnbench: {exc}") from exc

    @cached_property
    def launch(self) -> Launch:
        """This process as a launch. Raises pytest.UsageError as `device` does."""
        simulated = self.device_type == "sim"
        unit = {"unit": self._settings.scenario.unit} if simulated else {}
        fingerprint = make_fingerprint(self.device.key, {**self.device.context, **unit}, self._settings.salt)
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        smi = self.device.nvidia_smi
        return Launch(uuid.uuid4().hex[:12], started, fingerprint, simulated, smi, self._ceilings())

    def _ceilings(self) -> DeviceCeilings | None:
        """What the GPU reaches, where that was asked for and this process times cases."""
        times_here = self._times and (self.is_child or not self._settings.in_fresh_processes)
        if not self._settings.roofline or not times_here:
            return None
        from attnbench.timing.ceilings import device_ceilings

        return device_ceilings(self.device_type)


class ProcessPool:
    """The fresh processes of one run, by number.

    0 is the one that isolated cases run in, 1 to N are those of --attn-launches N, and spare ones for suspects follow. A
    process stays and takes the later cases of its group too.
    """

    def __init__(self, config: pytest.Config, settings: Settings, here: ThisProcess) -> None:
        self._settings = settings
        self._here = here
        self._started_in = config.invocation_params.dir
        self._child_command = ChildCommand(config)
        self._launchers: dict[int, Launcher] = {}
        self._launches: dict[str, Launch] = {}

    @property
    def launches(self) -> Mapping[str, Launch]:
        """This process and all that it started, by id."""
        return {self._here.launch.id: self._here.launch, **self._launches}

    @property
    def numbers(self) -> Sequence[int]:
        """The processes that each measure a case which is not measured in this one."""
        return range(1, self._settings.launches + 1) if self._settings.launches else (0,)

    def expect(self, nodeid: str, backend: Backend, workload: Workload) -> None:
        """Add the next selected case; all are added before one runs."""
        self._grouping.add(nodeid, backend, workload)

    def runs_elsewhere(self, nodeid: str) -> bool:
        """Whether this case needs a fresh process, on request or because of its backend."""
        if self._here.is_child:
            return False  # this is the fresh process
        return self._settings.in_fresh_processes or self._grouping.own_process(nodeid) is not None

    def measure(self, draft: Record, number: int) -> Record:
        """The case of a draft as the process `number` measures it. Raises CaseEnded where that cannot be started."""
        from attnbench.backends.errors import errors_as_rows

        launcher = self._launchers.get(number)
        if launcher is None:
            release_memory(self._here.device_type)
            launcher = self._launchers[number] = self._launcher(self._arguments(number))
        with errors_as_rows("cannot run in its own process", "launch", self._here.device_type):
            group = self._grouping.of(draft.nodeid)
        record = self._record(launcher, group, draft)
        own = self._grouping.own_process(draft.nodeid)
        return replace(record, apart=own.why if own else "")

    def measure_again(self, draft: Record, spare: int) -> Record:
        """The case of a draft once more, in the spare process of that number. Raises as `measure` does."""
        return self.measure(draft, self._first_spare + spare)

    def measure_with_own_cache(self, draft: Record, spare: int, cache: Path, limit_s: float) -> Record:
        """The same in a process for this case alone, whose compilers cache below `cache`.

        `limit_s`: seconds that it has to start, and to answer.
        """
        from attnbench.backends.autotune import own_cache
        from attnbench.execution.process_groups import Group

        release_memory(self._here.device_type)
        group = Group((draft.nodeid,), {**self._grouping.of(draft.nodeid).environment, **own_cache(cache)})
        own_cache_entry = ["--attn-sim=cache=own"] if self._here.device_type == "sim" else []
        launcher = self._launcher([*self._arguments(self._first_spare + spare), *own_cache_entry], limit_s)
        try:
            return self._record(launcher, group, draft)
        finally:
            launcher.close()

    def places(self, backends: Sequence[Backend]) -> dict[str, int]:
        """By backend, where its cases stand: those that may share a fresh process, together."""
        if self._settings.isolate:
            process = {backend.name: backend.name for backend in backends}
        else:
            process = {
                b.name: b.own_process.group for b in backends if b.own_process and self._here.device_type != "sim"
            }
        places = {key: at for at, key in enumerate(dict.fromkeys(process.values()), 1)}
        return {name: places[key] for name, key in process.items()}

    def close(self) -> None:
        """End all processes that still wait for a case."""
        for launcher in self._launchers.values():
            launcher.close()

    @cached_property
    def _grouping(self) -> Grouping:
        from attnbench.execution.process_groups import Grouping

        return Grouping(self._here.device.facts, each_backend=self._settings.isolate)

    @property
    def _first_spare(self) -> int:
        return (self._settings.launches or 0) + 1

    def _record(self, launcher: Launcher, group: Group, draft: Record) -> Record:
        record = launcher.record(group, draft)
        self._launches.update((launch.id, launch) for launch in launcher.launches)
        return record

    def _launcher(self, arguments: list[str], limit_s: float | None = None) -> Launcher:
        from attnbench.execution.launcher import Launcher

        command = partial(self._child_command, settings=arguments)
        return Launcher(command, self._started_in, limit_s or self._settings.timeout_s)

    def _arguments(self, number: int) -> list[str]:
        """What tells a fresh process our settings, the same on both sides."""
        settings = self._settings
        if number >= self._first_spare:  # its rounds are what is asked for; load and roofline are not judged
            settings = replace(settings, sustained_s=None, roofline=False)
        arguments = settings.arguments(self._here.device_type)
        if self._here.device_type == "sim" and number:
            arguments.append(f"--attn-sim=launch={number}")  # or every launch would draw the same noise
        return arguments
