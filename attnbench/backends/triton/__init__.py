"""This project's own kernel in Triton, and its registration.

A workload comes in; a function `(q, k, v) -> output` goes out. May import what `attnbench.backends` may. The bytes of
`kernel.py` are stored with every session as the version of its code.
"""
