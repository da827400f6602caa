"""How far the launches of one case differ."""

from __future__ import annotations

import math
from collections.abc import Sequence

from attnbench.model import Record
from attnbench.verdicts.summary import summarise


def launch_spread(launches: Sequence[Record]) -> float:
    """The slowest over the fastest mean, minus one, of the quietest measure that all have: seconds or cycles."""
    summaries = [summarise(record, None) for record in launches]
    measures = set.intersection(*(set(one.estimates) for one in summaries))
    logs = [[one.estimates[measure].log for one in summaries] for measure in measures]
    return min(math.expm1(max(found) - min(found)) for found in logs)
