"""`--attn-list`: every case, ready or with every reason why not."""

from __future__ import annotations

import warnings

from attnbench.backends.registry import loaded
from attnbench.backends.variant import Variant
from attnbench.execution.local_case import process_state
from attnbench.execution.refusals import refusals, unmet
from attnbench.execution.steps import loading
from attnbench.hardware.device import OpenDevice
from attnbench.model import CaseEnded, Reason
from attnbench.plugin.selection import Selection
from attnbench.report import listing
from attnbench.workload import Workload


def case_list(selection: Selection, device: OpenDevice, only: frozenset[str] | None = None) -> list[str]:
    """The lines of the list. only: the cases that are listed; None lists all that are selected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of libraries about each other, as in cases that run
        entries = [
            listing.Entry(v.backend.name, v.backend.family, v.mode, w, *_state(v, device, w))
            for w in selection.workloads.values()
            for v in selection.variants.values()
            if only is None or str(v.case(w)) in only
        ]
    return listing.listing(f"{device.type} · {device.facts.device_name}", entries)


def _state(variant: Variant, device: OpenDevice, workload: Workload) -> tuple[tuple[Reason, ...], str]:
    """Every reason why a case cannot run here, empty if it is ready, and how. Loads it, unless that may download."""
    backend = variant.backend
    if device.type == "sim":
        return refusals(variant, device, workload), "ready"
    process = process_state(backend.family)
    process.note()
    try:
        if backend.own_process:  # beside the others its library may fail where it would run, or run where it would fail
            return unmet(variant, device, workload), "ready, loaded when it runs"
        reasons = refusals(variant, device, workload)
        if not reasons and not backend.fetches:
            with loading(backend, device.type), loaded(backend, workload):
                pass
    except CaseEnded as ended:
        return ended.reasons, ""
    finally:
        process.put_back()
    return reasons, "ready"
