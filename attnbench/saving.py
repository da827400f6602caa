"""What is written into pytest-benchmark's JSON, and what happens when it cannot be written (layer 4)."""

from __future__ import annotations

import json
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from attnbench.comparing import is_ours, machine_differences
from attnbench.records import to_plain
from attnbench.run import Run


class Saving:
    """Hooks around pytest-benchmark's saving. Registered late, so that it stands between it and the terminal."""

    def __init__(self, config: pytest.Config, run: Run) -> None:
        self._config = config
        self._run = run

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
            self._run.comparison_said.append(f"NOT COMPARABLE with what is compared: {', '.join(found)}")
        # pytest-benchmark's own hook runs after this one and would print both machines whole.
        compared_benchmark["machine_info"] = machine_info

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        if self._run.records:
            output_json["attnbench"] = to_plain(self._run.file())

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        self._run.finish(str(session.shouldfail or session.shouldstop or ""))
        if self._run.uncompared and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        targets = _targets(self._config)
        kept = [_Kept(path) for path in targets.overwritten]
        before = set(targets.folder.glob("*.json")) if targets.folder else set()
        try:
            with warnings.catch_warnings():
                if self._run.records:  # it says so where nothing was measured; we save the rows all the same
                    warnings.filterwarnings("ignore", message="Not saving anything")
                result = yield
            self._save_unmeasured()
        except (OSError, AssertionError) as exc:
            _remove_cut_off(targets, before)
            where = getattr(exc, "filename", None) or targets.said
            self._complain(
                f"attnbench: could not save this run to {where}: {_cause(exc, targets)}; "
                "what was stored before is untouched"
            )
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
            return None
        finally:
            for one in kept:
                one.settle()
        return result

    def _save_unmeasured(self) -> None:
        """Save a run without a single measurement, which pytest-benchmark does not: its rows say why."""
        storing: Any = self._config.pluginmanager.get_plugin("pytest-benchmark")
        name = storing and (storing.save or storing.autosave)
        if not storing or storing.benchmarks or not self._run.records or storing.disabled or not (name or storing.json):
            return
        hook = self._config.hook
        commit_info = hook.pytest_benchmark_generate_commit_info(config=self._config)
        output = hook.pytest_benchmark_generate_json(
            config=self._config,
            benchmarks=[],
            include_data=True,
            machine_info=storing.get_machine_info(),
            commit_info=commit_info,
        )
        hook.pytest_benchmark_update_json(config=self._config, benchmarks=[], output_json=output)
        if storing.json:
            storing.save_json(output)
        if name:
            storing.storage.save(output, name)

    def _complain(self, text: str) -> None:
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line("")  # ensure_newline() does not see the progress dots of -q
            reporter.write_line(text, red=True, bold=True)


class _Targets:
    """The files that this run is about to write."""

    def __init__(self, folder: Path | None, overwritten: list[Path]) -> None:
        self.folder = folder
        self.overwritten = overwritten
        self.said = str(folder or (overwritten[0] if overwritten else "its storage"))


def _targets(config: pytest.Config) -> _Targets:
    storing: Any = config.pluginmanager.get_plugin("pytest-benchmark")
    if storing is None:
        return _Targets(None, [])
    path = getattr(storing.storage, "path", None) if storing.save or storing.autosave else None
    return _Targets(path / storing.machine_id if path else None, [Path(storing.json)] if storing.json else [])


class _Kept:
    """A file that is about to be overwritten, set aside by renaming, which needs no space."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._aside = path.with_name(f"{path.name}.before")
        self._moved = False
        self._existed = path.is_file()
        if self._aside.is_file() and not _is_json(path):  # a run that was killed while it wrote left it there
            self._aside.replace(path)
        if path.is_file():
            try:
                path.rename(self._aside)
                self._moved = True
            except OSError:
                pass  # the folder is read-only: the write will fail, and say so

    def settle(self) -> None:
        """Let what was written stand when it is whole; otherwise bring back what stood there, or remove the piece."""
        if self._moved and _is_json(self._path):
            self._aside.unlink()
        elif self._moved:
            self._aside.replace(self._path)
        elif not self._existed and self._path.is_file() and not _is_json(self._path):
            self._path.unlink()


def _cause(exc: OSError | AssertionError, targets: _Targets) -> str:
    """Why a save failed, in the system's words.

    pytest-benchmark says nothing where it cannot make its folder, and then misses it: so make it, to hear why not.
    """
    missed = isinstance(exc, FileNotFoundError) and exc.filename
    if missed and targets.folder and Path(missed).parent == targets.folder:
        try:
            targets.folder.mkdir(parents=True)
        except OSError as cause:
            exc = cause
    return getattr(exc, "strerror", None) or str(exc) or type(exc).__name__


def _remove_cut_off(targets: _Targets, before: set[Path]) -> None:
    """Remove what a failed save left: a new file that is not whole."""
    for path in set(targets.folder.glob("*.json")) - before if targets.folder else ():
        if not _is_json(path):
            path.unlink(missing_ok=True)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return False
    return True
