"""The timing protocol on a virtual GPU: a queue, a clock that moves, and a host that takes its time to launch.

Nothing here needs torch: what the protocol asks of `torch.cuda` is few calls, and this GPU answers them in virtual time.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from attnbench import clock, pacing

CEILING_HZ, STEP_HZ = 1980e6, 15e6
EVENT_S, LAUNCH_S, KERNEL_S = 2.8e-6, 5e-6, 400e-6


class VirtualGpu:
    """`host_s` is the host's time, `free_s` when the device will have done all that is queued."""

    def __init__(self):
        self.host_s = self.free_s = 0.0
        self.hz = lambda at_s: CEILING_HZ
        self.event_s = EVENT_S
        gpu = self

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self):
                self.at_s = gpu.queue(gpu.event_s)

            def query(self):
                return gpu.host_s >= self.at_s

            def synchronize(self):
                gpu.host_s = max(gpu.host_s, self.at_s)

            def elapsed_time(self, end):
                assert gpu.host_s >= end.at_s, "read before it was waited for"
                return (end.at_s - self.at_s) * 1e3

        properties = SimpleNamespace(L2_cache_size=50 * 2**20)
        flush = SimpleNamespace(zero_=lambda: gpu.queue(50e-6))
        cuda = SimpleNamespace(
            Event=Event,
            _sleep=lambda cycles: gpu.queue(cycles / gpu.hz(max(gpu.host_s, gpu.free_s))),
            synchronize=self.synchronize,
            current_device=lambda: 0,
            get_device_properties=lambda device: properties,
        )
        self.torch = SimpleNamespace(cuda=cuda, uint8=None, empty=lambda *shape, **options: flush)

    def queue(self, seconds):
        """Launch work; returns when it will be done."""
        self.host_s += LAUNCH_S
        self.free_s = max(self.host_s, self.free_s) + seconds
        return self.free_s

    def synchronize(self):
        self.host_s = max(self.host_s, self.free_s)

    def kernel(self, host_s=45e-6):
        """An attention call: host work, then one kernel."""
        self.host_s += host_s
        self.queue(KERNEL_S)


@pytest.fixture
def gpu(monkeypatch):
    gpu = VirtualGpu()
    monkeypatch.setitem(sys.modules, "torch", gpu.torch)
    monkeypatch.setattr(pacing, "time", SimpleNamespace(perf_counter=lambda: gpu.host_s))
    return gpu


def take(pacer, call, count=5):
    """Rounds as pytest-benchmark takes them: set-up, a reading, the call, a reading, and their difference."""
    seconds = []
    for _ in range(count):
        pacer.before_round()
        start = pacer.instant()
        call()
        seconds.append(pacer.instant() - start)
    return seconds


def test_the_ceiling_is_the_clock_of_a_spin_and_the_events_overhead_is_told_from_it(gpu):
    ceiling = clock.SpinClock().ceiling
    assert ceiling.hz == pytest.approx(CEILING_HZ, rel=1e-4)
    assert ceiling.overhead_s == pytest.approx(EVENT_S, rel=0.01)


def test_a_reading_shows_one_step_of_the_clock(gpu):
    spins = clock.SpinClock()
    gpu.hz = lambda at_s: CEILING_HZ - STEP_HZ
    assert spins.read(0.5e-3) == pytest.approx(CEILING_HZ - STEP_HZ, rel=1e-4)


def test_only_the_kernel_is_in_the_interval(gpu):
    pacer = pacing.CudaPacer(clock.SpinClock(), gpu.kernel)
    assert take(pacer, gpu.kernel) == pytest.approx([KERNEL_S] * 5, rel=1e-6)
    assert all(r.hidden and r.settled and r.cycles is None for r in pacer.rounds)
    assert pacer.host_s == pytest.approx(45e-6 + LAUNCH_S)
    assert pacer.empty_s == pytest.approx(EVENT_S)


def test_a_round_waits_until_the_clock_is_back_at_its_ceiling(gpu):
    pacer = pacing.CudaPacer(clock.SpinClock(), gpu.kernel)
    back_s = max(gpu.host_s, gpu.free_s) + 20e-3
    gpu.hz = lambda at_s: CEILING_HZ if at_s > back_s else CEILING_HZ - 2 * STEP_HZ
    take(pacer, gpu.kernel, count=1)
    (taken,) = pacer.rounds
    assert taken.settled
    assert taken.before_hz == pytest.approx(CEILING_HZ, rel=1e-4)
    assert 20 <= taken.probes <= 30  # 0.8 ms each
    assert gpu.host_s > back_s


def test_a_clock_that_never_comes_back_costs_seconds_and_is_said(gpu):
    pacer = pacing.CudaPacer(clock.SpinClock(), gpu.kernel)
    gpu.hz = lambda at_s: CEILING_HZ - STEP_HZ
    began_s = gpu.host_s
    take(pacer, gpu.kernel, count=30)
    assert len(pacer.rounds) == 30
    assert not any(r.settled for r in pacer.rounds)
    assert gpu.host_s - began_s < 3.5
    assert pacer.sample([1.0] * 30).unsettled == 30


def test_a_call_that_got_slow_to_launch_is_taken_again_behind_a_longer_tail(gpu):
    pacer = pacing.CudaPacer(clock.SpinClock(), gpu.kernel)

    def slow_to_launch():
        gpu.kernel(host_s=2e-3)

    pacer._call = slow_to_launch
    assert take(pacer, slow_to_launch, count=3) == pytest.approx([KERNEL_S] * 3, rel=1e-6)
    assert all(r.hidden for r in pacer.rounds)


def test_a_call_that_waits_for_the_device_is_called_synchronising(gpu):
    def waits():
        gpu.synchronize()
        gpu.kernel()

    pacer = pacing.CudaPacer(clock.SpinClock(), waits)
    (seconds,) = take(pacer, waits, count=1)
    assert seconds > KERNEL_S + 40e-6  # the host's work is inside
    assert pacer.sample([seconds]).synchronising


def test_the_empty_interval_is_taken_off_whatever_events_cost(gpu):
    gpu.event_s = 10e-6
    pacer = pacing.CudaPacer(clock.SpinClock(), gpu.kernel)
    assert take(pacer, gpu.kernel, count=1) == pytest.approx([KERNEL_S], rel=1e-6)
