"""Where each backend is documented: the page that a click on its line opens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

_SDPA = "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html"

#: By backend, where its family's page is not about it.
_BACKENDS: Mapping[str, str] = MappingProxyType(
    {
        "torch_flex": "https://docs.pytorch.org/docs/stable/nn.attention.flex_attention.html",
        "torch_varlen": "https://docs.pytorch.org/docs/stable/nn.attention.varlen.html",
        "hf_flash_attn": "https://huggingface.co/kernels-community/flash-attn2",
        "hf_flash_attn3": "https://huggingface.co/kernels-community/flash-attn3",
    }
)
_FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "torch": _SDPA,
        "flash-attn": "https://github.com/Dao-AILab/flash-attention",
        "SageAttention": "https://github.com/thu-ml/SageAttention",
        "SpargeAttn": "https://github.com/thu-ml/SpargeAttn",
        "aiter": "https://github.com/ROCm/aiter",
        "comfy-kitchen": "https://github.com/Comfy-Org/comfy-kitchen",
        "xformers": "https://facebookresearch.github.io/xformers/components/ops.html",
        "transformer-engine": "https://docs.nvidia.com/deeplearning/transformer-engine/user-guide/api/pytorch.html",
        "flashinfer": "https://docs.flashinfer.ai/",
        "cudnn-frontend": "https://docs.nvidia.com/deeplearning/cudnn/frontend/latest/operations/Attention.html",
    }
)
#: `hf:OWNER/NAME@VERSION[:FUNCTION]`; owner and name as the Hub allows them.
_HUB = re.compile(r"hf:([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@|$)", re.ASCII)


def documentation(backend: str, family: str) -> str:
    """An https URL, or nothing for a backend that has no page known here.

    Only URLs of this module and the Hub's of a valid repository name come out: no stored text becomes an address.
    """
    if hub := _HUB.match(backend):
        return f"https://huggingface.co/{hub[1]}"
    return _BACKENDS.get(backend.partition("[")[0]) or _FAMILIES.get(family, "")
