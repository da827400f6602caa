"""What -v adds to the table of a workload: the spread of the rounds, and the errors on every input distribution."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

from attnbench.aliases import flux_name
from attnbench.model import Record, Status
from attnbench.report.pooling import marked
from attnbench.report.table import WIDTH, fitted, without_empty, wrapped
from attnbench.stats import median_s, quantile
from attnbench.units import milliseconds

_COLUMNS = (
    ("variant", ""),
    ("inputs", ""),
    ("of", ""),
    ("p20", "ms"),
    ("median", "ms"),
    ("p80", "ms"),
    ("absmax", ""),
    ("mae", ""),
    ("mse", ""),
    ("cosine", ""),
    ("2×plain", ""),
)


#: Inputs of the correctness part of the Flux benchmark.
_FLUX_INPUTS = "randn"

_TIMES = (partial(quantile, share=0.2), median_s, partial(quantile, share=0.8))


def spread(records: Sequence[Record], tests: Mapping[str, int], width: int = WIDTH) -> list[str]:
    """One row per case and input distribution of one workload, fastest first; rounds with the timed inputs.

    Where no check is of the timed inputs, the rounds have a row of their own.

    absmax, mae, mse: max |o − r|, mean |o − r| and mean (o − r)² of the output o against the fp64 reference r. of: the
    gradient, where it is one; 2×plain: whether its absmax is within twice that of plain attention.
    """
    rows = []
    ran = [record for record in records if record.status in (Status.MEASURED, Status.CHECKED)]
    for record in sorted(ran, key=lambda one: median_s(one.sample.rounds_s) if one.sample else math.inf):
        name = f"{record.variant}{marked(record.nodeid, tests)}"
        rounds = record.sample.rounds_s if record.sample else ()
        times = [milliseconds(of(rounds)) for of in _TIMES] if rounds else ["", "", ""]
        if rounds and all(check.distribution != record.workload.distribution for check in record.checks):
            rows.append([name, record.workload.distribution, "", *times, *[""] * (len(_COLUMNS) - 6)])
        for check in record.checks:
            timed = bool(rounds) and check.distribution == record.workload.distribution
            error = [f"{value:.2e}" for value in (check.error.max_abs, check.error.mean_abs, check.error.mse)]
            cosine = f"{check.error.cosine:.7f}"
            if check.statistics:  # its distance from attention without dropout says nothing
                error, cosine = ["", "", ""], ""
            shown = times if timed else ["", "", ""]
            of = "" if check.output == "output" else check.output
            twice = ("yes" if check.within_twice else "no") if of and not check.statistics else ""
            rows.append([name, check.distribution, of, *shown, *error, cosine, twice])
    if not rows:
        return []
    header = [[name for name, _ in _COLUMNS], [unit for _, unit in _COLUMNS]]
    workload = records[0].workload
    left = 3 if any(row[2] for row in rows) else 2
    table = fitted(*without_empty(header, rows), left=left, most=width)
    found = {"rounds": any(record.sample for record in ran), "errors": any(record.checks for record in ran)}
    heading = " and ".join(what for what, is_there in found.items() if is_there)
    lines = [f"{workload.name}: {heading}", *table, *_statistics(ran, tests)]
    return [*lines, "", *printed] if (printed := _as_the_flux_benchmark(ran)) else lines


def _as_the_flux_benchmark(records: Sequence[Record]) -> list[str]:
    """The errors of the outputs on `randn` inputs as the Flux benchmark prints its own; empty where there are none.

    Its reference is math attention in fp32, this one fp64.
    """
    lines = [
        f"{flux_name(record.variant):<30}: absmax={error.max_abs:.6f}, mae={error.mean_abs:.6f}, mse={error.mse:.6f}"
        for record in records
        for check in record.checks
        if check.distribution == _FLUX_INPUTS and check.output == "output" and not check.statistics
        for error in (check.error,)
    ]
    return [f"===== Testing shape: {records[0].workload.q_shape} =====", *lines] if lines else []


def _statistics(records: Sequence[Record], tests: Mapping[str, int]) -> list[str]:
    """One sentence for each tensor that drops at random: what was found of it, and what it may be."""
    lines = []
    for record in records:
        for check in (check for check in record.checks if check.statistics):
            figures = (f"{one.name} {one.found:.3g} ({one.low:.3g} to {one.high:.3g})" for one in check.statistics)
            name = f"{record.variant}{marked(record.nodeid, tests)}"
            lines += wrapped(f"{name}, {check.output} on {check.distribution} inputs: {', '.join(figures)}", "  ")
    return lines
