"""What one timed call of a case is: the forward pass, the backward pass on a graph that stands, or both."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attnbench.workload import Workload

if TYPE_CHECKING:
    import torch

    from attnbench.workloads.drawing import Triple


class Pass:
    """One call on one set of inputs: `ready()` first, untimed, then the call itself.

    forward: the output, without a graph. backward: the gradients of q, k and v for a fixed gradient of the output, from the
    graph that `ready` builds by a forward pass. forward+backward: the output and the gradients. Nothing is accumulated
    into `.grad`, so the interval holds the kernels and no addition.
    With dropout `ready` also sets torch's generators to the workload's seed, so that every call drops the same.

    forward_output: with `keeps_output`, what the forward pass in `ready` returned; None else.
    """

    forward_output: torch.Tensor | None = None

    def __init__(
        self,
        attention: Callable[..., Any],
        workload: Workload,
        triple: Triple,
        gradient: torch.Tensor | None,
        *,
        keeps_output: bool = False,
    ) -> None:
        """gradient: of the output, `[batch, seq, heads, head_dim_v]`; needed for a direction with a backward pass."""
        self._keeps_output = keeps_output
        self._attention = attention
        self._workload = workload
        self._triple = triple
        self._gradient = gradient
        self._output: Any = None

    def ready(self) -> None:
        """Do what has to happen before the call. Raises whatever the kernel raises."""
        if self._workload.direction != "backward" and not self._workload.dropout:
            return
        import torch

        if self._workload.dropout:
            torch.manual_seed(self._workload.seed)
        if self._workload.direction == "backward":
            with torch.inference_mode(False), torch.enable_grad():
                self._output = self._attention(*self._triple)
            if self._keeps_output:
                self.forward_output = self._output.detach()

    def __call__(self) -> Any:
        """What is timed. Returns the output, the gradients of q, k and v, or all four of them in this order.

        Raises whatever the kernel raises.
        """
        import torch

        if self._workload.direction == "forward":
            with torch.no_grad():
                return self._attention(*self._triple)
        with torch.inference_mode(False), torch.enable_grad():
            if self._workload.direction == "backward":
                output, self._output = self._output, None  # its graph is spent by the call
                return torch.autograd.grad(output, self._triple, self._gradient)
            output = self._attention(*self._triple)
            return (output.detach(), *torch.autograd.grad(output, self._triple, self._gradient))
