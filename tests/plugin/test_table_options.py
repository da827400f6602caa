"""What pytest-benchmark's table cannot show is refused before anything runs; the section is printed whatever it does."""

from __future__ import annotations

import json
import re

import pytest

ONE = ("--attn-backend=numpy", "--benchmark-only")
OTHER = """
import pytest

def test_plain(benchmark): benchmark.pedantic(sum, args=([1],), rounds=3)

@pytest.mark.parametrize("size", [1, 2])
def test_sized(benchmark, size): benchmark.pedantic(sum, args=([size],), rounds=3)
"""


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        (
            "param:workload",
            "unknown parameter of the collected benchmarks 'workload'; known: attn_variant, attn_workload",
        ),
        ("fullname,param:x", "unknown parameter of the collected benchmarks 'x'; known: attn_variant, attn_workload"),
        ("param:", "unknown parameter of the collected benchmarks ''; known: attn_variant, attn_workload"),
        ("params", "unknown grouping of pytest-benchmark 'params'; nearest: param, param:NAME*"),
        ("group,,name", "unknown grouping of pytest-benchmark ''; known: group, name, func*"),
    ],
)
def test_a_grouping_that_no_benchmark_has_is_refused_before_anything_runs(sim, word, complaint):
    result = sim(*ONE, f"--benchmark-group-by={word}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --benchmark-group-by={word}: {complaint}"])
    assert "numpy" not in result.stdout.str().partition("collected 1 item")[2]


@pytest.mark.parametrize(
    ("word", "group"),
    [
        ("param:attn_variant", "'attn_variant=numpy@eager'"),
        ("fullfunc, param:attn_workload", "'test_suite.py::test_attention attn_workload=flux-256px-t128'"),
        ("param", "'numpy@eager-flux-256px-t128'"),
    ],
)
def test_a_grouping_that_there_is_groups(sim, word, group):
    result = sim(*ONE, f"--benchmark-group-by={word}")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines([f"*benchmark {group}: 1 tests*", "1 case: 1 measured"])


def test_benchmarks_without_a_parameter_that_others_have_stand_in_a_group_of_their_own(sim, pytester):
    pytester.makepyfile(test_other=OTHER)
    result = sim(*ONE, "--benchmark-group-by=param:size")
    assert result.ret == pytest.ExitCode.OK
    groups = {line.strip("- ") for line in result.outlines if line.strip("- ").startswith("benchmark '")}
    assert groups == {"benchmark 'size=1': 1 tests", "benchmark 'size=2': 1 tests", "benchmark 'size=–': 2 tests"}
    result.stdout.fnmatch_lines(["1 case: 1 measured"])


@pytest.mark.parametrize(
    "option", ["--benchmark-columns", "--benchmark-sort", "--benchmark-name", "--benchmark-time-unit"]
)
def test_a_word_that_pytest_benchmark_does_not_know_is_a_usage_error(sim, option):
    result = sim(*ONE, f"{option}=bogus")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in result.stderr.str()


def test_a_histogram_without_its_package_is_refused_before_anything_runs(sim):
    result = sim(*ONE, "--benchmark-histogram=picture")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --benchmark-histogram needs the package pygal, which is not installed (pip *"])


def test_the_options_of_the_table_do_not_matter_where_nothing_is_timed(sim):
    result = sim(
        "--attn-backend=numpy", "--benchmark-disable", "--benchmark-group-by=param:x", "--benchmark-histogram=x"
    )
    assert result.ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    ("hook", "error"), [("scale_unit", "KeyError('speed')"), ("group_stats", "TypeError('no group')")]
)
def test_a_table_that_raises_is_one_sentence_and_a_failed_run_with_its_section(sim, pytester, hook, error):
    arguments = {"scale_unit": "unit, benchmarks", "group_stats": "benchmarks, group_by"}[hook]
    pytester.makeconftest(f"def pytest_benchmark_{hook}({arguments}):\n    raise {error}\n")
    result = sim(*ONE, "--benchmark-json=run.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["1 case: 1 measured", f"pytest-benchmark could not show its table: {error.split('(')[0]}: *"]
    )
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    assert sim.records()["numpy@eager-flux-256px-t128"]["status"] == "measured"


def test_a_table_that_raises_does_not_hide_a_slow_down_beyond_compare_fail(sim, pytester):
    sim(*ONE, "--benchmark-save=before")
    pytester.makeconftest("def pytest_benchmark_scale_unit(unit): raise KeyError('speed')\n")
    result = sim(*ONE, "--benchmark-compare=0001", "--benchmark-compare-fail=median:5%", "--attn-sim=numpy:+50%")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "Performance has regressed" in result.stderr.str()


def header(result, group="flux-256px-t128"):
    """Column heads of pytest-benchmark's table of a group, and the names of its rows."""
    lines = iter(result.outlines)
    next(line for line in lines if f"benchmark '{group}'" in line)
    heads = re.split(r" {2,}", next(lines))
    rows = [line.split("  ")[0] for line in lines]
    return heads[1:], rows[1 : rows.index("")]


@pytest.mark.parametrize(
    ("width", "columns", "name"),
    [
        (60, ["Median", "Rounds"], "torch_flash@default"),
        (80, ["Min", "Median", "Rounds"], "torch_flash@default"),
        (100, ["Min", "Median", "IQR", "Rounds"], "torch_flash@default"),
        (140, ["Min", "Median", "IQR", "Rounds"], "test_attention[torch_flash@default-flux-256px-t128]"),
    ],
)
def test_the_table_fits_the_terminal(sim, monkeypatch, width, columns, name):
    monkeypatch.setenv("COLUMNS", str(width))
    result = sim("--benchmark-only", "--attn-backend=torch_flash", "--benchmark-sort=name")
    heads, names = header(result)
    assert (heads, names[0]) == (columns, name)
    start = next(at for at, line in enumerate(result.outlines) if "benchmark 'flux" in line)
    end = next(at for at, line in enumerate(result.outlines) if "attnbench (simulated)" in line)
    assert max(map(len, result.outlines[start:end])) <= width
    assert not any("Legend" in line for line in result.outlines)
    assert "" not in (result.outlines[start - 2], result.outlines[end - 2])
    assert result.outlines[start - 1] == result.outlines[end - 1] == ""


def test_columns_and_names_that_were_chosen_stay(sim, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = sim(*ONE, "--benchmark-columns=min,max,mean,ops", "--benchmark-name=normal")
    heads, names = header(result)
    assert heads == ["Min", "Max", "Mean", "OPS (Kops/s)"]
    assert names[0].startswith("test_attention[numpy@eager-flux-256px-t128]")
    result.stdout.fnmatch_lines(["Legend:", "  OPS: *"])
    assert not any("Outliers:" in line for line in result.outlines)


def test_rows_are_in_the_order_of_the_medians_that_they_show(sim, pytester, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    sim(*ONE, "--benchmark-save=lucky")
    [stored] = pytester.path.glob("baselines/*/0001_lucky.json")
    run = json.loads(stored.read_text())
    run["benchmarks"][0]["stats"].update(min=1e-9, median=1.0)
    stored.write_text(json.dumps(run))

    def rows(*options):
        return [line.split()[1] for line in header(sim(*ONE, "--benchmark-compare=0001", *options))[1] if " " in line]

    assert [row.strip("()")[:4] for row in rows()] == ["NOW", "0001"]
    assert [row.strip("()")[:4] for row in rows("--benchmark-sort=min")] == ["0001", "NOW"]


def test_tables_of_workloads_are_in_the_order_of_their_grid(sim):
    grid = ("--benchmark-only", "--attn-grid=kernel-author", "--attn-backend=torch_cudnn", "--attn-mode=eager")

    def tables(*options):
        return re.findall(r"benchmark '(?:group=)?kernel-d128-(\w+)'", sim(*grid, *options).stdout.str())

    assert tables() == ["512", "1k", "2k", "4k", "8k", "16k"]
    sim(*grid, "--benchmark-save=before")
    assert tables("--benchmark-compare") == ["512", "1k", "2k", "4k", "8k", "16k"]


def test_groups_that_somebody_else_made_of_copies_are_shown_as_they_are(sim, pytester):
    pytester.makeconftest(
        "def pytest_benchmark_group_stats(benchmarks):\n    return [('all', [dict(one) for one in benchmarks])]\n"
    )
    result = sim(*ONE)
    assert result.ret == 0
    assert "benchmark 'all'" in result.stdout.str()


def test_two_tests_of_a_case_keep_their_names_in_a_narrow_table(sim, pytester, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    pytester.makepyfile(
        test_suite="from attnbench.suite.test_attention import test_attention\ntest_again = test_attention\n"
    )
    assert {name.strip("-") for name in header(sim(*ONE))[1]} == {
        "test_attention[numpy@eager]",
        "test_again[numpy@eager]",
        "",
    }


def test_a_table_with_benchmarks_of_others_stays_as_pytest_benchmark_makes_it(sim, pytester):
    pytester.makepyfile(test_other=OTHER)
    heads, _ = header(sim(*ONE))
    assert heads[-3:] == ["OPS (Kops/s)", "Rounds", "Iterations"]
