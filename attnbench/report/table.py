"""Text tables for a terminal."""

from __future__ import annotations

import textwrap
from bisect import bisect_left
from collections.abc import Sequence

#: No table and no sentence of a report is wider, unless a single name is. On a terminal tables are as wide as that is, from
#: `NARROWEST` on.
WIDTH, NARROWEST = 120, 80
GAP = "  "


def aligned(header: Sequence[Sequence[str]], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines with columns two blanks apart: the first `left` columns flush left, the others flush right.

    `header` is one or more lines, a rule of dashes stands below them. A column is as long as the first header line;
    rows may be shorter.
    """
    lines = [*header, *rows]
    columns = [[row[at] if at < len(row) else "" for row in lines] for at in range(len(header[0]))]
    width = [max(map(len, column)) for column in columns]
    rule = ["-" * w for w in width]
    return [_line(cells, width, left) for cells in (*header, rule, *rows)]


def fitted(
    header: Sequence[Sequence[str]], rows: Sequence[Sequence[str]], left: int = 1, most: int = WIDTH
) -> list[str]:
    """`aligned`, split into tables of at most `most` characters, each with the first `left` columns, a blank line between.

    Several are no wider than they have to be, so that of two none has just the one column that did not fit.
    """
    lines = [*header, *rows]
    width = [max(len(line[at]) for line in lines) + len(GAP) for at in range(len(header[0]))]
    fewest = len(_parts(width, left, most))
    # The wider a table may be, the fewer there are.
    narrowest = bisect_left(range(most), -fewest, key=lambda enough: -len(_parts(width, left, enough)))
    parts = _parts(width, left, narrowest)
    texts: list[str] = []
    for part in parts:
        head, body = ([[line[at] for at in part] for line in some] for some in (header, rows))
        texts += [*([""] if texts else []), *aligned(head, body, left)]
    return texts


def _parts(width: Sequence[int], left: int, most: int) -> list[list[int]]:
    """Columns by table of at most `most` characters; a wider column gets a table of its own."""
    first = list(range(left))
    parts = [first]
    for at in range(left, len(width)):
        if len(parts[-1]) > left and sum(width[one] for one in (*parts[-1], at)) - len(GAP) > most:
            parts.append(first)
        parts[-1] = [*parts[-1], at]
    return parts


def wrapped(text: str, indent: str = "", hang: str = "  ") -> list[str]:
    """A sentence as lines of at most `WIDTH`, without splitting words; lines after the first are indented by `hang` more."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + hang,
        break_long_words=False,
        break_on_hyphens=False,
    )


def with_reasons(head: str, reasons: Sequence[str]) -> list[str]:
    """`head: reason`, whole for those who show one line of a failure; each further reason below, indented and wrapped."""
    first, *others = reasons or ("",)
    return [f"{head}: {first}", *(part for reason in others for part in wrapped(reason, "  "))]


def without_empty(
    header: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]
) -> tuple[list[list[str]], list[list[str]]]:
    """Header and rows without the columns that are empty in every row, nor a header line without a word left."""
    kept = [at for at in range(len(header[0])) if any(row[at] for row in rows)]
    heads = [[line[at] for at in kept] for line in header]
    return [line for line in heads if any(line)], [[row[at] for at in kept] for row in rows]


def _line(cells: Sequence[str], width: Sequence[int], left: int) -> str:
    padded = [cell.ljust(width[at]) if at < left else cell.rjust(width[at]) for at, cell in enumerate(cells)]
    return GAP.join(padded).rstrip()
