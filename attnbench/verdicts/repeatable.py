"""Accuracy and workspace, which repeat from launch to launch, so they are compared without statistics.

"Accuracy and workspace" in docs/method.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from attnbench.model import Reason, Record
from attnbench.units import format_change, mebibytes
from attnbench.verdicts import code_versions

#: By how much an error may exceed every stored one, also inside the tolerance. It repeats to 1e-8 between launches and
#: units.
ERROR_GROWTH = 0.005
#: The same where another order of summation is to be expected: in fp32, whose whole error is rounding, and if other kernels
#: ran.
REORDERED_GROWTH = 0.05
#: By how much the workspace may exceed every stored one, as a share and in bytes, whichever is more: it repeats to 0.5 %,
#: and 2 MiB is the block in which torch's allocator takes small tensors.
WORKSPACE_GROWTH, WORKSPACE_BYTES = 0.01, 2 * 2**20


def less_accurate(ours: Record, stored: Sequence[Record]) -> tuple[Reason, ...]:
    """A reason for every error metric, of any tensor on any inputs, that exceeds that of all stored launches by too much."""
    growth, why = _allowed_growth(ours, stored)
    reasons = []
    for check in (check for check in ours.checks if not check.statistics):  # what is dropped is drawn anew
        before = [c.error for record in stored for c in record.checks if c.where == check.where]
        for metric in ("rel_l1", "rel_l2") if before else ():
            now, then = getattr(check.error, metric), max(getattr(error, metric) for error in before)
            if now > (1 + growth) * then:
                by = f" ({format_change(round(now / then - 1, 5))})" if then else ""
                text = (
                    f"less accurate: {metric} {now:.4g} {check.where}, {then:.4g} in the baseline{by}, "
                    f"where {format_change(growth)} is tolerated{why}"
                )
                reasons.append(Reason("accuracy", text))
    return tuple(reasons)


def more_workspace(ours: Sequence[Record], stored: Sequence[Record]) -> tuple[Reason, ...]:
    """A reason if the peak memory of a call exceeds that of every stored launch in each of ours; otherwise empty."""
    here = [record.workspace_bytes for record in ours if record.workspace_bytes is not None]
    there = [record.workspace_bytes for record in stored if record.workspace_bytes is not None]
    if not here or not there:
        return ()
    now, then = min(here), max(there)
    allowed = then + max(WORKSPACE_GROWTH * then, WORKSPACE_BYTES)
    if now <= allowed:
        return ()
    text = (
        f"more workspace: {mebibytes(now)} MiB, {mebibytes(then)} MiB in the baseline, where {mebibytes(round(allowed))} "
        "MiB are allowed"
    )
    return (Reason("workspace", text),)


def not_compared(ours: Record, stored: Sequence[Record]) -> tuple[str, ...]:
    """Sentences about the accuracy and the workspace of this case that no stored launch has."""
    known = {check.where for record in stored for check in record.checks}
    lacking = [check.where for check in ours.checks if check.where not in known]
    notes = [f"accuracy not compared {', '.join(lacking)}: no stored launch has it"] if lacking else []
    if ours.workspace_bytes is not None and all(record.workspace_bytes is None for record in stored):
        notes.append("workspace not compared: no stored launch has it")
    return tuple(notes)


def _allowed_growth(ours: Record, stored: Sequence[Record]) -> tuple[float, str]:
    """How much an error may grow, relative, and the words that say why if it is more than usual."""
    if ours.workload.dtype == "fp32":
        return REORDERED_GROWTH, " in fp32"
    here, there = code_versions.kernels(ours), [code_versions.kernels(record) for record in stored]
    if here and all(there) and here not in there:
        return REORDERED_GROWTH, " where other kernels ran"
    return ERROR_GROWTH, ""
