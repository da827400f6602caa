"""Texts that the page holds for its downloads, small enough to travel with it.

JSONL repeats itself at distances that deflate does not look back over: workloads, checks and launches stand in hundreds of
lines. `shared` writes each such part once, and figures of one kind one after another; `page.js` puts them back, to the
same bytes.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

#: Characters from which a part is worth a place of its own.
SHORTEST = 12
#: Parts that stand together by name even where they occur once: lists of figures that compress better in each other's
#: company than in that of their record.
COLUMNS = frozenset(("rounds_s", "before_hz", "cycles", "spent_s", "error", "plain", "fused", "allowed", "sample"))
#: The letter of the first part: JSONL is ASCII, so all letters beyond it are free. UTF-16's surrogates are left out.
FIRST, SURROGATES, SURROGATE_COUNT = 0x100, 0xD800, 0x800

_json = json.JSONEncoder(separators=(",", ":")).encode


def deflated(text: str) -> str:
    """Deflated (RFC 1950) in base64: unlike gzip's, its header holds neither a time nor a system."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")


def shared(lines: Sequence[str]) -> str:
    """Lines of compact ASCII JSON with every repeated part written once.

    First the parts, one a line, then an empty line, then the lines. In both a letter beyond ASCII stands for a part: the
    code point `FIRST` for the first one, and so on, save for surrogates.
    """
    nodes = [_node(json.loads(line), "") for line in lines]
    counts: Counter[str] = Counter()
    for node in nodes:
        _count(node, counts)
    parts: dict[str, dict[str, _Node]] = {}
    for node in nodes:
        _collect(node, counts, parts)
    ordered = [part for named in parts.values() for part in named.values()]
    letters = {part.text: _letter(at) for at, part in enumerate(ordered)}
    return "\n".join((*(_short(part, letters) for part in ordered), "", *(_short(node, letters) for node in nodes)))


@dataclass(frozen=True, slots=True)
class _Node:
    """An object, a list or a text: its JSON, the name that it stands under, and the JSON in pieces."""

    text: str
    name: str
    pieces: tuple[str | _Node, ...]

    def is_part(self, counts: Counter[str]) -> bool:
        """Whether it is worth a letter."""
        return len(self.text) >= SHORTEST and (counts[self.text] > 1 or self.name in COLUMNS)


def _node(value: Any, name: str) -> _Node:
    if isinstance(value, dict):
        pieces: list[str | _Node] = []
        for key, one in value.items():
            pieces += ("," if pieces else "{", _key(key), _node(one, key) if _has_parts(one) else _json(one))
        pieces.append("}" if pieces else "{}")
    elif isinstance(value, list) and any(map(_has_parts, value)):
        pieces = []
        for one in value:
            pieces += ("," if pieces else "[", _node(one, name) if _has_parts(one) else _json(one))
        pieces.append("]")
    else:
        pieces = [_json(value)]
    text = "".join(piece if isinstance(piece, str) else piece.text for piece in pieces)
    return _Node(text, name, tuple(pieces))


@cache
def _key(name: str) -> str:
    return f"{_json(name)}:"


def _has_parts(value: Any) -> bool:
    return isinstance(value, (dict, list, str))


def _count(node: _Node, counts: Counter[str]) -> None:
    """Count a node and what is in it; what is in one that was counted before is not a repetition of its own."""
    if len(node.text) >= SHORTEST:
        counts[node.text] += 1
        if counts[node.text] == 1:
            for piece in node.pieces:
                if not isinstance(piece, str):
                    _count(piece, counts)


def _collect(node: _Node, counts: Counter[str], parts: dict[str, dict[str, _Node]]) -> None:
    """Put the parts of a node into `parts`, by the name that they stand under and then by text."""
    if node.is_part(counts):
        known = parts.setdefault(node.name, {})
        if node.text in known:
            return
        known[node.text] = node
    for piece in node.pieces:
        if not isinstance(piece, str):
            _collect(piece, counts, parts)


def _short(node: _Node, letters: Mapping[str, str]) -> str:
    """The inside of a node, in which letters stand for parts."""
    return "".join(
        piece if isinstance(piece, str) else letters.get(piece.text) or _short(piece, letters) for piece in node.pieces
    )


def _letter(at: int) -> str:
    point = FIRST + at
    return chr(point if point < SURROGATES else point + SURROGATE_COUNT)
