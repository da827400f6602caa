"""What SageAttention is quoted by."""

from __future__ import annotations

from attnbench.workload import Workload
from attnbench.workloads.grids.grid import Grid, short

_SOURCE = (
    "github.com/thu-ml/SageAttention, bench/bench_qk_int8_pv_fp8_cuda_sm90.py and its siblings; in bf16, the dtype that "
    "FlashAttention 3 in fp8 is called with, so that it stands beside them"
)


def _rows(
    prefix: str, batch: int, lengths: tuple[int, ...], heads: int, head_dims: tuple[int, ...]
) -> tuple[Workload, ...]:
    return tuple(
        Workload(
            f"{prefix}-d{head_dim}-{short(seq)}{suffix}",
            *(batch, seq, heads, head_dim),
            mask=mask,
            why=f"SageAttention's benchmark at {seq} tokens{', causal' if suffix else ''}",
            source=_SOURCE,
        )
        for head_dim in head_dims
        for seq in lengths
        for mask, suffix in (("none", ""), ("causal", "-causal"))
    )


def _grid(name: str, what: str, lengths: tuple[int, ...], wall_time: str) -> Grid:
    tiny = _rows("tiny-sage", 2, (48,), 4, (16, 32))
    return Grid(name, what, _SOURCE, rows=_rows("sage", 4, lengths, 32, (64, 128)), tiny=tiny, wall_time=wall_time)


GRIDS_OF_SAGE = (
    _grid(
        "sage",
        "Batch 4, 32 heads, 1 K to 16 K tokens, plain and causal",
        (1024, 2048, 4096, 8192, 16384),
        "369 s for 400 cases of 20 backends, of one run with `sage-32k` (H200, once, 2026-11-29)",
    ),
    _grid(
        "sage-32k",
        "Batch 4, 32 heads, 32,768 tokens, plain and causal",
        (32768,),
        "309 s for 80 cases of 20 backends, of that run (H200, once, 2026-11-29)",
    ),
)
