"""Workloads: the table, spelling one out, and what is refused."""

import pytest

from attnbench.globs import UnknownName
from attnbench.model import Workload
from attnbench.workloads import table
from attnbench.workloads.table import parse_spelt, register_workload, select_workloads


@pytest.fixture(autouse=True)
def _own_table(monkeypatch):
    monkeypatch.setattr(table, "_TABLE", table.all_workloads())


@pytest.mark.parametrize("tokens", [128, 256, 320, 384, 448, 512])
@pytest.mark.parametrize("pixels", [1024, 512, 256])
def test_flux_rows_hold_image_tokens_and_text_tokens(pixels, tokens):
    (workload,) = select_workloads((f"flux-{pixels}px-t{tokens}",))
    assert workload.shape == (1, (pixels // 16) ** 2 + tokens, 24, 128)
    assert (workload.dtype, workload.distribution) == ("bf16", "randn*randint(1,5)")


def test_every_row_says_why_it_is_there_and_where_it_comes_from():
    assert all(w.why and w.source for w in table.all_workloads().values())


def test_the_default_is_small_on_a_cpu():
    assert {w.seq for w in table.grid_workloads((), "cpu")} == {384, 512, 768}
    assert [w.seq - 4096 for w in table.grid_workloads((), "cuda")] == [128, 256, 320, 384, 448, 512]


@pytest.mark.parametrize("text", ["1x4608x24x128:bf16", "1x4608x24x128", "1×4608×24×128:bf16"])
def test_a_workload_can_be_spelt_out_as_typed_or_as_copied_from_a_report(text):
    (workload,) = select_workloads((text,))
    assert (workload.name, workload.shape, workload.dtype) == ("1x4608x24x128:bf16", (1, 4608, 24, 128), "bf16")


def test_what_a_workload_spells_is_read_back():
    for batch, seq, heads, head_dim, dtype in [(1, 1, 1, 1, "fp32"), (7, 99, 3, 64, "fp16")]:
        spelt = Workload("w", batch, seq, heads, head_dim, dtype).spelt
        assert parse_spelt(spelt).spelt == spelt


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0x1x1x1:bf16", r"every axis of \(0, 1, 1, 1\) must be at least 1"),
        ("1x2x3:bf16", r"expected 4 axes \(BATCHxSEQxHEADSxHEAD_DIM\[:DTYPE\]\), got 3"),
        ("1x2x3x4x5", "got 5"),
        ("1x2x3x4:int3", "unknown dtype 'int3'; known: bf16, fp16, fp32"),
        ("1x2x3x4:", "unknown dtype ''; known:"),
    ],
)
def test_a_spelt_workload_that_cannot_be_says_why(text, said):
    with pytest.raises(ValueError, match=said) as caught:
        select_workloads((text,))
    assert not isinstance(caught.value, UnknownName)


@pytest.mark.parametrize("name", ["flux-1024px-t513", "flux1024", "1x2x3xfour"])
def test_an_unknown_name_gives_the_nearest(name):
    with pytest.raises(UnknownName, match=r"no workload matches .*flux-"):
        select_workloads((name,))


def test_a_workload_that_several_patterns_match_is_selected_once_and_in_table_order():
    found = [w.name for w in select_workloads(("1x2x3x4", "flux-512px-t128", "flux-*-t128", "1x2x3x4:bf16"))]
    assert found == ["flux-1024px-t128", "flux-512px-t128", "flux-256px-t128", "1x2x3x4:bf16"]


def test_an_own_row_is_found_and_may_be_registered_twice_but_not_changed():
    mine = Workload("mine", 2, 16, 2, 8, why="small", source="me")
    assert register_workload(mine) is register_workload(mine) is mine
    assert select_workloads(("mi*",)) == (mine,)
    with pytest.raises(ValueError, match="'mine' is registered already, with other fields"):
        register_workload(Workload("mine", 2, 16, 2, 16))


@pytest.mark.parametrize("changes", [{"seq": 0}, {"dtype": "fp8"}, {"mask": "causal"}, {"direction": "backward"}])
def test_a_row_that_cannot_be_run_is_refused_when_it_is_registered(changes):
    fields = {"name": "mine", "batch": 1, "seq": 16, "heads": 1, "head_dim": 8}
    with pytest.raises(ValueError, match="workload 'mine': "):
        register_workload(Workload(**{**fields, **changes}))
    assert "mine" not in table.all_workloads()
