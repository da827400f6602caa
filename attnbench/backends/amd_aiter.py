"""aiter, AMD's kernels for Instinct GPUs. attnbench itself does not measure on ROCm yet: the adapter stands ready."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench.backends.registry import register
from attnbench.backends.requirements import Device, Distribution, DType, HeadDim
from attnbench.hardware.facts import Facts
from attnbench.workload import Workload

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import AttentionFunction


@dataclass(frozen=True)
class Rocm:
    """A torch that was built for ROCm, whose devices are of the type cuda too."""

    @property
    def needed(self) -> str:
        return "torch for ROCm"

    def unmet(self, facts: Facts, workload: Workload) -> str | None:
        del workload
        if facts.device != "cuda":
            return None  # Device says so
        import torch

        return None if torch.version.hip else f"needs {self.needed}, found torch {torch.__version__}"


@register(
    "aiter",
    "aiter",
    requires=(
        # As a distribution: the module of this name that PyPI has is another project's.
        Distribution("amd-aiter"),
        Device("cuda"),
        Rocm(),
        DType("bf16", "fp16"),
        HeadDim(lambda d: d % 8 == 0 and d <= 256, "a multiple of 8, at most 256"),
    ),
    takes=("cross", "gqa", "causal"),
    never_run=True,
)
def amd_aiter(workload: Workload) -> AttentionFunction:
    """AMD's aiter, `flash_attn_func`, with the kernel that it chooses: assembly, Composable Kernel or Triton."""
    from aiter import flash_attn_func

    options = (
        {"causal": True} if workload.mask == "causal" else {}
    )  # aligned at the last query and key, as a workload's is

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = flash_attn_func(q, k, v, **options)
        return output

    return attention
