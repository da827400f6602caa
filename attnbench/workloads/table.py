"""The table of workloads: the rows of every grid and a user's own, and how names on the command line select them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from attnbench import printable
from attnbench.globs import select
from attnbench.workload import DIRECTIONS, DISTRIBUTION_NAMES, DTYPES, LAYOUTS, MASKS, SPELT_DIRECTIONS, Workload
from attnbench.workloads.grids.grid import usual_lengths
from attnbench.workloads.grids.known import DEFAULT, GRIDS, select_grids

#: A dtype's name on the command line → name of the torch dtype.
TORCH_DTYPES = dict(zip(DTYPES, ("bfloat16", "float16", "float32"), strict=True))

#: Numbers and their signs, as typed or as copied from a report; whether they are four is said when they are not.
_SPELT = re.compile(r"(\d+(?:/\d+)?(?:[x×]\d+(?:/\d+)?)+)((?::[^:]*)*)")
AXES = "BATCHxSEQ[/SEQ_KV]xHEADS[/KV_HEADS]xHEAD_DIM[/HEAD_DIM_V]"
_DIRECTION_OF = {spelt: direction for direction, spelt in SPELT_DIRECTIONS.items()}
#: What may follow the axes and the dtype, as it is shown to somebody who typed something else.
WORDS = (*("causal", "padding[=N+N]", "bool", "additive", "packed=N+N", "dropout=P", *LAYOUTS, *_DIRECTION_OF),)
#: Of an axis: torch's sizes have 64 bits.
MOST = 2**63 - 1
#: Words without a value → the field that they set.
_PLAIN_WORDS: dict[str, dict[str, Any]] = {
    **{dtype: {"dtype": dtype} for dtype in TORCH_DTYPES},
    **{mask: {"mask": mask} for mask in MASKS[1:]},
    **{layout: {"layout": layout} for layout in LAYOUTS},
    **{spelt: {"direction": direction} for spelt, direction in _DIRECTION_OF.items()},
}
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


def grid_workloads(patterns: tuple[str, ...], device: str) -> tuple[Workload, ...]:
    """What the grids that match any of the globs run on this device type, each once; those of `flux` for no glob.

    Raises attnbench.globs.UnknownName with the nearest names for a pattern that matches nothing.
    """
    return tuple(dict.fromkeys(w for grid in select_grids(patterns or (DEFAULT,)) for w in grid.on(device)))


def select_workloads(patterns: tuple[str, ...]) -> tuple[Workload, ...]:
    """Rows that match any of the globs, in table order; a pattern may also spell a workload out (`parse_spelt`).

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
    """The workload that `text` spells out, None when it is a name or glob.

    `BATCHxSEQ[/SEQ_KV]xHEADS[/KV_HEADS]xHEAD_DIM[/HEAD_DIM_V][:DTYPE]`, then any of `WORDS`, each behind a colon. The text
    may hold them in any order; the name of the workload has them in one.
    Raises ValueError when it has another number of axes, an axis of 0, an unknown word, two words of one kind, or a
    combination that cannot be.
    """
    match = _SPELT.fullmatch(text)
    if match is None:
        return None
    axes = [tuple(int(n) for n in axis.split("/")) for axis in re.split("[x×]", match.group(1))]
    if len(axes) != 4:
        raise ValueError(f"workload {text!r}: expected 4 axes ({AXES}[:DTYPE]), got {len(axes)}")
    if len(axes[0]) > 1:
        raise ValueError(f"workload {text!r}: the batch is one number; expected {AXES}")
    (batch,), (seq, *seq_kv), (heads, *kv_heads), (head_dim, *head_dim_v) = axes
    workload = Workload(
        *("", batch, seq, heads, head_dim),
        why="spelt out on the command line",
        seq_kv=seq_kv[0] if seq_kv else None,
        kv_heads=kv_heads[0] if kv_heads else None,
        head_dim_v=head_dim_v[0] if head_dim_v else None,
    )
    said: dict[str, str] = {}
    for at, word in enumerate(match.group(2).split(":")[1:]):
        fields = _fields(word, text, "word" if at else "dtype")
        kind = next(iter(fields))
        if kind in said:
            raise ValueError(f"workload {text!r}: a workload has one {kind}, found {said[kind]} and {word}")
        said[kind] = word
        workload = replace(workload, **fields)
    if workload.mask == "padding" and not workload.lengths:
        workload = replace(workload, lengths=usual_lengths(batch, workload.k_shape[1]))
    _validate(replace(workload, name=text))
    return replace(workload, name=workload.spelt)


def _fields(word: str, text: str, expected: str) -> dict[str, Any]:
    """The fields that a word of a spelt workload sets, by the first of which its kind is known.

    expected: what an unknown one is called, "dtype" or "word". Raises ValueError.
    """
    name, separator, value = word.partition("=")
    if not separator and name in _PLAIN_WORDS:
        return _PLAIN_WORDS[name]
    if name in ("padding", "packed"):
        if not re.fullmatch(r"\d+(\+\d+)*", value):
            raise ValueError(f"workload {text!r}: {name} takes lengths, such as {name}=100+28, got {value!r}")
        lengths = tuple(map(int, value.split("+")))
        return {"packed": lengths} if name == "packed" else {"mask": "padding", "lengths": lengths}
    if name == "dropout":
        if not re.fullmatch(r"0|0?\.\d+", value):
            raise ValueError(f"workload {text!r}: dropout takes a share from 0 to below 1, such as 0.1, got {value!r}")
        return {"dropout": float(value)}
    if name in _PLAIN_WORDS:
        raise ValueError(f"workload {text!r}: {name} takes no value, got {word!r}")
    known = ", ".join(TORCH_DTYPES if expected == "dtype" else WORDS)
    raise ValueError(f"workload {text!r}: unknown {expected} {word!r}; known: {known}")


def _validate(workload: Workload) -> None:
    __tracebackhide__ = True
    printable.require_name("workload name", workload.name)
    for problem in _problems(workload):
        raise ValueError(f"workload {workload.name!r}: {problem}")


def _problems(workload: Workload) -> Iterator[str]:
    """Every reason why there is no such attention problem, with found and needed."""
    if workload.dtype not in DTYPES:
        yield f"unknown dtype {workload.dtype!r}; known: {', '.join(DTYPES)}"
    if min(*workload.q_shape, *workload.v_shape) < 1:
        shape = workload.q_shape if min(workload.q_shape) < 1 else workload.v_shape
        yield f"every axis of {shape} must be at least 1"
        return
    longest = max(*workload.q_shape, *workload.v_shape)
    if longest > MOST:
        yield f"an axis has at most {MOST:,}, found {longest:,}"
        return
    for what, found, known in (
        ("mask", workload.mask, MASKS),
        ("direction", workload.direction, DIRECTIONS),
        ("distribution", workload.distribution, DISTRIBUTION_NAMES),
        ("layout", workload.layout, LAYOUTS),
    ):
        if found not in known:
            yield f"unknown {what} {found!r}; known: {', '.join(known)}"
    batch, keys, kv_heads, _ = workload.k_shape
    if workload.heads % kv_heads:
        yield f"{workload.heads} query heads must be a multiple of {kv_heads} key heads"
    are_lengths = len(workload.lengths) == batch and all(0 <= length <= keys for length in workload.lengths)
    if workload.mask == "padding" and not are_lengths:
        found = "+".join(map(str, workload.lengths)) or "none"
        yield f"mask padding needs {batch} lengths of 0 to {keys}, one for each batch entry, found {found}"
    if workload.mask != "padding" and workload.lengths:
        yield f"lengths belong to mask padding, found mask {workload.mask!r}"
    if workload.packed:
        adds_up = sum(workload.packed) == workload.seq == keys and min(workload.packed) >= 1
        if workload.batch != 1 or not adds_up:
            yield (
                f"packed sequences need batch 1 and lengths of at least 1 that add up to seq, found batch {workload.batch}, "
                f"seq {workload.seq}/{keys} and {'+'.join(map(str, workload.packed))} = {sum(workload.packed)}"
            )
        if workload.mask not in ("none", "causal"):
            yield f"packed sequences take mask none or causal, found {workload.mask!r}"
    if not 0 <= workload.dropout < 1:
        yield f"dropout needs a share from 0 to below 1, found {workload.dropout}"


for _grid in GRIDS:
    for _row in _grid.every_row:
        register_workload(_row)
