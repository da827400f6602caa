"""Records as JSON: what is stored comes back, and what cannot be read says why."""

import dataclasses
import json
import math
import random
import types
import typing
from enum import Enum
from importlib import resources

import jsonschema
import pytest

from attnbench import model
from attnbench.records import Unreadable, json_schema, launch_from, record_from, run_from, to_plain

REGENERATE = (
    "python -c 'from attnbench.records import json_schema; print(json_schema(), end=\"\")' "
    "> attnbench/schema/run.schema.json"
)


def anything(kind, rng):
    """Some value of a type, whatever fields the model has by now; a dataclass that refuses its fields is drawn again."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        for _ in range(1000):
            try:
                return kind(**{field.name: anything(hints[field.name], rng) for field in dataclasses.fields(kind)})
            except ValueError:
                continue
        raise AssertionError(f"no valid {kind.__name__} found")
    if origin in (typing.Union, types.UnionType):
        return anything(rng.choice(arguments), rng)
    if origin is tuple:
        return tuple(anything(arguments[0], rng) for _ in range(rng.randrange(3)))
    if origin is dict:
        return {anything(arguments[0], rng): anything(arguments[1], rng) for _ in range(rng.randrange(3))}
    if issubclass(kind, Enum):
        return rng.choice(list(kind))
    return {
        bool: lambda: rng.random() < 0.5,
        int: lambda: rng.randrange(2**40),
        float: lambda: rng.random() * 10 ** rng.randrange(-12, 6) + 0.5e-12,
        str: lambda: rng.choice(["", "µs × 3", 'a "quoted"\nline', "\x00\u2028😀"]),
        types.NoneType: lambda: None,
    }[kind]()


@pytest.mark.parametrize("seed", range(50))
def test_every_field_of_a_run_survives_json(seed):
    stored = dataclasses.replace(anything(model.RunFile, random.Random(seed)), schema=model.SCHEMA_VERSION)
    document = json.loads(json.dumps({"benchmarks": [], "attnbench": to_plain(stored)}))
    assert run_from(document) == stored


@pytest.mark.parametrize("seed", range(20))
def test_records_and_launches_survive_the_stream_of_a_launch(seed):
    rng = random.Random(seed)
    record, launch = anything(model.Record, rng), anything(model.Launch, rng)
    assert record_from(json.loads(json.dumps(to_plain(record)))) == record
    assert launch_from(json.loads(json.dumps(to_plain(launch)))) == launch


def test_metrics_that_are_not_numbers_survive(record, check):
    wrong = record(status="incorrect", checks=(check({"max_abs": 1.0}, rel_l2=math.nan, max_abs=math.inf),))
    back = record_from(json.loads(json.dumps(to_plain(wrong))))
    assert math.isnan(back.checks[0].error.rel_l2)
    assert back.checks[0].error.max_abs == math.inf


def test_a_stored_record_that_was_tampered_with_is_refused(record):
    plain = {**to_plain(record()), "status": "incorrect", "reasons": [{"code": "tolerance", "text": "wrong"}]}
    with pytest.raises(Unreadable, match="'incorrect' cannot carry a sample"):
        record_from(plain)


@pytest.mark.parametrize("document", [None, [], "text", 3, {}, {"attnbench": None}, {"attnbench": []}])
def test_a_document_without_our_records_says_so(document):
    with pytest.raises(Unreadable, match="it was not written by an attnbench run"):
        run_from(document)


def test_a_newer_schema_says_what_to_do(run_file):
    plain = {**to_plain(run_file()), "schema": model.SCHEMA_VERSION + 1, "records": "in a form of the future"}
    with pytest.raises(Unreadable, match=rf"schema is {model.SCHEMA_VERSION + 1}, this version .* upgrade attnbench"):
        run_from({"attnbench": plain})


@pytest.mark.parametrize("schema", [None, 0, -1, "1", 1.5])
def test_a_schema_that_is_no_version_is_refused(run_file, schema):
    with pytest.raises(Unreadable, match="a whole number from 1 is needed"):
        run_from({"attnbench": {**to_plain(run_file()), "schema": schema}})


def test_a_wrong_field_is_named_by_its_place(run_file, record):
    plain = to_plain(run_file(record()))
    plain["records"][0]["workload"]["seq"] = "long"
    with pytest.raises(Unreadable, match=r"Expected `int`, got `str` - at `\$\.records\[0\]\.workload\.seq`"):
        run_from({"attnbench": plain})


def test_fields_of_a_later_version_of_the_same_schema_are_ignored(run_file, record):
    plain = to_plain(run_file(record()))
    plain["records"][0]["colour"] = "green"
    assert run_from({"attnbench": plain}) == run_file(record())


def shipped_schema():
    return json.loads((resources.files("attnbench") / "schema" / "run.schema.json").read_text(encoding="utf8"))


def test_the_shipped_schema_is_that_of_the_model():
    assert shipped_schema() == json.loads(json_schema()), (
        f"the model changed; write its schema again with: {REGENERATE}"
    )


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_stored_is_valid_under_the_shipped_schema(seed):
    stored = anything(model.RunFile, random.Random(seed))
    jsonschema.Draft202012Validator(shipped_schema()).validate(json.loads(json.dumps(to_plain(stored))))


@pytest.mark.parametrize("broken", [{"status": "fine"}, {"backend": None}, {"sample": {"rounds_s": [1]}}])
def test_the_shipped_schema_refuses_what_the_model_refuses(run_file, record, broken):
    plain = to_plain(run_file(record()))
    plain["records"][0].update(broken)
    with pytest.raises(Unreadable):
        run_from({"attnbench": plain})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(shipped_schema()).validate(plain)


def test_a_sentence_about_a_file_shows_what_it_quotes_and_is_cut():
    said = str(Unreadable(f"run.json: \x1b[31m{'x' * 10_000}\nmore"))
    assert said.startswith(r"run.json: \x1b[31mxxx")
    assert said.isprintable()
    assert len(said) == 2000
