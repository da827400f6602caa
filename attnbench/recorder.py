"""From test reports to records, and from records to the section after the table (layer 4)."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from attnbench.fixtures import CASE
from attnbench.model import Reason, Record, Status
from attnbench.records import launch_from, record_from, to_plain
from attnbench.report import listing, terminal
from attnbench.run import Run, case_of, is_case
from attnbench.torch_case import refusals


class Recorder:
    """Every selected case becomes exactly one record, whatever happens to its test.

    A record travels on the test report, so that it arrives from pytest-xdist's workers too.
    """

    def __init__(self, config: pytest.Config, run: Run) -> None:
        self._config = config
        self._run = run

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        ours = [item for item in session.items if is_case(item)]
        if ours and not self._config.option.collectonly and not self._skips_benchmarks():
            self._run.expect(ours)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> bool | None:
        if not self._run.settings.list_only:
            return None
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        for line in self._listing():
            reporter.write_line(line)
        self._run.records.clear()  # nothing was meant to run
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        ended = call.when == "call" or (call.when == "setup" and not report.passed)
        if is_case(item) and ended and not self._skips_benchmarks():
            record = self._record(item, call, report)
            travelling: Any = report
            travelling.attnbench = {"record": to_plain(record), "launch": to_plain(self._run.launch)}
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        stored: dict[str, Any] | None = getattr(report, "attnbench", None)
        if stored is not None:
            self._run.launches.setdefault(stored["launch"]["id"], launch_from(stored["launch"]))
            self._run.note(record_from(stored["record"]))

    def pytest_keyboard_interrupt(self) -> None:
        self._run.interrupted = "interrupted (Ctrl-C)"

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._run.settings.list_only and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK

    @pytest.hookimpl(trylast=True)  # after pytest-benchmark's table
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        run = self._run.file()
        if not run.records:
            return
        terminalreporter.section(terminal.title(run), sep="-", blue=True)
        for line in terminal.section(run):
            terminalreporter.write_line(line)

    def _record(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> Record:
        case = item.stash.get(CASE, None)
        text = str(call.excinfo.value) if call.excinfo else ""
        if case is not None:
            if call.excinfo is not None:
                case.failed(f"the test ended with {call.excinfo.typename}: {text}")
            return case.record
        variant, workload = case_of(item, self._run)
        draft = self._run.draft(variant, workload, item.nodeid)
        if report.skipped:
            return draft.ended(Status.NOT_RUN, Reason("skipped", f"skipped: {text}"))
        return draft.ended(Status.ERROR, Reason("setup", f"its fixtures failed: {text}"))

    def _listing(self) -> list[str]:
        device = self._run.device
        entries = [
            listing.Entry(v.backend.name, v.backend.family, v.mode, w, refusals(v, device, w))
            for w in self._run.workloads.values()
            for v in self._run.variants.values()
        ]
        return listing.listing(f"{device.type} · {device.facts.device_name}", entries)

    def _skips_benchmarks(self) -> bool:
        option: Any = self._config.option
        return bool(getattr(option, "benchmark_skip", False) and not getattr(option, "benchmark_only", False))
