"""Which workloads a table or a plot takes for one problem at several lengths, and its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from attnbench.workload import Workload

#: Shares that the words list; of more they say the range and the mean.
_MOST_SHARES = 4


@dataclass(frozen=True)
class Problem:
    """All that changes the work of a call but its sequence length: workloads of one problem and length do the same work.

    batch: None where the `tokens` stay the same instead, batch × sequence length. rest: the other fields, with neither a
    length nor a name. padding: of each batch entry the share of the keys that are real; packed: of each sequence its share
    of the tokens. Of a length that is no multiple of their denominators, shares are rounded, and so another problem's.
    """

    batch: int | None
    tokens: int | None
    rest: Workload
    padding: tuple[Fraction, ...]
    packed: tuple[Fraction, ...]

    @property
    def words(self) -> str:
        """`batch 4, 16 heads × 128, bf16, mask causal, inputs randn`."""
        size = f"batch {self.batch}" if self.tokens is None else f"{self.tokens:,} tokens"
        rest = self.rest
        _, keys, kv_heads, head_dim = rest.k_shape
        heads = f"{rest.heads}/{kv_heads}" if rest.group > 1 else f"{rest.heads}"
        widths = head_dim if rest.head_dim_v is None else f"{head_dim}/{rest.head_dim_v}"
        parts = [
            size,
            f"{heads} heads × {widths}",
            rest.dtype,
            f"{keys} keys" if rest.seq_kv is not None else "",
            f"mask {rest.mask}" if rest.mask != "none" else "",
            f"{_percents(self.padding)} of the keys real" if self.padding else "",
            f"{len(self.packed)} packed sequences of {_percents(self.packed)}" if self.packed else "",
            f"dropout {rest.dropout:g}" if rest.dropout else "",
            rest.direction if rest.direction != "forward" else "",
            f"held as {rest.layout}" if rest.layout != "bshd" else "",
            f"inputs {rest.distribution}",
            f"seed {rest.seed}" if rest.seed else "",
        ]
        return ", ".join(filter(None, parts))


def problem(workload: Workload) -> Problem:
    """That of a workload over its lengths."""
    return Problem(
        workload.batch,
        None,
        replace(workload.problem, batch=0, seq=0, lengths=(), packed=()),
        _shares(workload.lengths, workload.k_shape[1]),
        _shares(workload.packed, workload.seq),
    )


def problem_of_tokens(workload: Workload) -> Problem:
    """That of a workload where the batch shrinks as the length grows."""
    return replace(problem(workload), batch=None, tokens=workload.batch * workload.seq)


def _shares(lengths: Sequence[int], whole: int) -> tuple[Fraction, ...]:
    return tuple(Fraction(length, whole) for length in lengths)


def _percents(shares: Sequence[Fraction]) -> str:
    """`100+78.1 %`; of many the range and the mean."""
    if len(shares) <= _MOST_SHARES:
        return f"{'+'.join(_percent(share) for share in shares)} %"
    mean = sum(shares, Fraction()) / len(shares)
    return f"{_percent(min(shares))} to {_percent(max(shares))} % ({_percent(mean)} % on average)"


def _percent(share: Fraction) -> str:
    return f"{float(share) * 100:.3g}"
