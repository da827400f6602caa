"""When the clock is settled, and how long it is waited for: the numbers of the timing protocol (docs/method.md).

The clock moves in steps, and where a GPU rests when it only spins is one plateau on an H200 and several on an H100, from
one half second to the next. Settled is whatever reaches the lowest of them that was found of late.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from attnbench.fingerprint import CEILING_STEP_MHZ, RESTING_STEPS
from attnbench.hardware.sm_clock import Ceiling, SmClock

#: One step of the SM clock on Hopper, as its corrected readings show it.
CLOCK_STEP_HZ = CEILING_STEP_MHZ * 1e6


@dataclass(frozen=True)
class TimingProtocol:
    """The numbers of the protocol; docs/method.md has the experiments that chose them."""

    probe_per_call: float = 2.0
    probe_min_s: float = 0.5e-3
    probe_max_s: float = 50e-3
    steps_below: float = 0.6  # a clock at most this many steps below the ceiling is settled
    # A round that waits so long, twice what an H200 needs after heat, asks whether the GPU now rests lower, and asks again
    # while it does not. It does when the spins that look for the plateau are this steady, and this close below the first
    # one. So a GPU that was held down for seconds is taken for a resting one, but no longer than this.
    patience_s: float = 1.0
    asks_every_s: float = 0.25
    believed_s: float = 10.0
    steady_steps: float = 0.5
    resting_steps: float = RESTING_STEPS
    # For all rounds of a case together: a GPU that never settles must not take minutes. A call of tens of milliseconds
    # heats the chip so much that every round has to wait, so it may take this many calls longer.
    settle_limit_s: float = 3.0
    settle_calls: float = 100.0
    # Rounds that are taken first and not kept: for a third of a second after idling a kernel is 0.1 to 0.2 % off.
    warm_rounds: int = 15
    warm_limit_s: float = 0.05
    tail_min_s: float = 200e-6
    tail_per_host: float = 2.0
    longest_tail_s: float = 20e-3

    def enough_hz(self, ceiling: Ceiling) -> float:
        """The lowest reading that is settled."""
        return ceiling.hz - self.steps_below * CLOCK_STEP_HZ

    def follow(self, clock: SmClock) -> None:
        """Let the clock's ceiling be the plateau that its spins reach now, where that is one, lower, and a resting GPU's."""
        plateau = clock.find_ceiling()
        lowest_hz = clock.first.hz - self.resting_steps * CLOCK_STEP_HZ
        if plateau.spread_hz < self.steady_steps * CLOCK_STEP_HZ and lowest_hz < plateau.hz < clock.ceiling.hz:
            clock.lower_to(plateau)


def settle(clock: SmClock, limit_s: float = 0.5) -> None:
    """Spin until the clock reads its ceiling, at most `limit_s`: before a single call whose kernels are looked at."""
    protocol = TimingProtocol()
    probed(clock, protocol, protocol.probe_min_s, limit_s)


def probed(clock: SmClock, protocol: TimingProtocol, probe_s: float, limit_s: float) -> tuple[float, int, float]:
    """Probe until the clock reads its ceiling, for `limit_s` at most after a first probe that is owed in any case.

    The last reading, the number of probes, and the seconds waited after the first.
    """
    if clock.lowered_at_s is not None and time.perf_counter() > clock.lowered_at_s + protocol.believed_s:
        clock.rise()
    hz, probes = clock.read(probe_s), 1
    began = time.perf_counter()
    ask_at = began + protocol.patience_s
    while hz < protocol.enough_hz(clock.ceiling) and time.perf_counter() < began + limit_s:
        if time.perf_counter() >= ask_at:
            protocol.follow(clock)
            ask_at = time.perf_counter() + protocol.asks_every_s
        hz = clock.read(probe_s)
        probes += 1
    return hz, probes, time.perf_counter() - began
