"""When the clock is settled, and how long it is waited for: the numbers of the timing protocol (layer 2; docs/method.md).

The clock moves in steps, and the plateau that spins reach may be a step lower on a warm GPU than on a cold one. A plateau
that has moved like that becomes the ceiling, until the GPU is as cold again as it was.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from attnbench.clock import Ceiling, SpinClock
from attnbench.fingerprint import CEILING_STEP_MHZ

#: One step of the SM clock on Hopper, as its corrected readings show it.
CLOCK_STEP_HZ = CEILING_STEP_MHZ * 1e6


@dataclass(frozen=True)
class Protocol:
    """The numbers of the protocol; docs/method.md has the experiments that chose them."""

    probe_per_call: float = 2.0
    probe_min_s: float = 0.5e-3
    probe_max_s: float = 50e-3
    steps_below: float = 0.6  # a clock at most this many steps below the ceiling is settled
    # A round that waits so long asks whether the plateau itself has moved, as it does by a step when a GPU becomes warm: it
    # has when the spins that look for it now are this steady, and this close below the first one. Ceilings of one device
    # are at most a step apart in the fingerprint, too.
    patience_s: float = 1.0
    steady_steps: float = 0.5
    warm_steps: float = 1.5
    # For all rounds of a case together: a GPU that never settles must not take minutes. A call of tens of milliseconds
    # heats the chip so much that every round has to wait, so it may take this many calls longer.
    settle_limit_s: float = 3.0
    settle_calls: float = 100.0
    tail_min_s: float = 200e-6
    tail_per_host: float = 2.0
    longest_tail_s: float = 20e-3

    def enough_hz(self, ceiling: Ceiling) -> float:
        """The lowest reading that is settled."""
        return ceiling.hz - self.steps_below * CLOCK_STEP_HZ

    def is_above(self, hz: float, ceiling: Ceiling) -> bool:
        """Whether a reading is another step of the clock than the ceiling, a higher one."""
        return hz > ceiling.hz + self.steps_below * CLOCK_STEP_HZ

    def follow(self, clock: SpinClock) -> None:
        """Let the clock's ceiling be the plateau that its spins reach now, where that is one and still this GPU's."""
        found = clock.find_ceiling()
        if found.spread_hz >= self.steady_steps * CLOCK_STEP_HZ:
            return
        if found.hz >= self.enough_hz(clock.first):
            clock.ceiling = clock.first
        elif found.hz > clock.first.hz - self.warm_steps * CLOCK_STEP_HZ:
            clock.ceiling = found


def settle(clock: SpinClock, limit_s: float = 0.5) -> None:
    """Spin until the clock reads its ceiling, at most `limit_s`: before a single call whose kernels are looked at."""
    rule = Protocol()
    probed(clock, rule, rule.probe_min_s, limit_s)


def probed(clock: SpinClock, rule: Protocol, probe_s: float, limit_s: float) -> tuple[float, int, float]:
    """Probe until the clock reads its ceiling, for `limit_s` at most after a first probe that is owed in any case.

    The last reading, the number of probes, and the seconds waited after the first.
    """
    hz, probes = clock.read(probe_s), 1
    began = time.perf_counter()
    ask_at = began + rule.patience_s
    while hz < rule.enough_hz(clock.ceiling) and time.perf_counter() < began + limit_s:
        if time.perf_counter() >= ask_at:
            rule.follow(clock)
            ask_at = time.perf_counter() + rule.patience_s
        hz = clock.read(probe_s)
        probes += 1
    if clock.ceiling is not clock.first and rule.is_above(hz, clock.ceiling):
        rule.follow(clock)  # the GPU may be as cold again as it was
    return hz, probes, time.perf_counter() - began
