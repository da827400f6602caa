"""The results of the selected cases: records and verdicts, in order, and what is said below them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from attnbench import printable
from attnbench.model import Launch, Reason, Record, Status, Verdict

#: The code of the reason of a case that the run ended before.
NOT_REACHED = "not-reached"


@dataclass(frozen=True)
class _Result:
    record: Record
    further: tuple[Record, ...] = ()  # the same case in other launches


class ResultLog:
    """Grows and never shrinks: the newest entry about a test counts, at the place of its first one.

    by_nodeid: whether records stand in the order of their tests' names, because they arrive in no order (pytest-xdist).
    """

    def __init__(self, by_nodeid: bool = False) -> None:
        self._by_nodeid = by_nodeid
        self._results: dict[str, _Result] = {}
        self._launches: dict[str, Launch] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._remarks: dict[str, None] = {}
        self._announcements: tuple[str, ...] = ()
        self._header_shown = False
        self._spoilt: set[str] = set()  # launches
        self._interrupted = ""

    def add(self, record: Record, *further: Record) -> None:
        """What became of a case, in this launch and in further ones; of one that has not run yet, its draft."""
        self._results[record.nodeid] = _Result(record, further)
        if record.spoils_process:
            self._spoilt.add(record.launch)

    def add_launches(self, launches: Iterable[Launch]) -> None:
        """The launches that records are of."""
        for launch in launches:
            self._launches.setdefault(launch.id, launch)

    def add_verdict(self, verdict: Verdict) -> None:
        """The verdict on the case of a test."""
        self._verdicts[verdict.nodeid] = verdict

    def remark(self, text: str) -> None:
        """Print a line below the section, once for all cases; quotes from a stored run are escaped."""
        self._remarks.setdefault(printable.line(printable.message(text)))

    def announce(self, text: str) -> None:
        """Say this once before anything runs: in the header, or below the section of a run without one."""
        self._announcements += (printable.line(printable.message(text)),)

    def header_shown(self) -> None:
        """The header is printed, and every announcement with it."""
        self._header_shown = True

    def end(self, why: str) -> None:
        """The run ended early, for this reason; the first reason counts, and an empty one is none."""
        self._interrupted = self._interrupted or why

    def explain_unreached(self) -> None:
        """Give the cases that did not run the reason why the run ended early, if it did."""
        if self._interrupted:
            reason = Reason(NOT_REACHED, f"the run ended before this case: {self._interrupted}")
            for record in self.unreached:
                self.add(replace(record, reasons=(reason,)))

    @property
    def records(self) -> Mapping[str, Record]:
        """The record of each case, by node id."""
        return {nodeid: result.record for nodeid, result in self._ordered()}

    @property
    def all_records(self) -> tuple[Record, ...]:
        """The record of each case, each followed by those of its further launches."""
        return tuple(record for _, result in self._ordered() for record in (result.record, *result.further))

    @property
    def launches(self) -> tuple[Launch, ...]:
        """The launches that any record is of."""
        used = {record.launch for record in self.all_records}
        return tuple(launch for launch in self._launches.values() if launch.id in used)

    @property
    def verdicts(self) -> Mapping[str, Verdict]:
        """By node id, because a case may be in several tests."""
        return MappingProxyType(self._verdicts)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Lines below the section, in order."""
        return (*(() if self._header_shown else self._announcements), *self._remarks)

    @property
    def announcements(self) -> tuple[str, ...]:
        """What the header says, in order."""
        return self._announcements

    @property
    def interrupted(self) -> str:
        """Why the run ended early; empty if it did not."""
        return self._interrupted

    @property
    def unreached(self) -> list[Record]:
        """Selected cases that have not run yet."""
        waiting = (record for record in self.records.values() if record.status is Status.NOT_RUN)
        return [record for record in waiting if record.reasons[0].code == NOT_REACHED]

    def spoils(self, launch: str) -> bool:
        """Whether a case of this launch left its process so that nothing more may be measured there."""
        return launch in self._spoilt

    def _ordered(self) -> list[tuple[str, _Result]]:
        results = self._results.items()
        return sorted(results, key=lambda item: item[0]) if self._by_nodeid else list(results)
