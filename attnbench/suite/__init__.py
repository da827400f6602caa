"""The benchmarks: `pytest --pyargs attnbench.suite`, or `from attnbench.suite import test_attention` in a file."""

from attnbench.suite.test_attention import test_attention

__all__ = ["test_attention"]
