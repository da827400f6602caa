"""What the lines of scripts/gate_simulation's table show, and which target each figure is held against."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from gate_runs import INCONCLUSIVE, UNCHANGED, Cell, Tally
from gate_shares import Share, share_of, worst_tenth
from gate_worlds import WORLDS

COLUMNS = (
    "world",
    "cases",
    "sessions",
    "false runs (95 %)",
    "worst tenth",
    "unchanged",
    "undecided",
    "relaunches",
    "limit",
    "finds",
    "found +1 %",
    "found +2 %",
    "found *finds*",
    "passed limit",
    "passed +10 % s",
)
OK, MISSED = "ok", "MISSED"
UNPROVEN = "unproven"  # the interval holds the target
FALSE, FALSE_SLOW, WORST, FOUND, ACQUITTED = 0.01, 0.02, 0.05, 0.95, 0.01
#: The largest occasion with which +2 % from one session, and +1 % from four, must be found.
ORDINARY, QUIET = 0.001, 0.0003


@dataclass(frozen=True)
class Figure:
    """text: as shown; mark: whether the target is kept, empty where there is none."""

    text: str
    mark: str = ""
    target: str = ""

    def shown(self) -> str:
        return f"{self.text} {self.mark}".rstrip()


@dataclass(frozen=True)
class Summary:
    """A line of the table."""

    cell: Cell
    runs: int
    false: Share
    injections: int
    figures: dict[str, Figure]

    def row(self) -> list[str]:
        return [
            self.cell.world,
            str(self.cell.cases),
            str(self.cell.sessions),
            *(self.figures[name].shown() for name in COLUMNS[3:]),
        ]

    def plain(self) -> dict[str, object]:
        return asdict(self)


def summary(cell: Cell, tallies: Sequence[Tally]) -> Summary:
    world = WORLDS[cell.world]
    false = share_of([(sum(map(bool, one.false)), len(one.false)) for one in tallies])
    most = FALSE_SLOW if world.slow else FALSE
    worst = worst_tenth([list(map(bool, one.false)) for one in tallies])
    kinds = sum((one.kinds for one in tallies), Counter())
    judged = sum(kinds.values())
    runs = sum(len(one.false) for one in tallies)
    limits = [value for one in tallies for value in one.limits]
    finds = [value for one in tallies for value in one.finds]
    wants_two = cell.sessions >= 1 and world.quiet_occasions <= ORDINARY
    wants_one = cell.sessions >= 4 and world.quiet_occasions <= QUIET
    figures = (
        Figure(
            _interval(false),
            _mark(false.high <= most, false.value <= most),
            f"at most {_percent(most)} at the upper end",
        ),
        Figure(_percent(worst), _mark(worst <= WORST), f"at most {_percent(WORST)}"),
        Figure(_percent(kinds[UNCHANGED] / judged)),
        Figure(_percent(kinds[INCONCLUSIVE] / judged)),
        Figure(f"{sum(one.relaunches for one in tallies) / runs:.1f}"),
        Figure(_median(limits)),
        Figure(_median(finds)),
        _found(tallies, "+1 %", wants=wants_one),
        _found(tallies, "+2 %", wants=wants_two),
        _found(tallies, "finds", wants=True),
        _acquitted(tallies, "limit"),
        _acquitted(tallies, "seconds"),
    )
    return Summary(cell, runs, false, len(limits), dict(zip(COLUMNS[3:], figures, strict=True)))


def missed(found: Summary) -> list[str]:
    """A sentence for each missed target."""
    sessions = "1 session" if found.cell.sessions == 1 else f"{found.cell.sessions} sessions"
    where = f"{found.cell.world}, {found.cell.cases} cases, {sessions}"
    return [
        f"{figure.mark}: {where}: {name} {figure.text}, {figure.target}"
        for name, figure in found.figures.items()
        if figure.mark not in ("", OK)
    ]


def document(summaries: Sequence[Summary], command: str, about: str) -> str:
    """The table in Markdown, with what was done and what the columns are."""
    rows = [COLUMNS, ("---", *["---:"] * (len(COLUMNS) - 1)), *(one.row() for one in summaries)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"# Verdicts, simulated\n\n`{command}`\n\n{about}\n\n{table}\n\n{_explained()}"


def _explained() -> str:
    """What the columns and worlds are."""
    worlds = "\n".join(f"- `{world.name}`: {world.text}." for world in WORLDS.values() if world.usual)
    return f"""\
Worlds, all with three launches a session, each session of one unit on an occasion of its own ([model](\
../../scripts/gate_worlds.py)):

{worlds}

Every figure is of cases as a user gets them: measured once, and suspects up to three times more in fresh processes, which
all suspects of a run share. Marks: *ok*, the target is kept; *unproven*, the interval holds the target; *MISSED*.

| column | what it is | target |
|---|---|---|
| false runs | runs in which a case is *regressed* that is no more than 0.3 % slower; exact 95 % interval | upper end \
at most {_percent(FALSE)}, in `slow` {_percent(FALSE_SLOW)} |
| worst tenth | the same for the worst tenth of baselines, ranked by one half of their runs and counted in the other | at \
most {_percent(WORST)} |
| unchanged, undecided | cases that are *unchanged*, *inconclusive* | |
| relaunches | cases that were measured again, in a run | |
| limit, finds | medians of what verdicts print; – where nothing is called regressed | |
| found | *regressed* cases, where one a run is slower by so much; *finds*: by what its own verdict prints | at least \
{_percent(FOUND)}: at *finds* everywhere, at +2 % where the occasion is at most {_percent(ORDINARY)}, at +1 % from four \
sessions where it is at most {_percent(QUIET)} |
| passed limit | *unchanged* or *improved* cases that are slower by the printed limit | at most {_percent(ACQUITTED)} |
| passed +10 % s | the same for +10 % in seconds with the same cycles | at most {_percent(ACQUITTED)} |

Runs against one baseline are not independent, so the interval of a share is Clopper and Pearson's at the effective \
number of runs: their number over the design effect (Korn and Graubard 1998).
"""


def _found(tallies: Sequence[Tally], name: str, *, wants: bool) -> Figure:
    share = _injected(tallies, name, "regressed")
    if math.isnan(share.value):
        return Figure("–")
    return Figure(
        _percent(share.value),
        _mark(share.value >= FOUND, share.high >= FOUND) if wants else "",
        f"at least {_percent(FOUND)}",
    )


def _acquitted(tallies: Sequence[Tally], name: str) -> Figure:
    share = _injected(tallies, name, "acquitted")
    return Figure(
        _percent(share.value), _mark(share.value <= ACQUITTED, share.low <= ACQUITTED), f"at most {_percent(ACQUITTED)}"
    )


def _injected(tallies: Sequence[Tally], name: str, became: str) -> Share:
    injected = [one.injected[name] for one in tallies if name in one.injected]
    return share_of([(getattr(one, became), one.cases) for one in injected])


def _mark(kept: bool, perhaps: bool = False) -> str:
    return OK if kept else UNPROVEN if perhaps else MISSED


def _percent(share: float, digits: int = 3) -> str:
    return f"{float(f'{100 * share:.{digits}g}'):g} %"


def _interval(share: Share) -> str:
    low, high = (_percent(end, 2).removesuffix(" %") for end in (share.low, share.high))
    return f"{_percent(share.value, 2)} ({low}–{high})"


def _median(values: Sequence[float]) -> str:
    return _percent(statistics.median(values)) if values else "–"
