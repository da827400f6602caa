"""The families of attention backends. Importing this module registers them; it imports no kernel."""

from attnbench.backends import torch_sdpa  # isort: skip
from attnbench.backends import torch_varlen  # isort: skip
from attnbench.backends import torch_flex  # isort: skip
from attnbench.backends import flash_attn  # isort: skip
from attnbench.backends import torch_activated  # isort: skip
from attnbench.backends.hub import hf_kernels  # isort: skip
from attnbench.backends import sage  # isort: skip
from attnbench.backends import sage3  # isort: skip
from attnbench.backends import sparge  # isort: skip
from attnbench.backends import comfy_kitchen  # isort: skip
from attnbench.backends import xformers  # isort: skip
from attnbench.backends import cudnn_frontend  # isort: skip
from attnbench.backends import flashinfer  # isort: skip
from attnbench.backends import transformer_engine  # isort: skip
from attnbench.backends import amd_aiter  # isort: skip
from attnbench.backends.triton import triton_forward  # isort: skip
from attnbench.backends.triton import triton_backward  # isort: skip
from attnbench.backends import numpy_math  # isort: skip

#: Their modules, in the order in which reports show them.
FAMILIES = (
    torch_sdpa,
    torch_varlen,
    torch_flex,
    flash_attn,
    torch_activated,
    hf_kernels,
    sage,
    sage3,
    sparge,
    comfy_kitchen,
    xformers,
    cudnn_frontend,
    flashinfer,
    transformer_engine,
    amd_aiter,
    triton_forward,
    triton_backward,
    numpy_math,
)

__all__ = [
    "FAMILIES",
    "amd_aiter",
    "comfy_kitchen",
    "cudnn_frontend",
    "flash_attn",
    "flashinfer",
    "hf_kernels",
    "numpy_math",
    "sage",
    "sage3",
    "sparge",
    "torch_activated",
    "torch_flex",
    "torch_sdpa",
    "torch_varlen",
    "transformer_engine",
    "triton_backward",
    "triton_forward",
    "xformers",
]
