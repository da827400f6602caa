"""Records as JSON: one codec for files, for the stream of a launch, and for its schema.

Since schema 2 a record in a file may be the *difference* from an earlier record of its list. Equal fields are left out, and
`like` names the earlier record by case and launch; its place in the list would move when a line is removed. A field that
holds a part of the model (another dataclass) is a difference itself, and so is each part in a list of equally many. Every
other value (a number, a sentence, a list of numbers, a dictionary) is written whole where it differs. Without `like`, and in
a part that the earlier record lacks, a field that is left out has the model's default.
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

#: Significant digits of measured values: a round is off by at most 5e-7 of itself, a thousandth of what launches differ by.
DIGITS = 7
#: Digits of fields and metrics that need more or fewer. A clock step is 7.6e-3 of the clock, and clock readings scatter by
#: 1e-4. Of a cosine the distance from 1 counts. A share of dropout is no measured value.
_DIGITS_OF = {"before_hz": 6, "cosine": 12, "dropout": 17}
#: The first schema in which a record may be a difference.
_DIFFERENCES_SINCE = 2
#: Differences are expanded before they are read. Together they may become this long as JSON, in bytes.
MOST_EXPANDED = 2**28


class Unreadable(ValueError):
    """A file or line that is not as it should be; the message says what is wrong and where.

    The message quotes contents of the file, so it is made safe to show here.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable.message(text))


class NewerSchema(Unreadable):
    """A file or line of a later schema than `SCHEMA_VERSION`."""


def to_plain(value: Record | Launch | RunFile) -> dict[str, Any]:
    """The same data as dicts, lists, strings and numbers."""
    import msgspec

    plain = msgspec.to_builtins(value)
    assert isinstance(plain, dict)
    return plain


def rounded(record: Record) -> Record:
    """The record with as many digits as are stored, so that a run shows the same values as its file.

    Rounding keeps order, so a check that passed still passes. Rounding twice is the same as once.
    """
    return record_from(to_digits(to_plain(record)))


def to_digits(plain: Any, name: str = "") -> Any:
    """Plain data with floats rounded to `DIGITS` significant digits, or to those of their field. name: of that field."""
    if isinstance(plain, float):
        return float(f"{plain:.{_DIGITS_OF.get(name, DIGITS)}g}")
    if isinstance(plain, dict):
        return {key: to_digits(value, key) for key, value in plain.items()}
    return [to_digits(value, name) for value in plain] if isinstance(plain, (list, tuple)) else plain


def compact(run: RunFile) -> dict[str, Any]:
    """The plain form of a file that is kept: as `to_plain`, with nothing twice and without defaults.

    A record is written as the difference from the first record of its case, or from one of its workload, if that is shorter.
    """
    plain = _difference(RunFile, to_plain(replace(run, schema=SCHEMA_VERSION, records=())), _defaults(RunFile))
    return {**plain, "records": _differences([to_plain(record) for record in run.records])}


def expanded_records(plain: Mapping[str, Any]) -> Any:
    """The records under the key `attnbench`, each whole.

    Raises Unreadable for a difference from a record that does not come before it, and for more than `MOST_EXPANDED` bytes. A
    record that is wrong in itself is passed on: `run_from` refuses it.
    """
    records, schema = plain.get("records"), plain.get("schema")
    if not isinstance(schema, int) or schema < _DIFFERENCES_SINCE or not isinstance(records, list):
        return records
    whole: list[Any] = []
    sizes: list[int] = []  # of each record in JSON, or a little more
    places: dict[Any, int] = {}  # by the name in `like`
    least, expanded = len(json.dumps(_defaults(Record))), 0
    for at, record in enumerate(records):
        sizes.append(least + len(json.dumps(record)))
        earlier = None
        if isinstance(record, dict) and "like" in record:
            place = _place(record["like"], places, at)
            earlier = whole[place]
            sizes[at] += sizes[place]
            expanded += sizes[at]
        if expanded > MOST_EXPANDED:
            most = MOST_EXPANDED / 2**20
            raise Unreadable(f"its records are differences, of more than {most:.0f} MiB when they are expanded")
        whole.append(_whole(Record, record, earlier))
        if isinstance(record, dict):
            places.setdefault(_name(whole[at]), at)
    return whole


def _place(like: Any, places: Mapping[Any, int], at: int) -> int:
    """The index of the record that record `at` is a difference from. Raises Unreadable if none before it has this name."""
    if not isinstance(like, str) or like not in places:
        raise Unreadable(f"its record {at} is the difference from {json.dumps(like)}, which does not come before it")
    return places[like]


def _name(record: Mapping[str, Any]) -> str:
    """The name of a record in `like`: the first one of its case in that launch."""
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
    """The part of a pytest-benchmark JSON document under `attnbench`.

    Raises Unreadable if the key is missing, the schema is newer than this version reads, or a field is wrong. A repeated
    record or launch counts once.
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
    records = plain.get("records")
    if isinstance(records, list) and any("like" in one for one in records if isinstance(one, dict)):
        records = expanded_records(plain)
    run = _convert({**plain, "records": records}, RunFile)
    assert isinstance(run, RunFile)
    return replace(run, launches=_once(run.launches), records=_once(run.records))


def json_schema() -> str:
    """JSON Schema of the part under `attnbench`, as in the file `attnbench/schema/run.schema.json`."""
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
    """Definitions of a record that is a difference, and of its parts: the same fields, all optional."""
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
    """Each record in its shortest form."""
    shortest = []
    of_name: dict[str, int] = {}  # indices of earlier records
    of_case: dict[str, int] = {}
    of_workload: dict[str, int] = {}  # of the first one with checks: the reference is the same for all of a workload
    for at, record in enumerate(records):
        case, workload = record["case"], json.dumps(record["workload"])
        earlier = [index[key] for index, key in ((of_case, case), (of_workload, workload)) if key in index]
        named = {name: one for one in earlier if of_name[name := _name(records[one])] == one}
        candidates = [{"like": name, **_difference(Record, record, records[one])} for name, one in named.items()]
        candidates.append(_difference(Record, record, _defaults(Record)))
        shortest.append(min(candidates, key=lambda one: len(json.dumps(one))))
        of_name.setdefault(_name(record), at)
        of_case.setdefault(case, at)
        if workload not in of_workload or (record["checks"] and not records[of_workload[workload]]["checks"]):
            of_workload[workload] = at
    return shortest


def _difference(kind: type, plain: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """What `_whole` needs besides `earlier` to restore `plain`, which is of the dataclass `kind`."""
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
    """The plain form of a `kind` from its difference to `earlier`; anything but a dict is passed on as it is."""
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
    """For each of these parts, what it is a difference from: the earlier one in its place, if there are equally many."""
    pairs = isinstance(earlier, (list, tuple)) and len(earlier) == len(values)
    return [one if isinstance(one, dict) else otherwise for one in earlier] if pairs else [otherwise] * len(values)


@cache
def _parts(kind: type) -> Mapping[str, type]:
    """The fields of a dataclass that hold another one, None, or a sequence of others."""
    hints = {name: hint for name, hint in get_type_hints(kind).items() if get_origin(hint) is not dict}
    parts = {name: [one for one in (hint, *get_args(hint)) if _is_part(one)] for name, hint in hints.items()}
    return {name: kinds[0] for name, kinds in parts.items() if kinds}


def _is_part(hint: Any) -> TypeGuard[type]:
    return isinstance(hint, type) and is_dataclass(hint)


@cache
def _defaults(kind: type) -> Mapping[str, Any]:
    """The defaults of a dataclass's fields, as plain data."""
    import msgspec

    made = {field.name: field.default_factory() for field in fields(kind) if field.default_factory is not MISSING}
    given = {field.name: field.default for field in fields(kind) if field.default is not MISSING}
    defaults = msgspec.to_builtins({**made, **given})
    assert isinstance(defaults, dict)
    return defaults


def _once(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    """The distinct parts, in order; compared by their text, because NaN never equals NaN."""
    return tuple({repr(part): part for part in parts}.values()) if len(parts) > 1 else parts


def _convert(plain: Any, kind: Any) -> Any:
    import msgspec

    try:
        return msgspec.convert(plain, kind)
    except (msgspec.ValidationError, ValueError, OverflowError) as exc:
        raise Unreadable(f"its attnbench records do not fit schema {SCHEMA_VERSION}: {exc}") from exc
