"""What stands between attention cases and pytest-benchmark's comparison and table.

pytest-benchmark compares what has the same full name, and finds out what it cannot show when everything is measured.
Here a case is compared with the stored one of the same id, and what cannot be shown is refused before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytest

from attnbench import printable
from attnbench.globs import UnknownName, require
from attnbench.model import Status
from attnbench.plugin import other_plugins
from attnbench.plugin.comparing import is_given, runs_tests
from attnbench.plugin.run_state import Run, case_of, is_case
from attnbench.storage.counterparts import Counterparts, Wanted, counterparts
from attnbench.units import counted, listed

#: What pytest-benchmark groups its table by, beside `param:NAME`.
GROUPINGS = ("group", "name", "func", "fullname", "fullfunc", "param")
_PARAMETER = "param:"
#: Columns of the table where the user chose none, and the order in which they go where the terminal is too narrow.
COLUMNS, FIRST_TO_GO = ("min", "median", "iqr", "rounds"), ("iqr", "min", "rounds")
#: Characters of a column, about, as pytest-benchmark pads it: `  370.2166 (1.00)   `; and what it puts behind a name.
_WIDTHS, _WIDTH, _AFTER_NAME = {"rounds": 8}, 20, 3
#: Of a value's column in the table of a single benchmark, which has nothing to be relative to.
_ALONE = 11
#: Stands for a parameter that a benchmark does not have, in the heading of its group.
_NONE = "–"


class BenchmarkBridge:
    """Hooks around pytest-benchmark's own. Registered before the saving, so that they stand inside of it."""

    def __init__(self, config: pytest.Config, run: Run) -> None:
        self._config = config
        self._run = run
        self._documents: list[dict[str, Any]] = []  # the runs that are compared with
        self._session: pytest.Session | None = None

    @property
    def _storing(self) -> Any:
        return self._config.pluginmanager.get_plugin("pytest-benchmark")

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._session = session

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_benchmark_compare_machine_info(self, compared_benchmark: dict[str, Any]) -> None:
        self._documents.append(compared_benchmark)

    @pytest.hookimpl(trylast=True)  # after the names of the cases were looked at
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Refuse what pytest-benchmark could not show, and find the counterparts of the cases.

        Raises pytest.UsageError, before anything runs.
        """
        storing = self._storing
        cases = [item for item in session.items if is_case(item)]
        if runs_tests(self._config) and not hasattr(self._config, "workerinput"):
            other_plugins.refuse_forks(cases)
            for sentence in other_plugins.said_of_markers(cases, self._run.settings):
                self._run.say(sentence)
        times = storing is not None and not (storing.disabled or storing.skip) and runs_tests(self._config)
        if not cases or not times or self._run.is_child:
            return
        storing.group_by = _checked_grouping(storing.group_by, session.items)
        if storing.histogram and find_spec("pygal") is None:
            raise pytest.UsageError(
                "--benchmark-histogram needs the package pygal, which is not installed "
                "(pip install 'pytest-benchmark[histogram]')"
            )
        storing.display = _Guarded(self, storing, chosen=_chosen_of_the_table(self._config))
        if storing.compare_fail and not storing.compared_mapping:
            raise pytest.UsageError(_nothing_compared(storing))
        self._find_counterparts(cases)

    def _find_counterparts(self, cases: Sequence[pytest.Item]) -> None:
        """Have pytest-benchmark find the entry of the same case under the full name that the case has here."""
        storing = self._storing
        selected = ((item.nodeid, *case_of(item, self._run)) for item in cases)
        wanted = {nodeid: Wanted(str(variant.case(workload)), workload) for nodeid, variant, workload in selected}
        document_of = {id(entry): document for document in self._documents for entry in document["benchmarks"]}
        found: list[Counterparts] = []
        for path, mapping in storing.compared_mapping.items():
            document: dict[str, Any] = next((document_of[id(entry)] for entry in mapping.values()), {"benchmarks": []})
            here = counterparts(document, wanted)
            for nodeid in wanted:
                mapping.pop(nodeid, None)
            mapping.update(here.entries)
            self._say(str(path), here, wanted)
            found.append(here)
        if storing.compare_fail and not any(here.entries for here in found):
            stored = list(dict.fromkeys(case for here in found for case in here.stored))
            holds = printable.message(_held(stored, any(here.other_problem for here in found)))
            selected_cases = {one.case for one in wanted.values()}  # which may each be in several tests
            raise pytest.UsageError(
                f"--benchmark-compare-fail: none of the {len(selected_cases)} selected cases is in the stored run "
                f"({_paths(storing)}), which {holds}: compare with a run of these cases, or save one first with "
                "--benchmark-save=NAME"
            )

    def _say(self, path: str, here: Counterparts, wanted: dict[str, Wanted]) -> None:
        """What of the run at `path` is no counterpart of a case of this run, or one to be looked at."""
        say = self._run.say
        selected = {one.case for one in wanted.values()}
        matched = {wanted[nodeid].case for nodeid in here.entries}
        if here.other_problem:
            say(
                f"not compared: {path} has this workload with another shape, dtype or input: "
                f"{listed(here.other_problem)}"
            )
        if not matched:
            there = f"it {_held(here.stored, bool(here.other_problem))}"
            say(f"WARNING: none of the {len(selected)} selected cases is in {path} ({there}): nothing is compared")
            return
        text = f"compared by case with {path}: {len(matched)} of {counted(len(selected), 'selected case')}"
        if alone := [case for case in selected if case not in matched and case not in here.other_problem]:
            text += f"; not stored there: {listed(sorted(alone))}"
        if left := [case for case in here.stored if case not in selected]:
            text += f"; {counted(len(left), 'stored case')} not selected here: {listed(left)}"
        say(text)
        if here.repeated:
            say(f"stored by several tests; the first counts: {listed(here.repeated)}")
        if here.injected:
            say(f"{path} was slowed down on purpose (--attn-inject): {listed(here.injected)}")

    @pytest.hookimpl(optionalhook=True, wrapper=True)
    def pytest_benchmark_group_stats(
        self, benchmarks: list[dict[str, Any]], group_by: str
    ) -> Generator[None, Any, Any]:
        """Let benchmarks without a parameter stand in a group of their own, where others have it."""
        names = [word.removeprefix(_PARAMETER) for word in group_by.split(",") if word.startswith(_PARAMETER)]
        if self._run.records:
            for benchmark in benchmarks:
                benchmark["params"] = {**dict.fromkeys(names, _NONE), **(benchmark["params"] or {})}
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """End pytest-benchmark's part, whatever it raises, so that the section is printed."""
        try:
            result = yield
        except pytest.exit.Exception:
            raise
        except Exception as exc:
            if not self._run.records:
                raise
            self.failed(exc)
            result = None
        self._fail_where_nothing_was_compared(session)
        return result

    def _fail_where_nothing_was_compared(self, session: pytest.Session) -> None:
        """Under --benchmark-compare-fail a run is not green whose slow-downs nobody saw, or nobody printed."""
        storing = self._storing
        if storing is None or not storing.compare_fail or not self._run.records or not storing.compared_mapping:
            return
        measured = [nodeid for nodeid, record in self._run.records.items() if record.status is Status.MEASURED]
        compared = [
            nodeid for nodeid in measured if any(nodeid in found for found in storing.compared_mapping.values())
        ]
        if not compared and not storing.disabled:
            self._run.say("failed by --benchmark-compare-fail: none of the measured cases is in the stored run")
        elif not storing.performance_regressions:
            return
        if session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def failed(self, exc: BaseException) -> None:
        """Note that pytest-benchmark raised where it shows its table, and fail the run."""
        self._run.say(
            f"pytest-benchmark could not show its table: {type(exc).__name__}: {exc}; the section above is complete"
        )
        if self._session is not None and self._session.exitstatus == pytest.ExitCode.OK:
            self._session.exitstatus = pytest.ExitCode.TESTS_FAILED


@dataclass(frozen=True)
class _Chosen:
    """What the user chose of the table; the rest is fitted to the terminal."""

    columns: bool
    names: bool


def _chosen_of_the_table(config: pytest.Config) -> _Chosen:
    return _Chosen(bool(config.getoption("benchmark_columns", None)), is_given(config, "--benchmark-name"))


class _Guarded:
    """pytest-benchmark's display: fitted to the terminal, and without a traceback where the figures belong."""

    def __init__(self, bridge: BenchmarkBridge, storing: Any, chosen: _Chosen) -> None:
        self._bridge = bridge
        self._storing = storing
        self._display = storing.display
        self._chosen = chosen

    def __call__(self, terminalreporter: pytest.TerminalReporter) -> None:
        from pytest_benchmark.session import PerformanceRegression

        storing = self._storing
        try:
            self._fit(terminalreporter.config.get_terminal_writer().fullwidth)
            self._display(_WithoutNoise(terminalreporter, storing.columns))
        except PerformanceRegression:
            raise
        except Exception as exc:
            terminalreporter.write_line("")  # it may have ended amid a row
            self._bridge.failed(exc)
            storing.check_regressions()

    def _fit(self, width: int) -> None:
        """Choose columns and names where the user did not; the names that pytest-benchmark gives stay as long as they fit.

        A table with benchmarks that are no attention cases stays as it is.
        """
        storing = self._storing
        benchmarks = [one for _, group in storing.groups or () for one in group]
        if not benchmarks or not all("case" in (one.get("extra_info") or {}) for one in benchmarks):
            return
        columns = list(storing.columns) if self._chosen.columns else list(COLUMNS)
        if not self._chosen.names and storing.group_by == "group" and not _fits(storing, columns, width):
            storing.name_format = _short_names(storing.name_format, benchmarks)
        if not self._chosen.columns:
            for column in FIRST_TO_GO:
                if not _fits(storing, columns, width):
                    columns.remove(column)
            storing.columns = columns


def _fits(storing: Any, columns: Sequence[str], width: int) -> bool:
    """Whether every table is about as wide as the terminal, or less."""
    return all(_table_width(group, storing.name_format, columns) <= width for _, group in storing.groups)


def _table_width(
    group: Sequence[dict[str, Any]], name_format: Callable[[dict[str, Any]], str], columns: Sequence[str]
) -> int:
    value = _WIDTH if len(group) > 1 else _ALONE
    names = max(len(name_format(one)) for one in group) + _AFTER_NAME
    return names + sum(_WIDTHS.get(column, value) for column in columns)


def _short_names(
    name_format: Callable[[dict[str, Any]], str], benchmarks: Sequence[dict[str, Any]]
) -> Callable[[dict[str, Any]], str]:
    """Names without the workload, which is the heading of the group, and without the test, where there is only one."""
    tests = {one["name"].partition("[")[0] for one in benchmarks}

    def short(one: dict[str, Any]) -> str:
        case = one["extra_info"]["case"]
        variant = case.removesuffix(f"-{one['group']}")
        test, found, rest = one["name"].partition(f"[{case}]")
        if not found:
            return name_format(one)
        return name_format({**one, "name": f"{variant}{rest}" if len(tests) == 1 else f"{test}[{variant}]{rest}"})

    return short


class _WithoutNoise:
    """A terminal reporter for pytest-benchmark's table: one blank line before it, and no legend of columns that it lacks."""

    def __init__(self, reporter: pytest.TerminalReporter, columns: Sequence[str]) -> None:
        self._reporter = reporter
        self._explained = {"outliers": "  Outliers:", "ops": "  OPS:"}
        self._columns = columns
        # pytest has written a blank line already, unless it is quiet or has printed failures since.
        self._began = reporter.verbosity < 0 or any(reporter.stats.get(kind) for kind in ("failed", "error"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reporter, name)

    def write_line(self, line: str, **markup: bool) -> None:
        began, self._began = self._began, True
        explains = next((column for column, start in self._explained.items() if line.startswith(start)), None)
        unexplained = line == "Legend:" and not self._explained.keys() & {*self._columns}
        if (line or began) and (explains is None or explains in self._columns) and not unexplained:
            self._reporter.write_line(line, **markup)


def _checked_grouping(group_by: str, items: Sequence[pytest.Item]) -> str:
    """What `--benchmark-group-by` names, without blanks. Raises pytest.UsageError for what no benchmark has."""
    words = [word.strip() for word in group_by.split(",")]
    benchmarks = [item for item in items if "benchmark" in getattr(item, "fixturenames", ())]
    callspecs = [getattr(item, "callspec", None) for item in benchmarks]
    parameters = sorted({name for spec in callspecs if spec is not None for name in spec.params})
    try:
        for word in words:
            if word.startswith(_PARAMETER):
                require("parameter of the collected benchmarks", word.removeprefix(_PARAMETER), parameters)
            else:
                require("grouping of pytest-benchmark", word, (*GROUPINGS, "param:NAME"))
    except UnknownName as exc:
        raise pytest.UsageError(f"--benchmark-group-by={group_by}: {exc}") from exc
    return ",".join(words)


def _held(stored: Sequence[str], of_another_problem: bool) -> str:
    """What there is in the place of the selected cases."""
    what = f"holds {listed(stored)}" if stored else "holds no attention case"
    return f"{what}, of workloads with another shape, dtype or input" if of_another_problem else what


def _nothing_compared(storing: Any) -> str:
    if not storing.compare:
        return "--benchmark-compare-fail needs a run to compare with: add --benchmark-compare, or drop it"
    matches = "can be read" if storing.compare is True else f"matches --benchmark-compare={storing.compare}"
    return (
        f"--benchmark-compare-fail: no stored run in {storing.storage.location} {matches}: "
        "save one first with --benchmark-save=NAME"
    )


def _paths(storing: Any) -> str:
    return ", ".join(str(path) for path in storing.compared_mapping)
