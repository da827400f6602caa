"""The grids that there are, in the order in which the documents show them."""

from __future__ import annotations

from attnbench.globs import select
from attnbench.workloads.grids.flash_attn import GRIDS_OF_FLASH_ATTN
from attnbench.workloads.grids.flux import FLUX
from attnbench.workloads.grids.grid import Grid
from attnbench.workloads.grids.kernel_author import KERNEL_AUTHOR
from attnbench.workloads.grids.models import GRIDS_OF_MODELS
from attnbench.workloads.grids.sage import GRIDS_OF_SAGE

GRIDS = (FLUX, *GRIDS_OF_FLASH_ATTN, *GRIDS_OF_SAGE, KERNEL_AUTHOR, *GRIDS_OF_MODELS)
#: The grid that runs when nobody names one.
DEFAULT = FLUX.name


def select_grids(patterns: tuple[str, ...]) -> tuple[Grid, ...]:
    """The grids that any of the globs matches, in their order.

    Raises attnbench.globs.UnknownName with the nearest names for one that matches nothing.
    """
    names = tuple(grid.name for grid in GRIDS)
    chosen = {name for pattern in patterns for name in select("grid", pattern, names)}
    return tuple(grid for grid in GRIDS if grid.name in chosen)
