"""The data model: what a record cannot say."""

import math

import pytest

from attnbench.model import Case, ErrorMetrics, Reason, Sample, Status
from attnbench.workload import Workload

SAMPLE = Sample((1e-3,), "perf_counter")
UNMEASURED = [status.value for status in Status if status is not Status.MEASURED]


@pytest.mark.parametrize("status", UNMEASURED)
def test_a_record_that_was_not_measured_cannot_carry_a_sample(record, status):
    with pytest.raises(ValueError, match=f"status '{status}' cannot carry a sample"):
        record(status=status, sample=SAMPLE)


def test_a_measured_record_needs_a_sample(record):
    with pytest.raises(ValueError, match="'measured' needs a sample"):
        record(sample=None)


@pytest.mark.parametrize("status", ["unsupported", "incorrect", "error", "not-run"])
def test_a_record_without_a_result_needs_a_reason(record, status):
    with pytest.raises(ValueError, match="needs a reason"):
        record(status=status, reasons=())


@pytest.mark.parametrize("status", ["measured", "checked"])
@pytest.mark.parametrize("found", [{"max_abs": 0.2}, {"max_abs": math.nan}, {"max_abs": math.inf}, {"nonfinite": 1}])
def test_a_wrong_kernel_has_no_latency_whoever_builds_the_record(record, check, status, found):
    with pytest.raises(ValueError, match=r"failed check on randn\*randint\(1,5\) inputs"):
        record(status=status, checks=(check({"max_abs": 0.1}, **found),))


def test_an_incorrect_record_keeps_the_check_that_failed(record, check):
    failed = check({"max_abs": 0.1}, max_abs=0.2)
    assert record(status="incorrect", checks=(failed,)).checks == (failed,)
    assert not failed.passed


def test_a_check_against_a_metric_that_nobody_knows_is_not_passed(check):
    assert not check({"max_ulp": 1.0}).passed
    assert check({"max_abs": 1e-3}).passed


@pytest.mark.parametrize(("found", "passed"), [(0.999, True), (0.99, True), (0.98, False), (math.nan, False)])
def test_of_a_similarity_the_smallest_value_is_allowed(check, found, passed):
    assert check({"cosine": 0.99}, cosine=found).passed is passed


def test_ending_a_measured_record_takes_its_latency_away(record):
    ended = record().ended(Status.INCORRECT, Reason("tolerance", "too far off"))
    assert (ended.status, ended.sample, ended.reasons[0].text) == (Status.INCORRECT, None, "too far off")


@pytest.mark.parametrize("rounds_s", [(), (0.0,), (-1e-3,), (math.nan,), (math.inf,), (1e-3, 0.0)])
def test_a_sample_holds_positive_finite_rounds_and_at_least_one(rounds_s):
    with pytest.raises(ValueError, match="round"):
        Sample(rounds_s, "perf_counter")


def test_flop_are_four_batch_heads_seq_squared_head_dim():
    assert Workload("w", 2, 4608, 24, 128).flop == 4 * 2 * 24 * 4608**2 * 128


def test_shape_and_spelling_follow_batch_seq_heads_head_dim():
    workload = Workload("w", 1, 4608, 24, 128, "fp16")
    assert workload.shape == (1, 4608, 24, 128)
    assert workload.spelt == "1x4608x24x128:fp16"


def test_a_case_is_named_by_variant_and_workload():
    assert str(Case("torch_flash", "max-autotune", "flux-1024px-t512")) == "torch_flash@max-autotune-flux-1024px-t512"


def test_metrics_are_compared_by_value(error):
    assert error() == error()
    assert isinstance(error(), ErrorMetrics)
    assert error(max_abs=1.0) != error()
