"""Which part of a large problem has a reference: sampled query rows of an output, sampled heads of gradients.

The reference costs time in proportion to its scores, batch × heads × queries × keys. Up to `ALL_SCORES` of them it is whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from attnbench.workload import Workload

if TYPE_CHECKING:
    import torch

#: Scores of a whole reference, at most: some 3 s per input set on an H200.
ALL_SCORES = 2**32
#: Of a larger forward problem, one row out of so many consecutive ones is compared, or fewer: kernels that we know work on
#: blocks of 64 query rows or more, so each of their blocks has its row. Some pack the query heads of a group into a block,
#: which then spans fewer rows; so do the stretches.
ROWS_PER_SAMPLED = 64
#: Gradients pass over the scores so many times as often as an output does.
GRADIENT_PASSES = 4

#: What goes with the heads of the keys and values; all else goes with those of the queries.
_OF_KEYS = ("k", "v", "dk", "dv")


@dataclass(frozen=True)
class Excerpt:
    """A part of a `[batch, seq, heads, head_dim]` tensor; all of it by default.

    rows: along the sequence, int64, None for all. entry: of the batch, None for all. heads: consecutive, None for all. text:
    the same in words.
    """

    rows: torch.Tensor | None = None
    entry: int | None = None
    heads: range | None = None
    text: str = "all"

    @property
    def is_whole(self) -> bool:
        return self.rows is None and self.entry is None and self.heads is None

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """This part of a whole tensor, with all four axes."""
        if self.entry is not None:
            tensor = tensor.narrow(0, self.entry, 1)
        if self.rows is not None:
            tensor = tensor.index_select(1, self.rows)
        if self.heads is not None:
            tensor = tensor.narrow(2, self.heads.start, len(self.heads))
        return tensor

    def place(self, index: tuple[int, ...]) -> tuple[int, ...]:
        """Where an element of this part stands in the whole tensor."""
        entry, row, head, channel = index
        return (
            entry if self.entry is None else self.entry,
            row if self.rows is None else int(self.rows[row].item()),
            head if self.heads is None else self.heads[head],
            channel,
        )


@dataclass(frozen=True)
class SomeHeads:
    """One batch entry and consecutive heads of its keys, with the query heads that share them: a problem of its own.

    Heads do not depend on each other, so the gradients of these are those of the whole. text: in words.
    """

    entry: int
    kv_heads: range
    group: int
    text: str

    def of(self, name: str) -> Excerpt:
        """The part of a tensor of this name: q, k, v, do, output, dq, dk or dv."""
        first, stop = self.kv_heads.start, self.kv_heads.stop
        heads = self.kv_heads if name in _OF_KEYS else range(first * self.group, stop * self.group)
        return Excerpt(entry=self.entry, heads=heads, text=self.text)

    def problem(self, workload: Workload) -> Workload:
        """The workload of these heads alone, with the mask of their batch entry."""
        return replace(
            workload,
            batch=1,
            heads=len(self.kv_heads) * self.group,
            kv_heads=len(self.kv_heads) if self.group > 1 else None,
            lengths=workload.lengths[self.entry : self.entry + 1],
        )


def some_rows(q: torch.Tensor, k: torch.Tensor, seed: int) -> Excerpt:
    """The query rows of which an output is compared: all, or of each stretch of `ROWS_PER_SAMPLED` or more a seeded one."""
    import torch

    seq = q.shape[1]
    stretch = _more_than(_scores(q, k))
    if stretch == 1:
        return Excerpt()
    group = q.shape[2] // k.shape[2]
    stretch = min(seq, max(ROWS_PER_SAMPLED // group, stretch))
    starts = torch.arange(0, seq, stretch, device="cpu")
    generator = torch.Generator(device="cpu").manual_seed(seed)
    within = torch.rand(len(starts), generator=generator, dtype=torch.float64, device="cpu")
    lengths = torch.clamp(seq - starts, max=stretch)
    rows = starts + (within * lengths).long()
    return Excerpt(rows=rows.to(q.device), text=f"{len(rows)} of {seq} query rows, one of every {stretch}, seed {seed}")


def some_heads(q: torch.Tensor, k: torch.Tensor, seed: int) -> SomeHeads | None:
    """The heads of which gradients are compared, seeded; None for all. One at least, however long the sequence is."""
    import torch

    batch, kv_heads, group = q.shape[0], k.shape[2], q.shape[2] // k.shape[2]
    scores = GRADIENT_PASSES * _scores(q, k)
    if _more_than(scores) == 1:
        return None
    count = min(kv_heads, max(1, ALL_SCORES * batch * kv_heads // scores))
    generator = torch.Generator(device="cpu").manual_seed(seed)
    entry, first = (
        int(torch.randint(most, (), generator=generator, device="cpu").item()) for most in (batch, kv_heads - count + 1)
    )
    of_batch = f" of batch entry {entry} of {batch}" if batch > 1 else ""
    which = f"head {first}" if count == 1 else f"heads {first} to {first + count - 1}"
    text = f"{which} of the {kv_heads} of the keys{of_batch}, all rows, seed {seed}"
    return SomeHeads(entry, range(first, first + count), group, text)


def _scores(q: torch.Tensor, k: torch.Tensor) -> int:
    return q.shape[0] * q.shape[2] * q.shape[1] * k.shape[1]


def _more_than(scores: int) -> int:
    """How many times a whole reference may cost, rounded up."""
    return -(-scores // ALL_SCORES)
