"""The form of an output: one new tensor of the workload's shape, dtype and device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench import torch_private
from attnbench.model import Reason

if TYPE_CHECKING:
    import torch

    from attnbench.workloads.inputs import Inputs

AXES = "[batch, seq, heads, head_dim]"


def poison(tensor: torch.Tensor) -> torch.Tensor:
    """Fill a tensor with NaN, in place, whatever mode it was made in.

    torch refuses to write into a tensor from `torch.inference_mode()`, which serving libraries use, outside of that mode;
    inside it, every tensor can be written.
    """
    import torch

    with torch.inference_mode():
        return tensor.fill_(float("nan"))


def plain(output: torch.Tensor) -> torch.Tensor:
    """The output as a plain tensor of the same memory, so that a subclass does not change what operations on it do."""
    import torch

    with torch_private.without_subclass():
        return output.detach().as_subclass(torch.Tensor)


def wrong_form(output: Any, inputs: Inputs) -> tuple[Reason, ...]:
    """Every way in which what a call returned is not an attention output of these inputs; empty when it is one."""
    import torch

    shape, model = inputs.workload.shape, inputs.timed[0]
    if not isinstance(output, torch.Tensor):
        text = f"returned {type(output).__name__}, needed one tensor {list(shape)} of {AXES}"
        return (Reason("wrong-type", text),)
    reasons = []
    if tuple(output.shape) != shape:
        reasons.append(Reason("wrong-shape", f"returned shape {list(output.shape)}, needed {list(shape)} of {AXES}"))
    if output.dtype != model.dtype:
        reasons.append(Reason("wrong-dtype", f"returned {output.dtype}, needed {model.dtype}"))
    if output.device != model.device:
        reasons.append(Reason("wrong-device", f"returned a tensor on {output.device}, needed {model.device}"))
    if output.layout != model.layout:  # a sparse tensor has no storage that could be looked at
        reasons.append(Reason("wrong-layout", f"returned a {output.layout} tensor, needed {model.layout}"))
        return tuple(reasons)
    taken = {tensor.untyped_storage().data_ptr() for triple in inputs.kept.values() for tensor in triple}
    if output.untyped_storage().data_ptr() in taken:
        reasons.append(Reason("aliases-input", "returned a view of an input, needed memory of its own"))
    return tuple(reasons)
