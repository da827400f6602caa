"""What FlashAttention is quoted by: the shapes of its README over the length, and its benchmark at 16 K tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attnbench.workload import SPELT_DIRECTIONS, Workload
from attnbench.workloads.grids.grid import Grid, usual_lengths

#: Batch, heads and head_dim, and the GPU that the README shows them on.
_README = (
    (8, 12, 64, "an A100, the shape of BERT-base"),
    (16, 12, 128, "an A100 with head_dim 128"),
    (12, 12, 64, "an RTX 3090 and a T4"),
)
_LENGTHS = (128, 256, 512, 1024, 2048, 4096)
#: Where plain attention no longer fits. Time-boxed: the first shape only, without mask and dropout.
_LONG = (8192, 16384, 32768, 65536)
_TOKENS, _HIDDEN = 16384, 2048
DROPOUT = 0.1

_OF_README = "github.com/Dao-AILab/flash-attention at 6d48e14a, README.md"
_OF_BENCHMARKS = (
    "github.com/Dao-AILab/flash-attention, benchmarks/benchmark_flash_attention.py, hopper/benchmark_attn.py"
)
_TIMED = {"forward": "forward", "backward": "the gradients alone", "forward+backward": "a step of training"}


def _directions(name: str, workload: Workload) -> Iterator[Workload]:
    """One problem in all three directions."""
    for direction, spelt in SPELT_DIRECTIONS.items():
        why = f"{workload.why}; {_TIMED[direction]}"
        yield replace(workload, name=f"{name}-{spelt}", direction=direction, why=why)


def _of_the_readme() -> Iterator[Workload]:
    for batch, heads, head_dim, shown in _README:
        name, is_first = f"fa-b{batch}h{heads}d{head_dim}", (batch, head_dim) == (8, 64)
        for seq in (*_LENGTHS, *(_LONG if is_first else ())):
            why = f"as shown for {shown}"
            plain = Workload("", batch, seq, heads, head_dim, "fp16", why=why, source=_OF_README)
            if seq in _LONG:
                plain = replace(plain, why=f"{why}, on to lengths at which plain attention no longer fits")
            yield from _directions(f"{name}-{seq}", plain)
            if seq in _LONG:
                continue
            yield from _directions(f"{name}-{seq}-causal", replace(plain, mask="causal", why=f"{why}, causal"))
            if is_first:
                yield from _directions(
                    f"{name}-{seq}-dropout", replace(plain, dropout=DROPOUT, why=f"{why}, with dropout")
                )
                yield from _directions(
                    f"{name}-{seq}-padding", replace(_padded(plain), why=f"{why}, with padding of the keys")
                )


def _of_16k_tokens() -> Iterator[Workload]:
    why = "16 K tokens and a hidden size of 2048, whatever the length"
    for head_dim in (64, 128):
        for seq in (512, 1024, 2048, 4096, 8192, 16384):
            plain = Workload("", _TOKENS // seq, seq, _HIDDEN // head_dim, head_dim, why=why, source=_OF_BENCHMARKS)
            yield from _directions(f"fa-16k-d{head_dim}-{seq}", plain)
            yield from _directions(
                f"fa-16k-d{head_dim}-{seq}-causal", replace(plain, mask="causal", why=f"{why}, causal")
            )


def _packed() -> Iterator[Workload]:
    """What FlashAttention's users make of a padded batch, so that no padding is computed."""
    packed = usual_lengths(8, 2048)
    why = "eight sequences of 1 K to 2 K tokens, packed instead of padded"
    source = "flash_attn_varlen_func, as BERT's training uses it: flash_attn/bert_padding.py"
    workload = Workload("", 1, sum(packed), 12, 64, "fp16", packed=packed, why=why, source=source)
    yield from _directions("fa-packed8h12d64", workload)


def _tiny() -> Iterator[Workload]:
    source = "the rows of this grid, small enough for a CPU"
    plain = Workload("", 2, 24, 2, 16, "fp32", why="a small one", source=source)
    yield from _directions("tiny-fa", plain)
    yield from _directions("tiny-fa-causal", replace(plain, mask="causal", why="a small causal one"))
    yield from _directions("tiny-fa-padding", replace(_padded(plain), why="a small one with padding of the keys"))
    yield from _directions("tiny-fa-dropout", replace(plain, dropout=DROPOUT, why="a small one with dropout"))
    packed = replace(plain, batch=1, packed=(11, 7, 6), why="three small sequences, packed")
    yield from _directions("tiny-fa-packed", packed)
    yield replace(plain, name="tiny-fa-bf16", dtype="bf16", why="a small one in 16 bits")


def _padded(workload: Workload) -> Workload:
    return replace(workload, mask="padding", lengths=usual_lengths(workload.batch, workload.seq))


FLASH_ATTN = Grid(
    "flash-attn",
    "Forward, backward and both over the length, with and without a causal mask, dropout and key padding; fp16 and bf16",
    f"{_OF_README}; {_OF_BENCHMARKS}",
    rows=(*_of_the_readme(), *_of_16k_tokens(), *_packed()),
    tiny=tuple(_tiny()),
    wall_time="not seen to its end: 477 of 504 cases of 84 of its rows with six backends took 508 s, half of it "
    "from 8192 tokens on, before long calls took fewer rounds (H200, once, 2026-11-28)",
)
