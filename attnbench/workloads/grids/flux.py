"""Flux.1: the benchmark that attention kernels are compared with in public."""

from __future__ import annotations

from attnbench.workload import Workload
from attnbench.workloads.grids.grid import Grid

TEXT_TOKENS = (128, 256, 320, 384, 448, 512)
#: A path of diffusers at 58eb52c, below src/diffusers.
SOURCE = (
    "diffusers, models/transformers/transformer_flux.py, pipelines/flux/pipeline_flux.py: 24 heads × 128, one joint "
    "sequence of (pixels/16)² image tokens and at most 512 text tokens"
)


def _of(pixels: int, why: str) -> tuple[Workload, ...]:
    return tuple(
        Workload(
            name=f"flux-{pixels}px-t{text_tokens}",
            batch=1,
            seq=(pixels // 16) ** 2 + text_tokens,
            heads=24,
            head_dim=128,
            why=f"{why}, {text_tokens} text tokens",
            source=SOURCE,
        )
        for text_tokens in TEXT_TOKENS
    )


_1024 = _of(1024, "the Flux benchmark that everybody quotes: a 1024×1024 image")
_512 = _of(512, "Flux at 512×512: a preview, and the size at which launch cost begins to show")
_256 = _of(256, "Flux at 256×256: small enough for a CPU, the same head shape")

FLUX = Grid(
    "flux",
    "Flux.1 at 1024×1024 with six lengths of text",
    SOURCE,
    rows=_1024,
    # All six lengths would take a CPU of two cores four minutes, mostly to compile: too long for a first look.
    tiny=tuple(row for row in _256 if row.name.endswith(("t128", "t256", "t512"))),
    further=(*_512, *_256),
    wall_time="157 s for 240 cases of 21 backends with warm caches, 789 s with cold ones (H200, once each, 2026-11-26)",
)
