"""What Inductor's autotuning chose: a line for each kernel that a compiled call runs.

A compiled graph is a Python module that Inductor writes and loads (`PyCodeCache`). Its Triton kernels are attributes of it,
and each holds one launcher, with the configuration that won, once it has run. A template's block sizes are constants in the
kernel's source, and the libraries' kernels that a template competed with are calls of `extern_kernels` in the module's.
All of that is the same whether the graph was just compiled or comes from a cache of an earlier process.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from attnbench import torch_private

#: Stands in the module of a graph, and in none of the many that hold one kernel: candidates of autotuning, and kernels as
#: the compiler's worker processes and the fusion benchmarks see them. Those are loaded once and handed out again; the
#: module of a graph, which may carry constants, is loaded anew for every graph, also when its file is in the cache.
GRAPH = "AsyncCompile()"

#: Caches that other machines share: an empty one of our own has nothing from them.
_REMOTE = ("FX_GRAPH", "AUTOTUNE", "BUNDLED_AUTOTUNE", "AUTOGRAD")

_KERNEL = re.compile(r"^(\w+) = async_compile\.triton\([^\n]*?'''(.*?)'''", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^\s*((?:BLOCK|GROUP)_\w+)\s*:\s*tl\.constexpr\s*=\s*(\w+)\s*$", re.MULTILINE)
_EXTERN = re.compile(r"^[^#\n]*?(extern_kernels\.\w+)\(", re.MULTILINE)


def own_cache(folder: Path) -> dict[str, str]:
    """Variables for a process whose compilers keep what they compile, and what autotuning settled on, below `folder`.

    Of torch 2.11 to 2.13: the graphs, their generated code, the results of autotuning beside it and those of templates lie
    below the first, kernels that Triton compiled below the second.
    """
    local = {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), "TRITON_CACHE_DIR": str(folder / "triton")}
    return {**local, **{f"TORCHINDUCTOR_{name}_REMOTE_CACHE": "0" for name in _REMOTE}}


def loaded_modules() -> tuple[ModuleType, ...]:
    """The modules that Inductor has generated and loaded so far in this process; none where it was not imported."""
    try:
        return tuple(torch_private.inductor_modules())
    except Exception:  # private to torch: what is not found there costs these notes, never a case
        return ()


def since(known: Sequence[ModuleType]) -> tuple[str, ...]:
    """What was chosen in the graphs that were loaded after `known`, once they have run.

    Lines are `triton_tem_fused_0: BLOCK_M=128 BLOCK_N=64 num_warps=8 num_stages=3`, in the order of the kernels in the
    module, and `extern_kernels.bmm: 2 calls`. Empty where nothing was generated, or where this torch keeps it otherwise.
    """
    before = {id(module) for module in known}
    try:
        lines = [line for module in loaded_modules() if id(module) not in before for line in _of_module(module)]
    except Exception:  # private to torch as well
        return ()
    return tuple(dict.fromkeys(lines))


def _of_module(module: ModuleType) -> list[str]:
    """The lines of one module; none for one that is not a graph's."""
    try:
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
    except OSError:
        return []  # a candidate's file that autotuning has cleared away
    return [*_kernels(vars(module).items(), source), *_externs(source)] if GRAPH in source else []


def _kernels(attributes: Iterable[tuple[str, Any]], source: str) -> list[str]:
    """The generated Triton kernels among a module's attributes that have run, with their configurations."""
    # Of a kernel that a worker process compiled, what comes back need not hold its source; the module's text does.
    texts = {match[1]: match[2] for match in _KERNEL.finditer(source)}
    kernels = torch_private.tuned_kernels(attributes)
    return [f"{name}: {_settled(config, texts.get(name) or held)}" for name, config, held in kernels]


def _settled(config: Any, text: str) -> str:
    """`BLOCK_M=128 num_warps=8 num_stages=3`: constants of the template in `text`, then what the configuration holds."""
    constants = dict(_BLOCK.findall(text))
    constants |= {name: config.kwargs[name] for name in sorted(config.kwargs)}  # a cache may give them in another order
    constants |= {"num_warps": config.num_warps, "num_stages": config.num_stages}
    return " ".join(f"{name}={value}" for name, value in constants.items())


def _externs(source: str) -> list[str]:
    """Kernels of libraries that the module calls, with their number."""
    calls = Counter(_EXTERN.findall(source))
    return [f"{name}: {count} call{'s' if count > 1 else ''}" for name, count in calls.items()]
