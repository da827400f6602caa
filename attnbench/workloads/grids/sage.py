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


SAGE = Grid(
    "sage",
    "Batch 4, 32 heads, 1 K to 32 K tokens, with and without a causal mask",
    _SOURCE,
    rows=_rows("sage", 4, (1024, 2048, 4096, 8192, 16384, 32768), 32, (64, 128)),
    tiny=_rows("tiny-sage", 2, (48,), 4, (16, 32)),
    wall_time="328 + 303 s for 288 cases of 12 backends (H200, once, 2026-11-28)",
)
