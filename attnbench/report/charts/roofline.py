"""The roofline: throughput over arithmetic intensity, below what a GPU reached and what its datasheet states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from attnbench.model import Record, RunFile
from attnbench.report.charts.chart import SCATTER, Chart, Point
from attnbench.report.charts.matrix_peak import eight_bit_peak, matrix_peak
from attnbench.report.charts.measures import Value, rate_of
from attnbench.report.charts.rows import Row, drawn_once, series_of
from attnbench.report.quantities import SIXTEEN_BIT, device_name, intensity
from attnbench.units import significant


def reached_by_device(runs: Sequence[RunFile]) -> dict[str, tuple[float, float]]:
    """By device what it reached in FLOP and bytes per second: medians over the launches that measured both."""
    by_device: dict[str, list[tuple[float, float]]] = {}
    for launch in {launch.id: launch for run in runs for launch in run.launches}.values():
        one = launch.ceilings
        if one is not None and one.matmul_flop_per_s and one.copy_bytes_per_s:
            by_device.setdefault(device_name(launch), []).append((one.matmul_flop_per_s, one.copy_bytes_per_s))
    return {
        device: (median(flop for flop, _ in mine), median(moved for _, moved in mine))
        for device, mine in by_device.items()
    }


def roofline(
    device: str, problem: str, every: Sequence[Row], reached: tuple[float, float] | None, slugs: Mapping[str, str]
) -> Iterable[Chart]:
    """TFLOP/s over FLOP per byte, below what this GPU reached and the datasheet states.

    Nothing where that was not measured, and for inputs that have not 16 bits.
    """
    if reached is None or every[0].record.workload.dtype not in SIXTEEN_BIT:
        return
    rows, notes = drawn_once(every)
    matmul, copy = reached[0] / 1e12, reached[1] / 1e12
    points = [(row, rate_of(row.record), intensity(row.record)) for row in rows]
    drawable = [(row, _under_roofs(row.record, v, x)) for row, v, x in points]
    ridge = matmul / copy
    across = [ridge, *(x for _, _, x in points)]
    low, high = min(across) / 8, max(across) * 2  # so far down that both axes are logarithmic, and the slope a line
    roof_words = [f"this GPU: product {significant(matmul, 3)} TFLOP/s, copy {significant(copy, 3)} TB/s"]
    roofs: list[tuple[tuple[float, float], ...]] = [((low, low * copy), (ridge, matmul), (high, matmul))]
    peaks = (("16-bit", matrix_peak(device)), ("8-bit", eight_bit_peak(device)))
    for name, peak in peaks:
        if peak is not None:
            roofs.append(((peak / copy, peak), (high, peak)))
            roof_words.append(f"{name} datasheet {significant(peak, 4)}")
    yield Chart(
        "roofline",
        "",
        device,
        SCATTER,
        "Roofline",
        f"{device} · {problem} · {', '.join(roof_words)}",
        "arithmetic intensity (FLOP per byte that must be moved at least)",
        "throughput (TFLOP/s)",
        "TFLOP/s",
        series_of(drawable, slugs),
        lower_is_better=False,
        notes=(
            *notes,
            "Bytes are each tensor once: a kernel that reads one twice moves more.",
            "A kernel that computes in 8 bits may pass the 16-bit roofs.",
        ),
        roofs=tuple(roofs),
    )


def _under_roofs(record: Record, rate: Value, x: float) -> Point:
    told = (f"{significant(rate[0], 4)} TFLOP/s", f"{significant(x, 4)} FLOP per byte")
    return Point(record.workload.seq, record.workload.name, *rate, x=x, told=told)
