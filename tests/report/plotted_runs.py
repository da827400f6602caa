"""Runs to draw: as many variants and lengths as a test of plots wants."""

from __future__ import annotations

from attnbench.model import SCHEMA_VERSION, Check, ErrorMetrics, Fingerprint, Launch, Record, RunFile, Sample, Status
from attnbench.workload import Workload

LENGTHS = (384, 512, 768, 4608)


def run_of(*variants: str, lengths: tuple[int, ...] = LENGTHS, device: str = "NVIDIA H200") -> RunFile:
    """Variants of five families, each slower and less accurate than the one before; the first is the reference.

    The rounds at a length of 1000 are 0.9, 1 and 1.2 ms of the first variant.
    """
    records = tuple(_record(at, variant, seq) for at, variant in enumerate(variants) for seq in lengths)
    launch = Launch("0123456789ab", "2026-01-02T03:04:05+00:00", Fingerprint({"device": device}, {}))
    return RunFile(SCHEMA_VERSION, "0.1.0", variants[0], (launch,), records)


def _record(at: int, variant: str, seq: int) -> Record:
    backend, mode = variant.split("@")
    workload = Workload(f"w{seq}", 1, seq, 24, 128)
    error = ErrorMetrics(1e-3, 1e-3, 1e-3, 1e-3, 1e-3 * (1 + at), 1.0, 0, (0, 0, 0, 0), 0.5, 0.25)
    rounds_s = tuple(1e-6 * seq * (1 + at / 10) * factor for factor in (0.9, 1.0, 1.2))
    return Record(
        f"{variant}-{workload.name}",
        backend,
        f"family {at % 5}",
        mode,
        workload,
        "0123456789ab",
        Status.MEASURED,
        workspace_bytes=2**20 * at,
        checks=(Check(workload.distribution, error, error, error, {"rel_l2": 1.0}, "all", True),),
        kernel_s=rounds_s[0],
        sample=Sample(rounds_s, "t"),
    )
