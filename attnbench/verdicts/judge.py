"""From records and stored sessions to a Verdict: what is compared, what is not, and what else differs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from attnbench.model import REPOSITORY, Bearing, Judgement, Launch, Reason, Record, Verdict
from attnbench.storage.sessions import HOST_TIMER, Baseline, Session, once
from attnbench.units import change, mebibytes
from attnbench.verdicts import autotuned, code_lines
from attnbench.verdicts.decision import Rule, compare
from attnbench.verdicts.noise import scatter_of
from attnbench.verdicts.summary import CYCLES, SECONDS, Reading, reading

#: By how much an error may exceed every stored one, inside the tolerance too: it repeats to 1e-8 between launches and units.
ERROR_GROWTH = 0.005
#: The same where another order of summation is to be expected: in fp32, of whose error rounding is the whole, and where
#: other kernels ran.
REORDERED_GROWTH = 0.05
#: By how much the workspace may exceed every stored one, as a share and in bytes, whichever is more: it repeats to 0.5 %,
#: and 2 MiB is the block in which torch's allocator takes small tensors.
WORKSPACE_GROWTH, WORKSPACE_BYTES = 0.01, 2 * 2**20
#: The reason of a stored case that was selected and has no latency here.
NOT_MEASURED = "not-measured"
#: The reason where the fingerprint of the sessions that hold the case is another one.
SET_UP = "fingerprint"
#: The reason where no stored launch made the autotune choices of ours, and what more may be said of that.
CHOICES, CHOICES_AGAIN = "choices", "choices-again"


@dataclass(frozen=True)
class Judged:
    """A verdict, and whether a fresh launch could still change it.

    other_choices: whether it is *incomparable* only because no stored launch made the autotune choices of ours.
    """

    verdict: Verdict
    suspect: bool = False
    other_choices: bool = False


def judge(
    records: Sequence[Record], launches: Mapping[str, Launch], baseline: Baseline, rule: Rule, reproduce: str
) -> Judged:
    """Hold the measured launches of one case against the baseline. Raises ValueError for a record without a sample.

    Only the newest line of the stored launches counts, those that measured one version of the code (code_lines.py). Of these
    a launch of ours is held against all that made the same autotune choices in the kernels that matter. Where ours made
    several choices, those of each are judged by themselves, and the worst verdict is the case's.
    """
    first = records[0]
    stored = baseline.records.get(first.case, ())
    plain = Verdict(first.case, Judgement.NO_BASELINE, launches=len(records), reproduce=reproduce, nodeid=first.nodeid)
    if not stored:
        return Judged(_without(plain, first, baseline))
    same_inputs = [(session, theirs) for session, theirs in stored if _same_inputs(first, theirs)]
    if not same_inputs:
        text = (
            f"the inputs differ: SHA-256 {str(first.input_sha256)[:12]} here, {str(stored[-1][1].input_sha256)[:12]} "
            f"in {stored[-1][0].name}"
        )
        return Judged(_changed(plain, Judgement.INCOMPARABLE, Reason("inputs", text)))
    unit = _unit(records, launches)
    line, older = code_lines.baseline_line(same_inputs, unit)
    newer = code_lines.newer_elsewhere(same_inputs, line, unit)
    history = tuple(f"{launched[0][0].name}: {code_lines.difference(launched, line)}" for launched in older)
    plain = replace(plain, history=history)
    records = [*once(records), *(record for record in records if record.sample is None)]
    small = autotuned.negligible([*records, *(theirs for _, theirs in line)])
    groups: list[tuple[list[Record], list[tuple[Session, Record]]]] = []
    left = records
    while left:
        ours = autotuned.alike(left[0], left, small)
        fitting = [(s, theirs) for s, theirs in line if not autotuned.other_choices(ours[0], theirs, small)]
        groups += [(ours, fitting)] if fitting else []
        left = [record for record in left if not any(record is one for one in ours)]
    if not groups:
        return Judged(_other_choices(plain, records, line, small), other_choices=True)
    rule = replace(rule, cases=rule.cases * len(groups))  # each of them may be called regressed
    found = [_compared(ours, fitting, launches, baseline, rule, plain) for ours, fitting in groups]
    worst = min(found, key=_how_bad)
    counted = groups[found.index(worst)][0]
    notes = (*_not_counted(counted, records, small), *([newer] if newer else []))
    return replace(worst, verdict=replace(worst.verdict, notes=(*worst.verdict.notes, *notes)))


def _how_bad(judged: Judged) -> tuple[bool, bool, float]:
    """Sorts the worst first."""
    kind = judged.verdict.kind
    return kind is not Judgement.REGRESSED, kind is not Judgement.INCONCLUSIVE, -(judged.verdict.change or 0.0)


def _compared(
    records: Sequence[Record],
    fitting: Sequence[tuple[Session, Record]],
    launches: Mapping[str, Launch],
    baseline: Baseline,
    rule: Rule,
    plain: Verdict,
) -> Judged:
    """The verdict on launches of one case that can be held against these stored ones."""
    first = records[0]
    ours = [reading(record, launches.get(record.launch)) for record in records]
    theirs = [reading(record, session.launches.get(record.launch), session.name) for session, record in fitting]
    found = compare(ours, theirs, rule, scatter_of(baseline))
    compared = [one for one in theirs if not found.known_unit or one.unit == ours[0].unit]
    names = tuple(dict.fromkeys(one.session for one in compared))
    session, latest = next((s, r) for s, r in reversed(fitting) if s.name == names[-1])
    baseline_s, measured_s = found.base_s, found.ours_s
    found_s = measured_s if found.said.measure == SECONDS else baseline_s * (1 + found.said.value)
    verdict = replace(
        plain,
        kind=found.kind,
        reasons=found.reasons,
        baseline_s=baseline_s,
        found_s=found_s,
        measured_s=measured_s,
        measure=found.said.measure,
        change=found.said.value,
        clock_change=_clock_change(ours, compared) if found.said.measure == CYCLES else None,
        low=found.said.low if math.isfinite(found.said.high) else None,
        high=_finite(found.said.high),
        limit=found.limit,
        known_unit=found.known_unit,
        carried=_finite(found.carried),
        bearing=_stored_bearing(found.bearing),
        found_by=_finite(found.found_by),
        launches=len(records),
        compared_with=names,
        notes=(*_notes(first, launches.get(first.launch), latest, session), *baseline.repeated),
    )
    stored = [record for _, record in fitting]
    verdict = replace(verdict, notes=(*verdict.notes, *_not_held(first, stored)))
    worse = (*_less_accurate(first, stored), *_more_workspace(records, stored))
    if worse:  # the same inputs give the same output in the same memory: there is nothing to measure again, on any unit
        latency = tuple(reason for reason in found.reasons if reason.code != "unknown-unit")
        return Judged(replace(verdict, kind=Judgement.REGRESSED, reasons=(*worse, *latency)))
    return Judged(verdict, found.suspect)


def _unit(records: Sequence[Record], launches: Mapping[str, Launch]) -> str | None:
    """The unit of our launches; None where it is unknown, or there are several."""
    of = [launches.get(record.launch) for record in records if record.sample is not None]
    units = {launch.unit if launch else None for launch in of}
    return units.pop() if len(units) == 1 else None


def _stored_bearing(found: Bearing | None) -> Bearing | None:
    """As it is stored, where JSON has no infinity."""
    if found is None or not (math.isfinite(found.occasion) and math.isfinite(found.launch)):
        return None
    return found


def _other_choices(
    plain: Verdict, records: Sequence[Record], stored: Sequence[tuple[Session, Record]], small: frozenset[str]
) -> Verdict:
    here = {line for record in records for line in autotuned.lines(record, small)}
    there = {line for _, record in stored for line in autotuned.lines(record, small)}
    text = f"no stored launch made these autotune choices: {autotuned.told_apart(here, there)}"
    return _changed(plain, Judgement.INCOMPARABLE, Reason(CHOICES, text))


def _not_counted(counted: Sequence[Record], records: Sequence[Record], small: frozenset[str]) -> tuple[str, ...]:
    """What is said of our launches that are not in the verdict, as they made other autotune choices."""
    others = [record for record in records if not any(record is one for one in counted)]
    if not others:
        return ()
    ours = {line for record in counted for line in autotuned.lines(record, small)}
    theirs = {line for record in others for line in autotuned.lines(record, small)} - ours
    several = f"{len(others)} launches of this run are" if len(others) > 1 else "1 launch of this run is"
    return (f"{several} not counted, for other autotune choices: {', '.join(sorted(theirs))}",)


def _clock_change(ours: Sequence[Reading], theirs: Sequence[Reading]) -> float:
    """By how much, relative, the SM clock during the calls of ours was above that of the stored ones."""
    logs = [fmean(r.estimates[CYCLES].log - r.estimates[SECONDS].log for r in side) for side in (ours, theirs)]
    return math.expm1(logs[0] - logs[1])


def _less_accurate(ours: Record, stored: Sequence[Record]) -> tuple[Reason, ...]:
    """Every distribution on which the error grew past that of all stored launches by more than is tolerated."""
    here, there = code_lines.kernels(ours), [code_lines.kernels(record) for record in stored]
    other_kernels = bool(here) and all(there) and here not in there
    growth, why = ERROR_GROWTH, ""
    if ours.workload.dtype == "fp32":
        growth, why = REORDERED_GROWTH, " in fp32"
    elif other_kernels:
        growth, why = REORDERED_GROWTH, " where other kernels ran"
    reasons = []
    for check in ours.checks:
        before = [c.error for record in stored for c in record.checks if c.distribution == check.distribution]
        for metric in ("rel_l1", "rel_l2") if before else ():
            now, then = getattr(check.error, metric), max(getattr(error, metric) for error in before)
            if now > (1 + growth) * then:
                by = f" ({change(round(now / then - 1, 5))})" if then else ""
                text = (
                    f"less accurate: {metric} {now:.4g} on {check.distribution} inputs, {then:.4g} in the baseline{by}, "
                    f"where {change(growth)} is tolerated{why}"
                )
                reasons.append(Reason("accuracy", text))
    return tuple(reasons)


def _more_workspace(ours: Sequence[Record], stored: Sequence[Record]) -> tuple[Reason, ...]:
    """Why the peak memory of a call is more than that of every stored launch, in each of ours; empty where it is not."""
    here = [record.workspace_bytes for record in ours if record.workspace_bytes is not None]
    there = [record.workspace_bytes for record in stored if record.workspace_bytes is not None]
    if not here or not there:
        return ()
    now, then = min(here), max(there)
    allowed = then + max(WORKSPACE_GROWTH * then, WORKSPACE_BYTES)
    if now <= allowed:
        return ()
    text = (
        f"more workspace: {mebibytes(now)} MiB, {mebibytes(then)} MiB in the baseline, where {mebibytes(round(allowed))} "
        "MiB are allowed"
    )
    return (Reason("workspace", text),)


def _not_held(ours: Record, stored: Sequence[Record]) -> tuple[str, ...]:
    """What was measured of this case, and cannot be held against any stored launch: its error, its workspace."""
    known = {check.distribution for record in stored for check in record.checks}
    lacking = [check.distribution for check in ours.checks if check.distribution not in known]
    notes = [f"accuracy not compared on {', '.join(lacking)} inputs: no stored launch has it"] if lacking else []
    if ours.workspace_bytes is not None and all(record.workspace_bytes is None for record in stored):
        notes.append("workspace not compared: no stored launch has it")
    return tuple(notes)


def missing(record: Record, baseline: Baseline, reproduce: str) -> Verdict | None:
    """The verdict on a selected case that was not measured: *missing* where the baseline has it, else None."""
    stored = baseline.records.get(record.case)
    if record.sample is not None or not stored:
        return None
    why = "; ".join(reason.text for reason in record.reasons) or f"status {record.status}"
    text = f"in {stored[-1][0].name}, and {record.status} here: {why}"
    reason = Reason(NOT_MEASURED, text)
    return Verdict(record.case, Judgement.MISSING, (reason,), reproduce=reproduce, nodeid=record.nodeid)


def _without(plain: Verdict, ours: Record, baseline: Baseline) -> Verdict:
    """No session holds the case: *incomparable* where one of another fingerprint does, else *no-baseline*.

    The reason names every session with the same difference, whichever of them holds the case: so all cases share it.
    """
    for session, differing in reversed(baseline.unfit):
        if any(record.case == plain.case and record.sample for record in session.run.records):
            alike = [other.name for other, theirs in baseline.unfit if theirs == differing]
            text = (
                f"{_listed(alike)} cannot be compared with this run: {', '.join(differing)}. "
                "Record a session with attnbench record"
            )
            return _changed(plain, Judgement.INCOMPARABLE, Reason(SET_UP, text))
    stored = baseline.sessions or baseline.unfit
    text = (
        "no stored session holds this case" if stored else f"no session of this device is stored; {_how_to_store(ours)}"
    )
    return _changed(plain, Judgement.NO_BASELINE, Reason("not-stored", text))


def _how_to_store(ours: Record) -> str:
    on_cpu = ours.sample is not None and ours.sample.timer == HOST_TIMER
    return "CPU timings cannot be a baseline" if on_cpu else "record one with scripts/record_baseline"


def _listed(names: Sequence[str], most: int = 4) -> str:
    """Sessions of one folder, which is said once: `nvidia-h200/0001_a.json, 0002_b.json and 3 more`."""
    files = [names[0], *(name.rpartition("/")[2] for name in names[1:])]
    if len(files) > most:
        files = [*files[: most - 1], f"{len(files) - most + 1} more"]
    return " and ".join([*([", ".join(files[:-1])] if files[1:] else []), files[-1]])


def _changed(plain: Verdict, kind: Judgement, reason: Reason) -> Verdict:
    return replace(plain, kind=kind, reasons=(reason,))


def _same_inputs(ours: Record, theirs: Record) -> bool:
    """Whether both were timed on the same bytes; unknown on one side is no difference."""
    return None in (ours.input_sha256, theirs.input_sha256) or ours.input_sha256 == theirs.input_sha256


def _notes(ours: Record, launch: Launch | None, theirs: Record, session: Session) -> tuple[str, ...]:
    """What else differs from the latest stored launch that made the same choices: the kernels that ran, and versions."""
    notes = []
    if ours.source and theirs.source and ours.source != theirs.source:
        notes.append(f"loaded {ours.source}; the baseline's was {theirs.source}")
    here, there = code_lines.kernels(ours), code_lines.kernels(theirs)
    if here and there and here != there:
        notes.append(f"other kernels ran: {autotuned.difference(here, there)}")
    now, then = code_lines.versions(ours, launch), code_lines.versions(theirs, session.launches.get(theirs.launch))
    differing = [name for name in now if name in then and now[name] != then[name]]
    differing = [name for name in differing if name != REPOSITORY]  # it is another one in every change
    notes += [f"{name} {now[name]}, the baseline's was {then[name]}" for name in differing]
    if ours.injected is not None:
        notes.append(f"INJECTED {change(ours.injected)}")
    return tuple(notes)


def _finite(value: float) -> float | None:
    """None where the rounds are too few to tell: JSON has no infinity."""
    return value if math.isfinite(value) else None
