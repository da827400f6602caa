"""PNG drawn by a second process while this one goes on: two thirds of the time of a report in all formats are plots."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence

from attnbench.report.charts.chart import Chart
from attnbench.report.plots.drawing import Drawn, draw_all
from attnbench.report.plots.matplotlib_settings import unavailable

_FORMATS = ("png",)
_COMMAND = f"from {__name__} import draw_for_parent; draw_for_parent()"


def pngs_beside(charts: Sequence[Chart]) -> Callable[[], Drawn]:
    """Begin to draw the charts as PNG; the call that this returns waits for them. The bytes are those of `draw_all`.

    Where there is one core, or the process fails in any way, the call draws them itself.
    """
    if not charts or _cores() < 2 or unavailable():
        return lambda: draw_all(charts, _FORMATS)
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write(pickle.dumps(charts))
    except OSError:
        return lambda: draw_all(charts, _FORMATS)
    return lambda: _result(process) or draw_all(charts, _FORMATS)


def _result(process: subprocess.Popen[bytes]) -> Drawn | None:
    """What the process drew; None if it failed."""
    assert process.stdout is not None
    with process.stdout as stdout:
        written = stdout.read()
    if process.wait():
        return None
    drawn = pickle.loads(written)
    return drawn if isinstance(drawn, Drawn) else None


def draw_for_parent() -> None:
    """Charts from standard input, what `draw_all` makes of them to standard output; both pickled."""
    gc.set_threshold(700, 5, 1)  # a figure is a cycle that holds 10 MB: do not keep several
    charts = pickle.load(sys.stdin.buffer)
    sys.stdout.buffer.write(pickle.dumps(draw_all(charts, _FORMATS)))


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
