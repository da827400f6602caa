"""attnbench's own JSONL: one record a line, each of which stands alone.

A line is a JSON object (RFC 8259: ASCII, no NaN):

    attnbench  version that wrote it
    schema     of `launch`, `record` and `verdict`, as in `attnbench/schema/run.schema.json`
    run        what is the same for all lines of a run: `id` (that of its first launch), `reference` and, where they say
               anything, `interrupted`, `baselines_from`, `baseline_changes`
    launch     the process that measured it, with its fingerprint
    record     the whole record
    verdict    of its case; left out where there is none

A metric that is not a finite number is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from attnbench.codec import Unreadable, run_from, to_plain
from attnbench.model import SCHEMA_VERSION, Launch, Record, RunFile, Verdict

#: Fields of `RunFile` that a line repeats under `run` where they say anything.
_OF_THE_RUN = ("interrupted", "baselines_from", "baseline_changes")


@dataclass(frozen=True)
class Line:
    """What one line holds: a run of one launch and one record, and which run it is of."""

    run_id: str
    run: RunFile


def lines(run: RunFile) -> Iterator[str]:
    """The lines of a run, without line ends, in the order of its records; of what it holds twice, the first."""
    launches = {launch.id: to_plain(launch) for launch in run.launches}
    plain = to_plain(run)
    verdicts = {(verdict["case"], verdict["nodeid"]): verdict for verdict in reversed(plain["verdicts"])}
    of_the_run = {"id": run.launches[0].id if run.launches else "", "reference": run.reference}
    of_the_run |= {name: plain[name] for name in _OF_THE_RUN if plain[name]}
    for record in plain["records"]:
        fields = {
            "attnbench": run.attnbench,
            "schema": SCHEMA_VERSION,
            "run": of_the_run,
            "launch": launches[record["launch"]],
            "record": record,
            "verdict": verdicts.get((record["case"], record["nodeid"])),
        }
        yield to_json({name: value for name, value in fields.items() if value is not None})


def to_json(plain: Any) -> str:
    """One line of ASCII that every JSON reader takes: what is not a finite number is null."""
    try:
        return json.dumps(plain, allow_nan=False, separators=(",", ":"))
    except ValueError:  # few have one, and looking for it takes as long as writing
        return json.dumps(_without_nan(plain), allow_nan=False, separators=(",", ":"))


def is_line(plain: Any) -> bool:
    """Whether a JSON value looks like a line of this form."""
    return isinstance(plain, dict) and "record" in plain and "schema" in plain


def line_from(plain: Mapping[str, Any]) -> Line:
    """What a line holds, validated. Raises Unreadable (`codec.NewerSchema` for a newer schema)."""
    of_the_run = plain.get("run")
    if not isinstance(of_the_run, dict) or not isinstance(of_the_run.get("id"), str):
        raise Unreadable("it has no 'run' with an 'id'")
    launch, record, verdict = (plain.get(name) for name in ("launch", "record", "verdict"))
    written = {
        "schema": plain["schema"],
        "attnbench": plain.get("attnbench"),
        "reference": of_the_run.get("reference"),
        "launches": [launch],
        "records": [_with_nan(record)],
        "verdicts": [] if verdict is None else [verdict],
        **{name: of_the_run[name] for name in _OF_THE_RUN if name in of_the_run},
    }
    return Line(of_the_run["id"], run_from({"attnbench": written}))


def joined(of_one_run: Iterable[Line]) -> RunFile:
    """The run that lines of one `run_id` are of. A launch, and a verdict, that several lines repeat counts once."""
    parts = [line.run for line in of_one_run]
    launches: dict[str, Launch] = {}
    records: list[Record] = []
    verdicts: dict[tuple[str, str], Verdict] = {}
    for part in parts:
        launches.update((launch.id, launch) for launch in part.launches if launch.id not in launches)
        records.extend(part.records)
        for verdict in part.verdicts:
            verdicts.setdefault((verdict.case, verdict.nodeid), verdict)
    first = parts[0]
    return RunFile(
        first.schema,
        first.attnbench,
        first.reference,
        tuple(launches.values()),
        tuple(records),
        first.interrupted,
        tuple(verdicts.values()),
        first.baselines_from,
        first.baseline_changes,
    )


def _without_nan(plain: Any) -> Any:
    if isinstance(plain, float):
        return plain if math.isfinite(plain) else None
    if isinstance(plain, dict):
        return {name: _without_nan(value) for name, value in plain.items()}
    return [_without_nan(value) for value in plain] if isinstance(plain, (list, tuple)) else plain


def _with_nan(record: Any) -> Any:
    """The record with the metrics that are null as NaN again."""
    if not isinstance(record, dict) or not isinstance(record.get("checks"), list):
        return record
    return {**record, "checks": [_check_with_nan(check) for check in record["checks"]]}


def _check_with_nan(check: Any) -> Any:
    if not isinstance(check, dict):
        return check
    optional = ("worst_found", "worst_expected")
    return {
        name: {
            metric: math.nan if value is None and metric not in optional else value for metric, value in part.items()
        }
        if isinstance(part, dict)
        else part
        for name, part in check.items()
    }
