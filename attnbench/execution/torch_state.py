"""The parts of a process's state that are torch's.

A part that cannot be read in this torch is left out.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

from attnbench import torch_private
from attnbench.execution import torch_settings
from attnbench.execution.interpreter_state import functions, replaced, set_function
from attnbench.execution.process_state import Part, arrow, never

#: Modules and classes of torch that libraries patch to make others use another attention, and what these depend on.
PATCHED = (
    *("torch", "torch.nn.functional", "torch.Tensor", "torch.cuda", "torch.compiler", "torch.ops.aten"),
    *("torch.nn.attention", "torch.nn.attention.flex_attention", "torch.nn.attention.varlen"),
)
#: What torch itself replaces when another setting is changed.
_FOLLOWING = ("torch.Storage",)


def parts() -> tuple[Part, ...]:
    """Threads, defaults, precision, switches, modes, patched functions, compilers, streams and generators."""
    settings = torch_settings.settings()
    read, write = partial(torch_settings.values, settings), partial(torch_settings.set_value, settings)
    return (
        Part("torch", read, write, torch_settings.described, stays=never, partial=True),
        Part("torch functions", _functions, set_function, describe=replaced, stays=_is_torchs),
        Part("compilers", _configs, _set_config, describe=_described_config, partial=True),
        Part("operators", _overridden, _cannot_be_undone, describe=_added, carried=_with_added),
        Part("torch generators", _generators, _set_generator, quiet=True),
    )


def _functions() -> Mapping[str, Any]:
    """The functions of `PATCHED` modules that are loaded; torch's lazy ones are not loaded for it."""
    import torch

    owners: list[Any] = []
    for path in PATCHED:
        owner = {"torch.Tensor": torch.Tensor, "torch.ops.aten": torch.ops.aten}.get(path, sys.modules.get(path))
        if owner is not None:
            owners.append((owner, path))
    return {name: value for name, value in functions(*owners).items() if name not in _FOLLOWING}


def _is_torchs(_name: str, value: Any) -> bool:
    """Whether torch itself put a function there when it was imported."""
    return str(getattr(value, "__module__", "")).partition(".")[0] in ("torch", "functools", "contextlib", "typing")


def _configs() -> Mapping[str, Any]:
    """Every setting of the compilers that are loaded, with their defaults."""
    configured = {}
    for path in torch_private.COMPILER_CONFIGS:
        if path in sys.modules:
            copied, comparable = sys.modules[path].get_config_copy(), _comparable(path)
            configured.update({f"{path}.{name}": value for name, value in copied.items() if name in comparable})
    return configured


@cache
def _comparable(path: str) -> frozenset[str]:
    """The settings whose copies are equal: one that holds an object of its own kind would seem to change all the time."""
    one, other = (sys.modules[path].get_config_copy() for _ in range(2))
    return frozenset(name for name, value in one.items() if value == other[name])


def _set_config(name: str, value: Any) -> None:
    path = next(path for path in torch_private.COMPILER_CONFIGS if name.startswith(f"{path}."))
    setattr(sys.modules[path], name.removeprefix(f"{path}."), value)


def _described_config(name: str, before: Any, after: Any) -> str:
    short = all(isinstance(value, (bool, int, float, type(None))) for value in (before, after))
    return arrow(name, before, after) if short else name


#: What attention is made of, where a case runs: `aten/_scaled_dot_product_flash_attention/CUDA`.
_OPERATOR = re.compile(r"aten/[^/]*(attention|softmax|mm|matmul)[^/]*/(CPU|CUDA|Composite\w+|Auto\w+)")


def _overridden() -> Mapping[str, Any]:
    """Operators of torch itself that a `torch.library.Library` gave another implementation."""
    return {"aten": frozenset(filter(_OPERATOR.fullmatch, torch_private.library_implementations()))}


def _cannot_be_undone(_name: str, _value: Any) -> None:
    """Only the object that registered an implementation can remove it, and there is no way to find that object."""


def _added(_name: str, before: frozenset[str], after: frozenset[str]) -> str:
    new = sorted(name.removeprefix("aten/") for name in after - before)
    return f"implementations of torch's own operators ({', '.join(new[:3])}{' …' if len(new) > 3 else ''})"


def _with_added(noted: frozenset[str], before: frozenset[str], after: frozenset[str]) -> frozenset[str]:
    return (noted - (before - after)) | (after - before)


def _generators() -> Mapping[str, Any]:
    import torch

    return {"cpu": torch.get_rng_state().numpy().tobytes()}


def _set_generator(_name: str, value: bytes) -> None:
    import torch

    torch.set_rng_state(torch.frombuffer(bytearray(value), dtype=torch.uint8))
