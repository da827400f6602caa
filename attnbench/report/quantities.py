"""What several formats show of one record or launch, worked out from what is stored."""

from __future__ import annotations

import math

from attnbench import stats
from attnbench.model import Check, Launch, Record

#: Element types that a 16-bit matrix peak is for.
SIXTEEN_BIT = ("bf16", "fp16")
UNKNOWN_DEVICE = "unknown device"
#: Bytes of one element.
_ELEMENT_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4, "fp64": 8}


def device_name(launch: Launch) -> str:
    """Name of its device model, which says so where it is simulated: `NVIDIA H200`, `simulated device`."""
    name = str(launch.fingerprint.key.get("device") or UNKNOWN_DEVICE)
    return f"{name} (simulated)" if launch.simulated and "simulated" not in name else name


def median_s(record: Record) -> float | None:
    """Median seconds of one call; None without a latency."""
    return stats.median_s(record.sample.rounds_s) if record.sample else None


def tflop_per_s(record: Record) -> float | None:
    """10¹² FLOP per second at the median; None without a latency."""
    median = median_s(record)
    return None if median is None else stats.tflop_per_s(record.workload.flop, median)


def kernel_tflop_per_s(record: Record) -> float | None:
    """10¹² FLOP per second of the attention kernel alone, as benchmarks of quantised kernels quote it; None if unknown."""
    return stats.tflop_per_s(record.workload.flop, record.kernel_s) if record.kernel_s else None


def timed_check(record: Record) -> Check | None:
    """The accuracy on the inputs that are timed; where those were not checked, on the first that were.

    Of a call that returns several tensors, that of the one with the largest rel_l2.
    """
    timed = [check for check in record.checks if check.distribution == record.workload.distribution]
    return max(timed or record.checks[:1], key=_badness, default=None)


def _badness(check: Check) -> float:
    """What is largest for the worst check; one that is not a number is the worst."""
    return math.inf if check.error.nonfinite or math.isnan(check.error.rel_l2) else check.error.rel_l2


def peak_bytes(record: Record) -> int | None:
    """Memory of q, k, v and of all that one call allocates, its output included; None where that was not counted."""
    element = _ELEMENT_BYTES.get(record.workload.dtype)
    if record.workspace_bytes is None or element is None:
        return None
    workload = record.workload
    inputs = sum(math.prod(shape) for shape in (workload.q_shape, workload.k_shape, workload.v_shape))
    return record.workspace_bytes + element * inputs


def intensity(record: Record) -> float:
    """FLOP per byte that one call must move at least: each tensor once."""
    return record.workload.flop / record.workload.bytes_moved


def share_of_matmul(record: Record, launch: Launch) -> float | None:
    """FLOP per second at the median over what this launch's GPU reached in a bf16 product.

    None where one is unknown, and for inputs that have not 16 bits.
    """
    if record.workload.dtype not in SIXTEEN_BIT:
        return None
    rate, reached = tflop_per_s(record), launch.ceilings.matmul_flop_per_s if launch.ceilings else None
    return None if rate is None or not reached else rate * 1e12 / reached


def share_of_copy(record: Record, launch: Launch) -> float | None:
    """Bytes that a call must move at least, per second at the median, over what the GPU reached in a copy."""
    median, reached = median_s(record), launch.ceilings.copy_bytes_per_s if launch.ceilings else None
    return None if median is None or not reached else record.workload.bytes_moved / median / reached
