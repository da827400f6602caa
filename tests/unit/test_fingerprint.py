"""Fingerprints: comparable or not, and nobody's machine named."""

import itertools
import json
from types import SimpleNamespace

import pytest

from attnbench.fingerprint import ceiling_mhz, differences, hashed, make_fingerprint, slug, unknown_fields
from attnbench.hardware import device, nvml, sm_clock
from attnbench.model import Fingerprint
from attnbench.plugin.benchmark_compare import machine_differences


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


@pytest.mark.parametrize(("hz", "mhz"), [(1979.4e6, 1980), (1972.6e6, 1980), (1971.9e6, 1965), (1410e6, 1410)])
def test_a_ceiling_is_whole_steps_of_the_clock(hz, mhz):
    assert ceiling_mhz(hz) == mhz


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        (1980, 1980, ()),
        (1980, 1965, ()),
        (1965, 1980.0, ()),
        (1965, 2040, ()),
        (1980, 1875, ("ceiling_mhz 1980 here, 1875 there",)),
        (1410, 1980, ("ceiling_mhz 1410 here, 1980 there",)),
        (1980, None, ()),
        (1980, "1980 MHz", ("ceiling_mhz 1980 here, 1980 MHz there",)),
    ],
)
def test_a_gpus_plateaus_are_one_ceiling_and_a_locked_clock_is_another(here, there, said):
    assert differences(Fingerprint({"ceiling_mhz": here}, {}), Fingerprint({"ceiling_mhz": there}, {})) == said


def test_steps_are_granted_to_the_ceiling_only():
    ours, theirs = Fingerprint({"multiprocessors": 132}, {}), Fingerprint({"multiprocessors": 131}, {})
    assert differences(ours, theirs) == ("multiprocessors 132 here, 131 there",)


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({"ceiling_mhz": 1965, "protocol": "cuda-events/4"}, ()),
        ({"ceiling_mhz": 1410, "protocol": "cuda-events/4"}, ("ceiling_mhz 1980 here, 1410 there",)),
        ({"protocol": "cuda-events/1"}, ("protocol cuda-events/4 here, cuda-events/1 there",)),
    ],
)
def test_what_pytest_benchmark_compares_with_is_held_against_the_same_rule(there, said):
    ours = Fingerprint({"device": "GPU", "ceiling_mhz": 1980, "protocol": "cuda-events/4"}, {})
    stored = json.loads(json.dumps({"device": "GPU", "node": "elsewhere", **there}))
    assert machine_differences(ours, stored) == said


def test_a_gpus_key_holds_its_ceiling(monkeypatch):
    properties = SimpleNamespace(
        name="GPU", major=9, minor=0, uuid="12ab", multi_processor_count=132, total_memory=2**37, L2_cache_size=2**25
    )
    torch = SimpleNamespace(
        cuda=SimpleNamespace(get_device_properties=lambda at: properties, current_device=lambda: 0),
        backends=SimpleNamespace(cudnn=SimpleNamespace(version=lambda: 91900)),
        version=SimpleNamespace(cuda="13.0"),
        __version__="2.11.0+cu130",
    )
    monkeypatch.setattr(sm_clock, "sm_clock", lambda: SimpleNamespace(ceiling=SimpleNamespace(hz=1979.4e6)))
    monkeypatch.setattr(nvml, "gpu_fields", lambda uuid: {})
    key = device._cuda(torch).key
    assert (key["ceiling_mhz"], key["protocol"]) == (1980, "cuda-events/4")


@pytest.mark.parametrize(
    ("name", "folder"),
    [("NVIDIA H200", "nvidia-h200"), ("AMD EPYC 9654 (96-Core)", "amd-epyc-9654-96-core"), ("a/../b", "a-b")],
)
def test_a_device_model_is_a_folder_name(name, folder):
    assert slug(name) == folder
