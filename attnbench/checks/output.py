"""The form of an output: one new tensor of the workload's shape, dtype and device; and of gradients, likewise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench import torch_private
from attnbench.model import Reason
from attnbench.workload import Workload

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


def named(returned: Any, workload: Workload) -> dict[str, Any]:
    """What a call returned, by name: "output", and with the backward pass the gradients "dq", "dk" and "dv"."""
    outputs = (returned,) if workload.direction == "forward" else returned
    return dict(zip(shapes(workload), outputs, strict=True))


def shapes(workload: Workload) -> dict[str, tuple[int, int, int, int]]:
    """The shape of everything that one call returns, by name."""
    gradients = {"dq": workload.q_shape, "dk": workload.k_shape, "dv": workload.v_shape}
    if workload.direction == "backward":
        return gradients
    return {"output": workload.shape, **(gradients if workload.direction != "forward" else {})}


def wrong_form(returned: Any, inputs: Inputs) -> tuple[Reason, ...]:
    """Every way in which what a call returned is not the attention of these inputs, or its gradients; empty when it is."""
    needed = shapes(inputs.workload)
    return tuple(
        reason
        for name, output in named(returned, inputs.workload).items()
        for reason in _wrong_form(name, output, needed[name], inputs)
    )


def _wrong_form(name: str, output: Any, shape: tuple[int, ...], inputs: Inputs) -> tuple[Reason, ...]:
    import torch

    model = inputs.timed[0]
    what = "returned" if name == "output" else f"gave as {name}"
    if not isinstance(output, torch.Tensor):
        text = f"{what} {type(output).__name__}, needed one tensor {list(shape)} of {AXES}"
        return (Reason("wrong-type", text),)
    reasons = []
    if tuple(output.shape) != shape:
        reasons.append(Reason("wrong-shape", f"{what} shape {list(output.shape)}, needed {list(shape)} of {AXES}"))
    if output.dtype != model.dtype:
        reasons.append(Reason("wrong-dtype", f"{what} {output.dtype}, needed {model.dtype}"))
    if output.device != model.device:
        reasons.append(Reason("wrong-device", f"{what} a tensor on {output.device}, needed {model.device}"))
    if output.layout != model.layout:  # a sparse tensor has no storage that could be looked at
        reasons.append(Reason("wrong-layout", f"{what} a {output.layout} tensor, needed {model.layout}"))
        return tuple(reasons)
    taken = {tensor.untyped_storage().data_ptr() for triple in inputs.kept.values() for tensor in triple}
    if output.untyped_storage().data_ptr() in taken:
        reasons.append(Reason("aliases-input", f"{what} a view of an input, needed memory of its own"))
    return tuple(reasons)
