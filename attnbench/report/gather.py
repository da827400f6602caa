"""The one entrance of all report formats: any mix of stored files, read into one frozen `Gathered`.

It takes reviewed sessions, pytest-benchmark JSON of a run (`--benchmark-json`, `--benchmark-save`), attnbench's own JSONL
and the JSONL of Hugging Face's kernels-benchmarks tools, of one or several GPUs, as files and as folders. A file or a line
that cannot be used never ends a report: it is counted and named with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from types import MappingProxyType

from attnbench.model import Launch, Record, RunFile, Verdict

#: What tells two records of one report apart: launch, case, node id.
RecordKey = tuple[str, str, str]


class Kind(str, Enum):
    """What a file is."""

    SESSION = "session"  # a reviewed session, baselines/<gpu slug>/NNNN_<id>.json
    RUN = "run"  # pytest-benchmark JSON of one run
    JSONL = "JSONL"  # attnbench/report/jsonl.py
    KBT = "kbt JSONL"  # of the kernels-benchmarks tools, attnbench/report/kbt.py
    UNKNOWN = "unknown"

    def __str__(self) -> str:
        return self.value


class Outcome(str, Enum):
    """What became of a file."""

    FOUND = "found"
    EMPTY = "empty"  # no byte, or no record
    MISSING = "missing"
    OTHER_SCHEMA = "of another schema"  # newer than this version reads
    UNREADABLE = "unreadable"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Skipped:
    """A line that was not read; `line` counts from 1."""

    line: int
    reason: str


@dataclass(frozen=True)
class SourceFile:
    """One file that was looked at. records: what it holds; repeated: of these, what an earlier file holds, too."""

    path: str
    kind: Kind
    outcome: Outcome
    problem: str = ""  # one sentence; empty where it was found
    records: int = 0
    repeated: int = 0
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class GatheredRun:
    """A run with those of its launches and records that no earlier file holds; every string in it can be shown."""

    path: str
    kind: Kind
    run: RunFile


@dataclass(frozen=True, eq=False)
class Gathered:
    """Everything that goes into a report, in the order in which the files were named; nothing in it twice.

    peak_bytes: peak memory that another tool recorded where a `Record` has no field for it (`Kind.KBT`).
    """

    runs: tuple[GatheredRun, ...] = ()
    files: tuple[SourceFile, ...] = ()
    peak_bytes: Mapping[RecordKey, int] = MappingProxyType({})

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """All records, one per case, test and launch."""
        return tuple(record for source in self.runs for record in source.run.records)

    @cached_property
    def launches(self) -> Mapping[str, Launch]:
        """Launches by id."""
        return {launch.id: launch for source in self.runs for launch in source.run.launches}

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        return tuple(verdict for source in self.runs for verdict in source.run.verdicts)

    @cached_property
    def gpus(self) -> tuple[str, ...]:
        """Names of the device models that records are of, in order of appearance."""
        return tuple(dict.fromkeys(map(self.gpu, self.records)))

    def gpu(self, record: Record) -> str:
        """Name of the device model of a record: `NVIDIA H200`, `simulated device`, `unknown device`."""
        return device_name(self.launches[record.launch])

    def verdict(self, record: Record) -> Verdict | None:
        """What the record's run says of its case, None without a verdict."""
        return self._verdicts.get(key_of(record))

    @cached_property
    def _verdicts(self) -> Mapping[RecordKey, Verdict]:
        found = {}
        for source in self.runs:
            of_test = {(verdict.case, verdict.nodeid): verdict for verdict in source.run.verdicts}
            of_case = {verdict.case: verdict for verdict in source.run.verdicts if not verdict.nodeid}
            for record in source.run.records:
                verdict = of_test.get((record.case, record.nodeid)) or of_case.get(record.case)
                if verdict is not None:
                    found[key_of(record)] = verdict
        return found


def key_of(record: Record) -> RecordKey:
    return (record.launch, record.case, record.nodeid)


def device_name(launch: Launch) -> str:
    return str(launch.fingerprint.key.get("device") or "unknown device")


def gather(paths: Sequence[str]) -> Gathered:
    """Read files and folders; never raises for what they hold."""
    raise NotImplementedError  # follows in the next commit; the dataclasses above are what formats take
