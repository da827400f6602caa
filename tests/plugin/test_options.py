"""Where a setting may be given, which place wins, and what a bad value is told."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from attnbench.backends.registry import all_backends

SUITE_INI = "[pytest]\nattn_device = sim\n"


def cases(result: pytest.RunResult) -> int:
    return sum(line.startswith("test_suite.py::") for line in result.outlines)


@pytest.mark.parametrize(
    ("option", "ini", "variable", "argument"),
    [
        # each place selects another number of cases, so that the count says which one won
        ("backend", "numpy torch_flex", "numpy torch_flex torch_math", "torch_flash"),
        ("workload", "flux-256px-t128", "flux-256px-t128 flux-256px-t256", "flux-512px-*"),
        ("mode", "eager", "eager default", "max-autotune"),
    ],
)
def test_of_several_values_command_line_beats_environment_beats_ini(
    bench, pytester, monkeypatch, option, ini, variable, argument
):
    def collected(*arguments: str) -> int:
        return cases(bench("--collect-only", "-q", *arguments))

    pytester.makeini(SUITE_INI)
    by_default = collected()
    pytester.makeini(f"{SUITE_INI}attn_{option} = {ini}\n")
    by_ini = collected()
    monkeypatch.setenv(f"ATTN_{option.upper()}", variable)
    by_variable = collected()
    by_argument = collected(f"--attn-{option}={argument}")
    offered = Counter(mode for backend in all_backends().values() for mode in backend.modes)
    each, eager, both = sum(offered.values()), offered["eager"], offered["eager"] + offered["default"]
    everything = {
        "backend": [6 * each, 18, 36, 18],
        "workload": [6 * each, each, 2 * each, 6 * each],
        "mode": [6 * each, 6 * eager, 6 * both, 6 * offered["max-autotune"]],
    }
    assert [by_default, by_ini, by_variable, by_argument] == everything[option]


def test_of_one_value_command_line_beats_environment_beats_ini_beats_default(sim, pytester, monkeypatch):
    def rounds(*arguments: str) -> int:
        sim("--attn-backend=numpy", "--benchmark-json=run.json", *arguments).assert_outcomes(passed=1)
        (record,) = sim.records().values()
        return len(record["sample"]["rounds_s"])

    found = [rounds()]
    pytester.makeini("[pytest]\nattn_device = sim\nattn_workload = flux-256px-t128\nattn_rounds = 4\n")
    found.append(rounds())
    monkeypatch.setenv("ATTN_ROUNDS", "5")
    found.append(rounds())
    found.append(rounds("--attn-rounds=6"))
    assert found == [30, 4, 5, 6]


def test_a_flag_in_the_environment_beats_the_ini_file_either_way(sim, pytester, monkeypatch):
    def lists() -> bool:
        return "cases: 15 ready" in sim("--collect-only").stdout.str() + sim().stdout.str()

    assert not lists()
    monkeypatch.setenv("ATTN_LIST", "1")
    assert lists()
    pytester.makeini("[pytest]\nattn_device = sim\nattn_workload = flux-256px-t128\nattn_list = true\n")
    monkeypatch.setenv("ATTN_LIST", "0")
    assert not lists()


def test_an_empty_variable_is_not_set(sim, monkeypatch):
    monkeypatch.setenv("ATTN_BACKEND", "")
    assert cases(sim("--collect-only", "-q")) == 15


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("rounds", "0", "expected an integer >= 1, got '0'"),
        ("rounds", "many", "expected an integer >= 1, got 'many'"),
        ("timeout", "-3", "expected a number of seconds above 0, got '-3'"),
        ("timeout", "nan", "expected a number of seconds above 0, got 'nan'"),
        ("device", "gpu", "unknown device 'gpu'; known: cpu, cuda, sim"),
        ("backend", "torch_flsh", "no backend matches 'torch_flsh'; nearest: torch_flash*"),
        ("workload", "flux", "no workload matches 'flux'; *"),
        ("mode", "fast", "no mode matches 'fast'; *"),
        ("reference", "cudnn", "unknown reference 'cudnn'; *"),
        ("sim", "numpy:sad", "expected seed=N, launch=N, unit=NAME, GLOB:+P%, *, got 'numpy:sad'"),
    ],
)
def test_a_bad_value_names_the_place_where_it_was_given(sim, pytester, monkeypatch, name, value, complaint):
    def said(*arguments: str) -> str:
        result = sim("--collect-only", *arguments)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert "Traceback" not in result.stderr.str()
        return result

    said(f"--attn-{name}={value}").stderr.fnmatch_lines([f"ERROR: --attn-{name}: {complaint}"])
    monkeypatch.setenv(f"ATTN_{name.upper()}", value)
    said().stderr.fnmatch_lines([f"ERROR: ATTN_{name.upper()}: {complaint}"])
    monkeypatch.delenv(f"ATTN_{name.upper()}")
    device = "" if name == "device" else "attn_device = sim\n"
    pytester.makeini(f"[pytest]\n{device}attn_{name} = {value}\n")
    said().stderr.fnmatch_lines([f"ERROR: ini key attn_{name}: {complaint}"])


def test_a_variable_with_an_open_quote_is_a_usage_error(sim, monkeypatch):
    monkeypatch.setenv("ATTN_BACKEND", "'numpy")
    result = sim()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: ATTN_BACKEND='numpy: No closing quotation"])


def test_a_flag_variable_with_another_word_is_a_usage_error(sim, monkeypatch):
    monkeypatch.setenv("ATTN_ISOLATE", "maybe")
    result = sim()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: ATTN_ISOLATE: expected 1 or 0, got 'maybe'"])


def test_an_open_quote_in_the_ini_file_is_a_usage_error(sim, pytester):
    pytester.makeini("[pytest]\nattn_device = sim\nattn_backend = 'numpy\n")
    result = sim()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: ini key attn_backend: No closing quotation"])


def test_a_number_where_a_toml_file_needs_a_string_is_a_usage_error(sim, pytester):
    pytester.path.joinpath("tox.ini").unlink()
    pytester.makepyprojecttoml("[tool.pytest]\nattn_device = 'sim'\nattn_rounds = 3\n")
    result = sim()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *attn_rounds*expects a string, got int: 3"])


def test_a_variable_that_nothing_reads_is_a_usage_error_with_the_nearest(sim, monkeypatch):
    monkeypatch.setenv("ATTN_PYTHON", "read by scripts/bench")
    sim("--attn-backend=numpy").assert_outcomes(passed=1)
    monkeypatch.setenv("ATTN_BACKENDS", "numpy")
    result = sim()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: environment: unknown variable of attnbench 'ATTN_BACKENDS'; nearest: ATTN_BACKEND*"]
    )


def test_without_an_ini_file_nothing_warns_of_its_keys(bench, pytester):
    (pytester.path / "tox.ini").unlink()
    assert bench("-W", "error", "--attn-device=sim", "--attn-backend=numpy", "--attn-rounds=3").ret == 0


def test_an_unknown_ini_key_is_refused(sim, pytester):
    ini = pytester.path / "tox.ini"
    ini.write_text(f"{ini.read_text()}\nattn_baseline = baselines\n")
    result = sim()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: tox.ini: unknown ini key of attnbench 'attn_baseline'; nearest: attn_baselines*"]
    )


def test_an_ini_key_that_somebody_else_declared_is_theirs(sim, pytester):
    ini = pytester.path / "tox.ini"
    ini.write_text(f"{ini.read_text()}\nattn_team = kernels\n")
    pytester.makeconftest("def pytest_addoption(parser):\n    parser.addini('attn_team', 'who asks')\n")
    assert sim("--attn-backend=numpy").ret == pytest.ExitCode.OK


def test_a_list_where_an_ini_key_takes_text_is_refused(pytester, bench):
    (pytester.path / "tox.ini").unlink()
    (pytester.path / "pytest.toml").write_text('[pytest]\nattn_baselines = ["baselines"]\n')
    result = bench("--attn-device=sim")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *ini key attn_baselines: *list*"])


def test_variables_of_other_programs_do_not_disturb_a_project_without_cases(pytester, bench, monkeypatch):
    pytester.path.joinpath("test_suite.py").unlink()
    pytester.path.joinpath("tox.ini").unlink()
    pytester.makepyfile(test_other="def test_other(): pass")
    monkeypatch.setenv("ATTN_BACKEND", "xformers")  # of other projects
    monkeypatch.setenv("ATTN_PRECISION", "high")
    result = bench()
    result.assert_outcomes(passed=1)
    said = re.sub("^plugins: .*", "", result.stdout.str(), flags=re.M)  # pytest's own line, where it is installed
    assert "attnbench" not in said


def test_the_simulation_is_refused_on_a_real_device(bench):
    result = bench("--attn-sim=seed=2", "--attn-device=cpu")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --attn-sim configures the simulated device: add --attn-device=sim"])


def test_help_lists_every_option_with_its_default(sim):
    text = sim("--help").stdout.str()
    options = ("backend", "workload", "mode", "device", "rounds", "reference", "list", "isolate", "timeout", "sim")
    assert not [name for name in options if f"--attn-{name}" not in text]
    assert "--attn-child" not in text
