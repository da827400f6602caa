"""Where this run's JSON is written: `--benchmark-json`, `--benchmark-save`, `--benchmark-autosave`.

pytest-benchmark puts the document together, attnbench adds its own part and writes it: whole, or with a sentence why not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any

import pytest

from attnbench.codec import to_plain
from attnbench.plugin.benchmark_bridge import BenchmarkSession, Text, benchmark_session, nothing_saved_is_no_warning
from attnbench.plugin.run_kind import is_ours, is_recording
from attnbench.plugin.run_state import RunState
from attnbench.plugin.signals import Termination

Write = Callable[[BenchmarkSession, bytes], str]  # one file; what pytest-benchmark then says


class SavingHooks:
    """Hooks around pytest-benchmark's saving. They come first when a run ends, so that no signal interrupts it."""

    def __init__(self, config: pytest.Config, run: RunState, termination: Termination | None) -> None:
        self._config = config
        self._run = run
        self._termination = termination

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_generate_machine_info(self, config: pytest.Config) -> dict[str, Any] | None:
        if not is_ours(config, self._run):
            return None
        fingerprint = self._run.here.launch.fingerprint
        return {**fingerprint.key, **fingerprint.context}

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        if self._run.results.records:
            output_json["attnbench"] = to_plain(self._run.file())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """Hold back signals, end the run's own part, and have pytest-benchmark save through attnbench."""
        if self._termination is not None:
            self._termination.hold()
        self._finish_run(session)
        benchmarks = benchmark_session(self._config) if is_ours(self._config, self._run) else None
        if benchmarks is not None:
            self._write_through(session, benchmarks)
        if not self._run.results.records:
            if not is_recording(self._config):
                return (yield)
            with nothing_saved_is_no_warning():  # the user asked for no file; why nothing ran is said elsewhere
                return (yield)
        if benchmarks is not None and benchmarks.measured_nothing and (benchmarks.json or benchmarks.name):
            benchmarks.save_unmeasured()
        with nothing_saved_is_no_warning():  # it was saved above
            return (yield)

    def _finish_run(self, session: pytest.Session) -> None:
        fails = self._run.finish(ended_by=str(session.shouldfail or session.shouldstop or ""))
        if fails and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _write_through(self, session: pytest.Session, benchmarks: BenchmarkSession) -> None:
        benchmarks.write_with(
            json=lambda text: self._write(session, benchmarks, text, _write_json),
            save=lambda text: self._write(session, benchmarks, text, _write_save),
        )

    def _write(self, session: pytest.Session, benchmarks: BenchmarkSession, text: Text, write: Write) -> None:
        """Write one file, or say in a sentence why not and fail the run: the other one is written all the same."""
        where = (benchmarks.json if write is _write_json else benchmarks.folder) or "its storage"
        try:
            message = write(benchmarks, text())
        except (OSError, ValueError, TypeError, RecursionError, MemoryError) as exc:
            cause = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
            self._complain(f"attnbench: could not save this run to {where}: {cause}; files stored before are unchanged")
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
            return
        if not is_recording(self._config):
            with contextlib.suppress(OSError):  # a terminal that was closed: the next file is still to be written
                benchmarks.say(message)

    def _complain(self, text: str) -> None:
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            with contextlib.suppress(OSError):
                reporter.write_line("")  # ensure_newline() does not see the progress dots of -q
                reporter.write_line(text, red=True, bold=True)


def _write_json(benchmarks: BenchmarkSession, text: bytes) -> str:
    from attnbench.storage.writing import write_whole

    assert benchmarks.json is not None
    write_whole(benchmarks.json, text)
    return f"Wrote benchmark data in: {benchmarks.json}"


def _write_save(benchmarks: BenchmarkSession, text: bytes) -> str:
    from attnbench.storage.folders import next_number
    from attnbench.storage.writing import write_new

    folder = benchmarks.folder
    assert folder is not None
    path = write_new(folder, lambda number: f"{number:04}_{benchmarks.name}.json", lambda: next_number(folder), text)
    return f"Saved benchmark data in: {path}"
