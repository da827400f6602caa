"""Which stored launches measured the same version of the code, and what tells two versions apart."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from attnbench.model import Compilation, DeviceOp, Fingerprint, Launch
from attnbench.verdicts.code_versions import baseline_version, by_version, describe_difference, newer_elsewhere


@pytest.fixture
def stored(record):
    """`stored("0001", unit="u", torch="2.11", record field=value …)`: one launch of a case in a session of its own."""

    def make(name, unit="u", mode="eager", family="torch", **changes):
        fields = {key: changes.pop(key) for key in ("versions", "source", "route", "compilation") if key in changes}
        launch = Launch(f"launch {name}", "", Fingerprint({}, {"unit": unit, **changes}))
        session = SimpleNamespace(name=name, launches={launch.id: launch})
        return session, record(f"torch_flash@{mode}", launch=launch.id, family=family, **fields)

    return make


def sessions_by_version(*stored):
    """Names of the sessions of each version, the newest first."""
    return [[session.name for session, _ in version] for version in by_version(stored)]


FLASH, SPLIT = (DeviceOp("flash_fwd"),), (DeviceOp("flash_fwd_splitkv"),)


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ({"torch": "2.11.0"}, {"torch": "2.12.0"}),
        ({"cuda": "13.0"}, {"cuda": "13.1"}),
        ({"driver": "580"}, {"driver": "590"}),
        ({"versions": {"flash-attn": "2.8.2"}}, {"versions": {"flash-attn": "2.8.3"}}),
        ({"versions": {"repository": "aaaa"}}, {"versions": {"repository": "bbbb"}}),
        ({"source": "me/mine at aaaa"}, {"source": "me/mine at bbbb"}),
        ({"route": FLASH}, {"route": SPLIT}),
        ({"cudnn": "9.1"}, {"cudnn": "9.2"}),
        ({"cudnn": "9.1", "route": (DeviceOp("cudnn_sdpa"),)}, {"cudnn": "9.2", "route": (DeviceOp("cudnn_sdpa"),)}),
        ({"triton": "3.6", "mode": "default"}, {"triton": "3.7", "mode": "default"}),
        ({"triton": "3.6", "family": "me"}, {"triton": "3.7", "family": "me"}),
    ],
    ids=str,
)
def test_other_code_is_another_version(stored, then, now):
    assert sessions_by_version(stored("0001", **then), stored("0002", **now)) == [["0002"], ["0001"]]


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ({}, {}),
        ({"torch": "2.11.0"}, {}),
        ({}, {"versions": {"flash-attn": "2.8.3"}, "route": FLASH, "source": "x"}),
        ({"python": "3.11", "numpy": "2.0"}, {"python": "3.12", "numpy": "2.1"}),
        ({"cudnn": "9.1", "route": FLASH}, {"cudnn": "9.2", "route": FLASH}),
        ({"triton": "3.6"}, {"triton": "3.7"}),
        ({"route": (DeviceOp("triton_poi_fused_0"),)}, {"route": (DeviceOp("triton_poi_fused_3"),)}),
        (
            {"route": (DeviceOp("flash", duration_s=1e-3),)},
            {"route": (DeviceOp("flash", duration_s=1e-3), DeviceOp("Memset", duration_s=1e-6))},
        ),
    ],
    ids=str,
)
def test_what_is_unknown_or_no_part_of_the_kernel_tells_no_version_apart(stored, then, now):
    assert sessions_by_version(stored("0001", **then), stored("0002", **now)) == [["0001", "0002"]]


def test_the_names_of_kernels_that_autotuning_chose_are_its_choice(stored):
    tuned = [
        {"mode": "max-autotune", "route": route, "compilation": Compilation(1, choices=(choice,))}
        for route, choice in ((FLASH, "k: A"), (SPLIT, "k: B"))
    ]
    assert sessions_by_version(stored("0001", **tuned[0]), stored("0002", **tuned[1])) == [["0001", "0002"]]


def test_what_one_session_knows_parts_the_older_ones_from_those_that_do_not_say(stored):
    unknown, new, old = stored("0003"), stored("0002", torch="2.12"), stored("0001", torch="2.11")
    assert sessions_by_version(old, new, unknown) == [["0002", "0003"], ["0001"]]


def test_a_version_that_comes_back_is_its_line_again(stored):
    found = [stored(f"000{number}", torch=torch) for number, torch in enumerate(("2.11", "2.12", "2.11"))]
    assert sessions_by_version(*found) == [["0000", "0002"], ["0001"]]


def test_all_launches_of_a_session_are_of_one_version(stored):
    (session, first), (other, second) = stored("0001", route=FLASH), stored("0001", route=SPLIT)
    session.launches = {**session.launches, **other.launches}
    assert sessions_by_version((session, first), (session, second), stored("0002", route=SPLIT)) == [
        ["0001", "0001", "0002"]
    ]


@pytest.mark.parametrize("versions", [{"repository": "aaaa+dirty"}, {"mine": "1.2 (editable, aaaa+dirty)"}])
def test_a_tree_with_local_changes_is_a_line_of_its_own_each_time(stored, versions):
    found = [stored(f"000{number}", versions=versions) for number in (1, 2)]
    assert sessions_by_version(*found) == [["0002"], ["0001"]]
    assert "local changes" in describe_difference(found[:1], found[1:])


def upgraded(stored, oldest):
    """Sessions of two units while torch goes from 2.10 to 2.12; the first one is of the unit `oldest`."""
    return [
        stored("0001", oldest, torch="2.10"),
        stored("0002", "here", torch="2.11"),
        stored("0003", "there", torch="2.11"),
        stored("0004", "there", torch="2.12"),
    ]


def test_the_baseline_is_the_newest_line_of_this_unit_and_the_same_code_on_others(stored):
    found = upgraded(stored, "here")
    version, history = baseline_version(found, "here")
    assert [session.name for session, _ in version] == ["0002", "0003"]
    assert [[session.name for session, _ in one] for one in history] == [["0001"]]
    for unit in ("elsewhere", None):
        version, history = baseline_version(found, unit)
        assert [session.name for session, _ in version] == ["0004"]
        assert [one[0][0].name for one in history] == ["0003", "0002", "0001"]


def test_a_newer_version_on_another_unit_is_said(stored):
    found = upgraded(stored, "there")

    def said(stored_ones, unit):
        return newer_elsewhere(stored_ones, baseline_version(stored_ones, unit)[0], unit)

    assert said(found, "here") == (
        "not compared with 0004, which is newer but from another GPU and another version: torch 2.12, the baseline's is "
        "2.11"
    )
    assert [said(found[:3], "here"), said(found, "there"), said(found, "elsewhere"), said(found, None)] == [""] * 4


def test_what_differs_is_said(stored):
    then = stored("0001", torch="2.11", route=FLASH, versions={"flash-attn": "2.8.2", "repository": "a"})
    now = stored("0002", torch="2.12", route=SPLIT, versions={"flash-attn": "2.8.3", "repository": "b"})
    assert describe_difference([then], [now]) == (
        "torch 2.11, the baseline's is 2.12; flash-attn 2.8.2, the baseline's is 2.8.3; other code of the repository; "
        "other kernels ran"
    )
