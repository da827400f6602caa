"""The table of accuracy: every variant's error per workload and set of inputs."""

from __future__ import annotations

import math

from attnbench.model import SIMILARITIES, Check, Record
from attnbench.report.page.index import Index
from attnbench.report.page.tables import Cell, Column, Row, Table, number, scientific, without_empty
from attnbench.units import significant
from attnbench.workload import Workload

COLUMNS: tuple[Column, ...] = (
    ("Variant", "", ""),
    ("Workload", "tokens", ""),
    ("GPU", "", ""),
    ("Inputs", "", "distribution of q, k and v"),
    ("absmax", "", "largest absolute difference"),
    ("MAE", "", "mean absolute difference"),
    ("MSE", "", "mean squared difference"),
    ("Rel. L2", "", "norm of the difference over the norm of the reference"),
    ("Cosine", "", "similarity with the reference"),
    ("Allowed", "", "what the tolerance permits"),
    ("Result", "", ""),
)


def accuracy_table(index: Index) -> Table:
    """A row per GPU, variant, workload and set of inputs: of several launches the one with the largest error."""
    worst: dict[tuple[str, str, Workload, str], tuple[Record, Check]] = {}
    for case in index.cases:
        for record in case.records:
            for check in record.checks:
                where = (case.gpu, case.name, record.workload, check.distribution)
                if where not in worst or _is_worse(check, worst[where][1]):
                    worst[where] = (record, check)
    return without_empty(COLUMNS, [_row(index, *one) for one in worst.values()])


def _row(index: Index, record: Record, check: Check) -> Row:
    error = check.error
    allowed = ", ".join(_allowed(metric, limit) for metric, limit in check.allowed.items())
    result = "passed" if check.passed else "failed"
    cells = (
        Cell(f"{record.workload.name} ({record.workload.seq})", record.workload.seq),
        Cell(index.gpu_if_several(record)),
        Cell(check.distribution),
        number(error.max_abs, scientific),
        number(error.mean_abs, scientific),
        number(error.mse, scientific),
        number(error.rel_l2, scientific),
        number(error.cosine, lambda value: f"{value:.7f}"),
        Cell(allowed, title="" if check.rows in ("", "all") else f"rows compared: {check.rows}"),
        Cell(f"{result}, {error.nonfinite} not finite" if error.nonfinite else result),
    )
    return Row(index.key(record), index.name(record), cells)


def _allowed(metric: str, limit: float) -> str:
    if metric in SIMILARITIES:
        return f"{metric} ≥ {significant(limit, 4)}"
    return f"{metric} ≤ {scientific(limit)}"


def _is_worse(one: Check, other: Check) -> bool:
    """Whether an error is the larger one, or the only failed one; NaN is worse than any number."""
    if one.passed is not other.passed:
        return not one.passed
    return math.isnan(one.error.rel_l2) or one.error.rel_l2 > other.error.rel_l2
