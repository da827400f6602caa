"""What a grid is."""

from __future__ import annotations

from dataclasses import dataclass

from attnbench.workload import Workload

#: The wall time of a grid that nobody has run to its end.
NOT_MEASURED = "not measured yet"


@dataclass(frozen=True)
class Grid:
    """Workloads that are compared with each other.

    what: in one sentence. source: where its numbers come from. rows: what it runs, in this order. tiny: what it runs on a
    CPU instead: the same masks, groups of heads and directions over a few tokens. further: rows that run when they are
    named, and not with the grid. wall_time: what was seen of it on one GPU, in words.
    """

    name: str
    what: str
    source: str
    rows: tuple[Workload, ...]
    tiny: tuple[Workload, ...]
    further: tuple[Workload, ...] = ()
    wall_time: str = NOT_MEASURED

    @property
    def every_row(self) -> tuple[Workload, ...]:
        """All of its rows, each once."""
        return tuple(dict.fromkeys((*self.rows, *self.further, *self.tiny)))

    def on(self, device: str) -> tuple[Workload, ...]:
        """What it runs on this device type, "cuda", "sim" or "cpu"."""
        return self.tiny if device == "cpu" else self.rows


def usual_lengths(batch: int, keys: int) -> tuple[int, ...]:
    """Real keys of each batch entry where nobody says: evenly apart, down to half of them in the last entry."""
    return tuple(keys - keys * (entry + 1) // (2 * batch) for entry in range(batch))


def short(length: int) -> str:
    """A length in a name: `512`, and `8k` for 8192."""
    return f"{length // 1024}k" if length >= 1024 and length % 1024 == 0 else str(length)
