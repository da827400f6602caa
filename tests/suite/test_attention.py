"""Every backend on every workload: `pytest --benchmark-only`."""

from attnbench.suite import test_attention

__all__ = ["test_attention"]
