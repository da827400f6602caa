"""The timing protocol on the virtual GPU."""

import statistics

import pytest
from virtual_gpu import CEILING_HZ, EVENT_S, KERNEL_S, LAUNCH_S, STEP_HZ, take

from attnbench.hardware import sm_clock
from attnbench.timing import settling
from attnbench.timing.pacer import CudaPacer, SameContents


def test_the_ceiling_is_the_clock_of_a_spin_and_the_events_overhead_is_told_from_it(gpu):
    ceiling = sm_clock.SmClock().ceiling
    assert ceiling.hz == pytest.approx(CEILING_HZ, rel=1e-4)
    assert ceiling.overhead_s == pytest.approx(EVENT_S, rel=0.01)


def test_a_reading_shows_one_step_of_the_clock(gpu):
    spins = sm_clock.SmClock()
    gpu.hz = lambda at_s: CEILING_HZ - STEP_HZ
    assert spins.read(0.5e-3) == pytest.approx(CEILING_HZ - STEP_HZ, rel=1e-4)


def test_only_the_kernel_is_in_the_interval(gpu):
    pacer = CudaPacer(sm_clock.SmClock(), gpu.kernel)
    assert take(pacer, gpu.kernel) == pytest.approx([KERNEL_S] * 5, rel=1e-6)
    assert all(r.hidden and r.settled and r.cycles is None for r in pacer.rounds)
    assert pacer.host_s == pytest.approx(45e-6 + LAUNCH_S)
    assert pacer.empty_s == pytest.approx(EVENT_S)


def test_a_round_waits_until_the_clock_is_back_at_its_ceiling(gpu):
    pacer = CudaPacer(sm_clock.SmClock(), gpu.kernel)
    back_s = max(gpu.host_s, gpu.free_s) + 20e-3
    gpu.hz = lambda at_s: CEILING_HZ if at_s > back_s else CEILING_HZ - 2 * STEP_HZ
    take(pacer, gpu.kernel, count=1)
    (taken,) = pacer.rounds
    assert taken.settled
    assert taken.before_hz == pytest.approx(CEILING_HZ, rel=1e-4)
    assert 20 <= taken.probes <= 30  # 0.8 ms each
    assert 15e-3 < pacer.sample([KERNEL_S]).waited_s < 25e-3
    assert gpu.host_s > back_s


@pytest.mark.parametrize(
    "hz",
    [lambda at_s: CEILING_HZ - 7 * STEP_HZ, lambda at_s: CEILING_HZ - (1 + int(at_s / 7e-3) % 2) * STEP_HZ],
    ids=["far below", "not steady"],
)
def test_a_clock_that_never_comes_back_costs_seconds_and_is_said(gpu, hz):
    pacer = CudaPacer(sm_clock.SmClock(), gpu.kernel)
    gpu.hz = hz
    began_s = gpu.host_s
    take(pacer, gpu.kernel, count=30)
    assert len(pacer.rounds) == 30
    assert not any(r.settled for r in pacer.rounds)
    assert gpu.host_s - began_s < 3.5
    assert pacer.sample([1.0] * 30).unsettled == 30


@pytest.mark.parametrize("steps", [1, 5])
def test_a_gpu_that_rests_on_a_lower_plateau_is_waited_for_once(gpu, steps):
    spins = sm_clock.SmClock()
    pacer = CudaPacer(spins, gpu.kernel)
    lower_hz = CEILING_HZ - steps * STEP_HZ
    gpu.hz = lambda at_s: lower_hz
    for waits_s in (1.2, 0.1):
        began_s = gpu.host_s
        take(pacer, gpu.kernel, count=30)
        assert gpu.host_s - began_s < waits_s
        pacer = CudaPacer(spins, gpu.kernel)
    take(pacer, gpu.kernel, count=1)
    sample = pacer.sample([1.0])
    assert (sample.unsettled, sample.ceiling_hz) == (0, pytest.approx(lower_hz, rel=1e-4))
    assert sample.before_hz == pytest.approx((lower_hz,), rel=1e-4)


def test_of_several_plateaus_the_lowest_one_is_waited_for_and_none_after_it(gpu):
    """As an H100 does: a plateau per half second, in no order."""
    pacer = CudaPacer(sm_clock.SmClock(), gpu.kernel)
    steps = (0, -2, 3, 1, -3, 2, 3, 0)
    gpu.hz = lambda at_s: CEILING_HZ - steps[int(at_s / 1.5) % len(steps)] * STEP_HZ
    lowered = []
    while gpu.host_s < 1.5 * len(steps):
        take(pacer, gpu.kernel, count=1)
        lowered.append(pacer.sample([1.0]).ceiling_hz)
        gpu.host_s += 5e-3
    assert all(r.settled for r in pacer.rounds)
    assert 1.0 < pacer.sample([1.0]).waited_s < 1.2, "once, for the lowest"
    assert max(r.before_hz for r in pacer.rounds) > CEILING_HZ + 2 * STEP_HZ, "a higher clock is settled, too"
    assert [*dict.fromkeys(round(hz / STEP_HZ) for hz in lowered)] == [132, 129], "and does not raise the ceiling"


def test_a_gpu_that_was_held_down_once_is_not_taken_for_a_resting_one_for_long(gpu):
    """Five steps lower for 1.3 s, as another process may hold it; then a call that lowers the clock for 20 ms each time."""
    spins = sm_clock.SmClock()
    held_until_s = max(gpu.host_s, gpu.free_s) + 1.3
    gpu.hz = lambda at_s: CEILING_HZ - 5 * STEP_HZ if at_s < held_until_s else CEILING_HZ
    take(CudaPacer(spins, gpu.kernel), gpu.kernel, count=1)
    gpu.hz = lambda at_s: CEILING_HZ - 5 * STEP_HZ if at_s < gpu.kernel_end_s + 20e-3 else CEILING_HZ
    for wait_s, low in ((0.0, True), (10.0, False)):
        gpu.host_s += wait_s
        pacer = CudaPacer(spins, gpu.kernel)
        take(pacer, gpu.kernel, count=30)
        assert (statistics.median(r.before_hz for r in pacer.rounds) < CEILING_HZ - STEP_HZ) is low
        assert all(r.settled for r in pacer.rounds)
    assert pacer.sample([1.0]).ceiling_hz == pytest.approx(CEILING_HZ, rel=1e-4)


def test_a_clock_that_comes_back_higher_while_it_is_asked_for_does_not_raise_the_ceiling(gpu):
    pacer = CudaPacer(sm_clock.SmClock(), gpu.kernel)
    back_s = gpu.host_s + 1.002
    gpu.hz = lambda at_s: CEILING_HZ + (3 if at_s > back_s else -3) * STEP_HZ
    take(pacer, gpu.kernel, count=1)
    assert pacer.rounds[0].before_hz > CEILING_HZ + 2 * STEP_HZ
    assert pacer.sample([1.0]).ceiling_hz == pytest.approx(CEILING_HZ, rel=1e-4)


@pytest.mark.parametrize("steps", [(3, 5), (5, 8)])
def test_the_ceiling_goes_down_as_far_as_a_gpu_rests_and_no_farther_step_by_step(gpu, steps):
    spins = sm_clock.SmClock()
    pacer = CudaPacer(spins, gpu.kernel)
    for lower in steps:
        gpu.hz = lambda at_s, lower=lower: CEILING_HZ - lower * STEP_HZ
        take(pacer, gpu.kernel, count=1)
    assert pacer.rounds[-1].settled is (steps[-1] < 6)


def test_a_plateau_that_is_still_moving_when_it_is_asked_for_is_asked_for_again(gpu):
    pacer = CudaPacer(sm_clock.SmClock(), gpu.kernel)
    warm_at_s = gpu.host_s + 1.15
    gpu.hz = lambda at_s: CEILING_HZ - (1 if at_s > warm_at_s else 1 + int(at_s / 7e-3) % 2) * STEP_HZ
    take(pacer, gpu.kernel, count=30)
    assert all(r.settled for r in pacer.rounds)
    assert gpu.host_s - warm_at_s < 1.2


def test_a_warm_gpu_that_now_and_then_reads_its_first_ceiling_is_settled_at_either(gpu):
    pacer = CudaPacer(sm_clock.SmClock(), gpu.kernel)
    steady_until_s = gpu.host_s + 1.3
    gpu.hz = lambda at_s: CEILING_HZ - (0 if at_s > steady_until_s and int(at_s / 5e-3) % 8 == 0 else 1) * STEP_HZ
    take(pacer, gpu.kernel, count=1)
    gpu.host_s = max(gpu.host_s, steady_until_s)
    take(pacer, gpu.kernel, count=60)
    assert all(r.settled for r in pacer.rounds)
    at_the_first = sum(r.before_hz > CEILING_HZ - STEP_HZ / 2 for r in pacer.rounds)
    assert 0 < at_the_first < 30, "and none waits for it"


def test_a_call_that_got_slow_to_launch_is_taken_again_behind_a_longer_tail(gpu):
    pacer = CudaPacer(sm_clock.SmClock(), gpu.kernel)

    def slow_to_launch():
        gpu.kernel(host_s=2e-3)

    pacer._call = slow_to_launch
    assert take(pacer, slow_to_launch, count=3) == pytest.approx([KERNEL_S] * 3, rel=1e-6)
    assert all(r.hidden for r in pacer.rounds)


def test_a_call_that_waits_for_the_device_is_called_synchronising(gpu):
    def waits():
        gpu.synchronize()
        gpu.kernel()

    pacer = CudaPacer(sm_clock.SmClock(), waits)
    (seconds,) = take(pacer, waits, count=1)
    assert seconds > KERNEL_S + 40e-6  # the host's work is inside
    assert pacer.sample([seconds]).synchronising


class Steps(SameContents):
    """Contents that say when they were switched and looked at, each of which costs the host and the device some time."""

    def __init__(self, gpu):
        self._gpu, self.taken = gpu, []

    def _took(self, step):
        self.taken.append(step)
        self._gpu.queue(100e-6)

    def advance(self):
        self._took("advance")

    def ready(self):
        self._took("ready")

    def compare(self):
        self._took("compare")

    def conclude(self):
        self._took("conclude")


def test_inputs_change_and_outputs_are_checked_outside_the_interval(gpu):
    steps = Steps(gpu)

    def call():
        steps.taken.append("call")
        gpu.kernel()

    pacer = CudaPacer(sm_clock.SmClock(), call, contents=steps)
    steps.taken.clear()
    assert take(pacer, call, count=2) == pytest.approx([KERNEL_S] * 2, rel=1e-6)
    pacer.sample([KERNEL_S] * 2)
    assert steps.taken == [*(["advance", "ready", "call", "compare"] * 2), "conclude"]


def test_warm_up_rounds_are_paced_and_not_kept(gpu):
    steps = Steps(gpu)
    pacer = CudaPacer(sm_clock.SmClock(), lambda: (steps.taken.append("call"), gpu.kernel()), contents=steps)
    steps.taken.clear()
    pacer.warm_up()
    assert steps.taken == ["ready", "call"] * settling.TimingProtocol().warm_rounds
    assert not pacer.rounds
    assert pacer.sample([KERNEL_S]).waited_s == 0


def test_a_long_call_warms_up_in_few_rounds(gpu, monkeypatch):
    monkeypatch.setattr("time.perf_counter", lambda: gpu.host_s)
    gpu.kernel_s = lambda: 0.2
    pacer = CudaPacer(sm_clock.SmClock(), gpu.kernel)
    before_s = gpu.host_s
    pacer.warm_up()
    assert gpu.host_s - before_s < 1


def test_a_round_that_is_taken_again_is_looked_at_too(gpu):
    steps = Steps(gpu)

    def slow_to_launch():
        steps.taken.append("call")
        gpu.kernel(host_s=2e-3)

    pacer = CudaPacer(sm_clock.SmClock(), gpu.kernel, contents=steps)
    pacer._call = slow_to_launch
    steps.taken.clear()
    take(pacer, slow_to_launch, count=1)
    again = steps.taken.count("call")
    assert again > 1
    assert steps.taken == [
        *(["advance", "ready", "call"] * again),
        "compare",
    ]  # the next advance looks at what nobody has


def test_the_empty_interval_is_taken_off_whatever_events_cost(gpu):
    gpu.event_s = 10e-6
    pacer = CudaPacer(sm_clock.SmClock(), gpu.kernel)
    assert take(pacer, gpu.kernel, count=1) == pytest.approx([KERNEL_S], rel=1e-6)


@pytest.fixture
def late_after_the_call(gpu):
    """`late_after_the_call(s)` is a call after whose fifth, the last before the empty rounds, launches take `s`."""

    def make(late_s):
        calls = []

        def call():
            gpu.kernel()
            calls.append(None)
            gpu.launch_s = late_s if len(calls) >= 5 else LAUNCH_S

        return call

    return make


def test_a_host_that_is_late_is_not_in_the_empty_interval(gpu, late_after_the_call):
    pacer = CudaPacer(sm_clock.SmClock(), late_after_the_call(150e-6))  # as the host of an H100 was for some ms
    gpu.launch_s = LAUNCH_S
    assert pacer.empty_s == pytest.approx(EVENT_S)
    assert take(pacer, gpu.kernel, count=1) == pytest.approx([KERNEL_S], rel=1e-6)


def test_where_no_tail_hides_an_empty_interval_nothing_is_timed(late_after_the_call):
    late = late_after_the_call(50e-3)
    with pytest.raises(
        RuntimeError, match="the host is too slow: it took longer than 20 ms to queue two events in each of 9"
    ):
        CudaPacer(sm_clock.SmClock(), late)


def test_before_a_call_that_is_looked_at_the_clock_is_waited_for_but_not_for_ever(gpu):
    spins = sm_clock.SmClock()
    back_s = max(gpu.host_s, gpu.free_s) + 20e-3
    gpu.hz = lambda at_s: CEILING_HZ if at_s > back_s else CEILING_HZ - 2 * STEP_HZ
    settling.settle(spins)
    assert back_s < gpu.host_s < back_s + 5e-3
    gpu.hz = lambda at_s: CEILING_HZ - STEP_HZ
    began_s = gpu.host_s
    settling.settle(spins)
    assert 0.5 <= gpu.host_s - began_s < 0.6
