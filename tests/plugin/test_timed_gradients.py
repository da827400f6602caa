"""Cases that time gradients or drop probabilities, from the command line: right ones are measured, wrong ones never."""

from __future__ import annotations

from typing import Any

import pytest

KERNELS = """
import torch
import torch.nn.functional as F

from attnbench import register

CALLS = {}


def right(q, k, v, dropout=0.0):
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, enable_gqa=True).transpose(1, 2).clone()


def kernel(change):
    "Changes the gradients of the right kernel: the number of the backward pass first, then dq, dk and dv."
    def load(workload):
        calls = [0]

        class Attention(torch.autograd.Function):
            @staticmethod
            def forward(ctx, q, k, v):
                with torch.enable_grad():
                    ctx.leaves = [t.detach().requires_grad_() for t in (q, k, v)]
                    ctx.output = right(*ctx.leaves)
                return ctx.output.detach()

            @staticmethod
            def backward(ctx, gradient):
                calls[0] += 1
                found = torch.autograd.grad(ctx.output, ctx.leaves, gradient)
                if change.__name__ == "writes_into_the_gradient":
                    gradient.mul_(2)
                return change(calls[0], *found)

        return Attention.apply
    register(change.__name__, "example", takes=("gqa", "cross", "backward"))(load)


LATE = 20  # by then every check before the rounds is over

@kernel
def a_right(n, dq, dk, dv):
    return dq, dk, dv

@kernel
def two_percent_off(n, dq, dk, dv):
    return dq, dk * 1.02, dv

@kernel
def swaps_dk_and_dv(n, dq, dk, dv):
    return dq, dv, dk

@kernel
def leaves_rows_of_dq(n, dq, dk, dv):
    dq[:, -1] = 0
    return dq, dk, dv

@kernel
def wrong_later(n, dq, dk, dv):
    return dq, dk, dv * (1.5 if n >= LATE else 1)

@kernel
def remembers_its_gradients(n, dq, dk, dv):
    if n < LATE:
        CALLS["last"] = dq, dk, dv
    return tuple(t.clone() for t in CALLS["last"])


@kernel
def writes_into_the_gradient(n, dq, dk, dv):
    return dq, dk, dv


def dropping(function):
    register(function.__name__, "example", takes=("gqa", "cross", "dropout", "backward"))(
        lambda workload: lambda q, k, v: function(q, k, v, workload.dropout)
    )

@dropping
def drops(q, k, v, dropout):
    return right(q, k, v, dropout)

@dropping
def drops_with_other_rounding_each_time(q, k, v, dropout):
    CALLS["rounded"] = CALLS.get("rounded", 0) + 1
    return right(q, k, v, dropout) * (1 + CALLS["rounded"] % 2 * 2**-22)

@dropping
def drops_nothing(q, k, v, dropout):
    return right(q, k, v)

@dropping
def drops_half(q, k, v, dropout):
    return right(q, k, v, 0.5)

@dropping
def draws_on_after_each_call(q, k, v, dropout):
    CALLS["draws"] = CALLS.get("draws", 0) + 1
    torch.manual_seed(CALLS["draws"])
    return right(q, k, v, dropout)


@register("forward_only", "example")
def forward_only(workload):
    return right
"""
WRONG = {
    "two_percent_off": "rel_l2 found",
    "swaps_dk_and_dv": "in dk on",
    "leaves_rows_of_dq": "in dq on",
    "writes_into_the_gradient": "wrote into its input: the gradient of the output",
    "wrong_later": "correct in the accuracy check, wrong in round",
    "remembers_its_gradients": "correct in the accuracy check, wrong in round",
}


@pytest.fixture
def measure(bench: Any, pytester: pytest.Pytester) -> Any:
    """`measure(workload, *backends)`: the records, by backend."""
    pytester.makeconftest(KERNELS)

    def run(workload: str, *backends: str) -> dict[str, dict[str, Any]]:
        chosen = [f"--attn-backend={name}" for name in backends]
        where = ("--benchmark-only", "--attn-device=cpu", "--attn-rounds=30", "--attn-mode=eager", "-v")
        run.result = bench(*where, f"--attn-workload={workload}", "--benchmark-json=run.json", *chosen)  # type: ignore[attr-defined]
        return {record["backend"]: record for record in bench.stored()["attnbench"]["records"]}

    return run


def said(record: dict[str, Any]) -> str:
    return "; ".join(reason["text"] for reason in record["reasons"])


@pytest.mark.parametrize("direction", ["bwd", "fwdbwd"])
def test_a_wrong_gradient_has_no_latency(measure: Any, direction: str) -> None:
    records = measure(f"1x40/48x4/2x16:fp32:{direction}", "a_right", *WRONG, "forward_only")
    assert records["a_right"]["status"] == "measured"
    outputs = ["output", "dq", "dk", "dv"] if direction == "fwdbwd" else ["dq", "dk", "dv"]
    assert [check.get("output", "output") for check in records["a_right"]["checks"]] == outputs * 3
    assert {name: records[name]["status"] for name in WRONG} == dict.fromkeys(WRONG, "incorrect")
    for name, sentence in WRONG.items():
        assert sentence in said(records[name]), name
    assert records["forward_only"]["status"] == "unsupported"
    assert "needs cross lengths, grouped heads, gradients" in said(records["forward_only"])


@pytest.mark.parametrize("words", ["bwd", "causal:fwdbwd", "bool:bwd", "additive:fwdbwd", "padding=30+0:bwd"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_pytorch_and_numpy_have_the_same_gradients_under_every_mask(measure: Any, words: str, dtype: str) -> None:
    records = measure(f"2x40x4/2x16:{dtype}:{words}", "torch_math", "torch_flash", "numpy")
    taken = ["torch_math", "numpy", *(["torch_flash"] if words in ("bwd", "causal:fwdbwd") else [])]
    assert {name: records[name]["status"] for name in taken} == dict.fromkeys(taken, "measured"), [
        said(records[name]) for name in taken
    ]


@pytest.mark.parametrize("words", ["dropout=0.1", "dropout=0.1:bwd", "dropout=0.1:fwdbwd"])
def test_what_drops_at_another_rate_has_no_latency(measure: Any, words: str) -> None:
    wrong = {"drops_nothing": "mean z² found", "drops_half": "mean min(z², 16) found"}
    records = measure(f"2x128x4/2x16:fp32:{words}", "drops", "torch_math", "numpy", *wrong)
    assert [records[name]["status"] for name in ("drops", "torch_math")] == ["measured"] * 2
    assert all(check["statistics"] for check in records["drops"]["checks"])
    assert {name: records[name]["status"] for name in wrong} == dict.fromkeys(wrong, "incorrect")
    for name, sentence in wrong.items():
        assert sentence in said(records[name]), name
    assert records["numpy"]["status"] == "unsupported"
    measure.result.stdout.re_match_lines([r"  drops@eager, \w+ on randn inputs: .*mean z .*"])


def test_timed_rounds_must_drop_what_the_checked_call_dropped(measure: Any) -> None:
    noisy = "drops_with_other_rounding_each_time"
    records = measure("1x64x2x16:fp32:dropout=0.1", "drops", noisy, "draws_on_after_each_call")
    assert [records[name]["status"] for name in ("drops", noisy)] == ["measured"] * 2
    assert records[noisy]["sample"]["unequal"] > 0
    assert records["drops"]["sample"].get("unequal", 0) == 0
    assert "correct in the accuracy check, wrong in" in said(records["draws_on_after_each_call"])


def test_max_autotune_does_not_time_gradients(bench: Any) -> None:
    bench("--benchmark-only", "--attn-device=cpu", "--attn-backend=torch_math", "--attn-workload=1x8x1x8:fp32:bwd",
          "--attn-mode=max-autotune", "--benchmark-json=run.json")  # fmt: skip
    (record,) = bench.stored()["attnbench"]["records"]
    assert record["status"] == "unsupported"
    assert "needs direction forward, found backward" in said(record)
