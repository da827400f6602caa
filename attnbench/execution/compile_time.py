"""CPU time of compilers that a library runs as child processes when its cache lacks a kernel, such as nvcc and ptxas."""

from __future__ import annotations

import sys

#: Child processes with fewer CPU seconds were not a compiler's: on import a library may also ask `ldconfig` for a path, or
#: nvcc for its version.
FEWEST_S = 0.2


def spent_s() -> float | None:
    """CPU seconds of all child processes of this one that have ended; None where the system does not count them."""
    if sys.platform == "win32":
        return None
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def since_s(before_s: float | None) -> float | None:
    """CPU seconds of compilers since `spent_s` gave `before_s`; 0 for fewer than `FEWEST_S`."""
    now_s = spent_s()
    if before_s is None or now_s is None:
        return None
    return used_s if (used_s := now_s - before_s) >= FEWEST_S else 0.0
