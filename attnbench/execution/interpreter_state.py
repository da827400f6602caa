"""The parts of a process's state that are Python's and the system's."""

from __future__ import annotations

import builtins
import gc
import locale
import logging
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from attnbench.execution.process_state import ABSENT, Part, added_in_front, arrow, never

#: Variables that torch, its compilers and its profiler set on first use, and read again later.
SET_ONCE = frozenset(
    {
        *("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TRITON_PTXAS_PATH", "TRITON_LIBDEVICE_PATH"),
        *("_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR", "TORCH_WARM_POOL", "KMP_DUPLICATE_LIB_OK", "CUDA_HOME"),
        *("DISABLE_CUPTI_LAZY_REINIT", "TEARDOWN_CUPTI", "CUDA_MODULE_LOADING", "TORCH_CUDA_ARCH_LIST"),
    }
)
#: The part that a compiler changes too: in mode max-autotune torch 2.11 left a warning filter behind on an H200.
WARNING_FILTERS = "warning filters"
#: Variables by which OpenMP is told to bind threads to cores, which it does in its first parallel region.
BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGPIPE", "SIGQUIT")


def parts() -> tuple[Part, ...]:
    """Environment, folder, locale, streams, signals and other things that loading a kernel may change."""
    return (
        Part(
            "environment",
            lambda: {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            _set_variable,
            describe=lambda name, before, after: (
                f"environment variable {name} {_happened(before, after)}"
            ),  # never a value
            once=SET_ONCE,
            grows=True,
        ),
        Part("working directory", lambda: {"working directory": str(Path.cwd())}, lambda _, value: os.chdir(value)),
        Part(
            "locale",
            lambda: {"locale": locale.setlocale(locale.LC_ALL)},
            _set_locale,
            describe=_without_values,
            stays=never,
        ),
        Part("umask", lambda: {"umask": _umask()}, lambda _, value: _set_umask(value), describe=_octal),
        Part(
            WARNING_FILTERS,
            lambda: {WARNING_FILTERS: tuple(warnings.filters)},
            _set_filters,
            describe=_without_values,
            carried=added_in_front,
        ),
        Part(
            "sys.path",
            lambda: {"sys.path": tuple(sys.path)},
            _set_path,
            describe=_without_values,
            carried=added_in_front,
        ),
        Part(
            "sys", lambda: {f"sys.{name}": getattr(sys, name) for name in _SYS}, _set_of_sys, describe=_without_values
        ),
        Part("interpreter", _interpreter, _set_interpreter, describe=_with_plain_values, stays=never),
        Part(
            "recursion limit",  # which Inductor raises whenever it compiles
            lambda: {"recursion limit": sys.getrecursionlimit()},
            lambda _, value: sys.setrecursionlimit(value),
            quiet=True,
        ),
        Part("signals", _handlers, _set_handler, describe=lambda name, *_: f"handler of {name}", partial=True),
        Part("alarm clock", _alarm, _stop_alarm, describe=_without_values),
        Part("logging", _logging, _set_logging, describe=_without_values),
        Part("scheduling", _cores, _set_cores, describe=_counted, stays=never),
        Part("priority", lambda: {"priority": os.getpriority(*_THIS_PROCESS)}, _set_priority, stays=never),
        Part("limits", _limits, _set_limit, describe=_without_values),
        Part("temporary folder", lambda: {"temporary folder": tempfile.gettempdir()}, _set_temporary_folder),
        Part(
            "functions",
            lambda: functions((time, "time"), (builtins, "builtins")),
            set_function,
            describe=replaced,
            stays=never,
        ),
        Part("numpy", _numpy, _set_numpy, describe=_without_values),
        Part("random numbers", _random, _set_random, quiet=True),
    )


def functions(*owners: tuple[ModuleType | type, str]) -> dict[str, Any]:
    """Every public callable of the owners, by its full name; of a class also operators, and what it inherits."""
    return {
        f"{path}.{name}": value
        for owner, path in owners
        for name, value in _members(owner).items()
        if callable(value) and (not name.startswith("_") or _is_operator(owner, name))
    }


def _members(owner: ModuleType | type) -> dict[str, Any]:
    bases = reversed(owner.__mro__[:-1]) if isinstance(owner, type) else (owner,)
    return {name: value for base in bases for name, value in list(vars(base).items())}


def _is_operator(owner: ModuleType | type, name: str) -> bool:
    """`__matmul__`; not `__class__`, which is nobody's to replace."""
    return isinstance(owner, type) and name.startswith("__") and name not in vars(object)


def set_function(name: str, value: Any) -> None:
    """Put a callable back where `functions` found it."""
    path, _, attribute = name.rpartition(".")
    module, owner = path, sys.modules.get(path)
    while owner is None:
        module = module.rpartition(".")[0]
        owner = sys.modules[module]
    holder: Any = owner
    for step in path[len(module) + 1 :].split(".") if path != module else ():
        holder = getattr(holder, step)
    inherited = value is not ABSENT and any(
        vars(base).get(attribute) is value for base in getattr(holder, "__mro__", ())[1:]
    )
    delattr(holder, attribute) if value is ABSENT or inherited else setattr(holder, attribute, value)


def replaced(name: str, before: Any, after: Any) -> str:
    """A change of a function in words: added, removed or replaced."""
    return f"{name} {'added' if before is ABSENT else 'removed' if after is ABSENT else 'replaced'}"


def _without_values(name: str, _before: Any, _after: Any) -> str:
    return name


def _with_plain_values(name: str, before: Any, after: Any) -> str:
    return name if callable(before) or callable(after) else arrow(name, before, after)


def _happened(before: Any, after: Any) -> str:
    return "set" if before is ABSENT else "removed" if after is ABSENT else "changed"


def _octal(name: str, before: int, after: int) -> str:
    return arrow(name, f"{before:03o}", f"{after:03o}")


def _set_variable(name: str, value: Any) -> None:
    if value is ABSENT:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
    if name == "TZ" and hasattr(time, "tzset"):
        time.tzset()


def _set_locale(_: str, value: str) -> None:
    locale.setlocale(locale.LC_ALL, value)


def _umask() -> int:
    """The only way to read it is to set it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _set_umask(value: int) -> None:
    os.umask(value)


def _set_filters(_: str, value: Any) -> None:
    warnings.filters[:] = value  # type: ignore[index]  # the interface promises a sequence, and it is a list
    with warnings.catch_warnings():
        pass  # what is known of warnings that were shown already is forgotten where filters change


def _set_path(_: str, value: Any) -> None:
    sys.path[:] = value


_SYS = ("stdin", "stdout", "stderr", "excepthook", "displayhook")


def _set_of_sys(name: str, value: Any) -> None:
    setattr(sys, name.removeprefix("sys."), value)


#: Name → how to read and how to write.
_INTERPRETER: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "thread switch interval": (sys.getswitchinterval, sys.setswitchinterval),
    "tracing by sys.settrace": (sys.gettrace, sys.settrace),
    "profiling by sys.setprofile": (sys.getprofile, sys.setprofile),
    "garbage collection": (gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
    "garbage collection thresholds": (gc.get_threshold, lambda value: gc.set_threshold(*value)),
}


def _interpreter() -> Mapping[str, Any]:
    return {name: read() for name, (read, _) in _INTERPRETER.items()}


def _set_interpreter(name: str, value: Any) -> None:
    _INTERPRETER[name][1](value)


def _handlers() -> Mapping[str, Any]:
    """By signal; that of our own time limit comes and goes with the steps of a case."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    handlers = {name: signal.getsignal(getattr(signal, name)) for name in SIGNALS if hasattr(signal, name)}
    return {name: handler for name, handler in handlers.items() if name != "SIGALRM" or not _is_our_alarm()}


def _is_our_alarm() -> bool:
    return str(getattr(signal.getsignal(signal.SIGALRM), "__module__", "")).startswith("attnbench.")


def _alarm() -> Mapping[str, Any]:
    """Whether one is set, which would ring amid a later case; nothing while our own time limit holds the alarm."""
    return {} if _is_our_alarm() else {"alarm clock": signal.getitimer(signal.ITIMER_REAL)[0] > 0}


def _set_handler(name: str, value: Any) -> None:
    signal.signal(getattr(signal, name), value)


def _stop_alarm(_: str, rings: bool) -> None:
    """What was left of one that has rung, or was stopped, nobody knows."""
    if not rings:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _logging() -> Mapping[str, Any]:
    root = logging.getLogger()
    return {
        "level of the root logger": root.level,
        "handlers of the root logger": tuple(root.handlers),
        "logging.disable": root.manager.disable,
    }


def _set_logging(name: str, value: Any) -> None:
    root = logging.getLogger()
    if name == "level of the root logger":
        root.setLevel(value)
    elif name == "logging.disable":
        root.manager.disable = value
    else:
        root.handlers[:] = value


def _cores() -> Mapping[str, Any]:
    """Nothing where OpenMP is told to bind this thread itself."""
    if any(name in os.environ for name in BINDING):
        return {}
    return {"usable cores": frozenset(os.sched_getaffinity(0))}


def _set_cores(_: str, value: frozenset[int]) -> None:
    os.sched_setaffinity(0, value)


_THIS_PROCESS = (os.PRIO_PROCESS, 0)


def _set_priority(_: str, value: int) -> None:
    """Raises PermissionError where it was lowered by who may not raise it again."""
    os.setpriority(*_THIS_PROCESS, value)


def _limits() -> Mapping[str, Any]:
    # By number, as one of them has two names.
    names = {getattr(resource, name): name for name in reversed(dir(resource)) if name.startswith("RLIMIT_")}
    return {f"resource limit {name}": resource.getrlimit(number) for number, name in names.items()}


def _set_limit(name: str, value: tuple[int, int]) -> None:
    resource.setrlimit(getattr(resource, name.rpartition(" ")[2]), value)


def _set_temporary_folder(_: str, value: str) -> None:
    tempfile.tempdir = value


def _counted(name: str, before: frozenset[int], after: frozenset[int]) -> str:
    return arrow(name, len(before), len(after)) if len(before) != len(after) else f"{name}, other ones"


def _numpy() -> Mapping[str, Any]:
    if (numpy := sys.modules.get("numpy")) is None:
        return {}
    return {"numpy error handling": numpy.geterr(), "numpy print options": numpy.get_printoptions()}


def _set_numpy(name: str, value: Any) -> None:
    numpy = sys.modules["numpy"]
    numpy.seterr(**value) if name == "numpy error handling" else numpy.set_printoptions(**value)


def _random() -> Mapping[str, Any]:
    states: dict[str, Any] = {"random": random.getstate()}
    if (numpy := sys.modules.get("numpy.random")) is not None:
        kind, keys, *others = numpy.get_state()
        states["numpy.random"] = (kind, keys.tobytes(), *others)
    return states


def _set_random(name: str, value: Any) -> None:
    if name == "random":
        random.setstate(value)
    else:
        kind, keys, *others = value
        numpy = sys.modules["numpy"]
        numpy.random.set_state((kind, numpy.frombuffer(keys, dtype=numpy.uint32), *others))
