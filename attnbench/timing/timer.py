"""The timers, in the form that pytest-benchmark calls: `timer()` twice, and a difference in seconds.

pytest-benchmark only ever subtracts what its timer returned, so an instant may be a device event. The subtraction waits
for the device, outside the interval.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol


class Instant(Protocol):
    """A point in time; `later - earlier` is the seconds between, and may wait for the device."""

    def __sub__(self, earlier: Any) -> float: ...


class HostInstant:
    """A reading of perf_counter."""

    __slots__ = ("_at_s",)

    def __init__(self) -> None:
        self._at_s = time.perf_counter()

    def __sub__(self, earlier: HostInstant) -> float:
        return self._at_s - earlier._at_s


class StoredInstant:
    """The start or end of a round that another process took: the difference is exactly that round's seconds."""

    __slots__ = ("_round_s",)

    def __init__(self, round_s: float) -> None:
        self._round_s = round_s

    def __sub__(self, earlier: StoredInstant) -> float:
        del earlier
        return self._round_s


class Timer:
    """What pytest-benchmark gets as `timer`: one object per test, whose instants are chosen when the case is known."""

    def __init__(self) -> None:
        self._now: Callable[[], Instant] = HostInstant
        self.__name__ = "perf_counter"

    def __call__(self) -> Instant:
        return self._now()

    def use(self, name: str, now: Callable[[], Instant]) -> None:
        """Return what `now` gives from here on; `name` is what pytest-benchmark stores as the timer."""
        self.__name__ = name
        self._now = now

    def release(self) -> None:
        """Drop what gives the instants, which may hold device memory, and keep its name, which is stored."""
        self._now = HostInstant

    def replay(self, name: str, rounds_s: Iterable[float]) -> None:
        """Replay stored rounds, in order: each pair of calls differs by the seconds of the next round."""
        ends = deque(instant for round_s in rounds_s for instant in (StoredInstant(round_s), StoredInstant(round_s)))
        self.use(name, ends.popleft)
