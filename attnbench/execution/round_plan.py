"""What whoever takes the rounds of a case needs of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from attnbench.model import Sample


@dataclass(frozen=True)
class RoundPlan:
    """`count` rounds: `setup()`, then `call()` between two readings of the timer.

    sample: from the seconds of every round, in order, to what is stored of them. Raises CaseEnded where a round was wrong.
    """

    count: int
    setup: Callable[[], None]
    call: Callable[[], None]
    sample: Callable[[list[float]], Sample]


def nothing() -> None:
    """The set-up of a round that needs none, and the call of one that was taken elsewhere."""
