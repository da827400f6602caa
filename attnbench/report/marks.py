"""What tells the series of a plot apart: colours, markers, dashes, and labels that do not collide. Pure.

A colour stands for a family and a dash for a mode, in every plot and on the page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from types import MappingProxyType

#: Series colours of middle luminance: each has a contrast of 3 or more with white and with `DARK`, which is what WCAG 2.2
#: (1.4.11) asks of graphics. Two of the first eight differ by 20 or more in CIE L*a*b* (1976), any two by 15 or more, also
#: as protanopes, deuteranopes and tritanopes see them (Machado, Oliveira and Fernandes 2009, severity 1); markers tell
#: families apart besides.
COLOURS = (
    "#4860cc",
    "#e46c18",
    "#c00c90",
    "#3c9ccc",
    "#606c3c",
    "#840cfc",
    "#fc0054",
    "#c07890",
    "#f018fc",
    "#90540c",
    "#789c6c",
    "#a83c6c",
    "#fc3cc0",
)
#: The background that light text is meant for.
DARK = "#0d1117"
#: Text, axes and grid on a light and on a dark background; the page's CSS replaces them through `color`.
INK, DARK_INK = "#1f2328", "#e6edf3"

#: matplotlib's names of markers, which are also told apart without colour.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">", "h")
#: Dashes in points: on, off, …; empty is a solid line.
DASHES: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {"eager": (), "default": (6.0, 2.5), "max-autotune": (1.5, 1.8)}
)
#: Pixels that a block of labels keeps from points that are not its own, and the area that one crossing counts as.
FOREIGN_GAP, CROSSING = 8.0, 30.0
OTHER_DASH = (6.0, 2.0, 1.5, 2.0)

#: Families in the order in which colours are given out, so that a family has one colour in every report.
_FAMILIES = (
    "torch",
    "flash-attn",
    "SageAttention",
    "xformers",
    "attnbench",
    "transformer-engine",
    "flashinfer",
    "cudnn-frontend",
    "hf-kernels",
    "comfy-kitchen",
    "SpargeAttn",
    "aiter",
    "numpy",
)


@dataclass(frozen=True)
class Mark:
    """How a family is drawn."""

    colour: str
    marker: str


def family_marks(families: Iterable[str]) -> dict[str, Mark]:
    """A colour and a marker per family; those that are not known take, in alphabetical order, what no other one here has."""
    asked = set(families)
    known = {family: at for at, family in enumerate(_FAMILIES)}
    unused = [at for family, at in known.items() if family not in asked]
    others = sorted(asked - known.keys())
    places = {**known, **dict(zip(others, chain(reversed(unused), count(len(known))), strict=False))}
    return {family: _mark(at) for family, at in places.items() if family in asked}


def dash(mode: str) -> tuple[float, ...]:
    """The dash of a compile mode; modes that are not known share one."""
    return DASHES.get(mode, OTHER_DASH)


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions at least `gap` apart, in the order of `wanted` and as near to it as that allows, between low and high.

    The least sum of squared shifts: neighbours that collide move as one block around their mean (isotonic regression by
    pooling adjacent violators). Where the room is too small for all, the gap shrinks evenly.
    """
    order = sorted(range(len(wanted)), key=lambda at: wanted[at])
    if len(wanted) > 1:
        gap = min(gap, (high - low) / (len(wanted) - 1))
    blocks: list[list[float]] = []  # mean of what its members want of the first place, and how many they are
    for place, at in enumerate(order):
        blocks.append([wanted[at] - place * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (mean, count), (later, more) = blocks[-2:]
            blocks[-2:] = [[(mean * count + later * more) / (count + more), count + more]]
    starts = [mean for mean, count in blocks for _ in range(int(count))]
    last = high - max(len(wanted) - 1, 0) * gap
    positions = [0.0] * len(wanted)
    for place, (at, start) in enumerate(zip(order, starts, strict=True)):
        positions[at] = min(max(start, low), last) + place * gap
    return positions


@dataclass(frozen=True)
class Box:
    """A rectangle: its left bottom corner, and its size."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        wide = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        if wide <= 0.0:
            return 0.0
        high = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return wide * max(high, 0.0)

    def holds(self, x: float, y: float) -> bool:
        """Whether this point is inside."""
        return self.x < x < self.x + self.width and self.y < y < self.y + self.height

    def grown(self, by: float) -> Box:
        """The rectangle with a margin of this width on every side."""
        return Box(self.x - by, self.y - by, self.width + 2 * by, self.height + 2 * by)

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The point of the rectangle that is nearest to this one."""
        return min(max(x, self.x), self.x + self.width), min(max(y, self.y), self.y + self.height)


def clusters(places: Sequence[tuple[float, float]], wide: float, high: float) -> list[list[int]]:
    """Indices of places that lie within one box of this size, from left to right: those share one block of labels."""
    groups: list[list[int]] = []
    for at in sorted(range(len(places)), key=lambda at: places[at]):
        x, y = places[at]
        for mine in groups:
            ys = [places[one][1] for one in mine] + [y]
            if x - places[mine[0]][0] <= wide and max(ys) - min(ys) <= high:
                mine.append(at)
                break
        else:
            groups.append([at])
    return groups


def placed(anchors: Sequence[Box], sizes: Sequence[tuple[float, float]], points: Sequence[Box], room: Box) -> list[Box]:
    """A place in `room` for each block of labels: near its anchor, and over no point and no other block where possible.

    The largest block chooses first. Each tries 16 directions at growing distances and takes the nearest free place, or
    the one that covers least; a line from anchor to block that crosses a block counts as covering it.
    """
    boxes: dict[int, Box] = {}
    lines: list[tuple[float, float]] = []
    for at in sorted(range(len(anchors)), key=lambda at: (-sizes[at][0] * sizes[at][1], at)):
        anchor, blocks = anchors[at], list(boxes.values())
        others = [one.grown(FOREIGN_GAP) for one in points if not anchor.overlap(one)]
        boxes[at] = min(
            _around(anchor, *sizes[at], room),
            key=partial(_cost, anchor=anchor, blocks=blocks, points=[anchor, *others], lines=tuple(lines)),
        )
        lines += _line(anchor, boxes[at])
    return [boxes[at] for at in range(len(anchors))]


def _cost(
    box: Box,
    anchor: Box,
    blocks: Sequence[Box],
    points: Sequence[Box],
    lines: Sequence[tuple[float, float]],
) -> tuple[float, float]:
    """What a block would cover there, and how far from its anchor it is."""
    line = _line(anchor, box)
    crossed = sum(block.holds(*place) for block in blocks for place in line)
    crossed += sum(box.holds(*place) for place in lines)
    areas = sum(box.overlap(one) for one in (*blocks, *points))
    middle = anchor.x + anchor.width / 2, anchor.y + anchor.height / 2
    return areas + crossed * CROSSING, math.dist(box.nearest(*middle), middle)


def _line(anchor: Box, block: Box) -> list[tuple[float, float]]:
    """Places on the line from the middle of an anchor to its block."""
    x, y = anchor.x + anchor.width / 2, anchor.y + anchor.height / 2
    near = block.nearest(x, y)
    return [(x + (near[0] - x) * part / 16, y + (near[1] - y) * part / 16) for part in range(1, 16)]


def _around(anchor: Box, width: float, height: float, room: Box) -> list[Box]:
    """Places for a block around its anchor, moved into the room where they are out of it."""
    middle = anchor.x + anchor.width / 2, anchor.y + anchor.height / 2
    choices = []
    for distance in (6.0, 12.0, 20.0, 32.0, 48.0, 72.0, 100.0, 140.0, 190.0, 250.0, 320.0):
        for step in range(16):
            across, up = math.cos(step * math.pi / 8), math.sin(step * math.pi / 8)
            x = middle[0] + across * (anchor.width / 2 + width / 2 + distance) - width / 2
            y = middle[1] + up * (anchor.height / 2 + height / 2 + distance) - height / 2
            x = min(max(x, room.x), max(room.x + room.width - width, room.x))
            y = min(max(y, room.y), max(room.y + room.height - height, room.y))
            choices.append(Box(x, y, width, height))
    return choices


def ticks(low: float, high: float, log: bool, most: int = 8) -> list[float]:
    """Round values from low to high, at most `most` of them; on a log axis 1, 2, 5 … times powers of ten.

    low and high are finite, low < high, and both positive for a log axis.
    """
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digits in ((1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0), (1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
            values = [_round(digit * 10.0**power) for power in powers for digit in digits]
            inside = [one for one in values if low <= one <= high]
            if len(inside) <= most:
                return inside
        return inside[:: math.ceil(len(inside) / most)]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * digit for digit in (1.0, 2.0, 2.5, 5.0, 10.0) if power * digit >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [_round(at * step) for at in range(first, last + 1)]


def spaced(values: Sequence[float], positions: Sequence[float], gap: float) -> list[float]:
    """The values whose positions leave room for a label: the last, and to its left each that is `gap` from the next."""
    kept: list[tuple[float, float]] = []
    for value, position in sorted(zip(values, positions, strict=True), key=lambda pair: -pair[1]):
        if not kept or kept[-1][1] - position >= gap:
            kept.append((value, position))
    return [value for value, _ in reversed(kept)]


def shortened(name: str, longest: int) -> str:
    """A name of at most so many characters: a longer one loses its middle, as its end holds mode and number."""
    tail = longest // 2 - 1
    return name if len(name) <= longest else f"{name[: longest - tail - 1]}…{name[-tail:]}"


def contrast(one: str, other: str) -> float:
    """Contrast of two colours (`#rrggbb`) by WCAG 2.2: 1 for equal ones, 21 for black on white."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _mark(at: int) -> Mark:
    # The shift after each round of colours keeps pairs apart: 13 colours, 11 markers, 143 pairs.
    return Mark(COLOURS[at % len(COLOURS)], MARKERS[at % len(MARKERS)])


def _round(value: float) -> float:
    return float(f"{value:.12g}")


def _luminance(colour: str) -> float:
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
