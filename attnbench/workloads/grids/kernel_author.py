"""What the author of a kernel compares its iterations by: one head shape over the length, as `report/relative.py` does."""

from __future__ import annotations

from attnbench.workload import Workload
from attnbench.workloads.grids.grid import Grid, short

_SOURCE = "the lengths that articles on a kernel's iterations compare; batch 4 and 16 heads: a hidden size of 2048"


def _rows(prefix: str, batch: int, lengths: tuple[int, ...], heads: int, head_dim: int) -> tuple[Workload, ...]:
    why = "one reference and the iterations of an own kernel"
    return tuple(
        Workload(f"{prefix}-d{head_dim}-{short(seq)}", batch, seq, heads, head_dim, why=why, source=_SOURCE)
        for seq in lengths
    )


KERNEL_AUTHOR = Grid(
    "kernel-author",
    "One head shape, head_dim 128, 512 to 16 K tokens",
    _SOURCE,
    rows=_rows("kernel", 4, (512, 1024, 2048, 4096, 8192, 16384), 16, 128),
    wall_time="122 s for 150 cases of 25 backends (H200, once, 2026-11-29)",
    tiny=_rows("tiny-kernel", 1, (32, 64), 2, 32),
)
