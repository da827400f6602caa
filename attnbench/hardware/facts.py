"""What requirements are checked against: the device, and what is installed. Imports none of the libraries it asks about."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """What requirements are checked against: the device and torch of this process."""

    device: str  # "cpu", "cuda" or "sim"
    device_name: str
    capability: tuple[int, int] | None  # (9, 0) for sm_90; None where there is none
    torch_version: tuple[int, int]


def sm_name(capability: tuple[int, int]) -> str:
    """`sm_90` of compute capability (9, 0)."""
    return f"sm_{capability[0]}{capability[1]}"


def gpu_identity(uuid: str) -> str:
    """What NVIDIA's tools call the GPU with this UUID, `GPU-…`: torch gives it without the prefix."""
    return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution, None when it is not installed. Does not import it."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
