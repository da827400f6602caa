"""Records as JSON: one codec for files, for the stream of a launch, and for its schema.

Since schema 2 a record of a file may be the *difference* from an earlier one of its list: fields that are the same are left
out, and `like` names that one by case and launch, not by its place, which moves when a line is taken out. A field that
holds a part of the model is a difference itself, and so is each of a list of as many parts. All else (a number, a sentence,
a list of numbers, a dictionary) stands whole where it differs. Of a record without `like`, and of a part that the earlier
record lacks, what is left out is the model's default.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from typing import Any, TypeGuard, get_args, get_origin, get_type_hints

from attnbench import printable
from attnbench.model import SCHEMA_VERSION, Launch, Record, RunFile

#: Significant digits of what is measured: a round is at most 5e-7 of itself off, a thousandth of what launches differ by.
DIGITS = 7
#: By field or metric, where other ones are enough, or needed: a step of the clock is 7.6e-3 of it and its readings scatter
#: by 1e-4; of a cosine the distance from 1 is what is looked at.
_DIGITS_OF = {"before_hz": 6, "cosine": 12}
#: The first schema in which a record may be a difference.
_DIFFERENCES_SINCE = 2
#: Records that are differences are written out before they are read; all together become no longer than this in JSON.
MOST_WRITTEN = 2**28


class Unreadable(ValueError):
    """A file or line that is not what it should be; the message says what is wrong and where.

    It quotes what it is about, so it is made safe to show here, for whoever shows it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable.message(text))


class NewerSchema(Unreadable):
    """A file or line of a later schema than `SCHEMA_VERSION`."""


def to_plain(value: Record | Launch | RunFile) -> dict[str, Any]:
    """Dicts, lists, strings and numbers only."""
    import msgspec

    plain = msgspec.to_builtins(value)
    assert isinstance(plain, dict)
    return plain


def rounded(record: Record) -> Record:
    """The record with as many digits as are stored, so that what a run says of it is what its file says.

    Rounding keeps order, so a check that passed still does; rounded twice is rounded once.
    """
    return record_from(to_digits(to_plain(record)))


def to_digits(plain: Any, name: str = "") -> Any:
    """Plain data, the numbers that are not whole rounded to `DIGITS`, or to those of the field `name` that they stand in."""
    if isinstance(plain, float):
        return float(f"{plain:.{_DIGITS_OF.get(name, DIGITS)}g}")
    if isinstance(plain, dict):
        return {key: to_digits(value, key) for key, value in plain.items()}
    return [to_digits(value, name) for value in plain] if isinstance(plain, (list, tuple)) else plain


def compact(run: RunFile) -> dict[str, Any]:
    """The plain form of a file that is kept: as `to_plain`, with nothing in it twice and without defaults.

    A record of a case that has an earlier one is a difference from that, and one of a workload that has an earlier one from
    that, if this is shorter.
    """
    plain = _difference(RunFile, to_plain(replace(run, schema=SCHEMA_VERSION, records=())), _defaults(RunFile))
    return {**plain, "records": _differences([to_plain(record) for record in run.records])}


def written_out(plain: Mapping[str, Any]) -> Any:
    """The records of what stands under `attnbench`, each whole.

    Raises Unreadable for a difference from no earlier record, and for more than `MOST_WRITTEN`. What is wrong with a record
    itself is said by whoever reads it.
    """
    records, schema = plain.get("records"), plain.get("schema")
    if not isinstance(schema, int) or schema < _DIFFERENCES_SINCE or not isinstance(records, list):
        return records
    whole: list[Any] = []
    sizes: list[int] = []  # of each record in JSON, or a little more
    places: dict[Any, int] = {}  # by what `like` calls it
    least, written = len(json.dumps(_defaults(Record))), 0
    for at, record in enumerate(records):
        sizes.append(least + len(json.dumps(record)))
        earlier = None
        if isinstance(record, dict) and "like" in record:
            place = _place(record["like"], places, at)
            earlier = whole[place]
            sizes[at] += sizes[place]
            written += sizes[at]
        if written > MOST_WRITTEN:
            most = MOST_WRITTEN / 2**20
            raise Unreadable(f"its records are differences, of more than {most:.0f} MiB when they are written out")
        whole.append(_whole(Record, record, earlier))
        if isinstance(record, dict):
            places.setdefault(_name(whole[at]), at)
    return whole


def _place(like: Any, places: Mapping[Any, int], at: int) -> int:
    """Where the record stands that record `at` is a difference from. Raises Unreadable where none before it is called so."""
    if not isinstance(like, str) or like not in places:
        raise Unreadable(f"its record {at} is the difference from {json.dumps(like)}, which does not stand before it")
    return places[like]


def _name(record: Mapping[str, Any]) -> str:
    """What `like` calls a record, or the first one of its case in that launch."""
    return f"{record.get('case')} {record.get('launch')}"


def record_from(plain: Any) -> Record:
    """The record that `to_plain` made. Raises Unreadable."""
    record = _convert(plain, Record)
    assert isinstance(record, Record)
    return record


def launch_from(plain: Any) -> Launch:
    """The launch that `to_plain` made. Raises Unreadable."""
    launch = _convert(plain, Launch)
    assert isinstance(launch, Launch)
    return launch


def run_from(document: Any) -> RunFile:
    """What a pytest-benchmark JSON document holds under `attnbench`.

    Raises Unreadable when the key is missing, the schema is newer than this version reads, or a field is wrong. A
    record or launch that is repeated counts once.
    """
    if not isinstance(document, dict) or not isinstance(document.get("attnbench"), dict):
        raise Unreadable("it has no attnbench records: it was not written by an attnbench run")
    plain = document["attnbench"]
    schema = plain.get("schema")
    if not isinstance(schema, int) or schema < 1:
        raise Unreadable(f"its attnbench schema is {schema!r}, expected an integer >= 1")
    if schema > SCHEMA_VERSION:
        raise NewerSchema(
            f"its attnbench schema is {schema}, but this version reads up to {SCHEMA_VERSION}: upgrade attnbench"
        )
    run = _convert({**plain, "records": written_out(plain)}, RunFile)
    assert isinstance(run, RunFile)
    return replace(run, launches=_once(run.launches), records=_once(run.records))


def json_schema() -> str:
    """JSON Schema of what stands under `attnbench`, as the file `attnbench/schema/run.schema.json` holds it."""
    import msgspec

    schema = msgspec.json.schema(RunFile)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = f"attnbench run, schema {SCHEMA_VERSION}"
    definitions = schema["$defs"]
    for definition in definitions.values():
        if "description" in definition:  # a docstring, which Python 3.13 indents in another way than 3.12
            definition["description"] = inspect.cleandoc(definition["description"])
    definitions.update(_schema_of_differences(definitions))
    definitions["RunFile"]["properties"]["records"]["items"] = {
        "if": {"required": ["like"]},
        "then": {"$ref": "#/$defs/RecordDifference"},
        "else": {"$ref": "#/$defs/Record"},
    }
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def _schema_of_differences(definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Definitions of a record that is a difference, and of its parts: the same fields, none of which has to be there."""
    differences = {}
    waiting = ["Record"]
    while waiting:
        name = waiting.pop()
        text = json.dumps(
            {key: value for key, value in definitions[name].items() if key not in ("required", "description")}
        )
        for part in definitions:
            if f'"#/$defs/{part}"' in text and definitions[part].get("type") == "object":
                text = text.replace(f'"#/$defs/{part}"', f'"#/$defs/{part}Difference"')
                waiting += [] if f"{part}Difference" in differences else [part]
        differences[f"{name}Difference"] = {**json.loads(text), "title": f"{name}Difference"}
    record = differences["RecordDifference"]
    record["properties"]["like"] = {
        "description": "`CASE LAUNCH` of the earlier record in this list whose fields it has where it lacks them.",
        "type": "string",
    }
    record["required"] = ["like"]
    return differences


def _differences(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each record as the shortest of what it may be written as."""
    written = []
    of_name: dict[str, int] = {}
    of_case: dict[str, int] = {}
    of_workload: dict[str, int] = {}  # the first one that was checked, as the reference is the same for all of them
    for at, record in enumerate(records):
        case, workload = record["case"], json.dumps(record["workload"])
        earlier = [found[key] for found, key in ((of_case, case), (of_workload, workload)) if key in found]
        named = {name: one for one in earlier if of_name[name := _name(records[one])] == one}
        candidates = [{"like": name, **_difference(Record, record, records[one])} for name, one in named.items()]
        candidates.append(_difference(Record, record, _defaults(Record)))
        written.append(min(candidates, key=lambda one: len(json.dumps(one))))
        of_name.setdefault(_name(record), at)
        of_case.setdefault(case, at)
        if workload not in of_workload or (record["checks"] and not records[of_workload[workload]]["checks"]):
            of_workload[workload] = at
    return written


def _difference(kind: type, plain: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """What `_whole` needs beside `earlier` to give `plain`, which is of the dataclass `kind`."""
    parts = _parts(kind)
    return {
        name: _difference_of_part(parts[name], value, earlier.get(name)) if name in parts else value
        for name, value in plain.items()
        if name not in earlier or earlier[name] != value
    }


def _difference_of_part(kind: type, value: Any, earlier: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_difference(kind, *pair) for pair in zip(value, _each(value, earlier, _defaults(kind)), strict=True)]
    return value if value is None else _difference(kind, value, earlier or _defaults(kind))


def _whole(kind: type, plain: Any, earlier: Mapping[str, Any] | None) -> Any:
    """The plain form of a `kind`, of its difference from `earlier`; what is none is left to whoever reads it."""
    if not isinstance(plain, dict):
        return plain
    parts = _parts(kind)
    before = _defaults(kind) if earlier is None else earlier
    return {
        **before,
        **{
            name: _whole_part(parts[name], value, before.get(name)) if name in parts else value
            for name, value in plain.items()
            if name != "like"
        },
    }


def _whole_part(kind: type, value: Any, earlier: Any) -> Any:
    if isinstance(value, list):
        return [_whole(kind, *pair) for pair in zip(value, _each(value, earlier, None), strict=True)]
    return _whole(kind, value, earlier if isinstance(earlier, dict) else None)


def _each(values: Sequence[Any], earlier: Any, otherwise: Any) -> Sequence[Any]:
    """What each of these parts is a difference from: the earlier one in its place, where there are as many."""
    pairs = isinstance(earlier, (list, tuple)) and len(earlier) == len(values)
    return [one if isinstance(one, dict) else otherwise for one in earlier] if pairs else [otherwise] * len(values)


@cache
def _parts(kind: type) -> Mapping[str, type]:
    """The fields of a dataclass that hold another one, None, or a sequence of others."""
    hints = {name: hint for name, hint in get_type_hints(kind).items() if get_origin(hint) is not dict}
    found = {name: [one for one in (hint, *get_args(hint)) if _is_part(one)] for name, hint in hints.items()}
    return {name: kinds[0] for name, kinds in found.items() if kinds}


def _is_part(hint: Any) -> TypeGuard[type]:
    return isinstance(hint, type) and is_dataclass(hint)


@cache
def _defaults(kind: type) -> Mapping[str, Any]:
    """What stands in a field of a dataclass that is left out, as plain data."""
    import msgspec

    made = {field.name: field.default_factory() for field in fields(kind) if field.default_factory is not MISSING}
    given = {field.name: field.default for field in fields(kind) if field.default is not MISSING}
    defaults = msgspec.to_builtins({**made, **given})
    assert isinstance(defaults, dict)
    return defaults


def _once(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    """Each different one, in order; by their text, as two metrics that are not numbers are never equal."""
    return tuple({repr(part): part for part in parts}.values())


def _convert(plain: Any, kind: Any) -> Any:
    import msgspec

    try:
        return msgspec.convert(plain, kind)
    except (msgspec.ValidationError, ValueError, OverflowError) as exc:
        raise Unreadable(f"its attnbench records do not fit schema {SCHEMA_VERSION}: {exc}") from exc
