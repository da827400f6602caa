"""When the SM clock counts as settled, and how long a round waits for it: the numbers of the timing protocol.

The clock moves in steps. A GPU that only spins rests on a plateau: on one on an H200, on several on an H100, from one
half second to the next (docs/measurements/clock-h100.md). A reading is settled when it reaches the lowest plateau
that was found in the last seconds.
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
    """The numbers of the protocol, chosen by measurement (docs/measurements: timing-h200.md, sampling.md, clock-h100.md)."""

    # A probe is a spin that reads the clock: this many times as long as the call, within the two limits.
    probe_per_call: float = 2.0
    probe_min_s: float = 0.5e-3
    probe_max_s: float = 50e-3
    steps_below: float = 0.6  # a clock at most this many steps below the ceiling is settled
    # After `patience_s` of waiting, twice what an H200 needs after heat, and then every `asks_every_s`, a round looks for a
    # lower plateau. It takes one where the spins differ by less than `steady_steps` and that is less than `resting_steps`
    # below the first ceiling. It may have mistaken a GPU that was held down for a resting one, so the new ceiling holds for
    # `believed_s` only.
    patience_s: float = 1.0
    asks_every_s: float = 0.25
    believed_s: float = 10.0
    steady_steps: float = 0.5
    resting_steps: float = RESTING_STEPS
    # What all rounds of a case together may wait, so that a GPU that never settles does not take minutes: `settle_limit_s`
    # plus the time of `settle_calls` calls, because a call of tens of milliseconds heats the chip so much that every round
    # has to wait.
    settle_limit_s: float = 3.0
    settle_calls: float = 100.0
    # Rounds that are taken first and not kept, or as many as fit into the limit: for about 0.3 s after idling a kernel is
    # 0.1 to 0.2 % off.
    warm_rounds: int = 15
    warm_limit_s: float = 0.05
    # The spin that hides the host: this many times the host's time, no shorter than the first and no longer than the last.
    tail_min_s: float = 200e-6
    tail_per_host: float = 2.0
    longest_tail_s: float = 20e-3

    def enough_hz(self, ceiling: Ceiling) -> float:
        """The lowest clock in Hz that is settled."""
        return ceiling.hz - self.steps_below * CLOCK_STEP_HZ

    def follow(self, clock: SmClock) -> None:
        """Look for the plateau now, and make it the clock's ceiling where it is steady, lower, and that of a resting GPU."""
        plateau = clock.find_ceiling()
        lowest_hz = clock.first.hz - self.resting_steps * CLOCK_STEP_HZ
        if plateau.spread_hz < self.steady_steps * CLOCK_STEP_HZ and lowest_hz < plateau.hz < clock.ceiling.hz:
            clock.lower_to(plateau)


def settle(clock: SmClock, limit_s: float = 0.5) -> None:
    """Spin until the clock reads its ceiling, `limit_s` at most. For a single call, such as the one that is traced."""
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
