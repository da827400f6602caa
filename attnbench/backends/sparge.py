"""SpargeAttn: SageAttention 2's kernels on the blocks of keys that it expects to matter.

Which those are it decides by what is alike in the inputs. In random ones nothing is, so an output from some of the blocks
is not their attention, and the check of accuracy refuses it. All blocks are kept here: what is measured is what the search
and the sparse kernels cost where nothing is saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.backends.device_kernels import TORCHS_OWN
from attnbench.backends.registry import register
from attnbench.backends.requirements import Capability, Device, DType, Function, HeadDim, Package
from attnbench.workload import Workload

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import AttentionFunction

_MODULE, _FUNCTION = "spas_sage_attn", "spas_sage2_attn_meansim_topk_cuda"
_FROM_SOURCE = "build it from github.com/thu-ml/SpargeAttn"
#: The share of blocks that are kept; its own default is a half.
_ALL = 1.0


@register(
    "sparge_attn_all",
    "SpargeAttn",
    tolerance="int8-qk-fp8-pv",
    layout="bhsd",
    requires=(
        Package(_MODULE, source=_FROM_SOURCE),
        Function(_MODULE, _FUNCTION, _FROM_SOURCE),
        Device("cuda"),
        Capability((8, 0)),
        DType("bf16", "fp16"),
        HeadDim(lambda d: d in (64, 128), "64 or 128"),
    ),
    route={"cuda": r"block_sparse_attn_kernel|\bqk_int8_sv_f8_attn_kernel"},
    foreign={"cuda": TORCHS_OWN},
    never_run=True,
)
def sparge_attn_all(workload: Workload) -> AttentionFunction:
    """SpargeAttn's `spas_sage2_attn_meansim_topk_cuda` with all blocks of keys kept, which shows what its search costs."""
    del workload
    from spas_sage_attn import spas_sage2_attn_meansim_topk_cuda

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = spas_sage2_attn_meansim_topk_cuda(q, k, v, topk=_ALL)
        return output

    return attention
