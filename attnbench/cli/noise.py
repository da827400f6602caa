"""`attnbench noise`: how far stored launches and sessions differ, and which slow-down they resolve."""

from __future__ import annotations

import argparse
import os
import re
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from attnbench import printable
from attnbench.cli.baselines_folder import baselines_folder
from attnbench.cli.spread import launch_spread
from attnbench.cli.stored_run import load_run
from attnbench.cli.subparser import subparser
from attnbench.codec import Unreadable
from attnbench.fingerprint import differences
from attnbench.model import Bearing, Record, RunFile, Verdict
from attnbench.report.bearing import between_sessions, carried
from attnbench.report.table import aligned, wrapped
from attnbench.storage.folders import MACHINE_ID, NUMBERED
from attnbench.storage.sessions import HOST_TIMER, Baseline, Session
from attnbench.units import counted
from attnbench.verdicts.judge import judge
from attnbench.verdicts.rule import Rule

if TYPE_CHECKING:
    from attnbench.cli.subparser import Subparsers

TEXT = """\
Show how far launches and sessions of a baseline differ, which slow-down it resolves, and what brings it to 1 %.
The limit is the slow-down that counts in a later run on the same GPU unit.

A FOLDER is searched for sessions (NNNN_NAME.json); what --benchmark-save stored is left out. No GPU is needed.

columns:
  launches %  standard deviation between fresh processes
  sessions %  standard deviation between sessions; `assumed` if the sessions are too few to show it, `≤ 0.03`
              where they differ by less than that floor, which no verdict goes below
  limit %     the slow-down that counts, for a run of all cases with three more launches for suspects
  for 1 %     how many more sessions that agree bring the limit to 1 %

examples:
  attnbench noise
  attnbench noise -v baselines/nvidia-h200

exit codes: 0, or 4 if a file is damaged, or no session is there.
"""
FAMILY_HEADER = ("family", "cases", "sessions", "launches %", "sessions %", "limit %", "for 1 %")
CASE_HEADER = ("case", "launches", "widest %", "limit %")


def add_parser(commands: Subparsers) -> None:
    """Add `attnbench noise`."""
    parser = subparser(commands, "noise", run, "how far stored launches differ, and which slow-down they resolve", TEXT)
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="a line for each case, with how far the launches of one session differ",
    )
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="FILE|FOLDER",
        help="stored sessions. Default: the folder that the ini key attn_baselines names, else baselines",
    )


def run(options: argparse.Namespace, arguments: list[str]) -> int:
    """Print a table for every GPU unit. Raises Unreadable for a damaged file, and where no session is found."""
    del arguments
    files = session_files(options.paths or [baselines_folder()])
    sessions = [Session(f"{path.parent.name}/{path.name}", load_run(path)) for path in files]
    baselines = comparable(sessions)
    blocks = [block for baseline in baselines for block in described(baseline, options.verbose)]
    if not blocks:
        raise Unreadable("no session holds timings of a GPU whose noise is known: record one with `attnbench record`")
    sys.stdout.write("\n".join("".join(f"{printable.line(line)}\n" for line in block) for block in blocks))
    return 0


def session_files(paths: Iterable[Path]) -> list[Path]:
    """Files as they are named, and the sessions below folders, by number.

    Raises Unreadable for a folder without one, for one that cannot be listed, and for a path that does not exist.
    """
    files: list[Path] = []
    for path in paths:
        try:
            sessions = _below(path) if stat.S_ISDIR(path.stat().st_mode) else None
        except FileNotFoundError as exc:
            raise Unreadable(f"{path} does not exist: name a file or a folder of stored sessions") from exc
        except OSError as exc:
            raise Unreadable(f"{exc.filename} cannot be read: {exc.strerror}") from exc
        if sessions is None:
            files.append(path)
            continue
        if not sessions:
            raise Unreadable(f"{path} holds no session (NNNN_NAME.json): record one with `attnbench record`")
        files += sorted(sessions, key=lambda file: (str(file.parent), int(re.split("_", file.name)[0]), file.name))
    return list(dict.fromkeys(files))


def _below(folder: Path) -> list[Path]:
    """The sessions below a folder, except what --benchmark-save wrote. Raises OSError for a folder that cannot be listed."""

    def refuse(exc: OSError) -> NoReturn:
        raise exc

    files = (Path(where, name) for where, _, names in os.walk(folder, onerror=refuse) for name in names)
    # Where a link leads to, a loop included, which Path.resolve refuses; whoever reads the file says so.
    return [
        file
        for file in files
        if NUMBERED.fullmatch(file.name) and not MACHINE_ID.fullmatch(Path(os.path.realpath(file)).parent.name)
    ]


def comparable(sessions: Iterable[Session]) -> list[Baseline]:
    """Sessions whose fingerprints match those of one baseline, in their order."""
    groups: list[list[Session]] = []
    for session in sessions:
        for group in groups:
            if not _differing(group[0].run, session.run):
                group.append(session)
                break
        else:
            groups.append([session])
    return [Baseline(tuple(group)) for group in groups]


def _differing(one: RunFile, other: RunFile) -> bool:
    """Whether launches of the two cannot be compared."""
    pairs = ((ours.fingerprint, theirs.fingerprint) for ours in one.launches for theirs in other.launches)
    return any(differences(ours, theirs) for ours, theirs in pairs)


@dataclass(frozen=True)
class Judged:
    """A case as the sessions of one unit would judge it. launches: its stored readings are `widest` apart at most."""

    record: Record
    verdict: Verdict
    bearing: Bearing
    launches: int
    widest: float


def described(baseline: Baseline, verbose: bool) -> list[list[str]]:
    """The lines about each unit of a baseline, a block each."""
    units = dict.fromkeys(launch.unit for session in baseline.sessions for launch in session.run.launches)
    return [lines for unit in units if (lines := _unit_lines(baseline, unit, verbose))]


def _unit_lines(baseline: Baseline, unit: str | None, verbose: bool) -> list[str]:
    cases = judged(baseline, unit)
    if not cases:
        return []
    key = baseline.sessions[0].run.launches[0].fingerprint.key
    names = dict.fromkeys(
        session.name for session in baseline.sessions for launch in session.run.launches if launch.unit == unit
    )
    heading = f"{key.get('device')} · unit {unit} · protocol {key.get('protocol')} · {counted(len(names), 'session')}"
    families: dict[str, list[Judged]] = {}
    for case in cases:
        families.setdefault(case.record.family, []).append(case)
    rows = [row for family, members in families.items() for row in _family_rows(family, members)]
    lines = [heading, *(f"  {name}" for name in names), "", *aligned([FAMILY_HEADER], rows)]
    if verbose:
        own = [(c.record.case, str(c.launches), f"{c.widest * 100:.2f}", _percent([c.verdict.limit])) for c in cases]
        lines += ["", *aligned([CASE_HEADER], own)]
    return [*lines, "", *(line for text in carried([case.verdict for case in cases]) for line in wrapped(text))]


def judged(baseline: Baseline, unit: str | None) -> list[Judged]:
    """Every case that a unit measured, its newest stored launch held against all; CPU timings are left out."""
    verdicts = []
    rule = Rule(cases=len(baseline.records))
    for stored in baseline.records.values():
        here = [(session, record) for session, record in stored if session.launches[record.launch].unit == unit]
        if not here or here[-1][1].sample is None or here[-1][1].sample.timer == HOST_TIMER:
            continue
        session, record = here[-1]
        verdict = judge([record], session.launches, baseline, rule, "").verdict
        if verdict.bearing is not None:
            by_session: dict[str, list[Record]] = {}
            for of, one in here:
                by_session.setdefault(of.name, []).append(one)
            widest = max(launch_spread(launches) for launches in by_session.values())
            verdicts.append(Judged(record, verdict, verdict.bearing, len(here), widest))
    return verdicts


def _family_rows(family: str, members: Sequence[Judged]) -> list[tuple[str, ...]]:
    """A row for each number of sessions that cases of the family have."""
    rows: list[tuple[str, ...]] = []
    for sessions in dict.fromkeys(case.bearing.sessions for case in members):
        alike = [case for case in members if case.bearing.sessions == sessions]
        bearings = [case.bearing for case in alike]
        assumed = " assumed" if all(bearing.assumed for bearing in bearings) else ""
        rows.append(
            (
                family,
                str(len(alike)),
                str(sessions),
                _percent(bearing.launch for bearing in bearings),
                between_sessions(bearings) + assumed,
                _percent(case.verdict.limit for case in alike),
                _further(bearings),
            )
        )
    return rows


def _further(bearings: Sequence[Bearing]) -> str:
    """Of the case that needs most: `4 more`, `enough`, or `–` where no number of sessions would do."""
    needed = [bearing.sessions_for_one_percent for bearing in bearings]
    if None in needed:
        return "–"
    most = max(number or 0 for number in needed) - bearings[0].sessions
    return f"{most} more" if most > 0 else "enough"


def _percent(shares: Iterable[float | None]) -> str:
    """Two significant digits, `0.24` or `2.1 to 2.4`."""
    ends = sorted(share for share in shares if share is not None)
    return " to ".join(dict.fromkeys(f"{end * 100:.2g}" for end in (ends[0], ends[-1]))) if ends else "?"
