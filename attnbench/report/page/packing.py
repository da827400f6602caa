"""Texts that the page holds for its downloads, small enough to travel with it.

JSONL repeats itself at distances that deflate does not look back over: workloads, checks and launches stand in hundreds of
lines. `shared` writes each such part once, and figures of one kind one after another; `page.js` puts them back, to the
same bytes.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

#: Characters from which a part is worth a place of its own.
SHORTEST = 12
#: Parts that stand together by name even where they occur once: lists of figures that compress better in each other's
#: company than in that of their record.
COLUMNS = frozenset(("rounds_s", "before_hz", "cycles", "spent_s", "error", "plain", "fused", "allowed", "sample"))
#: What is never a part, as hardly two are the same: to look for it would take as long as all else.
WHOLE = frozenset(("record",))
#: The letter of the first part: JSONL is ASCII, so all letters beyond it are free. UTF-16's surrogates are left out.
FIRST, SURROGATES, SURROGATE_COUNT = 0x100, 0xD800, 0x800

_json = json.JSONEncoder(separators=(",", ":")).encode


def deflated(text: str) -> str:
    """Deflated (RFC 1950) in base64: unlike gzip's, its header holds neither a time nor a system."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")


def shared(lines: Sequence[str]) -> str:
    """Lines of compact ASCII JSON, each an object, with every repeated part written once.

    First the parts, one a line, then an empty line, then the lines. In both a letter beyond ASCII stands for a part: the
    code point `FIRST` for the first one, and so on, save for surrogates.
    """
    import msgspec

    known: dict[str, _Part] = {}
    read = msgspec.json.Decoder().decode
    written = [_inside(read(line), "", known) for line in lines]
    by_name: dict[str, list[_Part]] = {}
    for part in known.values():
        if part.count > 1 or part.name in COLUMNS:
            by_name.setdefault(part.name, []).append(part)
    ordered = [part for parts in by_name.values() for part in parts]
    letters = {part.text: _letter(at) for at, part in enumerate(ordered)}
    shorter = (*(part.pieces for part in ordered), (), *written)
    return "\n".join(_short(pieces, letters) for pieces in shorter)


@dataclass
class _Part:
    """An object, a list or a text that may be worth a letter: its JSON, the name that it stands under, and its inside.

    count: how often it stands in what was not counted before as a whole.
    """

    text: str
    name: str
    pieces: Sequence[_Piece] = ()
    count: int = 1


_Piece = str | _Part


def _piece(value: Any, name: str, known: dict[str, _Part]) -> _Piece:
    """A value as JSON, or as a part, which is looked into only where it is met for the first time."""
    if isinstance(value, float):  # most of what there is, and none of it NaN
        return repr(value)
    text = _json(value)
    if len(text) < SHORTEST or not isinstance(value, (dict, list, str)):
        return text
    if part := known.get(text):
        part.count += 1
        return part
    part = known[text] = _Part(text, name)
    part.pieces = _inside(value, name, known) if _is_nested(value) else (text,)
    return part


def _inside(value: Any, name: str, known: dict[str, _Part]) -> list[_Piece]:
    """The JSON of an object or a list in pieces."""
    pieces: list[_Piece] = []
    if isinstance(value, dict):
        for key, one in value.items():
            pieces += ("," if pieces else "{", _key(key))
            if key in WHOLE and isinstance(one, dict):
                pieces += _inside(one, key, known)
            else:
                pieces.append(_piece(one, key, known))
        return [*pieces, "}"] if pieces else ["{}"]
    for one in value:
        pieces += ("," if pieces else "[", _piece(one, name, known))
    return [*pieces, "]"]


def _is_nested(value: Any) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(isinstance(one, (dict, list)) or (isinstance(one, str) and len(one) >= SHORTEST - 2) for one in inside)


@cache
def _key(name: str) -> str:
    return f"{_json(name)}:"


def _short(pieces: Sequence[_Piece], letters: Mapping[str, str]) -> str:
    """The pieces in which letters stand for parts."""
    return "".join(
        piece if isinstance(piece, str) else letters.get(piece.text) or _short(piece.pieces, letters)
        for piece in pieces
    )


def _letter(at: int) -> str:
    point = FIRST + at
    return chr(point if point < SURROGATES else point + SURROGATE_COUNT)
