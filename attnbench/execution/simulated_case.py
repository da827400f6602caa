"""The simulated device: seeded noise with chosen slow-downs and failures, through the whole machinery.

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
from collections.abc import Sequence
from dataclasses import dataclass, replace

from attnbench.backends.variant import Variant
from attnbench.execution.refusals import refusals
from attnbench.execution.round_plan import RoundPlan, nothing
from attnbench.globs import matches_case
from attnbench.hardware.device import OpenDevice
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
    SustainedLoad,
)
from attnbench.stats import median_s, quantile
from attnbench.timing.injection import Injection, share_for
from attnbench.timing.timer import Timer

BETWEEN_ROUNDS, BETWEEN_LAUNCHES = 0.0015, 0.001  # relative standard deviations, as measured on H200s
#: Of a simulated load: batches, the board's power, and the clock of a call that is not under load.
BATCHES, SIM_POWER_W, SIM_CEILING_HZ = 50, 700.0, 1980e6
OUTCOMES = ("unsupported", "incorrect", "error", "context-lost", "crash", "hang", "exit")

#: How a choice of the scenario is stored, in the form of Inductor's choices.
SETTLED = "triton_tem_fused_simulated_0: BLOCK="
_CHOICES = re.compile(r"choices=(\w+)(?:/(\w+))?")
_SLOWDOWN = re.compile(r"([+-]\d+(?:\.\d+)?)%")


@dataclass(frozen=True)
class Scenario:
    """What a simulated run shows: a seed, and per glob of variants or cases a slow-down or an outcome.

    slowdowns: glob and share, 0.02 is +2 %. outcomes: glob and one of `OUTCOMES`. launch: a number that gives each process
    noise of its own. unit: the simulated GPU's name. choices: glob, and what autotuning chooses in compiled cases with the
    existing cache and with an empty one; own_cache: whether the cache is empty.
    """

    seed: int
    slowdowns: tuple[tuple[str, float], ...]
    outcomes: tuple[tuple[str, str], ...]
    launch: int = 0
    unit: str = "simulated-0"
    choices: tuple[tuple[str, str, str], ...] = ()
    own_cache: bool = False


def parse_scenario(entries: tuple[str, ...]) -> Scenario:
    """Entries `seed=7`, `torch_flash*:+2%`, `torch_math@eager:error`. Raises ValueError that names the entry.

    `GLOB:choices=A` is what autotuning chooses in compiled cases; with `A/B` it is B where it starts with an empty cache.
    """
    seed, launch, unit, slowdowns, outcomes = 0, 0, Scenario.unit, [], []
    choices, own_cache = [], False
    for entry in entries:
        name, separator, what = entry.rpartition(":")
        if entry.startswith("seed=") and entry[5:].isdigit():
            seed = int(entry[5:])
        elif entry.startswith("launch=") and entry[7:].isdigit():
            launch = int(entry[7:])
        elif entry.startswith("unit=") and entry[5:]:
            unit = entry[5:]
        elif entry == "cache=own":
            own_cache = True
        elif separator and (match := _CHOICES.fullmatch(what)):
            choices.append((name, match[1], match[2] or match[1]))
        elif separator and (match := _SLOWDOWN.fullmatch(what)):
            slowdowns.append((name, float(match.group(1)) / 100))
        elif separator and what in OUTCOMES:
            outcomes.append((name, what))
        else:
            raise ValueError(
                "expected seed=N, launch=N, unit=NAME, GLOB:+P%, GLOB:choices=NAME or GLOB:OUTCOME (one of "
                f"{', '.join(OUTCOMES)}), got {entry!r}"
            )
    return Scenario(seed, tuple(slowdowns), tuple(outcomes), launch, unit, tuple(choices), own_cache)


class SimCase:
    """One simulated case, with the steps of `TorchCase`."""

    further: tuple[Record, ...] = ()
    limited = True

    def __init__(
        self, variant: Variant, record: Record, scenario: Scenario, injections: Sequence[Injection] = ()
    ) -> None:
        self.record = record
        self._variant = variant
        self._scenario = scenario
        self._injections = injections

    def prepare(self, device: OpenDevice) -> None:
        """Do what the scenario says of this case. Raises CaseEnded; crash, hang and exit really happen."""
        backend, compiled = self._variant.backend, self._variant.mode != "eager"
        self.record = replace(self.record, layout=backend.layout, tolerance=backend.tolerance)
        if refused := refusals(self._variant, device, self.record.workload):
            raise CaseEnded(Status.UNSUPPORTED, *refused)
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
            compilation=Compilation(1, choices=self._choices()) if compiled else None,
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

    def rounds(self, count: int, timer: Timer) -> RoundPlan:
        """Seeded rounds around a latency that depends on the backend's name only, times chosen and injected slow-downs."""
        self.record = replace(self.record, injected=share_for(self._injections, self.record))
        base_s, noise = self._settled()
        rounds_s = [base_s * (1 + noise.gauss(0, BETWEEN_ROUNDS)) for _ in range(count)]
        timer.replay("simulated", rounds_s)
        return RoundPlan(count, nothing, nothing, lambda seconds: Sample(tuple(seconds), "simulated", host_s=45e-6))

    def sustain(self, seconds: float) -> SustainedLoad:
        """Computed like the rounds: slower by a share that depends on the backend's name, at a simulated 700 W."""
        settled_s, noise = self._settled()
        hotter = 1.05 + zlib.crc32(f"{self.record.backend}/load".encode()) % 150 / 1000
        batches_s = [settled_s * hotter * (1 + noise.gauss(0, BETWEEN_ROUNDS)) for _ in range(BATCHES)]
        calls = max(1, round(seconds / BATCHES / settled_s)) * BATCHES
        median = median_s(batches_s)
        return SustainedLoad(
            median,
            quantile(batches_s, 0.2),
            quantile(batches_s, 0.8),
            calls,
            BATCHES,
            loaded_s=calls * median,
            lead_s=2.0,
            steady=True,
            drift=0.0,
            starved=0,
            power_w=SIM_POWER_W,
            joules=SIM_POWER_W * median,
            energy_s=seconds,
            clock_hz=SIM_CEILING_HZ / hotter,
            temperature_c=60.0,
            held_by=("power",),
        )

    def leave(self, verify: bool = True) -> None:
        """Nothing was changed."""

    def close(self) -> None:
        """Nothing to let go of."""

    def _settled(self) -> tuple[float, random.Random]:
        """The latency of this launch, and the noise of what is measured around it."""
        launch = f":{self._scenario.launch}" if self._scenario.launch else ""
        noise = random.Random(f"{self._scenario.seed}{launch}:{self.record.case}")
        tflop_per_s = 300 + zlib.crc32(self.record.backend.encode()) % 400
        base_s = self.record.workload.flop / (tflop_per_s * 1e12) * (1 + noise.gauss(0, BETWEEN_LAUNCHES))
        for glob, slowdown in self._scenario.slowdowns:
            if matches_case(glob, self.record):
                base_s *= 1 + slowdown
        return base_s * (1 + (self.record.injected or 0)), noise

    def _choices(self) -> tuple[str, ...]:
        """What autotuning chose, by the first entry that matches."""
        for glob, kept, tuned_anew in self._scenario.choices:
            if matches_case(glob, self.record):
                return (f"{SETTLED}{tuned_anew if self._scenario.own_cache else kept}",)
        return ()

    def _outcome(self) -> str | None:
        return next((outcome for glob, outcome in self._scenario.outcomes if matches_case(glob, self.record)), None)


def _error(size: float) -> ErrorMetrics:
    return ErrorMetrics(size, size / 12, size**2, size * 4, size * 4, 1.0, 0, (0, 0, 0, 0), size, 0.0)
