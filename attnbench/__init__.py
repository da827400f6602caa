"""attnbench: latency, accuracy and memory regressions of attention kernels, as pytest tests.

What a kernel author imports is here; everything else is reached through the pytest plugin (`attnbench.plugin`).
Importing this package imports neither torch nor pytest.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from attnbench.model import Reason
    from attnbench.workload import Workload
    from attnbench.workloads.masks import cu_seqlens, dense_mask, key_lengths
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
    "cu_seqlens",
    "dense_mask",
    "key_lengths",
    "register",
    "register_workload",
]

#: Where the names of `__all__` are defined, as the imports above say.
_MODULES = ("backends.registry", "backends.requirements", "model", "workload", "workloads.masks", "workloads.table")


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` when it is first used: every pytest run imports this package, for its plugin."""
    from importlib import import_module

    if name in __all__:
        modules = (import_module(f"{__name__}.{module}") for module in _MODULES)
        return next(getattr(module, name) for module in modules if hasattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
