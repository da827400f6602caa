"""Verdicts as text: what a failing test prints, and the block of the section, worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from attnbench import printable
from attnbench.model import Reason, Record, RunFile, Verdict, VerdictKind
from attnbench.report import bearing
from attnbench.report.pooling import marked, numbered_tests
from attnbench.report.table import WIDTH, aligned, with_reasons, wrapped
from attnbench.units import counted, milliseconds, signed_percent, significant
from attnbench.verdicts.judge import CHOICES, NOT_MEASURED

#: Worst first, as `VerdictKind` lists them.
ORDER = {kind: at for at, kind in enumerate(VerdictKind)}
_HEADER = [
    ["verdict", "case", "baseline", "now", "change", "interval", "limit"],
    ["", "", "ms", "ms", "%", "%", "%"],
]
#: Columns that `details` add, and what a row's figures are.
_DETAILS = [["finds", "n"], ["%", ""]]
_LEGEND = (
    "  interval: if noise is as stored or assumed, the true change is below it in at most 1 % of runs, and above it in at",
    "  most 1 % of cases; finds: the smallest slow-down that 95 of 100 such runs call regressed; n: launches",
)
_LEGEND_OF_CLOCK = (
    "  now: latency at the baseline's clock; clock: during the call, against the baseline's (–: seconds compared)"
)
#: Reasons that the figures of a row tell.
IN_THE_ROW = ("slower", "faster", "below-limit", "interval")
MEASURED_ONCE = "measured-once"
#: More cases without a baseline than these are folded away: a run that is the first of its kind has nothing but such.
MOST_WITHOUT_BASELINE = 50
#: Reasons that make a verdict one on the output or its memory, and not on the latency.
OF_THE_OUTPUT = ("accuracy", "workspace")
#: So many cases are named; of more, the first.
_FEW = 4
#: From this difference on, relative, the clock during the call is said.
_OTHER_CLOCK = 0.002


def line(verdict: Verdict, record: Record) -> str:
    """What a failing test prints: the change, then the baseline, what else differs, and the command that repeats it.

    `REGRESSED torch_flash@eager · flux-1024px-t512: +2.0 % [+1.8, +2.2], 0.790 → 0.806 ms, limit 1 %`
    """
    verdict = printable.shown(verdict)
    chose = f" ({verdict.chose})" if verdict.chose else ""
    head = f"{str(verdict.kind).upper()} {record.variant} · {record.workload.name}{chose}"
    if verdict.change is not None and verdict.baseline_s is not None and verdict.found_s is not None:
        figures = [
            *_of_the_output(verdict),
            f"{_percent(verdict.change, 1)} % [{_percent(verdict.low, 1)}, {_percent(verdict.high, 1)}]",
            f"{_ms(verdict.baseline_s)} → {_ms(verdict.found_s)} ms",
            f"limit {_limit(verdict.limit)} %",
        ]
        unit = "this GPU" if verdict.known_unit else "unknown unit: another GPU of this model"
        lines = with_reasons(head, [", ".join(figures), f"baseline: {_files(verdict.compared_with)} ({unit})"])
    else:
        lines = with_reasons(head, [reason.text for reason in verdict.reasons])
    lines += [part for text in (*_more(verdict), *_clock(verdict), *verdict.notes) for part in wrapped(text, "  ")]
    return printable.lines("\n".join([*lines, f"  reproduce: {verdict.reproduce}"]))  # one line, which can be copied


def verdicts(run: RunFile, details: bool = False, width: int = WIDTH) -> list[str]:
    """The block of the section: how many of each kind, a row for every change, and which limit the baseline allows.

    Unchanged cases are counted with their range. details: with what the intervals and limits rest on, too. width: where
    the table is wider, the name of a case stands below its figures; from `WIDTH` on it never does.
    """
    if not run.verdicts:
        return []
    name = names(run)
    ordered = worst_first(run.verdicts)
    compared = [v for v in ordered if v.change is not None]
    unchanged = [v for v in compared if v.kind is VerdictKind.UNCHANGED]
    shown = [v for v in compared if v.kind is not VerdictKind.UNCHANGED]
    lines = [_counted(ordered), *(_table(shown, name, details, width) if shown else [])]
    lines += [f"  {text}" for text in _unchanged(unchanged, details)]
    texts = [*_explained(ordered, name), *_notes(ordered, name)]
    texts += [f"baseline: {_files(_sessions(compared))}"] if compared else []
    texts += [*bearing.carried(ordered, details), *(bearing.details(run) if details else []), bearing.shared(run)]
    return [*lines, *(part for text in texts if text for part in wrapped(text, "  "))]


def _counted(verdicts: Sequence[Verdict]) -> str:
    """`verdicts: 2 regressed (fails the run), 30 unchanged`."""
    counts = Counter(v.kind for v in verdicts)
    fails = {VerdictKind.REGRESSED: " (fails the run)"}
    return "verdicts: " + ", ".join(
        f"{counts[kind]} {kind}{fails.get(kind, '')}" for kind in VerdictKind if counts[kind]
    )


def undecided(run: RunFile) -> list[str]:
    """How many cases were not compared because of autotune choices, and how many are undecided and may hide what."""
    lines = []
    if other := of_other_choices(run.verdicts):
        lines += wrapped(f"{other} (this alone fails no test)")
    if left := left_undecided(run.verdicts):
        lines += wrapped(f"undecided: {left} (--attn-require-verdict makes the run fail)")
    return lines


def left_undecided(verdicts: Sequence[Verdict]) -> str:
    """`2 of 90 compared cases; a slow-down of up to 2.41 % may be missed`, empty where none is left."""
    ends = [verdict.high for verdict in verdicts if verdict.kind is VerdictKind.INCONCLUSIVE]
    if not ends:
        return ""
    known = [high for high in ends if high is not None]
    missed = "any slow-down" if len(known) < len(ends) else f"a slow-down of up to {max(known) * 100:.2f} %"
    compared = sum(verdict.change is not None for verdict in verdicts)
    return f"{len(ends)} of {counted(compared, 'compared case')}; {missed} may be missed"


def of_other_choices(verdicts: Sequence[Verdict]) -> str:
    """`2 cases were not compared: no stored launch made their autotune choices`, empty where that is true of none."""
    count = sum(any(reason.code == CHOICES for reason in verdict.reasons) for verdict in verdicts)
    cases = "1 case was" if count == 1 else f"{count} cases were"
    return f"{cases} not compared: no stored launch made {'its' if count == 1 else 'their'} autotune choices" * bool(
        count
    )


def names(run: RunFile) -> Callable[[Verdict], str]:
    """How a verdict's case is named: `torch_flash@eager · flux-1024px-t512`, with its test where it is in several."""
    records = {record.case: record for record in run.records}
    numbers = numbered_tests(run.records)

    def name(verdict: Verdict) -> str:
        record = records.get(verdict.case)
        plain = f"{record.variant} · {record.workload.name}" if record else verdict.case
        return f"{plain}{marked(verdict.nodeid, numbers)}"

    return name


def marks(verdict: Verdict) -> str:
    """What qualifies the figures of a verdict: ` (unknown unit)`, ` (measured once)`, ` (chose cudnn, baseline flash)`."""
    words = ["unknown unit"] if verdict.change is not None and not verdict.known_unit else []
    words += ["measured once"] if any(reason.code == MEASURED_ONCE for reason in verdict.reasons) else []
    words += [verdict.chose] if verdict.chose else []
    return f" ({', '.join(words)})" if words else ""


def _table(verdicts: Sequence[Verdict], name: Callable[[Verdict], str], details: bool, width: int) -> list[str]:
    """The rows, with a column on the clock where it differed from the baseline's in some calls."""
    legend = [*_LEGEND] if details else []
    header, rows = [*_HEADER], [_row(v, name) for v in verdicts]
    if details:
        header = [[*cells, *more] for cells, more in zip(header, _DETAILS, strict=True)]
        rows = [[*row, _finds(v), str(v.launches)] for row, v in zip(rows, verdicts, strict=True)]
    if any(_other_clock(verdict) is not None for verdict in verdicts):
        legend.append(_LEGEND_OF_CLOCK)
        header = [[*cells, head] for cells, head in zip(header, ("clock", "%"), strict=True)]
        clocks = ["–" if v.clock_change is None else _percent(v.clock_change, 1) for v in verdicts]
        rows = [[*row, clock] for row, clock in zip(rows, clocks, strict=True)]
    table = aligned(header, rows, left=2)
    fits = width >= WIDTH or max(map(len, table)) <= width
    return [*legend, *(table if fits else _narrow(header, rows))]


def _narrow(header: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> list[str]:
    """The table with each case on a line of its own, below its figures."""
    without_case = [[[row[0], *row[2:]] for row in some] for some in (header, rows)]
    table = aligned(without_case[0], without_case[1])
    head, body = table[: -len(rows)], table[-len(rows) :]
    return [*head, *(line for figures, row in zip(body, rows, strict=True) for line in (figures, f"  {row[1]}"))]


def _finds(verdict: Verdict) -> str:
    return "–" if verdict.known_unit is False and verdict.found_by is None else _percent(verdict.found_by, 2)


def _other_clock(verdict: Verdict) -> float | None:
    """Relative clock difference to the baseline; None where it is small or unknown."""
    by = verdict.clock_change
    return by if by is not None and abs(by) >= _OTHER_CLOCK else None


def _clock(verdict: Verdict) -> list[str]:
    """The latency as measured, where the clock differed from the baseline's."""
    by = _other_clock(verdict)
    if by is None or verdict.measured_s is None:
        return []
    measured = f"measured {milliseconds(verdict.measured_s)} ms"
    return [f"{measured}; clock during the call: {_percent(by, 1)} % against the baseline's (corrected above)"]


def worst_first(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """By kind, and within one the largest slow-down first."""
    return sorted(verdicts, key=lambda v: (ORDER[v.kind], -(v.change or 0.0), v.case))


def _row(verdict: Verdict, name: Callable[[Verdict], str]) -> list[str]:
    assert verdict.change is not None
    return [
        str(verdict.kind),
        f"{name(verdict)}{marks(verdict)}",
        _cell_ms(verdict.baseline_s),
        _cell_ms(verdict.found_s),
        _percent(verdict.change, 2),
        f"[{_percent(verdict.low, 2)}, {_percent(verdict.high, 2)}]",
        _limit(verdict.limit),
    ]


def _unchanged(verdicts: Sequence[Verdict], details: bool) -> list[str]:
    if not verdicts:
        return []
    changes = sorted(v.change for v in verdicts if v.change is not None)
    smallest = sorted(v.found_by for v in verdicts if v.found_by is not None)
    screened = [v.high for v in verdicts if v.found_by is None and v.high is not None]
    limits = sorted({v.limit for v in verdicts if v.limit is not None})
    text = f"unchanged: {counted(len(verdicts), 'case')}, {_ends(changes, 2)} %"
    text += f", limit {_limits(limits)} %"
    if smallest and details:
        text += f"; finds {_percent(smallest[len(smallest) // 2], 2)} % (median), {_percent(smallest[-1], 2)} % (worst)"
    if screened:
        text += f"; unknown unit: the intervals end at {_percent(max(screened), 2)} % or below"
    clocks = sorted(by for by in map(_other_clock, verdicts) if by is not None)
    if clocks:
        return [text, f"  clock during the call: {_ends(clocks, 1)} % in {len(clocks)} of them (corrected)"]
    return [text]


def _explained(verdicts: Sequence[Verdict], name: Callable[[Verdict], str]) -> list[str]:
    """Why a verdict has no figures, or what they do not show; one line for each kind and reason."""
    groups: dict[tuple[VerdictKind, str], list[str]] = {}
    for verdict in verdicts:
        said = "; ".join(_more(verdict) if verdict.change is not None else map(_without_cause, verdict.reasons))
        if said:
            # The others with figures are rows of the table.
            is_row = verdict.change is None or verdict.kind is not VerdictKind.UNCHANGED
            figure = "" if is_row else f" {_percent(verdict.change, 2)} %"
            groups.setdefault((verdict.kind, said), []).append(f"{name(verdict)}{figure}")
    whole = Counter(v.kind for v in verdicts)
    nothing_stored = whole[VerdictKind.NO_BASELINE] == len(verdicts)
    fewest = 0 if nothing_stored else _FEW  # names of cases that share a reason, which say nothing more
    return [
        f"{kind}: {said}" if len(names) == whole[kind] > fewest else f"{kind}: {_some(names)}: {said}"
        for (kind, said), names in groups.items()
    ]


def _without_cause(reason: Reason) -> str:
    """The sentence; of a case that was not measured without the reason, which stands under `not measured`."""
    text, found, _ = reason.text.partition(" here: ")
    return f"{text} here" if found and reason.code == NOT_MEASURED else reason.text


def _more(verdict: Verdict) -> list[str]:
    """The reasons of a verdict with figures that the figures do not show, without those about the output."""
    told = (*IN_THE_ROW, *OF_THE_OUTPUT)
    return [r.text for r in verdict.reasons if r.code not in told] if verdict.change is not None else []


def _of_the_output(verdict: Verdict) -> list[str]:
    """The reasons of a verdict that are about accuracy or workspace, and not about latency."""
    reasons = verdict.reasons if verdict.change is not None else ()
    return [reason.text for reason in reasons if reason.code in OF_THE_OUTPUT]


def _notes(verdicts: Sequence[Verdict], name: Callable[[Verdict], str]) -> list[str]:
    """What else differs from the baseline, each once; of the unchanged, which have no row, also the choice of the kernel."""
    cases: dict[str, list[str]] = {}
    for verdict in verdicts:
        chose = (verdict.chose,) if verdict.chose and verdict.kind is VerdictKind.UNCHANGED else ()
        for note in (*_of_the_output(verdict), *chose, *verdict.notes):
            cases.setdefault(note, []).append(name(verdict))
    compared = sum(v.change is not None for v in verdicts)
    return [f"{note}: {'all' if len(names) == compared > 1 else _some(names)}" for note, names in cases.items()]


def _sessions(verdicts: Sequence[Verdict]) -> list[str]:
    return list(dict.fromkeys(name for verdict in verdicts for name in verdict.compared_with))


def _files(names: Sequence[str]) -> str:
    """Stored sessions, their folder once: `nvidia-h200/0001_a.json, 0002_b.json`."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        folders.setdefault(folder, []).append(file)
    return ", ".join(
        f"{folder}/{', '.join(files)}" if folder else ", ".join(files) for folder, files in folders.items()
    )


def _some(names: Sequence[str], most: int = _FEW) -> str:
    """All of a few names, a count and the first of many."""
    return ", ".join(names) if len(names) <= most else f"{len(names)} cases ({names[0]} …)"


def _percent(value: float | None, digits: int) -> str:
    return "?" if value is None else signed_percent(value, digits)


def _ends(changes: Sequence[float], digits: int) -> str:
    """Of sorted changes the smallest and the largest, `-0.20 to +0.10`; once where both read alike."""
    return " to ".join(dict.fromkeys(_percent(change, digits) for change in (changes[0], changes[-1])))


def _limits(limits: Sequence[float]) -> str:
    """`1`, `1 or 2`, and of more than two different ones their ends, `1 to 2.4`."""
    texts = list(dict.fromkeys(map(_limit, limits))) or ["?"]
    return " or ".join(texts) if len(texts) < 3 else f"{texts[0]} to {texts[-1]}"


def _limit(limit: float | None) -> str:
    return "?" if limit is None else f"{limit * 100:.3g}"


def _cell_ms(value_s: float | None) -> str:
    return "?" if value_s is None else milliseconds(value_s)


def _ms(value_s: float) -> str:
    return significant(value_s * 1e3, 3)
