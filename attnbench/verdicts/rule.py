"""What counts as a slow-down, and how often a verdict may be wrong ("Interval" and "Rule" in docs/method.md).

Convictions are wrong in at most `alpha` of whole runs; the cases and the looks at each share that. Acquittals are wrong in
at most `gamma` of the cases that are slower by the limit; the looks share that. Both hold as long as sessions differ by no
more than the family's sessions show, or than is assumed. docs/measurements/gate-simulation.md has runs where they do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

#: The smallest default limit, which the tool aims at.
AIM = 0.01
#: The largest default limit. It also caps what a lower clock may cost before a case is called unchanged, whatever limit is
#: asked for: sessions that differ by more than this acquit nobody.
MOST_LIMIT = 0.06
#: No limit is below this many steps of the event timer.
RESOLUTIONS = 3
#: One step of the SM clock, 15 MHz at 1980, in logarithms: sessions differ by it.
STEP = math.log(1980 / 1965)
#: So many clock steps beyond the limit convict in seconds alone.
STEPS_BEYOND = 2
#: The last look at a case gets this share of alpha, the other looks the rest. Of gamma the first look gets this share: most
#: cases are decided there.
LAST_SHARE, FIRST_SHARE = 0.95, 0.7


@dataclass(frozen=True)
class Rule:
    """The limits of a verdict and its error rates.

    cases: how many are judged in the run. relaunches: fresh launches that a suspect may still be given; 0 convicts on the
    first launch. tolerated: relative slow-down that is not counted. limit: relative slow-down that counts; None takes the
    limit that the baseline resolves, from `AIM` to `MOST_LIMIT`.
    """

    cases: int
    relaunches: int = 3
    tolerated: float = 0.003
    limit: float | None = None
    alpha: float = 0.01
    gamma: float = 0.002

    @property
    def launches(self) -> int:
        """Launches of a case at the last look."""
        return 1 + self.relaunches

    def z_convict(self, launches: int) -> float:
        """Standard errors from the change to the lower end, at the look with this many launches.

        No case is convicted on one launch while another may follow. Where those fail, the first stands and has no other
        look, so its share adds to no other's.
        """
        if launches >= self.launches:
            share = LAST_SHARE if self.relaunches > 1 else 1.0
        else:
            share = (1 - LAST_SHARE) / max(2, self.relaunches - 1)
        return _quantile(self.alpha * share / max(1, self.cases))

    def z_acquit(self, launches: int) -> float:
        """Standard errors from the change to the upper end, at the look with this many launches."""
        if self.relaunches == 0:
            return _quantile(self.gamma)
        share = FIRST_SHARE if launches == 1 else (1 - FIRST_SHARE) / self.relaunches
        return _quantile(self.gamma * share)


def limit_in_seconds(limit: float, steps: int) -> float:
    """The limit for seconds, relative: `limit` at a clock that is this many steps lower."""
    return math.expm1(math.log1p(limit) + steps * STEP)


@lru_cache(maxsize=256)
def _quantile(error: float) -> float:
    """The value of the standard normal distribution above which `error` of it lies."""
    return NormalDist().inv_cdf(1 - error)
