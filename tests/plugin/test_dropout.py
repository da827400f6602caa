"""Dropout: what a right kernel may do by chance, and that wrong ones are refused."""

# torch is imported where it is used: `pytest --collect-only` imports this file.
from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from attnbench.checks import attention, dropout, excerpt, reference
from attnbench.execution import steps
from attnbench.workloads.table import parse_spelt

RATE = 0.2


@dataclass(frozen=True)
class Kernel:
    """Attention that drops at a rate, rescales by a factor, and may drop others in its backward pass.

    rounds: whether its backward pass rounds as fused kernels do: rowsum(dO·O) of the rounded output, and dS before products.
    """

    rate: float = RATE
    rescale: float = 1 / (1 - RATE)
    backward_seed: int | None = None
    dq_seed: int | None = None
    rounds: bool = False

    def __call__(self, triple: Any, gradient: Any, workload: Any, seed: int) -> dict[str, Any]:
        """The output and the gradients, in the dtype of q; every step in fp32."""
        import torch

        q, k, v = (one.float().transpose(1, 2) for one in triple)
        group, scale = workload.group, k.shape[-1] ** -0.5
        keys, values = (one.repeat_interleave(group, 1) for one in (k, v))
        scores, seen = attention.masked(q @ keys.transpose(-1, -2) * scale, workload, None, 0, q.shape[2])
        weights = attention.without_keyless(scores.softmax(-1), seen)

        def kept(of: int) -> Any:
            drawn = torch.rand(weights.shape, generator=torch.Generator().manual_seed(of))
            return (drawn >= self.rate) * self.rescale

        output = (weights * kept(seed)) @ values
        if gradient is None:
            return {"output": output.transpose(1, 2).to(triple[0].dtype)}
        given = gradient.float().transpose(1, 2)
        later = kept(self.backward_seed or seed)
        towards = given @ values.transpose(-1, -2)
        mean = (weights * later * towards).sum(-1, keepdim=True)
        if self.rounds:
            mean = (given * output.to(triple[0].dtype).float()).sum(-1, keepdim=True)
        of_scores = weights * (later * towards - mean)
        of_scores = of_scores.to(triple[0].dtype).float() if self.rounds else of_scores
        of_dq = of_scores if self.dq_seed is None else weights * (kept(self.dq_seed) * towards - mean)
        found = {
            "output": output,
            "dq": of_dq @ keys * scale,
            "dk": (of_scores.transpose(-1, -2) @ q * scale).unflatten(1, (-1, group)).sum(2),
            "dv": ((weights * later).transpose(-1, -2) @ given).unflatten(1, (-1, group)).sum(2),
        }
        return {name: one.transpose(1, 2).to(triple[0].dtype) for name, one in found.items()}


@cache
def prepared(spelt: str) -> Any:
    from attnbench.workloads.inputs import make_inputs

    workload = parse_spelt(f"{spelt}:dropout={RATE}")
    assert workload is not None
    inputs = make_inputs(workload, "cpu")
    return inputs, reference.make_references(inputs)


def refused(kernel: Kernel, spelt: str, seed: int = 1) -> dict[str, set[str]]:
    """By output, the statistics that refuse the kernel, of all input distributions."""
    inputs, references = prepared(spelt)
    found: dict[str, set[str]] = {}
    for distribution, known in references.items():
        outputs = kernel(inputs.kept[distribution], inputs.gradient, inputs.workload, seed)
        checks, wrong = steps.judged_dropout(outputs, known, inputs, "16-bit", distribution, True)
        assert [check.output for check in checks] == list(known)
        broken = {(check.output, one.name) for check in checks for one in check.statistics if not one.within}
        for check, reasons in zip(checks, wrong, strict=True):
            assert len(reasons) == sum(not one.within for one in check.statistics)
        assert all(check.passed == (not any(name == check.output for name, _ in broken)) for check in checks)
        for name, statistic in broken:
            found.setdefault(name, set()).add(statistic)
    return found


SPELT = (
    "2x64x4x32:bf16:fwdbwd",
    "2x48/80x4/2x32:fp16:bwd",
    "2x64x4/2x32:fp32:causal:fwdbwd",
    "2x64x4x32:bf16:padding=40+0:fwdbwd",
    "2x40x4x32:fp32:bool:bwd",
    "1x64x8x32:bf16:packed=24+40:fwdbwd",
)


@pytest.mark.parametrize("spelt", SPELT)
def test_a_right_kernel_is_within_whatever_it_draws(spelt):
    assert [refused(Kernel(), spelt, seed) for seed in range(1, 9)] == [{}] * 8


@pytest.mark.parametrize(
    "spelt", ["1x1x1x8:bf16:fwdbwd", "1x2/1x1x8:fp32:fwdbwd", "1x3x2x1:bf16:fwdbwd", "1x5/2x2x4:fp16:bwd"]
)
def test_a_right_kernel_is_within_on_a_handful_of_rows(spelt):
    assert [refused(Kernel(), spelt, seed) for seed in range(1, 20)] == [{}] * 19


@pytest.mark.parametrize("spelt", ["1x256x2x64:bf16:bwd", "1x256x4/2x64:fp16:causal:fwdbwd"])
def test_a_kernel_that_rounds_is_right_where_rounding_is_all_that_scatters(spelt):
    """In wide inputs a softmax may be all but one key: dropout moves such a row of dq by nothing."""
    assert refused(Kernel(rounds=True), spelt) == {}


def test_a_rate_of_eight_bits_is_right(monkeypatch):
    """Steps of 1/256 beside it, while the kernel divides by 1 − the rate that was asked for; four are too many."""
    spelt = "8x128x8x64:fp32"
    assert [refused(Kernel(rate=RATE - off / 256), spelt) for off in (1, 2)] == [{}, {}]
    assert refused(Kernel(rate=RATE - 4 / 256), spelt)["output"] == {"mean z"}
    monkeypatch.setattr(dropout, "RATE_STEP", 0.0)
    assert refused(Kernel(rate=RATE - 2 / 256), spelt)["output"] == {"mean z"}


@pytest.mark.parametrize("spelt", SPELT)
def test_no_dropout_at_all_is_refused(spelt):
    found = refused(Kernel(rate=0.0, rescale=1.0), spelt)
    assert all(
        "mean z²" in found.get(name, ()) for name in ("output", "dq", "dv") if name in prepared(spelt)[1]["randn"]
    )


@pytest.mark.parametrize("spelt", SPELT)
def test_a_missing_rescale_is_refused(spelt):
    found = refused(Kernel(rescale=1.0), spelt)
    assert all("mean z" in found.get(name, ()) for name in ("output", "dv") if name in prepared(spelt)[1]["randn"])


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_a_wrong_rate_is_refused_although_the_mean_is_right(rate):
    found = refused(Kernel(rate=rate, rescale=1 / (1 - rate)), "4x128x4x16:bf16:fwdbwd")
    assert found["output"] == {"mean z²" if rate < RATE else "mean min(z², 16)"}


@pytest.mark.parametrize("spelt", SPELT)
def test_other_random_numbers_in_the_backward_pass_are_refused(spelt):
    found = refused(Kernel(backward_seed=99), spelt)
    assert any("⟨dv, v⟩" in name for name in found["dv"])
    assert "output" not in found


@pytest.mark.parametrize("spelt", SPELT)
def test_other_random_numbers_for_dq_than_for_dk_are_refused(spelt):
    assert any("⟨dk, k⟩" in name for name in refused(Kernel(dq_seed=99), spelt)["dk"])


def test_the_spread_is_that_of_many_draws():
    """Against the variance over 400 draws, element by element."""
    import torch

    inputs, references = prepared("1x6/5x4/2x8:fp32:fwdbwd")
    known = references["randn"]
    draws = [Kernel()(inputs.kept["randn"], inputs.gradient, inputs.workload, seed) for seed in range(400)]
    for name in ("output", "dq", "dv"):
        spread, right = known[name].spread, known[name].output
        distances = torch.stack([one[name].double() for one in draws]) - right
        ratio = distances.square().mean(0) / spread.elements.square()
        assert ratio.mean().item() == pytest.approx(1, abs=0.1), name
        along = (distances * dropout._directions(right)).sum(-1, keepdim=True)
        assert (along.square().mean(0) / spread.along.square()).mean().item() == pytest.approx(1, abs=0.1), name


@pytest.mark.parametrize("spelt", ["1x150/21x4/2x8:bf16", "2x30/21x4/2x8:bf16:fwdbwd"])
def test_a_part_of_a_large_problem_has_the_same_spread(spelt, monkeypatch):
    import torch

    inputs, whole = prepared(spelt)
    monkeypatch.setattr(excerpt, "ALL_SCORES", 4 * 2 * 30 * 21)
    monkeypatch.setattr(attention, "CHUNK_BYTES", 8 * 21 * 4 * 7)
    found = [(name, one) for name, one in reference.make_references(inputs)["randn"].items() if one.spread is not None]
    assert found
    for name, one in found:
        assert one.excerpt.text != "all"
        torch.testing.assert_close(one.spread.elements, one.excerpt.of(whole["randn"][name].spread.elements))
        torch.testing.assert_close(one.spread.along, one.excerpt.of(whole["randn"][name].spread.along))


def test_output_that_is_not_finite_is_refused():
    inputs, references = prepared("2x64x4x32:bf16:fwdbwd")
    outputs = Kernel()(inputs.kept["randn"], inputs.gradient, inputs.workload, 1)
    outputs["dk"][0, 3, 1, 7] = float("nan")
    checks, wrong = steps.judged_dropout(outputs, references["randn"], inputs, "16-bit", "randn", True)
    assert [check.output for check in checks if not check.passed] == ["dk"]
    of_dk = wrong[[check.output for check in checks].index("dk")]
    assert any("NaN or Inf in dk on randn inputs" in reason.text for reason in of_dk)
