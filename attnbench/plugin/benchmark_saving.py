"""What saving needs of pytest-benchmark beyond its options and hooks: a new release breaks this module alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from attnbench.storage.writing import laid_out

Text = Callable[[], bytes]  # of a file, worked out when it is asked for: what a test stored may not fit into JSON


def benchmark_saving(config: pytest.Config) -> BenchmarkSaving | None:
    """How pytest-benchmark saves in this run, None where it is switched off."""
    session = config.pluginmanager.get_plugin("pytest-benchmark")
    return None if session is None else BenchmarkSaving(config, session)


class BenchmarkSaving:
    """What pytest-benchmark was asked to save, and by whom it is written."""

    def __init__(self, config: pytest.Config, session: Any) -> None:
        self._config = config
        self._session = session

    @property
    def json(self) -> Path | None:
        """Where --benchmark-json goes."""
        return Path(self._session.json) if self._session.json else None

    @property
    def name(self) -> str | None:
        """What the file of --benchmark-save or --benchmark-autosave is called behind its number."""
        name: str | None = self._session.save or self._session.autosave
        return name

    @property
    def folder(self) -> Path | None:
        """Where numbered files go, None where the storage is no folder (elasticsearch)."""
        path = getattr(self._session.storage, "path", None)
        return path / self._session.machine_id if path else None

    @property
    def measured_nothing(self) -> bool:
        """Whether it will not save, because nothing was measured; not where it was told to measure nothing."""
        return not self._session.benchmarks and not self._session.disabled

    def write_with(self, json: Callable[[Text], None], save: Callable[[Text], None]) -> None:
        """Have it hand its files to these, instead of opening them and then looking for what to write.

        A storage that is no folder stays its own.
        """
        self._session.save_json = lambda output: json(partial(_text, output))
        if self.folder is not None:
            self._session.storage.save = lambda output, _name: save(partial(_text, output))

    def save_unmeasured(self) -> None:
        """Save as it does where something was measured: the rows of a run that measured nothing say why."""
        hook = self._config.hook
        commit_info = hook.pytest_benchmark_generate_commit_info(config=self._config)
        hook.pytest_benchmark_update_commit_info(config=self._config, commit_info=commit_info)
        output = hook.pytest_benchmark_generate_json(
            config=self._config,
            benchmarks=[],
            include_data=True,
            machine_info=self._session.get_machine_info(),
            commit_info=commit_info,
        )
        hook.pytest_benchmark_update_json(config=self._config, benchmarks=[], output_json=output)
        if self.json:
            self._session.save_json(output)
        if self.name:
            self._session.storage.save(output, self.name)

    def say(self, text: str) -> None:
        """Print as it does: not under --benchmark-quiet."""
        self._session.logger.info(text)


def _text(output: dict[str, Any]) -> bytes:
    from pytest_benchmark.utils import safe_dumps

    return laid_out(output, partial(safe_dumps, ensure_ascii=True, separators=(",", ":"))).encode()
