"""The cycle counters of all multiprocessors, read before and after a piece of work.

Every group of multiprocessors (GPC) has a clock of its own. On two H200s they differed by 0.6 to 1.7 % during one call, in
steps, and by kernel. A single counter shows one group, a different one in each process, so flash-attn 4's cycles had two
modes 0.8 % apart. The mean over all has one mode (docs/measurements/sampling.md). Differences are taken per multiprocessor,
because the counters of two multiprocessors are unrelated.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from attnbench import torch_private

if TYPE_CHECKING:
    import torch

#: More multiprocessors than any GPU has so far.
MOST_MULTIPROCESSORS = 512

_SOURCE = """
extern "C" __global__ void attnbench_stamp(long long* out, int slot, int round, int most) {
    unsigned int multiprocessor;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(multiprocessor));
    if (multiprocessor >= most) return;
    long long* mine = out + 2 * (slot * most + multiprocessor);
    mine[0] = clock64();
    mine[1] = round;
}
"""


@functools.cache
def _kernel() -> Any:
    """The kernel that writes a stamp, compiled once per process by NVRTC, which every CUDA build of torch brings."""
    return torch_private.compile_cuda(_SOURCE, "attnbench_stamp")


def mean_cycles(slots: torch.Tensor, round_: int, fewest: int) -> int | None:
    """Mean cycles between the two stamps over the multiprocessors that have both of this round; None below `fewest`.

    slots: int64 `[2, multiprocessors, 2]`: start and end; per multiprocessor the cycle counter and the round's number.
    """
    first, second = slots.unbind()
    both = (first[:, 1] == round_) & (second[:, 1] == round_)
    between = (second[:, 0] - first[:, 0])[both]
    return round(between.double().mean().item()) if len(between) >= max(1, fewest) else None


class CycleCounter:
    """Counts the SM cycles of work on the current stream: one thread on every multiprocessor stamps its start and its end.

    Making one raises whatever torch raises where NVRTC is missing.
    """

    def __init__(self) -> None:
        import torch

        self._kernel = _kernel()
        self._blocks = torch.cuda.get_device_properties(torch.cuda.current_device()).multi_processor_count
        self._slots = torch.zeros((2, MOST_MULTIPROCESSORS, 2), dtype=torch.int64, device="cuda")
        self._round = 0

    def start(self) -> None:
        """Queue the first stamp."""
        self._round += 1
        self._stamp(0)

    def end(self) -> None:
        """Queue the second stamp."""
        self._stamp(1)

    def cycles(self) -> int | None:
        """Mean cycles between the stamps; waits for them. None where fewer than half of the multiprocessors have both."""
        return mean_cycles(self._slots.cpu(), self._round, fewest=(self._blocks + 1) // 2)

    def _stamp(self, slot: int) -> None:
        self._kernel(
            grid=(self._blocks, 1, 1), block=(1, 1, 1), args=[self._slots, slot, self._round, MOST_MULTIPROCESSORS]
        )


def cycle_counter() -> CycleCounter | None:
    """A cycle counter, None where NVRTC is missing to compile its kernel: then there are seconds only."""
    try:
        return CycleCounter()
    except Exception:
        return None
