"""Everything that attnbench uses of torch and that is not torch's public API, behind one function each.

Read on torch 2.11 to 2.13. A torch release that renames one of them breaks one function here. Importing this module does
not import torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any

# --- CUDA: no public spin kernel, no public way to compile a kernel from source, no public reset of cuBLAS.

#: What the name of the kernel of `spin_kernel()` contains in a profiler's trace.
SPIN_KERNEL_NAME = "spin_kernel"


def spin_kernel() -> Callable[[int], None]:
    """The function that queues a kernel of one thread that spins for so many SM clock cycles on the current stream."""
    import torch

    return torch.cuda._sleep


def compile_cuda(source: str, name: str) -> Any:
    """The CUDA kernel `name` of `source`, compiled by NVRTC, called with `grid`, `block` and `args`.

    Raises whatever torch raises where NVRTC is missing or the source is wrong.
    """
    import torch

    return torch.cuda._compile_kernel(source, name)


def clear_cublas_workspaces() -> None:
    """Free the memory that cuBLAS keeps for its matrix products on the current device."""
    import torch

    binding: Any = torch._C
    binding._cuda_clearCublasWorkspaces()


# --- Tensors


def without_subclass() -> AbstractContextManager[None]:
    """A context in which subclasses of `torch.Tensor` do not take part in operations on them."""
    import torch

    return torch._C.DisableTorchFunctionSubclass()


# --- Dynamo: no public count of graphs, no public sign that a function runs eagerly.

#: The logger that says, at level warning, that a function will run eagerly from now on.
DYNAMO_LOGGER = "torch._dynamo.convert_frame"
#: How these messages begin: a recompile limit was reached, or an error was suppressed.
DYNAMO_HIT = "torch._dynamo hit "
DYNAMO_HIT_LIMIT, DYNAMO_SUPPRESSED = f"{DYNAMO_HIT}config.", "WON'T CONVERT"
#: The logger of torch's trace of a compilation, hundreds of lines, written only where somebody listens.
TRACE_LOGGER = "torch.__trace"
#: The modules that hold the settings of the compilers.
COMPILER_CONFIGS = ("torch._dynamo.config", "torch._inductor.config", "torch._functorch.config")


def clear_compile_counts() -> None:
    """Let `compile_counts` start from zero."""
    from torch._dynamo.utils import counters

    counters.clear()


def compile_counts() -> Mapping[str, Mapping[str, int]]:
    """Counts since `clear_compile_counts`, by group: "graph_break" by reason, "stats", "inductor"."""
    from torch._dynamo.utils import counters

    return counters


def holds_compiled_code() -> bool:
    """Whether dynamo has compiled something in this process that it still holds."""
    frames = sys.modules.get("torch._dynamo.convert_frame")
    return frames is not None and bool(getattr(frames.input_codes, "seen", True))


def compiler_stance() -> tuple[str, bool, Any]:
    """What `torch.compiler.set_stance` set: stance, whether guards are skipped, forced backend.

    The default as long as dynamo is not loaded.
    """
    frames: Any = sys.modules.get("torch._dynamo.eval_frame")
    if frames is None:
        return "default", False, None
    stance = frames._stance
    return stance.stance, stance.skip_guard_eval_unsafe, stance.backend


# --- Inductor


def inductor_modules() -> Sequence[ModuleType]:
    """The modules that Inductor has generated and loaded in this process. Raises where it was not imported."""
    return tuple(sys.modules["torch._inductor.codecache"].PyCodeCache.modules)


def tuned_kernels(attributes: Iterable[tuple[str, Any]]) -> list[tuple[str, Any, str]]:
    """Of a generated module's attributes, the Triton kernels that have settled on one configuration.

    Name, configuration (`kwargs`, `num_warps`, `num_stages`), and the kernel's source, empty where it is not held.
    """
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner

    return [
        (name, kernel.launchers[0].config, getattr(getattr(kernel, "fn", None), "src", None) or "")
        for name, kernel in attributes
        if isinstance(kernel, CachingAutotuner) and len(kernel.launchers) == 1
    ]


# --- Settings of the process that have no public way to be read, or to be put back


def cublas_tf32() -> tuple[Callable[[], bool], Callable[[bool], object]]:
    """Getter and setter of `torch.backends.cuda.matmul.allow_tf32`, without the warning of the public one."""
    import torch

    binding: Any = torch._C
    return binding._get_cublas_allow_tf32, binding._set_cublas_allow_tf32


def cudnn_tf32() -> tuple[Callable[[], bool], Callable[[bool], object]]:
    """Getter and setter of `torch.backends.cudnn.allow_tf32`, without the warning of the public one."""
    import torch

    binding: Any = torch._C
    return binding._get_cudnn_allow_tf32, binding._set_cudnn_allow_tf32


def float32_precision(backend: str, operation: str) -> str:
    """`fp32_precision` of a backend ("generic", "cuda", "mkldnn") and operation; not every pair has a public property."""
    import torch

    binding: Any = torch._C
    precision: str = binding._get_fp32_precision_getter(backend, operation)
    return precision


def set_float32_precision(backend: str, operation: str, precision: str) -> None:
    """Set what `float32_precision` reads."""
    import torch

    binding: Any = torch._C
    binding._set_fp32_precision_setter(backend, operation, precision)


def default_device_mode() -> Any:
    """The function mode that `torch.set_default_device` entered; None where no default device is set.

    The public getter cannot tell "none" from the CPU.
    """
    import torch

    return getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)


def sdpa_priority() -> tuple[int, ...]:
    """The order in which SDPA tries its kernels; `sdpa_kernel(set_priority=True)` leaves no other trace."""
    import torch

    binding: Any = torch._C
    return tuple(binding._get_sdp_priority_order())


def choose_sdpa_kernel() -> None:
    """Let SDPA choose a kernel on the current GPU without running one: torch sets the order for this GPU when it first does.

    `priority_order` in aten/src/ATen/native/transformers/cuda/sdp_utils.cpp: on Hopper a new enough cuDNN comes first.
    """
    import torch

    probe = torch.empty((1, 1, 16, 64), dtype=torch.float16, device="cuda")
    torch._fused_sdp_choice(probe, probe, probe)


def set_sdpa_priority(order: Sequence[int]) -> None:
    """Set what `sdpa_priority` reads."""
    import torch

    binding: Any = torch._C
    binding._set_sdp_priority_order(list(order))


def function_modes() -> tuple[Any, ...]:
    """The `TorchFunctionMode`s that were entered and not left, outermost first."""
    import torch.overrides

    return tuple(torch.overrides._get_current_function_mode_stack())


def pop_function_mode() -> Any:
    """Leave the innermost `TorchFunctionMode`, and return it."""
    import torch.overrides

    return torch.overrides._pop_mode()


def push_function_mode(mode: Any) -> None:
    """Enter a `TorchFunctionMode`."""
    import torch.overrides

    torch.overrides._push_mode(mode)


def dispatch_modes() -> tuple[Any, ...]:
    """The `TorchDispatchMode`s that were entered and not left, outermost first."""
    from torch.utils import _python_dispatch

    return tuple(_python_dispatch._get_current_dispatch_mode_stack())


def set_dispatch_modes(modes: Iterable[Any]) -> None:
    """Leave all `TorchDispatchMode`s and enter these, outermost first."""
    from torch.utils import _python_dispatch

    for _ in dispatch_modes():
        _python_dispatch._pop_mode()
    for mode in modes:
        _python_dispatch._push_mode(mode)


def module_hooks() -> tuple[Any, ...]:
    """What `torch.nn.modules.module.register_module_…_hook` registered for every module, by register, in their order."""
    registers = tuple((name, tuple(hooks.items())) for name, hooks in _module_registers().items())
    return (*registers, (_FULL_BACKWARD, _module_scope().get(_FULL_BACKWARD)))


def set_module_hooks(hooks: Iterable[tuple[str, Any]]) -> None:
    """Have these registered, as `module_hooks` gave them, and no other."""
    wanted = dict(hooks)
    _module_scope()[_FULL_BACKWARD] = wanted.pop(_FULL_BACKWARD, None)
    for name, register in _module_registers().items():
        register.clear()
        register.update(wanted.get(name, ()))


#: Which kind of backward hooks of every module was registered, after which torch refuses the other kind.
_FULL_BACKWARD = "_global_is_full_backward_hook"


def _module_scope() -> dict[str, Any]:
    from torch.nn.modules import module

    return vars(module)


def _module_registers() -> dict[str, dict[Any, Any]]:
    scope = _module_scope()
    return {name: scope[name] for name in scope if name.startswith("_global_") and isinstance(scope[name], dict)}


def saved_tensors_hooks() -> Any:
    """The innermost `torch.autograd.graph.saved_tensors_hooks` that was entered and not left; None without one."""
    import torch

    return torch._C._autograd._top_saved_tensors_default_hooks(True)


def set_saved_tensors_hooks(hooks: Any) -> None:
    """Have these, which `saved_tensors_hooks` gave, the innermost: leave those entered since, or enter these again."""
    import torch

    autograd: Any = torch._C._autograd
    while saved_tensors_hooks() not in (hooks, None):
        autograd._pop_saved_tensors_default_hooks()
    if hooks is not None and saved_tensors_hooks() is None:
        autograd._push_saved_tensors_default_hooks(*hooks)


def saved_tensors_hooks_refused() -> str | None:
    """The message of `torch.autograd.graph.disable_saved_tensors_hooks`; None where such hooks are allowed."""
    import torch

    message: str | None = torch._C._autograd._saved_tensors_hooks_get_disabled_error_message()
    return message


def refuse_saved_tensors_hooks(message: str | None) -> None:
    """Refuse such hooks with this message, or allow them."""
    import torch

    autograd: Any = torch._C._autograd
    autograd._saved_tensors_hooks_enable() if message is None else autograd._saved_tensors_hooks_disable(message)


def library_implementations() -> Iterable[str]:
    """Operators that a `torch.library.Library` of this process implements: `aten/mm/CPU`."""
    from torch import library

    return library._impls
