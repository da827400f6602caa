"""What the page shows, worked out from stored records: plain data for the template, in the order in which it is shown."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from typing import Any

from attnbench import stats
from attnbench.aliases import aliases
from attnbench.model import SIMILARITIES, Check, Record, Status, Verdict
from attnbench.report.gather import Gathered, Outcome, RecordKey, key_of
from attnbench.report.page.documentation import documentation
from attnbench.report.page.history import Course, courses
from attnbench.report.pooling import marked, numbered_tests
from attnbench.report.quantities import median_s, tflop_per_s, timed_check
from attnbench.report.relative import RelativeTable, relative_tables
from attnbench.report.unmeasured import ORDER as STATUSES
from attnbench.report.verdicts import IN_THE_ROW, worst_first
from attnbench.units import counted, listed, mebibytes, milliseconds, signed_percent, significant

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
#: Classes of accuracy (attnbench/backends/tolerances.py): the headline is of the first, and nobody asks who is fastest in
#: the second.
EXACT, UNFUSED = "16-bit", "16-bit-unfused"
#: Two medians this close, relative, are a tie on the summary.
TIE = 0.01
#: Lines of one tile; the rest is counted.
MOST_LINES = 4
#: Verdict kinds that need no reader: folded away, and counted.
QUIET = ("unchanged",)

#: Name, unit, meaning.
Column = tuple[str, str, str]
#: Columns of a table.
RECORD_COLUMNS = (
    ("Variant", "", ""),
    ("Workload", "tokens", ""),
    ("GPU", "", ""),
    ("Status", "", ""),
    ("Median", "ms", "of the rounds of one launch"),
    ("20–80 %", "ms", "band that these shares of the rounds lie in"),
    ("TFLOP/s", "", "at the median"),
    ("Kernel", "ms", "the attention kernel's own time, by the profiler"),
    ("Workspace", "MiB", "peak of the allocator over one warm call, output included"),
    ("First call", "s", ""),
    ("Rel. L2", "", "error on the timed inputs"),
    ("Verdict", "", ""),
    ("Change", "% [interval]", "against the baseline; positive is slower"),
    ("Launch", "number · start, UTC", ""),
)
ACCURACY_COLUMNS = (
    ("Variant", "", ""),
    ("Workload", "tokens", ""),
    ("GPU", "", ""),
    ("Inputs", "", "distribution of q, k and v"),
    ("absmax", "", "largest absolute difference"),
    ("MAE", "", "mean absolute difference"),
    ("MSE", "", "mean squared difference"),
    ("Rel. L2", "", "norm of the difference over the norm of the reference"),
    ("Cosine", "", "similarity with the reference"),
    ("Allowed", "", "what the tolerance permits"),
    ("Result", "", ""),
)


@dataclass(frozen=True)
class Cell:
    """One cell: what is read, and the number to sort by, None to sort by the text."""

    text: str
    number: float | None = None
    title: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table with the keys that the filters match: indices into the facets, `0.3.1.2.0.0`."""

    key: str
    name: str
    cells: tuple[Cell, ...]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Columns and rows; the first column is the rows' names."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class VerdictRow:
    """A verdict, with `bar` to draw its interval: None without one."""

    key: str
    kind: str
    name: str
    workload: str
    gpu: str
    run: str  # when it started, where there are several
    baseline: Cell
    found: Cell
    change: Cell
    interval: Cell
    limit: Cell
    finds: Cell
    launches: int
    said: tuple[str, ...]
    reproduce: str
    bar: Bar | None


@dataclass(frozen=True)
class Bar:
    """An interval drawn on a scale of 0 to 100; `is_cut` where it goes on beyond the scale."""

    low: float
    high: float
    change: float
    zero: float
    limit: float | None
    is_cut: bool


@dataclass(frozen=True)
class Unmeasured:
    """Cases without a latency that share a status and its reasons."""

    key: str
    status: str
    names: tuple[str, ...]
    workloads: tuple[str, ...]
    gpus: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Relative:
    """Percent of the reference's speed, a pair of columns per GPU; `last` is the reference's TFLOP/s."""

    title: str
    table: Table
    last: tuple[str, ...]


@dataclass(frozen=True)
class HistoryRow:
    """A case over time: the oldest and the newest latency in ms, and by how much they differ."""

    key: str
    course: Course
    oldest: Cell
    newest: Cell
    change: Cell
    changes: tuple[str, ...]  # of versions, each with its day


@dataclass(frozen=True)
class Environment:
    """What the launches on one GPU say of where they ran: a row per field with its distinct values."""

    gpu: str
    launches: int
    started: str
    fields: tuple[tuple[str, tuple[str, ...], bool], ...]  # name, values, whether a comparison needs it equal


#: Verdicts that say something of the case: the others acquit nobody.
_DECIDED = ("regressed", "unchanged", "improved")


@dataclass(frozen=True)
class Tile:
    """One answer of the first screen."""

    label: str
    value: str
    lines: tuple[str, ...]
    tone: str = ""
    link: str = ""


@dataclass(frozen=True)
class _Case:
    """All records of one GPU, variant (and test) and workload."""

    gpu: str
    name: str
    records: tuple[Record, ...]

    @property
    def first(self) -> Record:
        return self.records[0]

    @cached_property
    def median_s(self) -> float | None:
        """Median over the launches of each launch's median; those slowed down on purpose are left out."""
        found = [median_s(record) for record in self.records if record.injected is None]
        known = [value for value in found if value is not None]
        return median(known) if known else None


class Content:
    """Everything that the template asks for. Raises nothing for what records hold."""

    def __init__(
        self, gathered: Gathered, descriptions: Mapping[str, str] | None = None, *, with_history: bool = False
    ) -> None:
        self.gathered = gathered
        self._with_history = with_history
        self._descriptions = descriptions or {}
        self._gpus = {launch.id: _gpu(gathered, launch.id) for launch in gathered.launches.values()}
        self._launch_numbers = {launch: number for number, launch in enumerate(gathered.launches, 1)}
        tests: dict[str, Mapping[str, int]] = {}
        for gpu in self.gpus:
            tests[gpu] = numbered_tests([r for r in gathered.records if self._gpus[r.launch] == gpu])
        self._tests = tests
        self._values: dict[str, dict[str, int]] = {name: {} for name, _ in FACETS}
        self._keys = {id(record): self._key_of(record) for record in gathered.records}

    # --- the first screen

    @cached_property
    def gpus(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._gpus[record.launch] for record in self.gathered.records))

    @cached_property
    def title(self) -> str:
        return f"Attention on {', '.join(self.gpus)}" if self.gpus else "Attention: no record"

    @cached_property
    def facts(self) -> tuple[str, ...]:
        """What was measured, when, and on which software."""
        records = self.gathered.records
        if not records:
            return ()
        variants, workloads = {r.variant for r in records}, {r.workload.name for r in records}
        launches = {r.launch for r in records}
        plural = "launch" if len(launches) == 1 else "launches"
        said = [
            f"{counted(len(variants), 'variant')} × {counted(len(workloads), 'workload')}",
            f"{counted(len(records), 'record')} from {len(launches)} {plural}",
            _span(self.gathered.launches[launch].started_at for launch in launches),
        ]
        for field in ("torch", "cuda", "driver"):
            known = self._context(field)
            if len(known) == 1:
                said.append(f"{field if field != 'cuda' else 'CUDA'} {known[0]}")
            elif known:
                said.append(f"{len(known)} versions of {field if field != 'cuda' else 'CUDA'}")
        return tuple(one for one in said if one)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before the first figure."""
        gathered = self.gathered
        said = []
        if any(launch.simulated for launch in gathered.launches.values()):
            said.append("A simulated device: its latencies are computed and not measured.")
        if slowed := sum(record.injected is not None for record in gathered.records):
            said.append(
                f"{slowed} of {counted(len(gathered.records), 'record')} were slowed down on purpose (--attn-inject) "
                "to see whether the rule finds it."
            )
        said += list(dict.fromkeys(f"Ended early: {s.run.interrupted}" for s in gathered.runs if s.run.interrupted))
        if failed := sum(file.outcome is not Outcome.FOUND for file in gathered.files):
            said.append(f"{failed} of {counted(len(gathered.files), 'file')} could not be used: see Files below.")
        if skipped := sum(len(file.skipped) for file in gathered.files if file.outcome is Outcome.FOUND):
            said.append(f"{counted(skipped, 'line')} could not be read: see Files below.")
        return tuple(said)

    @cached_property
    def has_problems(self) -> bool:
        """Whether a file or a line was not used, or says something else than an earlier one."""
        return any(file.outcome is not Outcome.FOUND or file.skipped or file.notes for file in self.gathered.files)

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        return (*self._fastest(), self._regressed(), self._not_measured())

    def _fastest(self) -> list[Tile]:
        """By GPU the fastest variant of 16-bit accuracy, and of every other class with its error.

        At the longest of the workloads that most variants have: a quantised kernel is faster, but at another accuracy.
        """
        found = []
        for gpu in self.gpus:
            cases = [case for case in self._cases if case.gpu == gpu and case.median_s is not None]
            if not cases:
                continue
            counts = Counter(case.first.workload for case in cases)
            at = max(counts, key=lambda workload: (counts[workload], workload.seq, workload.name))
            classes: dict[str, list[_Case]] = defaultdict(list)
            for case in cases:
                if case.first.workload == at:
                    classes[case.first.tolerance].append(case)
            best = sorted(map(_best_first, classes.values()), key=lambda mine: mine[0].median_s or 0.0)
            main = next((mine for mine in best if mine[0].first.tolerance == EXACT), best[0])
            others = [_class_line(mine) for mine in best if mine is not main and mine[0].first.tolerance != UNFUSED]
            kind = f"{main[0].first.tolerance} " if len(best) > 1 and main[0].first.tolerance else ""
            where = f" · {gpu}" if len(self.gpus) > 1 else ""
            label = f"Fastest {kind}at {at.seq} tokens{where}"
            lines = (f"{_best_line(main)} ({at.name})", *_some(others, MOST_LINES - 1))
            found.append(Tile(label, main[0].name, lines, "", "#figures"))
        return found

    def _regressed(self) -> Tile:
        rows = self.verdicts
        if not rows:
            return Tile("Regressed", "not judged", ("No verdict is stored in these files.",))
        counts = Counter(row.kind for row in rows)
        bad = [row for row in rows if row.kind == "regressed"]
        lines = [f"{row.name} · {row.workload} {row.change.text} %".strip() for row in bad]
        others = ", ".join(f"{count} {kind}" for kind, count in counts.items() if kind != "regressed")
        said = (*_some(lines, MOST_LINES - 1), others) if others else _some(lines)
        judged = sum(counts[kind] for kind in _DECIDED)
        if bad:
            return Tile("Regressed", f"{len(bad)} of {len(rows)}", said, "bad", "#verdicts")
        if not judged:
            return Tile("Regressed", "not judged", said, "", "#verdicts")
        return Tile("Regressed", "none" if judged == len(rows) else f"none of {judged}", said, "good", "#verdicts")

    def _not_measured(self) -> Tile:
        groups = [group for group in self.unmeasured if group.status != str(Status.CHECKED)]
        if not groups:
            checked = any(record.status is Status.CHECKED for record in self.gathered.records)
            all_of_it = "Some cases were checked and, as asked, not timed." if checked else "Every case has a latency."
            return Tile("Not measured", "none", (all_of_it,), "good")
        cases = Counter[str]()
        for case in self._cases:
            if case.median_s is None and case.first.injected is None:
                cases[str(case.first.status)] += 1
        bad = any(group.status in (str(Status.INCORRECT), str(Status.ERROR)) for group in groups)
        lines = [f"{group.status}: {listed(group.names, 2)}" for group in groups]
        del cases[str(Status.CHECKED)]
        counts = ", ".join(f"{cases[str(status)]} {status}" for status in STATUSES if cases[str(status)])
        value = f"{sum(cases.values())} of {counted(len(self._cases), 'case')}"
        said = (counts, *_some(lines, MOST_LINES - 1))
        return Tile("Not measured", value, said, "bad" if bad else "", "#unmeasured")

    # --- the tables

    @cached_property
    def records(self) -> Table:
        return _without_empty(RECORD_COLUMNS, [self._record_row(record) for record in self.gathered.records])

    def _record_row(self, record: Record) -> Row:
        verdict = self.gathered.verdict(record)
        launch = self.gathered.launches[record.launch]
        middle, check = median_s(record), timed_check(record)
        low, high = _band(record)
        rate = tflop_per_s(record)
        reasons = "; ".join(reason.text for reason in record.reasons)
        cells = (
            Cell(f"{record.workload.name} ({record.workload.seq})", record.workload.seq),
            Cell(self._gpus[record.launch] if len(self.gpus) > 1 else ""),
            Cell(str(record.status), title=reasons),
            _number(middle, milliseconds),
            Cell("" if low is None or high is None else f"{milliseconds(low)}–{milliseconds(high)}", low),
            _number(rate, lambda value: significant(value, 4)),
            _number(record.kernel_s, milliseconds),
            _number(record.workspace_bytes, lambda value: mebibytes(int(value))),
            _number(record.first_call_s, lambda value: significant(value, 3)),
            _number(check.error.rel_l2 if check else None, _scientific),
            Cell(str(verdict.kind) if verdict else ""),
            Cell(_change(verdict) if verdict else "", verdict.change if verdict else None),
            Cell(f"{self._launch_numbers[record.launch]} · {_minute(launch.started_at)}", title=record.launch),
        )
        slowed = (f"slowed {signed_percent(record.injected, 1)} %",) if record.injected is not None else ()
        return Row(self._keys[id(record)], self._name(record), cells, slowed)

    @cached_property
    def accuracy(self) -> Table:
        """A row per GPU, variant, workload and set of inputs: of several launches the one with the largest error."""
        worst: dict[tuple[str, str, str, str], tuple[Record, Check]] = {}
        for case in self._cases:
            for record in case.records:
                for check in record.checks:
                    where = (case.gpu, case.name, record.workload.name, check.distribution)
                    if where not in worst or _is_worse(check, worst[where][1]):
                        worst[where] = (record, check)
        return _without_empty(ACCURACY_COLUMNS, [self._accuracy_row(*one) for one in worst.values()])

    def _accuracy_row(self, record: Record, check: Check) -> Row:
        error = check.error
        allowed = ", ".join(_allowed(metric, limit) for metric, limit in check.allowed.items())
        result = "passed" if check.passed else "failed"
        cells = (
            Cell(f"{record.workload.name} ({record.workload.seq})", record.workload.seq),
            Cell(self._gpus[record.launch] if len(self.gpus) > 1 else ""),
            Cell(check.distribution),
            _number(error.max_abs, _scientific),
            _number(error.mean_abs, _scientific),
            _number(error.mse, _scientific),
            _number(error.rel_l2, _scientific),
            _number(error.cosine, lambda value: f"{value:.7f}"),
            Cell(allowed, title=f"rows compared: {check.rows}" if check.rows else ""),
            Cell(f"{result}, {error.nonfinite} not finite" if error.nonfinite else result),
        )
        return Row(self._keys[id(record)], self._name(record), cells)

    @cached_property
    def verdicts(self) -> tuple[VerdictRow, ...]:
        """Worst first, over all runs."""
        of_case: dict[int, Record] = {}
        started: dict[int, str] = {}
        judged = [source for source in self.gathered.runs if source.run.verdicts]
        for source in judged:
            if len(judged) > 1 and source.run.launches:
                at = _minute(source.run.launches[0].started_at)
                started.update((id(verdict), at) for verdict in source.run.verdicts)
            by_test = {(r.case, r.nodeid): r for r in reversed(source.run.records)}
            by_case = {r.case: r for r in reversed(source.run.records)}
            for verdict in source.run.verdicts:
                found = by_test.get((verdict.case, verdict.nodeid)) or by_case.get(verdict.case)
                if found is not None:
                    of_case[id(verdict)] = found
        ordered = worst_first(self.gathered.verdicts)
        scale = _scale(ordered)
        return tuple(self._verdict_row(one, of_case.get(id(one)), started.get(id(one), ""), scale) for one in ordered)

    def _verdict_row(
        self, verdict: Verdict, record: Record | None, started: str, scale: tuple[float, float]
    ) -> VerdictRow:
        said = [reason.text for reason in verdict.reasons if verdict.change is None or reason.code not in IN_THE_ROW]
        if verdict.change is not None and not verdict.known_unit:
            said.append("a GPU unit that the baseline does not know: a slow-down is only suspected")
        said += verdict.notes
        if record is not None and record.injected is not None and not any("INJECTED" in one for one in said):
            said.insert(0, f"slowed down on purpose by {signed_percent(record.injected, 1)} %")
        return VerdictRow(
            self._keys[id(record)] if record is not None else self._key(verdict=str(verdict.kind)),
            str(verdict.kind),
            self._name(record) if record is not None else verdict.case,
            record.workload.name if record is not None else "",
            self._gpus[record.launch] if record is not None and len(self.gpus) > 1 else "",
            started,
            _number(verdict.baseline_s, milliseconds),
            _number(verdict.found_s, milliseconds),
            _number(verdict.change, signed_percent),
            Cell("" if verdict.change is None else f"[{_ends(verdict)}]", verdict.low),
            _number(verdict.limit, lambda value: f"{value * 100:.3g}"),
            _number(verdict.found_by, signed_percent),
            verdict.launches,
            tuple(dict.fromkeys(said)),
            verdict.reproduce,
            _bar(verdict, scale),
        )

    @cached_property
    def loud(self) -> tuple[VerdictRow, ...]:
        return tuple(row for row in self.verdicts if row.kind not in QUIET)

    @cached_property
    def quiet(self) -> tuple[VerdictRow, ...]:
        return tuple(row for row in self.verdicts if row.kind in QUIET)

    @cached_property
    def unmeasured(self) -> tuple[Unmeasured, ...]:
        """Cases without a latency: what needs an author's eye first, and each reason once."""
        groups: dict[tuple[Status, tuple[str, ...]], list[Record]] = defaultdict(list)
        for record in self.gathered.records:
            if record.status in STATUSES and record.reasons:
                groups[record.status, tuple(reason.text for reason in record.reasons)].append(record)
        ordered = sorted(groups.items(), key=lambda group: STATUSES.index(group[0][0]))
        return tuple(
            Unmeasured(
                " ".join(dict.fromkeys(self._keys[id(record)] for record in members)),
                str(status),
                _unique(self._name(record) for record in members),
                _unique(record.workload.name for record in members),
                _unique(self._gpus[record.launch] for record in members),
                reasons,
            )
            for (status, reasons), members in ordered
        )

    @cached_property
    def relative(self) -> tuple[Relative, ...]:
        """Speed against the reference, as kernel authors report theirs: all GPUs in one table per problem."""
        return tuple(self._relative(one) for one in relative_tables(self.gathered))

    def _relative(self, one: RelativeTable) -> Relative:
        pairs = [
            (gpu if len(one.gpus) > 1 else "Speed", unit, meaning)
            for gpu in one.gpus
            for unit, meaning in (
                (f"% at {one.length}", f"of the reference's speed at sequence length {one.length}"),
                ("% harmonic mean", f"over the lengths {', '.join(map(str, one.lengths))}"),
            )
        ]
        first = {case.first.variant: case.first for case in reversed(self._cases)}
        rows = [
            Row(
                self._key(family=first[variant].family, mode=first[variant].mode),
                variant,
                tuple(_percents(value) for share in shares for value in (share.at_length, share.harmonic)),
            )
            for variant, shares in one.shares.items()
        ]
        rates = ("" if rate is None else significant(rate, 4) for pair in one.reference_tflop_per_s for rate in pair)
        title = f"{one.problem}: speed in percent of {one.reference}"
        return Relative(title, Table((("Variant", "", ""), *pairs), tuple(rows)), tuple(rates))

    @cached_property
    def history(self) -> tuple[HistoryRow, ...]:
        """The cases that changed most first; empty unless it was asked for."""
        if not self._with_history:
            return ()
        found = courses(self.gathered, lambda record: self._gpus[record.launch], self._name)
        return tuple(self._history_row(one) for one in sorted(found, key=lambda one: -one.change))

    def _history_row(self, course: Course) -> HistoryRow:
        oldest, newest = course.moments[0], course.moments[-1]
        return HistoryRow(
            self._keys[id(course.record)],
            course,
            _number(oldest.latency_s, milliseconds),
            _number(newest.latency_s, milliseconds),
            _number(course.change, signed_percent),
            tuple(f"{one.started_at[:10]}: {', '.join(one.changed)}" for one in course.moments if one.changed),
        )

    @cached_property
    def environments(self) -> tuple[Environment, ...]:
        found = []
        for gpu in dict.fromkeys(self._gpus.values()):
            launches = [launch for launch in self.gathered.launches.values() if self._gpus[launch.id] == gpu]
            fields: dict[tuple[str, bool], dict[str, None]] = {}
            for launch in launches:
                for part, compared in ((launch.fingerprint.key, True), (launch.fingerprint.context, False)):
                    for name, value in part.items():
                        fields.setdefault((name, compared), {})["unknown" if value is None else str(value)] = None
            rows = tuple((name, tuple(values), compared) for (name, compared), values in fields.items())
            found.append(Environment(gpu, len(launches), _span(launch.started_at for launch in launches), rows))
        return tuple(found)

    # --- what the script is given

    @cached_property
    def data(self) -> dict[str, Any]:
        """Facets, and of every variant and point what a hover tells. Keys of points: `GPU index|name|workload`."""
        points: dict[str, dict[str, Any]] = {}
        variants: dict[str, dict[str, Any]] = {}
        for case in self._cases:
            number = self._values["gpu"][case.gpu]
            keys = list(dict.fromkeys(self._keys[id(record)] for record in case.records))
            points[f"{number}|{case.name}|{case.first.workload.name}"] = {"k": keys, "t": self._told(case)}
            variants.setdefault(f"{number}|{case.name}", self._about(case))
        return {
            "facets": [[name, label, list(self._values[name])] for name, label in FACETS],
            "points": points,
            "variants": variants,
        }

    def _about(self, case: _Case) -> dict[str, Any]:
        record = case.first
        versions = [f"{name} {version}" for name, version in record.versions.items()]
        context = self.gathered.launches[record.launch].fingerprint.context
        versions += [f"{name} {context[name]}" for name in ("torch", "driver") if context.get(name)]
        what = self._descriptions.get(record.backend) or self._descriptions.get(record.backend.partition("[")[0], "")
        return {
            "what": what,
            "docs": documentation(record.backend, record.family),
            "aka": list(aliases(record.variant)),
            "versions": ", ".join([*versions, *([record.source] if record.source else [])]),
            "family": record.family,
            "mode": record.mode,
        }

    def _told(self, case: _Case) -> list[str]:
        """Lines on a point beside its value: accuracy, what it rests on, the verdict."""
        timed = [record for record in case.records if record.sample is not None]
        rounds = sum(len(record.sample.rounds_s) for record in timed if record.sample)
        plural = "launch" if len(timed) == 1 else "launches"
        said = [f"{counted(rounds, 'round')} in {len(timed)} {plural}"] if timed else []
        check = timed_check(case.first)
        if check is not None and math.isfinite(check.error.rel_l2):
            said.append(f"rel. L2 {_scientific(check.error.rel_l2)}, cosine {check.error.cosine:.6f}")
        verdicts = [found for record in case.records if (found := self.gathered.verdict(record)) is not None]
        if verdicts:
            worst = worst_first(verdicts)[0]
            figures = f" {_change(worst)}, limit {worst.limit * 100:.3g} %" if worst.limit and _change(worst) else ""
            said.append(f"{worst.kind}{figures}")
        if any(record.injected is not None for record in case.records):
            said.append("slowed down on purpose")
        return said

    def gpu_number(self, gpu: str) -> int | None:
        """Index of a device among the facet's values, None for one that no record is of."""
        return self._values["gpu"].get(gpu)

    # --- names and keys

    @cached_property
    def _cases(self) -> tuple[_Case, ...]:
        found: dict[tuple[str, str, str], dict[RecordKey, Record]] = {}
        for record in self.gathered.records:
            where = (self._gpus[record.launch], self._name(record), record.workload.name)
            found.setdefault(where, {})[key_of(record)] = record
        return tuple(_Case(gpu, name, tuple(mine.values())) for (gpu, name, _), mine in found.items())

    def _name(self, record: Record) -> str:
        return f"{record.variant}{marked(record.nodeid, self._tests[self._gpus[record.launch]])}"

    def _key_of(self, record: Record) -> str:
        verdict = self.gathered.verdict(record)
        return self._key(
            gpu=self._gpus[record.launch],
            family=record.family,
            mode=record.mode,
            workload=record.workload.name,
            verdict=str(verdict.kind) if verdict else NO_VERDICT,
            status=str(record.status),
        )

    def _key(self, **values: str) -> str:
        """Indices of these values, in the order of the facets; `-` where one is not known."""
        indices = []
        for name, _ in FACETS:
            known = self._values[name]
            indices.append(str(known.setdefault(values[name], len(known))) if name in values else "-")
        return ".".join(indices)

    def _context(self, field: str) -> list[str]:
        values = (launch.fingerprint.context.get(field) for launch in self.gathered.launches.values())
        return list(dict.fromkeys(str(value) for value in values if value not in (None, "")))


def _gpu(gathered: Gathered, launch_id: str) -> str:
    """The device's name, which says so where it is simulated: as the plots name it."""
    launch = gathered.launches[launch_id]
    name = str(launch.fingerprint.key.get("device") or "unknown device")
    return f"{name} (simulated)" if launch.simulated and "simulated" not in name else name


def _best_first(cases: Sequence[_Case]) -> list[_Case]:
    return sorted(cases, key=lambda case: (case.median_s or 0.0, case.name))


def _best_line(cases: Sequence[_Case]) -> str:
    """`0.3771 ms, 692 TFLOP/s; 2 others within 1 %`."""
    best = cases[0]
    assert best.median_s is not None
    rate = stats.tflop_per_s(best.first.workload.flop, best.median_s)
    tied = sum(case.median_s is not None and case.median_s <= best.median_s * (1 + TIE) for case in cases[1:])
    said = f"{milliseconds(best.median_s)} ms, {significant(rate, 3)} TFLOP/s"
    return f"{said}; {counted(tied, 'other')} within {TIE * 100:.0f} %" if tied else said


def _class_line(cases: Sequence[_Case]) -> str:
    """`fp8: flash_attn_3_fp8@eager 0.3389 ms, rel. L2 0.14`: the fastest of another class of accuracy."""
    best = cases[0]
    assert best.median_s is not None
    check = timed_check(best.first)
    error = f", rel. L2 {significant(check.error.rel_l2, 2)}" if check and math.isfinite(check.error.rel_l2) else ""
    return f"{best.first.tolerance or 'tolerance unknown'}: {best.name} {milliseconds(best.median_s)} ms{error}"


def _band(record: Record) -> tuple[float | None, float | None]:
    if record.sample is None:
        return None, None
    rounds = record.sample.rounds_s
    return stats.quantile(rounds, 0.2), stats.quantile(rounds, 0.8)


def _percents(value: float | None) -> Cell:
    return _number(value, lambda known: f"{known:.1f}")


def _without_empty(columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    """The table without columns that no row has anything in."""
    kept = [at for at in range(len(columns) - 1) if any(row.cells[at].text for row in rows)]
    return Table(
        (columns[0], *(columns[at + 1] for at in kept)),
        tuple(replace(row, cells=tuple(row.cells[at] for at in kept)) for row in rows),
    )


def _number(value: float | None, spelt: Any) -> Cell:
    """A cell of a number; nothing for one that is unknown or not finite."""
    return Cell("") if value is None or not math.isfinite(value) else Cell(spelt(value), value)


def _scientific(value: float) -> str:
    """Three digits: `0.00164` from 0.001 on, below `1.1e-05`."""
    return significant(value, 3) if value == 0 or abs(value) >= 0.001 else f"{value:.1e}"


def _allowed(metric: str, limit: float) -> str:
    if metric in SIMILARITIES:
        return f"{metric} ≥ {significant(limit, 4)}"
    return f"{metric} ≤ {_scientific(limit)}"


def _ends(verdict: Verdict) -> str:
    return ", ".join("?" if end is None else signed_percent(end) for end in (verdict.low, verdict.high))


def _change(verdict: Verdict) -> str:
    return "" if verdict.change is None else f"{signed_percent(verdict.change)} % [{_ends(verdict)}]"


def _is_worse(one: Check, other: Check) -> bool:
    """Whether an error is the larger one, or the only failed one; NaN is worse than any number."""
    if one.passed is not other.passed:
        return not one.passed
    return math.isnan(one.error.rel_l2) or one.error.rel_l2 > other.error.rel_l2


def _scale(verdicts: Iterable[Verdict]) -> tuple[float, float]:
    """Left and right end of the drawn intervals: all of most of them, and at least the limits."""
    ends = sorted(end for v in verdicts for end in (v.low, v.high) if end is not None and math.isfinite(end))
    limits = [v.limit for v in verdicts if v.limit is not None]
    if not ends:
        return -0.01, 0.02
    low, high = ends[len(ends) // 50], ends[-1 - len(ends) // 50]
    return min(low, -0.005), max(high, 1.2 * max(limits, default=0.0), 0.01)


def _bar(verdict: Verdict, scale: tuple[float, float]) -> Bar | None:
    ends = (verdict.low, verdict.high, verdict.change)
    if any(end is None or not math.isfinite(end) for end in ends):
        return None
    low, high, change = (float(end) for end in ends if end is not None)

    def place(value: float) -> float:
        share = (value - scale[0]) / (scale[1] - scale[0])
        return round(100 * min(max(share, 0.0), 1.0), 1)

    limit = None if verdict.limit is None else place(verdict.limit)
    return Bar(place(low), place(high), place(change), place(0.0), limit, low < scale[0] or high > scale[1])


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _some(lines: Sequence[str], most: int = MOST_LINES) -> tuple[str, ...]:
    return tuple(lines) if len(lines) <= most else (*lines[: most - 1], f"and {len(lines) - most + 1} more")


def _minute(started_at: str) -> str:
    """`2026-11-28 02:17` of an ISO 8601 time."""
    return started_at[:16].replace("T", " ")


def _span(times: Iterable[str]) -> str:
    days = sorted({time[:10] for time in times if time})
    if not days:
        return ""
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
