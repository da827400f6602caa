"""What happens before a round so that only the call is in the interval (layer 2).

On CUDA: wait until the device is idle, then, without waiting again, a tail spin that keeps it busy while the host queues
the rest, a write of twice the L2 cache, and only then the start event. The spin hides Python and the launch; the write
makes every round start from memory. The protocol that settles the clock first is not part of this version.
"""

from __future__ import annotations

import time
from typing import Any

MIN_TAIL_S = 200e-6
#: Host work while the tail spins: queueing the flush, an event, and the call, whose own cost is measured.
TAIL_PER_HOST_S = 2.0


class HostPacer:
    """On the CPU there is nothing to pace."""

    def before_round(self) -> None:
        """Do nothing."""


class CudaPacer:
    """Tail spin and L2 flush before each round, on the current device and stream."""

    def __init__(self, host_s: float) -> None:
        """`host_s`: how long the call takes to return, in seconds; the tail is twice that, at least 200 µs."""
        import torch

        self._torch: Any = torch
        l2_bytes = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
        self._flush = torch.empty(2 * l2_bytes, dtype=torch.uint8, device="cuda")
        self._tail_cycles = round(max(MIN_TAIL_S, TAIL_PER_HOST_S * host_s) * spin_cycles_per_s())

    def before_round(self) -> None:
        """Leave the device spinning, with the L2 flush queued behind the spin."""
        self._torch.cuda.synchronize()
        self._torch.cuda._sleep(self._tail_cycles)
        self._flush.zero_()


_CYCLES_PER_S: list[float] = []


def spin_cycles_per_s() -> float:
    """Cycles of `torch.cuda._sleep` per second, measured once per process with events."""
    import torch

    if not _CYCLES_PER_S:
        cycles = 2_000_000
        torch.cuda._sleep(cycles)
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        torch.cuda._sleep(cycles)
        end.record()
        end.synchronize()
        _CYCLES_PER_S.append(cycles / (start.elapsed_time(end) / 1e3))
    return _CYCLES_PER_S[0]


def host_cost_s(call: Any, calls: int = 5) -> float:
    """Median seconds that `call()` takes to return while the device is busy with a spin; CUDA only."""
    import statistics

    import torch

    spent = []
    for _ in range(calls):
        torch.cuda.synchronize()
        torch.cuda._sleep(round(spin_cycles_per_s() * 2e-3))
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    torch.cuda.synchronize()
    return statistics.median(spent)
