"""How far launches of one case differ by noise: between launches, sessions and units, as stored sessions show it.

Noise belongs to a family of backends and is never pooled over several: the kernels of one library share what sessions differ
by. "Noise" in docs/method.md says where each assumed value comes from.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from attnbench import stats
from attnbench.storage.sessions import Baseline
from attnbench.verdicts import autotuned, code_versions
from attnbench.verdicts.memory_share import memory_share_of
from attnbench.verdicts.summary import (
    CLOCK_RATIO,
    CYCLES,
    MEASURES,
    SECONDS,
    Estimate,
    SampleSummary,
    estimate_of,
    grouped,
    summarise,
    without_slow_launches,
)
from attnbench.verdicts.variance_components import CellMean, Table, VarianceComponents, variance_components


@dataclass(frozen=True)
class SdBounds:
    """How far sessions (or units) differ: two upper bounds on a relative standard deviation.

    convict: used where a case may be called regressed. acquit: used where a slow-down is ruled out, or promised to be found.
    assumed: whether `convict` is an assumption, because the sessions neither bound it to less nor show more. seen_in: the
    variances behind it.
    """

    convict: float
    acquit: float
    assumed: bool = True
    seen_in: VarianceComponents = field(default=VarianceComponents(), compare=False)

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the estimate."""
        return self.seen_in.freedom

    @property
    def seen(self) -> float | None:
        """The estimate itself, None where nothing was repeated."""
        return self.seen_in.sd if self.freedom else None


#: Which of the two bounds an error is computed with.
BoundOf = Callable[[SdBounds], float]


def to_convict(bounds: SdBounds) -> float:
    """The bound for the lower end."""
    return bounds.convict


def to_acquit(bounds: SdBounds) -> float:
    """The bound for the upper end, and for what is promised."""
    return bounds.acquit


@dataclass(frozen=True)
class NoiseSd:
    """Relative standard deviations of one measure of one family, beyond the scatter of the rounds.

    launch: between processes on one visit to a unit. session: between sessions on one unit. unit: between physical GPUs.
    """

    launch: float
    session: SdBounds
    unit: SdBounds


#: Confidence of the bound that convicts, and of the bound that acquits and promises.
CONVICT_CONFIDENCE, ACQUIT_CONFIDENCE = 0.9, 0.975
#: The assumed noise between launches, and its degrees of freedom when blended with what launches show: one case whose two
#: launches agree by chance is not believed to be quiet. The result is never below the floor.
LAUNCH, LAUNCH_FREEDOM, LAUNCH_FLOOR = 0.001, 10, 0.0004
#: Between launches of a call of 100 ms and more, which lowers its own clock: settled medians of one agreed to 0.7 %.
SELF_THROTTLED_LAUNCH = 0.004
#: Between sessions, until they show less. The second is the most that was seen between runs of one unit.
SESSION = SdBounds(convict=0.00236, acquit=0.0034)
#: Between units, until sessions show less: 0.3 to 1.1 % was seen by variant.
UNIT = SdBounds(convict=0.006, acquit=0.006)
#: Of the clock ratio between units. Between sessions it moves by steps, which the rule allows for.
CLOCK_RATIO_UNIT = SdBounds(convict=0.004, acquit=0.004)
ASSUMED = {
    SECONDS: NoiseSd(LAUNCH, SESSION, UNIT),
    CYCLES: NoiseSd(LAUNCH, SESSION, UNIT),
    CLOCK_RATIO: NoiseSd(LAUNCH, SdBounds(0.0, 0.0), CLOCK_RATIO_UNIT),
}


@dataclass(frozen=True)
class NoiseModel:
    """Noise by family and measure as the stored sessions show it; assumed values for a family that they do not hold."""

    families: Mapping[str, Mapping[str, NoiseSd]] = field(default_factory=dict)

    def sd(self, family: str, measure: str) -> NoiseSd:
        """The noise of one measure of one family."""
        return self.families.get(family, ASSUMED).get(measure, ASSUMED[measure])


@functools.lru_cache(maxsize=4)
def noise_model_of(baseline: Baseline) -> NoiseModel:
    """The noise that the stored launches show.

    Compared are launches of the same case, code version, autotune choices and inputs: only noise makes those differ.
    """
    alike: dict[tuple[object, ...], list[SampleSummary]] = defaultdict(list)
    for case, stored in baseline.records.items():
        small = autotuned.negligible(record for _, record in stored)
        for number, version in enumerate(code_versions.by_version(stored)):
            for session, record in version:
                summary = summarise(record, session.launches.get(record.launch), session.name)
                choices = autotuned.choices_key(record, small)
                alike[case, number, record.workload.problem, record.input_sha256, choices].append(summary)
    return noise_model(alike.values())


def noise_model(cases: Iterable[Sequence[SampleSummary]]) -> NoiseModel:
    """The noise of stored launches by family. cases: groups of launches that only noise makes differ.

    Calls that lower their own clock are left out: they have a floor of their own (`SELF_THROTTLED_LAUNCH`).
    """
    families: dict[str, list[Sequence[SampleSummary]]] = defaultdict(list)
    for summaries in cases:
        if summaries and not any(one.self_throttled for one in summaries):
            kept = [one for session in grouped(summaries, "session") for one in without_slow_launches(session)]
            families[summaries[0].family].append(kept)
    return NoiseModel({name: {m: _noise_sd(of_family, m) for m in MEASURES} for name, of_family in families.items()})


def bounded(seen_in: VarianceComponents, assumed: SdBounds) -> SdBounds:
    """The bounds that are used where sessions (or units) were repeated.

    Never less than what was seen, and otherwise no more than assumed. One degree of freedom bounds nothing: two sessions may
    agree by chance.
    """
    if seen_in.freedom > 1:
        convict, acquit = seen_in.upper_bound(CONVICT_CONFIDENCE), seen_in.upper_bound(ACQUIT_CONFIDENCE)
    else:
        convict, acquit = math.inf, math.inf
    return SdBounds(
        convict=max(seen_in.sd, min(convict, assumed.convict)),
        acquit=max(seen_in.sd, min(acquit, assumed.acquit)),
        assumed=seen_in.sd < assumed.convict < convict,
        seen_in=seen_in,
    )


def _noise_sd(cases: Sequence[Sequence[SampleSummary]], measure: str) -> NoiseSd:
    """The noise of one family in one measure."""
    assumed = ASSUMED[measure]
    shares = [memory_share_of(case).value for case in cases]
    numbered = list(enumerate(zip(cases, shares, strict=True)))
    launch = _launch_sd(
        _estimates(session, measure, share) for _, (case, share) in numbered for session in grouped(case, "session")
    )
    means = [
        _SessionMean(number, session[0].unit, session[0].session, _mean(estimates, launch))
        for number, (case, share) in numbered
        for unit in grouped(case, "unit")
        for session in grouped(unit, "session")
        if (estimates := _estimates(session, measure, share))
    ]
    # The clock ratio differs by clock steps between sessions, which the rule allows for.
    sessions = [] if measure == CLOCK_RATIO else _tables_of_sessions(means)
    return NoiseSd(launch, _sd_bounds(sessions, assumed.session), _sd_bounds(_table_of_units(means), assumed.unit))


@dataclass(frozen=True)
class _SessionMean:
    """What the launches of one case in one session on one unit show of a measure. case: its number."""

    case: int
    unit: str | None
    session: str
    mean: CellMean


def _estimates(session: Sequence[SampleSummary], measure: str, memory_share: float) -> list[Estimate]:
    """The estimates of a session's launches that have a finite error."""
    estimates = [estimate_of(one, measure, memory_share) for one in session]
    return [one for one in estimates if one is not None and math.isfinite(one.error)]


def _launch_sd(sessions: Iterable[Sequence[Estimate]]) -> float:
    """What launches of one session differ by beyond their rounds, blended with the assumed value."""
    total, freedom = 0.0, 0
    for session in sessions:
        if len(session) > 1:
            rounds = statistics.fmean([one.error**2 for one in session])
            total += (len(session) - 1) * (stats.variance([one.log for one in session]) - rounds)
            freedom += len(session) - 1
    blended = (LAUNCH_FREEDOM * LAUNCH**2 + max(0.0, total)) / (LAUNCH_FREEDOM + freedom)
    return max(LAUNCH_FLOOR, math.sqrt(blended))


def _mean(session: Sequence[Estimate], launch: float) -> CellMean:
    from_launches = statistics.fmean([launch**2 + one.error**2 for one in session]) / len(session)
    return CellMean(statistics.fmean([one.log for one in session]), from_launches)


def _tables_of_sessions(means: Iterable[_SessionMean]) -> list[Table]:
    """Cases × sessions, a table for each known unit."""
    tables: dict[str, dict[int, dict[str, CellMean]]] = defaultdict(lambda: defaultdict(dict))
    for one in means:
        if one.unit is not None:
            tables[one.unit][one.case][one.session] = one.mean
    return list(tables.values())


def _table_of_units(means: Iterable[_SessionMean]) -> list[Table]:
    """Cases × units, each the mean of its sessions; no table without a known unit."""
    cells: dict[tuple[int, str], list[CellMean]] = defaultdict(list)
    for one in means:
        if one.unit is not None:
            cells[one.case, one.unit].append(one.mean)
    table: dict[int, dict[str, CellMean]] = defaultdict(dict)
    for (case, unit), sessions in cells.items():
        from_launches = statistics.fmean(mean.from_launches for mean in sessions) / len(sessions)
        table[case][unit] = CellMean(statistics.fmean(mean.log for mean in sessions), from_launches)
    return [table] if table else []


def _sd_bounds(tables: Sequence[Table], assumed: SdBounds) -> SdBounds:
    """The bounds that these tables give; the assumed ones where nothing was repeated."""
    seen_in = variance_components(tables)
    if seen_in is None:
        return assumed
    if not seen_in.freedom:
        return replace(assumed, seen_in=seen_in)
    return bounded(seen_in, assumed)
