"""Which stored benchmark is the same case: by case id, in whatever file or folder its test was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from attnbench.codec import Unreadable, expanded_records
from attnbench.workload import Workload

#: The fields that make a problem (`Workload.problem`).
_PROBLEM = tuple(field.name for field in fields(Workload) if field.compare and field.name != "name")
_DEFAULTS = {field.name: field.default for field in fields(Workload)}


@dataclass(frozen=True)
class Wanted:
    """A case of this run."""

    case: str
    workload: Workload


@dataclass(frozen=True)
class Counterparts:
    """What a stored run holds of this run's cases."""

    entries: Mapping[str, dict[str, Any]]  # by node id of this run: pytest-benchmark's entry of the same case
    stored: tuple[str, ...]  # every case that is stored
    other_problem: tuple[str, ...]  # cases of this run that are stored under the same id with another workload
    repeated: tuple[str, ...]  # cases that several tests stored, none of them of the name that is compared
    injected: tuple[str, ...]  # cases whose stored latency was slowed down on purpose


def counterparts(document: Mapping[str, Any], wanted: Mapping[str, Wanted]) -> Counterparts:
    """Find the cases of this run (by node id) in a run that pytest-benchmark stored.

    The case of a stored benchmark is what attnbench wrote beside it or, failing that, what its record of the same test
    says. One that has neither is compared by its full name, as pytest-benchmark does. Of several tests of one case it is
    the one with the same full name, else the same name, else the first.
    """
    records = _records(document)
    by_nodeid = {record.get("nodeid"): record.get("case") for record in records}
    problems = {record.get("case"): _problem(record.get("workload")) for record in records}
    by_case: dict[str, list[dict[str, Any]]] = {}
    unnamed: dict[str, dict[str, Any]] = {}
    for entry in document["benchmarks"]:
        case = _case(entry, by_nodeid)
        if case is None:
            unnamed[entry["fullname"]] = entry
        else:
            by_case.setdefault(case, []).append(entry)
    entries: dict[str, dict[str, Any]] = {}
    other_problem: dict[str, None] = {}
    repeated: dict[str, None] = {}
    for nodeid, one in wanted.items():
        candidates = by_case.get(one.case) or ([unnamed[nodeid]] if nodeid in unnamed else [])
        if not candidates:
            continue
        problem = problems.get(one.case)
        if problem is not None and problem != {name: getattr(one.workload, name) for name in _PROBLEM}:
            other_problem[one.case] = None
            continue
        entries[nodeid], is_sure = _nearest(nodeid, candidates)
        if not is_sure:
            repeated[one.case] = None
    injected = {wanted[nodeid].case: None for nodeid, entry in entries.items() if _extra(entry).get("injected")}
    return Counterparts(entries, tuple(by_case), tuple(other_problem), tuple(repeated), tuple(injected))


def _nearest(nodeid: str, candidates: list[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """The stored test that is compared with, and whether no other fits as well."""
    for entry in candidates:
        if entry["fullname"] == nodeid:
            return entry, True
    same_name = [entry for entry in candidates if _name(entry["fullname"]) == _name(nodeid)]
    nearest = same_name or candidates
    return nearest[0], len(nearest) == 1


def _name(fullname: str) -> str:
    """The test's own name, without its file: a parameter may hold `::` or `/`, a file name no bracket."""
    path, bracket, parameters = fullname.partition("[")
    return path.rpartition("::")[2] + bracket + parameters


def _case(entry: Mapping[str, Any], by_nodeid: Mapping[Any, Any]) -> str | None:
    case = _extra(entry).get("case") or by_nodeid.get(entry["fullname"])
    return case if isinstance(case, str) else None


def _extra(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    extra = entry.get("extra_info")
    return extra if isinstance(extra, dict) else {}


def _records(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    ours = document.get("attnbench")
    try:
        records = expanded_records(ours) if isinstance(ours, dict) else None
    except Unreadable:
        records = None
    return [record for record in records if isinstance(record, dict)] if isinstance(records, list) else []


def _problem(workload: Any) -> dict[str, Any] | None:
    """The stored fields of a workload as `Workload` has them, where JSON has lists; with defaults for the others."""
    if not isinstance(workload, dict):
        return None
    stored = {name: workload.get(name, _DEFAULTS[name]) for name in _PROBLEM}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
