"""A stored run as Markdown for GitHub's job summary.

Names, reasons and commands in a stored run may be written by the author of a pull request. They stand in code spans and
code blocks only: nothing in there is HTML, a mention, an image or a link. Everything else is this module's own words,
and figures.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from attnbench import printable
from attnbench.model import Record, RunFile, Status, Verdict, VerdictKind
from attnbench.reasons import told
from attnbench.report import bearing, sustained
from attnbench.report.pooling import marked, numbered_tests, pooled
from attnbench.report.shown import shown_run
from attnbench.report.table import wrapped
from attnbench.report.terminal import head
from attnbench.report.unmeasured import unmeasured
from attnbench.report.verdicts import (
    IN_THE_ROW,
    MOST_WITHOUT_BASELINE,
    left_undecided,
    marks,
    names,
    of_other_choices,
    worst_first,
)
from attnbench.units import counted, milliseconds, signed_percent
from attnbench.verdicts.judge import SET_UP

#: GitHub refuses a summary above 1 MiB whole. What is left of that is for the sentence that says what was cut.
LIMIT_BYTES = 1_000_000
WHY_LIMITED = "GitHub shows no summary above 1 MiB"
#: What is longer is shortened, so that a single row cannot fill the summary.
LONGEST_NAME, LONGEST_TEXT = 200, 2000
#: So many names stand before a block or in a sentence; the rest is counted.
MOST_NAMES = 4

#: Column heads, and whether the column is flush right.
_COLUMNS = (
    ("verdict", False),
    ("case", False),
    ("baseline ms", True),
    ("now ms", True),
    ("change %", True),
    ("interval %", True),
    ("limit %", True),
    ("known unit", False),
    ("finds %", True),
    ("launches", True),
    ("clock %", True),
)
_LEGEND = (
    "Interval: if noise is as stored or assumed, the true change is below it in at most 1 % of runs, and above it in at "
    "most 1 % of cases. Finds: the smallest slow-down that 95 of 100 such runs call regressed. Regressed: the whole "
    "interval is above the tolerated 0.3 % and the change is half of the limit or more; or the output's error or the "
    "workspace grew."
)
_FAILED = (Status.INCORRECT, Status.ERROR)


@dataclass(frozen=True)
class _Block:
    """Lines that belong together. Where there is not enough room, the last `items` are dropped, never a part of one."""

    what: str  # what the items are, for the sentence about those that were cut
    before: tuple[str, ...]
    items: tuple[str, ...]
    after: tuple[str, ...] = ()


def markdown(run: RunFile, limit_bytes: int = LIMIT_BYTES, why_limited: str = WHY_LIMITED) -> str:
    """The summary of one run, at most `limit_bytes` of UTF-8 but for the heading and the sentence about the cut.

    why_limited: stands in that sentence.
    """
    run = shown_run(run)
    records, numbers, name = pooled(run.records), numbered_tests(run.records), names(run)
    ordered = worst_first(run.verdicts)
    elsewhere = [v for v in ordered if _is_of_the_set_up(v)]
    new = [v for v in ordered if v.kind is VerdictKind.NO_BASELINE and not _is_of_the_set_up(v)]
    if len(new) <= MOST_WITHOUT_BASELINE:
        new = []  # rows like any other
    folded = {id(v) for v in (*elsewhere, *new)}
    changed = [v for v in ordered if v.kind is not VerdictKind.UNCHANGED and id(v) not in folded]
    unchanged = [v for v in ordered if v.kind is VerdictKind.UNCHANGED]
    blocks = [
        _head(run),
        *_interrupted(run),
        *_compared_with(run),
        *_baselines(run),
        *_bearing(run),
        *_sustained(run),
        *_open(run.verdicts),
        *_changed(changed, name),
        *_failed(_without_verdict(run, records), numbers),
        *_not_compared([*elsewhere, *new]),
        *_reasons([*changed, *(v for v in unchanged if _told_below(v))], name),
        *_not_measured(records, numbers),
        *_folded(elsewhere, name, "verdicts on another set-up"),
        *_folded(new, name, "verdicts without a baseline"),
        *_folded(unchanged, name, "unchanged verdicts"),
        *_notes(unchanged),
    ]
    kept, cut = _fitted([block for block in blocks if block.items], limit_bytes, why_limited)
    return _text([f"## {_heading(run, records)}", "", *cut, *kept])


def without_run(problem: str) -> str:
    """The summary of a run whose file cannot be read, with the reason."""
    block = _code_block("lines", (), _wrapped(problem))
    sentence = "The run left no readable result. See the log of the step that measured."
    return _text(["## attnbench: no result", "", sentence, "", *_lines(block)])


def _heading(run: RunFile, records: Sequence[Record]) -> str:
    """`attnbench (simulated): 2 regressed, 81 unchanged; 1 failed without a verdict`."""
    marks = ["simulated"] if any(launch.simulated for launch in run.launches) else []
    marks += ["slowed down on purpose"] if any(record.injected is not None for record in run.records) else []
    marks += ["baselines edited"] if run.edits_baselines else []
    title = f"attnbench ({', '.join(marks)})" if marks else "attnbench"
    if not run.verdicts:
        by_status = Counter(record.status for record in records)
        statuses = [f"{by_status[status]} {status}" for status in Status if by_status[status]]
        return f"{title}: no verdicts; {', '.join(statuses) or 'no case was selected'}"
    by_kind = Counter(verdict.kind for verdict in run.verdicts)
    kinds = [f"{by_kind[kind]} {kind}" for kind in VerdictKind if by_kind[kind]]
    failed = len(_without_verdict(run, records))
    return f"{title}: {', '.join(kinds)}" + (f"; {failed} failed without a verdict" if failed else "")


def _head(run: RunFile) -> _Block:
    """The head of the terminal section: device, unknown fields, simulation, injections, timing."""
    lines = head(run) if run.records else []
    without_columns = [line.partition("; CV:")[0] for line in lines if not line.startswith("CV:")]
    return _code_block("lines about the device", (), without_columns)


def _interrupted(run: RunFile) -> list[_Block]:
    if not run.interrupted:
        return []
    return [_sentence(f"**The run ended early**: {_code(run.interrupted)}. Cases that it did not reach are not run.")]


def _compared_with(run: RunFile) -> list[_Block]:
    if not run.verdicts:
        return [_sentence("Nothing was compared: nothing was timed, or the run had no folder of baselines.")]
    sessions = list(dict.fromkeys(name for verdict in run.verdicts for name in verdict.compared_with))
    return [_sentence(f"Compared with {_some(sessions, 'sessions')}. {_LEGEND}")] if sessions else []


def _baselines(run: RunFile) -> list[_Block]:
    """Which commit's sessions the verdicts rest on, and what was changed in them since."""
    if not run.baselines_from:
        return []
    if not run.baseline_changes:
        return [_sentence(f"Baselines from {_code(run.baselines_from)}; this change leaves them as they are.")]
    edits = "**This change edits the baselines.**" if run.edits_baselines else "This change adds to the baselines."
    text = (
        f"{edits} Verdicts use the sessions of {_code(run.baselines_from)}. A case without a comparable one there is "
        "compared with those of this change, and a note says so."
    )
    return [_code_block("changed baseline files", (text, ""), run.baseline_changes)]


def _bearing(run: RunFile) -> list[_Block]:
    """Which limit the baseline resolves and why, and what all cases share, in our own words and figures."""
    text = bearing.shared(run)
    lines = [*([text] if text else []), *bearing.carried(run.verdicts)]
    wrapped_lines = [part for line in lines for part in _wrapped(line)]
    return [_code_block("lines about the limit", (), wrapped_lines)] if lines else []


def _sustained(run: RunFile) -> list[_Block]:
    """Cases under continuous load, and where that changes which variant is the fastest."""
    lines = sustained.summary(run)
    return [_code_block("lines about continuous load", ("### Under continuous load", ""), lines)] if lines else []


def _open(verdicts: Sequence[Verdict]) -> list[_Block]:
    """What the run could not decide or compare, so that a green run is not taken for an answer."""
    left, other = left_undecided(verdicts), of_other_choices(verdicts)
    sentences = [f"**Undecided**: {left}."] if left else []
    return [_sentence(" ".join([*sentences, *([f"{other}."] if other else [])]))] if left or other else []


def _is_of_the_set_up(verdict: Verdict) -> bool:
    """Whether the case is *incomparable* because of the set-up, which all cases share: measuring again changes nothing."""
    return any(reason.code == SET_UP for reason in verdict.reasons)


def _not_compared(verdicts: Sequence[Verdict]) -> list[_Block]:
    """Why many cases have nothing to compare with, once for all of them: other set-ups, or no session that holds them."""
    counts = Counter("; ".join([*(reason.text for reason in v.reasons), *v.notes]) for v in verdicts)
    lines = [part for text, count in counts.items() for part in _wrapped(f"{counted(count, 'case')}: {text}")]
    return [_code_block("lines about cases that were not compared", ("**Not compared**:", ""), lines)]


def _changed(verdicts: Sequence[Verdict], name: Callable[[Verdict], str]) -> list[_Block]:
    return [_Block("verdicts", _table_head(_COLUMNS), tuple(_row(v, name) for v in verdicts))]


def _failed(records: Sequence[Record], numbers: Mapping[str, int]) -> list[_Block]:
    """Cases that failed for another reason than a verdict: incorrect, or an error."""
    before = ("### Failed without a verdict", "", *_table_head([("status", False), ("case", False), ("why", False)]))
    rows = [
        _cells(
            str(r.status),
            _code(f"{r.variant} · {r.workload.name}{marked(r.nodeid, numbers)}"),
            _code("; ".join(told(r.reasons, whole=False, where="named below"))),
        )
        for r in records
    ]
    return [_Block("failed cases", before, tuple(rows))]


def _told_below(verdict: Verdict) -> list[str]:
    """The reasons that no cell of a row tells."""
    return [reason.text for reason in verdict.reasons if reason.code not in IN_THE_ROW]


def _reasons(verdicts: Sequence[Verdict], name: Callable[[Verdict], str]) -> list[_Block]:
    """Per kind, reasons and notes that some cases share and no row tells: cases, texts, and the command of each case."""
    groups: dict[tuple[VerdictKind, tuple[str, ...]], list[Verdict]] = {}
    for verdict in verdicts:
        notes = (*_told_below(verdict), *verdict.notes)
        groups.setdefault((verdict.kind, notes), []).append(verdict)
    title: tuple[str, ...] = ("### Reasons, notes, and how to measure again", "")
    blocks = []
    for (kind, texts), members in groups.items():
        cases = _some([name(v) for v in members], "cases")
        # As it is written: a quoted argument may hold line breaks, and wrapped it would be another command.
        commands = [part for v in members if v.reproduce for part in f"$ {v.reproduce}".split("\n")]
        if lines := [part for text in texts for part in _wrapped(text)] + commands:
            before = (*title, f"**{kind}**: {cases}", "")
            blocks.append(_code_block("lines of reasons, notes and commands", before, lines))
            title = ()
    return blocks


def _not_measured(records: Sequence[Record], numbers: Mapping[str, int]) -> list[_Block]:
    lines = unmeasured(records, numbers)[1:]
    return [_code_block("lines about cases that were not measured", ("### Not measured", ""), lines)]


def _folded(verdicts: Sequence[Verdict], name: Callable[[Verdict], str], what: str) -> list[_Block]:
    """A collapsed table of verdicts of one kind."""
    summary = f"<summary>{len(verdicts)} {verdicts[0].kind if verdicts else ''}</summary>"
    before = ("<details>", summary, "", *_table_head(_COLUMNS))
    return [_Block(what, before, tuple(_row(v, name) for v in verdicts), ("", "</details>"))]


def _notes(verdicts: Sequence[Verdict]) -> list[_Block]:
    """What differs from the baseline although nothing changed, each once."""
    counts = Counter(note for verdict in verdicts for note in verdict.notes)
    lines = [part for note, count in counts.items() for part in _wrapped(f"{count} of {len(verdicts)}: {note}")]
    return [_code_block("lines of notes", ("Notes on the unchanged:", ""), lines)]


def _without_verdict(run: RunFile, records: Sequence[Record]) -> list[Record]:
    judged = {(verdict.case, verdict.nodeid) for verdict in run.verdicts}
    without_test = {
        verdict.case for verdict in run.verdicts if not verdict.nodeid
    }  # of a version that did not store it
    failed = [record for record in records if record.status in _FAILED and record.case not in without_test]
    return [record for record in failed if (record.case, record.nodeid) not in judged]


def _row(verdict: Verdict, name: Callable[[Verdict], str]) -> str:
    kind = str(verdict.kind)
    once = ", measured once" if "measured once" in marks(verdict) else ""
    chose = f", {_code(verdict.chose)}" if verdict.chose else ""
    return _cells(
        (f"**{kind}**" if verdict.kind is VerdictKind.REGRESSED else kind) + once + chose,
        _code(name(verdict)),
        _ms(verdict.baseline_s),
        _ms(verdict.found_s),
        _percent(verdict.change),
        "–" if verdict.change is None else f"{_percent(verdict.low)} to {_percent(verdict.high)}",
        "–" if verdict.limit is None else f"{verdict.limit * 100:.3g}",
        {True: "yes", False: "no", None: "–"}[verdict.known_unit],
        _percent(verdict.found_by),
        str(verdict.launches),
        _percent(verdict.clock_change),
    )


def _table_head(columns: Sequence[tuple[str, bool]]) -> tuple[str, str]:
    return _cells(*(name for name, _ in columns)), _cells(*("--:" if right else "---" for _, right in columns))


def _cells(*cells: str) -> str:
    r"""A table's row. A pipe is `\|` in it, also in a code span.

    For a pipe behind a backslash renderers differ on how to escape it: such a pipe becomes a broken bar.
    """
    return "| " + " | ".join(cell.replace("\\|", "\\¦").replace("|", "\\|") for cell in cells) + " |"


def _sentence(text: str) -> _Block:
    return _Block("sentences", (), (text,))


def _code_block(what: str, before: Sequence[str], lines: Sequence[str]) -> _Block:
    """A fence that is longer than any run of backticks in it, around the lines."""
    shown = tuple(_printable(line, LONGEST_TEXT) for line in lines)
    fence = "`" * max(3, _longest_ticks("\n".join(shown)) + 1)
    return _Block(what, (*before, f"{fence}text"), shown, (fence,))


def _code(text: str) -> str:
    """A code span on one line, whatever is in `text`."""
    shown = _printable(" ".join(text.split()), LONGEST_NAME) or "(empty)"
    ticks = "`" * (_longest_ticks(shown) + 1)
    room = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{ticks}{room}{shown}{room}{ticks}"


def _longest_ticks(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _printable(text: str, longest: int) -> str:
    """`text` with an escape for every character that does not show, such as those that turn the direction of a line."""
    cut = text if len(text) <= longest else f"{text[:longest]} … (whole in the stored run)"
    return printable.line(cut)


def _wrapped(text: str) -> list[str]:
    return wrapped(" ".join(text.split()))


def _some(names: Sequence[str], noun: str) -> str:
    """All of a few names, else their number and the first ones."""
    first = ", ".join(map(_code, names[:MOST_NAMES]))
    return first if len(names) <= MOST_NAMES else f"{len(names)} {noun} ({first} …)"


def _percent(value: float | None) -> str:
    return "–" if value is None else signed_percent(value)


def _ms(value_s: float | None) -> str:
    return "–" if value_s is None else milliseconds(value_s)


def _fitted(blocks: Iterable[_Block], limit_bytes: int, why_limited: str) -> tuple[list[str], list[str]]:
    """The lines for which there is room, and the sentence about the items that were cut; no sentence where none was."""
    kept: list[str] = []
    cut: Counter[str] = Counter()
    left = limit_bytes
    for block in blocks:
        room = left - _size(_lines(block, 0))
        sums = list(accumulate(map(_line_size, block.items)))
        fitting = bisect_right(sums, room)
        cut[block.what] += len(sums) - fitting
        if fitting:
            kept += _lines(block, fitting)
            left = room - sums[fitting - 1]
    counts = ", ".join(f"{count} {what}" for what, count in cut.items() if count)
    return kept, [
        f"**Cut**, as {why_limited}: {counts}. The stored run has them.",
        "",
    ] if counts else []


def _lines(block: _Block, count: int | None = None) -> list[str]:
    """The block's lines with its first `count` items, and a blank line after it."""
    return [*block.before, *block.items[:count], *block.after, ""]


def _size(lines: Iterable[str]) -> int:
    return sum(map(_line_size, lines))


def _line_size(line: str) -> int:
    return len(line.encode("utf-8")) + 1


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines).rstrip("\n") + "\n"
