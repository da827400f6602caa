"""A virtual GPU: a queue, a clock that moves, and a host that takes its time to launch.

Nothing here needs torch: what the timing protocol asks of `torch.cuda` is few calls, and this GPU answers them in virtual
time.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

CEILING_HZ, STEP_HZ = 1980e6, 15e6
EVENT_S, LAUNCH_S, KERNEL_S = 2.8e-6, 5e-6, 400e-6


class VirtualGpu:
    """`host_s` is the host's time, `free_s` when the device will have done all that is queued.

    `launch_s` the host's time to queue something, `hz` of a spin that starts at a time, `spin_launch_s` what a spin takes
    beside its cycles, `kernel_s` the device's time for the next kernel, `kernel_end_s` when the last one will be done.
    """

    def __init__(self):
        self.host_s = self.free_s = 0.0
        self.hz = lambda at_s: CEILING_HZ
        self.launch_s = LAUNCH_S
        self.event_s = EVENT_S
        self.spin_launch_s = 0.0
        self.kernel_s = lambda: KERNEL_S
        self.kernel_end_s = 0.0
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
            _sleep=self.spin,
            synchronize=self.synchronize,
            current_device=lambda: 0,
            get_device_properties=lambda device: properties,
        )
        self.torch = SimpleNamespace(
            cuda=cuda, uint8=None, empty=lambda *shape, **options: flush, no_grad=contextlib.nullcontext
        )

    def queue(self, seconds):
        """Launch work; returns when it will be done."""
        self.host_s += self.launch_s
        self.free_s = max(self.host_s, self.free_s) + seconds
        return self.free_s

    def spin(self, cycles):
        self.queue(self.spin_launch_s + cycles / self.hz(max(self.host_s, self.free_s)))

    def synchronize(self):
        self.host_s = max(self.host_s, self.free_s)

    def kernel(self, host_s=45e-6):
        """An attention call: host work, then one kernel."""
        self.host_s += host_s
        self.kernel_end_s = self.queue(self.kernel_s())


def take(pacer, call, count=5):
    """Rounds as pytest-benchmark takes them: set-up, a reading, the call, a reading, and their difference."""
    seconds = []
    for _ in range(count):
        pacer.before_round()
        start = pacer.instant()
        call()
        seconds.append(pacer.instant() - start)
    return seconds
