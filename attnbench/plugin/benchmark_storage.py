"""Where pytest-benchmark stores runs here: `--benchmark-storage`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from attnbench.plugin.run_kind import is_ours, runs_tests
from attnbench.plugin.run_state import RunState

PYTEST_BENCHMARK_STORAGE = "file://./.benchmarks"


def choose_storage(config: pytest.Config, run: RunState) -> None:
    """Point pytest-benchmark at the project's folder of stored runs, where the ini key names one.

    pytest-benchmark creates its storage folder whenever pytest starts; a run that neither saves nor compares gets one
    that exists already, so that `--help` and `--collect-only` create nothing.
    """
    if run.settings.baselines is None or config.getoption("benchmark_storage", None) != PYTEST_BENCHMARK_STORAGE:
        return
    option: Any = config.option
    stores = option.benchmark_save or option.benchmark_autosave or option.benchmark_compare
    folder = run.settings.baselines if stores and runs_tests(config) else config.rootpath
    option.benchmark_storage = f"file://{folder}"


def refuse_storage(config: pytest.Config, run: RunState) -> None:
    """Raise pytest.UsageError for a storage that would end pytest-benchmark with a traceback."""
    storage = str(config.getoption("benchmark_storage", PYTEST_BENCHMARK_STORAGE))
    scheme, separator, _ = storage.partition("://")
    if not separator or scheme == "file" or not is_ours(config, run):
        return
    if not scheme.startswith("elasticsearch+"):
        raise pytest.UsageError(
            f"--benchmark-storage: expected file://FOLDER or elasticsearch+http://HOST/…, got {storage!r}"
        )
    if find_spec("elasticsearch") is None:
        raise pytest.UsageError(
            f"--benchmark-storage={storage} needs the package elasticsearch, which is not installed "
            "(pip install 'pytest-benchmark[elasticsearch]')"
        )


def storage_folder(config: pytest.Config) -> Path | None:
    """The folder of a file storage; None for elasticsearch, whose runs we cannot read ahead."""
    storage = str(config.getoption("benchmark_storage"))
    scheme, separator, rest = storage.partition("://")
    if not separator:
        return Path(storage).absolute()
    return Path(rest).absolute() if scheme == "file" else None
