"""Why a case cannot run here: *unsupported*, with what is needed and what was found, before anything of it is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

from attnbench.backends import requirements
from attnbench.backends.errors import errors_as_rows
from attnbench.backends.variant import Variant
from attnbench.hardware.device import OpenDevice, free_bytes
from attnbench.model import Reason
from attnbench.printable import described
from attnbench.workload import Workload


def refusals(variant: Variant, device: OpenDevice, workload: Workload) -> tuple[Reason, ...]:
    """Every reason why this case cannot run here: unmet requirements first, then the library's own words.

    Raises CaseEnded (error) where the library fails when it is asked.
    """
    backend = variant.backend
    reasons = unmet(variant, device, workload)
    if reasons or backend.refuses is None or device.type == "sim":
        return reasons
    with errors_as_rows("cannot say whether it runs here", "refuses", device.type):
        refused: Any = backend.refuses(workload, device.type)  # one sentence is easily taken for a tuple of it
        texts = tuple(refused) if isinstance(refused, Iterable) and not isinstance(refused, str) else (refused,)
        if not all(isinstance(text, str) for text in texts):
            raise TypeError(f"`refuses` must return a tuple of sentences, found {described(refused)}")
        return tuple(Reason("refused", text) for text in texts)


def unmet(variant: Variant, device: OpenDevice, workload: Workload) -> tuple[Reason, ...]:
    """Why this case cannot run here, as far as that is known without asking its library.

    Raises CaseEnded (error) where a requirement, or `least_bytes`, fails when it is asked.
    """
    backend = variant.backend
    if device.type == "sim":  # nothing runs there: what else a simulated case shows is the scenario's
        return requirements.unmet((requirements.Features(backend.takes),), device.facts, workload)
    needed = (*requirements.unmet(backend.requirements, device.facts, workload), *_uncaptured(variant.mode, workload))
    return needed or too_large(variant, device.type, workload)


def _uncaptured(mode: str, workload: Workload) -> tuple[Reason, ...]:
    """Why this mode cannot time this workload; empty where it can."""
    if mode != "max-autotune" or workload.direction == "forward":
        return ()
    text = (
        "max-autotune replays CUDA graphs, and a replay may overwrite what the backward pass has still to read: needs "
        f"direction forward, found {workload.direction}"
    )
    return (Reason("mode", text),)


#: The share of the free memory that one call is sure to get: torch hands it out in blocks, between which some is lost. Plain
#: attention that held 93 % of what was free on an H200 ran out of it, and so did its next two cases.
USABLE = 0.9


def too_large(variant: Variant, device: str, workload: Workload) -> tuple[Reason, ...]:
    """Why a case is known to have too little memory, so that this is no error; empty where nobody can tell before."""
    least_bytes = variant.backend.least_bytes
    if least_bytes is None:
        return ()
    with errors_as_rows("cannot say whether it runs here", "least_bytes", device):
        free = free_bytes(device)
        if free is None:
            return ()
        needed: Any = least_bytes(workload, variant.mode)
        if not isinstance(needed, Real):
            raise TypeError(f"`least_bytes` must return a number, found {described(needed)}")
    if needed <= USABLE * free:
        return ()
    found = f"found {free:,} bytes free, of which {USABLE * 100:.0f} % count"
    return (Reason("memory", f"needs at least {needed:,} bytes of the GPU's memory, {found}"),)
