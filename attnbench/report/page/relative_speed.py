"""Speed against the reference, as kernel authors report theirs."""

from __future__ import annotations

from dataclasses import dataclass

from attnbench.report.page.index import Index
from attnbench.report.page.tables import Cell, Row, Table, number
from attnbench.report.relative import RelativeTable, relative_tables
from attnbench.units import significant


@dataclass(frozen=True)
class Relative:
    """Percent of the reference's speed, a pair of columns per GPU; `last` is the reference's TFLOP/s."""

    title: str
    table: Table
    last: tuple[str, ...]


def relative_speed(index: Index) -> tuple[Relative, ...]:
    """A table per problem, with all GPUs."""
    return tuple(_relative(index, one) for one in relative_tables(index.gathered))


def _relative(index: Index, one: RelativeTable) -> Relative:
    pairs = [
        (gpu if len(index.gpus) > 1 else "Speed", unit, meaning)
        for gpu in one.gpus
        for unit, meaning in (
            (f"% at {one.length}", f"of the reference's speed at sequence length {one.length}"),
            ("% harmonic mean", f"over the lengths {', '.join(map(str, one.lengths))}"),
        )
    ]
    first = {case.first.variant: case.first for case in reversed(index.cases)}
    rows = [
        Row(
            index.key_with(family=first[variant].family, mode=first[variant].mode),
            variant,
            tuple(_percents(value) for share in shares for value in (share.at_length, share.harmonic)),
        )
        for variant, shares in one.shares.items()
    ]
    rates = ("" if rate is None else significant(rate, 4) for pair in one.reference_tflop_per_s for rate in pair)
    without = f" (none on {', '.join(one.left_out)})" if one.left_out else ""
    title = f"{one.problem}: speed in percent of {one.reference}{without}"
    return Relative(title, Table((("Variant", "", ""), *pairs), tuple(rows)), tuple(rates))


def _percents(value: float | None) -> Cell:
    return number(value, lambda known: f"{known:.1f}")
