"""What is selected: variants × workloads, with which settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from attnbench.globs import UnknownName, require
from attnbench.plugin.settings import Settings
from attnbench.workload import Workload

if TYPE_CHECKING:
    from attnbench.backends.registry import Backend
    from attnbench.backends.variant import Variant


@dataclass(frozen=True)
class Selection:
    """Every selected variant runs on every selected workload; before `select` there is none of either.

    offered: cases before -k, -m and --deselect. without_effect: a sentence per setting that applies to no known case.
    """

    settings: Settings
    variants: Mapping[str, Variant] = field(default_factory=dict)  # by name, `torch_flash@eager`
    workloads: Mapping[str, Workload] = field(default_factory=dict)  # by name
    offered: int = 0
    without_effect: tuple[str, ...] = ()


def select(settings: Settings, device_type: str) -> Selection:
    """What the settings select of the backends that are registered by now: a nested conftest.py may add some.

    Raises pytest.UsageError that names the source of an unknown name and the nearest known ones.
    """
    from attnbench.backends.families import FAMILIES
    from attnbench.backends.hub import hf_kernels
    from attnbench.backends.registry import all_backends
    from attnbench.backends.variant import Variant, select_variants
    from attnbench.timing.injection import require_targets
    from attnbench.workloads.table import grid_workloads, select_workloads

    assert FAMILIES, "imported for its registrations"
    try:
        patterns, from_the_hub = hf_kernels.asked_for(settings.backends)
        backends = {**all_backends(), **from_the_hub}
        if settings.workloads:
            workloads = select_workloads(settings.workloads)
        else:
            workloads = grid_workloads(settings.grids, device_type)
        variants = select_variants(backends, patterns, settings.modes)
        names = [*dict.fromkeys(variant.backend.name for variant in variants), *_names(variants, workloads)]
        require_targets("inject", (injection.glob for injection in settings.injections), names)
        idle_limits = _idle_limits(settings, names, backends)
        require("reference", settings.reference, [str(Variant(b, mode)) for b in backends.values() for mode in b.modes])
    except ValueError as exc:
        source = settings.sources[exc.kind if isinstance(exc, UnknownName) else "workload"]
        raise pytest.UsageError(f"{source}: {exc}") from exc
    return Selection(
        settings,
        variants={str(variant): variant for variant in variants},
        workloads={workload.name: workload for workload in workloads},
        without_effect=idle_limits,
    )


def case_of(item: pytest.Item, selection: Selection) -> tuple[Variant, Workload]:
    """The variant and workload of an attnbench item."""
    params = item.callspec.params  # type: ignore[attr-defined]
    return selection.variants[params["attn_variant"]], selection.workloads[params["attn_workload"]]


def is_selected(item: pytest.Item) -> bool:
    """Whether a case has a variant and a workload: its file may have been collected while their names were unknown."""
    return "attn_variant" in getattr(getattr(item, "callspec", None), "params", ())


def is_case(item: pytest.Item) -> bool:
    """Whether a collected item is one of ours: it uses the fixture `attn_case`."""
    return "attn_case" in getattr(item, "fixturenames", ())


def _names(variants: Sequence[Variant], workloads: Sequence[Workload]) -> list[str]:
    """Every variant and every case, by name."""
    cases = [str(variant.case(workload)) for variant in variants for workload in workloads]
    return [*map(str, variants), *cases]


def _idle_limits(settings: Settings, selected: Sequence[str], backends: Mapping[str, Backend]) -> tuple[str, ...]:
    """A sentence per limit of the ini file or the environment that is of no case that is known here.

    Such a limit stays while other cases are selected. Raises UnknownName for one of the command line that is no selected
    case's.
    """
    from attnbench.backends.variant import select_variants
    from attnbench.timing.injection import require_targets
    from attnbench.workloads.table import all_workloads

    globs = [limit.glob for limit in settings.limits if limit.glob]
    source = settings.sources["limit"]
    try:
        require_targets("limit", globs, selected)
    except UnknownName:
        if source.startswith("--"):
            raise
    else:
        return ()
    known = [*selected, *backends, *_names(select_variants(dict(backends), (), ()), [*all_workloads().values()])]
    messages = []
    for glob in globs:
        try:
            require_targets("limit", [glob], known, "known case")
        except UnknownName as exc:
            messages.append(f"{source} has no effect: {exc}")
    return tuple(messages)
