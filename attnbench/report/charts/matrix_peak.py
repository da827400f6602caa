"""The dense matrix peak of the devices that it was looked up for."""

from __future__ import annotations

import re

#: Dense bf16/fp16 matrix peak with fp32 accumulation in TFLOP/s, by the device name that the driver reports. Sources:
#: NVIDIA's H100, H200, A100, L40S and L4 datasheets. Where one states only the rate with 2:4 sparsity, the dense peak is
#: half of it. A device whose figure was not looked up is not here, and has no plot of the share.
_PEAKS = (
    (r"NVIDIA H100 80GB HBM3", 989.4),
    (r"NVIDIA H100 PCIe", 756.0),
    (r"NVIDIA H200", 989.4),
    (r"(NVIDIA )?A100-(SXM4|PCIE|PCIe)-(40|80)GB|NVIDIA A100 80GB PCIe", 312.0),
    (r"NVIDIA L40S", 362.0),
    (r"NVIDIA L4", 121.0),
)
#: The same of fp8 (A100: int8) with fp32 (int32) accumulation, from the same datasheets.
_EIGHT_BIT_PEAKS = (
    (r"NVIDIA H100 80GB HBM3", 1978.9),
    (r"NVIDIA H100 PCIe", 1513.0),
    (r"NVIDIA H200", 1978.9),
    (r"(NVIDIA )?A100-(SXM4|PCIE|PCIe)-(40|80)GB|NVIDIA A100 80GB PCIe", 624.0),
    (r"NVIDIA L40S", 733.0),
    (r"NVIDIA L4", 242.5),
)


def matrix_peak(device: str) -> float | None:
    """The dense bf16/fp16 matrix peak in TFLOP/s; None for a device that the table does not know.

    Only whole names match: a laptop's part, a cut-down one or a MIG slice of the same name has another peak.
    """
    return next((peak for pattern, peak in _PEAKS if re.fullmatch(pattern, device)), None)


def eight_bit_peak(device: str) -> float | None:
    """The dense fp8/int8 matrix peak in TFLOP/s or TOP/s; None for a device that the table does not know."""
    return next((peak for pattern, peak in _EIGHT_BIT_PEAKS if re.fullmatch(pattern, device)), None)
