"""Tables of the page: columns, rows and cells, and how numbers are spelt in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from attnbench.units import significant

#: Name, unit, meaning.
Column = tuple[str, str, str]


@dataclass(frozen=True)
class Cell:
    """One cell: what is read, and the number to sort by, None to sort by the text.

    is_spelt: the text begins with the number, in the unit of its column, so that the page need not hold it twice.
    """

    text: str
    number: float | None = None
    title: str = ""
    is_spelt: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table with the keys that the filters match: indices into the facets, `0.3.1.2.0.0`."""

    key: str
    name: str
    cells: tuple[Cell, ...]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Columns and rows; the first column is the rows' names."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def without_empty(columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    """The table without columns that no row has anything in."""
    kept = [at for at in range(len(columns) - 1) if any(row.cells[at].text for row in rows)]
    return Table(
        (columns[0], *(columns[at + 1] for at in kept)),
        tuple(replace(row, cells=tuple(row.cells[at] for at in kept)) for row in rows),
    )


def number(value: float | None, spelt: Callable[[float], str]) -> Cell:
    """A cell of a number; nothing for one that is unknown or not finite."""
    return Cell("") if value is None or not math.isfinite(value) else Cell(spelt(value), value, is_spelt=True)


def scientific(value: float) -> str:
    """Three digits: `0.00164` from 0.001 on, below `1.1e-05`."""
    return significant(value, 3) if value == 0 or abs(value) >= 0.001 else f"{value:.1e}"


def minute(started_at: str) -> str:
    """`2026-11-28 02:17` of an ISO 8601 time."""
    return started_at[:16].replace("T", " ")
