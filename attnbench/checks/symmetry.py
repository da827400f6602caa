"""The moves that leave a problem as it is: by them the rounds of a case see other contents in the same memory.

Attention treats heads alike, batch entries alike, and, where the mask does not say which row is which, query rows alike.
With v negated, the output is. So from one checked output follows the right output for inputs that were moved, with no second
reference. A move says for each tensor, inputs (q, k, v, and the output's gradient) and outputs, by how much it goes along.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from attnbench.workload import Workload

#: Axes of [batch, seq, heads, head_dim].
BATCH, SEQ, HEADS = 0, 1, 2
#: The tensors that go with the queries, with the keys and values, and all: "do" is the gradient of the output.
_OF_QUERIES, _OF_KEYS = ("q", "do", "output", "dq"), ("k", "v", "dk", "dv")
#: What changes its sign where v does.
_OF_V = ("v", "output", "dq", "dk")


@dataclass(frozen=True)
class Roll:
    """Roll tensors along one axis: each by its step, `period` times until all is as it was; 0 for one that stays."""

    axis: int
    period: int
    steps: Mapping[str, int]


@dataclass(frozen=True)
class Flip:
    """Reverse all tensors along one axis."""

    axis: int


@dataclass(frozen=True)
class Negate:
    """Change the sign of these tensors."""

    names: tuple[str, ...]


Move = Roll | Flip | Negate


def moves(workload: Workload) -> tuple[Move, ...]:
    """The moves of a workload, fastest first; each comes when those before it have come round. Empty with dropout.

    Rows come late, because a kernel that quantises blocks of rows returns other bits when they move. Whole groups of query
    heads go with their key head. With dropout a moved row would drop other probabilities: the generator is reset instead.
    """
    if workload.dropout:
        return ()
    batch, _, kv_heads, _ = workload.k_shape
    found: list[Move] = []
    if kv_heads > 1:
        found.append(Roll(HEADS, kv_heads, _steps(workload.group, 1)))
    if kv_heads > 2:  # of two, the other order is the one rolled by one
        found.append(Flip(HEADS))
    if workload.mask in ("none", "padding") and not workload.packed and workload.seq > 1:
        # Every query sees the same keys, so the rows of the queries are rolled alone.
        found.append(Roll(SEQ, workload.seq, _steps(1, 0)))
    if workload.mask != "padding" and batch > 1:
        found.append(Roll(BATCH, batch, _steps(1, 1)))
    if not any(isinstance(one, Roll) and one.axis == SEQ for one in found):
        found.append(Negate(_OF_V))
    return tuple(found)


def _steps(queries: int, keys: int) -> dict[str, int]:
    return dict.fromkeys(_OF_QUERIES, queries) | dict.fromkeys(_OF_KEYS, keys)
