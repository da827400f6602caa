"""Colours that everybody can tell apart, and labels that do not collide."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import pytest

from attnbench.backends import families  # noqa: F401
from attnbench.backends.registry import all_backends
from attnbench.report.marks import (
    COLOURS,
    DARK,
    DARK_INK,
    INK,
    Box,
    apart,
    clusters,
    contrast,
    dash,
    family_marks,
    placed,
    shortened,
    spaced,
    ticks,
)

#: Dichromacy by Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
SEEN = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
}
XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.072175), (0.0193339, 0.119192, 0.9503041))


def times(matrix, vector):
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def lab(colour, seen):
    rgb = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = times(seen, [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb])
    white = (0.95047, 1.0, 1.08883)
    xyz = [v / w for v, w in zip(times(XYZ, [min(max(c, 0), 1) for c in linear]), white, strict=True)]
    x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def test_every_colour_stands_out_on_a_light_and_on_a_dark_background():
    assert all(contrast(colour, ground) >= 3 for colour in COLOURS for ground in ("#ffffff", DARK))
    assert contrast(INK, "#ffffff") >= 7
    assert contrast(DARK_INK, DARK) >= 7


@pytest.mark.parametrize("vision", SEEN)
def test_no_two_colours_look_alike_whatever_the_eye(vision):
    seen = [lab(colour, SEEN[vision]) for colour in COLOURS]
    for one, other in combinations(seen, 2):
        assert math.dist(one, other) >= 15
    for one, other in combinations(seen[:8], 2):
        assert math.dist(one, other) >= 20


def test_every_family_of_the_package_has_a_colour_of_its_own():
    found = {backend.family for backend in all_backends().values() if backend.family}
    colours = [mark.colour for family, mark in family_marks(found).items() if family in found]
    assert len(set(colours)) == len(found) > 8


def test_a_family_has_one_colour_in_every_report():
    assert family_marks(["torch"])["torch"] == family_marks(["zeta", "flash-attn", "torch"])["torch"]


def test_families_differ_in_colour_or_marker_however_many_there_are():
    marks = family_marks([f"family {number}" for number in range(60)])
    assert len({(mark.colour, mark.marker) for mark in marks.values()}) == len(marks)


def test_a_family_that_is_not_known_has_a_colour_that_none_of_the_report_has():
    marks = family_marks(["torch", "flash-attn", "mine", "yours"])
    assert len({mark.colour for mark in marks.values()}) == 4


def test_modes_differ_in_their_dash_and_an_unknown_one_has_one_too():
    assert len({dash(mode) for mode in ("eager", "default", "max-autotune", "another")}) == 4


def test_labels_with_room_stay_where_they_are():
    assert apart([10.0, 50.0, 30.0], 12, 0, 100) == [10.0, 50.0, 30.0]


def test_labels_that_collide_move_apart_around_their_middle():
    assert apart([50.0, 50.0, 50.0], 12, 0, 100) == [38.0, 50.0, 62.0]
    assert apart([20.0, 50.0, 51.0, 90.0], 12, 0, 100) == [20.0, 44.5, 56.5, 90.0]


def test_labels_at_the_edge_stay_inside():
    assert apart([99.0, 100.0], 12, 0, 100) == [88.0, 100.0]
    assert apart([0.0, 0.0], 12, 0, 100) == [0.0, 12.0]


def test_forty_labels_keep_their_order_and_their_distance():
    wanted = [float((at * 37) % 100) / 10 for at in range(40)]
    found = apart(wanted, 13, 0, 600)
    places = [found[at] for at in sorted(range(40), key=lambda at: wanted[at])]
    assert all(later - earlier >= 13 - 1e-9 for earlier, later in pairwise(places))
    assert min(places) >= 0
    assert max(places) <= 600


def test_labels_that_need_more_room_than_there_is_share_it_evenly():
    assert apart([5.0] * 5, 30, 0, 100) == [0.0, 25.0, 50.0, 75.0, 100.0]


def test_no_label_needs_no_place():
    assert apart([], 12, 0, 100) == []
    assert apart([500.0], 12, 0, 100) == [100.0]


def test_points_that_lie_together_share_a_block():
    assert clusters([(0, 0), (100, 0), (10, 2), (10, 50)], 24, 12) == [[0, 2], [3], [1]]


def test_blocks_of_labels_cover_neither_points_nor_each_other():
    points = [Box(x, 20, 8, 8) for x in (20, 60, 64, 200, 230)]
    blocks = placed(points, [(90, 13)] * len(points), points, Box(0, 0, 400, 300))
    assert not any(one.overlap(other) for one, other in combinations(blocks, 2))
    assert not any(block.overlap(point) for block in blocks for point in points)
    assert all(block.x >= 0 and block.x + block.width <= 400 for block in blocks)
    assert all(block.y >= 0 and block.y + block.height <= 300 for block in blocks)


def test_a_block_that_is_too_large_for_the_room_still_has_a_place():
    (block,) = placed([Box(10, 10, 8, 8)], [(500, 500)], [Box(10, 10, 8, 8)], Box(0, 0, 100, 100))
    assert (block.x, block.y) == (0, 0)


@pytest.mark.parametrize(
    ("low", "high", "log", "expected"),
    [
        (0, 10, False, [0, 2, 4, 6, 8, 10]),
        (4224, 4608, False, [4250, 4300, 4350, 4400, 4450, 4500, 4550, 4600]),
        (0.25, 11, True, [0.5, 1, 2, 5, 10]),
        (0.3, 2.4, True, [0.3, 0.4, 0.5, 0.7, 1, 1.5, 2]),
        (1e-7, 1e7, True, [1e-7, 1e-5, 1e-3, 0.1, 10, 1000, 1e5, 1e7]),
    ],
)
def test_ticks_are_round_numbers(low, high, log, expected):
    assert ticks(low, high, log) == pytest.approx(expected)


@pytest.mark.parametrize("exponent", range(-12, 13, 3))
@pytest.mark.parametrize("log", [False, True])
def test_an_axis_of_any_size_has_few_ticks_inside_it(exponent, log):
    low, high = 3.1 * 10.0**exponent, 7.7 * 10.0 ** (exponent + 1)
    found = ticks(low, high, log)
    assert 2 <= len(found) <= 9
    assert all(low <= one <= high for one in found)


def test_lengths_whose_labels_would_collide_are_not_labelled():
    assert spaced([1, 2, 3, 10], [0, 10, 20, 90], 15) == [1, 3, 10]


def test_a_long_name_loses_its_middle():
    assert shortened("short", 20) == "short"
    assert shortened("a" * 100 + "@max-autotune", 30) == "a" * 15 + "…" + "@max-autotune"[-14:].rjust(14, "a")
    assert len(shortened("x" * 1000, 42)) == 42
