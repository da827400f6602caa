"""attnbench: latency, accuracy and memory regressions of attention kernels, as pytest tests.

What a kernel author imports is here; everything else is reached through the pytest plugin (`attnbench.plugin`).
Importing this package imports neither torch nor pytest.
"""

from attnbench.backends.registry import Backend, OwnProcess, register
from attnbench.backends.requirements import (
    Batch,
    Capability,
    Device,
    Distribution,
    DType,
    Function,
    HeadDim,
    Package,
    TorchVersion,
    TritonDevice,
)
from attnbench.model import Reason, Workload
from attnbench.workloads.table import register_workload

__version__ = "0.1.0"

__all__ = [
    "OwnProcess",
    "Backend",
    "Batch",
    "Capability",
    "DType",
    "Device",
    "Distribution",
    "Function",
    "HeadDim",
    "Package",
    "Reason",
    "TorchVersion",
    "TritonDevice",
    "Workload",
    "register",
    "register_workload",
]
