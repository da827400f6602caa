"""One case on a real device: from the first call to rounds, every step before the latency able to end it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from attnbench import printable, torch_private
from attnbench.backends import autotune, requirements
from attnbench.backends.errors import errors_as_rows
from attnbench.backends.tolerances import TOLERANCES, allowed, violations
from attnbench.backends.variant import Variant
from attnbench.checks import route
from attnbench.checks.checked_call import CheckedCall
from attnbench.checks.output import plain, poison, wrong_form
from attnbench.checks.reference import metrics
from attnbench.execution import compile_time, interpreter_state, torch_state
from attnbench.execution.dynamo import EagerFallbacks, forget_compiled
from attnbench.execution.process_state import ProcessState
from attnbench.hardware.device import OpenDevice, context_is_lost
from attnbench.hardware.sm_clock import sm_clock
from attnbench.model import CaseEnded, Check, Compilation, ErrorMetrics, Reason, Record, Sample, StateChange, Status
from attnbench.timing.injection import Injection, share_for, slowed
from attnbench.timing.pacer import CudaPacer
from attnbench.timing.settling import settle
from attnbench.timing.timer import HostInstant, Timer

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import Backend
    from attnbench.checks.reference import Reference
    from attnbench.workloads.inputs import Inputs


SPARE_BLOCKS, POISON_TRIES = 4, 3
#: Code of the reason of a case that wrote into its inputs.
OVERWRITES = "overwrites-input"
#: Said where an output is a tensor by its type, and cannot be read as one: a nested or a fake one, a wrapper.
UNCHECKABLE = "returned a tensor that cannot be checked"


@dataclass(frozen=True)
class RoundPlan:
    """What a benchmark runner needs: `setup()` then `call()` between two readings of the timer, `count` times."""

    count: int
    setup: Callable[[], None]
    call: Callable[[], None]
    sample: Callable[[list[float]], Sample]


def nothing() -> None:
    """The set-up of a round that needs none, and the call of one that was taken elsewhere."""


class TorchCase:
    """One case in this process. `record` always describes what is known so far and is valid at every moment."""

    further: tuple[Record, ...] = ()  # this process is one launch
    _inputs: Inputs

    def __init__(
        self,
        variant: Variant,
        record: Record,
        inputs: Callable[[], Inputs],
        references: Callable[[], dict[str, Reference]],
        injections: Sequence[Injection] = (),
    ) -> None:
        """`inputs` and `references` are called when first needed, so that an unsupported case costs nothing."""
        self.record = record
        self._variant = variant
        self._make_inputs = inputs
        self._references = references
        self._injections = injections
        self._call: Any = None
        self._until = ExitStack()
        self._limits: dict[str, float] = {}  # what the tolerance allows on the timed inputs
        self._checked: torch.Tensor | None = None  # the output on the timed inputs that was found to be right
        self._timed: CheckedCall | None = None
        self._touched = False  # whether a call had the inputs since they were last verified
        self._unverified = False  # whether the inputs could not be verified afterwards
        self._state: ProcessState | None = None  # of this process before the case, while it lasts
        self._fallbacks = EagerFallbacks()

    def prepare(self, device: OpenDevice) -> None:
        """Requirements, load, compile, first call. Raises CaseEnded (unsupported or error)."""
        self._device = device.type
        forget_compiled()
        self._state = process_state(self.record.family)
        self._state.note()
        self._fallbacks.listen()
        backend, workload = self._variant.backend, self.record.workload
        self.record = replace(self.record, layout=backend.layout, tolerance=backend.tolerance)
        reasons = refusals(self._variant, device, workload)
        if reasons:
            raise CaseEnded(Status.UNSUPPORTED, *reasons)
        with errors_as_rows("has no inputs", "inputs", self._device, of_a_test=True):
            self._inputs = self._make_inputs()
        self.record = replace(self.record, input_sha256=self._inputs.sha256)
        with errors_as_rows("has no reference", "reference", self._device, of_a_test=True):
            self._known = self._references()  # of inputs that this kernel has not had yet
        self._touched = True
        modules_before, compilers_before_s = autotune.loaded_modules(), compile_time.spent_s()
        with loading(backend, self._device):
            self._call = self._variant.load(workload, self._until)
            source = _said_of_source(backend)
        self.record = replace(self.record, source=source)
        if backend.eager_first and self._variant.mode != "eager":
            with errors_as_rows("failed on its call in eager mode", "first-call", self._device):
                self._run(self._inputs.timed)
                self._synchronize()
        with errors_as_rows("cannot be compiled", "load", self._device):
            self._call = self._variant.compiled(self._call)
        before_bytes = _allocated(self._device, self._variant.mode)
        with errors_as_rows("failed on its first call", "first-call", self._device):
            start = time.perf_counter()
            output = self._run(self._inputs.timed)
            self._synchronize()
            first_call_s = time.perf_counter() - start
        if self._variant.mode != "eager":
            self._state.accept(interpreter_state.WARNING_FILTERS)
        self._assert_form(output)
        compilation = self._variant.compilation(modules_before)
        self.record = replace(
            self.record,
            first_call_s=first_call_s,
            compilers_s=compile_time.since_s(compilers_before_s),
            output_contiguous=output.is_contiguous(),
            compilation=compilation,
        )
        del output
        _assert_compiled(compilation)
        self._fallbacks.assert_none()
        self.record = replace(self.record, workspace_bytes=self._workspace(before_bytes))

    def assert_accurate(self) -> None:
        """The wall: every input set within tolerance, written into poisoned memory.

        Raises CaseEnded (incorrect, error).
        """
        tolerance = TOLERANCES[self._variant.backend.tolerance]
        reasons: list[Reason] = []
        for distribution, reference in self._known.items():
            with errors_as_rows(f"failed on {distribution} inputs", "call", self._device):
                output, poisoned = self._poisoned_call(self._inputs.sets[distribution])
            self._assert_form(output)
            with errors_as_rows(UNCHECKABLE, "wrong-type", self._device):
                output = plain(output)
                error = _compare(output, reference)
            limits = allowed(
                *(tolerance, distribution, reference.plain, reference.fused, reference.rounding, reference.magnitude)
            )
            check = Check(distribution, error, reference.plain, reference.fused, limits, reference.rows_said, poisoned)
            self.record = replace(self.record, checks=(*self.record.checks, check))
            reasons += violations(error, limits, distribution)
            if distribution == self.record.workload.distribution:
                self._limits = limits
                self._checked = output.clone()  # the output of a captured graph is written anew by the next call
        reasons = [*self._put_back_inputs(), *reasons]
        self._touched = True
        if reasons:
            raise CaseEnded(Status.INCORRECT, *reasons)
        self._fallbacks.assert_none()

    def assert_route(self) -> None:
        """What one call ran is this backend's, and is ordered with the current stream.

        Raises CaseEnded (incorrect, unsupported, error).
        """
        with errors_as_rows("failed under the profiler", "profiler", self._device):
            traced = route.trace(lambda: self._run(self._inputs.timed), self._device, settle=lambda: settle(sm_clock()))
        backend = self._variant.backend
        kernel_s = route.kernel_s(backend, self._device, traced.ops)
        self.record = replace(self.record, route=traced.ops, kernel_s=kernel_s)
        reasons = route.wrong_route(backend, self._device, traced.ops)
        reasons += route.side_streams(traced.unordered)
        if reasons:
            # Inductor may recognise plain attention and put a fused kernel in its place. That is not this backend's
            # fault and nothing is broken: there is just no such variant here, and no latency under its name.
            rewritten = self._variant.mode != "eager" and all(reason.code == "replaced" for reason in reasons)
            raise CaseEnded(Status.UNSUPPORTED if rewritten else Status.INCORRECT, *reasons)

    def rounds(self, count: int, timer: Timer) -> RoundPlan:
        """Make ready for `count` rounds on the timed inputs, and set `timer` to this device's clock.

        Every round sees other contents in the same memory, and its output is checked: setting up, calling and sampling
        raise CaseEnded (incorrect) where one is wrong. Raises CaseEnded (error) where the slow-down that was asked for
        cannot be injected.
        """
        assert self._checked is not None, "the output was checked before it is timed"
        checked = CheckedCall(
            self._call,
            self._inputs.timed,
            self._inputs.kept[self.record.workload.distribution],
            self._checked,
            spoilt=lambda: self._put_back_inputs() if self._inputs.reshaped() else (),
            wrong_form=lambda output: wrong_form(output, self._inputs),
            violations=self._violations,
        )
        self._timed, self._touched = checked, True
        share = share_for(self._injections, self.record)
        timed = checked if share is None else slowed(checked, share, self._device)
        self.record = replace(self.record, injected=share)
        if self._device == "cuda":
            pacer = CudaPacer(sm_clock(), timed, contents=checked)
            pacer.warm_up()
            timer.use("cuda_event", pacer.instant)
            count, setup, sampled = pacer.rounds_for(count), pacer.before_round, pacer.sample
        else:
            timer.use("perf_counter", HostInstant)
            setup, sampled = checked.advance, lambda rounds_s: _host_sample(checked, rounds_s)
        return RoundPlan(count, setup, timed, lambda rounds_s: self._whole(sampled(rounds_s), checked))

    def leave(self, verify: bool = True) -> None:
        """Put back what the case changed for others: inputs, what loading set up, and the process (`record.changed`).

        The compiled call is let go of, too: its memory is not to count against the next. To be called once nothing more
        is called, however the case ended, and before its record is stored; a second time does nothing.
        verify: whether the device is asked what the inputs hold now.
        Raises CaseEnded: incorrect where the case wrote into its inputs, error where loading cannot be undone.
        """
        written = self._put_back_inputs() if verify else ()
        compiled = self._call is not None and self._variant.mode != "eager"
        self._call = self._timed = self._checked = None
        if self._state is not None:
            state, self._state = self._state, None
            self._fallbacks.close()
            try:
                with errors_as_rows("failed to undo what its loading has set up", "unload", self._device):
                    self._until.close()
            except CaseEnded as ended:
                raise CaseEnded(ended.status, *written, *ended.reasons) from ended
            finally:  # what cannot be undone is its author's error, and not a reason to keep anything for the next case
                forget_compiled()
                if compiled and self._device == "cuda" and self._variant.mode == "max-autotune":
                    gc.collect()  # a captured graph keeps its memory in cycles; 0.3 s that no other case need pay
                unverified = (StateChange("its inputs", put_back=False),) if self._unverified else ()
                self.record = replace(self.record, changed=(*state.put_back(), *unverified))
        if written:
            raise CaseEnded(Status.INCORRECT, *written)

    def close(self) -> None:
        """Leave, where nobody did."""
        self.leave()

    def _put_back_inputs(self) -> tuple[Reason, ...]:
        """Verify the inputs, and make them again where they hold something else than was made.

        Why this case is incorrect then. Where the device cannot be asked nothing is known, and the process has no further
        cases.
        """
        if not self._touched:
            return ()
        self._touched = False
        torn = self._timed is not None and self._timed.torn
        reshaped = self._inputs.reshaped()
        try:
            if self._timed is not None:
                self._timed.give_up() if torn or reshaped else self._timed.put_back()
            overwritten = reshaped or self._inputs.overwritten()
            if overwritten:
                self._inputs.restore()
        except Exception:  # of a lost context, which the record says, or for want of memory
            self._unverified = not context_is_lost(self._device)
            return ()
        finally:
            self._inputs.renew()
        if not overwritten or (torn and not reshaped):
            return ()
        return (Reason(OVERWRITES, f"wrote into its input: {', '.join(overwritten)}"),)

    def _whole(self, sample: Sample, checked: CheckedCall) -> Sample:
        """The sample. Raises CaseEnded (error) where a part of the call ran eagerly that was meant to be compiled."""
        self._fallbacks.assert_none()
        return replace(sample, unequal=checked.unequal)

    def _run(self, triple: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> Any:
        import torch

        with torch.no_grad():
            output = self._call(*triple)
        if self._inputs.reshaped():
            raise CaseEnded(Status.INCORRECT, *self._put_back_inputs())
        return output

    def _poisoned_call(self, triple: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> tuple[Any, bool]:
        """Call with the memory of the last output full of NaN, and whether such memory was used.

        The allocator hands the block out again; a captured graph replays into the same one. But a kernel's temporaries
        may take that block first and leave the output one where another kernel's right values still stand, so more
        blocks of its size are filled, and the call is repeated while it misses them. Of 162 half-written outputs on the
        CPU, among right ones, 126 were noticed with the one block, and all 162 like this.
        """
        output = self._run(triple)
        poisoned = False
        for _ in range(POISON_TRIES):
            blocks = [output, *(output.new_empty(output.shape) for _ in range(SPARE_BLOCKS))]
            where = {poison(block).data_ptr() for block in blocks}
            del output, blocks
            output = self._run(triple)
            poisoned = output.data_ptr() in where
            if poisoned:
                break
        self._synchronize()
        return output, poisoned

    def _violations(self, output: torch.Tensor) -> tuple[Reason, ...]:
        """Why an output for the timed inputs as they were made is outside the tolerance; empty where it is within."""
        distribution = self.record.workload.distribution
        return violations(_compare(output, self._known[distribution]), self._limits, distribution)

    def _assert_form(self, output: Any) -> None:
        with errors_as_rows(UNCHECKABLE, "wrong-type", self._device):
            reasons = wrong_form(output, self._inputs)
        if reasons:
            raise CaseEnded(Status.INCORRECT, *reasons)

    def _workspace(self, before_bytes: int | None) -> int | None:
        """Peak bytes that one warm call allocates, its output included; None where the device does not count them.

        A captured graph allocates when it is captured, so for max-autotune the peak counts from before the first call.
        """
        if before_bytes is None:
            return None
        import torch

        torch.cuda.reset_peak_memory_stats()
        base = before_bytes if self._variant.mode == "max-autotune" else torch.cuda.memory_allocated()
        with errors_as_rows("failed on its second call", "call", self._device):
            self._run(self._inputs.timed)
            self._synchronize()
        return max(0, torch.cuda.max_memory_allocated() - base)

    def _synchronize(self) -> None:
        if self._device == "cuda":
            import torch

            torch.cuda.synchronize()


@contextmanager
def loading(backend: Backend, device: str) -> Iterator[None]:
    """Turn what goes wrong while a backend is loaded into CaseEnded.

    Unsupported for want of a function that it says it needs, error for everything else.
    """
    with errors_as_rows("cannot be loaded", "load", device):
        try:
            yield
        except (ImportError, AttributeError) as exc:
            if reasons := requirements.lacking(backend.requires, exc):
                raise CaseEnded(Status.UNSUPPORTED, *reasons) from exc
            raise


def _said_of_source(backend: Backend) -> str:
    """What it says that it loaded, so that it can be shown and stored. Raises TypeError where that is no text."""
    found = backend.source() if backend.source else ""
    if not isinstance(found, str):
        raise TypeError(f"its `source` must return text, found {type(found).__name__}")
    return printable.message(found)


def process_state(family: str) -> ProcessState:
    """All that is known to note of this process around a case of this family."""
    return ProcessState(family, (*interpreter_state.parts(), *torch_state.parts()))


def refusals(variant: Variant, device: OpenDevice, workload: Any) -> tuple[Reason, ...]:
    """Every reason why this case cannot run here: unmet requirements first, then the library's own words.

    Raises CaseEnded (error) where the library fails when it is asked.
    """
    backend = variant.backend
    if device.type == "sim":
        return ()  # nothing runs there: what a simulated case shows is the scenario's
    unmet = requirements.unmet(backend.requires, device.facts, workload)
    if unmet or backend.refuses is None:
        return unmet
    with errors_as_rows("cannot say whether it runs here", "refuses", device.type):
        said: Any = backend.refuses(workload, device.type)  # one sentence is easily taken for a tuple of it
        return tuple(Reason("refused", text) for text in ((said,) if isinstance(said, str) else said))


def _assert_compiled(compilation: Compilation | None) -> None:
    if compilation is not None and compilation.graphs == 0:
        text = (
            "torch.compile made no graph: dynamo ran the call eagerly, which must not be measured under a compiled name"
        )
        raise CaseEnded(Status.ERROR, Reason("not-compiled", text))


def _allocated(device: str, mode: str) -> int | None:
    if device != "cuda":
        return None
    import torch

    torch.cuda.synchronize()
    if mode == "max-autotune":
        # Before it captures a graph, torch gives back the room that earlier matrix products left to cuBLAS: 32 MiB on an
        # H200, by which the case would seem to need less when they are still counted here.
        torch_private.clear_cublas_workspaces()
    return int(torch.cuda.memory_allocated())


def _host_sample(checked: CheckedCall, rounds_s: list[float]) -> Sample:
    checked.conclude()
    return Sample(tuple(rounds_s), "perf_counter")


def _compare(output: torch.Tensor, reference: Reference) -> ErrorMetrics:
    if reference.rows is None:
        return metrics(output, reference.output)
    error = metrics(output.index_select(1, reference.rows), reference.output)
    row = int(reference.rows[error.worst_index[1]].item())
    return replace(error, worst_index=(error.worst_index[0], row, *error.worst_index[2:]))
