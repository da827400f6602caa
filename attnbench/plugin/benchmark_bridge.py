"""Everything of pytest-benchmark that is no documented option, hook or fixture: a new release breaks this module alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    #: The fixture `benchmark`.
    Benchmark = BenchmarkFixture

Text = Callable[[], bytes]  # of a file, worked out when it is asked for: what a test stored may not fit into JSON

#: One benchmark as its table and its hooks have it.
Row = dict[str, Any]

#: By the file that is compared with, its entries by the full name of their test.
Compared = dict[Path, dict[str, dict[str, Any]]]


def benchmark_session(config: pytest.Config) -> BenchmarkSession | None:
    """pytest-benchmark's part of this run, None where it is switched off."""
    session = config.pluginmanager.get_plugin("pytest-benchmark")
    return None if session is None else BenchmarkSession(config, session)


def machine_id() -> str:
    """pytest-benchmark's name for this machine: `Linux-CPython-3.11-64bit`."""
    from pytest_benchmark.utils import get_machine_id

    return str(get_machine_id())


def performance_regression() -> type[Exception]:
    """What --benchmark-compare-fail raises where the table was shown."""
    from pytest_benchmark.session import PerformanceRegression

    return PerformanceRegression


@contextmanager
def nothing_saved_is_no_warning() -> Iterator[None]:
    """Drop its warning that it saves nothing because nothing was measured."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Not saving anything")
        yield


class BenchmarkSession:
    """What pytest-benchmark was told to do in this run, and what it has done so far."""

    def __init__(self, config: pytest.Config, session: Any) -> None:
        self._config = config
        self._session = session

    # Timing

    @property
    def is_disabled(self) -> bool:
        """Whether it was told to measure nothing."""
        return bool(self._session.disabled)

    @property
    def times(self) -> bool:
        """Whether benchmarks run, and are timed."""
        return not (self._session.disabled or self._session.skip)

    @property
    def measured_nothing(self) -> bool:
        """Whether it will not save, because nothing was measured; not where it was told to measure nothing."""
        return not self._session.benchmarks and not self._session.disabled

    # Its table, and what it compares with

    @property
    def group_by(self) -> str:
        """What its table is grouped by."""
        return str(self._session.group_by)

    @group_by.setter
    def group_by(self, words: str) -> None:
        self._session.group_by = words

    @property
    def draws_histogram(self) -> bool:
        """Whether --benchmark-histogram was given."""
        return bool(self._session.histogram)

    @property
    def wanted_comparison(self) -> str | bool | None:
        """What --benchmark-compare says: a pattern, or True for the newest run."""
        wanted: str | bool | None = self._session.compare
        return wanted

    @property
    def fails_by_comparison(self) -> bool:
        """Whether --benchmark-compare-fail was given."""
        return bool(self._session.compare_fail)

    @property
    def compared(self) -> Compared:
        """The runs that are compared with, to be changed in place; empty before they are loaded."""
        compared: Compared = self._session.compared_mapping or {}
        return compared

    @property
    def has_regressed(self) -> bool:
        """Whether --benchmark-compare-fail found a slower benchmark."""
        return bool(self._session.performance_regressions)

    @property
    def storage(self) -> str:
        """Where it loads runs from, for people."""
        return str(self._session.storage.location)

    @property
    def groups(self) -> Sequence[Sequence[Row]]:
        """The tables that it shows, each with its rows; empty before everything is measured."""
        return [rows for _, rows in self._session.groups or ()]

    @property
    def columns(self) -> Sequence[str]:
        """The columns of its tables."""
        return list(self._session.columns)

    @columns.setter
    def columns(self, columns: Sequence[str]) -> None:
        self._session.columns = list(columns)

    @property
    def sorts_by(self) -> str:
        """The column by which the rows of its tables are sorted."""
        return str(self._session.sort)

    @sorts_by.setter
    def sorts_by(self, column: str) -> None:
        self._session.sort = column

    @property
    def name_of(self) -> Callable[[Row], str]:
        """What it calls a row."""
        name_format: Callable[[Row], str] = self._session.name_format
        return name_format

    @name_of.setter
    def name_of(self, name_of: Callable[[Row], str]) -> None:
        self._session.name_format = name_of

    def show_table_through(
        self,
        reporter: Callable[[pytest.TerminalReporter], Any],
        failed: Callable[[Exception], None],
    ) -> None:
        """Have it print its tables with what `reporter` makes of pytest's terminal reporter, called before each time.

        Where they cannot be shown, `failed` is called instead of a traceback.
        """
        self._session.display = _GuardedTable(self._session, reporter, failed)

    # Its files

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


class _GuardedTable:
    """pytest-benchmark's table, whose traceback would stand where the figures belong."""

    def __init__(
        self, session: Any, reporter: Callable[[pytest.TerminalReporter], Any], failed: Callable[[Exception], None]
    ) -> None:
        self._session = session
        self._display = session.display
        self._reporter = reporter
        self._failed = failed

    def __call__(self, terminalreporter: pytest.TerminalReporter) -> None:
        try:
            self._display(self._reporter(terminalreporter))
        except performance_regression():
            raise
        except Exception as exc:
            terminalreporter.write_line("")  # it may have ended amid a row
            self._failed(exc)
            self._session.check_regressions()


def time_rounds(
    benchmark: Benchmark,
    call: Callable[[], Any],
    setup: Callable[[], Any],
    count: int,
    rounded: Callable[[list[float]], list[float]],
) -> list[float]:
    """Have the fixture take the rounds; their seconds, as it shows and stores them: through `rounded`."""
    benchmark.pedantic(call, setup=setup, rounds=count)
    timed: Any = benchmark.stats
    timed.stats.data[:] = rounded(timed.stats.data)
    return list(timed.stats.data)


def withdraw(benchmark: Benchmark) -> None:
    """Take the fixture's rounds so far out of the table and the files."""
    benchmark.has_error = True
    timed: Any = benchmark.stats
    if timed is not None:
        timed.stats.data.clear()


def rename(benchmark: Benchmark, suffix: str) -> None:
    """Show the benchmark under a longer name; stored runs are matched by `fullname`, which stays."""
    benchmark.name += suffix


def is_disabled(benchmark: Benchmark) -> bool:
    """Whether the fixture would call once and time nothing."""
    return bool(benchmark.disabled)


def expect_nothing(benchmark: Benchmark) -> None:
    """Spare the user the warning about a fixture that was not used: there was nothing to time."""
    benchmark.skipped = True


def _text(output: Mapping[str, Any]) -> bytes:
    from pytest_benchmark.utils import safe_dumps

    from attnbench.storage.writing import laid_out

    return laid_out(output, partial(safe_dumps, ensure_ascii=True, separators=(",", ":"))).encode()
