"""One call under continuous load: what a long generation feels, where the settled latency is that of a rested GPU.

Calls are queued back to back, in batches of about 20 ms with an event between two. The next batch is always queued before
the one at work ends, so the device waits for the host only where a call costs the host more than the device: then batches
count as starved. A graph of such calls would load the device, but it is not what a user of this variant has, and a capture
that fails may leave torch's allocator unusable. No cache is flushed, the inputs stay the same, and no output is looked at
until the end.

Attention at full rate draws more than the board's power limit, so the GPU lowers its clock until it does not. That takes
about a second, and the temperature goes on rising for minutes. So the load first runs until two blocks of a second agree.
Only then batches are counted. Power is energy over time between the first and the last change of NVML's energy counter in
that span, because the counter is updated every few tens of milliseconds only. Joules of a call are power times the mean
seconds of a call.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

from attnbench import torch_private
from attnbench.hardware.nvml import EnergyReading
from attnbench.model import SustainedLoad
from attnbench.stats import median_s, quantile
from attnbench.timing.cycle_counter import CycleCounter, cycle_counter

#: Cycles of the spin that hides the host while a single call is timed: about 2 ms.
SPIN_CYCLES = 4_000_000
#: A call counts as this long at least when batches are planned: an event resolves half of that.
SHORTEST_CALL_S = 1e-6
#: Seconds between two looks at the energy counter.
LOOK_S = 2e-3
#: The counter must change so often, over so long, before power is taken from it.
FEWEST_CHANGES, LEAST_ENERGY_S = 10, 1.0
#: Batches that are counted at least, however long a call takes.
FEWEST_BATCHES = 3
#: Power of another span is not this call's: why a backward pass alone has no joules.
MIXED = "no energy per call: a forward pass runs before each timed backward pass"


@dataclass(frozen=True)
class LoadProtocol:
    """How long the load runs. seconds: of the counted batches.

    steady: two blocks, one after the other, whose latencies differ by at most this share end the load before counting.
    lead_per_count: that load lasts at most this multiple of `seconds`. batch_s: what a batch aims at.
    """

    seconds: float = 5.0
    lead_per_count: float = 3.0
    steady: float = 0.003
    batch_s: float = 20e-3

    @property
    def block_s(self) -> float:
        """Length of a block: a second, or a fifth of a count that is shorter than five."""
        return min(1.0, self.seconds / 5)

    @property
    def lead_max_s(self) -> float:
        return self.lead_per_count * self.seconds


@dataclass(frozen=True)
class Batch:
    """Calls that ran back to back. seconds: of the calls. whole_s: from the end of the batch before to its own."""

    calls: int
    seconds: float
    whole_s: float
    starved: bool = False


class Feed(Protocol):
    """Keeps a device busy. next: the batch that ends next, with a further one already queued."""

    apart: bool

    def next(self, while_waiting: Callable[[], None]) -> Batch: ...
    def begin(self) -> None: ...
    def end(self) -> None: ...
    def cycles(self) -> int | None: ...


class Meter(Protocol):
    """Reads energy and temperature. why: the sentence where it cannot read energy, else empty."""

    why: str

    def read(self) -> EnergyReading | None: ...
    def temperature_c(self) -> float | None: ...
    def held_by(self) -> tuple[str, ...]: ...


class NoMeter:
    """A meter that reads nothing, for the reason given."""

    def __init__(self, why: str) -> None:
        self.why = why

    def read(self) -> None:
        """Nothing."""

    def temperature_c(self) -> None:
        """Unknown."""

    def held_by(self) -> tuple[str, ...]:
        """Unknown."""
        return ()


def sustained(feed: Feed, meter: Meter, protocol: LoadProtocol) -> SustainedLoad:
    """Load the device until its latency is steady, then for `protocol.seconds`, and sum up the latter."""
    lead_s, steady = _lead(feed, protocol)
    feed.begin()
    feed.next(_nothing)  # queued before counting began
    readings: list[EnergyReading] = []

    def look() -> None:
        if (reading := meter.read()) is not None:
            readings.append(reading)

    counted: list[Batch] = []
    whole_s = 0.0
    while whole_s < protocol.seconds or len(counted) < FEWEST_BATCHES:
        counted.append(feed.next(look))
        whole_s += counted[-1].whole_s
    temperature_c, held_by = meter.temperature_c(), meter.held_by()
    feed.end()
    counted.append(feed.next(_nothing))  # queued before counting ended
    cycles = feed.cycles()
    load = _summed_up(counted, cycles, readings, meter.why, lead_s, steady, apart=feed.apart)
    return replace(load, temperature_c=temperature_c, held_by=held_by)


def power_of(readings: Sequence[EnergyReading]) -> tuple[float, float] | None:
    """Average watts, and the seconds they are of: from the first change of the counter to its last.

    None for fewer than `FEWEST_CHANGES` changes, and for less than `LEAST_ENERGY_S`. A change is known to the time between
    two readings, so the error is that over the span.
    """
    changes = [later for before, later in pairwise(readings) if later.joules != before.joules]
    if len(changes) < FEWEST_CHANGES:
        return None
    first, last = changes[0], changes[-1]
    span_s = last.at_s - first.at_s
    return ((last.joules - first.joules) / span_s, span_s) if span_s >= LEAST_ENERGY_S else None


def _lead(feed: Feed, protocol: LoadProtocol) -> tuple[float, bool]:
    """Load until the last two blocks agree: the seconds that took, and whether they did."""
    lead_s, block_s, block_calls = 0.0, 0.0, 0
    taken_s = 0.0  # by the calls of the block
    blocks: list[float] = []
    while True:
        batch = feed.next(_nothing)
        lead_s, block_s = lead_s + batch.whole_s, block_s + batch.whole_s
        taken_s, block_calls = taken_s + batch.seconds, block_calls + batch.calls
        if block_s >= protocol.block_s:
            blocks.append(taken_s / block_calls)
            block_s, taken_s, block_calls = 0.0, 0.0, 0
            if len(blocks) > 1 and abs(blocks[-1] / blocks[-2] - 1) <= protocol.steady:
                return lead_s, True
        if lead_s >= protocol.lead_max_s:
            return lead_s, False


def _summed_up(
    counted: Sequence[Batch],
    cycles: int | None,
    readings: Sequence[EnergyReading],
    why: str,
    lead_s: float,
    steady: bool,
    *,
    apart: bool,
) -> SustainedLoad:
    calls = sum(batch.calls for batch in counted)
    calls_s = sum(batch.seconds for batch in counted)
    whole_s = sum(batch.whole_s for batch in counted)
    per_call_s = [batch.seconds / batch.calls for batch in counted]
    third = max(1, len(per_call_s) // 3)
    power = power_of(readings)
    joules = None if power is None or apart else power[0] * calls_s / calls
    return SustainedLoad(
        median_s(per_call_s),
        quantile(per_call_s, 0.2),
        quantile(per_call_s, 0.8),
        calls,
        len(counted),
        loaded_s=whole_s,
        lead_s=lead_s,
        steady=steady,
        drift=statistics.fmean(per_call_s[-third:]) / statistics.fmean(per_call_s[:third]) - 1,
        starved=sum(batch.starved for batch in counted),
        power_w=power[0] if power else None,
        joules=joules,
        energy_s=power[1] if power else None,
        clock_hz=cycles / whole_s if cycles else None,
        note=_note(power is not None, why, readings, apart=apart),
    )


def _note(has_power: bool, why: str, readings: Sequence[EnergyReading], *, apart: bool) -> str:
    """Why there is no power, or no energy per call; empty where there are both."""
    if has_power:
        return MIXED if apart else ""
    if why:
        return why
    if not readings:
        return "no energy: NVML's energy counter could not be read during the load"
    changes = sum(later.joules != before.joules for before, later in pairwise(readings))
    span_s = readings[-1].at_s - readings[0].at_s
    return (
        f"no energy: the counter changed {changes} times in {span_s:.3g} s, needs {FEWEST_CHANGES} changes over "
        f"{LEAST_ENERGY_S:g} s; give --attn-sustained more seconds"
    )


@dataclass(frozen=True)
class _Queued:
    """A batch that was queued: the event behind it, and a pair around each call where calls are timed apart."""

    end: Any
    pairs: Sequence[tuple[Any, Any]]
    starved: bool


class CudaFeed:
    """Keeps the current CUDA stream busy with a call.

    apart: whether every call is timed by itself, because something has to happen before it that takes the device's time.
    """

    def __init__(
        self,
        call: Callable[[], None],
        ready: Callable[[], None],
        protocol: LoadProtocol,
        *,
        apart: bool = False,
    ) -> None:
        """`call` queues the work once, `ready` what has to happen before it."""
        import torch

        self._torch: Any = torch
        self._call = call
        self._ready = ready
        self.apart = apart
        self._calls = max(1, round(protocol.batch_s / max(self._call_s(), SHORTEST_CALL_S)))
        self._counter: CycleCounter | None = cycle_counter()
        self._ended: Any = self._event()  # of the batch before the one at work
        self._working = self._queued(self._ended)

    def next(self, while_waiting: Callable[[], None]) -> Batch:
        """Queue one more batch, then wait for the one at work. while_waiting: called again and again until it has ended."""
        working = self._working
        self._working = self._queued(working.end)
        while_waiting()
        while not working.end.query():
            time.sleep(LOOK_S)
            while_waiting()
        working.end.synchronize()
        whole_s = self._ended.elapsed_time(working.end) / 1e3
        seconds = sum(start.elapsed_time(stop) for start, stop in working.pairs) / 1e3 if self.apart else whole_s
        self._ended = working.end
        return Batch(self._calls, seconds, whole_s, working.starved)

    def begin(self) -> None:
        """Stamp the cycle counters behind what is queued."""
        if self._counter is not None:
            self._counter.start()

    def end(self) -> None:
        """Stamp them again."""
        if self._counter is not None:
            self._counter.end()

    def cycles(self) -> int | None:
        """Mean SM cycles between the stamps; waits for them. None where they cannot be counted."""
        return None if self._counter is None else self._counter.cycles()

    def _queued(self, before: Any) -> _Queued:
        """Queue a batch. before: the end of the one before it.

        Where that has passed once the first call is queued, the device had nothing to do.
        """
        pairs: list[tuple[Any, Any]] = []
        starved = False
        for at in range(self._calls):
            self._ready()
            start = self._event() if self.apart else None
            self._call()
            if self.apart:
                pairs.append((start, self._event()))
            if at == 0:
                starved = before.query()
        return _Queued(self._event(), pairs, starved)

    def _call_s(self) -> float:
        """Median seconds that the device takes for the call."""
        spin = torch_private.spin_kernel()
        call_s: list[float] = []
        for _ in range(5):
            self._ready()
            self._torch.cuda.synchronize()
            spin(SPIN_CYCLES)
            start = self._event()
            self._call()
            end = self._event()
            end.synchronize()
            call_s.append(start.elapsed_time(end) / 1e3)
        return statistics.median(call_s)

    def _event(self) -> Any:
        event = self._torch.cuda.Event(enable_timing=True)
        event.record()
        return event


class HostFeed:
    """Calls on the CPU, one after the other, by perf_counter."""

    def __init__(self, call: Callable[[], None], ready: Callable[[], None], protocol: LoadProtocol) -> None:
        self.apart = True  # `ready` is the host's own work
        self._call = call
        self._ready = ready
        self._batch_s = protocol.batch_s

    def next(self, while_waiting: Callable[[], None]) -> Batch:
        """As many calls as fit into a batch, one at least."""
        began = time.perf_counter()
        calls, seconds = 0, 0.0
        while not calls or seconds < self._batch_s:
            self._ready()
            start = time.perf_counter()
            self._call()
            seconds += time.perf_counter() - start
            calls += 1
        while_waiting()
        return Batch(calls, seconds, time.perf_counter() - began)

    def begin(self) -> None:
        """There is no counter."""

    def end(self) -> None:
        """There is no counter."""

    def cycles(self) -> None:
        """There is no counter."""


def _nothing() -> None:
    """What is done while waiting where nothing is to be read."""
