"""What workloads of one table have in common, in words."""

from __future__ import annotations

from attnbench.workload import Workload


def problem(workload: Workload) -> str:
    """All that tells it from others but its length: the workloads of one problem differ in that alone."""
    return f"batch {workload.batch}, {of_any_batch(workload)}"


def of_any_batch(workload: Workload) -> str:
    """The same without the batch."""
    return f"{of_any_batch_and_inputs(workload)}, inputs {workload.distribution}"


def of_any_batch_and_inputs(workload: Workload) -> str:
    """The same without what its inputs hold. The lengths of padding and of packed sequences follow from its length."""
    _, keys, kv_heads, head_dim = workload.k_shape
    heads = f"{workload.heads}/{kv_heads}" if workload.group > 1 else f"{workload.heads}"
    widths = head_dim if workload.head_dim_v is None else f"{head_dim}/{workload.head_dim_v}"
    said = [
        f"{heads} heads × {widths}",
        workload.dtype,
        f"{keys} keys" if workload.seq_kv is not None else "",
        f"mask {workload.mask}" if workload.mask != "none" else "",
        f"{len(workload.packed)} packed sequences" if workload.packed else "",
        f"dropout {workload.dropout:g}" if workload.dropout else "",
        workload.direction if workload.direction != "forward" else "",
        f"held as {workload.layout}" if workload.layout != "bshd" else "",
    ]
    return ", ".join(filter(None, said))
