"""A case that fresh processes run, as a test of this one sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attnbench.execution.round_plan import RoundPlan, nothing
from attnbench.hardware.device import OpenDevice
from attnbench.model import CaseEnded, Record, Status, SustainedLoad
from attnbench.timing.timer import Timer

#: The reason of a case whose test came to an end by itself before it measured.
ENDED_BY_TEST = "ended-by-test"


class RemoteCase:
    """A case that fresh processes run: all steps happen there, records come back, their rounds are replayed.

    `record` is the first launch's, or that of the launch which failed; `further` are the others'.
    """

    limited = False  # whoever measures keeps the time

    def __init__(self, record: Record, processes: Sequence[int], measure: Callable[[Record, int], Record]) -> None:
        """`measure` measures the case of a record in the process of that number, one of `processes`."""
        self.record = record
        self.further: tuple[Record, ...] = ()
        self._processes = processes
        self._measure = measure

    def prepare(self, device: OpenDevice) -> None:
        """Run the whole case in each launch. Raises CaseEnded with whatever ended it there."""
        del device
        draft = self.record
        passed: list[Record] = []
        for number in self._processes:
            record = self._measure(draft, number)
            if record.status not in (Status.MEASURED, Status.CHECKED) and not _ended_by_test(record):
                self.record, self.further = record, tuple(passed)
                raise CaseEnded(record.status, *record.reasons)
            passed.append(record)
        self.record, *others = passed
        self.further = tuple(others)

    def assert_accurate(self) -> None:
        """Done by the process that ran the case."""

    def assert_route(self) -> None:
        """Done by the process that ran the case."""

    def rounds(self, count: int, timer: Timer) -> RoundPlan:
        """The rounds that were taken there, of all launches, through the timer that pytest-benchmark reads here."""
        del count  # its process took as many as it was told
        samples = [record.sample for record in (self.record, *self.further) if record.sample is not None]
        sample = self.record.sample
        assert sample is not None, "a launched case that is timed here was measured there"
        rounds_s = [round_s for one in samples for round_s in one.rounds_s]
        timer.replay(sample.timer, rounds_s)
        return RoundPlan(len(rounds_s), nothing, nothing, lambda _: sample)

    def sustain(self, seconds: float) -> SustainedLoad | None:
        """What the process that ran the case found."""
        del seconds
        return self.record.sustained

    def leave(self, verify: bool = True) -> None:
        """Done by the process that ran the case."""

    def close(self) -> None:
        """Nothing to let go of."""


def _ended_by_test(record: Record) -> bool:
    """Whether the test left the case there, as it will here."""
    return any(reason.code == ENDED_BY_TEST for reason in record.reasons)
