"""Names on the command line: globs, and help where nothing matches."""

import pytest

from attnbench.globs import UnknownName, require, select

BACKENDS = ("torch_math", "torch_flash", "torch_efficient", "sage[per_thread]", "numpy")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("torch_math", ("torch_math",)),
        ("torch_*", ("torch_math", "torch_flash", "torch_efficient")),
        ("*", BACKENDS),
        ("sage[per_thread]", ("sage[per_thread]",)),
        ("sage[per_*]", ("sage[per_thread]",)),
        ("s*[per_thread]", ("sage[per_thread]",)),
        ("[nt]*[yh]", ("torch_math", "torch_flash", "numpy")),
    ],
)
def test_a_name_or_glob_selects_in_the_order_of_the_known(pattern, found):
    assert select("backend", pattern, BACKENDS) == found


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("torch_falsh", "torch_flash"), ("Torch_Flash", "torch_flash"), ("nunpy", "numpy"), ("flsh*", "torch_flash")],
)
def test_an_unknown_name_gives_the_nearest_ones(typo, meant):
    with pytest.raises(UnknownName, match=f"no backend matches .*; nearest: .*{meant}") as caught:
        select("backend", typo, BACKENDS)
    assert caught.value.kind == "backend"


def test_case_does_not_keep_a_name_from_being_near():
    with pytest.raises(UnknownName, match=r"nearest: Sage_FP8_SM90$"):
        select("backend", "sage_fp8_sm90*", ("Sage_FP8_SM90", "NUMPY", "triton", "x"))
    with pytest.raises(UnknownName, match=r"nearest: triton$"):
        select("backend", "TRITON", ("Sage_FP8_SM90", "NUMPY", "triton", "x"))


def test_a_name_that_is_near_none_gives_the_known_ones():
    with pytest.raises(UnknownName, match=r"known: torch_math, torch_flash, .*numpy$"):
        select("backend", "zzz", BACKENDS)


def test_a_long_list_of_known_names_is_cut_and_counted():
    with pytest.raises(UnknownName, match=r"known: w0, w1, .*w11 and 88 more$"):
        select("workload", "?????", tuple(f"w{n}" for n in range(100)))


def test_nothing_known_is_said():
    with pytest.raises(UnknownName, match="known: none"):
        select("backend", "torch", ())


def test_where_a_name_is_required_a_glob_is_none():
    require("device", "cpu", ("cpu", "cuda"))
    with pytest.raises(UnknownName, match=r"unknown device 'c\*'; known: cpu, cuda"):
        require("device", "c*", ("cpu", "cuda"))


def test_several_names_in_one_are_told_how_several_are_chosen():
    with pytest.raises(UnknownName, match=r"no backend matches 'numpy,torch_math'; .*; repeat the option for several$"):
        select("backend", "numpy,torch_math", ("numpy", "torch_math", "torch_flash", "torch_flex"))
