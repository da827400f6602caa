"""Columns of text: the least that a terminal table needs (layer 1)."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines with columns two blanks apart: the first `left` columns flush left, the others flush right.

    A rule of dashes stands under the header. Rows may be shorter than the header.
    """
    width = [max(len(cell) for cell in column) for column in _columns(header, rows)]
    rule = ["-" * w for w in width]
    return [_line(cells, width, left) for cells in (header, rule, *rows)]


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[row[at] if at < len(row) else "" for row in (header, *rows)] for at in range(len(header))]


def _line(cells: Sequence[str], width: Sequence[int], left: int) -> str:
    padded = [cell.ljust(width[at]) if at < left else cell.rjust(width[at]) for at, cell in enumerate(cells)]
    return "  ".join(padded).rstrip()
