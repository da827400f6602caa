"""The dense matrix peak of the devices that it was looked up for."""

from __future__ import annotations

import re

#: Dense matrix peaks by the device name that the driver reports: of bf16 and fp16 with fp32 accumulation in TFLOP/s, and
#: of fp8 with fp32 accumulation (A100: of int8, in TOP/s). Sources: NVIDIA's H100, H200, A100, L40S and L4 datasheets. Where
#: one states only the rate with 2:4 sparsity, the dense peak is half of it. A device whose figures were not looked up is not
#: here, and has no plot of the share.
_PEAKS = (
    (r"NVIDIA H100 80GB HBM3", 989.4, 1978.9),
    (r"NVIDIA H100 PCIe", 756.0, 1513.0),
    (r"NVIDIA H200", 989.4, 1978.9),
    (r"(NVIDIA )?A100-(SXM4|PCIE|PCIe)-(40|80)GB|NVIDIA A100 80GB PCIe", 312.0, 624.0),
    (r"NVIDIA L40S", 362.0, 733.0),
    (r"NVIDIA L4", 121.0, 242.5),
)


def matrix_peak(device: str) -> float | None:
    """The dense bf16/fp16 matrix peak in TFLOP/s; None for a device that the table does not know.

    Only whole names match: a laptop's part, a cut-down one or a MIG slice of the same name has another peak.
    """
    return next((peak for pattern, peak, _ in _PEAKS if re.fullmatch(pattern, device)), None)


def eight_bit_peak(device: str) -> float | None:
    """The dense fp8/int8 matrix peak in TFLOP/s or TOP/s; None for a device that the table does not know."""
    return next((peak for pattern, _, peak in _PEAKS if re.fullmatch(pattern, device)), None)
