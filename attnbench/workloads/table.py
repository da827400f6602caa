"""The table of workloads, and how names on the command line select its rows."""

from __future__ import annotations

import re
from dataclasses import replace

from attnbench import printable
from attnbench.globs import select
from attnbench.model import Workload

#: Name of a dtype's name on the command line → name of the torch dtype.
TORCH_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}

#: Text lengths of the Flux benchmark that attention kernels are compared with in public.
FLUX_TEXT_TOKENS = (128, 256, 320, 384, 448, 512)
FLUX_HEADS, FLUX_HEAD_DIM = 24, 128
FLUX_SOURCE = "Flux.1: 24 heads × 128, one joint sequence of (pixels/16)² image tokens and the text tokens"

#: Numbers and their signs, as typed or as copied from a report; whether they are four is said when they are not.
_SPELT = re.compile(r"(\d+(?:[x×]\d+)+)(?::(\w*))?")
_TABLE: dict[str, Workload] = {}


def register_workload(workload: Workload) -> Workload:
    """Add a row to the table; call it where your backend is registered.

    Raises ValueError when the name is taken by a different workload or a field is out of range.
    """
    __tracebackhide__ = True  # a conftest.py that registers wrongly is shown with its own line and the sentence
    _validate(workload)
    known = _TABLE.get(workload.name)
    if known is not None and known != workload:
        raise ValueError(f"workload {workload.name!r} is registered already, with other fields: choose another name")
    _TABLE[workload.name] = workload
    return workload


def all_workloads() -> dict[str, Workload]:
    """Every registered row by name, in the order of registration."""
    return dict(_TABLE)


def default_patterns(device: str) -> tuple[str, ...]:
    """What is selected when nobody names a workload: 1024 px on a GPU (and simulated), half of 256 px on the CPU.

    All six lengths would take a CPU of two cores four minutes, mostly to compile: too long for a first look.
    """
    return ("flux-256px-t128", "flux-256px-t256", "flux-256px-t512") if device == "cpu" else ("flux-1024px-*",)


def select_workloads(patterns: tuple[str, ...]) -> tuple[Workload, ...]:
    """Rows that match any of the globs, in table order; a pattern may also spell a workload out (`1x4608x24x128:bf16`).

    Raises attnbench.globs.UnknownName with the nearest names for a pattern that matches nothing, ValueError for a spelt
    workload with impossible numbers.
    """
    chosen: dict[str, Workload] = {}
    for pattern in patterns:
        spelt = parse_spelt(pattern)
        if spelt is not None:
            chosen[spelt.name] = spelt
        else:
            chosen.update((name, _TABLE[name]) for name in select("workload", pattern, tuple(_TABLE)))
    order = {name: at for at, name in enumerate(_TABLE)}
    return tuple(sorted(chosen.values(), key=lambda w: order.get(w.name, len(order))))


def parse_spelt(text: str) -> Workload | None:
    """The workload that `text` spells out (`BATCHxSEQxHEADSxHEAD_DIM[:DTYPE]`), None when it is a name or glob.

    Raises ValueError when it has another number of axes, an axis of 0, or an unknown dtype.
    """
    match = _SPELT.fullmatch(text)
    if match is None:
        return None
    axes = [int(n) for n in re.split("[x×]", match.group(1))]
    if len(axes) != 4:
        raise ValueError(f"workload {text!r}: expected 4 axes (BATCHxSEQxHEADSxHEAD_DIM[:DTYPE]), got {len(axes)}")
    batch, seq, heads, head_dim = axes
    dtype = "bf16" if match.group(2) is None else match.group(2)
    workload = Workload("", batch, seq, heads, head_dim, dtype, why="spelt out on the command line")
    workload = replace(workload, name=workload.spelt)
    _validate(workload)
    return workload


def _validate(workload: Workload) -> None:
    __tracebackhide__ = True
    printable.require_name("workload name", workload.name)
    if workload.dtype not in TORCH_DTYPES:
        raise ValueError(
            f"workload {workload.name!r}: unknown dtype {workload.dtype!r}; known: {', '.join(TORCH_DTYPES)}"
        )
    if min(workload.shape) < 1:
        raise ValueError(f"workload {workload.name!r}: every axis of {workload.shape} must be at least 1")
    if workload.mask != "none" or workload.direction != "forward":
        raise ValueError(f"workload {workload.name!r}: only mask 'none' and direction 'forward' can be run today")


def _flux(pixels: int, why: str) -> None:
    image_tokens = (pixels // 16) ** 2
    for text_tokens in FLUX_TEXT_TOKENS:
        register_workload(
            Workload(
                name=f"flux-{pixels}px-t{text_tokens}",
                batch=1,
                seq=image_tokens + text_tokens,
                heads=FLUX_HEADS,
                head_dim=FLUX_HEAD_DIM,
                why=f"{why}, {text_tokens} text tokens",
                source=FLUX_SOURCE,
            )
        )


_flux(1024, "the Flux benchmark that everybody quotes: a 1024×1024 image")
_flux(512, "Flux at 512×512: a preview, and the size at which launch cost begins to show")
_flux(256, "Flux at 256×256: small enough for a CPU, the same head shape")
