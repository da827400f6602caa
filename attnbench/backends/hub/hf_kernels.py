"""Kernels of the Hugging Face Hub, through the package `kernels`: two by name, and any other that is asked for.

What is loaded is decided by `kernels`: a folder that `LOCAL_KERNELS` names, the commit of a lock file, the cache under
`HF_HUB_OFFLINE`, else the Hub. Nothing but `load` reaches the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attnbench.backends.flash_attn import Flash3Build, attention_alone
from attnbench.backends.hub.kernel_name import HubKernel, hub_kernel
from attnbench.backends.hub.loading import loaded
from attnbench.backends.registry import Backend, add_backend, all_backends
from attnbench.backends.requirements import Device, Distribution, Package, Requirement
from attnbench.model import MODES
from attnbench.workload import Workload

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import AttentionFunction

FAMILY = "hf-kernels"

#: Versions that are there on the Hub and have builds on torch's stable ABI, so one for every torch from 2.11 on.
FLASH_ATTN_2 = HubKernel("kernels-community/flash-attn2", "3")
FLASH_ATTN_3 = HubKernel("kernels-community/flash-attn3", "1")


@dataclass(frozen=True)
class Known:
    """What is known of a kernel beyond its name: the fields of `Backend`."""

    requires: tuple[Requirement, ...] = (Device("cpu", "cuda"),)
    route: Mapping[str, str] = field(default_factory=dict)
    foreign: Mapping[str, str] = field(default_factory=dict)


def _as_installed(name: str) -> Known:
    """What is known of the backend that runs the same kernel from an installed package, which is not needed then."""
    other = all_backends()[name]
    needed = tuple(r for r in other.requires if not isinstance(r, (Distribution, Package, Flash3Build)))
    return Known(needed, other.route, other.foreign)


#: Both are builds of flash-attn's sources, so they run its device kernels, whatever version is asked for.
KNOWN = {
    (FLASH_ATTN_2.repo, FLASH_ATTN_2.function): _as_installed("flash_attn_2"),
    (FLASH_ATTN_3.repo, FLASH_ATTN_3.function): _as_installed("flash_attn_3"),
}


def backend(kernel: HubKernel, name: str = "", *, never_run: bool = False) -> Backend:
    """A kernel on the Hub as a backend, under the name that its parts make where none is given.

    All modes: whether dynamo traces a kernel is its author's doing, so a graph break is said and a call without a graph
    is an error row.
    """
    known = KNOWN.get((kernel.repo, kernel.function), Known())
    return Backend(
        _loader(kernel),
        name or kernel.backend,
        FAMILY,
        tolerance=kernel.tolerance,
        layout=kernel.layout,
        modes=MODES,
        requires=(Distribution("kernels"), *known.requires),
        route=known.route,
        foreign=known.foreign,
        fullgraph=False,
        fetches=True,
        source=lambda: loaded(kernel).source,
        never_run=never_run,
    )


def _loader(kernel: HubKernel) -> Callable[[Workload], AttentionFunction]:
    def load(workload: Workload) -> AttentionFunction:
        del workload
        function = loaded(kernel).function(kernel)

        def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return attention_alone(function(q, k, v))

        return attention

    load.__doc__ = f"`{kernel.asked}`, a kernel of the Hugging Face Hub"
    return load


def asked_for(patterns: Sequence[str]) -> tuple[tuple[str, ...], dict[str, Backend]]:
    """`patterns` with every kernel on the Hub that they spell replaced by its backend's name, and those backends.

    Raises UnknownName for one that is not spelt right.
    """
    names, backends = [], {}
    for pattern in patterns:
        kernel = hub_kernel(pattern)
        if kernel is not None:
            backends[kernel.backend] = backend(kernel)
        names.append(kernel.backend if kernel else pattern)
    return tuple(names), backends


add_backend(backend(FLASH_ATTN_2, "hf_flash_attn"))
add_backend(backend(FLASH_ATTN_3, "hf_flash_attn3", never_run=True))
