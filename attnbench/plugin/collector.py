"""From test reports to records, and from records to the section after the table."""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

import pytest

from attnbench.codec import launch_from, record_from, to_plain
from attnbench.model import Reason, Record, Status
from attnbench.plugin.benchmark_bridge import performance_regression
from attnbench.plugin.fixtures import CASE
from attnbench.plugin.run_kind import is_parallel, is_recording, runs_tests
from attnbench.plugin.run_state import RunState
from attnbench.plugin.selection import case_of, is_case, is_selected


class RecordCollector:
    """Every selected case becomes exactly one record, whatever happens to its test.

    A record travels on the test report, so that it arrives from pytest-xdist's workers too.
    """

    def __init__(self, config: pytest.Config, run: RunState) -> None:
        self._config = config
        self._run = run
        self._session: pytest.Session | None = None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._session = session

    @pytest.hookimpl(trylast=True)  # after pytest, which puts together what shares a workload
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put cases that share a process of the launcher together, after the others, so that each process starts once."""
        selection = self._run.selection
        places = self._run.processes.places([variant.backend for variant in selection.variants.values()])
        items.sort(key=lambda item: places.get(case_of(item, selection)[0].backend.name, 0) if is_case(item) else 0)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        ours = [item for item in session.items if is_case(item)]
        if ours and runs_tests(self._config) and not self._skips_benchmarks():
            selected = (case_of(item, self._run.selection) for item in ours)
            self._run.begin_judging([str(variant.case(workload)) for variant, workload in selected])
            self._run.expect(ours)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> bool | None:
        if not self._run.settings.list_only or hasattr(self._config, "workerinput"):
            return None
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:
            raise pytest.UsageError("--attn-list needs pytest's terminal reporter: drop -p no:terminal")
        from attnbench.plugin.case_list import case_list

        self._run.select()  # again for pytest-xdist's controller, which collects nothing
        for line in case_list(self._run.selection, self._run.here.device, self._named_cases()):
            reporter.write_line(line)
        return True

    def _named_cases(self) -> frozenset[str] | None:
        """The cases that -k, -m, --deselect or names of tests leave; None where there was no case that they could remove."""
        option = self._config.option
        by_name = any("::" in str(name) for name in option.file_or_dir)
        narrowed = option.keyword or option.markexpr or getattr(option, "deselect", None) or by_name
        if not (narrowed and self._run.selection.offered) or is_parallel(self._config):
            return None
        assert self._session is not None
        ours = (item for item in self._session.items if is_case(item) and is_selected(item))
        cases = (case_of(item, self._run.selection) for item in ours)
        return frozenset(str(variant.case(workload)) for variant, workload in cases)

    @pytest.hookimpl(wrapper=True, trylast=True)  # inside pytest's own, so that it sees the streams that the test saw
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """Restore the process after a test, however it ended, before its report is made."""
        if is_case(item):
            _stop_listening_to_traces()
        case = item.stash.get(CASE, None)
        interrupted = False
        try:
            return (yield)
        except (KeyboardInterrupt, pytest.exit.Exception):
            interrupted = True
            raise
        finally:
            if case is not None:
                case.leave(interrupted)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        ended = call.when == "call" or (call.when == "setup" and not report.passed)
        if is_case(item) and ended and not self._skips_benchmarks():
            records = self._records(item, call, report)
            travelling: Any = report
            used = {record.launch for record in records}
            launches = [launch for launch in self._run.processes.launches.values() if launch.id in used]
            travelling.attnbench = {
                "records": [to_plain(record) for record in records],
                "launches": [to_plain(launch) for launch in launches],
            }
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        stored: dict[str, Any] | None = getattr(report, "attnbench", None)
        if stored is not None:
            self._run.results.add_launches(map(launch_from, stored["launches"]))
            self._run.results.add(*map(record_from, stored["records"]))

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        # pytest.exit() comes through this hook too; Ctrl-C has no words of its own
        self._run.results.end(str(excinfo.value) or "interrupted (Ctrl-C)")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._run.settings.list_only and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK

    @pytest.hookimpl(
        wrapper=True
    )  # after pytest-benchmark's table, also where --benchmark-compare-fail ends in an error
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, exitstatus: pytest.ExitCode
    ) -> Generator[None, None, None]:
        try:
            yield
        except (
            performance_regression()
        ):  # it has listed the cases; the traceback that it would end in says nothing more
            if not self._run.results.records:
                raise
            assert self._session is not None
            self._session.exitstatus = pytest.ExitCode.TESTS_FAILED
            terminalreporter.write_line("failed by --benchmark-compare-fail: see 'Performance has regressed'", red=True)
        finally:
            self._section(terminalreporter, exitstatus)

    def _section(self, terminalreporter: pytest.TerminalReporter, exitstatus: pytest.ExitCode) -> None:
        if self._run.here.is_child:
            return  # what it measured is shown by the run that started it
        if not self._run.results.records:
            if self._run.selection.offered and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
                terminalreporter.write_line(
                    f"attnbench: no case is left; -k, -m or --deselect removed all {self._run.selection.offered}"
                )
            elif self._lacks_the_suite(terminalreporter, exitstatus):
                terminalreporter.write_line(
                    "attnbench: no test of attnbench was collected; to measure its suite, add --pyargs attnbench.suite"
                )
            return
        from attnbench.report import terminal
        from attnbench.report.table import WIDTH

        width = self._config.get_terminal_writer().fullwidth if terminalreporter.isatty() else WIDTH
        heading, *lines = terminal.section(self._run.file(), details=self._run.shows_details, width=width)
        terminalreporter.write_line(heading, blue=True)
        for line in (*lines, *self._run.results.remarks):
            terminalreporter.write_line(line)
        if (folder := self._run.settings.report) is not None:
            from attnbench.plugin.run_report import write_report

            for line in write_report(self._run.file(), folder):
                terminalreporter.write_line(line)

    def _lacks_the_suite(self, reporter: Any, exitstatus: pytest.ExitCode) -> bool:
        """Whether the user wants cases, by an option or by a kernel of a conftest.py, and no test makes any."""
        ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
        run = self._run
        if not ended or run.selection.variants or run.settings.list_only or is_parallel(self._config):
            return False
        arguments = map(str, self._config.invocation_params.args)
        if is_recording(self._config) or any(argument.startswith("--attn-") for argument in arguments):
            return True
        had_tests = any(reporter.stats.get(left_out) for left_out in ("deselected", "skipped"))
        if exitstatus != pytest.ExitCode.NO_TESTS_COLLECTED or had_tests:
            return False
        from attnbench.backends.registry import others_registered

        return others_registered()

    def _records(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> tuple[Record, ...]:
        """What is known of a case: its record, then those of other launches."""
        case = item.stash.get(CASE, None)
        text = str(call.excinfo.value) or call.excinfo.typename if call.excinfo else ""
        if case is not None:
            if report.skipped:
                word = "expected to fail" if hasattr(report, "wasxfail") else "skipped"
                case.stopped(Status.NOT_RUN, f"{word}: {text}")
            elif call.excinfo is not None:
                case.stopped(Status.ERROR, f"the test ended with {call.excinfo.typename}: {text}")
            else:
                case.returned()
            return (case.record, *case.further)
        variant, workload = case_of(item, self._run.selection)
        draft = self._run.draft(variant, workload, item.nodeid)
        if report.skipped:
            return (draft.ended(Status.NOT_RUN, Reason("skipped", f"skipped: {text}")),)
        return (draft.ended(Status.ERROR, Reason("setup", f"its fixtures failed: {text}")),)

    def _skips_benchmarks(self) -> bool:
        option: Any = self._config.option
        return bool(getattr(option, "benchmark_skip", False) and not getattr(option, "benchmark_only", False))


def _stop_listening_to_traces() -> None:
    """Stop pytest from capturing torch's trace, which it does although that logger does not propagate.

    The trace of a compilation is hundreds of lines for torch's own tools, and is only produced where somebody listens.
    """
    from attnbench import torch_private

    trace = logging.getLogger(torch_private.TRACE_LOGGER)
    for handler in [h for h in trace.handlers if type(h).__module__.startswith("_pytest.")]:
        trace.removeHandler(handler)
