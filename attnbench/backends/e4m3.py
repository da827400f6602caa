"""Tensors in e4m3 with a scale that puts their largest element at the largest number of that type."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: The largest number of e4m3.
LARGEST = 448.0


def scaled(x: torch.Tensor, over: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """`x` in e4m3, in the memory order that it has, and the fp32 scale that it has to be multiplied by.

    over: axes of elements that share a scale, of which the scale keeps 1. A tensor of zeros becomes NaN, as in xDiT.
    """
    import torch

    scale = x.abs().amax(over, keepdim=True).float() / LARGEST
    return (x.float() / scale).to(torch.float8_e4m3fn), scale
