"""What tests of adapters to other libraries share: devices that backends are asked about, inputs, and what is right."""

from __future__ import annotations

import torch

from attnbench.backends.registry import all_backends, loaded
from attnbench.backends.requirements import Facts
from attnbench.backends.variant import in_common_layout
from attnbench.workload import Workload
from attnbench.workloads.table import parse_spelt

H200 = Facts("cuda", "NVIDIA H200", (9, 0), (2, 13))
A100 = Facts("cuda", "NVIDIA A100", (8, 0), (2, 13))
CPU = Facts("cpu", "A CPU", None, (2, 13))


def qkv(head_dim: int = 64) -> list[torch.Tensor]:
    """Three of `[1, 64, 2, head_dim]` in bf16, contiguous, the same each time."""
    torch.manual_seed(0)
    return [torch.randn(1, 64, 2, head_dim, dtype=torch.bfloat16) for _ in range(3)]


def expected(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention of `[batch, seq, heads, head_dim]` by torch."""
    heads_first = (x.transpose(1, 2) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(*heads_first).transpose(1, 2)


def tensors_of(workload: Workload) -> list[torch.Tensor]:
    """q, k and v of a workload, in its layout, the same each time; leaves for gradients where it asks for them."""
    torch.manual_seed(0)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[workload.dtype]
    shapes = (workload.q_shape, workload.k_shape, workload.v_shape)
    made = (torch.randn(shape, dtype=dtype) for shape in shapes)
    held = (x if workload.layout == "bshd" else x.transpose(1, 2).contiguous().transpose(1, 2) for x in made)
    return [x.requires_grad_(workload.direction != "forward") for x in held]


def assert_is_attention(backend: str, workload: Workload) -> None:
    """The backend computes the workload as NumPy's oracle does: its output, and its gradients where it has any."""
    given = tensors_of(workload)
    layout = all_backends()[backend].layout
    with loaded(all_backends()[backend], workload) as attention:
        output = in_common_layout(attention, layout)(*given)
    oracle = all_backends()["numpy"].load(workload)(*given)
    torch.testing.assert_close(output, oracle, atol=2e-2, rtol=2e-2)
    assert output.shape == workload.shape
    if workload.direction == "forward":
        return
    towards = torch.randn(workload.shape).to(output.dtype)
    found, right = (torch.autograd.grad(one, given, towards) for one in (output, oracle))
    torch.testing.assert_close(found, right, atol=4e-2, rtol=4e-2)


def spelt(text: str) -> Workload:
    workload = parse_spelt(text)
    assert workload is not None
    return workload
