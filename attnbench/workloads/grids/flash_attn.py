"""What FlashAttention is quoted by: the shapes of its README over the length, and its benchmark at 16 K tokens.

A grid per shape, so that each can be run by itself; `--attn-grid='flash-attn*'` runs all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attnbench.workload import SPELT_DIRECTIONS, Workload
from attnbench.workloads.grids.grid import Grid, usual_lengths

#: Batch, heads and head_dim, and the GPU that the README shows them on.
_BERT = (8, 12, 64, "an A100, the shape of BERT-base")
_WIDE = (16, 12, 128, "an A100 with head_dim 128")
_DESKTOP = (12, 12, 64, "an RTX 3090 and a T4")
_LENGTHS = (128, 256, 512, 1024, 2048, 4096)
#: Beyond the README. Few rows, because they take long: only BERT's shape, without mask and dropout. Those of the last length
#: take as long as all others.
_LONG, _LONGEST = (8192, 16384, 32768), 65536
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


def _over_the_length(shape: tuple[int, int, int, str]) -> Iterator[Workload]:
    for seq in _LENGTHS:
        yield from _plain_and_causal(*_of_the_readme(shape, seq))


def _long(*lengths: int) -> Iterator[Workload]:
    for seq in lengths:
        name, plain = _of_the_readme(_BERT, seq)
        why = f"{plain.why}, at lengths beyond the README's"
        yield from _directions(name, replace(plain, why=why))


def _dropout_and_padding() -> Iterator[Workload]:
    for seq in _LENGTHS:
        name, plain = _of_the_readme(_BERT, seq)
        dropout = replace(plain, dropout=DROPOUT, why=f"{plain.why}, with dropout")
        yield from _directions(f"{name}-dropout", dropout)
        padding = replace(_padded(plain), why=f"{plain.why}, with padding of the keys")
        yield from _directions(f"{name}-padding", padding)


def _of_the_readme(shape: tuple[int, int, int, str], seq: int) -> tuple[str, Workload]:
    """The name of a problem without its direction, and the problem."""
    batch, heads, head_dim, shown = shape
    why = f"as shown for {shown}"
    workload = Workload("", batch, seq, heads, head_dim, "fp16", why=why, source=_OF_README)
    return f"fa-b{batch}h{heads}d{head_dim}-{seq}", workload


def _plain_and_causal(name: str, plain: Workload) -> Iterator[Workload]:
    yield from _directions(name, plain)
    yield from _directions(f"{name}-causal", replace(plain, mask="causal", why=f"{plain.why}, causal"))


def _of_16k_tokens(head_dim: int) -> Iterator[Workload]:
    why = "16 K tokens and a hidden size of 2048, whatever the length"
    for seq in (512, 1024, 2048, 4096, 8192, 16384):
        plain = Workload("", _TOKENS // seq, seq, _HIDDEN // head_dim, head_dim, why=why, source=_OF_BENCHMARKS)
        yield from _plain_and_causal(f"fa-16k-d{head_dim}-{seq}", plain)


def _packed() -> Iterator[Workload]:
    """What FlashAttention's users make of a padded batch, so that no padding is computed."""
    packed = usual_lengths(8, 2048)
    why = "eight sequences of 1 K to 2 K tokens, packed instead of padded"
    source = "flash_attn_varlen_func, as BERT's training uses it: flash_attn/bert_padding.py"
    workload = Workload("", 1, sum(packed), 12, 64, "fp16", packed=packed, why=why, source=source)
    yield from _directions("fa-packed8h12d64", workload)


def _small(dtype: str = "fp32", why: str = "a small one") -> Workload:
    return Workload("", 2, 24, 2, 16, dtype, why=why, source="the rows of this grid, small enough for a CPU")


def _tiny_masks() -> Iterator[Workload]:
    plain = _small()
    yield from _directions("tiny-fa-padding", replace(_padded(plain), why="a small one with padding of the keys"))
    yield from _directions("tiny-fa-dropout", replace(plain, dropout=DROPOUT, why="a small one with dropout"))
    packed = replace(plain, batch=1, packed=(11, 7, 6), why="three small sequences, packed")
    yield from _directions("tiny-fa-packed", packed)


def _padded(workload: Workload) -> Workload:
    return replace(workload, mask="padding", lengths=usual_lengths(workload.batch, workload.seq))


_TINY = tuple(_plain_and_causal("tiny-fa", _small()))
_TINY_BF16 = tuple(_plain_and_causal("tiny-fa-bf16", _small("bf16", "a small one in 16 bits")))

_DIRECTIONS_AND_MASKS = "the three directions, plain and causal"


def _of_shape(shape: tuple[int, int, int, str], wall_time: str) -> Grid:
    """The grid of one shape of the README."""
    batch, heads, head_dim, _ = shape
    what = f"Batch {batch}, {heads} heads × {head_dim} in fp16, 128 to 4096 tokens: {_DIRECTIONS_AND_MASKS}"
    rows = tuple(_over_the_length(shape))
    return Grid(f"flash-attn-b{batch}-d{head_dim}", what, _OF_README, rows=rows, tiny=_TINY, wall_time=wall_time)


def _of_tokens(head_dim: int, wall_time: str) -> Grid:
    """The grid of one head_dim of the benchmark."""
    heads = _HIDDEN // head_dim
    what = f"16 K tokens at each of six lengths, {heads} heads × {head_dim} in bf16: {_DIRECTIONS_AND_MASKS}"
    rows = tuple(_of_16k_tokens(head_dim))
    name = f"flash-attn-16k-d{head_dim}"
    return Grid(name, what, _OF_BENCHMARKS, rows=rows, tiny=_TINY_BF16, wall_time=wall_time)


#: In the order in which the documents show them.
GRIDS_OF_FLASH_ATTN = (
    Grid(
        "flash-attn",
        "BERT's shape in fp16, 128 to 4096 tokens: forward, backward and both, plain and causal",
        _OF_README,
        rows=tuple(_over_the_length(_BERT)),
        tiny=_TINY,
        wall_time="357 s for 828 cases of 23 backends (H200, once, 2026-11-29)",
    ),
    Grid(
        "flash-attn-long",
        "BERT's shape in fp16, 8192 to 32,768 tokens, without a mask: the three directions. From 16,384 tokens on plain "
        "attention in eager mode needs 232 GB or more",
        _OF_README,
        rows=tuple(_long(*_LONG)),
        tiny=tuple(_directions("tiny-fa", _small())),
        wall_time="471 s for 207 cases of 23 backends (H200, once, 2026-11-29)",
    ),
    Grid(
        "flash-attn-64k",
        "BERT's shape in fp16 at 65,536 tokens, without a mask: the three directions",
        _OF_README,
        rows=tuple(_long(_LONGEST)),
        tiny=tuple(_directions("tiny-fa", _small())),
        wall_time="552 s in 63 cases of 21 backends, of a run that went on (H200, once, 2026-11-29)",
    ),
    Grid(
        "flash-attn-masks",
        "BERT's shape in fp16, 128 to 4096 tokens: the three directions with dropout, with padding, and packed",
        f"{_OF_README}; flash_attn/bert_padding.py",
        rows=(*_dropout_and_padding(), *_packed()),
        tiny=tuple(_tiny_masks()),
        wall_time="176 s for 680 of 819 cases of 21 backends; 127 s for the last eight rows and 23 backends (H200, once "
        "each, 2026-11-28, -29)",
    ),
    _of_shape(_WIDE, "571 s for 828 cases of 23 backends (H200, once, 2026-11-29)"),
    _of_shape(_DESKTOP, "327 s for 756 cases of 21 backends (H200, once, 2026-11-28)"),
    _of_tokens(64, "521 s for 756 cases of 21 backends (H200, once, 2026-11-28)"),
    _of_tokens(128, "534 s for 756 cases of 21 backends (H200, once, 2026-11-29)"),
)
