"""Which cases of a run share a process of the launcher, and which must have another than this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from attnbench.backends.errors import errors_as_rows
from attnbench.backends.registry import Backend, OwnProcess
from attnbench.backends.requirements import unmet
from attnbench.hardware.facts import Facts
from attnbench.model import CaseEnded, Workload


@dataclass(frozen=True)
class Group:
    """Cases that share a process, in order, and the variables that it is started with."""

    nodeids: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


class Grouping:
    """The selected cases of a run, grouped by the process that each would run in."""

    def __init__(self, facts: Facts, each_backend: bool) -> None:
        """`each_backend`: whether every backend has a process of its own."""
        self._facts = facts
        self._each_backend = each_backend
        self._cases: dict[str, tuple[Backend, Workload]] = {}  # by node id, in order

    def add(self, nodeid: str, backend: Backend, workload: Workload) -> None:
        """Add the next case; all are added before anything is asked."""
        self._cases[nodeid] = (backend, workload)

    def apart(self, nodeid: str) -> OwnProcess | None:
        """Why this case must be launched apart, None where it need not be.

        It must where cases of another group can run too, or where this process was started without its variables. One
        that cannot run here says so in any process, and on the simulated device nothing runs that could clash.
        """
        return self._apart[nodeid]

    def of(self, nodeid: str) -> Group:
        """The cases that share a process with this one, itself among them."""
        apart, key = self._apart[nodeid], self._key(nodeid)
        nodeids = tuple(other for other in self._cases if self._key(other) == key)
        return Group(nodeids, dict(apart.environment()) if apart else {})

    def _key(self, nodeid: str) -> str:
        apart = self._apart[nodeid]
        return self._cases[nodeid][0].name if self._each_backend else apart.group if apart else ""

    @cached_property
    def _apart(self) -> dict[str, OwnProcess | None]:
        asking = {nodeid for nodeid, (backend, _) in self._cases.items() if backend.own_process}
        if not asking or self._facts.device == "sim":
            return dict.fromkeys(self._cases)
        wanted = {n: self._cases[n][0].own_process if n in asking and self._can_run(n) else None for n in self._cases}
        groups = {apart.group for apart in wanted.values() if apart}
        shared = len(groups) > 1 or any(self._can_run(n) for n in self._cases if n not in asking)
        return {n: apart if apart and (shared or _lacks_variables(apart)) else None for n, apart in wanted.items()}

    def _can_run(self, nodeid: str) -> bool:
        backend, workload = self._cases[nodeid]
        return not unmet(backend.requires, self._facts, workload)


def _lacks_variables(apart: OwnProcess) -> bool:
    """Whether this process was started without its variables; also where they cannot be worked out, which `of` says."""
    try:
        with errors_as_rows("cannot run in its own process", "launch", "cpu"):  # no call into its library was made yet
            return bool(apart.unset())
    except CaseEnded:
        return True
