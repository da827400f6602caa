"""One case as a test sees it: four steps, each of which may end the test with its reason."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn, Protocol

import pytest

from attnbench import printable
from attnbench.backends.errors import errors_as_rows, free_frames
from attnbench.codec import rounded, to_digits
from attnbench.ending_signals import answered_by_python
from attnbench.execution.remote_case import ENDED_BY_TEST
from attnbench.execution.round_plan import RoundPlan
from attnbench.execution.time_limit import time_limit
from attnbench.hardware.device import OpenDevice
from attnbench.model import OVERWRITES, CaseEnded, Reason, Record, Sample, Status, SustainedLoad
from attnbench.plugin import benchmark_bridge
from attnbench.plugin.run_state import RunState
from attnbench.reasons import told
from attnbench.timing.timer import Timer
from attnbench.units import format_change

if TYPE_CHECKING:
    from attnbench.plugin.benchmark_bridge import Benchmark


#: Codes of the reasons of a case whose test skipped itself.
SKIPPED = ("test", "skipped")
FAILED = (Status.INCORRECT, Status.ERROR)
#: By the last step that a test took, what is said of one that came to its end there.
_ENDED_BY_TEST = {
    "": "the test ended before prepare()",
    "prepare": "the test ended after prepare(), before measure()",
    "accuracy": "the test ended after assert_accurate(), before measure()",
    "route": "the test ended after assert_route(), before measure()",
}


#: A step of `AttnCase` → what has to be done before it, and why.
_NEEDS = {
    "assert_accurate": ("prepare", "there is no kernel to check yet"),
    "assert_route": ("prepare", "there is no kernel to trace yet"),
    "measure": ("assert_accurate", "a wrong kernel has no latency"),
}


class CaseSteps(Protocol):
    """One case, wherever it runs: in this process, in another, or simulated.

    limited: whether --attn-timeout has to be kept in this process.
    """

    record: Record
    limited: bool

    @property
    def further(self) -> tuple[Record, ...]: ...
    def prepare(self, device: OpenDevice) -> None: ...
    def assert_accurate(self) -> None: ...
    def assert_route(self) -> None: ...
    def rounds(self, count: int, timer: Timer) -> RoundPlan: ...
    def sustain(self, seconds: float) -> SustainedLoad | None: ...
    def leave(self, verify: bool = True) -> None: ...
    def close(self) -> None: ...


class AttnCase:
    """One case as a test sees it: four steps, in this order, each once, each of which may end the test with its reason.

    `record` is everything known so far; it is stored whatever happens. A test that takes the steps in another order gets
    a RuntimeError, which is no fault of the kernel.
    """

    def __init__(self, run: RunState, steps: CaseSteps, benchmark: Benchmark, timer: Timer) -> None:
        self._run = run
        self._steps = steps
        self._benchmark = benchmark
        self._timer = timer
        self._outcome: CaseEnded | None = None
        self._sample: Sample | None = None
        self._sustained: SustainedLoad | None = None
        self._spent_s: dict[str, float] = {}
        self._again: tuple[Record, ...] = ()
        self._begun: list[str] = []  # the methods that the test has called, in order
        self._done: list[str] = []  # those of them that came to their end
        self._last_step = ""
        self._ended_by_test = ""  # where the test itself came to an end, before measure()

    @property
    def further(self) -> tuple[Record, ...]:
        """The same case in other launches: those of --attn-launches, and those that a suspect was measured again in."""
        return (*self._steps.further, *self._again)

    @property
    def record(self) -> Record:
        """What is known of this case, as it will be stored: with the digits that files have, so that both say the same."""
        return rounded(self._exact)

    @property
    def _exact(self) -> Record:
        record = self._steps.record
        if self._spent_s:  # a launched case brings its own
            record = replace(record, spent_s={**self._spent_s, **record.spent_s})
        if self._outcome is not None:
            return record.ended(self._outcome.status, *self._outcome.reasons)
        if self._sample is not None:
            sample, sustained = self._sample, self._sustained
            return replace(record, status=Status.MEASURED, reasons=(), sample=sample, sustained=sustained)
        reasons = (Reason(ENDED_BY_TEST, self._ended_by_test),) if self._ended_by_test else ()
        if "assert_accurate" in self._done:
            return replace(record, status=Status.CHECKED, reasons=reasons, sample=None, sustained=None)
        return record.ended(Status.NOT_RUN, *reasons) if reasons else record

    def prepare(self) -> None:
        """Check requirements, load, compile, call once. Skips the test with every reason when it cannot run here."""
        __tracebackhide__ = True
        self._begin("prepare")
        with self._step("prepare"):
            self._steps.prepare(self._run.here.device)
        self._done.append("prepare")

    def assert_accurate(self) -> None:
        """The wall: the output of the path that is timed, on every input set, is within the backend's tolerance."""
        __tracebackhide__ = True
        self._begin("assert_accurate")
        with self._step("accuracy"):
            self._steps.assert_accurate()
        self._done.append("assert_accurate")

    def assert_route(self) -> None:
        """What ran is this backend's kernel, not one that it was silently replaced by."""
        __tracebackhide__ = True
        self._begin("assert_route")
        with self._step("route"):
            self._steps.assert_route()

    def measure(self) -> None:
        """Time it with pytest-benchmark, unless benchmarks are disabled. Refuses a case that was not checked."""
        __tracebackhide__ = True
        self._begin("measure")
        if benchmark_bridge.is_disabled(self._benchmark):
            self._last_step = "measure"
            return
        try:
            with self._step("measure"), errors_as_rows("failed while it was timed", "call", self._run.here.device_type):
                sample = self._timed()
                if (sustained_s := self._run.settings.sustained_s) is not None:
                    self._sustained = self._steps.sustain(sustained_s)
                self._steps.leave()  # what follows may start processes, which would inherit this case's environment
        except BaseException:
            self._withdraw()
            raise
        self._sample = sample
        retest = self._run.retest
        if retest is not None:
            with self._step("judge", limited=False):  # it launches processes, each of which has the limit for itself
                retested = retest.judge((self.record, *self.further))
                self._again = retested.further
                if retested.verdict is not None:
                    self._run.results.add_verdict(retested.verdict)
                wrong = next((record for record in self._again if record.status is Status.INCORRECT), None)
                if wrong is not None:
                    self._sample = None
                    self._withdraw()
                    text = "; ".join(told(wrong.reasons, whole=False, where="its record names them"))
                    raise CaseEnded(
                        Status.INCORRECT, Reason("relaunch", f"correct in this process, wrong in a fresh one: {text}")
                    )
            self._fail_by_verdict()

    def leave(self, interrupted: bool = False) -> None:
        """Put back what the case changed for others, before it is stored. Called once its test has ended, however it did.

        Fails the test where the case wrote into its inputs, or cannot be undone, and had not failed by itself. Of an
        interrupted one only the process is put back: nobody knows whether the device still answers.
        """
        try:
            self._steps.leave(verify=not interrupted)
        except CaseEnded as more:
            if interrupted:
                return
            self._sample = None
            self._withdraw()
            if self._outcome is not None and self._outcome.status in FAILED:  # and so has its test
                self._outcome = _joined(self._outcome, more)
            else:
                self._end(more if self._outcome is None else _joined(self._outcome, more))

    def returned(self) -> None:
        """The test came to its end here: where that was before measure(), the record says so."""
        self._ended_by_test = _ENDED_BY_TEST.get(self._last_step, "")

    def stopped(self, status: Status, text: str) -> None:
        """The test raised something of its own before it came to an end here: that is this case's reason."""
        if self._outcome is None and self._sample is None:
            self._outcome = CaseEnded(status, Reason("test", text))

    def close(self) -> None:
        """Free what the case holds, and spare the user pytest-benchmark's warning when there was nothing to time."""
        self._steps.close()
        self._timer.release()
        if self._sample is None:
            benchmark_bridge.expect_nothing(self._benchmark)

    def _begin(self, step: str) -> None:
        """Note that the test takes this step. Raises RuntimeError where it cannot come now."""
        __tracebackhide__ = True  # the traceback ends at the line of the test
        needed, why = _NEEDS.get(step, ("", ""))
        if self._outcome is not None:
            raise RuntimeError(
                f"{step}() after {self._begun[-1]}() has ended the case, which is {self._outcome.status}"
            )
        if step in self._begun:
            raise RuntimeError(f"{step}() a second time: a case takes each step once")
        if needed and needed not in self._done:
            raise RuntimeError(f"{step}() before {needed}(): {why}")
        if "measure" in self._begun:
            raise RuntimeError(f"{step}() after measure(): the kernel is let go of once it is timed")
        self._begun.append(step)

    def _timed(self) -> Sample:
        """Have pytest-benchmark take the rounds. Raises whatever the call raises, and CaseEnded where an output is wrong."""
        rounds = self._steps.rounds(self._run.rounds, self._timer)
        self._benchmark.group = self._steps.record.workload.name
        self._benchmark.extra_info.update(
            case=self._steps.record.case,
            device=self._run.here.device.facts.device_name,
            simulated=self._run.here.device_type == "sim",
        )
        injected = self._steps.record.injected
        if injected is not None:
            self._benchmark.extra_info["injected"] = injected
            benchmark_bridge.rename(self._benchmark, f" INJECTED {format_change(injected)}")
        # In the digits of files, or its median were another one than that of our rounds.
        taken_s = benchmark_bridge.time_rounds(self._benchmark, rounds.call, rounds.setup, rounds.count, to_digits)
        return rounds.sample(taken_s)

    def _withdraw(self) -> None:
        """Take the rounds so far out of pytest-benchmark's table and files: a case that failed has no latency anywhere."""
        benchmark_bridge.withdraw(self._benchmark)

    @contextmanager
    def _step(self, name: str, limited: bool = True) -> Iterator[None]:
        """Time one step, and end the test where the step ends the case."""
        start = time.perf_counter()
        self._last_step = name
        try:
            with self._limit() if limited else nullcontext():
                yield
        except CaseEnded as ended:
            self._end(ended)
        finally:
            answered_by_python()  # a step may have compiled
            self._spent_s[name] = time.perf_counter() - start

    def _limit(self) -> AbstractContextManager[None]:
        """What is left of --attn-timeout, for a case in this process; of a launched one the parent keeps the time."""
        limit_s = self._run.settings.timeout_s
        if self._run.here.is_child or not self._steps.limited:
            return nullcontext()
        return time_limit(limit_s - sum(self._spent_s.values()), limit_s, self._run.results.remark)

    def _fail_by_verdict(self) -> None:
        """Fail the test where its verdict says so: one line, no traceback."""
        failure = self._run.failure(self.record)
        if failure is not None:
            raise pytest.fail.Exception(failure, pytrace=False) from None

    def _end(self, ended: CaseEnded) -> NoReturn:
        if not self._run.is_debugged:
            free_frames(ended)  # first: putting back may need the room
        try:
            self._steps.leave()
        except CaseEnded as more:
            ended = _joined(ended, more)
        self._outcome = ended
        reasons = [printable.line(text) for text in told(ended.reasons, whole=self._run.shows_details)]
        name = f"{self._steps.record.variant} · {self._steps.record.workload.name}"
        if ended.status is Status.UNSUPPORTED:
            self._fail_by_verdict()
            pytest.skip(printable.line(f"{self._steps.record.variant}: {'; '.join(reasons)}"))
        if ended.status is Status.NOT_RUN and all(reason.code in SKIPPED for reason in ended.reasons):
            pytest.skip(printable.line("; ".join(reasons)))  # as the test did in the process that was launched for it
        from attnbench.report.table import with_reasons

        failure = printable.lines("\n".join(with_reasons(f"{str(ended.status).upper()} {name}", reasons)))
        if ended.__cause__ is not None and self._run.shows_tracebacks:
            frames = "".join(traceback.format_tb(ended.__cause__.__traceback__))  # the message is in `reasons`, cut
            failure += "\n" + printable.lines(frames.rstrip())
        # From None: the sentence has the cause in it, and pytest would print every exception on the way once more.
        raise pytest.fail.Exception(failure, pytrace=False) from None


def _joined(ended: CaseEnded, more: CaseEnded) -> CaseEnded:
    """How a case ended that turned out to have written into its inputs too, which comes first, or that cannot be undone."""
    written = [reason for reason in more.reasons if reason.code == OVERWRITES]
    others = [reason for reason in more.reasons if reason.code != OVERWRITES]
    return CaseEnded(ended.status if ended.status in FAILED else more.status, *written, *ended.reasons, *others)
