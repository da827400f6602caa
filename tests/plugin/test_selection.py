"""--attn-backend, --attn-workload, --attn-mode: which cases a run has."""

from __future__ import annotations

import pytest


def ids(result: pytest.RunResult) -> list[str]:
    """What stands between the brackets of every collected case."""
    return [line.split("[", 1)[1][:-1] for line in result.outlines if line.startswith("test_suite.py::")]


def test_ids_name_backend_mode_and_workload_in_the_order_of_registration(sim):
    result = sim("--collect-only", "-q", "--attn-backend=torch_math", "--attn-backend=numpy")
    assert ids(result) == [
        "torch_math@eager-flux-256px-t128",
        "torch_math@default-flux-256px-t128",
        "torch_math@max-autotune-flux-256px-t128",
        "numpy@eager-flux-256px-t128",
    ]


def test_globs_select_and_repeat(sim):
    result = sim("--collect-only", "-q", "--attn-backend=torch_f*[hx]", "--attn-backend=numpy", "--attn-mode=*a*t*")
    assert ids(result) == [
        "torch_flash@default-flux-256px-t128",
        "torch_flash@max-autotune-flux-256px-t128",
        "torch_flex@default-flux-256px-t128",
        "torch_flex@max-autotune-flux-256px-t128",
    ]


def test_a_workload_on_the_command_line_replaces_the_one_of_the_ini_file(sim):
    result = sim("--collect-only", "-q", "--attn-backend=numpy", "--attn-workload=flux-512px-t1*")
    assert ids(result) == ["numpy@eager-flux-512px-t128"]


def test_a_workload_may_be_spelt_out_and_is_bf16_without_a_dtype(sim):
    spelt = ("--attn-workload=2x64x3x16:fp32", "--attn-workload=1x64x2x16")
    result = sim("--attn-backend=numpy", "--benchmark-json=run.json", *spelt)
    result.assert_outcomes(passed=2)
    records = sim.records()
    assert list(records) == ["numpy@eager-2x64x3x16:fp32", "numpy@eager-1x64x2x16:bf16"]
    workload = records["numpy@eager-2x64x3x16:fp32"]["workload"]
    axes = {name: workload[name] for name in ("batch", "seq", "heads", "head_dim", "dtype")}
    assert axes == {"batch": 2, "seq": 64, "heads": 3, "head_dim": 16, "dtype": "fp32"}


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("--attn-backend=torch_flsh", "--attn-backend: no backend matches 'torch_flsh'; nearest: torch_flash*"),
        ("--attn-workload=flux-1024px", "--attn-workload: no workload matches 'flux-1024px'; nearest: *flux-1024px-t*"),
        ("--attn-grid=sagee", "--attn-grid: no grid matches 'sagee'; nearest: sage, sage-32k"),
        ("--attn-grid=", "--attn-grid: *"),
        ("--attn-workload=1x64x2x16:int8", "--attn-workload: *unknown dtype 'int8'; known: bf16, fp16, fp32"),
        ("--attn-workload=1x0x2x16", "--attn-workload: *every axis of (1, 0, 2, 16) must be at least 1"),
        ("--attn-mode=egar", "--attn-mode: no mode matches 'egar'; known: eager, default, max-autotune"),
        ("--attn-device=gpu", "--attn-device: unknown device 'gpu'; known: cpu, cuda, sim"),
        ("--attn-reference=torch_flash", "--attn-reference: unknown reference 'torch_flash'; nearest: torch_flash@*"),
        (
            "--attn-reference=torch_flash@*",
            "--attn-reference: unknown reference 'torch_flash@*'; nearest: torch_flash@*",
        ),
    ],
)
@pytest.mark.parametrize("collecting", ["--collect-only", "--benchmark-only"])
def test_a_name_that_nothing_has_is_a_usage_error_with_the_nearest(sim, argument, sentence, collecting):
    result = sim(argument, collecting)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {sentence}"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_a_mode_that_no_selected_backend_has_says_what_they_have(sim):
    result = sim("--attn-backend=torch_flex", "--attn-mode=eager")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --attn-mode: no variant in mode eager: torch_flex has default, max-autotune"])


BRACKETS = """
from attnbench import register

@register("sage[per_thread]", "mine")
def load(workload):
    return None

@register("sage2", "mine")
def load_other(workload):
    return None
"""


def test_a_name_with_brackets_is_itself_before_it_is_a_glob(sim, pytester):
    pytester.makeconftest(BRACKETS)  # as a glob it would be sagep, sager …: never itself
    one = "sage[per_thread]@eager-flux-256px-t128"
    assert ids(sim("--collect-only", "-q", "--attn-backend=sage[per_thread]")) == [one]
    assert ids(sim("--collect-only", "-q", "--attn-backend=*", f"test_suite.py::test_attention[{one}]")) == [one]
    result = sim("--attn-backend=sage2", "--attn-backend=s*e[per_thread]", "--attn-sim=sage[per_thread]:error")
    result.assert_outcomes(failed=1, passed=1)


def test_cases_are_chosen_by_k_too(sim):
    assert ids(sim("--collect-only", "-q", "-k", "torch_flex and default")) == ["torch_flex@default-flux-256px-t128"]


def test_the_marker_attn_selects_and_deselects_cases(sim, pytester):
    pytester.makepyfile(test_other="def test_other(): pass")
    sim("-m", "attn", "--attn-backend=numpy").assert_outcomes(passed=1, deselected=1)
    sim("-m", "not attn", "--attn-backend=numpy").assert_outcomes(passed=1, deselected=1)
    assert "attn: a case of attnbench" in sim("--markers").stdout.str()


def test_a_run_that_selects_no_case_says_so(sim):
    result = sim("--benchmark-only", "-k", "nothing_has_this_name")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["attnbench: no case is left; -k, -m or --deselect removed all 15"])


NO_SUITE = "attnbench: no test of attnbench was collected; to measure its suite, add --pyargs attnbench.suite"


def test_an_option_of_ours_without_a_test_of_ours_names_the_suite(bench, pytester):
    (pytester.path / "test_suite.py").unlink()
    result = bench("--attn-backend=torch_math")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert result.outlines.count(NO_SUITE) == 1
    assert NO_SUITE not in bench("--benchmark-only").outlines, "nobody asked for cases"
    assert NO_SUITE not in bench("--attn-list", "--attn-device=sim", "--attn-backend=torch_math").outlines
    pytester.makepyfile(test_other="def test_other(): pass")
    result = bench("--attn-backend=torch_math")
    assert result.ret == 0
    assert result.outlines.count(NO_SUITE) == 1


def test_a_registered_kernel_without_a_test_of_ours_names_the_suite(bench, pytester):
    (pytester.path / "test_suite.py").unlink()
    pytester.makeconftest("""
        from attnbench import register

        @register("mine", "mine")
        def load(workload): ...
        """)
    result = bench("--benchmark-only")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert result.outlines.count(NO_SUITE) == 1
    pytester.makepyfile(test_other="def test_other(): pass")
    assert NO_SUITE not in bench().outlines, "the other tests of a project that registers kernels"
    filtered = bench("-k", "nothing")
    assert filtered.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert NO_SUITE not in filtered.outlines, "its own filter left none"


def test_a_test_that_only_needs_a_workload_gets_each_once(sim, pytester):
    pytester.makepyfile(test_flop="def test_flop(attn_workload): assert attn_workload.flop > 0")
    result = sim("test_flop.py", "--attn-workload=flux-256px-t1*", "--attn-workload=flux-512px-t128", "-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_flop?flux-512px-t128? PASSED*", "*test_flop?flux-256px-t128? PASSED*"])
    assert NO_SUITE not in result.outlines


def test_inputs_of_a_simulated_device_are_refused_in_one_sentence(sim, pytester):
    pytester.makepyfile(test_mine="def test_mine(attn_inputs): pass")
    run = sim("test_mine.py")
    run.assert_outcomes(errors=1)
    run.stdout.fnmatch_lines(["the simulated device has no tensors: attn_inputs needs --attn-device cpu or cuda"])
