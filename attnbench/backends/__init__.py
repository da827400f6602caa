"""One module per family of attention backends (layer 3). Importing this package registers them; it imports no kernel."""

from attnbench.backends import torch_sdpa  # isort: skip
from attnbench.backends import torch_flex  # isort: skip
from attnbench.backends import numpy_math  # isort: skip

#: One module per family, in the order in which reports show them.
FAMILIES = (torch_sdpa, torch_flex, numpy_math)

__all__ = ["FAMILIES", "numpy_math", "torch_flex", "torch_sdpa"]
