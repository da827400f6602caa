"""The benchmarks: `pytest --pyargs attnbench.suite`, or `from attnbench.suite import test_attention` in a file.

Selected variants and workloads come in; one test per case goes out. May import `plugin`, and nothing imports it.
"""

from attnbench.suite.test_attention import test_attention

__all__ = ["test_attention"]
