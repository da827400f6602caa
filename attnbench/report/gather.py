"""The one entrance of all report formats: any mix of stored files, read into one frozen `Gathered`.

It takes reviewed sessions, pytest-benchmark JSON of a run (`--benchmark-json`, `--benchmark-save`), attnbench's own JSONL
and the JSONL of Hugging Face's kernels-benchmarks tools, of one or several GPUs, as files and as folders. A file or a line
that cannot be used never ends a report: it is counted and named with its reason.
"""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from attnbench import printable
from attnbench.codec import NewerSchema, Unreadable, run_from
from attnbench.fingerprint import slug
from attnbench.model import Launch, Record, RunFile, Verdict
from attnbench.report import jsonl, kbt
from attnbench.report.quantities import device_name
from attnbench.report.shown import shown_run
from attnbench.storage.benchmark_json import MOST_BYTES, check_run, load_document
from attnbench.storage.folders import NUMBERED
from attnbench.units import counted

#: Files of JSON lines, which may be of several runs.
SUFFIXES_OF_LINES = (".jsonl", ".ndjson")
#: Files of a folder that are looked at.
SUFFIXES = (".json", *SUFFIXES_OF_LINES)
#: First lines by which a file of another name is told.
_LOOKED_AT = 20

#: Before the name of an implementation that another tool measured, where attnbench has records of one called the same.
FOREIGN = "kbt:"

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
    notes: tuple[str, ...] = ()  # sentences on what it holds differently from an earlier file


@dataclass(frozen=True)
class GatheredRun:
    """A run with those of its records and verdicts that no earlier one holds; every string in it can be shown.

    It has no record where an earlier file holds all of them, and only its verdicts are new.
    """

    path: str
    kind: Kind
    run: RunFile


@dataclass(frozen=True, eq=False)
class Gathered:
    """Everything that goes into a report, in the order in which the files were named; nothing in it twice.

    verdict_of: the verdict on the case of a record, from its own run.
    peak_bytes: peak memory that another tool recorded where a `Record` has no field for it (`Kind.KBT`).
    """

    runs: tuple[GatheredRun, ...] = ()
    files: tuple[SourceFile, ...] = ()
    verdict_of: Mapping[RecordKey, Verdict] = field(default_factory=dict)
    peak_bytes: Mapping[RecordKey, int] = field(default_factory=dict)

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """All records, one per case, test and launch."""
        return tuple(record for source in self.runs for record in source.run.records)

    @cached_property
    def launches(self) -> Mapping[str, Launch]:
        """Launches by id; of one that several files hold, what the first says."""
        return {launch.id: launch for source in reversed(self.runs) for launch in source.run.launches}

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
        return self.verdict_of.get(key_of(record))


def key_of(record: Record) -> RecordKey:
    """Launch, case and node id of a record."""
    return (record.launch, record.case, record.nodeid)


def gather(paths: Sequence[str]) -> Gathered:
    """Read files and folders, these with all that lies below them and is named `*.json`, `*.jsonl` or `*.ndjson`.

    Never raises for what they hold: `Gathered.files` has a row for each that was looked at.
    """
    listed = [file for path in paths for file in _listed(path)]
    read = [_read(file) for file in listed]
    return _merged(read)


def gathered_from(run: RunFile, path: str = "this run") -> Gathered:
    """One run that is in memory, as `gather` gives what it reads."""
    return _merged([_Read(path, Kind.RUN, Outcome.FOUND, runs=((Kind.RUN, shown_run(run)),))])


def summary(gathered: Gathered, most: int = 8) -> list[str]:
    """What was found, empty, missing, unreadable, and how much went in: lines of text, `most` names of each."""
    readable = [file for file in gathered.files if file.outcome is Outcome.FOUND]
    lines = [f"read {len(readable)} of {counted(len(gathered.files), 'file')}: {_went_in(gathered)}"]
    held = {kind: [file.records for file in readable if file.kind is kind] for kind in Kind}
    lines += [
        f"  {kind}: {counted(len(mine), 'file')}, {counted(sum(mine), 'record')}" for kind, mine in held.items() if mine
    ]
    for outcome in (Outcome.MISSING, Outcome.EMPTY, Outcome.OTHER_SCHEMA, Outcome.UNREADABLE):
        others = [file for file in gathered.files if file.outcome is outcome]
        lines += _some(str(outcome), [f"{file.path}: {file.problem}" for file in others], most)
    skipped = [f"{file.path}, line {one.line}: {one.reason}" for file in readable for one in file.skipped]
    lines += _some("skipped", skipped, most)
    if repeated := sum(file.repeated for file in readable):
        lines.append(f"counted once: {counted(repeated, 'record')} repeated from an earlier file or line")
    lines += _some("conflict", [f"{file.path}: {note}" for file in readable for note in file.notes], most)
    if injected := sum(record.injected is not None for record in gathered.records):
        lines.append(f"slowed down on purpose (--attn-inject): {counted(injected, 'record')}")
    return [printable.line(printable.message(line)) if line.strip() == line else printable.line(line) for line in lines]


def _went_in(gathered: Gathered) -> str:
    if not gathered.records:
        return "no record"
    backends = {record.backend for record in gathered.records}
    variants = {record.variant for record in gathered.records}
    of = f"{counted(len(backends), 'implementation')}, {counted(len(variants), 'variant')}"
    launches = counted(len({record.launch for record in gathered.records}), "launch").replace("launchs", "launches")
    return f"{counted(len(gathered.records), 'record')} of {of}, {launches}, on {', '.join(gathered.gpus)}"


def _some(what: str, sentences: Sequence[str], most: int) -> list[str]:
    more = [f"{what}: and {len(sentences) - most} more"] if len(sentences) > most else []
    return [*(f"{what}: {sentence}" for sentence in sentences[:most]), *more]


@dataclass(frozen=True)
class _Read:
    """A file as it was read, before it is held against the others."""

    path: str
    kind: Kind = Kind.UNKNOWN
    outcome: Outcome = Outcome.UNREADABLE
    problem: str = ""
    runs: tuple[tuple[Kind, RunFile], ...] = ()
    skipped: tuple[Skipped, ...] = ()
    peak_bytes: Mapping[RecordKey, int] = field(default_factory=dict)


def _listed(path: str) -> Iterator[_Read | Path]:
    """The files below a folder, or the one file; what cannot be listed is a row of its own."""
    # Unlike pathlib's, this is_dir takes any text, with a zero byte too.
    if not os.path.isdir(path):  # noqa: PTH112
        yield Path(path)
        return
    problems: list[OSError] = []
    empty = True
    for folder, folders, names in os.walk(path, onerror=problems.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                empty = False
                yield Path(folder, name)
    yield from (_Read(str(exc.filename), problem=f"cannot be listed: {exc.strerror}") for exc in problems)
    if empty and not problems:
        yield _Read(
            path, outcome=Outcome.EMPTY, problem=f"no file named {', '.join(f'*{s}' for s in SUFFIXES)} below it"
        )


def _read(file: _Read | Path) -> _Read:
    if isinstance(file, _Read):
        return file
    path = str(file)
    try:
        content = _content(file)
    except FileNotFoundError:
        return _Read(path, outcome=Outcome.MISSING, problem="no such file or folder")
    except Unreadable as exc:
        return _Read(path, problem=str(exc))
    except (OSError, ValueError) as exc:
        return _Read(path, problem=f"cannot be read: {getattr(exc, 'strerror', None) or exc}")
    if not content.strip():
        return _Read(path, outcome=Outcome.EMPTY, problem="the file is empty")
    return _read_lines(path, content) if _has_lines(path, content) else _read_document(file)


def _content(path: Path) -> bytes:
    """What a regular file holds. Nothing else is opened: a FIFO would wait for a writer. Raises OSError, Unreadable."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("not a regular file")
    if status.st_size > MOST_BYTES:
        raise Unreadable(f"too large: {status.st_size / 2**20:.0f} MiB, at most {MOST_BYTES / 2**20:.0f} MiB are read")
    return path.read_bytes()


def _has_lines(path: str, content: bytes) -> bool:
    """Whether each line is a JSON value of its own: by the file's name, else by the first lines."""
    if path.lower().endswith(SUFFIXES_OF_LINES):
        return True
    for line in content.split(b"\n", _LOOKED_AT)[:_LOOKED_AT]:
        try:
            plain = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if jsonl.is_line(plain) or kbt.is_line(plain):
            return True
    return False


def _read_document(path: Path) -> _Read:
    try:
        document = load_document(path)
        run = shown_run(run_from(document))
    except Unreadable as exc:
        newer = isinstance(exc, NewerSchema) or isinstance(exc.__cause__, NewerSchema)
        problem = str(exc).removeprefix(f"{path} ").removeprefix(f"{path}: ")
        return _Read(str(path), outcome=Outcome.OTHER_SCHEMA if newer else Outcome.UNREADABLE, problem=problem)
    except (ArithmeticError, ValueError) as exc:  # a file of the right form, whose figures no run can have
        return _Read(str(path), problem=f"cannot be shown: {exc}")
    kind = Kind.SESSION if _is_session(path, run) else Kind.RUN
    if not run.records:
        return _Read(str(path), kind, Outcome.EMPTY, "that run selected no case")
    return _Read(str(path), kind, Outcome.FOUND, runs=((kind, run),))


def _is_session(path: Path, run: RunFile) -> bool:
    """Whether it lies where reviewed sessions do: in the folder of its device."""
    devices = {slug(device_name(launch)) for launch in run.launches}
    return NUMBERED.fullmatch(path.name) is not None and path.absolute().parent.name in devices


def _read_lines(path: str, content: bytes) -> _Read:
    ours: dict[str, list[jsonl.Line]] = {}
    theirs: list[kbt.KbtLine] = []
    skipped = []
    newer = 0
    unnamed = sha256(content).hexdigest()[:12]  # the run of lines that name none
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            plain = _json(line)
            if kbt.is_line(plain):
                theirs.append(kbt.line_from(printable.shown(plain), unnamed))
            elif jsonl.is_line(plain):
                one = jsonl.line_from(plain)
                check_run(one.run)
                ours.setdefault(one.run_id, []).append(one)
            else:
                raise Unreadable("JSON, but not a record of attnbench or kernels-benchmarks")
        except Unreadable as exc:
            newer += isinstance(exc, NewerSchema)
            skipped.append(Skipped(number, str(exc)))
        except (ArithmeticError, ValueError, RecursionError) as exc:
            skipped.append(Skipped(number, printable.message(f"cannot be read: {exc}")))
    kind = Kind.JSONL if ours else Kind.KBT if theirs else Kind.UNKNOWN
    if kind is Kind.UNKNOWN:
        outcome = Outcome.OTHER_SCHEMA if newer == len(skipped) else Outcome.UNREADABLE
        problem = (
            f"none of its {counted(len(skipped), 'line')} can be read; line {skipped[0].line}: {skipped[0].reason}"
        )
        return _Read(path, kind, outcome, problem, skipped=tuple(skipped))
    runs = [(Kind.JSONL, shown_run(jsonl.joined(lines))) for lines in ours.values()]
    launched = kbt.by_launch(theirs)
    runs += [(Kind.KBT, kbt.run_of(lines)) for lines in launched]
    peaks = {
        key_of(line.record): line.peak_bytes for lines in launched for line in lines if line.peak_bytes is not None
    }
    return _Read(path, kind, Outcome.FOUND, runs=tuple(runs), skipped=tuple(skipped), peak_bytes=peaks)


def _json(line: bytes) -> Any:
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError as exc:
        raise Unreadable("not UTF-8") from exc
    except json.JSONDecodeError as exc:
        raise Unreadable(f"not JSON (column {exc.colno}: {exc.msg})") from exc


def _merged(read: Sequence[_Read]) -> Gathered:
    """What the files hold together, each record, launch and verdict once."""
    runs = [(at, kind, run) for at, file in enumerate(read) for kind, run in file.runs]
    native = {record.variant for _, kind, run in runs if kind is not Kind.KBT for record in run.records}
    # kbt last: our own files say more of a launch than their export to kbt does.
    runs.sort(key=lambda one: one[1] is Kind.KBT)
    known = _Known()
    kept: list[GatheredRun] = []
    verdict_of: dict[RecordKey, Verdict] = {}
    peaks: dict[RecordKey, int] = {}
    tallies: list[list[_Tally]] = [[] for _ in read]
    for at, kind, run in runs:
        named = _apart_from(native, run) if kind is Kind.KBT else run
        for theirs, record in zip(run.records, named.records, strict=True):
            if key_of(theirs) in read[at].peak_bytes:
                peaks.setdefault(key_of(record), read[at].peak_bytes[key_of(theirs)])
        tally = known.add(read[at].path, kind, named)
        tallies[at].append(tally)
        verdicts = _new_verdicts(named, tally.new, verdict_of)
        if tally.new or verdicts:
            used = {record.launch for record in tally.new}
            launches = tuple(launch for launch in named.launches if launch.id in used or not tally.new)
            part = replace(named, launches=launches, records=tally.new, verdicts=verdicts)
            kept.append(GatheredRun(read[at].path, kind, part))
    files = tuple(_row(*one) for one in zip(read, tallies, strict=True))
    return Gathered(tuple(kept), files, verdict_of, peaks)


@dataclass(frozen=True)
class _Tally:
    """What a run adds to those before it."""

    new: tuple[Record, ...]
    repeated: int
    notes: tuple[str, ...]


class _Known:
    """Records and launches of the runs so far, each with the file that it was first in."""

    def __init__(self) -> None:
        self._records: dict[RecordKey, tuple[str, Record]] = {}
        self._cases: set[tuple[str, str]] = set()
        self._launches: dict[str, tuple[str, Launch]] = {}

    def add(self, path: str, kind: Kind, run: RunFile) -> _Tally:
        new, repeated = [], 0
        differing: Counter[str] = Counter()
        for record in run.records:
            if kind is Kind.KBT and (record.launch, record.case) in self._cases:
                repeated += 1
                continue
            earlier, first = self._records.setdefault(key_of(record), (path, record))
            if first is record:
                new.append(record)
            elif repr(first) == repr(record):  # by text: NaN equals nothing
                repeated += 1
            else:
                differing[earlier] += 1
        if kind is not Kind.KBT:
            self._cases.update((record.launch, record.case) for record in run.records)
        notes = [
            f"{counted(count, 'record')} of a launch in {earlier}, with other contents: those there count"
            for earlier, count in differing.items()
        ]
        for launch in run.launches:
            earlier, before = self._launches.setdefault(launch.id, (path, launch))
            if kind is not Kind.KBT and before != launch:
                notes.append(f"launch {launch.id} has a different fingerprint in {earlier}, which counts")
        return _Tally(tuple(new), repeated, tuple(notes))


def _apart_from(native: Set[str], run: RunFile) -> RunFile:
    """The run of another tool, with `kbt:` before what attnbench measured under the same name in this report."""
    return replace(
        run,
        records=tuple(
            replace(record, backend=f"{FOREIGN}{record.backend}", case=f"{FOREIGN}{record.case}")
            if record.source == kbt.SOURCE and record.variant in native
            else record
            for record in run.records
        ),
    )


def _new_verdicts(run: RunFile, new: Sequence[Record], verdict_of: dict[RecordKey, Verdict]) -> tuple[Verdict, ...]:
    """The run's verdicts but for those whose records have one already; adds the others to `verdict_of`."""
    of_test = {(verdict.case, verdict.nodeid): verdict for verdict in reversed(run.verdicts)}
    known: set[tuple[str, str]] = set()
    fresh: set[tuple[str, str]] = set()
    for record in run.records:
        which = next((w for w in ((record.case, record.nodeid), (record.case, "")) if w in of_test), None)
        if which is not None:
            (known if key_of(record) in verdict_of else fresh).add(which)
            verdict_of.setdefault(key_of(record), of_test[which])
    without_record = of_test.keys() - known - fresh if new else set()
    return tuple(verdict for which, verdict in of_test.items() if which in fresh or which in without_record)[::-1]


def _row(file: _Read, tallies: Sequence[_Tally]) -> SourceFile:
    records = sum(len(run.records) for _, run in file.runs)
    repeated = sum(tally.repeated for tally in tallies)
    notes = tuple(note for tally in tallies for note in tally.notes)
    return SourceFile(file.path, file.kind, file.outcome, file.problem, records, repeated, file.skipped, notes)
