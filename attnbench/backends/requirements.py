"""What a backend needs, as data that says found and needed (imports no library that it asks about).

Each requirement says what is `needed` in a few words, for a table, and by `unmet` why it does not hold here. One that could
never be asked raises ValueError when it is made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from attnbench.backends.errors import errors_as_rows
from attnbench.backends.field_checks import (
    positive_number,
    require_each_known,
    require_function,
    require_text,
    whole_numbers,
)
from attnbench.backends.installed import first_module, makes_names, package_text
from attnbench.hardware.device import DEVICES
from attnbench.hardware.facts import Facts, installed_version, sm_name
from attnbench.model import Reason
from attnbench.printable import described
from attnbench.workload import DTYPES, FEATURES, Workload


@dataclass(frozen=True)
class Device:
    """The backend runs on these device types only, `Device("cuda")`."""

    types: tuple[str, ...]

    def __init__(self, *types: str) -> None:
        __tracebackhide__ = True
        require_each_known("Device", "device type", types, DEVICES)
        object.__setattr__(self, "types", types)

    @property
    def needed(self) -> str:
        return f"device {' or '.join(self.types)}"

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del workload
        if facts.device in self.types:
            return None
        return f"needs {self.needed}, found {facts.device}"


@dataclass(frozen=True)
class TritonDevice:
    """Where a kernel in Triton runs: CUDA, or the CPU when Triton interprets it, which only tiny shapes can afford."""

    @property
    def needed(self) -> str:
        return "device cuda, or TRITON_INTERPRET=1 for tiny shapes on the CPU"

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del workload
        setting = os.environ.get("TRITON_INTERPRET", "")
        interpreted = setting.lower() in ("1", "true", "yes", "on", "y")  # as Triton itself reads it
        if facts.device == "cuda":
            return f"needs a compiled kernel on device cuda, found TRITON_INTERPRET={setting}" if interpreted else None
        if facts.device == "cpu" and interpreted:
            return None
        return f"needs {self.needed}, found {facts.device}"


@dataclass(frozen=True)
class Capability:
    """CUDA compute capability, at least `lowest` and below `below` where given: `Capability((9, 0))`."""

    lowest: tuple[int, int]
    below: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        __tracebackhide__ = True
        object.__setattr__(self, "lowest", whole_numbers("Capability", self.lowest, "(9, 0)", 2))
        if self.below is not None:
            object.__setattr__(self, "below", whole_numbers("Capability: below", self.below, "(10, 0)", 2))

    @property
    def needed(self) -> str:
        return sm_name(self.lowest) + (f" to below {sm_name(self.below)}" if self.below else " or newer")

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del workload
        if facts.capability is None:
            return None  # not a CUDA device: Device says so
        if facts.capability < self.lowest or (self.below is not None and facts.capability >= self.below):
            return f"needs {self.needed}, found {sm_name(facts.capability)} ({facts.device_name})"
        return None


@dataclass(frozen=True)
class Package:
    """A Python module, not imported here: `Package("sageattention", distribution="sageattention")`.

    distribution: what pip installs it from, where that is not the module's name. It need not be installed: the module
    may lie in a folder of its own. Where two distributions share a module's folder, ask for a `Distribution`.
    source: how to get it, where pip cannot.
    lowest: the first version that will do, `(2, 2)`; one that pip does not know is let pass.
    also: other modules that will do where the first is missing, whatever their version.
    """

    module: str
    distribution: str = ""
    source: str = ""
    lowest: tuple[int, ...] = ()
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        __tracebackhide__ = True
        require_text("Package", "module", self.module)
        for name in ("distribution", "source"):
            require_text("Package", name, getattr(self, name), empty=True)
        object.__setattr__(self, "lowest", whole_numbers("Package: lowest", self.lowest, "(2, 2)"))
        if not isinstance(self.also, (tuple, list)):
            raise ValueError(f'Package: also: expected a tuple such as ("my_fork",), found {described(self.also)}')
        for module in self.also:
            require_text("Package", "a module in also", module)

    @property
    def needed(self) -> str:
        return f"package {' or '.join((self._release, *self.also))}"

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del facts, workload
        distribution = self.distribution or self.module
        how = self.source or f"pip install {distribution}"
        module = first_module(self.module, *self.also)
        if module is None:
            names = " or ".join(map(repr, (self.module, *self.also)))
            return f"package {names} is not installed ({how})"
        if module != self.module:
            return None
        version = installed_version(distribution)
        if version is None or _numbers(version) >= self.lowest:
            return None
        return f"needs {self._release}, found {version} ({how})"

    @property
    def _release(self) -> str:
        distribution = self.distribution or self.module
        return f"{distribution} {_dotted(self.lowest)} or newer" if self.lowest else distribution


@dataclass(frozen=True)
class Function:
    """A function that a package has: `Function("my_kernels", "forward")`, for those whose releases differ in what they have.

    The package's `__init__.py` is read and not run. The function counts as missing only if that text cannot define it. With
    a star import, a `__getattr__` or names that are made at run time, `load` decides; if it fails because this function is
    missing, the case is unsupported too (`lacking`). Holds where the package is missing: that is `Package`'s to report.
    """

    module: str
    name: str
    source: str = ""

    def __post_init__(self) -> None:
        __tracebackhide__ = True
        require_text("Function", "module", self.module)
        require_text("Function", "name", self.name)
        require_text("Function", "source", self.source, empty=True)

    @property
    def needed(self) -> str:
        return f"the function {self.name}"

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del facts, workload
        text = package_text(self.module)
        if text is None or re.search(rf"\b{re.escape(self.name)}\b", text) or makes_names(text):
            return None
        return self.absent

    @property
    def absent(self) -> str:
        """A sentence that the function is missing, with the release that lacks it."""
        version = installed_version(self.module) or "of unknown version"
        how = f" ({self.source})" if self.source else ""
        return f"needs {self.needed}, found {self.module} {version} without it{how}"

    def is_lacking(self, cause: BaseException) -> bool:
        """Whether this error means that the package lacks exactly this function."""
        if isinstance(cause, ImportError):
            return cause.name == self.module and f"cannot import name {self.name!r}" in str(cause)
        if isinstance(cause, AttributeError):
            return cause.name == self.name and getattr(cause.obj, "__name__", None) == self.module
        return False


@dataclass(frozen=True)
class Distribution:
    """What pip knows as installed, whatever its modules are called: `Distribution("flash-attn")`.

    `Package` cannot tell flash-attn from flash-attn-4: both have a folder `flash_attn`, and both one `flash_attn/cute`.
    pip: what to install it by, where that is not its name. module: one that a build from source leaves in its place.
    """

    name: str
    pip: str = ""
    module: str = ""

    def __post_init__(self) -> None:
        __tracebackhide__ = True
        require_text("Distribution", "name", self.name)
        for name in ("pip", "module"):
            require_text("Distribution", name, getattr(self, name), empty=True)

    @property
    def needed(self) -> str:
        return f"package {self.name}"

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del facts, workload
        if installed_version(self.name) is not None or (self.module and first_module(self.module) is not None):
            return None
        return f"package {self.name!r} is not installed (pip install {self.pip or self.name})"


@dataclass(frozen=True)
class TorchVersion:
    """torch at least `lowest`: `TorchVersion((2, 11))`."""

    lowest: tuple[int, int]

    def __post_init__(self) -> None:
        __tracebackhide__ = True
        object.__setattr__(self, "lowest", whole_numbers("TorchVersion", self.lowest, "(2, 11)", 2))

    @property
    def needed(self) -> str:
        return f"torch {_dotted(self.lowest)} or newer"

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del workload
        if facts.torch_version >= self.lowest:
            return None
        return f"needs {self.needed}, found {_dotted(facts.torch_version)}"


@dataclass(frozen=True)
class DType:
    """The dtypes that the kernel takes: `DType("bf16", "fp16")`."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        __tracebackhide__ = True
        require_each_known("DType", "dtype", names, DTYPES)
        object.__setattr__(self, "names", names)

    @property
    def needed(self) -> str:
        return " or ".join(self.names)

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del facts
        return None if workload.dtype in self.names else f"needs dtype {self.needed}, found {workload.dtype}"


@dataclass(frozen=True)
class HeadDim:
    """The head dimensions that the kernel takes: `HeadDim(lambda d: d % 8 == 0, "a multiple of 8")`."""

    accepts: Callable[[int], bool]
    words: str

    def __post_init__(self) -> None:
        __tracebackhide__ = True
        require_function("HeadDim", "accepts", self.accepts)
        require_text("HeadDim", "words", self.words)

    @property
    def needed(self) -> str:
        return f"head_dim {self.words}"

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del facts
        if self.accepts(workload.head_dim):
            return None
        return f"needs {self.needed}, found {workload.head_dim}"


@dataclass(frozen=True)
class Batch:
    """The largest batch that one call of the kernel takes: `Batch(1)`."""

    most: int

    def __post_init__(self) -> None:
        __tracebackhide__ = True
        object.__setattr__(self, "most", positive_number("Batch", self.most))

    @property
    def needed(self) -> str:
        return f"batch at most {self.most}"

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del facts
        return None if workload.batch <= self.most else f"needs {self.needed}, found {workload.batch}"


#: What a workload may ask for, in words.
FEATURE_WORDS = {
    "cross": "cross lengths",
    "gqa": "grouped heads",
    "head_dim_v": "another head_dim for v",
    "causal": "a causal mask",
    "padding": "padded keys",
    "bool": "a boolean mask",
    "additive": "an additive mask",
    "packed": "packed sequences",
    "dropout": "dropout",
    "backward": "gradients",
}


@dataclass(frozen=True)
class Features:
    """What a backend takes beyond plain forward attention, of `attnbench.model.FEATURES`; stated as `Backend.takes`."""

    takes: tuple[str, ...]

    @property
    def needed(self) -> str:
        return ", ".join(("plain forward attention", *(FEATURE_WORDS[one] for one in self.takes)))

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del facts
        lacking = [FEATURE_WORDS[one] for one in workload.features if one not in self.takes]
        if not lacking:
            return None
        return f"needs {', '.join(lacking)}, found a backend for {self.needed}"


@dataclass(frozen=True)
class AsksFor:
    """The workload asks for one of these features, without which the backend would be another one: `AsksFor("packed")`."""

    features: tuple[str, ...]

    def __init__(self, *features: str) -> None:
        __tracebackhide__ = True
        require_each_known("AsksFor", "feature", features, FEATURES)
        object.__setattr__(self, "features", features)

    @property
    def needed(self) -> str:
        return f"a workload with {' or '.join(FEATURE_WORDS[one] for one in self.features)}"

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del facts
        if not {*self.features}.isdisjoint(workload.features):
            return None
        found = ", ".join(FEATURE_WORDS[one] for one in workload.features)
        return f"needs {self.needed}, found {f'one with {found}' if found else 'plain forward attention'}"


@dataclass(frozen=True)
class TopLeftCausal:
    """A causal mask over equal lengths only, because the library aligns it at the first query and key, or says nothing."""

    @property
    def needed(self) -> str:
        return "equal lengths under a causal mask"

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del facts
        keys = workload.k_shape[1]
        if workload.mask != "causal" or workload.seq == keys:
            return None
        return f"needs {self.needed}, found {workload.seq} queries and {keys} keys"


class Requirement(Protocol):
    """An element of `requires`: one of the above, or one that a family defines beside its backends."""

    @property
    def needed(self) -> str:
        """What is needed, in a few words for a table."""

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        """Why it does not hold here, a sentence with found and needed; None where it does. Imports nothing for it."""


def unmet(requirements: Iterable[Requirement], facts: Facts, workload: Workload) -> tuple[Reason, ...]:
    """All reasons at once, in the order in which the backend states its requirements.

    Raises CaseEnded (error) where one of them cannot say whether it holds.
    """
    answers = ((type(r).__name__.lower(), _answer(r, facts, workload)) for r in requirements)
    return tuple(Reason(code, text) for code, text in answers if text is not None)


def _answer(requirement: Requirement, facts: Facts, workload: Workload) -> str | None:
    name = type(requirement).__name__
    with errors_as_rows(f"its requirement {name} cannot say whether it holds", "requires", facts.device):
        answer: object = requirement.unmet(facts, workload)
        if answer is None or isinstance(answer, str):
            return answer
        raise TypeError(f"`unmet` must return text or None, found {described(answer)}")


def lacking(requirements: Iterable[Requirement], cause: BaseException) -> tuple[Reason, ...]:
    """The required functions that are missing, where that is why a backend could not be loaded; usually none."""
    functions = [r for r in requirements if isinstance(r, Function) and r.is_lacking(cause)]
    return tuple(Reason("function", function.absent) for function in functions)


def _numbers(version: str) -> tuple[int, ...]:
    """`(2, 2, 0)` of `2.2.0+cu130`."""
    return tuple(int(number) for number in re.findall(r"\d+", re.split(r"[^\d.]", version)[0]))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
