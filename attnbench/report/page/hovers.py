"""What the script is given: facets, and of every variant and point what a hover tells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from attnbench.aliases import aliases
from attnbench.report.page.documentation import documentation
from attnbench.report.page.index import FACETS, Case, Index
from attnbench.report.page.tables import scientific
from attnbench.report.page.verdict_rows import change_with_interval
from attnbench.report.quantities import timed_check
from attnbench.report.verdicts import worst_first
from attnbench.units import counted


def hovers(index: Index, descriptions: Mapping[str, str]) -> dict[str, Any]:
    """Keys of points: `GPU index|name|workload`; of variants `GPU index|name`. descriptions: by backend what it is."""
    points: dict[str, dict[str, Any]] = {}
    variants: dict[str, dict[str, Any]] = {}
    for case in index.cases:
        number = index.gpu_number(case.gpu)
        keys = list(dict.fromkeys(map(index.key, case.records)))
        points[f"{number}|{case.name}|{case.first.workload.name}"] = {"k": keys, "t": _of_point(index, case)}
        variants.setdefault(f"{number}|{case.name}", _of_variant(index, case, descriptions))
    return {
        "facets": [[name, label, list(index.values(name))] for name, label in FACETS],
        "points": points,
        "variants": variants,
    }


def _of_variant(index: Index, case: Case, descriptions: Mapping[str, str]) -> dict[str, Any]:
    record = case.first
    versions = [f"{name} {version}" for name, version in record.versions.items()]
    context = index.gathered.launches[record.launch].fingerprint.context
    versions += [f"{name} {context[name]}" for name in ("torch", "driver") if context.get(name)]
    what = descriptions.get(record.backend) or descriptions.get(record.backend.partition("[")[0], "")
    return {
        "what": what,
        "docs": documentation(record.backend, record.family),
        "aka": list(aliases(record.variant)),
        "versions": ", ".join([*versions, *([record.source] if record.source else [])]),
        "family": record.family,
        "mode": record.mode,
    }


def _of_point(index: Index, case: Case) -> list[str]:
    """Lines on a point beside its value: accuracy, what it rests on, the verdict."""
    timed = [record for record in case.records if record.sample is not None]
    rounds = sum(len(record.sample.rounds_s) for record in timed if record.sample)
    plural = "launch" if len(timed) == 1 else "launches"
    loaded = sum(record.sustained is not None for record in timed)
    under_load = f", {loaded} of them under load" if loaded else ""
    lines = [f"{counted(rounds, 'round')} in {len(timed)} {plural}{under_load}"] if timed else []
    check = timed_check(case.first)
    if check is not None and math.isfinite(check.error.rel_l2):
        lines.append(f"rel. L2 {scientific(check.error.rel_l2)}, cosine {check.error.cosine:.6f}")
    verdicts = [found for record in case.records if (found := index.gathered.verdict(record)) is not None]
    if verdicts:
        worst = worst_first(verdicts)[0]
        change = change_with_interval(worst)
        figures = f" {change}, limit {worst.limit * 100:.3g} %" if worst.limit and change else ""
        lines.append(f"{worst.kind}{figures}")
    lines += sorted({one.chose for one in verdicts if one.chose} or {f"chose {r.chose}" for r in timed if r.chose})
    if any(record.injected is not None for record in case.records):
        lines.append("slowed down on purpose")
    return lines
