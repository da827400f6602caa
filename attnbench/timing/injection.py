"""Injected slow-downs: a spin behind the call, inside the timed interval, to test which slow-downs are found.

On CUDA the spin is one more kernel. Its launch alone costs 1 to 3 µs, half a percent of a 0.4 ms kernel, and it runs at the
clock that the call has left behind, which is below the ceiling. So what a spin adds is measured behind the very call that is
slowed down, with the same timing protocol, and the number of cycles is solved for.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from attnbench import torch_private
from attnbench.globs import UnknownName, matches_case, select
from attnbench.hardware.sm_clock import SmClock, sm_clock
from attnbench.model import CaseEnded, Reason, Record, Status
from attnbench.stats import median_s
from attnbench.timing.pacer import CudaPacer, SameContents
from attnbench.units import format_change, microseconds

#: Rounds of each of the three calls that a calibration on CUDA compares, and calls that one on the CPU takes.
CUDA_ROUNDS, CPU_CALLS = 10, 5
#: The calibrating spin adds this multiple of the wanted share, so that the wanted one lies between none and it. A small
#: share would drown in the noise of the rounds, so it adds at least this share.
PROBE_PER_SHARE, PROBE_MIN_SHARE = 2.0, 0.02

_SHARE = re.compile(r"\+(\d+(?:\.\d+)?)%")


@dataclass(frozen=True)
class Injection:
    """Every variant or case that `glob` matches is slowed down by `share` of its latency: 0.02 is +2 %."""

    glob: str
    share: float


@dataclass(frozen=True)
class Calibration:
    """Median seconds of a call by itself, with a spin of no cycles behind it, and with one of `probe_cycles`."""

    plain_s: float
    launched_s: float
    probed_s: float
    probe_cycles: int

    def cycles(self, share: float) -> int:
        """Cycles of the spin that adds `share` of the call's latency: added = launch + cycles / clock.

        Raises CaseEnded (error) where the launch alone adds more, or where more cycles did not take longer.
        """
        wanted_s, launch_s = share * self.plain_s, self.launched_s - self.plain_s
        if wanted_s < launch_s:
            raise _cannot(
                f"{format_change(share)} ({microseconds(wanted_s)} µs): launching a spin alone adds "
                f"{microseconds(launch_s)} µs; use +{math.ceil(launch_s / self.plain_s * 1e4) / 100:.2f}% or more"
            )
        if self.probed_s <= self.launched_s:
            raise _cannot(
                f"{format_change(share)}: a spin of {self.probe_cycles} cycles takes no longer than one of 0 cycles, "
                "because the rounds scatter by more than the spin adds; use a larger percentage"
            )
        return round((wanted_s - launch_s) * self.probe_cycles / (self.probed_s - self.launched_s))


class SpunCall:
    """A call with a spin of `cycles` behind it, on the same stream; with None it is the call and nothing else."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.cycles: int | None = None
        self._call = call
        self._spin = torch_private.spin_kernel()

    def __call__(self) -> None:
        self._call()
        if self.cycles is not None:
            self._spin(self.cycles)


def parse_injections(entries: tuple[str, ...]) -> tuple[Injection, ...]:
    """Entries `torch_flash:+2%`. Raises ValueError that names the entry."""
    injections = []
    for entry in entries:
        glob, separator, text = entry.rpartition(":")
        match = _SHARE.fullmatch(text)
        share = float(match.group(1)) / 100 if match else 0.0
        if not (separator and glob and share > 0):
            raise ValueError(f"expected GLOB:+P% with P above 0, such as torch_flash:+2%, got {entry!r}")
        injections.append(Injection(glob, share))
    return tuple(injections)


def share_for(injections: Sequence[Injection], record: Record) -> float | None:
    """The share of its latency that is added to this case, by the first injection that matches it; None for none."""
    return next((injection.share for injection in injections if matches_case(injection.glob, record)), None)


def require_targets(option: str, globs: Iterable[str], known: Sequence[str], kind: str = "selected case") -> None:
    """Raise UnknownName of this option, with the nearest of the `known` names, for a glob that matches none of them."""
    for glob in globs:
        try:
            select(kind, glob, known)
        except UnknownName as exc:
            raise UnknownName(option, str(exc)) from exc


def slowed(
    call: Callable[[], None], share: float, device: str, ready: Callable[[], None] | None = None
) -> Callable[[], None]:
    """`call`, longer by `share` of its latency on this device. ready: what has to happen before every call, untimed.

    Raises CaseEnded (error) where that cannot be done.
    """
    if device == "cuda":
        return _slowed_on_cuda(call, share, sm_clock(), ready)
    return _slowed_on_cpu(call, share, ready)


def _slowed_on_cuda(
    call: Callable[[], None], share: float, clock: SmClock, ready: Callable[[], None] | None = None
) -> SpunCall:
    spun = SpunCall(call)
    spun.cycles = _calibrated(spun, share, clock, ready).cycles(share)
    return spun


def _calibrated(spun: SpunCall, share: float, clock: SmClock, ready: Callable[[], None] | None) -> Calibration:
    """Paced rounds of the three calls in turn, so that a drift affects all three alike.

    They have a pacer of their own: none of these rounds is in the sample of the case.
    """
    pacer = CudaPacer(clock, spun, contents=SameContents(ready))
    probe_cycles = clock.cycles(max(PROBE_PER_SHARE * share, PROBE_MIN_SHARE) * pacer.round_s())
    plain_s: list[float] = []
    launched_s: list[float] = []
    probed_s: list[float] = []
    for _ in range(CUDA_ROUNDS):
        for cycles, rounds_s in ((None, plain_s), (0, launched_s), (probe_cycles, probed_s)):
            spun.cycles = cycles
            rounds_s.append(pacer.round_s())
    return Calibration(median_s(plain_s), median_s(launched_s), median_s(probed_s), probe_cycles)


def _slowed_on_cpu(call: Callable[[], None], share: float, ready: Callable[[], None] | None) -> Callable[[], None]:
    wait_s = share * median_s([_host_s(call, ready) for _ in range(CPU_CALLS)])

    def slowed_call() -> None:
        call()
        until = time.perf_counter() + wait_s
        while time.perf_counter() < until:
            pass

    return slowed_call


def _host_s(call: Callable[[], None], ready: Callable[[], None] | None) -> float:
    if ready is not None:
        ready()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _cannot(why: str) -> CaseEnded:
    return CaseEnded(Status.ERROR, Reason("injection", f"cannot be slowed down by {why}"))
