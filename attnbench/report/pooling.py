"""One row per case from its records in several launches (layer 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from attnbench.model import Record, Sample


def pooled(records: Sequence[Record]) -> list[Record]:
    """The records, one per case in order of first appearance.

    The rounds of all launches are one sample, as pytest-benchmark's entry of the case has them. A case that one launch
    could not measure is that launch's record: a latency from the others would hide it.
    """
    cases: dict[str, list[Record]] = {}
    for record in records:
        cases.setdefault(record.case, []).append(record)
    return [_one(launches) for launches in cases.values()]


def _one(records: Sequence[Record]) -> Record:
    samples = [record.sample for record in records if record.sample is not None]
    if len(records) == 1 or len(samples) < len(records):
        return next((record for record in records if record.sample is None), records[0])
    return replace(records[0], sample=_sample(samples))


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
