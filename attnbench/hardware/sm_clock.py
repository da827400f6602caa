"""The SM clock, read from inside: a one-thread kernel that spins for a known number of cycles, timed by events.

torch's spin kernel occupies one thread of one multiprocessor: it keeps the clock up, draws next to no power, and its cycles
over its seconds are the clock. This needs neither NVML nor privileges. Event timing adds a microsecond or two to a spin,
which makes short ones read low. Spins of two lengths give that overhead, and every reading subtracts it. It is constant only
if the launch is hidden, so a short spin leads in: without it, it was 7 to 21 µs, by process.
"""

from __future__ import annotations

import functools
import statistics
import time
from dataclasses import dataclass
from typing import Any

from attnbench import torch_private

#: The two lengths of spins that find the ceiling, and how many pairs of them are taken.
SHORT_S, LONG_S = 0.5e-3, 2e-3
PLATEAU_PAIRS = 15
#: The spin before a timed spin, long enough for the host to queue the event and the spin behind it.
LEAD_IN_CYCLES = 200_000


@dataclass(frozen=True)
class Ceiling:
    """The plateau of the clock that spins alone reach; a clock close to it is settled.

    hz: clock of the plateau. overhead_s: what event timing adds to a spin. spread_hz: highest minus lowest clock of the
    pairs of spins that found it.
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
        """Event-timed duration, overhead included; waits for the end."""
        self._end.synchronize()
        return float(self._start.elapsed_time(self._end)) / 1e3

    def hz(self, overhead_s: float) -> float:
        """The SM clock during the spin: cycles / (seconds − overhead_s)."""
        return self._cycles / (self.seconds() - overhead_s)


@functools.cache
def sm_clock() -> SmClock:
    """The clock of this process's device, with its first ceiling found; one object per process."""
    return SmClock()


class SmClock:
    """Reads the SM clock of the current device.

    first: the ceiling that was found at the start. ceiling: the one that counts now; a GPU may rest on several plateaus, so
    a round that waits for the clock may lower it for a while. lowered_at_s: when that was, by time.perf_counter(); None
    where it is not lowered.
    """

    def __init__(self) -> None:
        import torch

        self._torch: Any = torch
        self.first = self.ceiling = self.find_ceiling()
        self.lowered_at_s: float | None = None

    def lower_to(self, plateau: Ceiling) -> None:
        """Make a lower plateau the ceiling."""
        self.ceiling, self.lowered_at_s = plateau, time.perf_counter()

    def rise(self) -> None:
        """Make the first ceiling the ceiling again."""
        self.ceiling, self.lowered_at_s = self.first, None

    def spin(self, seconds: float) -> Spin:
        """Queue a spin that lasts `seconds` at the ceiling; does not wait."""
        return Spin(self._torch, self.cycles(seconds))

    def cycles(self, seconds: float) -> int:
        """Cycles in `seconds` at the ceiling."""
        return round(seconds * self.ceiling.hz)

    def read(self, seconds: float) -> float:
        """The SM clock in Hz during a spin of `seconds`; waits for it."""
        return self.spin(seconds).hz(self.ceiling.overhead_s)

    def find_ceiling(self) -> Ceiling:
        """Spin until the clock is up, then subtract short spins from long ones, in which the overhead cancels."""
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
