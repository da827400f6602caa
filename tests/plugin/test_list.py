"""--attn-list: every case ready, or every reason why not, and nothing run."""

from __future__ import annotations

import pytest

NAMES = ("torch_math", "torch_flash", "torch_efficient", "torch_cudnn", "torch_flex", "numpy")
PLAIN = tuple(f"--attn-backend={name}" for name in NAMES)  # whatever else is registered

BROKEN = """
from attnbench import Capability, Device, DType, Package, register

@register("needs_much", "mine", requires=(Device("cuda"), DType("fp16"), Package("nosuch_module")))
def needs_much(workload):
    raise AssertionError("is not loaded: it cannot run here")

def asked(workload, device):
    import nosuch_library

@register("asks_badly", "mine", refuses=asked)
def asks_badly(workload):
    raise AssertionError("is not loaded: nobody knows whether it can run")

@register("falls_over", "mine", modes=("eager", "default"))
def falls_over(workload):
    import nosuch_library
"""


def test_a_listing_on_the_simulated_device_says_that_all_are_ready(sim):
    result = sim("--attn-list", "--attn-backend=torch_flash", "--attn-backend=torch_flex")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "device: sim · simulated device",
            "  torch_flash  eager, default, max-autotune: ready",
            "  torch_flex   default, max-autotune: ready",
            "  flux-256px-t128  1x384x24x128:bf16  *",
            "5 cases: 5 ready, 0 not",
        ]
    )
    result.assert_outcomes()  # none ran


def test_a_listing_on_the_cpu_names_what_each_backend_lacks(bench):
    result = bench("--attn-list", "--attn-device=cpu", "--attn-mode=eager", "--attn-workload=1x64x2x16", *PLAIN)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "device: cpu · *",
            "  torch_math *eager: ready",
            "  torch_cudnn *eager: needs device cuda, found cpu",
            "  numpy *eager: ready",
            "5 cases: 3 ready, 2 not",
        ]
    )


def test_a_listing_gives_every_reason_and_loads_what_could_run(bench, pytester):
    pytester.makeconftest(BROKEN)
    mine = [f"--attn-backend={name}" for name in ("needs_much", "asks_badly", "falls_over")]
    result = bench("--attn-list", "--attn-device=cpu", "--attn-workload=1x64x2x16", *mine)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "  needs_much  eager: needs device cuda, found cpu; needs dtype fp16, found bf16; *nosuch_module*",
            "  asks_badly  eager: cannot say whether it runs here: ModuleNotFoundError: No module named 'nosuch_library'",
            "  falls_over  eager, default: *cannot be loaded: ModuleNotFoundError: No module named 'nosuch_library'*",
            "4 cases: 0 ready, 4 not",
        ]
    )


def test_a_listing_on_the_simulated_device_says_what_a_kernel_does_not_take(bench):
    result = bench("--attn-list", "--attn-device=sim", "--attn-mode=eager", "--attn-workload=1x64x2x16:bool", *PLAIN)
    result.stdout.fnmatch_lines(["  torch_flash *eager: needs a boolean mask, found a backend for *"])


@pytest.mark.parametrize("named", [("-k", "eager"), ("-k", "not default and not max-autotune")])
def test_a_listing_has_what_pytest_s_own_filters_leave(sim, named):
    result = sim("--attn-list", "--attn-backend=torch_flash", *named)
    result.stdout.fnmatch_lines(["  torch_flash  eager: ready", "1 case: 1 ready, 0 not"])


def test_filters_that_are_for_other_tests_leave_a_listing_alone(bench, pytester, monkeypatch):
    (pytester.path / "test_suite.py").unlink()
    pytester.makepyfile(test_other="def test_other(): pass")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-m 'not slow' -W ignore")
    result = bench("--attn-list", "--attn-device=sim", "--attn-backend=torch_flash", "--attn-mode=eager")
    result.stdout.fnmatch_lines(["*: * ready, 0 not"])
    assert "0 cases" not in result.stdout.str()


def test_a_listing_needs_no_file_with_cases(bench, pytester):
    pytester.path.joinpath("test_suite.py").unlink()
    result = bench("--attn-list", "--attn-device=sim", "--attn-workload=1x64x2x16", *PLAIN)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["15 cases: 15 ready, 0 not"])


def test_a_listing_creates_nothing(sim, pytester):
    before = sorted(pytester.path.rglob("*"))
    sim("--attn-list", "--benchmark-save=x", "--benchmark-compare", "-p", "no:cacheprovider")
    new = set(pytester.path.rglob("*")) - set(before)
    assert not [path for path in new if "__pycache__" not in path.parts]


def test_a_listing_of_an_unknown_name_is_a_usage_error(sim, pytester):
    result = sim("--attn-list", "--attn-backend=nosuch")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    pytester.path.joinpath("test_suite.py").unlink()
    result = sim("--attn-list", "--attn-backend=nosuch")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --attn-backend: no backend matches 'nosuch'; *"])


def test_a_listing_without_a_terminal_says_why_it_prints_nothing(sim):
    result = sim("--attn-list", "-p", "no:terminal")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --attn-list needs pytest's terminal reporter: *"])
