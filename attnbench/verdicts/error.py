"""The standard error of a change: the sum of everything that may differ by noise ("Error" in docs/method.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from attnbench import stats
from attnbench.verdicts.delta import MatchedLaunches
from attnbench.verdicts.noise import SELF_THROTTLED_LAUNCH, BoundOf, NoiseModel, NoiseSd
from attnbench.verdicts.summary import CLOCK_RATIO, CYCLES, SampleSummary, estimate_of, grouped

#: Degrees of freedom of the predicted variance of a launch, beside those of what launches show.
PREDICTED_FREEDOM = 4
#: Launches disagree if they differ by more than this many times the prediction.
DISAGREE = 5.0


@dataclass(frozen=True)
class ChangeErrors:
    """Errors of the change of one case, relative. `bound` says which bound on the noise an error is computed with."""

    matched: MatchedLaunches
    noise_model: NoiseModel

    @cached_property
    def noise(self) -> NoiseSd:
        """The noise of the case's family in the measure that is judged."""
        return self.noise_model.sd(self.matched.family, self.matched.measure)

    def of_change(self, bound: BoundOf, launches: float | None = None) -> float:
        """Standard error of the change (e in docs/method.md), with what is unknown of how far it follows the clock.

        launches: of this run, if not as many as there are; infinity leaves what more launches cannot remove. They may start
        at the baseline's clock, or show how far the change follows it.
        """
        error = self._of_difference(self.matched.measure, self.noise, bound, launches)
        if launches == math.inf:
            return error
        return math.hypot(error, self.matched.memory_share.sd * self.matched.clock.during)

    def of_seconds(self, bound: BoundOf, launches: float | None = None) -> float:
        """Standard error of the change in seconds, for launches with cycles: the error of cycles and of the clock ratio."""
        clock_noise = self.noise_model.sd(self.matched.family, CLOCK_RATIO)
        return math.hypot(
            self._of_difference(CYCLES, self.noise, bound, launches),
            self._of_difference(CLOCK_RATIO, clock_noise, bound, launches),
        )

    def expected(self, bound: BoundOf, launches: int) -> float:
        """The standard error that a run with this many launches will have, as far as the baseline alone shows it."""
        ours = self.predicted_base_variance / launches
        return math.sqrt(ours + self._base_variance(self.matched.measure, self.noise, bound))

    @cached_property
    def launch_variance(self) -> float:
        """Variance of one launch of this run (v in docs/method.md)."""
        return self._ours_variance(self.matched.measure, self.noise)

    @cached_property
    def predicted_base_variance(self) -> float:
        """Variance of one stored launch, as the noise predicts it."""
        return self._predicted_variance(self.matched.base, self.matched.measure, self.noise)

    @cached_property
    def launches_disagree(self) -> bool:
        """Whether the launches of this run differ by much more than predicted: no reason to convict while one may follow."""
        predicted = self._predicted_variance(self.matched.ours, self.matched.measure, self.noise)
        return self.launch_variance > DISAGREE**2 * predicted

    def _of_difference(self, measure: str, noise: NoiseSd, bound: BoundOf, launches: float | None) -> float:
        count = len(self.matched.ours) if launches is None else launches
        return math.sqrt(self._ours_variance(measure, noise) / count + self._base_variance(measure, noise, bound))

    def _ours_variance(self, measure: str, noise: NoiseSd) -> float:
        """Variance of one launch of this run in a measure."""
        if measure not in self._ours_known:
            self._ours_known[measure] = self._launch_variance(self.matched.ours, measure, noise)
        return self._ours_known[measure]

    def _mean_variance(self, measure: str, noise: NoiseSd) -> float:
        """What the stored launches leave in the baseline's mean, by its weights."""
        if measure not in self._mean_known:
            self._mean_known[measure] = sum(
                weight**2 * self._launch_variance(session, measure, noise) / len(session)
                for session, weight in self.matched.weighted_sessions
            )
        return self._mean_known[measure]

    # A decision asks for them with many bounds and numbers of launches, on which they do not depend.
    @cached_property
    def _ours_known(self) -> dict[str, float]:
        return {}

    @cached_property
    def _mean_known(self) -> dict[str, float]:
        return {}

    def _launch_variance(self, summaries: Sequence[SampleSummary], measure: str, noise: NoiseSd) -> float:
        """Variance of one launch of a session: as predicted, or more if these launches differ by more.

        A few launches may differ by more by chance, so the two are weighted by their degrees of freedom. Launches do not
        disagree by chance: then only what they show counts.
        """
        predicted = self._predicted_variance(summaries, measure, noise)
        logs = self.matched.logs(summaries, measure)
        seen, freedom = (stats.variance(logs) if len(logs) > 1 else 0.0), len(logs) - 1
        if seen > DISAGREE**2 * predicted:
            return seen
        pooled = (PREDICTED_FREEDOM * predicted + freedom * seen) / (PREDICTED_FREEDOM + freedom)
        return max(predicted, pooled)

    def _predicted_variance(self, summaries: Sequence[SampleSummary], measure: str, noise: NoiseSd) -> float:
        """Variance of one launch by the family's noise and the rounds' own error.

        A call that lowers its own clock, on either side, has a higher floor.
        """
        floor = SELF_THROTTLED_LAUNCH if any(one.self_throttled for one in self.matched.both) else 0.0
        memory_share = self.matched.memory_share.value
        estimates = [estimate_of(one, measure, memory_share) for one in summaries]
        return max(noise.launch, floor) ** 2 + fmean([one.error**2 for one in estimates if one is not None])

    def _base_variance(self, measure: str, noise: NoiseSd, bound: BoundOf) -> float:
        """Variance of everything but this run's launches: the stored launches, and that this run is another session or unit.

        By the weights of the baseline's mean.
        """
        weighted = self.matched.weighted_sessions
        launches = self._mean_variance(measure, noise)
        sessions = bound(noise.session) ** 2 * (1 + sum(weight**2 for _, weight in weighted))
        if self.matched.known_unit:
            return launches + sessions
        return launches + sessions + bound(noise.unit) ** 2 * (1 + 1 / len(grouped(self.matched.base, "unit")))
