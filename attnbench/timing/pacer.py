"""Settle the clock and pace the rounds, so that a kernel reads the same whatever ran before (docs/method.md).

Attention at full rate draws more than the board's power limit, so the clock wanders within a second. Before each round the
device spins, which draws almost nothing, until its clock reads the ceiling. Then, without waiting again: a tail spin that
hides Python and the launch, a write of twice the L2 cache, a stamp of the cycle counters, the start event, the call, the end
event, and a second stamp. The clock moves in steps of 15 MHz (0.76 %) even within one call, where no reading before or after
sees it; the number of cycles between the stamps does not depend on it. If the start event is no longer pending when
everything behind it is queued, the host's time is in the interval: the round is taken again with a longer tail.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from typing import Protocol as Interface

from attnbench import torch_private
from attnbench.hardware.sm_clock import SmClock
from attnbench.model import Sample
from attnbench.timing.cycle_counter import cycle_counter
from attnbench.timing.settling import TimingProtocol, probed

#: A call of this many seconds lowers its own clock whatever the device did before it.
SELF_THROTTLING_S = 0.1
#: A case takes as many rounds of a long call as fit into this time (30 of 6 ms), and at least the second number. Settling
#: the clock before each round takes several times as long (docs/measurements/sampling.md: what fewer rounds change).
TIME_BOX_S, FEWEST_LONG_ROUNDS = 0.18, 5
#: Rounds with nothing in them, whose median is subtracted from every round.
EMPTY_ROUNDS = 9


@dataclass(frozen=True)
class RoundReading:
    """What was read of one timed call.

    seconds: between the two events, the empty interval subtracted. cycles: of the SM clock between the stamps, None where
    they could not be counted. before_hz: the SM clock before the round. settled: whether it had reached the ceiling.
    hidden: whether the host's time stayed out of the interval. probes: spins that read the clock before the round.
    """

    seconds: float
    cycles: int | None
    before_hz: float
    settled: bool
    hidden: bool
    probes: int


class Contents(Interface):
    """What the call works on, other contents each round, and its output, checked after each: a `CheckedCall`."""

    def advance(self) -> None: ...
    def ready(self) -> None: ...
    def compare(self) -> None: ...
    def conclude(self) -> None: ...


class SameContents:
    """For calls whose output is not checked: those of a calibration or an experiment.

    ready: what has to happen before every call, untimed.
    """

    def __init__(self, ready: Callable[[], None] | None = None) -> None:
        self._ready = ready

    def advance(self) -> None:
        """The contents stay."""

    def ready(self) -> None:
        """What was given for it, if anything."""
        if self._ready is not None:
            self._ready()

    def compare(self) -> None:
        """There is nothing to compare with."""

    def conclude(self) -> None:
        """There is nothing to put back."""


class CudaPacer:
    """Paces the rounds of one call on the current device and stream, and keeps a reading of each.

    rounds: the readings so far. host_s: median seconds that the call takes to return. empty_s: median seconds of a round
    with nothing in it.
    """

    def __init__(
        self,
        clock: SmClock,
        call: Callable[[], None],
        protocol: TimingProtocol | None = None,
        contents: Contents | None = None,
    ) -> None:
        """`call` queues the work once; it is called a few times here to learn what it costs.

        `contents` change before every round, also before one that is taken again, and the output of each is checked. They
        are made ready before every call, outside of what is timed.
        Raises RuntimeError where the host is too slow to stay out of any interval.
        """
        import torch

        self._torch: Any = torch
        self._spin = torch_private.spin_kernel()
        self._clock = clock
        self._call = call
        self._contents = contents or SameContents()
        protocol = protocol or TimingProtocol()
        self._protocol = protocol
        l2_bytes = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
        self._cycle_counter = cycle_counter()
        self._flush = torch.empty(2 * l2_bytes, dtype=torch.uint8, device="cuda")
        self.rounds: list[RoundReading] = []
        self.empty_s = 0.0
        self.host_s, self._call_s = self._costs()
        self._probe_s = min(max(protocol.probe_per_call * self._call_s, protocol.probe_min_s), protocol.probe_max_s)
        self._tail_s = max(protocol.tail_min_s, protocol.tail_per_host * self.host_s)
        self.empty_s = self._empty_interval()
        self._settle_limit_s = protocol.settle_limit_s + protocol.settle_calls * self._call_s
        self._waited_s = 0.0
        self._pending: PendingRound | None = None

    def rounds_for(self, count: int) -> int:
        """`count`; of a long call as many as fit into `TIME_BOX_S`, at least `FEWEST_LONG_ROUNDS`, if that is fewer."""
        return min(count, max(FEWEST_LONG_ROUNDS, int(TIME_BOX_S / self._call_s)))

    def warm_up(self) -> None:
        """Take paced rounds that are not kept: right after idling a kernel is 0.1 to 0.2 % off.

        `TimingProtocol.warm_rounds` of them, or as many as fit into `warm_limit_s`. The contents stay.
        """
        protocol = self._protocol
        until_s = time.perf_counter() + protocol.warm_limit_s
        for _ in range(protocol.warm_rounds):
            probed(self._clock, protocol, self._probe_s, protocol.warm_limit_s)
            if time.perf_counter() >= until_s:
                return
            self._contents.ready()
            self._hide()
            self._call()

    def before_round(self) -> None:
        """Switch the contents, settle the clock, then leave the device spinning with the flush queued behind the spin."""
        self._contents.advance()
        self._contents.ready()
        left_s = self._settle_limit_s - self._waited_s
        before_hz, probes, waited_s = probed(self._clock, self._protocol, self._probe_s, left_s)
        self._waited_s += waited_s
        self._hide()
        self._pending = PendingRound(before_hz, before_hz >= self._protocol.enough_hz(self._clock.ceiling), probes)

    def round_s(self) -> float:
        """Take one round and return its seconds, where no benchmark runner drives the call."""
        self.before_round()
        start = self.instant()
        self._call()
        return self.instant() - start

    def instant(self) -> CudaInstant:
        """The clock that pytest-benchmark reads: the first reading of a round starts it, the second ends it."""
        if self._pending is None:
            self.before_round()
        assert self._pending is not None
        return self._pending.start(self) if self._pending.started is None else self._pending.end(self)

    def finish(self, pending: PendingRound) -> float:
        """Wait for the round, keep its reading, and return its seconds, the empty interval subtracted."""
        pending = self._hidden(pending, self._call_round)
        self._contents.compare()  # queued behind the round, whose end is waited for next
        seconds = pending.seconds() - self.empty_s
        cycles = self.counted_cycles()
        self.rounds.append(
            RoundReading(seconds, cycles, pending.before_hz, pending.settled, pending.hidden, pending.probes)
        )
        self._pending = None
        return seconds

    def sample(self, rounds_s: list[float]) -> Sample:
        """The sample of the rounds: their seconds, as the timer gave them, and the readings around each.

        Raises CaseEnded (incorrect) where the last output is wrong.
        """
        self._contents.conclude()
        return Sample(
            rounds_s=tuple(rounds_s),
            timer="cuda_event",
            host_s=self.host_s,
            empty_s=self.empty_s,
            ceiling_hz=self._clock.ceiling.hz,
            before_hz=tuple(r.before_hz for r in self.rounds),
            cycles=tuple(r.cycles for r in self.rounds),
            waited_s=self._waited_s,
            unsettled=sum(not r.settled for r in self.rounds),
            synchronising=any(not r.hidden for r in self.rounds),
            self_throttled=statistics.median(rounds_s) >= SELF_THROTTLING_S,
        )

    def event(self) -> Any:
        """A recorded timing event."""
        event = self._torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def stamp_start(self) -> None:
        """Queue the first stamp of the cycle counter, where there is one."""
        if self._cycle_counter is not None:
            self._cycle_counter.start()

    def stamp_end(self) -> None:
        """Queue the second stamp."""
        if self._cycle_counter is not None:
            self._cycle_counter.end()

    def counted_cycles(self) -> int | None:
        """Cycles between the two stamps; waits for them. None where there is no counter, or too few of it could be read."""
        return None if self._cycle_counter is None else self._cycle_counter.cycles()

    def _hide(self) -> None:
        self._spin(self._clock.cycles(self._tail_s))
        self._flush.zero_()

    def _costs(self) -> tuple[float, float]:
        """Median seconds that the call takes to return while the device is busy, and that the device takes for it.

        Of five calls, or of the first that together take `TIME_BOX_S`.
        """
        host_s: list[float] = []
        call_s: list[float] = []
        while len(call_s) < 5 and sum(call_s) < TIME_BOX_S:
            self._contents.ready()
            self._torch.cuda.synchronize()
            self._spin(self._clock.cycles(2e-3))
            start = self.event()
            began = time.perf_counter()
            self._call()
            host_s.append(time.perf_counter() - began)
            end = self.event()
            end.synchronize()
            call_s.append(start.elapsed_time(end) / 1e3)
        return statistics.median(host_s), statistics.median(call_s)

    def _empty_interval(self) -> float:
        """Median seconds of a hidden round with nothing in it. A round that is not hidden would contain the host's time.

        Raises RuntimeError where none can be hidden.
        """
        rounds = [self._hidden(self._empty_round(), self._empty_round) for _ in range(EMPTY_ROUNDS)]
        seconds = [one.seconds() for one in rounds if one.hidden]
        if not seconds:
            raise RuntimeError(
                f"the host is too slow: it took longer than {self._protocol.longest_tail_s * 1e3:g} ms to queue two events "
                f"in each of {EMPTY_ROUNDS} rounds, which would count as the kernel's time. Free its CPUs and run again"
            )
        return statistics.median(seconds)

    def _hidden(self, taken: PendingRound, again: Callable[[], PendingRound]) -> PendingRound:
        """The round, taken again behind a tail twice as long until it is hidden or the tail is at its longest."""
        while not taken.hidden and self._tail_s < self._protocol.longest_tail_s:
            self._tail_s *= 2
            taken = again()
        return taken

    def _call_round(self) -> PendingRound:
        self.before_round()
        assert self._pending is not None
        self._pending.start(self)
        self._call()
        self._pending.end(self)
        return self._pending

    def _empty_round(self) -> PendingRound:
        self._hide()
        empty = PendingRound(0.0, True, 0)
        empty.start(self)
        empty.end(self)
        return empty


class CudaInstant:
    """The start or the end of a paced round; subtracting waits for the device and finishes the round."""

    __slots__ = ("_pacer", "_pending")

    def __init__(self, pacer: CudaPacer, pending: PendingRound) -> None:
        self._pacer = pacer
        self._pending = pending

    def __sub__(self, earlier: CudaInstant) -> float:
        del earlier
        return self._pacer.finish(self._pending)


class PendingRound:
    """A round between its two events."""

    def __init__(self, before_hz: float, settled: bool, probes: int) -> None:
        self.before_hz = before_hz
        self.settled = settled
        self.probes = probes
        self.hidden = False
        self.started: Any = None
        self.ended: Any = None

    def start(self, pacer: CudaPacer) -> CudaInstant:
        pacer.stamp_start()
        self.started = pacer.event()
        return CudaInstant(pacer, self)

    def end(self, pacer: CudaPacer) -> CudaInstant:
        self.ended = pacer.event()
        pacer.stamp_end()
        self.hidden = not self.started.query()
        return CudaInstant(pacer, self)

    def seconds(self) -> float:
        self.ended.synchronize()
        return float(self.started.elapsed_time(self.ended)) / 1e3
