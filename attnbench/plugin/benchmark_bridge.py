"""What stands between attention cases and pytest-benchmark's comparison and table.

pytest-benchmark compares what has the same full name, and finds out what it cannot show when everything is measured.
Here a case is compared with the stored one of the same id, and what cannot be shown is refused before anything runs.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from importlib.util import find_spec
from typing import Any

import pytest

from attnbench import printable
from attnbench.globs import UnknownName, require
from attnbench.model import Status
from attnbench.plugin import other_plugins
from attnbench.plugin.comparing import runs_tests
from attnbench.plugin.run_state import Run, case_of, is_case
from attnbench.storage.counterparts import Counterparts, Wanted, counterparts
from attnbench.units import counted, listed

#: What pytest-benchmark groups its table by, beside `param:NAME`.
GROUPINGS = ("group", "name", "func", "fullname", "fullfunc", "param")
_PARAMETER = "param:"
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
        storing.display = _Guarded(self, storing.display)
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
                f"not compared, as {path} stored the workload of that name with another shape, dtype or input: "
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
            say(f"stored by several tests, of which the first counts: {listed(here.repeated)}")
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


class _Guarded:
    """pytest-benchmark's display, whose traceback would stand where the figures belong."""

    def __init__(self, bridge: BenchmarkBridge, display: Any) -> None:
        self._bridge = bridge
        self._display = display

    def __call__(self, terminalreporter: pytest.TerminalReporter) -> None:
        from pytest_benchmark.session import PerformanceRegression

        try:
            self._display(terminalreporter)
        except PerformanceRegression:
            raise
        except Exception as exc:
            terminalreporter.write_line("")  # it may have ended amid a row
            self._bridge.failed(exc)
            self._display.__self__.check_regressions()


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
