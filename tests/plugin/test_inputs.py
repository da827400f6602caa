"""How the tensors of a workload are drawn: alike on every machine, also where many cores draw a large one."""

# torch is imported where it is used: `pytest --collect-only` imports this file.
from __future__ import annotations

import time
from typing import Any

import pytest

from attnbench.workload import DISTRIBUTION_NAMES
from attnbench.workloads import drawing, inputs
from attnbench.workloads.table import parse_spelt


@pytest.fixture(autouse=True)
def nothing_drawn_before():
    drawing._drawn_before.cache_clear()
    yield
    drawing._drawn_before.cache_clear()  # nor later, where a test has drawn with another PIECE


def made(spelt: str = "1x40x3x16:bf16:bwd") -> Any:
    workload = parse_spelt(spelt)
    assert workload is not None
    return inputs.make_inputs(workload, "cpu")


def noted(monkeypatch, numbers: str) -> list[Any]:
    """What these numbers were asked for, from now on."""
    draw, asked = drawing.NUMBERS[numbers], []
    monkeypatch.setitem(drawing.NUMBERS, numbers, lambda *given: asked.append(given) or draw(*given))
    return asked


def test_a_tensor_of_one_piece_is_what_one_generator_draws():
    import torch

    generator = torch.Generator().manual_seed(0)
    found = made().kept["randn"]
    for one in found:
        torch.testing.assert_close(one, torch.randn(one.shape, generator=generator).bfloat16(), rtol=0, atol=0)


def test_a_workload_may_name_each_distribution_that_can_be_drawn():
    assert tuple(drawing.DISTRIBUTIONS) == DISTRIBUTION_NAMES


@pytest.mark.parametrize("distribution", drawing.DISTRIBUTIONS)
def test_a_tensor_of_many_pieces_does_not_depend_on_the_cores(distribution, monkeypatch):
    import torch

    monkeypatch.setattr(drawing, "PIECE", 500)
    drawn = []
    for cores in (1, 7):
        monkeypatch.setattr(drawing.os, "cpu_count", lambda cores=cores: cores)
        drawing._drawn_before.cache_clear()
        drawn.append(made())
    one, other = drawn
    assert one.sha256 == other.sha256
    for mine, yours in zip(one.kept[distribution], other.kept[distribution], strict=True):
        assert torch.equal(mine, yours)
    assert torch.equal(one.gradient, other.gradient)


def test_no_piece_is_drawn_twice(monkeypatch):
    import torch

    monkeypatch.setattr(drawing, "PIECE", 48)  # one token
    found = made()
    tokens = torch.cat([one.reshape(-1, 48) for one in (*found.kept["randn"], found.gradient)])
    assert len(torch.unique(tokens, dim=0)) == len(tokens) == 160
    assert tokens.float().std().item() == pytest.approx(1, abs=0.03)


def test_inputs_made_under_inference_mode_are_those_made_outside(monkeypatch):
    import torch

    monkeypatch.setattr(drawing, "PIECE", 500)  # drawn by several threads, none of which is in that mode
    right = made().sha256
    drawing._drawn_before.cache_clear()
    with torch.inference_mode():
        found = made()
        assert found.sha256 == right
        found.contents("randn")["q"].zero_()
        found.restore()
        found.renew()
        assert found.overwritten() == ()
    held = [one for triple in (*found.kept.values(), *found.sets.values()) for one in triple]
    assert not any(one.is_inference() for one in (*held, found.gradient))
    for one in found.kept["randn"]:
        one.zero_()  # as the next case does, which need not be in that mode
    found.restore()
    assert found.overwritten() == ()


def test_workloads_that_differ_in_the_mask_alone_share_nothing_that_a_kernel_gets(monkeypatch):
    import torch

    draws = noted(monkeypatch, "randn")
    first = made("2x40x3x16:bf16")
    kept = [one.clone() for one in first.kept["randn"]]
    for one in first.sets["randn"]:
        one.zero_()
    second = made("2x40x3x16:bf16:padding=40+7:fwdbwd")
    assert len(draws) == 3  # q, k and v
    assert second.sha256 == first.sha256
    assert all(torch.equal(*pair) for pair in zip(second.kept["randn"], kept, strict=True))
    assert first.overwritten() == ("q of randn", "k of randn", "v of randn")
    first.restore()
    assert first.overwritten() == ()
    monkeypatch.setattr(drawing, "KEPT_BYTES", 0)
    assert made("2x40x3x16:bf16").sha256 == first.sha256
    assert len(draws) == 6


def test_what_is_too_large_to_be_kept_is_drawn_once(monkeypatch):
    draws = {numbers: noted(monkeypatch, numbers) for numbers in drawing.NUMBERS}
    monkeypatch.setattr(drawing, "KEPT_BYTES", 0)
    made("2x40x3x16:bf16")
    assert {numbers: len(found) for numbers, found in draws.items()} == dict.fromkeys(drawing.NUMBERS, 3)


def test_the_outliers_of_k_are_the_only_difference_to_randn():
    import torch

    kept = made().kept
    (q, k, v), (same_q, shifted, same_v) = kept["randn"], kept["outlier-k"]
    assert torch.equal(q, same_q)
    assert torch.equal(v, same_v)
    assert q.data_ptr() != same_q.data_ptr()
    outliers = (shifted != k).flatten(0, 2).any(dim=0)
    assert outliers.sum() == drawing.OUTLIER_CHANNELS
    assert torch.equal(shifted[..., outliers], k[..., outliers] + drawing.OUTLIER_SHIFT)


def test_a_draw_that_fails_is_not_kept(monkeypatch):
    monkeypatch.setattr(drawing, "PIECE", 500)  # drawn in threads
    draw, failed = drawing.NUMBERS["randn"], []

    def out_of_memory_once(*given):
        if failed:
            return draw(*given)
        failed.append(given)
        raise MemoryError("no room")

    monkeypatch.setitem(drawing.NUMBERS, "randn", out_of_memory_once)
    with pytest.raises(MemoryError, match="no room"):
        made()
    assert made().overwritten() == ()


def test_after_a_failure_nothing_more_is_drawn(monkeypatch):
    monkeypatch.setattr(drawing, "PIECE", 48)  # one token: 40 pieces of each of 3 tensors, twice
    monkeypatch.setattr(drawing.os, "cpu_count", lambda: 1)
    drawn = []

    def fails(shape, generator):
        drawn.append(shape)
        time.sleep(0.01)
        raise MemoryError("no room")

    for numbers in drawing.NUMBERS:
        monkeypatch.setitem(drawing.NUMBERS, numbers, fails)
    with pytest.raises(MemoryError, match="no room"):
        made()
    time.sleep(0.5)  # in which all of them would be drawn
    assert len(drawn) < 120


@pytest.mark.parametrize("direction", ["bwd", "fwdbwd"])
def test_gradients_can_be_taken_under_inference_mode(direction):
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    from attnbench.execution.passes import Pass

    ours = made(f"1x8x2x8:fp32:{direction}")
    with torch.inference_mode():
        run = Pass(scaled_dot_product_attention, ours.workload, ours.timed, ours.gradient)
        run.ready()
        assert len(run()) == (3 if direction == "bwd" else 4)
