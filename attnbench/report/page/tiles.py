"""The answers of the first screen: what is fastest, what regressed, what was not measured."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attnbench import stats
from attnbench.model import Status
from attnbench.report.page.index import Case, Index
from attnbench.report.page.unmeasured import Unmeasured
from attnbench.report.page.verdict_rows import VerdictRow
from attnbench.report.quantities import timed_check
from attnbench.report.unmeasured import ORDER as STATUSES
from attnbench.units import counted, listed, milliseconds, significant

#: Classes of accuracy (attnbench/backends/tolerances.py): the headline is of the first, and nobody asks who is fastest in
#: the second.
EXACT, UNFUSED = "16-bit", "16-bit-unfused"
#: Two medians this close, relative, are a tie on the summary.
TIE = 0.01
#: Lines of one tile; the rest is counted.
MOST_LINES = 4
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


def tiles(index: Index, verdicts: Sequence[VerdictRow], unmeasured: Sequence[Unmeasured]) -> tuple[Tile, ...]:
    """All tiles, in the order in which they are shown."""
    return (*_fastest(index), _regressed(verdicts), _not_measured(index, unmeasured))


def _fastest(index: Index) -> list[Tile]:
    """By GPU the fastest variant of 16-bit accuracy, and of every other class with its error.

    At the longest of the workloads that most variants have: a quantised kernel is faster, but at another accuracy.
    """
    fastest = []
    for gpu in index.gpus:
        cases = [case for case in index.cases if case.gpu == gpu and case.median_s is not None]
        if not cases:
            continue
        counts = Counter(case.first.workload for case in cases)
        at = max(counts, key=lambda workload: (counts[workload], workload.seq, workload.name))
        classes: dict[str, list[Case]] = defaultdict(list)
        for case in cases:
            if case.first.workload == at:
                classes[case.first.tolerance].append(case)
        best = sorted(map(_best_first, classes.values()), key=lambda mine: mine[0].median_s or 0.0)
        main = next((mine for mine in best if mine[0].first.tolerance == EXACT), best[0])
        others = [_class_line(mine) for mine in best if mine is not main and mine[0].first.tolerance != UNFUSED]
        kind = f"{main[0].first.tolerance} " if len(best) > 1 and main[0].first.tolerance else ""
        where = f" · {gpu}" if len(index.gpus) > 1 else ""
        label = f"Fastest {kind}at {at.seq} tokens{where}"
        lines = (f"{_best_line(main)} ({at.name})", *_some(others, MOST_LINES - 1))
        fastest.append(Tile(label, main[0].name, lines, "", "#figures"))
    return fastest


def _regressed(rows: Sequence[VerdictRow]) -> Tile:
    if not rows:
        return Tile("Regressed", "not judged", ("No verdict is stored in these files.",))
    counts = Counter(row.kind for row in rows)
    bad = [row for row in rows if row.kind == "regressed"]
    lines = [f"{row.name} · {row.workload} {row.change.text} %".strip() for row in bad]
    others = ", ".join(f"{count} {kind}" for kind, count in counts.items() if kind != "regressed")
    shown = (*_some(lines, MOST_LINES - 1), others) if others else _some(lines)
    judged = sum(counts[kind] for kind in _DECIDED)
    if bad:
        return Tile("Regressed", f"{len(bad)} of {len(rows)}", shown, "bad", "#verdicts")
    if not judged:
        return Tile("Regressed", "not judged", shown, "", "#verdicts")
    return Tile("Regressed", "none" if judged == len(rows) else f"none of {judged}", shown, "good", "#verdicts")


def _not_measured(index: Index, unmeasured: Sequence[Unmeasured]) -> Tile:
    groups = [group for group in unmeasured if group.status != str(Status.CHECKED)]
    if not groups:
        checked = any(record.status is Status.CHECKED for record in index.gathered.records)
        all_of_it = "Some cases were checked and, as asked, not timed." if checked else "Every case has a latency."
        return Tile("Not measured", "none", (all_of_it,), "good")
    cases, names = Counter[str](), defaultdict[str, Counter[str]](Counter)
    for case in index.cases:
        if case.median_s is None and case.pooled.injected is None:
            status = str(case.pooled.status)
            cases[status] += 1
            names[status][case.name] += 1
    bad = any(group.status in (str(Status.INCORRECT), str(Status.ERROR)) for group in groups)
    del cases[str(Status.CHECKED)]
    lines = [f"{status}: {_counted_names(names[str(status)])}" for status in STATUSES if cases[str(status)]]
    counts = ", ".join(f"{cases[str(status)]} {status}" for status in STATUSES if cases[str(status)])
    value = f"{sum(cases.values())} of {counted(len(index.cases), 'case')}"
    shown = (counts, *_some(lines, MOST_LINES - 1))
    return Tile("Not measured", value, shown, "bad" if bad else "", "#unmeasured")


def _counted_names(names: Mapping[str, int]) -> str:
    """`te_flash@eager (18), te_fp8@eager and 2 more`."""
    return listed([f"{name} ({count})" if count > 1 else name for name, count in names.items()], 2)


def _best_first(cases: Sequence[Case]) -> list[Case]:
    return sorted(cases, key=lambda case: (case.median_s or 0.0, case.name))


def _best_line(cases: Sequence[Case]) -> str:
    """`0.3771 ms, 692 TFLOP/s; 2 others within 1 %`."""
    best = cases[0]
    assert best.median_s is not None
    rate = stats.tflop_per_s(best.first.workload.flop, best.median_s)
    tied = sum(case.median_s is not None and case.median_s <= best.median_s * (1 + TIE) for case in cases[1:])
    figures = f"{milliseconds(best.median_s)} ms, {significant(rate, 3)} TFLOP/s"
    return f"{figures}; {counted(tied, 'other')} within {TIE * 100:.0f} %" if tied else figures


def _class_line(cases: Sequence[Case]) -> str:
    """`fp8: flash_attn_3_fp8@eager 0.3389 ms, rel. L2 0.14`: the fastest of another class of accuracy."""
    best = cases[0]
    assert best.median_s is not None
    check = timed_check(best.first)
    error = f", rel. L2 {significant(check.error.rel_l2, 2)}" if check and math.isfinite(check.error.rel_l2) else ""
    return f"{best.first.tolerance or 'tolerance unknown'}: {best.name} {milliseconds(best.median_s)} ms{error}"


def _some(lines: Sequence[str], most: int = MOST_LINES) -> tuple[str, ...]:
    return tuple(lines) if len(lines) <= most else (*lines[: most - 1], f"and {len(lines) - most + 1} more")
