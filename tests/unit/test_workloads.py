"""Workloads: the table, spelling one out, and what is refused."""

import pytest

from attnbench.globs import UnknownName
from attnbench.workload import Workload
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
        ("1x2x3:bf16", r"expected 4 axes \(BATCHxSEQ\[/SEQ_KV\]x.*\[:DTYPE\]\), got 3"),
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


IMPOSSIBLE = {
    "seq 0": ({"seq": 0}, r"every axis of \(1, 0, 4, 8\) must be at least 1"),
    "no keys": ({"seq_kv": 0}, r"every axis of \(1, 0, 4, 8\) must be at least 1"),
    "dtype": ({"dtype": "fp8"}, "unknown dtype 'fp8'; known: bf16, fp16, fp32"),
    "mask": ({"mask": "sliding"}, "unknown mask 'sliding'; known: none, causal, padding, bool, additive"),
    "direction": ({"direction": "up"}, "unknown direction 'up'; known: forward, backward"),
    "distribution": (
        {"distribution": "normal"},
        r"unknown distribution 'normal'; known: randn\*randint\(1,5\), randn, outlier-k",
    ),
    "layout": ({"layout": "sbhd"}, "unknown layout 'sbhd'; known: bshd, bhsd, bshd_contiguous"),
    "groups": ({"kv_heads": 3}, "4 query heads must be a multiple of 3 key heads"),
    "no lengths": (
        {"mask": "padding"},
        r"mask padding needs 1 lengths of 0 to 16, one for each batch entry, found none",
    ),
    "long": ({"mask": "padding", "lengths": (17,)}, "lengths of 0 to 16, .* found 17"),
    "lengths": ({"lengths": (4,)}, "lengths belong to mask padding, found mask 'none'"),
    "packed sum": ({"packed": (4, 4)}, r"add up to seq, found batch 1, seq 16/16 and 4\+4 = 8"),
    "packed cross": ({"packed": (16,), "seq_kv": 8}, "found batch 1, seq 16/8"),
    "packed mask": ({"packed": (16,), "mask": "bool"}, "packed sequences take mask none or causal, found 'bool'"),
    "dropout": ({"dropout": 1.0}, "dropout needs a share from 0 to below 1, found 1.0"),
}


@pytest.mark.parametrize(("changes", "said"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_row_that_cannot_be_run_is_refused_when_it_is_registered(changes, said):
    fields = {"name": "mine", "batch": 1, "seq": 16, "heads": 4, "head_dim": 8}
    with pytest.raises(ValueError, match=f"workload 'mine': .*{said}"):
        register_workload(Workload(**{**fields, **changes}))
    assert "mine" not in table.all_workloads()


WRONG_TYPES = {
    "float": ({"batch": 1.5}, r"batch must be an integer, found 1.5 \(float\)"),
    "whole float": ({"seq": 16.0}, r"seq must be an integer, found 16.0 \(float\)"),
    "bool": ({"heads": True}, r"heads must be an integer, found True \(bool\)"),
    "text": ({"head_dim": "8"}, r"head_dim must be an integer, found '8' \(str\)"),
    "none": ({"seed": None}, r"seed must be an integer, found None \(NoneType\)"),
    "optional": ({"kv_heads": 2.0}, r"kv_heads must be an integer, found 2.0 \(float\)"),
    "length": ({"mask": "padding", "lengths": (4.5,)}, r"lengths\[0\] must be an integer, found 4.5 \(float\)"),
    "one length": ({"packed": 16}, r"packed must be a tuple of integers, found 16 \(int\)"),
    "dropout": ({"dropout": "0.1"}, r"dropout must be a number, found '0.1' \(str\)"),
    "why": ({"why": 5}, r"why must be text, found 5 \(int\)"),
}


@pytest.mark.parametrize(("changes", "said"), WRONG_TYPES.values(), ids=WRONG_TYPES)
def test_a_field_of_another_type_is_refused_when_the_workload_is_made(changes, said):
    with pytest.raises(ValueError, match=f"^workload 'mine': {said}$"):
        Workload(**{"name": "mine", "batch": 1, "seq": 16, "heads": 4, "head_dim": 8, **changes})


def test_numbers_of_numpy_and_lists_are_those_of_python():
    numpy = pytest.importorskip("numpy")
    one, rate = numpy.int64(1), numpy.float32(0.5)
    made = Workload("mine", one, 16, 4, 8, mask="padding", lengths=[numpy.int32(4)], dropout=rate)
    assert made == Workload("mine", 1, 16, 4, 8, mask="padding", lengths=(4,), dropout=0.5)
    assert [type(value) for value in (made.batch, *made.lengths, made.dropout)] == [int, int, float]
    assert hash(made) == hash(Workload("mine", 1, 16, 4, 8, mask="padding", lengths=(4,), dropout=0.5))


SPELT = {
    "1x4096/1024x32/8x128:bf16:causal:bwd": {
        "seq_kv": 1024,
        "kv_heads": 8,
        "mask": "causal",
        "direction": "backward",
    },
    "2x64x4x128/64:fp16": {"head_dim_v": 64},
    "2x64x4x16:bf16:padding=64+0": {"mask": "padding", "lengths": (64, 0)},
    "1x128x4x16:bf16:packed=100+28": {"packed": (100, 28)},
    "1x128x4x16:bf16:causal:packed=100+28:fwdbwd": {
        "packed": (100, 28),
        "mask": "causal",
        "direction": "forward+backward",
    },
    "1x64x4x16:fp32:bool:dropout=0.1:bhsd": {"mask": "bool", "dropout": 0.1, "layout": "bhsd"},
    "1x64x4x16:fp32:additive:bshd_contiguous": {"mask": "additive", "layout": "bshd_contiguous"},
}


@pytest.mark.parametrize("text", SPELT)
def test_every_field_of_a_problem_can_be_spelt_out(text):
    workload = parse_spelt(text)
    assert workload.name == workload.spelt == text
    assert {name: getattr(workload, name) for name in SPELT[text]} == SPELT[text]
    assert workload == parse_spelt(workload.spelt)


@pytest.mark.parametrize("share", ["0.00001", "0.99999999", "0.1234567", ".5"])
def test_a_share_of_dropout_is_read_from_its_name_as_it_was(share):
    workload = parse_spelt(f"1x64x4x16:dropout={share}")
    assert workload.dropout == float(share)
    assert parse_spelt(workload.name) == workload
    assert parse_spelt("1x64x4x16:dropout=0").name == "1x64x4x16:bf16"


def test_words_come_in_any_order_and_have_defaults():
    assert parse_spelt("1x64x4x16:causal:fp16").name == "1x64x4x16:fp16:causal"
    assert parse_spelt("1x64x4x16").seq_q == 64
    assert parse_spelt("1x64x4x16:bwd:causal").name == "1x64x4x16:bf16:causal:bwd"
    assert parse_spelt("2x64x4x16:padding").lengths == (48, 32)
    assert parse_spelt("1x64/64x4/4x16/16:fwd") == parse_spelt("1x64x4x16")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1x2x3x4:bf16:masked", "unknown word 'masked'; known: causal, padding"),
        ("1x2x3x4:bf16:packed=", r"packed takes lengths, such as packed=100\+28, got ''"),
        ("1x2x3x4:bf16:dropout=2", "dropout takes a share from 0 to below 1, such as 0.1, got '2'"),
        ("1/2x2x3x4", "the batch is one number"),
        ("1x2/0x3x4", "every axis of"),
        ("1x64x4x32:causal:bool", "a workload has one mask, found causal and bool"),
        ("1x64x4x32:padding=64:causal", "a workload has one mask, found padding=64 and causal"),
        ("1x64x4x32:bwd:fwd", "a workload has one direction, found bwd and fwd"),
        ("1x64x4x32:dropout=0.1:dropout=.2", "a workload has one dropout, found dropout=0.1 and dropout=.2"),
        ("1x64x4x32:bf16:fp16", "a workload has one dtype, found bf16 and fp16"),
        ("1x64x4x32:packed", r"packed takes lengths, such as packed=100\+28, got ''"),
        ("1x64x4x32:dropout", "dropout takes a share from 0 to below 1, such as 0.1, got ''"),
        ("1x64x4x32:causal=3", "causal takes no value, got 'causal=3'"),
        ("1x64x4x32:forward", "unknown dtype 'forward'; known: bf16, fp16, fp32"),
        (
            "2x64x4x32:padding=64+65",
            "'2x64x4x32:padding=64.65': mask padding needs 2 lengths of 0 to 64, .* found 64.65",
        ),
        (
            "1x99999999999999999999x4x32",
            "an axis has at most 9,223,372,036,854,775,807, found 99,999,999,999,999,999,999",
        ),
    ],
)
def test_what_cannot_be_spelt_says_what_can(text, said):
    with pytest.raises(ValueError, match=said):
        parse_spelt(text)


def test_flop_are_those_of_flash_attentions_benchmarks():
    """`flops` of its hopper/benchmark_attn.py; causal with more queries than keys counts the rows that see a key."""
    assert parse_spelt("2x64x4x16").flop == 4 * 2 * 4 * 64 * 64 * 16
    assert parse_spelt("2x64x4x16:causal").flop == 2 * 2 * 4 * 64 * 64 * 16
    assert parse_spelt("2x64x4x16:bwd").flop == 10 * 2 * 4 * 64 * 64 * 16
    assert parse_spelt("2x64x4x16:fwdbwd").flop == 14 * 2 * 4 * 64 * 64 * 16
    assert parse_spelt("1x32/96x4/2x16/8:causal").flop == 2 * 4 * 32 * ((96 - 32 + 96) // 2) * (16 + 8)
    assert parse_spelt("1x96/32x4x16:causal").flop == 2 * 4 * (32 * 32 // 2) * 32
    assert parse_spelt("1x3x4x16:causal").flop == 4 * 4 * 3 * 3 * 16 // 2
    assert parse_spelt("1x1x1x4:causal").flop == 4 * 4 // 2
    assert parse_spelt("1x8x4x16:causal:packed=5+3").flop == 4 * 4 * (25 + 9) * 16 // 2
    assert parse_spelt("1x64x4x16:packed=40+24").flop == 4 * 4 * (40**2 + 24**2) * 16
    assert parse_spelt("2x64x4x16:padding=64+16").flop == 4 * 4 * 64 * 80 * 16


def test_bytes_moved_count_each_tensor_once():
    q, k = 64 * 4 * 16 * 2, 96 * 2 * 16 * 2
    assert parse_spelt("1x64/96x4/2x16").bytes_moved == 2 * q + 2 * k
    assert parse_spelt("1x64/96x4/2x16:bool").bytes_moved == 2 * q + 2 * k + 64 * 96
    assert parse_spelt("1x64/96x4/2x16:bwd").bytes_moved == 2 * (q + 2 * k) + 2 * q + 4 * 4 * 64
    assert parse_spelt("2x64x4x16:fp32:padding=1+1").bytes_moved == 66_560


def test_what_a_problem_asks_of_a_kernel_is_named():
    assert parse_spelt("1x64x4x16").features == ()
    assert parse_spelt("1x64/96x4/2x16/8:causal:dropout=0.1:bwd").features == (
        *("cross", "gqa", "head_dim_v", "causal", "dropout", "backward"),
    )
    assert parse_spelt("1x64x4x16:packed=64").features == ("packed",)
