"""This project's own kernels in Triton, and their registration.

A workload comes in; a function `(q, k, v) -> output` goes out. May import what `attnbench.backends` may. A hash of the
kernels (`kernel.py`, with gradients also `kernel_backward.py`) is stored with every session as the version of their code.
"""
