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
from collections.abc import Iterable, Sequence
from typing import Any

#: Characters from which a part is worth a place of its own.
SHORTEST = 12
#: Parts that stand together by name even where they occur once: lists of figures that compress better in each other's
#: company than in that of their record.
COLUMNS = frozenset(("rounds_s", "before_hz", "cycles", "spent_s", "error", "plain", "fused", "allowed", "sample"))
#: The letter of the first part: JSONL is ASCII, so all letters beyond it are free. UTF-16's surrogates are left out.
FIRST, SURROGATES, SURROGATE_COUNT = 0x100, 0xD800, 0x800


def deflated(text: str) -> str:
    """Deflated (RFC 1950) in base64: unlike gzip's, its header holds neither a time nor a system."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")


def shared(lines: Sequence[str]) -> str:
    """Lines of compact ASCII JSON with every repeated part written once.

    First the parts, one a line, then an empty line, then the lines. In both a letter beyond ASCII stands for a part: the
    code point `FIRST` for the first one, and so on, save for surrogates.
    """
    values = [json.loads(line) for line in lines]
    counts: Counter[str] = Counter()
    for value in values:
        _count(value, counts)
    pieces = _Pieces(counts)
    written = [pieces.of(value, "") for value in values]
    ordered = [part for parts in pieces.parts.values() for part in parts]
    letters = {text: _letter(at) for at, (text, _) in enumerate(ordered)}
    return "\n".join(
        (*(_joined(part, letters) for _, part in ordered), "", *(_joined(one, letters) for one in written))
    )


#: A text in pieces, of which a tuple holds the part that a letter will stand for.
_Text = list["str | tuple[str]"]


class _Pieces:
    """Parts by the name that they stand under, each as JSON and in pieces."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts
        self.parts: dict[str, list[tuple[str, _Text]]] = {}
        self.known: set[str] = set()

    def of(self, value: Any, name: str) -> _Text:
        """A value in pieces; what it shares with others is added to `parts`."""
        if not isinstance(value, (dict, list, str)):
            return [_json(value)]
        text = _json(value)
        if len(text) < SHORTEST or (self.counts[text] < 2 and name not in COLUMNS):
            return self._inside(value, name)
        if text not in self.known:
            self.known.add(text)
            self.parts.setdefault(name, []).append((text, self._inside(value, name)))
        return [(text,)]

    def _inside(self, value: Any, name: str) -> _Text:
        if isinstance(value, dict):
            items = ([f"{_json(key)}:", *self.of(one, key)] for key, one in value.items())
            return ["{", *_between(items), "}"]
        if isinstance(value, list):
            return ["[", *_between(self.of(one, name) for one in value), "]"]
        return [_json(value)]


def _count(value: Any, counts: Counter[str]) -> None:
    """Count a value and what is in it; what is in one that was counted before is not a repetition of its own."""
    if isinstance(value, (dict, list, str)):
        text = _json(value)
        if len(text) < SHORTEST:
            return
        counts[text] += 1
        if counts[text] == 1 and not isinstance(value, str):
            for one in value.values() if isinstance(value, dict) else value:
                _count(one, counts)


def _between(items: Iterable[_Text]) -> _Text:
    return [piece for at, item in enumerate(items) for piece in ([",", *item] if at else item)]


def _joined(pieces: _Text, letters: dict[str, str]) -> str:
    return "".join(piece if isinstance(piece, str) else letters[piece[0]] for piece in pieces)


def _letter(at: int) -> str:
    point = FIRST + at
    return chr(point if point < SURROGATES else point + SURROGATE_COUNT)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
