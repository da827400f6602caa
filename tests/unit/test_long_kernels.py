"""Long calls on the virtual GPU: fewer rounds, and a mark on what was measured."""

import pytest
from virtual_gpu import take

from attnbench.hardware import sm_clock
from attnbench.timing.pacer import CudaPacer


def pacer_of(gpu, kernel_s):
    gpu.kernel_s = lambda: kernel_s
    return CudaPacer(sm_clock.SmClock(), gpu.kernel)


@pytest.mark.parametrize(
    ("kernel_s", "wanted", "taken"), [(0.0059, 30, 30), (0.0119, 30, 15), (0.07, 30, 5), (0.07, 3, 3), (2.0, 30, 5)]
)
def test_a_long_call_takes_as_many_rounds_as_fit_into_the_time_box(gpu, kernel_s, wanted, taken):
    assert pacer_of(gpu, kernel_s).rounds_for(wanted) == taken


@pytest.mark.parametrize(("kernel_s", "throttled"), [(0.4e-3, False), (0.0999, False), (0.101, True)])
def test_its_sample_says_so(gpu, kernel_s, throttled):
    pacer = pacer_of(gpu, kernel_s)
    sample = pacer.sample(take(pacer, gpu.kernel, count=3))
    assert sample.rounds_s == pytest.approx([kernel_s] * 3)
    assert sample.self_throttled is throttled


def test_what_a_long_call_costs_is_learnt_from_few_of_it(gpu):
    calls = []
    gpu.kernel_s = lambda: calls.append(1) or 2.0
    CudaPacer(sm_clock.SmClock(), gpu.kernel)
    assert len(calls) == 1


def test_the_median_of_the_rounds_decides_and_not_one_of_them(gpu):
    pacer = pacer_of(gpu, 0.4e-3)
    assert not pacer.sample([0.09, 0.09, 0.3]).self_throttled
    assert pacer.sample([0.09, 0.11, 0.3]).self_throttled
