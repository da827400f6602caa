"""What attention cases are compared with by pytest-benchmark: `--benchmark-compare`, `--benchmark-compare-fail`.

pytest-benchmark compares what has the same full name. Here a case is compared with the stored one of the same id, and
what cannot be compared is refused before anything runs. Verdicts rest on reviewed sessions instead (retest.py).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from attnbench import printable
from attnbench.codec import Unreadable
from attnbench.fingerprint import differences
from attnbench.model import Fingerprint, Status
from attnbench.plugin import other_plugins
from attnbench.plugin.benchmark_bridge import BenchmarkSession, benchmark_session, machine_id
from attnbench.plugin.benchmark_storage import storage_folder
from attnbench.plugin.benchmark_table import as_they_ran, prepare_table, with_every_parameter
from attnbench.plugin.run_kind import is_ours, runs_tests
from attnbench.plugin.run_state import RunState
from attnbench.plugin.selection import case_of, is_case
from attnbench.units import counted, listed

if TYPE_CHECKING:
    from attnbench.storage.counterparts import Counterparts, Wanted


def choose_comparison(config: pytest.Config, run: RunState) -> None:
    """Decide what `--benchmark-compare` reads, and read it before pytest-benchmark does.

    Raises pytest.UsageError for a file that was asked for by name and cannot be used.
    """
    option: Any = config.option
    wanted = config.getoption("benchmark_compare", None)
    if not wanted or not is_ours(config, run):
        return
    if not runs_tests(config):
        option.benchmark_compare = []
        return
    folder = storage_folder(config)
    if folder is None:
        return
    from attnbench.storage.comparison_file import find_comparison_file, matching

    if wanted is True:
        comparison = find_comparison_file(folder, run.here.device.facts.device_name)
        for message in comparison.messages:
            run.results.remark(message)
        if comparison.choice:
            run.results.announce(comparison.choice)
        option.benchmark_compare = str(comparison.path) if comparison.path else []
    else:
        _require_readable(folder, wanted)
        if not matching(folder, machine_id(), wanted):
            run.results.remark(f"nothing to compare with: no stored run in {folder} matches {wanted}")
            option.benchmark_compare = []
    if option.benchmark_compare_fail and not option.benchmark_compare:
        raise pytest.UsageError(f"--benchmark-compare-fail: {run.results.remarks[-1]}")


def machine_differences(here: Fingerprint, theirs: dict[str, Any]) -> tuple[str, ...]:
    """What differs from a stored `machine_info`, in the fields that comparability rests on."""
    there = Fingerprint({name: theirs.get(name) for name in here.key}, {})
    if "protocol" not in theirs:
        return ("it was not recorded by attnbench, so its machine is unknown",)
    return differences(here, there)


class ComparisonHooks:
    """Hooks around pytest-benchmark's own. Registered before the saving, so that they stand inside of it."""

    def __init__(self, config: pytest.Config, run: RunState) -> None:
        self._config = config
        self._run = run
        self._documents: list[dict[str, Any]] = []  # the runs that are compared with
        self._session: pytest.Session | None = None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._session = session

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_benchmark_compare_machine_info(
        self, config: pytest.Config, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
    ) -> None:
        self._documents.append(compared_benchmark)
        if not is_ours(config, self._run) and "attnbench" not in compared_benchmark:
            return
        differing = machine_differences(self._run.here.launch.fingerprint, compared_benchmark["machine_info"])
        if differing:
            self._run.results.remark(f"NOT COMPARABLE with the stored run: {', '.join(differing)}")
        # pytest-benchmark's own hook runs after this one and would print both machines whole.
        compared_benchmark["machine_info"] = machine_info

    @pytest.hookimpl(trylast=True)  # after the names of the cases were looked at
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Refuse what pytest-benchmark could not show, and find the counterparts of the cases.

        Raises pytest.UsageError, before anything runs.
        """
        cases = [item for item in session.items if is_case(item)]
        if not cases or not runs_tests(self._config):
            return
        if not hasattr(self._config, "workerinput"):
            other_plugins.refuse_forks(cases)
            for sentence in other_plugins.messages_about_markers(cases, self._run.settings):
                self._run.results.remark(sentence)
        benchmarks = benchmark_session(self._config)
        if benchmarks is None or not benchmarks.times or self._run.here.is_child:
            return
        prepare_table(benchmarks, self._config, session.items, self.failed)
        if benchmarks.fails_by_comparison and not benchmarks.compared:
            raise pytest.UsageError(_nothing_compared(benchmarks))
        self._find_counterparts(benchmarks, cases)

    def _find_counterparts(self, benchmarks: BenchmarkSession, cases: Sequence[pytest.Item]) -> None:
        """Have pytest-benchmark find the entry of the same case under the full name that the case has here."""
        from attnbench.storage.counterparts import Wanted, counterparts

        selected = ((item.nodeid, *case_of(item, self._run.selection)) for item in cases)
        wanted = {nodeid: Wanted(str(variant.case(workload)), workload) for nodeid, variant, workload in selected}
        document_of = {id(entry): document for document in self._documents for entry in document["benchmarks"]}
        runs: list[Counterparts] = []
        for path, entries in benchmarks.compared.items():
            document: dict[str, Any] = next((document_of[id(entry)] for entry in entries.values()), {"benchmarks": []})
            here = counterparts(document, wanted)
            for nodeid in wanted:
                entries.pop(nodeid, None)
            entries.update(here.entries)
            for sentence in _compared_by_case(str(path), here, wanted):
                self._run.results.remark(sentence)
            runs.append(here)
        if benchmarks.fails_by_comparison and not any(here.entries for here in runs):
            stored = list(dict.fromkeys(case for here in runs for case in here.stored))
            holds = printable.message(_held(stored, any(here.other_problem for here in runs)))
            paths = ", ".join(map(str, benchmarks.compared))
            selected_cases = {one.case for one in wanted.values()}  # which may each be in several tests
            raise pytest.UsageError(
                f"--benchmark-compare-fail: none of the {len(selected_cases)} selected cases is in the stored run "
                f"({paths}), which {holds}: compare with a run of these cases, or save one first with "
                "--benchmark-save=NAME"
            )

    @pytest.hookimpl(optionalhook=True, wrapper=True)
    def pytest_benchmark_group_stats(
        self, benchmarks: list[dict[str, Any]], group_by: str
    ) -> Generator[None, Any, Any]:
        if not self._run.results.records:
            return (yield)
        with_every_parameter(benchmarks, group_by)
        groups = yield
        return as_they_ran(groups, benchmarks) if group_by == "group" else groups

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """End pytest-benchmark's part, whatever it raises, so that the section is printed."""
        try:
            result = yield
        except pytest.exit.Exception:
            raise
        except Exception as exc:
            if not self._run.results.records:
                raise
            self.failed(exc)
            result = None
        self._fail_where_nothing_was_compared(session)
        return result

    def _fail_where_nothing_was_compared(self, session: pytest.Session) -> None:
        """Under --benchmark-compare-fail a run is not green whose slow-downs nobody saw, or nobody printed."""
        benchmarks = benchmark_session(self._config)
        records = self._run.results.records
        if benchmarks is None or not benchmarks.fails_by_comparison or not records or not benchmarks.compared:
            return
        measured = [nodeid for nodeid, record in records.items() if record.status is Status.MEASURED]
        is_compared = any(nodeid in entries for nodeid in measured for entries in benchmarks.compared.values())
        if not is_compared and not benchmarks.is_disabled:
            self._run.results.remark(
                "failed by --benchmark-compare-fail: none of the measured cases is in the stored run"
            )
        elif not benchmarks.has_regressed:
            return
        if session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def failed(self, exc: Exception) -> None:
        """Note that pytest-benchmark raised where it shows its table, and fail the run."""
        self._run.results.remark(
            f"pytest-benchmark could not show its table: {type(exc).__name__}: {exc}; the section above is complete"
        )
        if self._session is not None and self._session.exitstatus == pytest.ExitCode.OK:
            self._session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _require_readable(folder: Path, wanted: str) -> None:
    from attnbench.storage.benchmark_json import check_benchmark_file
    from attnbench.storage.comparison_file import matching

    path = Path(wanted)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # a number, or a pattern
    except OSError as exc:
        raise pytest.UsageError(f"--benchmark-compare={wanted}: it cannot be read: {exc.strerror}") from exc
    if path.is_dir() or path.suffix == ".py" or "::" in wanted:
        raise pytest.UsageError(
            f"--benchmark-compare={wanted} names tests, not a stored run: write the tests before --benchmark-compare"
        )
    if not path.exists() and (path.is_absolute() or len(path.parts) > 2):
        raise pytest.UsageError(
            f"--benchmark-compare={wanted}: there is no such file; a number (0003) or a folder and a number "
            f"(nvidia-h200/0003) is looked up in {folder}"
        )
    try:
        for stored in matching(folder, machine_id(), wanted):
            check_benchmark_file(stored)
    except Unreadable as exc:
        raise pytest.UsageError(f"--benchmark-compare={wanted}: {exc}") from exc


def _compared_by_case(path: str, here: Counterparts, wanted: dict[str, Wanted]) -> list[str]:
    """What of the run at `path` is no counterpart of a case of this run, or one to be looked at."""
    selected = {one.case for one in wanted.values()}
    matched = {wanted[nodeid].case for nodeid in here.entries}
    sentences = []
    if here.other_problem:
        sentences.append(
            f"not compared: {path} has this workload with another shape, dtype or input: {listed(here.other_problem)}"
        )
    if not matched:
        there = f"it {_held(here.stored, bool(here.other_problem))}"
        nothing = f"WARNING: none of the {len(selected)} selected cases is in {path} ({there}): nothing is compared"
        return [*sentences, nothing]
    text = f"compared by case with {path}: {len(matched)} of {counted(len(selected), 'selected case')}"
    if alone := [case for case in selected if case not in matched and case not in here.other_problem]:
        text += f"; not stored there: {listed(sorted(alone))}"
    if left := [case for case in here.stored if case not in selected]:
        text += f"; {counted(len(left), 'stored case')} not selected here: {listed(left)}"
    sentences.append(text)
    if here.repeated:
        sentences.append(f"stored by several tests; the first counts: {listed(here.repeated)}")
    if here.injected:
        sentences.append(f"{path} was slowed down on purpose (--attn-inject): {listed(here.injected)}")
    return sentences


def _held(stored: Sequence[str], of_another_problem: bool) -> str:
    """What there is in the place of the selected cases."""
    what = f"holds {listed(stored)}" if stored else "holds no attention case"
    return f"{what}, of workloads with another shape, dtype or input" if of_another_problem else what


def _nothing_compared(benchmarks: BenchmarkSession) -> str:
    wanted = benchmarks.wanted_comparison
    if not wanted:
        return "--benchmark-compare-fail needs a run to compare with: add --benchmark-compare, or drop it"
    matches = "can be read" if wanted is True else f"matches --benchmark-compare={wanted}"
    return (
        f"--benchmark-compare-fail: no stored run in {benchmarks.storage} {matches}: "
        "save one first with --benchmark-save=NAME"
    )
