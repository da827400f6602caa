"""The slow-down that counts, for all cases or for some: the values of --attn-limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from attnbench.globs import matches_case
from attnbench.model import Record


@dataclass(frozen=True)
class Limit:
    """A relative slow-down of `share` counts in every case that `glob` matches (`globs.matches_case`); empty matches all."""

    glob: str
    share: float


def parse_limits(entries: Sequence[str]) -> tuple[Limit, ...]:
    """Entries `2%` and `sage_*:2%`. Raises ValueError that names the entry."""
    limits = []
    for entry in entries:
        glob, separator, text = entry.rpartition(":")
        share = _share(text)
        if not share or (separator and not glob):
            raise ValueError(f"expected P% or GLOB:P% with P above 0, such as 1% or sage_*:2%, got {entry!r}")
        limits.append(Limit(glob, share))
    return tuple(limits)


def limit_for(limits: Sequence[Limit], record: Record) -> float | None:
    """The limit of this case: that of the last entry that matches it, None without a match."""
    return next((one.share for one in reversed(limits) if not one.glob or matches_case(one.glob, record)), None)


def _share(text: str) -> float | None:
    """`1.5%` is 0.015; None for anything else."""
    try:
        percent = float(text.removesuffix("%")) if text.endswith("%") else math.nan
    except ValueError:
        return None
    return percent / 100 if 0 < percent < math.inf else None
