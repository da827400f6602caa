"""Variant: a backend × a compile mode, and the one place that calls torch.compile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench import torch_private
from attnbench.aliases import VARIANTS
from attnbench.backends import autotune
from attnbench.backends.registry import Backend, loaded
from attnbench.globs import UnknownName, select
from attnbench.model import MODES, Case, Compilation, variant_name
from attnbench.workload import Workload

if TYPE_CHECKING:
    from types import ModuleType

    import torch

    from attnbench.backends.registry import AttentionFunction


@dataclass(frozen=True)
class Variant:
    """`torch_flash@default`: what is measured, apart from the workload."""

    backend: Backend
    mode: str

    def __str__(self) -> str:
        return variant_name(self.backend.name, self.mode)

    def case(self, workload: Workload) -> Case:
        return Case(self.backend.name, self.mode, workload.name)

    def load(self, workload: Workload, until: ExitStack) -> AttentionFunction:
        """The backend's call: `[batch, seq, heads, head_dim]` tensors in and out, whatever its layout. Not compiled yet.

        It is valid until `until` is closed, which undoes what the backend's `load` has set up.

        The layout rule, the same for every backend: inputs lie in memory as the workload's caller holds them; a "bhsd"
        backend gets transposed views inside the call, and any copy it makes of them is inside the call too. For a caller
        with layout "bshd_contiguous" the copies are made here, as its own code would make them.
        Raises whatever the library raises on import.
        """
        attention = until.enter_context(loaded(self.backend, workload))
        return in_common_layout(attention, self.backend.layout, copies=workload.layout == "bshd_contiguous")

    def compiled(self, attention: AttentionFunction) -> AttentionFunction:
        """The call that is timed: what `load` gave, through torch.compile in every mode but eager."""
        if self.mode == "eager":
            return attention
        import torch

        # Every case compiles in a fresh dynamo state: backends share code objects, and past eight shapes dynamo's
        # recompile limit would raise (fullgraph) or quietly run eager under a compiled name.
        torch.compiler.reset()
        torch_private.clear_compile_counts()
        return torch.compile(
            attention,
            fullgraph=self.backend.fullgraph,
            dynamic=False,
            mode=None if self.mode == "default" else self.mode,
        )

    def compilation(self, modules_before: Sequence[ModuleType] = ()) -> Compilation | None:
        """What torch.compile made of the call since `compiled`: graphs, breaks and choices; None for eager.

        modules_before: what `autotune.loaded_modules` returned at that time.
        """
        if self.mode == "eager":
            return None
        counts = torch_private.compile_counts()
        times: Counter[str] = Counter()
        for explained, count in counts["graph_break"].items():
            times[explained.strip().splitlines()[0]] += count
        breaks = tuple(f"{reason} (×{count})" for reason, count in times.items())
        graphs = int(counts["stats"]["unique_graphs"])
        return Compilation(graphs, breaks, autotune.since(modules_before), _cache(counts["inductor"]))


def _cache(counted: Mapping[str, int]) -> str:
    """Whether Inductor compiled anything or found all of it in its cache, by its own counters."""
    if counted.get("fxgraph_cache_miss") or counted.get("fxgraph_cache_bypass"):
        return "cold"
    return "warm" if counted.get("fxgraph_cache_hit") else ""


def in_common_layout(attention: AttentionFunction, layout: str, copies: bool = False) -> AttentionFunction:
    """`attention` as a function of `[batch, seq, heads, head_dim]` tensors.

    copies: whether tensors are copied into the memory order that `layout` names, and the output back.
    """
    if layout == "bshd":
        return attention
    if copies:

        def copied(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            output = attention(*(one.transpose(1, 2).contiguous() for one in (q, k, v)))
            return output.transpose(1, 2).contiguous()

        return copied

    def transposed(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)

    return transposed


def select_variants(backends: dict[str, Backend], names: Sequence[str], modes: Sequence[str]) -> tuple[Variant, ...]:
    """Variants of the backends and modes that the globs match, in the order of registration; all for no glob.

    A name may be another project's, which means one variant (attnbench/aliases.py), unless a backend is called so.
    Raises UnknownName for a glob that matches nothing, and when every glob matches but no backend has such a mode.
    """
    other_names = [name for name in names if name in VARIANTS and name not in backends]
    meant = {VARIANTS[name] for name in other_names}
    globs = [name for name in names if name not in other_names]
    in_all_modes = _matching("backend", globs, tuple(backends)) if globs or not meant else ()
    chosen = [name for name in backends if name in in_all_modes or any(one.startswith(f"{name}@") for one in meant)]
    wanted = _matching("mode", modes, MODES)
    variants = tuple(
        Variant(backends[b], m)
        for b in chosen
        for m in MODES
        if m in wanted and m in backends[b].modes and (b in in_all_modes or f"{b}@{m}" in meant)
    )
    if not variants:
        offered = "; ".join(f"{name} has {', '.join(backends[name].modes)}" for name in chosen)
        raise UnknownName("mode", f"no variant in mode {', '.join(wanted)}: {offered}")
    return variants


def _matching(kind: str, patterns: Sequence[str], known: tuple[str, ...]) -> tuple[str, ...]:
    matching = {name for pattern in patterns for name in select(kind, pattern, known)}
    return tuple(name for name in known if name in matching) if patterns else known
