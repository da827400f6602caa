"""What is written into pytest-benchmark's JSON, and what happens when it cannot be written."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Generator
from typing import Any

import pytest

from attnbench.codec import to_plain
from attnbench.plugin.benchmark_saving import BenchmarkSaving, Text, benchmark_saving
from attnbench.plugin.comparing import is_ours, machine_differences
from attnbench.plugin.run_state import Run
from attnbench.plugin.signals import Termination
from attnbench.storage.folders import next_number
from attnbench.storage.writing import write_new, write_whole

Write = Callable[[BenchmarkSaving, bytes], str]  # one file; what pytest-benchmark then says


class Saving:
    """Hooks around pytest-benchmark's saving. They come first when a run ends, so that no signal interrupts it."""

    def __init__(self, config: pytest.Config, run: Run, termination: Termination | None) -> None:
        self._config = config
        self._run = run
        self._termination = termination

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_generate_machine_info(self, config: pytest.Config) -> dict[str, Any] | None:
        if not is_ours(config, self._run):
            return None
        fingerprint = self._run.launch.fingerprint
        return {**fingerprint.key, **fingerprint.context}

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_benchmark_compare_machine_info(
        self, config: pytest.Config, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
    ) -> None:
        if not is_ours(config, self._run) and "attnbench" not in compared_benchmark:
            return
        found = machine_differences(self._run, compared_benchmark["machine_info"])
        if found:
            self._run.say(f"NOT COMPARABLE with the stored run: {', '.join(found)}")
        # pytest-benchmark's own hook runs after this one and would print both machines whole.
        compared_benchmark["machine_info"] = machine_info

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        if self._run.records:
            output_json["attnbench"] = to_plain(self._run.file())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        if self._termination is not None:
            self._termination.hold()
        self._run.finish(str(session.shouldfail or session.shouldstop or ""))
        if self._run.uncompared and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        saving = benchmark_saving(self._config) if is_ours(self._config, self._run) else None
        if saving is not None:
            saving.write_with(
                json=lambda text: self._write(session, saving, text, _write_json),
                save=lambda text: self._write(session, saving, text, _write_save),
            )
        with warnings.catch_warnings():
            if self._run.records:
                if saving is not None and saving.measured_nothing and (saving.json or saving.name):
                    saving.save_unmeasured()
                warnings.filterwarnings("ignore", message="Not saving anything")
            return (yield)

    def _write(self, session: pytest.Session, saving: BenchmarkSaving, text: Text, write: Write) -> None:
        """Write one file, or say in a sentence why not and fail the run: the other one is written all the same."""
        where = (saving.json if write is _write_json else saving.folder) or "its storage"
        try:
            said = write(saving, text())
        except (OSError, ValueError, TypeError, RecursionError, MemoryError) as exc:
            cause = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
            self._complain(f"attnbench: could not save this run to {where}: {cause}; files stored before are unchanged")
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        else:
            with contextlib.suppress(OSError):  # a terminal that was closed: the next file is still to be written
                saving.say(said)

    def _complain(self, text: str) -> None:
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            with contextlib.suppress(OSError):
                reporter.write_line("")  # ensure_newline() does not see the progress dots of -q
                reporter.write_line(text, red=True, bold=True)


def _write_json(saving: BenchmarkSaving, text: bytes) -> str:
    assert saving.json is not None
    write_whole(saving.json, text)
    return f"Wrote benchmark data in: {saving.json}"


def _write_save(saving: BenchmarkSaving, text: bytes) -> str:
    folder = saving.folder
    assert folder is not None
    path = write_new(folder, lambda number: f"{number:04}_{saving.name}.json", lambda: next_number(folder), text)
    return f"Saved benchmark data in: {path}"
