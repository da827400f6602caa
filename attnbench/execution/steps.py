"""The steps of a case in this process: refuse, load, call, check, trace, measure. Data comes in and goes out.

`run` is one call of the variant on one set of inputs, a `Pass`: it is made ready first, untimed. `device` is a device type.
What goes wrong is raised as CaseEnded, with the status and the reasons of the case.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from attnbench import printable, torch_private
from attnbench.backends import autotune, requirements
from attnbench.backends.errors import errors_as_rows
from attnbench.backends.tolerances import TOLERANCES, allowed, violations
from attnbench.backends.variant import in_common_layout
from attnbench.checks import dropout, route
from attnbench.checks.checked_call import CheckedCall
from attnbench.checks.output import poison
from attnbench.checks.reference import first_true, metrics
from attnbench.execution import compile_time
from attnbench.execution.round_plan import RoundPlan
from attnbench.hardware.nvml import energy_meter
from attnbench.hardware.sm_clock import sm_clock
from attnbench.model import (
    CaseEnded,
    Check,
    Compilation,
    DeviceOp,
    ErrorMetrics,
    Reason,
    Sample,
    Statistic,
    Status,
    SustainedLoad,
)
from attnbench.timing.pacer import CudaPacer
from attnbench.timing.settling import settle
from attnbench.timing.sustained import CudaFeed, HostFeed, LoadProtocol, NoMeter, sustained
from attnbench.timing.timer import HostInstant, Timer
from attnbench.workload import Workload

if TYPE_CHECKING:
    from types import ModuleType

    import torch

    from attnbench.backends.registry import AttentionFunction, Backend
    from attnbench.checks.reference import Reference
    from attnbench.workloads.drawing import Triple
    from attnbench.workloads.inputs import Inputs


class Run(Protocol):
    """One call on one set of inputs, to be made ready before each time."""

    def ready(self) -> None: ...
    def __call__(self) -> Any: ...


#: The outputs among what a call returned, by name.
Named = Callable[[Any], Mapping[str, Any]]

#: Blocks of the output's size that are filled with NaN beside its own, and calls until one of them is used.
SPARE_BLOCKS, POISON_TRIES = 4, 3
#: Calls under the profiler until it records something, and what is said where it never does.
TRACES = 2
NOTHING_RECORDED = (
    "the profiler recorded nothing that ran on the GPU, not even the spins around the call, so nobody knows what ran: end "
    "other profilers (CUPTI serves one at a time), and see whether torch.profiler shows kernels here"
)


# --- Load and compile


@contextmanager
def loading(backend: Backend, device: str) -> Iterator[None]:
    """Turn what goes wrong while a backend is loaded into CaseEnded.

    Unsupported for want of a function that it says it needs, error for everything else.
    """
    with errors_as_rows("cannot be loaded", "load", device):
        try:
            yield
            synchronize(device)  # what loading has launched is its own fault
        except (ImportError, AttributeError) as exc:
            if reasons := requirements.lacking(backend.requires, exc):
                raise CaseEnded(Status.UNSUPPORTED, *reasons) from exc
            raise


def source_of(backend: Backend) -> str:
    """What a loaded backend says that it loaded, printable. Raises TypeError where that is no text."""
    source = backend.source() if backend.source else ""
    if not isinstance(source, str):
        raise TypeError(f"its `source` must return text, found {type(source).__name__}")
    return printable.message(source)


@dataclass(frozen=True)
class CompileMark:
    """What was compiled in this process before a case loads: generated modules, and CPU seconds of other compilers."""

    modules: tuple[ModuleType, ...]
    compilers_s: float | None

    @classmethod
    def now(cls) -> CompileMark:
        return cls(autotune.loaded_modules(), compile_time.spent_s())


def require_graph(compilation: Compilation | None) -> None:
    """Raise CaseEnded (error) where torch.compile was asked for a graph and made none; None is a case in eager mode."""
    if compilation is not None and compilation.graphs == 0:
        text = (
            "torch.compile made no graph: dynamo ran the call eagerly, which must not be measured under a compiled name"
        )
        raise CaseEnded(Status.ERROR, Reason("not-compiled", text))


# --- Call


def synchronize(device: str) -> None:
    """Wait until the device has done all that is queued. Raises what a kernel before it raises."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def first_call(run: Run, device: str) -> tuple[Any, float]:
    """What the first call returns, and its seconds until the device is done, with what it compiles and makes it ready."""
    with errors_as_rows("failed on its first call", "first-call", device):
        start = time.perf_counter()
        run.ready()
        returned = run()
        synchronize(device)
        return returned, time.perf_counter() - start


def allocated_bytes(device: str, mode: str) -> int | None:
    """Bytes of the device that tensors hold before the first call of a case; None where the device does not count them."""
    if device != "cuda":
        return None
    import torch

    torch.cuda.synchronize()
    if mode == "max-autotune":
        # Before it captures a graph, torch gives back the room that earlier matrix products left to cuBLAS: 32 MiB on an
        # H200, by which the case would seem to need less when they are still counted here.
        torch_private.clear_cublas_workspaces()
    return int(torch.cuda.memory_allocated())


def workspace_bytes(run: Run, device: str, mode: str, before_bytes: int | None) -> tuple[int | None, Any]:
    """Peak bytes that one warm call allocates, its outputs included, and what it returned.

    None and None where the device does not count them, without a call. Of a case that times gradients alone, what the
    forward pass keeps for them counts as well: without it there are none.

    A captured graph allocates when it is captured, so for max-autotune the peak counts from `before_bytes`, which
    `allocated_bytes` gave before the first call.
    """
    if before_bytes is None:
        return None, None
    import torch

    torch.cuda.reset_peak_memory_stats()
    base = before_bytes if mode == "max-autotune" else torch.cuda.memory_allocated()
    with errors_as_rows("failed on its second call", "call", device):
        run.ready()
        returned = run()
        synchronize(device)
    return max(0, torch.cuda.max_memory_allocated() - base), returned


# --- Check


def poisoned_call(run: Run, named: Named, device: str, spent: list[torch.Tensor]) -> tuple[Any, bool]:
    """Call with the memory of earlier outputs full of NaN. Returns what was returned, and whether such memory was used.

    named: the outputs among what is returned. spent: those of an earlier call, of which nobody else keeps the memory; the
    list is emptied, and where it is empty there is a call first. The allocator hands the blocks out again; a captured graph
    replays into the same ones. But a kernel's temporaries may take such a block first and leave the output one where another
    kernel's right values still stand, so more blocks of its size are filled, and the call is repeated while it misses them.
    Of 162 half-written outputs on the CPU, among right ones, 126 were noticed with the one block, and all 162 like this.
    """
    if not spent:
        run.ready()
        spent += named(run()).values()
    returned, poisoned = None, False
    for _ in range(POISON_TRIES):
        run.ready()  # before the blocks are filled: a forward pass would take them
        blocks = [*spent, *(output.new_empty(output.shape) for output in spent for _ in range(SPARE_BLOCKS))]
        where = {poison(block).data_ptr() for block in blocks}
        spent.clear()
        del returned, blocks
        returned = run()
        poisoned = all(output.data_ptr() in where for output in named(returned).values())
        if poisoned:
            break
        spent += named(returned).values()
    spent.clear()
    synchronize(device)
    return returned, poisoned


def error_of(output: torch.Tensor, reference: Reference) -> ErrorMetrics:
    """Distance of an output or a gradient from the reference, on the part that the reference has.

    Query rows that see no key count as right, whatever they hold: libraries do not agree on it. Keys that no query sees
    have a gradient of 0 in every library, and are compared. What is not finite counts in the whole output.
    """
    error = metrics(_compared(output, reference), reference.output)
    error = replace(error, worst_index=reference.excerpt.place(error.worst_index))
    if reference.excerpt.is_whole or error.nonfinite or not reference.every_row_sees_a_key:
        return error
    wrong = ~output.isfinite()
    nonfinite = int(wrong.sum().item())
    return replace(error, nonfinite=nonfinite, worst_index=first_true(wrong), worst_found=None) if nonfinite else error


def limits_of(tolerance: str, distribution: str, reference: Reference, output: str) -> dict[str, float]:
    """What the tolerance of a backend allows of an output or a gradient, by metric."""
    return allowed(
        TOLERANCES[tolerance],
        distribution,
        reference.plain,
        reference.fused,
        reference.rounding,
        reference.magnitude,
        output,
        reference.cancellation,
    )


def judged(
    error: ErrorMetrics,
    reference: Reference,
    tolerance: str,
    distribution: str,
    poisoned: bool,
    output: str = "output",
) -> tuple[Check, tuple[Reason, ...]]:
    """The check of one input set, and every way in which its error is outside the tolerance; empty where it is within."""
    limits = limits_of(tolerance, distribution, reference, output)
    check = Check(
        distribution, error, reference.plain, reference.fused, limits, reference.excerpt.text, poisoned, output
    )
    return check, violations(error, limits, distribution, output, poisoned)


#: Cosine from which on an output is attention of the inputs, however it was quantised: the widest class has 0.83.
SAME_COSINE = 0.8


def in_other_layout(attention: AttentionFunction, triple: Triple, device: str) -> torch.Tensor:
    """What the kernel returns where it is taken to have the other of the two layouts: a call without gradients."""
    import torch

    with torch.no_grad():
        output = in_common_layout(attention, "bhsd")(*triple)
        synchronize(device)
    return output


def layout_reasons(output: torch.Tensor, reference: Reference, layout: str) -> tuple[Reason, ...]:
    """That the kernel has another layout than the one that is stated, by what it returned under that other one."""
    axes = {"bshd": "[batch, seq, heads, head_dim]", "bhsd": "[batch, heads, seq, head_dim]"}
    (other,) = axes.keys() - {layout}
    if error_of(output, reference).cosine < SAME_COSINE:
        return ()
    text = (
        f"on tensors {axes[other]} its output is attention, found {axes[layout]}: state its layout, which is "
        f'layout="{other}" of `register`, or ,layout={other} behind a kernel of the Hub'
    )
    return (Reason("layout", text),)


def judged_dropout(
    outputs: Mapping[str, torch.Tensor],
    known: Mapping[str, Reference],
    inputs: Inputs,
    tolerance: str,
    distribution: str,
    poisoned: bool,
) -> tuple[tuple[Check, ...], tuple[tuple[Reason, ...], ...]]:
    """The checks of all outputs of one call that drops probabilities, and of each every way in which it cannot be right.

    outputs: what the call returned, and "output" of its forward pass where that is not among it.
    """
    rate = inputs.workload.dropout
    errors = {name: limits_of(tolerance, distribution, one, name)["rel_l2"] for name, one in known.items()}
    held: Mapping[str, Statistic] = {}
    if inputs.gradient is not None:
        # That of an output that is not returned is about that of dv: sums of as many terms, with the same probabilities.
        held = dropout.consistency(
            outputs, inputs.kept[distribution], inputs.gradient, {"output": errors["dv"], **errors}
        )
    checks, reasons = [], []
    for name, reference in known.items():
        error = error_of(outputs[name], reference)
        found = tuple(held[one] for one in (name,) if one in held)
        if reference.spread is not None:
            compared = _compared(outputs[name], reference)
            found += dropout.statistics(compared, reference.output, reference.spread, rate, reference.fused.rel_l2)
        check = Check(
            *(distribution, error, reference.plain, reference.fused, {}, reference.excerpt.text, poisoned, name, found)
        )
        checks.append(check)
        reasons.append((*violations(error, {}, distribution, name, poisoned), *dropout.violations(found, check.where)))
    return tuple(checks), tuple(reasons)


def as_reference(checked: torch.Tensor, reference: Reference) -> Reference:
    """The reference with an output that was found to be right in the place of the fp64 one."""
    return replace(reference, output=_compared(checked, reference).double())


def _compared(output: torch.Tensor, reference: Reference) -> torch.Tensor:
    """The part of an output that its reference has, 0 in rows of which nothing is asked."""
    output = reference.excerpt.of(output)
    return output if reference.keyless is None else output.masked_fill(reference.keyless, 0)


# --- Trace


@dataclass(frozen=True)
class Route:
    """What one call ran, the device seconds of the attention kernel among it, and what is wrong with that.

    chose: which of the kernels that its library may choose from ran, empty where it states none.
    """

    ops: tuple[DeviceOp, ...]
    kernel_s: float | None
    chose: str
    reasons: tuple[Reason, ...]


def traced_route(run: Run, backend: Backend, device: str) -> Route:
    """Run one call under the profiler, and once more where that recorded nothing.

    Raises CaseEnded (error) where the call fails there, or nothing is recorded.
    """
    with errors_as_rows("failed under the profiler", "profiler", device):
        for _ in range(TRACES):
            run.ready()
            traced = route.trace(run, device, settle=lambda: settle(sm_clock()))
            if traced.recorded:
                break
        else:
            raise CaseEnded(Status.ERROR, Reason("profiler", NOTHING_RECORDED))
    kernel_s = route.kernel_s(backend, device, traced.ops)
    wrong = route.wrong_route(backend, device, traced.ops)
    chose = route.chosen(backend, device, traced.ops)
    return Route(traced.ops, kernel_s, chose, (*wrong, *route.side_streams(traced.unordered)))


def require_route(reasons: tuple[Reason, ...], mode: str) -> None:
    """Raise CaseEnded where there are reasons against the route: incorrect, or unsupported where Inductor replaced it.

    Inductor may recognise plain attention and put a fused kernel in its place. That is not this backend's fault and
    nothing is broken: there is just no such variant here, and no latency under its name.
    """
    if reasons:
        rewritten = mode != "eager" and all(reason.code == "replaced" for reason in reasons)
        raise CaseEnded(Status.UNSUPPORTED if rewritten else Status.INCORRECT, *reasons)


# --- Measure


def plan_rounds(timed: Callable[[], None], checked: CheckedCall, count: int, timer: Timer, device: str) -> RoundPlan:
    """Make ready to take `count` rounds of `timed`, fewer of a very long one, and set `timer` to the device's clock.

    timed: `checked`, or `checked` with an injected slow-down behind it.
    """
    if device == "cuda":
        pacer = CudaPacer(sm_clock(), timed, contents=checked)
        pacer.warm_up()
        timer.use("cuda_event", pacer.instant)
        return RoundPlan(pacer.rounds_for(count), pacer.before_round, timed, pacer.sample)
    timer.use("perf_counter", HostInstant)
    return RoundPlan(count, lambda: _next(checked), timed, lambda rounds_s: _host_sample(checked, rounds_s))


def under_load(
    timed: Callable[[], None], checked: CheckedCall, workload: Workload, seconds: float, device: str
) -> SustainedLoad:
    """`timed` back to back for `seconds`, once its latency is steady. The inputs stay the same."""
    protocol = LoadProtocol(seconds)
    if device != "cuda":
        return sustained(HostFeed(timed, checked.ready, protocol), NoMeter("no energy: NVML knows GPUs only"), protocol)
    import torch

    feed = CudaFeed(timed, checked.ready, protocol, apart=workload.direction == "backward")
    uuid = str(getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", ""))
    with energy_meter(uuid) as meter:
        return sustained(feed, meter, protocol)


def _next(checked: CheckedCall) -> None:
    checked.advance()
    checked.ready()


def _host_sample(checked: CheckedCall, rounds_s: list[float]) -> Sample:
    checked.conclude()
    return Sample(tuple(rounds_s), "perf_counter")
