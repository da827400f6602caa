"""What the page shows, worked out from stored records: plain data for the template, in the order in which it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from attnbench.model import VerdictKind
from attnbench.report.gather import Gathered
from attnbench.report.page import heading
from attnbench.report.page.accuracy_table import accuracy_table
from attnbench.report.page.environment import Environment, environments
from attnbench.report.page.history_rows import HistoryRow, history_rows
from attnbench.report.page.hovers import hovers
from attnbench.report.page.index import Index
from attnbench.report.page.record_table import record_table
from attnbench.report.page.relative_speed import Relative, relative_speed
from attnbench.report.page.tables import Table
from attnbench.report.page.tiles import Tile, tiles
from attnbench.report.page.unmeasured import Unmeasured, unmeasured
from attnbench.report.page.verdict_rows import VerdictRow, verdict_rows
from attnbench.report.sustained import reversals
from attnbench.report.verdicts import MOST_WITHOUT_BASELINE

#: Verdict kinds that need no reader: folded away, and counted.
QUIET = ("unchanged",)
NO_BASELINE = str(VerdictKind.NO_BASELINE)


class Content:
    """Everything that the template asks for, each part worked out when it is first asked for.

    descriptions: by backend what it is. with_history: whether the courses over time are shown.
    Raises nothing for what records hold.
    """

    def __init__(
        self, gathered: Gathered, descriptions: Mapping[str, str] | None = None, *, with_history: bool = False
    ) -> None:
        self.gathered = gathered
        self._descriptions = descriptions or {}
        self._with_history = with_history
        self._index = Index(gathered)

    @property
    def gpus(self) -> tuple[str, ...]:
        return self._index.gpus

    def gpu_number(self, gpu: str) -> int | None:
        """Index of a device among the facet's values, None for one that no record is of."""
        return self._index.gpu_number(gpu)

    @cached_property
    def title(self) -> str:
        return heading.title(self._index)

    @cached_property
    def facts(self) -> tuple[str, ...]:
        return heading.facts(self.gathered)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        return heading.warnings(self.gathered)

    @cached_property
    def has_problems(self) -> bool:
        return heading.has_problems(self.gathered)

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        return tiles(self._index, self.verdicts, self.unmeasured)

    @cached_property
    def verdicts(self) -> tuple[VerdictRow, ...]:
        return verdict_rows(self._index)

    @cached_property
    def loud(self) -> tuple[VerdictRow, ...]:
        folded = (*QUIET, NO_BASELINE) if self.without_baseline else QUIET
        return tuple(row for row in self.verdicts if row.kind not in folded)

    @cached_property
    def without_baseline(self) -> tuple[VerdictRow, ...]:
        """Cases that no session holds, where they are many; fewer are rows like any other."""
        rows = tuple(row for row in self.verdicts if row.kind == NO_BASELINE)
        return rows if len(rows) > MOST_WITHOUT_BASELINE else ()

    @cached_property
    def quiet(self) -> tuple[VerdictRow, ...]:
        return tuple(row for row in self.verdicts if row.kind in QUIET)

    @cached_property
    def history(self) -> tuple[HistoryRow, ...]:
        """Empty unless it was asked for."""
        return history_rows(self._index) if self._with_history else ()

    @cached_property
    def unmeasured(self) -> tuple[Unmeasured, ...]:
        return unmeasured(self._index)

    @cached_property
    def relative(self) -> tuple[Relative, ...]:
        return relative_speed(self._index)

    @cached_property
    def accuracy(self) -> Table:
        return accuracy_table(self._index)

    @cached_property
    def records(self) -> Table:
        return record_table(self._index)

    @cached_property
    def reversals(self) -> tuple[str, ...]:
        """Which variants are the fastest when settled and not under continuous load."""
        found = reversals(self.gathered.records, tuple(self.gathered.launches.values()))
        several = len({one.gpu for one in found}) > 1
        return tuple(f"{one.gpu}, {one.sentence}." if several else f"{one.sentence}." for one in found)

    @cached_property
    def environments(self) -> tuple[Environment, ...]:
        return environments(self._index)

    @cached_property
    def data(self) -> dict[str, Any]:
        """What the script is given."""
        return hovers(self._index, self._descriptions)
