"""What was timed is what was checked: other contents each round, every output compared, and inputs put back."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest

KERNELS = """
import time

import torch
import torch.nn.functional as F

from attnbench import register


def right(q, k, v):
    return F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2).clone()


def kernel(function):
    "Called with the number of the call first."
    def load(workload):
        calls = [0]
        def call(q, k, v):
            calls[0] += 1
            return function(calls[0], q, k, v)
        return call
    register(function.__name__, "example")(load)


LATE = 20  # by then every check before the rounds is over
ANSWERS = {}


def remembered(key, q, k, v):
    if key not in ANSWERS:
        ANSWERS[key] = right(q, k, v)
    return ANSWERS[key].clone()


@kernel
def a_right(n, q, k, v):
    return right(q, k, v)

@kernel
def computes_nothing_later(n, q, k, v):
    return right(q, k, v) if n < LATE else torch.zeros_like(q)

@kernel
def wrong_in_one_call_of_fourteen(n, q, k, v):
    return right(q, k, v) * (1.01 if n % 14 == 0 else 1)

@kernel
def one_element_later(n, q, k, v):
    out = right(q, k, v)
    if n == LATE:
        out[0, 5, 1, 3] += 10
    return out

@kernel
def nan_later(n, q, k, v):
    out = right(q, k, v)
    if n == LATE:
        out[0, 5, 1, 3] = float("nan")
    return out

@kernel
def other_dtype_later(n, q, k, v):
    return right(q, k, v) if n < LATE else right(q, k, v).float()

@kernel
def nothing_later(n, q, k, v):
    return right(q, k, v) if n < LATE else None

@kernel
def view_of_input_later(n, q, k, v):
    return right(q, k, v) if n < LATE else v.view(v.shape)

@kernel
def last_answer_again_later(n, q, k, v):
    if n < LATE or "last" not in ANSWERS:
        ANSWERS["last"] = right(q, k, v)
    return ANSWERS["last"].clone()

@kernel
def remembers_by_pointer(n, q, k, v):
    return remembered(q.data_ptr(), q, k, v)

@kernel
def remembers_by_version(n, q, k, v):
    return remembered((q.data_ptr(), q._version, k._version, v._version), q, k, v)

@kernel
def remembers_by_first_sum(n, q, k, v):
    return remembered(float(q.float().sum()), q, k, v)

@kernel
def remembers_by_contents(n, q, k, v):
    out = remembered(hash(b"".join(t.float().numpy().tobytes() for t in (q, k, v))), q, k, v)
    print("computed", len(ANSWERS), "of", n, "calls")
    return out

@kernel
def writes_into_v_later(n, q, k, v):
    out = right(q, k, v)
    if n == LATE + 5:  # whether a later round notices is not what names it
        v[0, 3] *= 2
    return out

@kernel
def moves_rows_of_k_later(n, q, k, v):
    out = right(q, k, v)
    if n == LATE + 10:
        k.copy_(k.flip(1))  # the same words in other places: attention does not see the order of keys with their values
        v.copy_(v.flip(1))
    return out

@kernel
def raises_after_writing(n, q, k, v):
    k.mul_(2)
    raise RuntimeError("unsupported")

@kernel
def two_outputs_after_writing(n, q, k, v):
    q.mul_(0.5)
    return right(q, k, v), None

@kernel
def swaps_the_memory_of_q_later(n, q, k, v):
    out = right(q, k, v)
    if n == LATE:
        q.data = torch.zeros_like(q)
    return out

@kernel
def turns_k_around(n, q, k, v):
    out = right(q, k, v)
    k.transpose_(0, 1)
    return out

@kernel
def shrinks_v_later(n, q, k, v):
    out = right(q, k, v)
    if n == LATE:
        v.set_(v[:, :1])
    return out

@kernel
def keeps_its_answer_on_q(n, q, k, v):
    q.requires_grad_()
    if not hasattr(q, "answer"):
        q.answer = right(q, k, v).detach()
    return q.answer.clone()

class Named(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.ne:
            return NotImplemented
        return super().__torch_function__(function, types, args, kwargs)

@kernel
def of_a_subclass(n, q, k, v):
    return right(q, k, v).as_subclass(Named)

@kernel
def from_a_buffer(n, q, k, v):
    if "buffer" not in ANSWERS:
        ANSWERS["buffer"] = torch.empty_like(q)
    return ANSWERS["buffer"].copy_(right(q, k, v))

@kernel
def nested(n, q, k, v):
    return torch.nested.nested_tensor([right(q, k, v)[0]])

@kernel
def fake(n, q, k, v):
    from torch._subclasses.fake_tensor import FakeTensorMode
    with FakeTensorMode():
        return torch.empty(q.shape, dtype=q.dtype)

@kernel
def noisy_within_tolerance(n, q, k, v):
    out = right(q, k, v)
    out[0, n % 64, 0, 0] *= 1 + 2**-7
    return out

@kernel
def z_right(n, q, k, v):
    return right(q, k, v)

@kernel
def z_wrong_scale(n, q, k, v):
    return right(q * 0.5, k, v)
"""

WORKLOAD = "1x64x2x16:bf16"
LATE = {
    "computes_nothing_later": "wrong in round",
    "wrong_in_one_call_of_fourteen": "rel_l2 found",
    "one_element_later": "max_abs found",
    "nan_later": "1 element is NaN or Inf",
    "other_dtype_later": "returned torch.float32, needed torch.bfloat16",
    "nothing_later": "returned NoneType, needed one tensor",
    "view_of_input_later": "returned a view of an input",
    "last_answer_again_later": "rel_l2 found",
    "remembers_by_pointer": "correct in the accuracy check, wrong in round 1 of the timing",
    "remembers_by_version": "correct in the accuracy check, wrong in round 1 of the timing",
    "remembers_by_first_sum": "rel_l2 found",
}


@pytest.fixture
def measure(bench: Any, pytester: pytest.Pytester) -> Any:
    """`measure(*backends, workload=…, more arguments)`: the records, by backend."""
    pytester.makeconftest(KERNELS)

    def run(*arguments: str, workload: str = WORKLOAD) -> dict[str, dict[str, Any]]:
        chosen = [a if a.startswith("-") else f"--attn-backend={a}" for a in arguments]
        run.result = bench(  # type: ignore[attr-defined]
            *("--benchmark-only", "--attn-device=cpu", "--attn-rounds=30", f"--attn-workload={workload}"),
            *("--benchmark-json=run.json", *chosen),
        )
        return {record["backend"]: record for record in bench.stored()["attnbench"]["records"]}

    return run


def said(record: dict[str, Any]) -> str:
    return "; ".join(reason["text"] for reason in record["reasons"])


def test_an_output_that_is_wrong_in_any_timed_call_has_no_latency_anywhere(measure: Any, bench: Any) -> None:
    records = measure("a_right", *LATE, "z_right")
    assert {name: (records[name]["status"], records[name]["sample"]) for name in LATE} == dict.fromkeys(
        LATE, ("incorrect", None)
    )
    for name, sentence in LATE.items():
        assert sentence in said(records[name]), name
    assert [records[name]["status"] for name in ("a_right", "z_right")] == ["measured"] * 2
    measured = [entry["extra_info"]["case"].partition("@")[0] for entry in bench.stored()["benchmarks"]]
    assert sorted(measured) == ["a_right", "z_right"]
    table = measure.result.stdout.str().partition("- benchmark")[2].partition("- attnbench -")[0]
    assert "a_right@eager" in table
    assert not any(name in table for name in LATE)
    assert measure.result.ret == 1


def test_a_launched_process_checks_what_it_times_as_well(measure: Any, bench: Any) -> None:
    records = measure("computes_nothing_later", "a_right", "--attn-launches=1")
    assert (records["computes_nothing_later"]["status"], records["a_right"]["status"]) == ("incorrect", "measured")
    assert len(bench.stored()["benchmarks"]) == 1


@pytest.mark.parametrize("workload", ["1x64x1x16:bf16", "2x1x1x16:bf16", "1x64x3x16:fp32", "2x17x5x8:fp16"])
def test_whatever_the_shape_a_remembered_answer_is_wrong_and_a_computed_one_is_right(
    measure: Any, workload: str
) -> None:
    records = measure("a_right", "remembers_by_pointer", workload=workload)
    assert (records["a_right"]["status"], records["remembers_by_pointer"]["status"]) == ("measured", "incorrect")
    assert records["a_right"]["sample"]["unequal"] == 0


@pytest.mark.parametrize("workload", [WORKLOAD, "1x64x3x16:bf16", "2x16x1x16:bf16", "1x48x4x16:fp32"])
def test_no_contents_come_back_while_a_case_is_timed(measure: Any, workload: str) -> None:
    record = measure("remembers_by_contents", "-s", workload=workload)["remembers_by_contents"]
    assert (record["status"], record["sample"]["unequal"]) == ("measured", 0)
    counts = [line.split() for line in measure.result.outlines if line.startswith("computed")]
    rounds = [int(line[1]) for line in counts[-31:]]
    assert [after - before for before, after in pairwise(rounds)] == [1] * 30


def test_outputs_that_differ_in_bits_within_the_tolerance_are_counted(measure: Any) -> None:
    record = measure("noisy_within_tolerance")["noisy_within_tolerance"]
    assert (record["status"], record["sample"]["unequal"]) == ("measured", 30)
    measure.result.stdout.fnmatch_lines(
        ["outputs within the tolerance, but not bit-equal*: noisy_within_tolerance@eager (30 outputs)"]
    )


WROTE = {
    "writes_into_v_later": ("incorrect", "v of randn*randint(1,5)"),
    "moves_rows_of_k_later": ("incorrect", "k of randn*randint(1,5), v of randn*randint(1,5)"),
    "raises_after_writing": ("error", "k of randn*randint(1,5)"),
    "two_outputs_after_writing": ("incorrect", "q of randn*randint(1,5)"),
}


def test_who_writes_into_the_inputs_is_named_and_harms_nobody(measure: Any) -> None:
    def errors(record: dict[str, Any]) -> list[Any]:  # whether memory could be poisoned is chance, on the CPU
        return [check["error"] for check in record["checks"]]

    before = errors(measure("z_right")["z_right"])
    records = measure(*WROTE, "z_right", "z_wrong_scale")
    for culprit, (status, wrote) in WROTE.items():
        assert (records[culprit]["status"], records[culprit]["sample"]) == (status, None)
        assert records[culprit]["reasons"][0]["text"] == f"wrote into its input: {wrote}"
    assert (records["z_right"]["status"], errors(records["z_right"])) == ("measured", before)
    assert records["z_wrong_scale"]["status"] == "incorrect"
    assert "wrote" not in said(records["z_wrong_scale"])


RESHAPED = {"swaps_the_memory_of_q_later": "q", "turns_k_around": "k", "shrinks_v_later": "v"}


def test_who_gives_an_input_another_shape_or_memory_is_named_and_harms_nobody(measure: Any) -> None:
    records = measure(*RESHAPED, "keeps_its_answer_on_q", "z_right", "z_wrong_scale")
    for culprit, name in RESHAPED.items():
        assert (records[culprit]["status"], records[culprit]["sample"]) == ("incorrect", None)
        assert said(records[culprit]) == f"wrote into its input: {name} of randn*randint(1,5) (its shape or its memory)"
    assert "wrong in round 1 of the timing" in said(records["keeps_its_answer_on_q"])
    assert records["z_right"]["status"] == "measured"
    assert "wrote" not in said(records["z_wrong_scale"])


def test_a_right_output_may_be_of_a_subclass_or_in_the_same_buffer_every_time(measure: Any) -> None:
    records = measure("of_a_subclass", "from_a_buffer")
    assert [(r["status"], r["sample"]["unequal"]) for r in records.values()] == [("measured", 0)] * 2


def test_a_tensor_that_cannot_be_read_is_a_row_and_no_traceback(measure: Any) -> None:
    records = measure("nested", "fake")
    for record in records.values():
        assert record["status"] == "error"
        assert said(record).startswith("returned a tensor that cannot be checked: ")
    assert "local_case.py" not in measure.result.stdout.str()


def test_a_test_that_ends_by_itself_leaves_the_inputs_as_they_were(
    measure: Any, bench: Any, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        test_suite="""
        import pytest

        def test_only_prepares(attn_case):
            attn_case.prepare()

        def test_skips(attn_case):
            attn_case.prepare()
            attn_case._steps._call(*attn_case._steps._inputs.timed)  # a call of its own
            attn_case._steps._inputs.timed[1].mul_(2)
            pytest.skip("an expectation of my own")

        def test_all(attn_case):
            for step in (attn_case.prepare, attn_case.assert_accurate, attn_case.measure):
                step()
        """
    )
    measure("z_right", "a_right")
    measure.result.assert_outcomes(passed=4, failed=2)
    records = {record["nodeid"]: record for record in bench.stored()["attnbench"]["records"]}
    skipped = records["test_suite.py::test_skips[z_right@eager-1x64x2x16:bf16]"]
    assert (skipped["status"], said(skipped)) == ("incorrect", "wrote into its input: k of randn*randint(1,5)")
    assert all(r["status"] == "measured" for nodeid, r in records.items() if "test_all" in nodeid)


def test_a_case_that_fails_after_its_rounds_has_no_times_anywhere(
    bench: Any, measure: Any, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock stands still from the rounds on, so no round took any time: an error, and no row of nanoseconds."""
    pytester.makeconftest(
        KERNELS
        + """
@kernel
def stops_the_clock(n, q, k, v):
    if n == LATE:
        time.perf_counter = lambda: 0.0
    return right(q, k, v)
"""
    )
    monkeypatch.setattr("time.perf_counter", time.perf_counter)  # whatever becomes of it
    record = measure("stops_the_clock")["stops_the_clock"]
    assert (record["status"], record["sample"]) == ("error", None)
    assert "every round of a Sample is a positive number of seconds" in said(record)
    assert bench.stored()["benchmarks"] == []
    assert "- benchmark" not in measure.result.stdout.str()
