"""One case on a real device: its steps in their order, each of which may end it, and what it must put back afterwards."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from attnbench.backends.errors import describe_error, errors_as_rows
from attnbench.backends.tolerances import violations
from attnbench.backends.variant import Variant
from attnbench.checks.checked_call import CheckedCall
from attnbench.checks.output import named, plain, wrong_form
from attnbench.checks.symmetry import moves
from attnbench.execution import compile_time, interpreter_state, steps, torch_state
from attnbench.execution.dynamo import EagerFallbacks, forget_compiled
from attnbench.execution.passes import Pass
from attnbench.execution.process_state import ProcessState
from attnbench.execution.refusals import refusals
from attnbench.execution.round_plan import RoundPlan
from attnbench.hardware.device import OpenDevice, context_is_lost, release_memory_beyond_share
from attnbench.model import OVERWRITES, CaseEnded, Check, Reason, Record, Sample, StateChange, Status, SustainedLoad
from attnbench.reasons import worst_first
from attnbench.timing.injection import Injection, share_for, slowed
from attnbench.timing.timer import Timer

if TYPE_CHECKING:
    import torch

    from attnbench.checks.reference import References
    from attnbench.workloads.inputs import Inputs


#: What a case has changed after which CUDA answers nothing in this process.
LOST_CONTEXT = StateChange("its CUDA context is lost", put_back=False)
#: The reason where an output is a tensor by its type, and cannot be read as one: a nested or a fake one, a wrapper.
UNCHECKABLE = "returned a tensor that cannot be checked"


class TorchCase:
    """One case in this process. `record` always describes what is known so far and is valid at every moment."""

    further: tuple[Record, ...] = ()  # this process is one launch
    limited = True
    _inputs: Inputs

    def __init__(
        self,
        variant: Variant,
        record: Record,
        inputs: Callable[[], Inputs],
        references: Callable[[], References],
        injections: Sequence[Injection] = (),
    ) -> None:
        """`inputs` and `references` are called when first needed, so that an unsupported case costs nothing."""
        self.record = record
        self._variant = variant
        self._make_inputs = inputs
        self._references = references
        self._injections = injections
        self._call: Any = None
        self._returned: Any = None  # by the last call, to be filled with NaN before the next
        self._until = ExitStack()
        self._checked: dict[str, torch.Tensor] = {}  # the outputs on the timed inputs that were found to be right
        self._timed: CheckedCall | None = None
        self._loaded: Callable[[], None] | None = None  # what is timed: that call, with an injected slow-down behind it
        self._touched = False  # whether a call had the inputs since they were last verified
        self._unverified = False  # whether the inputs could not be verified afterwards
        self._state: ProcessState | None = None  # of this process before the case, while it lasts
        self._fallbacks = EagerFallbacks()

    def prepare(self, device: OpenDevice) -> None:
        """Requirements, load, compile, first call. Raises CaseEnded (unsupported or error)."""
        self._device = device.type
        self._note_process()
        self._require_support(device)
        self._take_inputs()
        before = steps.CompileMark.now()
        self._load()
        self._compile()
        with errors_as_rows("failed before its first call", "load", self._device):
            before_bytes = steps.allocated_bytes(self._device, self._variant.mode)
        self._call_first(before)
        steps.require_graph(self.record.compilation)
        self._fallbacks.assert_none()
        workspace_bytes, self._returned = steps.workspace_bytes(
            self._pass(), self._device, self._variant.mode, before_bytes
        )
        self.record = replace(self.record, workspace_bytes=workspace_bytes)

    def assert_accurate(self) -> None:
        """The wall: every input set within tolerance, written into poisoned memory.

        Raises CaseEnded (incorrect, error).
        """
        broken: list[tuple[Reason, ...]] = []
        for distribution in self._known:
            run = self._pass(distribution, keeps_output=self.record.workload.dropout > 0)
            with errors_as_rows(f"failed on {distribution} inputs", "call", self._device):
                returned, poisoned = steps.poisoned_call(run, self._named, self._device, self._spent())
            self._assert_form(returned)
            with errors_as_rows(UNCHECKABLE, "wrong-type", self._device):
                outputs = {name: plain(output) for name, output in self._named(returned).items()}
                checks, wrong = self._judged(outputs, run.forward_output, distribution, poisoned)
            self.record = replace(self.record, checks=(*self.record.checks, *checks))
            broken += wrong
            if distribution == self.record.workload.distribution:
                # What a captured graph returned is written anew by the next call.
                self._checked = {name: output.clone() for name, output in outputs.items()}
            self._returned = returned
            del returned, outputs  # or their memory could not be filled with NaN for the next call
        self._returned = None
        errors = worst_first(broken)
        hints = self._other_layout() if errors else ()
        reasons = (*self._put_back_inputs(), *errors, *hints)
        self._touched = True
        if reasons:
            raise CaseEnded(Status.INCORRECT, *reasons)
        self._fallbacks.assert_none()

    def _spent(self) -> list[torch.Tensor]:
        """The outputs of the last call, which nobody needs any longer; empty where there was none, or it was let go."""
        returned, self._returned = self._returned, None
        return [] if returned is None else list(self._named(returned).values())

    def _judged(
        self,
        outputs: Mapping[str, torch.Tensor],
        forward_output: torch.Tensor | None,
        distribution: str,
        poisoned: bool,
    ) -> tuple[tuple[Check, ...], tuple[tuple[Reason, ...], ...]]:
        """The checks of what one call returned, and of each every way in which it is wrong.

        forward_output: of the forward pass before a call that returns gradients alone, kept with dropout.
        """
        known, tolerance = self._known[distribution], self._variant.backend.tolerance
        if self.record.workload.dropout:
            kept = {} if forward_output is None else {"output": plain(forward_output)}
            return steps.judged_dropout({**kept, **outputs}, known, self._inputs, tolerance, distribution, poisoned)
        judgements = [
            steps.judged(steps.error_of(output, known[name]), known[name], tolerance, distribution, poisoned, name)
            for name, output in outputs.items()
        ]
        return tuple(check for check, _ in judgements), tuple(wrong for _, wrong in judgements)

    def _other_layout(self) -> tuple[Reason, ...]:
        """That a wrong output is right where the kernel is taken to have the other layout; empty where it is not.

        Asked in eager mode and forward alone, where it is one call more. Whatever fails in it is no reason of the case,
        but that the CUDA context was lost by it.
        """
        if self._variant.mode != "eager" or self.record.workload.direction != "forward" or self.record.workload.dropout:
            return ()
        distribution = self.record.workload.distribution
        known = self._known[distribution]["output"]
        try:
            output = steps.in_other_layout(self._call, self._inputs.timed, self._device)
            return steps.layout_reasons(plain(output), known, self._variant.backend.layout)
        except Exception as exc:
            if not context_is_lost(self._device):
                return ()
            why = f"it took the CUDA context with it: {describe_error(exc)}"
        return (Reason("context-lost", f"called as if it had the other layout, to see whether that is why, {why}"),)

    def assert_route(self) -> None:
        """What one call ran is this backend's, and is ordered with the current stream.

        Raises CaseEnded (incorrect, unsupported, error).
        """
        traced = steps.traced_route(self._pass(), self._variant.backend, self._device)
        self.record = replace(self.record, route=traced.ops, kernel_s=traced.kernel_s, chose=traced.chose)
        steps.require_route(traced.reasons, self._variant.mode)

    def rounds(self, count: int, timer: Timer) -> RoundPlan:
        """Make ready for `count` rounds on the timed inputs, and set `timer` to this device's clock.

        Every round sees other contents in the same memory, and its output is checked: setting up, calling and sampling
        raise CaseEnded (incorrect) where one is wrong. Raises CaseEnded (error) where the slow-down that was asked for
        cannot be injected.
        """
        checked = self._checked_call()
        self._timed, self._touched = checked, True
        share = share_for(self._injections, self.record)
        timed = checked if share is None else slowed(checked, share, self._device, checked.ready)
        self._loaded = timed
        self.record = replace(self.record, injected=share)
        plan = steps.plan_rounds(timed, checked, count, timer, self._device)
        return replace(plan, sample=lambda rounds_s: self._whole(plan.sample(rounds_s), checked))

    def sustain(self, seconds: float) -> SustainedLoad:
        """The call that was timed, under continuous load; its last output is checked. Call it behind the last round.

        Raises CaseEnded (incorrect) where that output is wrong.
        """
        assert self._timed is not None
        assert self._loaded is not None
        load = steps.under_load(self._loaded, self._timed, self.record.workload, seconds, self._device)
        self._timed.conclude()
        self._fallbacks.assert_none()
        return load

    def leave(self, verify: bool = True) -> None:
        """Restore what the case changed for others: inputs, what loading set up, and the process (`record.changed`).

        The compiled call is dropped too, so that its memory does not count against the next case. Call this after the last
        call of the kernel, however the case ended, and before its record is stored; a second time does nothing.
        verify: whether to ask the device what the inputs hold now.
        Raises CaseEnded: incorrect where the case wrote into its inputs, error where loading cannot be undone.
        """
        written = self._put_back_inputs() if verify else ()
        self._touched = False  # unverified they stay so: an interrupt leaves them between the contents of two rounds
        compiled = self._call is not None and self._variant.mode != "eager"
        self._call = self._timed = self._loaded = self._returned = None
        self._checked = {}
        if self._state is not None:
            state, self._state = self._state, None
            self._fallbacks.close()
            try:
                self._undo_loading(written)
            finally:  # also where loading cannot be undone: nothing of this case stays for the next one
                self._restore_process(state, compiled, verify)
                release_memory_beyond_share(self._device)
        if written:
            raise CaseEnded(Status.INCORRECT, *written)

    def close(self) -> None:
        """Leave, where nobody did."""
        self.leave()

    def _undo_loading(self, written: tuple[Reason, ...]) -> None:
        """Close what the backend's `load` opened. Raises CaseEnded (error), behind the reasons `written`, where it fails."""
        try:
            with errors_as_rows("failed to undo what its loading has set up", "unload", self._device):
                self._until.close()
        except CaseEnded as ended:
            raise CaseEnded(ended.status, *written, *ended.reasons) from ended

    def _restore_process(self, state: ProcessState, compiled: bool, verify: bool) -> None:
        """Drop what was compiled, restore the process, and record what the case had changed of it.

        verify: whether to ask the device if it still answers.
        """
        forget_compiled()
        if compiled and self._device == "cuda" and self._variant.mode == "max-autotune":
            gc.collect()  # a captured graph keeps its memory in cycles; 0.3 s that no other case need pay
        unverified = (StateChange("its inputs", put_back=False),) if self._unverified else ()
        lost = (LOST_CONTEXT,) if verify and context_is_lost(self._device) else ()
        self.record = replace(self.record, changed=(*state.put_back(), *unverified, *lost))

    def _note_process(self) -> None:
        """Let go of what earlier cases compiled, and note the process, so that `leave` can put it back."""
        forget_compiled()
        self._state = process_state(self.record.family)
        self._state.note()
        self._fallbacks.listen()

    def _require_support(self, device: OpenDevice) -> None:
        """Raise CaseEnded (unsupported) with every reason why the case cannot run here."""
        backend = self._variant.backend
        self.record = replace(self.record, layout=backend.layout, tolerance=backend.tolerance)
        reasons = refusals(self._variant, device, self.record.workload)
        if reasons:
            raise CaseEnded(Status.UNSUPPORTED, *reasons)

    def _take_inputs(self) -> None:
        with errors_as_rows("has no inputs", "inputs", self._device, of_a_test=True):
            self._inputs = self._make_inputs()
        self.record = replace(self.record, input_sha256=self._inputs.sha256)
        with errors_as_rows("has no reference", "reference", self._device, of_a_test=True):
            self._known = self._references()  # of inputs that this kernel has not had yet
        self._touched = True

    def _load(self) -> None:
        backend = self._variant.backend
        with steps.loading(backend, self._device):
            self._call = self._variant.load(self.record.workload, self._until)
            source = steps.source_of(backend)
        self.record = replace(self.record, source=source)

    def _compile(self) -> None:
        """Wrap the call in torch.compile, in every mode but eager; it compiles on its first call."""
        if self._variant.backend.eager_first and self._variant.mode != "eager":
            with errors_as_rows("failed on its call in eager mode", "first-call", self._device):
                eager = self._pass()
                eager.ready()
                eager()
                steps.synchronize(self._device)
        with errors_as_rows("cannot be compiled", "load", self._device):
            self._call = self._variant.compiled(self._call)

    def _call_first(self, before: steps.CompileMark) -> None:
        """The first call, of which the record keeps how long it took and what it compiled; its output is freed."""
        returned, first_call_s = steps.first_call(self._pass(), self._device)
        if self._variant.mode != "eager" and self._state is not None:
            self._state.accept(interpreter_state.WARNING_FILTERS)
        self._assert_form(returned)
        compilation = self._variant.compilation(before.modules)
        self.record = replace(
            self.record,
            first_call_s=first_call_s,
            compilers_s=compile_time.since_s(before.compilers_s),
            output_contiguous=all(output.is_contiguous() for output in self._named(returned).values()),
            compilation=compilation,
        )

    def _checked_call(self) -> CheckedCall:
        assert self._checked, "the output was checked before it is timed"
        workload, inputs = self.record.workload, self._inputs
        timed = Pass(self._call, workload, inputs.timed, inputs.gradient)
        return CheckedCall(
            timed,
            inputs.contents(workload.distribution),
            self._checked,
            moves(workload),
            ready=timed.ready,
            named=self._named,
            spoilt=lambda: self._put_back_inputs() if inputs.reshaped() else (),
            wrong_form=lambda returned: wrong_form(returned, inputs),
            violations=self._violations,
        )

    def _put_back_inputs(self) -> tuple[Reason, ...]:
        """Verify the inputs, and make them again where they no longer hold what was made.

        Returns why this case is incorrect then. Where the device cannot be asked nothing is known, and this process runs no
        further cases.
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

    def _pass(self, distribution: str = "", *, keeps_output: bool = False) -> GuardedPass:
        """One call on the inputs of a distribution, the timed one by default."""
        triple = self._inputs.sets[distribution] if distribution else self._inputs.timed
        inner = Pass(self._call, self.record.workload, triple, self._inputs.gradient, keeps_output=keeps_output)
        return GuardedPass(inner, self._require_form)

    def _require_form(self) -> None:
        """Raise CaseEnded (incorrect) where a call gave its inputs another shape or memory."""
        if self._inputs.reshaped():
            raise CaseEnded(Status.INCORRECT, *self._put_back_inputs())

    def _named(self, returned: Any) -> dict[str, Any]:
        return named(returned, self.record.workload)

    def _violations(self, outputs: Mapping[str, torch.Tensor]) -> tuple[Reason, ...]:
        """Why outputs for the timed inputs as they were made are outside the tolerance; empty where they are within.

        With dropout they are compared with those that were found to be right, which dropped the same.
        """
        workload, tolerance = self.record.workload, self._variant.backend.tolerance
        reasons: list[Reason] = []
        for name, output in outputs.items():
            known = self._known[workload.distribution][name]
            right = steps.as_reference(self._checked[name], known) if workload.dropout else known
            limits = steps.limits_of(tolerance, workload.distribution, known, name)
            reasons += violations(steps.error_of(output, right), limits, workload.distribution, name)
        return tuple(reasons)

    def _assert_form(self, returned: Any) -> None:
        with errors_as_rows(UNCHECKABLE, "wrong-type", self._device):
            reasons = wrong_form(returned, self._inputs)
        if reasons:
            raise CaseEnded(Status.INCORRECT, *reasons)


class GuardedPass:
    """A pass, and what has to hold of its inputs after it."""

    def __init__(self, inner: Pass, require_form: Callable[[], None]) -> None:
        self._inner = inner
        self._require_form = require_form

    @property
    def forward_output(self) -> torch.Tensor | None:
        return self._inner.forward_output

    def ready(self) -> None:
        self._inner.ready()
        self._require_form()

    def __call__(self) -> Any:
        returned = self._inner()
        self._require_form()
        return returned


def process_state(family: str) -> ProcessState:
    """The state of this process around a case of this family: all parts that can be noted and restored."""
    return ProcessState(family, (*interpreter_state.parts(), *torch_state.parts()))
