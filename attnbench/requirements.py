"""What a backend needs, as data that says found and needed (layer 1; imports no library that it asks about)."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from attnbench.model import Reason, Workload


@dataclass(frozen=True)
class Facts:
    """What requirements are held against: the device and torch of this process."""

    device: str  # "cpu", "cuda" or "sim"
    device_name: str
    capability: tuple[int, int] | None  # (9, 0) for sm_90; None where there is none
    torch_version: tuple[int, int]


@dataclass(frozen=True)
class Device:
    """The backend runs on these device types only, `Device("cuda")`."""

    types: tuple[str, ...]

    def __init__(self, *types: str) -> None:
        object.__setattr__(self, "types", types)

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del workload
        if facts.device in self.types:
            return None
        return f"needs device {' or '.join(self.types)}, found {facts.device}"


@dataclass(frozen=True)
class Capability:
    """CUDA compute capability, at least `lowest` and below `below` where given: `Capability((9, 0))`."""

    lowest: tuple[int, int]
    below: tuple[int, int] | None = None

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del workload
        if facts.capability is None:
            return None  # not a CUDA device: Device says so
        if facts.capability < self.lowest or (self.below is not None and facts.capability >= self.below):
            needed = _sm(self.lowest) + (f" to below {_sm(self.below)}" if self.below else " or newer")
            return f"needs {needed}, found {_sm(facts.capability)} ({facts.device_name})"
        return None


@dataclass(frozen=True)
class Package:
    """A Python module of a distribution, not imported here: `Package("flash_attn", distribution="flash-attn")`."""

    module: str
    distribution: str = ""

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del facts, workload
        try:
            spec = importlib.util.find_spec(self.module)
        except (ImportError, ValueError):  # a parent package is missing, or broken: the import will say how
            spec = None
        if spec is not None:
            return None
        return f"package {self.module!r} is not installed (pip install {self.distribution or self.module})"


@dataclass(frozen=True)
class TorchVersion:
    """torch at least `lowest`: `TorchVersion((2, 11))`."""

    lowest: tuple[int, int]

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del workload
        if facts.torch_version >= self.lowest:
            return None
        return f"needs torch {_dotted(self.lowest)} or newer, found {_dotted(facts.torch_version)}"


@dataclass(frozen=True)
class DType:
    """The dtypes that the kernel takes: `DType("bf16", "fp16")`."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del facts
        return (
            None if workload.dtype in self.names else f"needs dtype {' or '.join(self.names)}, found {workload.dtype}"
        )


@dataclass(frozen=True)
class HeadDim:
    """The head dimensions that the kernel takes: `HeadDim(lambda d: d % 8 == 0, "a multiple of 8")`."""

    accepts: Callable[[int], bool]
    needed: str

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del facts
        if self.accepts(workload.head_dim):
            return None
        return f"needs head_dim {self.needed}, found {workload.head_dim}"


Requirement = Device | Capability | Package | TorchVersion | DType | HeadDim


def unmet(requirements: Iterable[Requirement], facts: Facts, workload: Workload) -> tuple[Reason, ...]:
    """All reasons at once, in the order in which the backend states its requirements."""
    found = ((type(r).__name__.lower(), r.unmet(facts, workload)) for r in requirements)
    return tuple(Reason(code, text) for code, text in found if text is not None)


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution, None when it is not installed. Does not import it."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _sm(capability: tuple[int, int]) -> str:
    return f"sm_{capability[0]}{capability[1]}"


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
