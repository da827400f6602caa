"""From records and stored sessions to a Verdict: what is compared, what is not, and what else differs.

"Verdicts" in docs/method.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from statistics import fmean

from attnbench.model import REPOSITORY, Bearing, Launch, Reason, Record, Verdict, VerdictKind
from attnbench.storage.sessions import HOST_TIMER, Baseline, Session, is_short, one_per_launch
from attnbench.units import format_change
from attnbench.verdicts import autotuned, code_versions, explanation, repeatable
from attnbench.verdicts.decision import decide
from attnbench.verdicts.noise import noise_model_of
from attnbench.verdicts.rule import Rule
from attnbench.verdicts.summary import CYCLES, SECONDS, SampleSummary, summarise

#: Code of the reason where only sessions with another fingerprint hold the case.
SET_UP = "fingerprint"
#: Code of the reason where the stored case of this name has a workload with other fields.
PROBLEM = "workload"
#: Code of the reason of a stored case that was selected and has no latency here.
NOT_MEASURED = "not-measured"
#: Codes of the reasons where no stored launch made the autotune choices of this run, and what was done about that.
CHOICES, CHOICES_AGAIN = "choices", "choices-again"


@dataclass(frozen=True)
class Judged:
    """A verdict, and whether a fresh launch could still change it.

    other_choices: whether it is *incomparable* only because no stored launch made the autotune choices of this run.
    """

    verdict: Verdict
    suspect: bool = False
    other_choices: bool = False


@dataclass(frozen=True)
class _Group:
    """Launches of this run that made the same autotune choices, and the stored launches that made them too."""

    ours: list[Record]
    stored: list[tuple[Session, Record]]


def judge(
    records: Sequence[Record], launches: Mapping[str, Launch], baseline: Baseline, rule: Rule, reproduce: str
) -> Judged:
    """Compare the measured launches of one case with the baseline. Raises ValueError for a record without a sample.

    Only stored launches of the newest code version count (code_versions.py). A launch of this run is compared with those of
    them that made the same autotune choices in the kernels that matter. If this run made several choices, each is judged by
    itself, and the worst verdict is the case's.
    """
    first = records[0]
    plain = Verdict(
        first.case, VerdictKind.NO_BASELINE, launches=len(records), reproduce=reproduce, nodeid=first.nodeid
    )
    stored = baseline.records.get(first.case, ())
    if not stored:
        return Judged(_not_stored(plain, first, baseline))
    same_problem = [
        (session, record) for session, record in stored if record.workload.problem == first.workload.problem
    ]
    if not same_problem:
        return Judged(_other_problem(plain, first, *stored[-1]))
    same_inputs = [(session, record) for session, record in same_problem if _same_inputs(first, record)]
    if not same_inputs:
        return Judged(_other_inputs(plain, first, *same_problem[-1]))
    unit = _unit(records, launches)
    version, older = code_versions.baseline_version(same_inputs, unit)
    plain = replace(plain, history=_history(older, version))
    distinct = [*one_per_launch(records), *(record for record in records if record.sample is None)]
    small = autotuned.negligible([*distinct, *(record for _, record in version)])
    groups = _by_choices(distinct, version, small)
    if not groups:
        return Judged(_other_choices(plain, distinct, version, small), other_choices=True)
    # Each group may be called regressed, so each counts as a case.
    rule_of_group = replace(rule, cases=rule.cases * len(groups))
    judged = [(_judge_group(group, launches, baseline, rule_of_group, plain), group) for group in groups]
    worst, counted = min(judged, key=lambda one: _worst_first(one[0].verdict))
    newer = code_versions.newer_elsewhere(same_inputs, version, unit)
    notes = (*worst.verdict.notes, *_not_counted(counted.ours, distinct, small), *([newer] if newer else []))
    return replace(worst, verdict=replace(worst.verdict, notes=notes))


def missing(record: Record, baseline: Baseline, reproduce: str) -> Verdict | None:
    """The verdict on a selected case that was not measured: *missing* if the baseline has it, otherwise None."""
    stored = baseline.records.get(record.case)
    if record.sample is not None or not stored:
        return None
    why = "; ".join(reason.text for reason in record.reasons) or f"status {record.status}"
    text = f"in {stored[-1][0].name}, and {record.status} here: {why}"
    reason = Reason(NOT_MEASURED, text)
    return Verdict(record.case, VerdictKind.MISSING, (reason,), reproduce=reproduce, nodeid=record.nodeid)


def _by_choices(
    records: Sequence[Record], stored: Sequence[tuple[Session, Record]], small: frozenset[str]
) -> list[_Group]:
    """This run's launches by autotune choices, without those whose choices no stored launch made."""
    groups = []
    left = list(records)
    while left:
        ours = autotuned.with_same_choices(left[0], left, small)
        same = [(s, record) for s, record in stored if not autotuned.chose_differently(ours[0], record, small)]
        groups += [_Group(ours, same)] if same else []
        left = _without(ours, left)
    return groups


def _worst_first(verdict: Verdict) -> tuple[bool, bool, float]:
    """Sort key."""
    kind = verdict.kind
    return kind is not VerdictKind.REGRESSED, kind is not VerdictKind.INCONCLUSIVE, -(verdict.change or 0.0)


def _judge_group(
    group: _Group, launches: Mapping[str, Launch], baseline: Baseline, rule: Rule, plain: Verdict
) -> Judged:
    """The verdict on launches of one case that can be compared with the stored ones of their group.

    A worse accuracy or workspace needs no further launch, on any unit: the same inputs give the same output in the same
    memory.
    """
    first, stored = group.ours[0], [record for _, record in group.stored]
    ours = [summarise(record, launches.get(record.launch)) for record in group.ours]
    theirs = [summarise(record, s.launches.get(record.launch), s.name) for s, record in group.stored]
    decision = decide(ours, theirs, rule, noise_model_of(baseline))
    worse = (*repeatable.less_accurate(first, stored), *repeatable.more_workspace(group.ours, stored))
    compared = [one for one in theirs if not decision.known_unit or one.unit == ours[0].unit]
    names = tuple(dict.fromkeys(one.session for one in compared))
    session, latest = next((s, record) for s, record in reversed(group.stored) if s.name == names[-1])
    delta = decision.delta
    verdict = replace(
        plain,
        kind=VerdictKind.REGRESSED if worse else decision.kind,
        reasons=_with_latency(worse, tuple(_placed(reason, group) for reason in decision.reasons)),
        baseline_s=decision.base_s,
        found_s=decision.ours_s if delta.measure == SECONDS else decision.base_s * (1 + delta.value),
        measured_s=decision.ours_s,
        measure=delta.measure,
        change=delta.value,
        clock_change=_clock_change(ours, compared) if delta.measure == CYCLES else None,
        low=delta.low if math.isfinite(delta.high) else None,
        high=_finite(delta.high),
        limit=decision.limit,
        known_unit=decision.known_unit,
        carried=_finite(decision.carried),
        bearing=_stored_bearing(decision.bearing),
        found_by=_finite(decision.found_by),
        launches=len(group.ours),
        compared_with=names,
        chose=_other_choice(first, latest),
        notes=(
            *_differences(first, launches.get(first.launch), latest, session),
            *baseline.repeated,
            *baseline.short.get(first.case, ()),
            *repeatable.not_compared(first, stored),
        ),
    )
    return Judged(verdict, suspect=decision.suspect and not worse)


def _with_latency(worse: tuple[Reason, ...], latency: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """The reasons of a verdict. A case that is worse in accuracy or workspace is decided on an unknown unit, too."""
    return (*worse, *(reason for reason in latency if reason.code != "unknown-unit")) if worse else latency


def _placed(reason: Reason, group: _Group) -> Reason:
    """A reason that is about too few rounds, with whose they are."""
    if reason.code != explanation.ROUNDS:
        return reason
    places = ["this run"] if any(is_short(record) for record in group.ours) else []
    places += dict.fromkeys(session.name for session, record in group.stored if is_short(record))
    return replace(reason, text=f"{reason.text} ({', '.join(places)})")


def _unit(records: Sequence[Record], launches: Mapping[str, Launch]) -> str | None:
    """The unit of this run's launches; None if it is unknown, or there are several."""
    measured_in = [launches.get(record.launch) for record in records if record.sample is not None]
    units = {launch.unit if launch else None for launch in measured_in}
    return units.pop() if len(units) == 1 else None


def _same_inputs(ours: Record, theirs: Record) -> bool:
    """Whether both were timed on the same bytes; unknown on one side is no difference."""
    return None in (ours.input_sha256, theirs.input_sha256) or ours.input_sha256 == theirs.input_sha256


def _without(some: Sequence[Record], records: Sequence[Record]) -> list[Record]:
    """The records that are not among `some`, by identity."""
    return [record for record in records if not any(record is one for one in some)]


def _stored_bearing(bearing: Bearing | None) -> Bearing | None:
    """As it is stored: JSON has no infinity."""
    if bearing is None or not (math.isfinite(bearing.occasion) and math.isfinite(bearing.launch)):
        return None
    return bearing


def _finite(value: float) -> float | None:
    """None if the rounds are too few to tell: JSON has no infinity."""
    return value if math.isfinite(value) else None


def _clock_change(ours: Sequence[SampleSummary], theirs: Sequence[SampleSummary]) -> float:
    """The SM clock during this run's calls over that during the stored ones, minus one."""
    logs = [fmean(one.estimates[CYCLES].log - one.estimates[SECONDS].log for one in side) for side in (ours, theirs)]
    return math.expm1(logs[0] - logs[1])


def _history(
    older: Sequence[Sequence[tuple[Session, Record]]], version: Sequence[tuple[Session, Record]]
) -> tuple[str, ...]:
    """The sessions of other code versions, each with what differs."""
    return tuple(f"{launches[0][0].name}: {code_versions.describe_difference(launches, version)}" for launches in older)


def _not_stored(plain: Verdict, ours: Record, baseline: Baseline) -> Verdict:
    """No session holds the case: *incomparable* if one with another fingerprint does, otherwise *no-baseline*.

    The reason names every session with the same difference, whichever of them holds the case, so all cases share it.
    """
    for session, differing in reversed(baseline.unfit):
        if any(record.case == plain.case and record.sample for record in session.run.records):
            alike = [other.name for other, theirs in baseline.unfit if theirs == differing]
            text = (
                f"{_listed(alike)} cannot be compared with this run: {', '.join(differing)}. "
                "Record a session with attnbench record"
            )
            return _not_judged(plain, VerdictKind.INCOMPARABLE, Reason(SET_UP, text))
    stored = baseline.sessions or baseline.unfit
    text = (
        "no stored session holds this case" if stored else f"no session of this device is stored; {_how_to_store(ours)}"
    )
    return _not_judged(plain, VerdictKind.NO_BASELINE, Reason("not-stored", text))


def _how_to_store(ours: Record) -> str:
    on_cpu = ours.sample is not None and ours.sample.timer == HOST_TIMER
    return "CPU timings cannot be a baseline" if on_cpu else "record one with attnbench record"


def _listed(names: Sequence[str], most: int = 4) -> str:
    """Sessions of one folder, which is named once: `nvidia-h200/0001_a.json, 0002_b.json and 3 more`."""
    files = [names[0], *(name.rpartition("/")[2] for name in names[1:])]
    if len(files) > most:
        files = [*files[: most - 1], f"{len(files) - most + 1} more"]
    return " and ".join([*([", ".join(files[:-1])] if files[1:] else []), files[-1]])


def _other_problem(plain: Verdict, ours: Record, session: Session, theirs: Record) -> Verdict:
    here, there = ours.workload.problem, theirs.workload.problem
    differing = [one.name for one in fields(here) if getattr(here, one.name) != getattr(there, one.name)]
    text = ", ".join(
        f"{name} {getattr(here, name)} here, {getattr(there, name)} in {session.name}" for name in differing
    )
    return _not_judged(plain, VerdictKind.INCOMPARABLE, Reason(PROBLEM, f"the workload has other fields: {text}"))


def _other_inputs(plain: Verdict, ours: Record, session: Session, theirs: Record) -> Verdict:
    here, there = (str(record.input_sha256)[:12] for record in (ours, theirs))
    text = f"the inputs differ: SHA-256 {here} here, {there} in {session.name}"
    return _not_judged(plain, VerdictKind.INCOMPARABLE, Reason("inputs", text))


def _other_choices(
    plain: Verdict, records: Sequence[Record], stored: Sequence[tuple[Session, Record]], small: frozenset[str]
) -> Verdict:
    here = {choice for record in records for choice in autotuned.choices(record, small)}
    there = {choice for _, record in stored for choice in autotuned.choices(record, small)}
    text = f"no stored launch made these autotune choices: {autotuned.describe_choices(here, there)}"
    return _not_judged(plain, VerdictKind.INCOMPARABLE, Reason(CHOICES, text))


def _not_judged(plain: Verdict, kind: VerdictKind, reason: Reason) -> Verdict:
    return replace(plain, kind=kind, reasons=(reason,))


def _not_counted(counted: Sequence[Record], records: Sequence[Record], small: frozenset[str]) -> tuple[str, ...]:
    """A note on this run's launches that are not in the verdict because they made other autotune choices."""
    others = _without(counted, records)
    if not others:
        return ()
    ours = {choice for record in counted for choice in autotuned.choices(record, small)}
    theirs = {choice for record in others for choice in autotuned.choices(record, small)} - ours
    launches = f"{len(others)} launches of this run are" if len(others) > 1 else "1 launch of this run is"
    return (f"{launches} not counted, for other autotune choices: {', '.join(sorted(theirs))}",)


def _other_choice(ours: Record, theirs: Record) -> str:
    """Which kernel the backend's library chose, where the baseline's was another; unknown on one side is no difference."""
    if not ours.chose or not theirs.chose or ours.chose == theirs.chose:
        return ""
    return f"chose {ours.chose}, baseline {theirs.chose}"


def _differences(ours: Record, launch: Launch | None, theirs: Record, session: Session) -> tuple[str, ...]:
    """What else differs from the latest stored launch with the same choices: what was loaded, kernels that ran, versions."""
    notes = []
    if ours.source and theirs.source and ours.source != theirs.source:
        notes.append(f"loaded {ours.source}; the baseline's was {theirs.source}")
    here, there = code_versions.kernels(ours), code_versions.kernels(theirs)
    if here and there and here != there:
        notes.append(f"other kernels ran: {autotuned.describe_difference(here, there)}")
    now = code_versions.software_versions(ours, launch)
    then = code_versions.software_versions(theirs, session.launches.get(theirs.launch))
    differing = [name for name in now if name in then and now[name] != then[name]]
    # The repository's code differs in every change.
    notes += [f"{name} {now[name]}, the baseline's was {then[name]}" for name in differing if name != REPOSITORY]
    if ours.injected is not None:
        notes.append(f"INJECTED {format_change(ours.injected)}")
    return tuple(notes)
