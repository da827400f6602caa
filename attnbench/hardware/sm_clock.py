"""The SM clock, read from inside: a one-thread kernel that spins for a known number of cycles, timed by events.

torch's spin kernel occupies one thread of one multiprocessor: it keeps the clock up, draws next to no power, and
cycles over seconds *is* the clock. It needs no NVML and no rights. An event-timed spin is a microsecond or two longer than
the spin itself, which makes short ones read low; two lengths give that constant, and it is taken off every reading. The
constant is one only if the launch is hidden, so a short spin leads in: without it, 7 to 21 µs were seen, by process.
"""

from __future__ import annotations

import functools
import statistics
import time
from dataclasses import dataclass
from typing import Any

from attnbench import torch_private

SHORT_S, LONG_S = 0.5e-3, 2e-3
#: The spin before a timed spin, long enough for the host to queue the event and the spin behind it.
LEAD_IN_CYCLES = 200_000
PLATEAU_PAIRS = 15


@dataclass(frozen=True)
class Ceiling:
    """The plateau of the clock that spins alone reach: what "settled" is held against.

    hz: clock of the plateau; overhead_s: what event timing adds to a spin; spread_hz: by how much the pairs of spins that
    it was found with differ.
    """

    hz: float
    overhead_s: float
    spread_hz: float = 0.0


class Spin:
    """A queued spin between two events; reading it waits for its end."""

    __slots__ = ("_cycles", "_end", "_start")

    def __init__(self, torch: Any, cycles: int) -> None:
        self._cycles = cycles
        self._start = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)
        spin = torch_private.spin_kernel()
        spin(LEAD_IN_CYCLES)
        self._start.record()
        spin(cycles)
        self._end.record()

    def seconds(self) -> float:
        """Event-timed duration, overhead included."""
        self._end.synchronize()
        return float(self._start.elapsed_time(self._end)) / 1e3

    def hz(self, overhead_s: float) -> float:
        """The SM clock during the spin."""
        return self._cycles / (self.seconds() - overhead_s)


@functools.cache
def sm_clock() -> SmClock:
    """The clock of this process's device, which has found its first ceiling."""
    return SmClock()


class SmClock:
    """Reads the clock of the current device.

    first: the ceiling as it was found at the start; ceiling: the one that counts now, which whoever waits for the clock may
    replace by a lower one for a while, because a GPU may rest on several plateaus; lowered_at_s: when that was done, by
    time.perf_counter().
    """

    def __init__(self) -> None:
        import torch

        self._torch: Any = torch
        self.first = self.ceiling = self.find_ceiling()
        self.lowered_at_s: float | None = None

    def lower_to(self, plateau: Ceiling) -> None:
        """Let a lower plateau be the ceiling."""
        self.ceiling, self.lowered_at_s = plateau, time.perf_counter()

    def rise(self) -> None:
        """Let the first ceiling be the ceiling again."""
        self.ceiling, self.lowered_at_s = self.first, None

    def spin(self, seconds: float) -> Spin:
        """Queue a spin that lasts `seconds` at the ceiling; does not wait."""
        return Spin(self._torch, self.cycles(seconds))

    def cycles(self, seconds: float) -> int:
        """Cycles in `seconds` at the ceiling."""
        return round(seconds * self.ceiling.hz)

    def read(self, seconds: float) -> float:
        """The clock now, in Hz, over a spin of `seconds`; waits for it."""
        return self.spin(seconds).hz(self.ceiling.overhead_s)

    def find_ceiling(self) -> Ceiling:
        """Spin until the clock is up, then take the difference of two lengths, in which the overhead cancels."""
        guess = 1.5e9
        for _ in range(20):
            guess = round(guess * LONG_S) / Spin(self._torch, round(guess * LONG_S)).seconds()
        short, long = round(guess * SHORT_S), round(guess * LONG_S)
        pairs = [(Spin(self._torch, short).seconds(), Spin(self._torch, long).seconds()) for _ in range(PLATEAU_PAIRS)]
        short_s = statistics.median(pair[0] for pair in pairs)
        long_s = statistics.median(pair[1] for pair in pairs)
        hz = (long - short) / (long_s - short_s)
        by_pair_hz = [(long - short) / (pair[1] - pair[0]) for pair in pairs]
        return Ceiling(hz, short_s - short / hz, max(by_pair_hz) - min(by_pair_hz))
