"""The simulated device: seeded noise with chosen slow-downs and failures, through the whole machinery (layer 2).

Nothing here computes attention and nothing here is a measurement; whatever is printed from it says *simulated*. Tests of
the machinery and the examples in the documentation use it, because it gives the same numbers on every machine.
"""

from __future__ import annotations

import os
import random
import re
import signal
import time
import zlib
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from attnbench.device import OpenDevice
from attnbench.model import (
    MODES,
    CaseEnded,
    Check,
    Compilation,
    DeviceOp,
    ErrorMetrics,
    Reason,
    Record,
    Sample,
    Status,
)
from attnbench.timer import Timer
from attnbench.torch_case import Rounds, nothing
from attnbench.variant import Variant

BETWEEN_ROUNDS, BETWEEN_LAUNCHES = 0.0015, 0.001  # relative standard deviations, as measured on H200s
OUTCOMES = ("unsupported", "incorrect", "error", "context-lost", "crash", "hang", "exit")

_SLOWDOWN = re.compile(r"([+-]\d+(?:\.\d+)?)%")


@dataclass(frozen=True)
class Scenario:
    """What a simulated run shall show: a seed, and per glob of variants or cases a slow-down or an outcome."""

    seed: int
    slowdowns: tuple[tuple[str, float], ...]
    outcomes: tuple[tuple[str, str], ...]


def parse_scenario(entries: tuple[str, ...]) -> Scenario:
    """Entries `seed=7`, `torch_flash*:+2%`, `torch_math@eager:error`. Raises ValueError that names the entry."""
    seed, slowdowns, outcomes = 0, [], []
    for entry in entries:
        name, separator, what = entry.rpartition(":")
        if entry.startswith("seed=") and entry[5:].isdigit():
            seed = int(entry[5:])
        elif separator and (match := _SLOWDOWN.fullmatch(what)):
            slowdowns.append((name, float(match.group(1)) / 100))
        elif separator and what in OUTCOMES:
            outcomes.append((name, what))
        else:
            raise ValueError(
                f"{entry!r} is none of seed=N, GLOB:+P%, GLOB:OUTCOME with an outcome of {', '.join(OUTCOMES)}"
            )
    return Scenario(seed, tuple(slowdowns), tuple(outcomes))


class SimCase:
    """One simulated case, with the steps of `TorchCase`."""

    def __init__(self, variant: Variant, record: Record, scenario: Scenario) -> None:
        self.record = record
        self._variant = variant
        self._scenario = scenario

    def prepare(self, device: OpenDevice) -> None:
        """Whatever the scenario says of this case. Raises CaseEnded, or really dies for crash, hang and exit."""
        del device
        backend, compiled = self._variant.backend, self._variant.mode != "eager"
        self.record = replace(self.record, layout=backend.layout, tolerance=backend.tolerance)
        outcome = self._outcome()
        if outcome == "unsupported":
            raise CaseEnded(Status.UNSUPPORTED, Reason("device", "simulated: needs a device that is not there"))
        if outcome == "error":
            raise CaseEnded(Status.ERROR, Reason("load", "simulated: cannot be loaded: ImportError: undefined symbol"))
        if outcome == "context-lost":
            raise CaseEnded(
                Status.ERROR, Reason("context-lost", "simulated: an illegal memory access took the context")
            )
        if outcome == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if outcome == "hang":
            time.sleep(3600)
        if outcome == "exit":
            os._exit(3)
        self.record = replace(
            self.record,
            first_call_s=round(0.4 + 2 * MODES.index(self._variant.mode), 3),
            workspace_bytes=2 * self.record.workload.flop // (4 * self.record.workload.seq),
            output_contiguous=True,
            compilation=Compilation(1) if compiled else None,
        )

    def assert_accurate(self) -> None:
        """A small error, or one beyond its tolerance when the scenario says incorrect."""
        wrong = self._outcome() == "incorrect"
        error = _error(0.2 if wrong else 5e-4)
        check = Check("randn", error, _error(1e-3), _error(5e-4), {"max_abs": 2e-3}, "all", poisoned=True)
        self.record = replace(self.record, checks=(check,))
        if wrong:
            text = "simulated: max_abs found 0.2, allowed 0.002 on randn inputs"
            raise CaseEnded(Status.INCORRECT, Reason("tolerance", text))

    def assert_route(self) -> None:
        """One simulated kernel, always the right one."""
        self.record = replace(self.record, route=(DeviceOp(f"simulated::{self.record.backend}"),))

    def rounds(self, count: int, timer: Timer) -> Rounds:
        """Seeded rounds around a latency that depends on the backend's name only, times the chosen slow-downs."""
        noise = random.Random(f"{self._scenario.seed}:{self.record.case}")
        tflop_per_s = 300 + zlib.crc32(self.record.backend.encode()) % 400
        base_s = self.record.workload.flop / (tflop_per_s * 1e12) * (1 + noise.gauss(0, BETWEEN_LAUNCHES))
        for glob, slowdown in self._scenario.slowdowns:
            if self._matches(glob):
                base_s *= 1 + slowdown
        rounds_s = [base_s * (1 + noise.gauss(0, BETWEEN_ROUNDS)) for _ in range(count)]
        timer.replay("simulated", rounds_s)
        return Rounds(count, nothing, nothing, lambda found: Sample(tuple(found), "simulated", host_s=45e-6))

    def close(self) -> None:
        """Nothing to let go of."""

    def _outcome(self) -> str | None:
        return next((outcome for glob, outcome in self._scenario.outcomes if self._matches(glob)), None)

    def _matches(self, glob: str) -> bool:
        names = (self.record.backend, self.record.variant, self.record.case)
        return glob in names or any(fnmatchcase(name, glob) for name in names)


def _error(size: float) -> ErrorMetrics:
    return ErrorMetrics(size, size / 12, size**2, size * 4, size * 4, 1.0, 0, (0, 0, 0, 0), size, 0.0)
