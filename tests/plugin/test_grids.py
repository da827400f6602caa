"""--attn-grid: which rows it selects on which device, and that the tiny siblings of every grid run on a CPU."""

from __future__ import annotations

import pytest

from attnbench.workload import FEATURES
from attnbench.workloads.grids.known import GRIDS
from attnbench.workloads.table import all_workloads, parse_spelt

NAMES = [grid.name for grid in GRIDS]
ROWS = {grid.name: [row.name for row in grid.rows] for grid in GRIDS}


def selected(result: pytest.RunResult) -> list[str]:
    """The workloads of the collected cases."""
    lines = (line for line in result.outlines if line.startswith("test_suite.py::"))
    return [line.split("@eager-", 1)[1][:-1] for line in lines]


@pytest.fixture
def collect(bench, pytester):
    """`collect(*arguments)`: the workloads that one backend is collected with on the simulated device."""
    pytester.makeini("[pytest]\nattn_device = sim\nattn_backend = numpy\n")
    return lambda *arguments: selected(bench("--collect-only", "-q", *arguments))


@pytest.mark.parametrize("name", NAMES)
def test_a_grid_selects_its_full_rows_in_their_order_on_the_simulated_device(name, collect):
    assert collect(f"--attn-grid={name}") == ROWS[name]


def test_the_grid_that_nobody_names_is_flux(collect):
    assert collect() == ROWS["flux"] == [f"flux-1024px-t{tokens}" for tokens in (128, 256, 320, 384, 448, 512)]


def test_grids_add_up_and_a_row_that_two_of_them_have_runs_once(collect):
    rows = collect("--attn-grid=flux", "--attn-grid=models-*")
    of_models = [row for name in ("image", "video", "language") for row in ROWS[f"models-{name}"]]
    assert rows == [*dict.fromkeys((*ROWS["flux"], *of_models))]
    assert rows.count("flux-1024px-t512") == 1


def test_a_workload_of_any_grid_is_found_by_its_name_alone(collect):
    named = ["fa-b8h12d64-2048-causal-bwd", "sage-d128-8k-causal", "hunyuan-720p", "llama3-8b-8k"]
    assert collect(*(f"--attn-workload={name}" for name in named)) == named
    assert collect("--attn-workload=*-8k-causal") == ["sage-d64-8k-causal", "sage-d128-8k-causal"]


def test_the_higher_place_wins_between_a_grid_and_a_workload(collect, pytester, monkeypatch):
    pytester.makeini("[pytest]\nattn_device = sim\nattn_backend = numpy\nattn_workload = flux-256px-t128\n")
    assert collect("--attn-grid=kernel-author") == ROWS["kernel-author"]
    monkeypatch.setenv("ATTN_GRID", "sage")
    assert collect() == ROWS["sage"]
    assert collect("--attn-workload=wan-14b-720p-self") == ["wan-14b-720p-self"]


def test_the_header_names_the_one_that_counts(bench, pytester, monkeypatch):
    pytester.makeini("[pytest]\nattn_device = sim\nattn_backend = numpy\nattn_workload = flux-256px-t128\n")
    monkeypatch.setenv("ATTN_GRID", "kernel-author")
    result = bench("--collect-only")
    result.stdout.fnmatch_lines(["attnbench: *cases selected by *ATTN_GRID=kernel-author (environment)*"])
    result.stdout.no_fnmatch_line("attnbench: *flux-256px*")


def test_both_in_one_place_are_refused(bench):
    result = bench("--attn-device=sim", "--attn-grid=sage", "--attn-workload=flux-256px-t128")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --attn-workload and --attn-grid exclude each other: leave one out; a workload*"]
    )


def test_fresh_processes_measure_the_rows_of_the_grid(bench, pytester, monkeypatch):
    pytester.makeini("[pytest]\nattn_workload = flux-256px-t128\n")
    monkeypatch.setenv("ATTN_GRID", "kernel-author")
    arguments = ("--attn-device=cpu", "--attn-backend=numpy", "--attn-launches=1", "--attn-rounds=1")
    bench(*arguments, "--benchmark-json=run.json").assert_outcomes(passed=2)
    assert list(bench.records()) == ["numpy@eager-tiny-kernel-d32-32", "numpy@eager-tiny-kernel-d32-64"]


# The rows


def test_every_row_has_a_source_and_a_reason_of_its_own_grid():
    assert all(row.why and row.source for grid in GRIDS for row in grid.every_row)
    assert {row.name for grid in GRIDS for row in grid.every_row} <= set(all_workloads())


def test_every_row_can_be_spelt_out():
    for row in (row for grid in GRIDS for row in grid.every_row):
        spelt = parse_spelt(row.spelt)
        assert (spelt.features, spelt.flop, spelt.bytes_moved) == (row.features, row.flop, row.bytes_moved)


@pytest.mark.parametrize("grid", GRIDS, ids=NAMES)
def test_the_tiny_siblings_ask_for_all_that_the_rows_ask_for(grid):
    def asked(rows):
        return {feature for row in rows for feature in row.features}, {row.direction for row in rows}

    assert asked(grid.tiny) == asked(grid.rows)


def test_the_grids_together_ask_for_every_feature_but_another_width_of_v():
    assert {feature for grid in GRIDS for row in grid.tiny for feature in row.features} == {*FEATURES} - {"head_dim_v"}


def test_a_cpu_runs_few_tokens():
    assert max(row.seq for grid in GRIDS for row in grid.tiny if grid.name != "flux") <= 64


# On a CPU


@pytest.fixture(scope="module")
def _outcomes() -> dict[str, dict[tuple[str, str], str]]:
    """Of each grid, so that it runs once: backend and workload → status, with the first reason behind it."""
    return {}


@pytest.fixture
def outcomes(bench, _outcomes):
    """`outcomes(name)`: what became of the tiny siblings of a grid, by NumPy's oracle and by plain attention."""

    def run(name: str) -> dict[tuple[str, str], str]:
        if name not in _outcomes:
            two = ("--attn-backend=numpy", "--attn-backend=torch_math", "--attn-mode=eager")
            bench(f"--attn-grid={name}", "--attn-device=cpu", "--attn-rounds=1", "--benchmark-json=run.json", *two)
            _outcomes[name] = {
                (r["backend"], r["workload"]["name"]): ": ".join([r["status"], *(x["text"] for x in r["reasons"][:1])])
                for r in bench.records().values()
            }
        return _outcomes[name]

    return run


def tiny(name: str, *directions: str, dropout: bool = False) -> list[str]:
    (grid,) = (grid for grid in GRIDS if grid.name == name)
    return [row.name for row in grid.tiny if row.direction in directions and bool(row.dropout) == dropout]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "flux"])
def test_the_tiny_siblings_are_measured_on_a_cpu(name, outcomes):
    rows = tiny(name, "forward")
    found = outcomes(name)
    assert rows
    assert {
        (b, row): found[b, row] for b in ("numpy", "torch_math") for row in rows if found[b, row] != "measured"
    } == {}


@pytest.mark.parametrize("name", ["flash-attn", "flash-attn-masks", "flash-attn-16k-d64"])
def test_the_gradients_of_the_tiny_siblings_are_measured_on_a_cpu(name, outcomes):
    rows = tiny(name, "backward", "forward+backward")
    found = outcomes(name)
    assert {
        (b, row): found[b, row] for b in ("numpy", "torch_math") for row in rows if found[b, row] != "measured"
    } == {}


def test_dropout_is_measured_on_a_cpu(outcomes):
    found = outcomes("flash-attn-masks")
    assert found["torch_math", "tiny-fa-dropout-fwd"] == "measured"


def test_the_oracle_has_no_dropout_and_says_so(outcomes):
    found = outcomes("flash-attn-masks")
    rows = tiny("flash-attn-masks", "forward", "backward", "forward+backward", dropout=True)
    assert all(found["numpy", row].startswith("unsupported: needs dropout, found a backend for plain") for row in rows)
