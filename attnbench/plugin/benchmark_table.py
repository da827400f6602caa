"""pytest-benchmark's table of attention cases: what cannot be shown is refused before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import pytest

from attnbench.globs import UnknownName, require
from attnbench.plugin.benchmark_bridge import BenchmarkSession

#: What pytest-benchmark groups its table by, beside `param:NAME`.
GROUPINGS = ("group", "name", "func", "fullname", "fullfunc", "param")
_PARAMETER = "param:"
#: Stands for a parameter that a benchmark does not have, in the heading of its group.
_NONE = "–"


def prepare_table(session: BenchmarkSession, items: Sequence[pytest.Item], failed: Callable[[Exception], None]) -> None:
    """Check what the table is asked for; where it cannot be shown all the same, pytest-benchmark calls `failed`.

    Raises pytest.UsageError.
    """
    session.group_by = _checked_grouping(session.group_by, items)
    if session.draws_histogram and find_spec("pygal") is None:
        raise pytest.UsageError(
            "--benchmark-histogram needs the package pygal, which is not installed "
            "(pip install 'pytest-benchmark[histogram]')"
        )
    session.guard_table(failed)


def with_every_parameter(benchmarks: Sequence[dict[str, Any]], group_by: str) -> None:
    """Let benchmarks without a parameter stand in a group of their own, where others have it."""
    names = [word.removeprefix(_PARAMETER) for word in group_by.split(",") if word.startswith(_PARAMETER)]
    for benchmark in benchmarks:
        benchmark["params"] = {**dict.fromkeys(names, _NONE), **(benchmark["params"] or {})}


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
