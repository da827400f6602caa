"""By what the page refers to a record: its GPU, name, launch number, and the key that the filters match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from attnbench.model import Launch, Record
from attnbench.report.gather import Gathered, RecordKey, key_of
from attnbench.report.pooling import marked, numbered_tests, pooled, pooled_median_s
from attnbench.report.quantities import device_name
from attnbench.workload import Workload

#: What the page can be filtered by: name in the data, label.
FACETS = (
    ("gpu", "GPU"),
    ("family", "Family"),
    ("mode", "Mode"),
    ("workload", "Workload"),
    ("verdict", "Verdict"),
    ("status", "Status"),
)
NO_VERDICT = "no verdict"


@dataclass(frozen=True)
class Case:
    """All records of one GPU, variant (and test) and workload."""

    gpu: str
    name: str
    records: tuple[Record, ...]

    @property
    def first(self) -> Record:
        return self.records[0]

    @cached_property
    def median_s(self) -> float | None:
        """Median of the rounds of all launches, as in the tables; those slowed down on purpose are left out."""
        return pooled_median_s(self._as_it_is)

    @cached_property
    def pooled(self) -> Record:
        """One record of all launches; where a launch could not measure the case, that launch's."""
        return next(iter(pooled(self._as_it_is)), self.first)

    @property
    def _as_it_is(self) -> list[Record]:
        return [record for record in self.records if record.injected is None]


class Index:
    """Names, numbers and keys of gathered records."""

    def __init__(self, gathered: Gathered) -> None:
        self.gathered = gathered
        self._gpus = {launch.id: device_name(launch) for launch in gathered.launches.values()}
        self._launch_numbers = {launch: number for number, launch in enumerate(gathered.launches, 1)}
        tests: dict[str, Mapping[str, int]] = {}
        for gpu in self.gpus:
            tests[gpu] = numbered_tests([r for r in gathered.records if self.gpu(r) == gpu])
        self._tests = tests
        self._values: dict[str, dict[str, int]] = {name: {} for name, _ in FACETS}
        self._keys = {id(record): self._key_of(record) for record in gathered.records}
        for verdict in gathered.verdicts:
            self.key_with(verdict=str(verdict.kind))  # of a case without a record too

    @cached_property
    def gpus(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(self.gpu, self.gathered.records)))

    @cached_property
    def launches(self) -> Mapping[str, tuple[Launch, ...]]:
        """Launches by GPU, also those that no record is of."""
        by_gpu: dict[str, list[Launch]] = {}
        for launch in self.gathered.launches.values():
            by_gpu.setdefault(self._gpus[launch.id], []).append(launch)
        return {gpu: tuple(launches) for gpu, launches in by_gpu.items()}

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        by_case: dict[tuple[str, str, Workload], dict[RecordKey, Record]] = {}
        for record in self.gathered.records:
            where = (self.gpu(record), self.name(record), record.workload)
            by_case.setdefault(where, {})[key_of(record)] = record
        return tuple(Case(gpu, name, tuple(mine.values())) for (gpu, name, _), mine in by_case.items())

    def gpu(self, record: Record) -> str:
        return self._gpus[record.launch]

    def gpu_if_several(self, record: Record) -> str:
        """The GPU of a record; nothing where all records are of one."""
        return self.gpu(record) if len(self.gpus) > 1 else ""

    def gpu_number(self, gpu: str) -> int | None:
        """Index of a device among the facet's values, None for one that no record is of."""
        return self._values["gpu"].get(gpu)

    def name(self, record: Record) -> str:
        """The variant, with the number of its test where several have it."""
        return f"{record.variant}{marked(record.nodeid, self._tests[self.gpu(record)])}"

    def launch_number(self, record: Record) -> int:
        """From 1, in the order of the files."""
        return self._launch_numbers[record.launch]

    def key(self, record: Record) -> str:
        """What the filters match a record by."""
        return self._keys[id(record)]

    def key_with(self, **values: str) -> str:
        """Indices of these values, in the order of the facets; `-` where one is not known."""
        indices = []
        for name, _ in FACETS:
            known = self._values[name]
            indices.append(str(known.setdefault(values[name], len(known))) if name in values else "-")
        return ".".join(indices)

    def values(self, facet: str) -> tuple[str, ...]:
        """Every value of a facet, in the order of its indices."""
        return tuple(self._values[facet])

    def _key_of(self, record: Record) -> str:
        verdict = self.gathered.verdict(record)
        return self.key_with(
            gpu=self.gpu(record),
            family=record.family,
            mode=record.mode,
            workload=record.workload.name,
            verdict=str(verdict.kind) if verdict else NO_VERDICT,
            status=str(record.status),
        )
