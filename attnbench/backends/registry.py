"""Backends: how an attention implementation is registered, in this package, in a conftest.py or by entry point."""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from attnbench import printable
from attnbench.backends.errors import describe_error, is_from_outside
from attnbench.backends.field_checks import (
    require_choices,
    require_function,
    require_kind,
    require_known,
    require_patterns,
    require_requirements,
    require_text,
)
from attnbench.backends.requirements import Features, Requirement
from attnbench.backends.tolerances import TOLERANCES
from attnbench.model import MODES
from attnbench.workload import FEATURES, Workload

if TYPE_CHECKING:
    import torch

    #: `(q, k, v) -> output`, four tensors of one shape in the backend's layout.
    AttentionFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    Load = Callable[[Workload], AttentionFunction | AbstractContextManager[AttentionFunction]]

P = ParamSpec("P")

LAYOUTS = ("bshd", "bhsd")
ENTRY_POINT_GROUP = "attnbench.backends"

#: The choice (`Backend.chooses`) that is no fused kernel: products and a softmax, none of which is the attention alone.
UNFUSED = "math"

_BACKENDS: dict[str, Backend] = {}


@dataclass(frozen=True)
class OwnProcess:
    """Why a backend cannot share its process with those of other groups, and what its own has to be started with.

    group: backends of one group share a process. why: a sentence, which every report shows.
    environment: returns variables that must be set before the interpreter starts, such as LD_PRELOAD. It is called when
        the process is started, and only for a backend whose requirements hold.

    Raises ValueError for a field of another type.
    """

    group: str
    why: str
    environment: Callable[[], Mapping[str, str]] = dict

    def __post_init__(self) -> None:
        __tracebackhide__ = True
        require_text("OwnProcess", "group", self.group)
        require_text("OwnProcess", "why", self.why)
        require_function("OwnProcess", "environment", self.environment)

    def unset(self) -> dict[str, str]:
        """Those of its variables that this process does not have."""
        return {name: value for name, value in self.environment().items() if os.environ.get(name) != value}


@dataclass(frozen=True)
class Backend:
    """A named attention implementation: what `load` imports, under a name. `register` takes the other fields.

    load: called once per case with the workload, imports the library, returns `(q, k, v) -> output`; or a context manager
        that yields it, where something has to be put back when the case is over.
    name: what `--attn-backend` matches; without `@`, `:`, `/` and blanks.
    family: the project that it comes from.
    tolerance: name of the class of permitted error (`attnbench.backends.tolerances`).
    layout: axes that the function takes and returns: "bshd" = `[batch, seq, heads, head_dim]`, "bhsd" =
        `[batch, heads, seq, head_dim]` (gets transposed views; what it copies is inside the timed call).
    requires: what must hold before `load` is called, with found and needed.
    modes: compile modes that are offered, of "eager", "default", "max-autotune".
    takes: what it can do beyond plain forward attention, of `attnbench.model.FEATURES`: "cross" lengths, "gqa", a "causal"
        mask, "backward" … `load` gets the workload, which says what is asked (docs/adding-a-kernel.md).
    route: device type → regular expression that one device kernel (CPU: aten operator) of a call must match.
    foreign: device type → regular expression that none may match.
    chooses: of a backend whose library chooses the kernel itself, device type → name of a choice → regular expression of
        its device kernels; the record says which ran (`Record.chose`). `UNFUSED` names a choice of several kernels.
    refuses: `(workload, device type)` → the library's own reasons why it cannot run this, empty when it can.
    least_bytes: `(workload, mode)` → bytes that a call allocates at least; where they are more than 90 % of what the GPU
        has free, the case is unsupported.
    fullgraph: whether torch.compile must trace the call without a graph break.
    eager_first: whether a compiled case is called once in eager mode before it is compiled, for a library that settles
        something on its first call which dynamo cannot trace.
    fetches: whether `load` may go to the network; `--attn-list` then leaves it out.
    source: called after `load`, returns what was loaded, for the record: a commit, a version.
    own_process: why it needs a process of its own, and what that is started with; None where it does not.
    never_run: whether nobody has run it on a GPU yet, which docs/backends.md then says in its row.

    Raises ValueError for a field of another type, an unknown layout, tolerance, mode, feature or device type, a feature of
    which the tolerance states nothing, an invalid regular expression, or a name that cannot stand in a test id.
    """

    load: Load
    name: str
    family: str
    _: KW_ONLY
    tolerance: str = "16-bit"
    layout: str = "bshd"
    requires: tuple[Requirement, ...] = ()
    modes: tuple[str, ...] = ("eager",)
    takes: tuple[str, ...] = ()
    route: Mapping[str, str] = field(default_factory=dict)
    foreign: Mapping[str, str] = field(default_factory=dict)
    chooses: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    refuses: Callable[[Workload, str], tuple[str, ...]] | None = None
    least_bytes: Callable[[Workload, str], int] | None = None
    fullgraph: bool = True
    eager_first: bool = False
    fetches: bool = False
    source: Callable[[], str] | None = None
    own_process: OwnProcess | None = None
    never_run: bool = False

    def __post_init__(self) -> None:
        __tracebackhide__ = True  # a conftest.py that registers wrongly is shown with its own line and the sentence
        printable.require_name("backend name", self.name)
        if any(c in self.name for c in "@ /:"):
            raise ValueError(f"backend name {self.name!r}: must be non-empty, without '@', ':', '/' and blanks")
        subject = f"backend {self.name!r}"
        printable.require_name(f"{subject}: family", self.family)
        require_function(subject, "load", self.load)
        require_known(subject, "layout", self.layout, LAYOUTS)
        require_known(subject, "tolerance", self.tolerance, tuple(TOLERANCES))
        require_requirements(subject, self.requires)
        if not self.modes or not _are_some_of(MODES, self.modes):
            raise ValueError(
                f"{subject}: modes {printable.written(self.modes)}: expected a tuple of one or more of {', '.join(MODES)}"
            )
        if not _are_some_of(FEATURES, self.takes):
            known = ", ".join(FEATURES)
            raise ValueError(f"{subject}: takes {printable.written(self.takes)}: expected a tuple of some of {known}")
        require_patterns(subject, "route", self.route)
        require_patterns(subject, "foreign", self.foreign)
        require_choices(subject, "chooses", self.chooses)
        for name in ("refuses", "least_bytes", "source"):
            if getattr(self, name) is not None:
                require_function(subject, name, getattr(self, name))
        for name in ("fullgraph", "eager_first", "fetches", "never_run"):
            require_kind(subject, name, getattr(self, name), bool, "True or False")
        if self.own_process is not None:
            require_kind(subject, "own_process", self.own_process, OwnProcess, 'an OwnProcess("group", "why")')
        for name in ("requires", "modes", "takes"):
            given = getattr(self, name)  # a list or a set will do
            object.__setattr__(self, name, tuple(sorted(given) if isinstance(given, (set, frozenset)) else given))
        unchecked = [feature for feature in ("dropout", "backward") if feature in self.takes]
        if unchecked and not TOLERANCES[self.tolerance].gradients:
            able = ", ".join(name for name, tolerance in TOLERANCES.items() if tolerance.gradients)
            raise ValueError(
                f"{subject}: takes {' and '.join(unchecked)}, of which tolerance {self.tolerance!r} states "
                f"nothing; those that do: {able}"
            )

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """What must hold for a workload: `requires`, and that the backend takes what is asked."""
        return (*self.requires, Features(self.takes))

    @property
    def description(self) -> str:
        """What it is: the first sentence of the docstring of its `load`, without the full stop; empty without one."""
        words = " ".join((inspect.getdoc(self.load) or "").split())
        return re.split(r"\.(?= [A-Z]|$)", words)[0]


def _are_some_of(known: tuple[str, ...], words: object) -> bool:
    if not isinstance(words, (tuple, list, set, frozenset)):
        return False
    return all(isinstance(word, str) and word in known for word in words)


def _registering(make: Callable[Concatenate[Load, P], Backend]) -> Callable[P, Callable[[Load], Load]]:
    """A decorator of `load` whose arguments are the others of `make`: they are declared once, as `Backend`'s fields."""

    def register(*arguments: P.args, **fields: P.kwargs) -> Callable[[Load], Load]:
        __tracebackhide__ = True
        if arguments and callable(arguments[0]):  # it would register nothing, and nobody would miss it
            raise ValueError(
                'register: expected a name and a family, @register("my_kernel", "my project"), found a function'
            )

        def add(load: Load) -> Load:
            __tracebackhide__ = True
            add_backend(make(load, *arguments, **fields))
            return load

        return add

    register.__doc__ = """Decorate a function `load(workload)` that imports a kernel and returns it as `(q, k, v) -> output`.

    The arguments are the fields of `Backend` without `load`. Raises ValueError as `Backend` does, and when the name is
    taken by a function from another place (the same conftest.py loaded twice is fine).
    """
    register.__qualname__ = register.__name__  # as `help` shows it, with the arguments
    shown = inspect.signature(make)
    arguments = [parameter for name, parameter in shown.parameters.items() if name != "load"]
    register.__signature__ = shown.replace(parameters=arguments, return_annotation="Callable[[Load], Load]")  # type: ignore[attr-defined]
    return register


register = _registering(Backend)


def add_backend(backend: Backend) -> None:
    """Add one backend; raises ValueError when its name is taken by code from another place."""
    __tracebackhide__ = True
    known = _BACKENDS.get(backend.name)
    if known is not None and _origin(known) != _origin(backend):
        raise ValueError(
            f"backend {backend.name!r} is registered twice, by {_origin(known)} and {_origin(backend)}: rename one"
        )
    _BACKENDS[backend.name] = backend


def all_backends() -> dict[str, Backend]:
    """Every registered backend by name, in the order of registration."""
    return dict(_BACKENDS)


def others_registered() -> bool:
    """Whether there are backends that this package did not register: a conftest.py's, or of entry points once loaded."""
    return any(not _module(backend.load).startswith("attnbench.") for backend in _BACKENDS.values())


def _module(load: Load) -> str:
    return str(getattr(load, "__module__", None) or "")


@contextmanager
def loaded(backend: Backend, workload: Workload) -> Iterator[AttentionFunction]:
    """What the backend's `load` returns or yields.

    Raises TypeError where that is no function, and whatever the library raises on import.
    """
    returned = backend.load(workload)
    if isinstance(returned, AbstractContextManager):
        with returned as attention:
            _require_attention(attention, "yield")
            yield attention
    else:
        _require_attention(returned, "return")
        yield returned


def _require_attention(found: object, verb: str) -> None:
    if not callable(found):
        hint = " (decorate `load` with contextlib.contextmanager)" if inspect.isgenerator(found) else ""
        raise TypeError(f"`load` must {verb} a function (q, k, v) -> output, found {type(found).__name__}{hint}")


def load_entry_points() -> None:
    """Import what other packages offer in the group `attnbench.backends`.

    An entry point is a module whose import registers backends. One that fails becomes a backend of its name, whose rows
    show the error, so that a broken package cannot hide.
    """
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            entry_point.load()
        except BaseException as exc:  # whatever a foreign import raises is that package's row, not our crash
            if is_from_outside(exc):
                raise
            add_backend(_broken(entry_point.name, entry_point.value, exc))


def _broken(name: str, value: str, cause: BaseException) -> Backend:
    def load(workload: Workload) -> AttentionFunction:
        del workload
        raise ImportError(f"entry point {name} = {value} failed: {describe_error(cause)}") from cause

    # The name of an entry point may hold what a backend's may not.
    free = re.sub(r"[@:/\s]+", "-", printable.message(name, printable.LONGEST_NAME // 2)) or "-"
    family = printable.message(value, printable.LONGEST_NAME) or "-"
    return Backend(load, f"{free}-entry-point" if free in _BACKENDS else free, family)


def _origin(backend: Backend) -> str:
    code = getattr(inspect.unwrap(backend.load), "__code__", None)  # unwrap: a context manager is contextlib's function
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(backend.load)
