"""Fingerprints: comparable or not, and nobody's machine named."""

import itertools

import pytest

from attnbench.fingerprint import differences, hashed, make_fingerprint, slug, unknown_fields
from attnbench.model import Fingerprint


def test_host_and_unit_are_stored_as_hashes_only():
    made = make_fingerprint({"device": "GPU"}, {"host": "build-7", "unit": "GPU-12ab", "torch": "2.13.0"}, "salt")
    assert made.context == {"host": hashed("build-7", "salt"), "unit": hashed("GPU-12ab", "salt"), "torch": "2.13.0"}
    assert not {"build-7", "GPU-12ab"} & set(map(str, made.context.values()))


def test_a_hash_recognises_a_unit_under_the_same_salt_only():
    assert hashed("GPU-1", "a") == hashed("GPU-1", "a")
    assert len({hashed("GPU-1", "a"), hashed("GPU-1", "b"), hashed("GPU-2", "a")}) == 3


def test_an_unknown_host_stays_unknown():
    made = make_fingerprint({"device": "GPU", "power_limit_w": None}, {"host": None}, "salt")
    assert made.context["host"] is None
    assert unknown_fields(made) == ("host", "power_limit_w")


def test_only_the_key_makes_launches_incomparable():
    ours = Fingerprint({"device": "A", "power_limit_w": 700.0}, {"torch": "1"})
    theirs = Fingerprint({"device": "A", "power_limit_w": 650.0}, {"torch": "2"})
    assert differences(ours, theirs) == ("power_limit_w 700.0 here, 650.0 there",)


@pytest.mark.parametrize(("here", "there"), list(itertools.product([{}, {"x": None}, {"x": 1}, {"x": 2}], repeat=2)))
def test_unknown_on_one_side_is_no_difference_and_the_sides_agree(here, there):
    found = differences(Fingerprint(here, {}), Fingerprint(there, {}))
    known = here.get("x") is not None and there.get("x") is not None
    assert bool(found) == (known and here != there)
    assert bool(found) == bool(differences(Fingerprint(there, {}), Fingerprint(here, {})))


@pytest.mark.parametrize(
    ("name", "folder"),
    [("NVIDIA H200", "nvidia-h200"), ("AMD EPYC 9654 (96-Core)", "amd-epyc-9654-96-core"), ("a/../b", "a-b")],
)
def test_a_device_model_is_a_folder_name(name, folder):
    assert slug(name) == folder
