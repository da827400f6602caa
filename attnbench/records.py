"""Records as JSON: one codec for files, for the stream of a launch, and for its schema (layer 1)."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from typing import Any

from attnbench import printable
from attnbench.model import SCHEMA_VERSION, Launch, Record, RunFile


class Unreadable(ValueError):
    """A file or line that is not what it should be; the message says what is wrong and where.

    It quotes what it is about, so it is made safe to show here, for whoever shows it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable.message(text))


def to_plain(value: Record | Launch | RunFile) -> dict[str, Any]:
    """Dicts, lists, strings and numbers only."""
    import msgspec

    plain = msgspec.to_builtins(value)
    assert isinstance(plain, dict)
    return plain


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
        raise Unreadable(f"its attnbench schema is {schema!r}, a whole number from 1 is needed")
    if schema > SCHEMA_VERSION:
        raise Unreadable(
            f"its attnbench schema is {schema}, this version reads up to {SCHEMA_VERSION}: upgrade attnbench"
        )
    run = _convert(plain, RunFile)
    assert isinstance(run, RunFile)
    return replace(run, launches=_once(run.launches), records=_once(run.records))


def json_schema() -> str:
    """JSON Schema of what stands under `attnbench`, as the file `attnbench/schema/run.schema.json` holds it."""
    import msgspec

    schema = msgspec.json.schema(RunFile)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = f"attnbench run, schema {SCHEMA_VERSION}"
    for definition in schema["$defs"].values():
        if "description" in definition:  # a docstring, which Python 3.13 indents in another way than 3.12
            definition["description"] = inspect.cleandoc(definition["description"])
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def _once(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    """Each different one, in order; by their text, as two metrics that are not numbers are never equal."""
    return tuple({repr(part): part for part in parts}.values())


def _convert(plain: Any, kind: Any) -> Any:
    import msgspec

    try:
        return msgspec.convert(plain, kind)
    except (msgspec.ValidationError, ValueError, OverflowError) as exc:
        raise Unreadable(f"its attnbench records do not fit schema {SCHEMA_VERSION}: {exc}") from exc
