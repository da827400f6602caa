"""What limits the verdicts of a run: what the baseline resolves and why, and slow-downs that all cases share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from statistics import median

from attnbench.model import Bearing, RunFile, Verdict
from attnbench.units import counted, signed_percent
from attnbench.verdicts.code_versions import SOFTWARE
from attnbench.verdicts.rule import AIM, MOST_LIMIT
from attnbench.verdicts.variance_components import SD_FLOOR

#: A run in which this share of at least so many compared cases, of at least so many families, is slower alike is slower as
#: a whole: by more than this, each by no farther from the median than this, or half of the median.
SHARED_BY, FEWEST_CASES, FEWEST_FAMILIES = 0.8, 5, 2
SHARED_SLOWDOWN, SHARED_BAND = 0.003, 0.002

_RECORD = "attnbench record"
_APART = "sessions that differ so much hide a 1 % change; remove one that measured other code or a busy GPU"


def carried(verdicts: Sequence[Verdict], details: bool = True) -> list[str]:
    """A sentence for each thing that limits the verdicts: which limit, of how many cases, why, and how to reach 1 %.

    details: also where the limit is 1 % already, and with what sessions are assumed to differ by.
    """
    compared = [verdict for verdict in verdicts if verdict.change is not None]
    known = [v for v in compared if v.known_unit and v.bearing is not None and v.carried is not None]
    sentences = []
    for members in _grouped(known, _cause):
        limit, cases = f"limit {_range(v.limit for v in members)} %", _cases(members, compared)
        bearings = [v.bearing for v in members if v.bearing is not None]
        why = _why(bearings, " and these versions" if any(v.history for v in members) else "", details)
        resolved = f"the baseline resolves {_range(v.carried for v in members)} % ({why})"
        if _is_below(members[0]):
            source = "the default maximum" if _is_capped(members[0]) else "--attn-limit"
            sentences.append(f"{limit} ({cases}{source}), but {resolved}: slow-downs in between may stay undecided")
        elif _is_raised(members[0]):
            sentences.append(f"{limit} ({cases}--attn-limit or the timer's resolution); {resolved}")
        elif details or _is_above_aim(members[0]):
            of = f" ({cases[:-2]})" if cases else ""
            sentences.append(f"{limit}{of}: {why}{_what_to_do(members, bearings)}")
    unknown = [verdict for verdict in compared if not verdict.known_unit]
    if unknown:
        cases = _cases(unknown, compared)
        of = f" ({cases[:-2]})" if cases else ""
        is_told = any(reason.code == "unknown-unit" for verdict in unknown for reason in verdict.reasons)
        sentences.append(
            f"limit {_range(v.limit for v in unknown)} %{of}: no session of this GPU, so slow-downs are only suspected"
            + ("" if is_told else f"; record one with {_RECORD}")
        )
    return sentences


def _cases(members: Sequence[Verdict], compared: Sequence[Verdict]) -> str:
    """`3 cases, `, or nothing where it is true of all."""
    return "" if len(members) == len(compared) else f"{counted(len(members), 'case')}, "


def details(run: RunFile) -> list[str]:
    """What -v adds: noise by family, and the sessions of other versions, with what differs."""
    families = {record.case: record.family for record in run.records}
    known = [v for v in run.verdicts if v.bearing is not None and v.change is not None]
    lines = []
    for members in _grouped(known, lambda v: (families.get(v.case, ""), v.bearing and v.bearing.sessions)):
        bearings = [v.bearing for v in members if v.bearing is not None]
        sessions = f"{between_sessions(bearings)} % between sessions"
        assumed = " (assumed)" if all(b.assumed for b in bearings) else ""
        lines.append(
            f"noise of {families.get(members[0].case, '')} ({counted(len(members), 'case')}, limit "
            f"{_range(v.limit for v in members)} %, {counted(bearings[0].sessions, 'session')}): "
            f"{_range(b.launch for b in bearings)} % between launches, {sessions}{assumed}"
        )
    older: dict[str, int] = {}
    for verdict in run.verdicts:
        for session in verdict.history:
            older[session] = older.get(session, 0) + 1
    if older:
        lines.append(f"not compared: {counted(len(older), 'older session')} of other versions")
        lines += [f"  {session} ({counted(count, 'case')})" for session, count in older.items()]
    return lines


def shared(run: RunFile) -> str:
    """That nearly all cases are slower by about the same, so that no kernel is the cause; empty where they are not."""
    records = {record.case: record for record in run.records}
    compared = [
        (verdict.change, verdict)
        for verdict in run.verdicts
        if verdict.change is not None and verdict.case in records and records[verdict.case].injected is None
    ]
    if len(compared) < FEWEST_CASES:
        return ""
    middle = median(change for change, _ in compared)
    band = max(SHARED_BAND, middle / 2)
    alike = [(change, verdict) for change, verdict in compared if abs(change - middle) <= band]
    families = {records[verdict.case].family for _, verdict in alike}
    if middle <= SHARED_SLOWDOWN or len(alike) < SHARED_BY * len(compared) or len(families) < FEWEST_FAMILIES:
        return ""
    ends = sorted(change for change, _ in alike)
    text = (
        f"{len(alike)} of {len(compared)} compared cases, in {len(families)} families, are slower by about "
        f"{signed_percent(middle)} % ({signed_percent(ends[0])} to {signed_percent(ends[-1])}): suspect the device or "
        "driver, not a kernel"
    )
    notes = [note for note in alike[0][1].notes if note.partition(" ")[0] in SOFTWARE]
    everywhere = [note for note in notes if all(note in verdict.notes for _, verdict in alike)]
    return f"{text}. All of them ran with {'; '.join(everywhere)}" if everywhere else text


def _cause(verdict: Verdict) -> Hashable:
    bearing = verdict.bearing
    assert bearing is not None
    reachable = bearing.sessions_for_one_percent is not None
    what_to_do = _is_above_aim(verdict) and (reachable, _sessions_differ_most(bearing))
    return bearing.sessions, bearing.assumed, what_to_do, _is_below(verdict), _is_raised(verdict)


def _is_above_aim(verdict: Verdict) -> bool:
    return verdict.carried is not None and verdict.carried > 1.0001 * AIM


def _is_below(verdict: Verdict) -> bool:
    """Whether the limit is smaller than what the baseline resolves."""
    return verdict.limit is not None and verdict.carried is not None and verdict.limit < 0.9999 * verdict.carried


def _is_capped(verdict: Verdict) -> bool:
    """Whether the limit is the default maximum."""
    return verdict.limit is not None and abs(verdict.limit - MOST_LIMIT) < 1e-9


def _is_raised(verdict: Verdict) -> bool:
    """Whether the limit is larger than what the baseline resolves, by --attn-limit or because the timer is coarse."""
    return verdict.limit is not None and verdict.limit > 1.0001 * max(AIM, verdict.carried or 0.0)


def _sessions_differ_most(bearing: Bearing) -> bool:
    """Whether differences between sessions limit the case more than those between launches."""
    return not bearing.assumed and bearing.occasion > bearing.launch


def _why(bearings: Sequence[Bearing], versions: str, details: bool) -> str:
    """What the limit comes from; `versions`: what else the sessions must match to count, beside this GPU."""
    sessions, differ = bearings[0].sessions, f"{between_sessions(bearings)} %"
    whose = f"{counted(sessions, 'session')} of this GPU{versions}"
    if bearings[0].assumed:
        return f"{whose} (sessions assumed to differ by {differ})" if details else whose
    if sessions == 1:
        return f"{whose} (sessions of the same family differ by {differ})"
    return f"{whose}, which differ by {differ}"


def _what_to_do(verdicts: Sequence[Verdict], bearings: Sequence[Bearing]) -> str:
    """How to reach a limit of 1 %, empty where it is reached."""
    if not _is_above_aim(verdicts[0]):
        return ""
    needed = [b.sessions_for_one_percent - b.sessions for b in bearings if b.sessions_for_one_percent is not None]
    if not needed and _sessions_differ_most(bearings[0]):
        return f"; {_APART}"
    if not needed:
        return f"; launches differ by {_range(b.launch for b in bearings)} %, so more sessions alone do not reach 1 %"
    fewest, most = max(1, min(needed)), max(1, *needed)
    more = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    agree = "agrees reaches" if most == 1 else "agree reach"
    return f"; {more} more that {agree} 1 % ({_RECORD} --sessions={most})"


def _grouped(verdicts: Iterable[Verdict], by: Callable[[Verdict], Hashable]) -> list[list[Verdict]]:
    groups: dict[Hashable, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(by(verdict), []).append(verdict)
    return list(groups.values())


def between_sessions(bearings: Sequence[Bearing]) -> str:
    """What sessions differ by, in percent: `0.24`, `0.051 to 0.068`, and `≤ 0.03` where that is the floor of the bound."""
    text = _range(bearing.occasion for bearing in bearings)
    is_floor = any(not bearing.assumed and bearing.occasion <= 1.0001 * SD_FLOOR for bearing in bearings)
    return f"≤ {text}" if is_floor else text


def _range(shares: Iterable[float | None]) -> str:
    """Shares in percent, two significant digits, `0.24` or `2.1 to 2.4`."""
    ends = sorted(share for share in shares if share is not None)
    texts = [f"{end * 100:.2g}" for end in (ends[0], ends[-1])] if ends else ["?"]
    return " to ".join(dict.fromkeys(texts))
