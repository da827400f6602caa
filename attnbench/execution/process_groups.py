"""Which cases of a run share a process of the launcher, and which need another one than this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from attnbench.backends.errors import errors_as_rows
from attnbench.backends.registry import Backend, OwnProcess
from attnbench.backends.requirements import unmet
from attnbench.hardware.facts import Facts
from attnbench.model import CaseEnded
from attnbench.workload import Workload


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

    def own_process(self, nodeid: str) -> OwnProcess | None:
        """Why this case needs a process of its own, None where it does not.

        It does where cases of another group can run too, or where this process was started without its variables. One
        that cannot run here says so in any process, and on the simulated device nothing runs that could clash.
        """
        return self._own_processes[nodeid]

    def of(self, nodeid: str) -> Group:
        """The cases that share a process with this one, itself among them."""
        own, key = self._own_processes[nodeid], self._key(nodeid)
        nodeids = tuple(other for other in self._cases if self._key(other) == key)
        return Group(nodeids, dict(own.environment()) if own else {})

    def _key(self, nodeid: str) -> str:
        own = self._own_processes[nodeid]
        return self._cases[nodeid][0].name if self._each_backend else own.group if own else ""

    @cached_property
    def _own_processes(self) -> dict[str, OwnProcess | None]:
        if self._facts.device == "sim":
            return dict.fromkeys(self._cases)
        asking = {n: b.own_process for n, (b, _) in self._cases.items() if b.own_process and self._can_run(n)}
        groups = {own.group for own in asking.values()}
        others_run = any(self._can_run(n) for n, (b, _) in self._cases.items() if asking and not b.own_process)
        is_shared = len(groups) > 1 or others_run
        needed = {nodeid: own for nodeid, own in asking.items() if is_shared or _lacks_variables(own)}
        return {nodeid: needed.get(nodeid) for nodeid in self._cases}

    def _can_run(self, nodeid: str) -> bool:
        backend, workload = self._cases[nodeid]
        try:
            return not unmet(backend.requirements, self._facts, workload)
        except CaseEnded:  # a requirement that fails ends the case before anything of it is loaded
            return False


def _lacks_variables(own: OwnProcess) -> bool:
    """Whether this process was started without its variables; also where they cannot be worked out, which `of` says."""
    try:
        with errors_as_rows("cannot run in its own process", "launch", "cpu"):  # no call into its library was made yet
            return bool(own.unset())
    except CaseEnded:
        return True
