"""Names of other projects for what is measured here: people search for them, and `--attn-backend` takes them.

Sources: the Flux attention benchmark that uses Triton's `do_bench` (`torch_cudnn_compile_ma`), Hugging Face's
kernels-benchmarks (`xformers_meff`), the functions of SageAttention by their own names, and diffusers' attention backends
(`AttentionBackendName` in its models/attention_dispatch.py). A name that is a backend's here, too (`torch_cudnn`,
`hf_flash_attn3`), is no alias: it means that backend in all of its modes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: The Flux benchmark's suffix of a compiled operation, and the mode that it compiles in.
_SUFFIXES = {"compile_d": "default", "compile_ma": "max-autotune"}
#: What the Flux benchmark compiles under the name that a backend has here, too.
_COMPILED = ("torch_cudnn", "torch_flash", "flash_attn_2", "flash_attn_3", "te_fused", "xformers")
_OTHERS = {
    # SageAttention's functions; the Flux benchmark calls the first, second and fourth
    "sageattn_qk_int8_pv_fp16_cuda": "sage_int8_fp16_cuda@eager",
    "sageattn_qk_int8_pv_fp16_triton": "sage_int8_fp16_triton@eager",
    "sageattn_qk_int8_pv_fp8_cuda": "sage_int8_fp8_cuda@eager",
    "sageattn_qk_int8_pv_fp8_cuda_sm90": "sage_int8_fp8_sm90@eager",
    "sageattn": "sage_auto@eager",
    # kernels-benchmarks. Its torch_flash_ma is tagged max-autotune, but the function behind it is not compiled.
    "torch_flash_ma": "torch_flash@eager",
    "torch_flash_compiled_default": "torch_flash@default",
    "torch_flash_compiled_max_autotune": "torch_flash@max-autotune",
    "torch_mem_eff": "torch_efficient@eager",
    "xformers_meff": "xformers@eager",
    "hf_kernels_flash_attn": "hf_flash_attn@eager",
    "hf_kernels_flash_attn3": "hf_flash_attn3@eager",
    # diffusers. Its names without a version or a library, `flash` and `sage`, are left out.
    "native": "torch_sdpa@eager",
    "_native_cudnn": "torch_cudnn@eager",
    "_native_efficient": "torch_efficient@eager",
    "_native_flash": "torch_flash@eager",
    "_native_math": "torch_math@eager",
    "flash_varlen": "flash_attn_2_varlen@eager",
    "_flash_3": "flash_attn_3@eager",
    "_flash_varlen_3": "flash_attn_3_varlen@eager",
}

#: The variant (`torch_cudnn@max-autotune`) that each name of another project means.
VARIANTS: Mapping[str, str] = MappingProxyType(
    {f"{name}_{suffix}": f"{name}@{mode}" for name in _COMPILED for suffix, mode in _SUFFIXES.items()} | _OTHERS
)


def aliases(variant: str) -> tuple[str, ...]:
    """Other projects' names of a variant, in alphabetical order; none for most."""
    return tuple(sorted(name for name, meant in VARIANTS.items() if meant == variant))


def flux_name(variant: str) -> str:
    """What the Flux benchmark calls a variant: eager ones by the backend alone; what it does not have, by our own name."""
    names = (name for name in aliases(variant) if name.endswith(tuple(_SUFFIXES)) or name.startswith("sageattn_qk_"))
    return next(names, variant.removesuffix("@eager"))
