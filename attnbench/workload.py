"""One attention problem, as data: shapes, mask, direction, what it costs at least, and how it is spelt."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

from attnbench import printable

DTYPES = ("bf16", "fp16", "fp32")
#: Which keys a query sees: all; those up to its own place, aligned at the last query and the last key, as FlashAttention
#: does; the first `lengths` of a batch entry; those that a dense matrix of booleans allows; all, with a dense bias.
MASKS = ("none", "causal", "padding", "bool", "additive")
#: What is timed: the output, the gradients of q, k and v from a graph that stands, or both.
DIRECTIONS = ("forward", "backward", "forward+backward")
#: What q, k and v hold: names of `attnbench.workloads.drawing.DISTRIBUTIONS`.
DISTRIBUTION_NAMES = ("randn*randint(1,5)", "randn", "outlier-k")
#: How the caller holds its tensors: `[batch, seq, heads, head_dim]` in memory, `[batch, heads, seq, head_dim]`, or the first
#: for a kernel that wants the second and gets copies, inside the timed call.
LAYOUTS = ("bshd", "bhsd", "bshd_contiguous")
#: What a workload may ask of a kernel beyond plain forward attention (`Workload.features`, `Backend.takes`).
FEATURES = ("cross", "gqa", "head_dim_v", *MASKS[1:], "packed", "dropout", "backward")
#: How a direction is spelt in a workload's name.
SPELT_DIRECTIONS = {"forward": "fwd", "backward": "bwd", "forward+backward": "fwdbwd"}


@dataclass(frozen=True)
class Workload:
    """One attention problem: shapes, dtype, mask, direction and input distribution.

    q is `[batch, seq, heads, head_dim]`, k `[batch, seq_kv, kv_heads, head_dim]`, v and the output have `head_dim_v`; None
    means as many as q has. Query head h uses key head h // (heads // kv_heads). lengths: under mask "padding", how many of
    the keys of each batch entry are real. packed: tokens of each sequence, where several are joined in one tensor of batch
    1 and none sees another. dropout: the share of probabilities that is dropped. layout: one of `LAYOUTS`.
    why: what the row is for, and source: where it comes from; neither takes part in equality. See `problem`, too.
    """

    name: str
    batch: int
    seq: int
    heads: int
    head_dim: int
    dtype: str = "bf16"
    mask: str = "none"
    direction: str = "forward"
    distribution: str = "randn*randint(1,5)"
    seed: int = 0
    why: str = field(default="", compare=False)
    source: str = field(default="", compare=False)
    seq_kv: int | None = None
    kv_heads: int | None = None
    head_dim_v: int | None = None
    lengths: tuple[int, ...] = ()
    packed: tuple[int, ...] = ()
    dropout: float = 0.0
    layout: str = "bshd"

    def __post_init__(self) -> None:
        """Raise ValueError for a number or a text of another type.

        Which numbers and words there are, `register_workload` checks: files of other versions may hold others.
        """
        __tracebackhide__ = True  # the traceback ends at the line that makes it
        subject = f"workload {self.name!r}"
        for name in ("batch", "seq", "heads", "head_dim", "seed"):
            object.__setattr__(self, name, _integer(f"{subject}: {name}", getattr(self, name)))
        for name in ("seq_kv", "kv_heads", "head_dim_v"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _integer(f"{subject}: {name}", getattr(self, name)))
        for name in ("lengths", "packed"):
            object.__setattr__(self, name, _integers(f"{subject}: {name}", getattr(self, name)))
        object.__setattr__(self, "dropout", _share(f"{subject}: dropout", self.dropout))
        for name in ("why", "source"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{subject}: {name} must be text, found {printable.described(getattr(self, name))}")
        for name, usual in (("seq_kv", self.seq), ("kv_heads", self.heads), ("head_dim_v", self.head_dim)):
            if getattr(self, name) == usual:
                object.__setattr__(self, name, None)  # one problem has one form

    @property
    def problem(self) -> Workload:
        """All that changes the work of a call, without a name: two workloads are the same problem if these are equal."""
        return replace(self, name="", why="", source="")

    @property
    def seq_q(self) -> int:
        """Queries of each batch entry: `seq`, by its longer name."""
        return self.seq

    @property
    def q_shape(self) -> tuple[int, int, int, int]:
        """Shape of q: `[batch, seq, heads, head_dim]`."""
        return (self.batch, self.seq, self.heads, self.head_dim)

    @property
    def k_shape(self) -> tuple[int, int, int, int]:
        """Shape of k: `[batch, seq_kv, kv_heads, head_dim]`."""
        return (self.batch, _or(self.seq_kv, self.seq), _or(self.kv_heads, self.heads), self.head_dim)

    @property
    def v_shape(self) -> tuple[int, int, int, int]:
        """Shape of v: `[batch, seq_kv, kv_heads, head_dim_v]`."""
        return (*self.k_shape[:3], _or(self.head_dim_v, self.head_dim))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the output: `[batch, seq, heads, head_dim_v]`."""
        return (*self.q_shape[:3], self.v_shape[3])

    @property
    def group(self) -> int:
        """Query heads per key head."""
        return self.heads // self.k_shape[2]

    @property
    def features(self) -> tuple[str, ...]:
        """What it asks of a kernel beyond plain forward attention: some of `FEATURES`."""
        asked = {
            "cross": self.seq_kv is not None,
            "gqa": self.kv_heads is not None,
            "head_dim_v": self.head_dim_v is not None,
            self.mask: self.mask != "none",
            "packed": bool(self.packed),
            "dropout": self.dropout > 0,
            "backward": self.direction != "forward",
        }
        return tuple(name for name in FEATURES if asked.get(name))

    @property
    def flop(self) -> int:
        """FLOP of one call, as FlashAttention's benchmarks count them (`flops` in hopper/benchmark_attn.py).

        Forward: two products, 2·(head_dim + head_dim_v) for each pair of a query and a key that it sees, per query head; a
        causal mask halves them. Of more queries than keys only those that see a key count, where that function takes half
        of all pairs. Dense masks count whole, because a kernel reads them and computes everything. Backward is 2.5 times
        the forward: five products. Softmax is not counted.
        """
        forward = self._twice_the_pairs * self.heads * (self.head_dim + self.shape[3])
        return {"forward": forward, "backward": forward * 5 // 2, "forward+backward": forward * 7 // 2}[self.direction]

    @property
    def bytes_moved(self) -> int:
        """The least that one call must read and write of the GPU's memory: each tensor once.

        Forward: q, k, v and a dense mask in, the output out; of padded keys and values the real ones. Backward: those, the
        output, its gradient and the log-sum-exp (fp32) in, three whole gradients out.
        """
        item = 4 if self.dtype == "fp32" else 2
        q, k, v = (math.prod(shape) * item for shape in (self.q_shape, self.k_shape, self.v_shape))
        output = math.prod(self.shape) * item
        dense = {"bool": 1, "additive": item}.get(self.mask, 0) * self.seq * self.k_shape[1]
        slots, real = self.batch * self.k_shape[1], sum(self.lengths)
        inputs = q + ((k + v) // slots * real if self.mask == "padding" else k + v) + dense
        forward = inputs + output
        backward = inputs + (q + k + v) + 2 * output + 4 * self.batch * self.heads * self.seq
        return {"forward": forward, "backward": backward, "forward+backward": forward + backward}[self.direction]

    @property
    def spelt(self) -> str:
        """The form that `--attn-workload` accepts for a workload without a name: `1x4096/1024x32/8x128:bf16:causal:bwd`."""
        axes = zip(self.q_shape, (None, self.seq_kv, self.kv_heads, self.head_dim_v), strict=True)
        words = [
            "x".join(f"{one}/{other}" if other else f"{one}" for one, other in axes),
            self.dtype,
            *((f"{self.mask}={_joined(self.lengths)}" if self.lengths else self.mask,) if self.mask != "none" else ()),
            *((f"packed={_joined(self.packed)}",) if self.packed else ()),
            *((f"dropout={_decimal(self.dropout)}",) if self.dropout else ()),
            *((self.layout,) if self.layout != "bshd" else ()),
            *((SPELT_DIRECTIONS[self.direction],) if self.direction != "forward" else ()),
        ]
        return ":".join(words)

    @property
    def shown(self) -> str:
        """The problem as a report shows it, without the inputs' distribution: `[1×4096/1024×32/8×128] bf16 causal bwd`."""
        axes, *words = self.spelt.split(":")
        return f"[{axes.replace('x', '×')}] {' '.join(words)}"

    @property
    def _twice_the_pairs(self) -> int:
        """Twice the pairs of a query and a key that it sees, summed over the batch; a causal square counts half."""
        keys = self.k_shape[1]
        if self.packed:
            return sum(length**2 * (1 if self.mask == "causal" else 2) for length in self.packed)
        if self.mask == "padding":
            return 2 * self.seq * sum(self.lengths)
        if self.mask == "causal":  # where there are more queries than keys, the first ones see none
            rows = min(self.seq, keys)
            return self.batch * rows * (2 * keys - rows)
        return 2 * self.batch * self.seq * keys


def _integer(what: str, found: object) -> int:
    """An integer, also one of NumPy's, as Python's own. Raises ValueError for anything else, a bool among it."""
    __tracebackhide__ = True
    number = as_integer(found)
    if number is None:
        raise ValueError(f"{what} must be an integer, found {printable.described(found)}")
    return number


def as_integer(value: Any) -> int | None:
    """An integer, also one of NumPy's, as Python's own; None for anything else, a bool among it."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _integers(what: str, found: object) -> tuple[int, ...]:
    __tracebackhide__ = True
    if not isinstance(found, (tuple, list)):
        raise ValueError(f"{what} must be a tuple of integers, found {printable.described(found)}")
    return tuple(_integer(f"{what}[{at}]", one) for at, one in enumerate(found))


def _share(what: str, found: object) -> float:
    __tracebackhide__ = True
    if isinstance(found, bool) or not isinstance(found, Real):
        raise ValueError(f"{what} must be a number, found {printable.described(found)}")
    return float(found)


def _or(value: int | None, usual: int) -> int:
    return usual if value is None else value


def _decimal(share: float) -> str:
    """Its digits without an exponent, from which the same number is read again."""
    from decimal import Decimal  # needed for dropout alone

    return f"{Decimal(str(share)):f}"


def _joined(lengths: tuple[int, ...]) -> str:
    return "+".join(map(str, lengths))
