"""The cycle counter of one multiprocessor, written down before and after a piece of work (layer 2).

A lone block lands on the same multiprocessor every time on an idle device. It says which, so that a pair of stamps from two
different ones, whose counters have nothing to do with each other, is never subtracted.
"""

from __future__ import annotations

import functools
from typing import Any

_SOURCE = """
extern "C" __global__ void attnbench_stamp(long long* out, int slot) {
    unsigned int multiprocessor;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(multiprocessor));
    out[2 * slot] = clock64();
    out[2 * slot + 1] = multiprocessor;
}
"""


@functools.cache
def _kernel() -> Any:
    """The stamp, compiled once per process by NVRTC, which every CUDA build of torch brings."""
    import torch

    return torch.cuda._compile_kernel(_SOURCE, "attnbench_stamp")  # noqa: SLF001 - has no public form in torch 2.11


class CycleStamps:
    """A start and an end stamp around a piece of work on the current stream.

    Raises whatever torch raises where NVRTC is missing.
    """

    def __init__(self) -> None:
        import torch

        self._kernel = _kernel()
        self._slots = torch.zeros(4, dtype=torch.int64, device="cuda")

    def start(self) -> None:
        """Queue the first stamp."""
        self._kernel(args=[self._slots, 0])

    def end(self) -> None:
        """Queue the second stamp."""
        self._kernel(args=[self._slots, 1])

    def cycles(self) -> int | None:
        """Cycles between the two, waiting for them; None when they ran on different multiprocessors."""
        first, on_first, second, on_second = self._slots.tolist()
        return int(second - first) if on_first == on_second else None
