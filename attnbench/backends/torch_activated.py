"""PyTorch's SDPA on FlashAttention-3 and 4, put in the place of its own flash implementation.

That is `torch.nn.attention.activate_flash_attention_impl`, which calls the packages' kernels from aten's operators.

The activation is the process's, so it lasts as long as the case: what was active before is put back when the case is over.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench.backends.device_kernels import FLASH_2, FLASH_3, FLASH_4, TORCHS_OWN
from attnbench.backends.flash_attn import BUILD_OF_3, Flash3Build, build_of_3, interface
from attnbench.backends.installed import package_text
from attnbench.backends.registry import register
from attnbench.backends.requirements import Capability, Device, Distribution, DType, HeadDim, Package, TorchVersion
from attnbench.backends.torch_sdpa import pinned, refusals
from attnbench.hardware.facts import Facts, installed_version
from attnbench.model import MODES, CaseEnded, Reason, Status
from attnbench.units import counted
from attnbench.workload import Workload

if TYPE_CHECKING:
    from attnbench.backends.registry import AttentionFunction

#: The module that PyTorch imports for FlashAttention-3 (`register_flash_attention_fa3` in torch/nn/attention/_fa3.py).
_MODULE_OF_3 = "flash_attn_interface"
_TORCH = TorchVersion((2, 11))
_TAKES = ("cross", "gqa", "causal", "backward")  # dropout is refused by both


@dataclass(frozen=True)
class OperatorsOf3:
    """The two operators of FlashAttention-3 that PyTorch calls, which fa3-fwd has not. Silent where none is installed."""

    @property
    def needed(self) -> str:
        return "the operators flash_attn_3.fwd and flash_attn_3.bwd"

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del facts, workload
        installed = interface()
        if installed is None or installed.module == _MODULE_OF_3:
            return None
        return f"needs {self.needed}, found {installed.build} with a forward operator alone, under another name"


#: By how many values its forward function returns, the newest release of flash-attn-4 that is known to return so many.
_RELEASES_OF_4 = {2: "4.0.0b18", 4: "4.0.0b19", 5: "4.0.0b36"}


@dataclass(frozen=True)
class ResultsOf4:
    """A flash-attn 4 whose forward function returns as many values as PyTorch unpacks.

    Both are read as text, not the annotation, which is wrong in 4.0.0b19: PyTorch 2.11 and 2.13 unpack two, and flash-attn-4
    returns two up to 4.0.0b18, four from 4.0.0b19 and five in 4.0.0b36. Silent where one of the texts does not say.
    """

    @property
    def needed(self) -> str:
        return "a flash-attn-4 that returns what this torch unpacks"

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del facts, workload
        returned = _returned(package_text("flash_attn", "cute/interface.py") or "", "_flash_attn_fwd")
        unpacked = _unpacked(package_text("torch", "nn/attention/_fa4.py") or "", "_flash_attn_fwd")
        if returned is None or unpacked is None or unpacked.takes(returned):
            return None
        version = installed_version("flash-attn-4") or "of unknown version"
        known = [release for count, release in _RELEASES_OF_4.items() if unpacked.takes(count)]
        hint = f"pip install flash-attn-4=={known[-1]}" if known else "install another release of it, or of torch"
        return (
            f"needs a _flash_attn_fwd with {unpacked.words}, which this torch unpacks, found flash-attn-4 {version} with "
            f"{returned} ({hint})"
        )


@dataclass(frozen=True)
class _Unpacked:
    """How many values an assignment takes apart. is_open: or more of them, `out, lse, *rest = …`."""

    count: int
    is_open: bool

    def takes(self, returned: int) -> bool:
        return returned == self.count or (self.is_open and returned > self.count)

    @property
    def words(self) -> str:
        """`2 results`, `2 or more results`."""
        return f"{self.count} or more results" if self.is_open else counted(self.count, "result")


def _unpacked(source: str, name: str) -> _Unpacked | None:
    """How the first assignment from a call of this function takes apart what it returns; None where none does."""
    for node in _nodes(source):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        called, target = node.value.func, node.targets[0]
        if name == getattr(called, "attr", getattr(called, "id", None)) and isinstance(target, ast.Tuple):
            single = [one for one in target.elts if not isinstance(one, ast.Starred)]
            return _Unpacked(len(single), is_open=len(single) < len(target.elts))
    return None


def _returned(source: str, name: str) -> int | None:
    """How many values the last `return` of the function of this name spells out; None where it spells out none."""
    functions = (one for one in _nodes(source) if isinstance(one, ast.FunctionDef) and one.name == name)
    returns = [one for function in functions for one in _own(function) if isinstance(one, ast.Return)]
    last = max(returns, key=lambda one: one.lineno).value if returns else None
    if not isinstance(last, ast.Tuple) or any(isinstance(one, ast.Starred) for one in last.elts):
        return None
    return len(last.elts)


def _nodes(source: str) -> list[ast.AST]:
    """Everything in a source; nothing where this Python cannot read it."""
    try:
        return list(ast.walk(ast.parse(source)))
    except SyntaxError:
        return []


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """What is below a node, without the functions that are defined there."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.Lambda)):
            yield child
            yield from _own(child)


@contextmanager
def _activated(implementation: str, workload: Workload) -> Iterator[AttentionFunction]:
    """SDPA held to its flash implementation while that is `implementation`, "FA3" or "FA4".

    Raises CaseEnded (unsupported) where this torch, or the library that it imports, lacks what it needs, and whatever the
    library raises on import.
    """
    from torch.nn.attention import (
        current_flash_attention_impl,
        list_flash_attention_impls,
        restore_flash_attention_impl,
    )

    if implementation not in list_flash_attention_impls():
        found = ", ".join(list_flash_attention_impls()) or "none"
        text = f"needs a torch that can activate {implementation}, found one that can activate {found}"
        raise CaseEnded(Status.UNSUPPORTED, Reason("implementation", text))
    before = current_flash_attention_impl()
    try:
        try:
            _activate(implementation)
        except RuntimeError as exc:
            if "does not expose" not in str(exc):
                raise
            text = f"needs the forward and backward kernels that PyTorch calls for {implementation}: {exc}"
            raise CaseEnded(Status.UNSUPPORTED, Reason("operators", text)) from exc
        yield pinned("FLASH_ATTENTION", workload)
    finally:
        if current_flash_attention_impl() is not None:
            restore_flash_attention_impl()
        if before is not None:
            _activate(before)


def _activate(implementation: str) -> None:
    """Without PyTorch's warning that the kernel of an operator is replaced, which is what is asked for."""
    from torch.nn.attention import activate_flash_attention_impl

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warning only once for all operators", UserWarning)
        activate_flash_attention_impl(implementation)


def _refusals(workload: Workload, device: str) -> tuple[str, ...]:
    return refusals(workload, device, "can_use_flash_attention")


@register(
    "torch_flash[FA3]",
    "torch",
    layout="bhsd",
    modes=MODES,
    requires=(
        _TORCH,
        Package(_MODULE_OF_3, source=BUILD_OF_3),
        OperatorsOf3(),
        Device("cuda"),
        Capability((9, 0), below=(10, 0)),
        DType("bf16", "fp16"),
        HeadDim(lambda d: d <= 256, "at most 256"),
        Flash3Build(),
    ),
    takes=_TAKES,
    route={"cuda": FLASH_3},
    foreign={"cuda": f"{TORCHS_OWN}|{FLASH_2}|{FLASH_4}"},
    refuses=_refusals,
    source=build_of_3,
    never_run=True,
)
@contextmanager
def torch_flash_3(workload: Workload) -> Iterator[AttentionFunction]:
    """PyTorch's SDPA on FlashAttention-3, activated for the case."""
    with _activated("FA3", workload) as attention:
        yield attention


@register(
    "torch_flash[FA4]",
    "torch",
    layout="bhsd",
    modes=MODES,
    requires=(
        _TORCH,
        Distribution("flash-attn-4"),
        Distribution("nvidia-cutlass-dsl"),
        ResultsOf4(),
        Device("cuda"),
        Capability((9, 0), below=(11, 0)),
        DType("bf16", "fp16"),
        HeadDim(lambda d: d <= 256, "at most 256"),
    ),
    takes=_TAKES,
    route={"cuda": FLASH_4},
    foreign={"cuda": f"{TORCHS_OWN}|{FLASH_2}|{FLASH_3}"},
    refuses=_refusals,
)
@contextmanager
def torch_flash_4(workload: Workload) -> Iterator[AttentionFunction]:
    """PyTorch's SDPA on flash-attn 4 (`flash_attn.cute`), activated for the case."""
    with _activated("FA4", workload) as attention:
        yield attention
