"""One row per case and test from its records in several launches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

from attnbench import stats
from attnbench.model import Record, Sample, SustainedLoad
from attnbench.verdicts import autotuned
from attnbench.workload import Workload


def pooled(records: Sequence[Record]) -> list[Record]:
    """The records, one per case and test in order of first appearance.

    What was slowed down on purpose (--attn-inject) is a row of its own, beside the case as it is.

    The rounds of all launches are one sample, as pytest-benchmark's entry of the case has them, but for launches that
    made other autotune choices than the first: those ran other kernels. A case that one launch could not measure is that
    launch's record: a latency from the others would hide it.
    """
    return [_one(launches) for launches in _rows(records)]


def pooled_median_s(records: Sequence[Record]) -> float | None:
    """Median seconds over the rounds of the first row of `pooled` that has a latency; None without one.

    That row is what tables and plots show, so whoever tells the latency of a case takes it from here.
    """
    timed = (row.sample for row in pooled(records) if row.sample is not None)
    return next((stats.median_s(sample.rounds_s) for sample in timed), None)


def launches(records: Sequence[Record]) -> list[int]:
    """Number of launches behind each row of `pooled`; rows without rounds are left out."""
    rows = (_alike([r for r in mine if r.sample is not None]) for mine in _rows(records))
    return [len(row) for row in rows if row]


def numbered_tests(records: Sequence[Record]) -> Mapping[str, int]:
    """Node id → number of the test among the tests of its case, from 1; cases in a single test are left out."""
    cases: dict[str, dict[str, None]] = {}
    for record in records:
        cases.setdefault(record.case, {})[record.nodeid] = None
    several = (nodeids for nodeids in cases.values() if len(nodeids) > 1)
    return {nodeid: number for nodeids in several for number, nodeid in enumerate(nodeids, 1)}


def marked(nodeid: str, numbers: Mapping[str, int]) -> str:
    """` (test 2)`, or nothing for the only test of a case."""
    return f" (test {numbers[nodeid]})" if nodeid in numbers else ""


def _rows(records: Sequence[Record]) -> list[list[Record]]:
    """Records by case and test, one for each launch, however often a file repeats it; those slowed down alike together.

    A name that stood for another problem in another run makes another case. A record without a latency belongs to the row
    of its case that came first: it may have ended before anything could slow it down.
    """
    by_test: dict[tuple[str, str, Workload], dict[str, Record]] = {}
    for record in records:
        by_test.setdefault((record.case, record.nodeid, record.workload), {}).setdefault(record.launch, record)
    return [row for mine in by_test.values() for row in _by_injection(list(mine.values()))]


def _by_injection(records: Sequence[Record]) -> list[list[Record]]:
    first, *others = dict.fromkeys(record.injected for record in records if record.sample is not None) or (None,)
    rows = [[record for record in records if record.sample is None or record.injected == first]]
    return rows + [[r for r in records if r.sample is not None and r.injected == share] for share in others]


def _one(records: Sequence[Record]) -> Record:
    samples = [record.sample for record in _alike(records) if record.sample is not None]
    if len(records) == 1 or any(record.sample is None for record in records):
        return next((record for record in records if record.sample is None), records[0])
    loads = [record.sustained for record in _alike(records) if record.sustained is not None]
    return replace(records[0], sample=_sample(samples), sustained=_load(loads) if loads else None)


def _alike(records: Sequence[Record]) -> Sequence[Record]:
    """Those that made the same autotune choices as the first."""
    return (
        autotuned.with_same_choices(records[0], records, autotuned.negligible(records)) if len(records) > 1 else records
    )


def _sample(samples: Sequence[Sample]) -> Sample:
    return replace(
        samples[0],
        rounds_s=tuple(round_s for sample in samples for round_s in sample.rounds_s),
        before_hz=tuple(hz for sample in samples for hz in sample.before_hz),
        cycles=tuple(cycles for sample in samples for cycles in sample.cycles),
        waited_s=sum(sample.waited_s for sample in samples),
        unsettled=sum(sample.unsettled for sample in samples),
        unequal=sum(sample.unequal for sample in samples),
        synchronising=any(sample.synchronising for sample in samples),
        self_throttled=any(sample.self_throttled for sample in samples),
    )


def _load(loads: Sequence[SustainedLoad]) -> SustainedLoad:
    """Medians over the launches, whose batches are not stored; counts and seconds are sums.

    The note says why a figure is absent, so it goes where another launch has that figure.
    """

    def middle(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return median(known) if known else None

    power_w, joules = middle([load.power_w for load in loads]), middle([load.joules for load in loads])
    lacking = (power_w is None, joules is None)
    of_what_lacks = (load.note for load in loads if (load.power_w is None, load.joules is None) == lacking)
    return replace(
        loads[0],
        median_s=median(load.median_s for load in loads),
        low_s=median(load.low_s for load in loads),
        high_s=median(load.high_s for load in loads),
        calls=sum(load.calls for load in loads),
        batches=sum(load.batches for load in loads),
        loaded_s=sum(load.loaded_s for load in loads),
        lead_s=max(load.lead_s for load in loads),
        steady=all(load.steady for load in loads),
        drift=median(load.drift for load in loads),
        starved=sum(load.starved for load in loads),
        power_w=power_w,
        joules=joules,
        energy_s=middle([load.energy_s for load in loads]),
        clock_hz=middle([load.clock_hz for load in loads]),
        temperature_c=middle([load.temperature_c for load in loads]),
        held_by=tuple(dict.fromkeys(word for load in loads for word in load.held_by)),
        note=next(filter(None, of_what_lacks), "") if any(lacking) else "",
    )
