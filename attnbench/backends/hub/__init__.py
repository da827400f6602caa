"""Kernels of the Hugging Face Hub, through the package `kernels`.

A name such as `hf:owner/kernel@v1` comes in; a `Backend` goes out, whose `load` fetches the kernel. May import what
`attnbench.backends` may, and its family `flash_attn`, whose kernels the Hub has too.
"""
