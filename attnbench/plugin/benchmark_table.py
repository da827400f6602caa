"""pytest-benchmark's table of attention cases: checked before anything runs, and fitted to the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeAlias

import pytest

from attnbench.globs import UnknownName, require
from attnbench.plugin.benchmark_bridge import BenchmarkSession, Row
from attnbench.plugin.settings import is_given

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

#: Heading and benchmarks.
_Group: TypeAlias = tuple[str | None, list[dict[str, Any]]]


@dataclass(frozen=True)
class _Chosen:
    """What the user chose of the table; the rest is fitted to the terminal."""

    columns: bool
    names: bool
    order: bool


def prepare_table(
    session: BenchmarkSession,
    config: pytest.Config,
    items: Sequence[pytest.Item],
    failed: Callable[[Exception], None],
) -> None:
    """Check what the table is asked for, and have it fitted to the terminal before it is shown.

    Where it cannot be shown all the same, pytest-benchmark calls `failed`. Raises pytest.UsageError.
    """
    session.group_by = _checked_grouping(session.group_by, items)
    if session.draws_histogram and find_spec("pygal") is None:
        raise pytest.UsageError(
            "--benchmark-histogram needs the package pygal, which is not installed "
            "(pip install 'pytest-benchmark[histogram]')"
        )
    chosen = _Chosen(
        columns=bool(config.getoption("benchmark_columns", None)),
        names=is_given(config, "--benchmark-name"),
        order=is_given(config, "--benchmark-sort"),
    )

    def fitted(reporter: pytest.TerminalReporter) -> _WithoutNoise:
        _fit(session, chosen, config.get_terminal_writer().fullwidth)
        return _WithoutNoise(reporter, session.columns)

    session.show_table_through(fitted, failed)


def with_every_parameter(benchmarks: Sequence[dict[str, Any]], group_by: str) -> None:
    """Let benchmarks without a parameter stand in a group of their own, where others have it."""
    names = [word.removeprefix(_PARAMETER) for word in group_by.split(",") if word.startswith(_PARAMETER)]
    for benchmark in benchmarks:
        benchmark["params"] = {**dict.fromkeys(names, _NONE), **(benchmark["params"] or {})}


def as_they_ran(groups: Sequence[_Group], benchmarks: Sequence[dict[str, Any]]) -> list[_Group]:
    """These groups in the order of `benchmarks`, which for workloads is that of their grid: 512 tokens before 1024."""
    places = {id(benchmark): at for at, benchmark in enumerate(benchmarks)}
    # A hook of the user's own may have made groups of copies, or of nothing: these keep their order, behind.
    last = len(places)
    return sorted(groups, key=lambda group: min((places.get(id(one), last) for one in group[1]), default=last))


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


def _fit(session: BenchmarkSession, chosen: _Chosen, width: int) -> None:
    """Choose columns, names and order where the user did not; pytest-benchmark's names stay as long as they fit.

    Rows are in the order of their medians, which pytest-benchmark would sort by their fastest rounds. A table with
    benchmarks that are no attention cases stays as it is.
    """
    rows = [row for group in session.groups for row in group]
    if not rows or not all("case" in (row.get("extra_info") or {}) for row in rows):
        return
    columns = list(session.columns) if chosen.columns else list(COLUMNS)
    if not chosen.names and session.group_by == "group" and not _fits(session, columns, width):
        session.name_of = _short_names(session.name_of, rows)
    if not chosen.columns:
        for column in FIRST_TO_GO:
            if not _fits(session, columns, width):
                columns.remove(column)
        session.columns = columns
    if not chosen.order and "median" in columns:
        session.sorts_by = "median"


def _fits(session: BenchmarkSession, columns: Sequence[str], width: int) -> bool:
    """Whether every table is about as wide as the terminal, or less."""
    return all(_table_width(group, session.name_of, columns) <= width for group in session.groups)


def _table_width(group: Sequence[Row], name_of: Callable[[Row], str], columns: Sequence[str]) -> int:
    value = _WIDTH if len(group) > 1 else _ALONE
    names = max(map(len, map(name_of, group))) + _AFTER_NAME
    return names + sum(_WIDTHS.get(column, value) for column in columns)


def _short_names(name_of: Callable[[Row], str], rows: Sequence[Row]) -> Callable[[Row], str]:
    """Names without the workload, which is the heading of the group, and without the test, where there is only one."""
    tests = {row["name"].partition("[")[0] for row in rows}

    def short(row: Row) -> str:
        case = row["extra_info"]["case"]
        variant = case.removesuffix(f"-{row['group']}")
        test, separator, rest = row["name"].partition(f"[{case}]")
        if not separator:
            return name_of(row)
        return name_of({**row, "name": f"{variant}{rest}" if len(tests) == 1 else f"{test}[{variant}]{rest}"})

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
