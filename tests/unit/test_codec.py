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
from attnbench.codec import Unreadable, compact, json_schema, launch_from, record_from, rounded, run_from, to_plain

REGENERATE = (
    "python -c 'from attnbench.codec import json_schema; print(json_schema(), end=\"\")' "
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


def nudged(part, rng):
    """The dataclass with another value in a field of its own, or somewhere in a part of it."""
    name = rng.choice([field.name for field in dataclasses.fields(part)])
    value = getattr(part, name)
    if dataclasses.is_dataclass(value):
        other = nudged(value, rng)
    elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        at = rng.randrange(len(value))
        other = (*value[:at], nudged(value[at], rng), *value[at + 1 :])
    else:
        other = anything(typing.get_type_hints(type(part))[name], rng)
    try:
        return dataclasses.replace(part, **{name: other})
    except ValueError:
        return part


@pytest.mark.parametrize("seed", range(50))
def test_every_field_of_a_run_survives_being_made_compact(seed):
    rng = random.Random(seed)
    stored = dataclasses.replace(anything(model.RunFile, rng), schema=model.SCHEMA_VERSION)
    records = [*stored.records, anything(model.Record, rng)]
    for _ in range(10):
        records.append(nudged(rng.choice(records), rng))
    once = tuple({repr(record): record for record in records}.values())  # as they are read
    stored = dataclasses.replace(stored, launches=stored.launches[:1], records=once)
    kept = json.loads(json.dumps(compact(stored)))
    assert run_from({"attnbench": kept}) == stored
    jsonschema.Draft202012Validator(shipped_schema()).validate(kept)
    assert len(json.dumps(kept)) <= len(json.dumps(to_plain(stored)))


def test_a_compact_record_holds_what_differs_from_an_earlier_one_of_its_case_or_workload(run_file, record, check):
    op = model.DeviceOp("kernel", duration_s=1e-3)
    first = record("a@eager", checks=(check({"max_abs": 1.0}),), route=(op, op))
    again = dataclasses.replace(
        first, launch="b", sample=model.Sample((2e-3,), "perf_counter"), route=(op, dataclasses.replace(op, count=2))
    )
    other = record("b@eager", checks=(check({"max_abs": 1.0}, max_abs=0.5),))
    alone = record("c@eager", workload=dataclasses.replace(first.workload, seq=7), status="unsupported")
    kept = json.loads(json.dumps(compact(run_file(first, again, other, alone))))["records"]
    name = "a@eager-flux-256px-t128 0123456789ab"
    assert kept[1] == {"like": name, "launch": "b", "sample": {"rounds_s": [2e-3]}, "route": [{}, {"count": 2}]}
    differing = {"case": other.case, "backend": "b", "checks": [{"error": {"max_abs": 0.5}}], "route": []}
    assert kept[2] == {"like": name, **differing}
    assert "like" not in kept[3]
    assert "sample" not in kept[3], "the default of a field is not stored"


def test_what_was_checked_first_is_what_others_of_its_workload_are_like(run_file, record, check):
    """The reference is a third of a record, and what cannot run has none."""
    checked = [record(f"{name}@eager", checks=(check({"max_abs": 1.0}),)) for name in "bc"]
    kept = compact(run_file(record("a@eager", status="unsupported"), *checked))["records"]
    names = [f"{one}@eager-flux-256px-t128 0123456789ab" for one in "ab"]
    assert [one.get("like") for one in kept] == [None, *names]


def test_records_of_one_case_in_one_launch_are_like_the_first(run_file, record):
    """Several tests may be of one case: what is called the same is the first of them."""
    tests = [record(nodeid=name, route=(model.DeviceOp(name),)) for name in ("a", "b", "c")]
    run = run_file(*tests, *(dataclasses.replace(one, launch="x") for one in tests))
    kept = json.loads(json.dumps(compact(run)))
    assert run_from({"attnbench": kept}) == run
    assert {one.get("like") for one in kept["records"]} == {None, NAME}


NAME = "torch_flash@eager-flux-256px-t128 0123456789ab"  # of the record that tests begin with


def differences(run_file, record, *likes):
    """A run whose first record is whole, and the others are differences from these."""
    plain = json.loads(json.dumps(compact(run_file(record()))))
    return {"attnbench": {**plain, "records": [*plain["records"], *({"like": like, "launch": "x"} for like in likes)]}}


ITSELF = f"{NAME.split(maxsplit=1)[0]} x"


@pytest.mark.parametrize("like", [ITSELF, f"{NAME} ", NAME.upper(), "", "None None", 0, True, None, [NAME], {NAME: 0}])
def test_a_record_that_is_like_none_before_it_is_refused(run_file, record, like):
    with pytest.raises(Unreadable) as refused:
        run_from(differences(run_file, record, like, NAME))
    assert str(refused.value) == (
        f"its record 1 is the difference from {json.dumps(like)}, which does not come before it"
    )


def test_a_line_that_others_rest_on_cannot_be_taken_out(run_file, record):
    document = differences(run_file, record, NAME)
    del document["attnbench"]["records"][0]
    with pytest.raises(Unreadable, match=r"its record 0 is the difference from .*, which does not come before it"):
        run_from(document)


def test_a_line_that_none_rests_on_may_be_taken_out(run_file, record):
    run = run_file(record("a@eager"), record("b@eager"), record("b@eager", launch="x"))
    kept = compact(run)
    kept["records"] = [one for one in kept["records"] if one.get("launch") != "x"]
    assert run_from({"attnbench": kept}).records == run.records[:2]


def test_a_record_like_something_that_is_no_record_is_refused(run_file, record):
    document = differences(run_file, record, NAME)
    document["attnbench"]["records"][0] = "a record"
    with pytest.raises(Unreadable, match=r"its record 1 is the difference from .*, which does not come before it"):
        run_from(document)


def test_a_part_of_another_form_than_the_earlier_one_is_named_by_its_place(run_file, record):
    document = differences(run_file, record, NAME)
    document["attnbench"]["records"][1]["sample"] = {"rounds_s": "fast"}
    with pytest.raises(Unreadable, match=r"Expected `array`, got `str` - at `\$\.records\[1\]\.sample\.rounds_s`"):
        run_from(document)
    document["attnbench"]["records"][1]["sample"] = [1]
    with pytest.raises(Unreadable, match=r"at `\$\.records\[1\]\.sample`"):
        run_from(document)


@pytest.mark.parametrize("length", [10**6, 1], ids=["long ones", "many short ones"])
def test_differences_that_become_more_than_any_run_are_refused(run_file, record, monkeypatch, length):
    """A few bytes each, of a record with a sentence of a million characters, or of which most is left out."""
    monkeypatch.setattr("attnbench.codec.MOST_EXPANDED", 2**22)
    document = differences(run_file, record, *[NAME] * (5 if length > 1 else 5000))
    document["attnbench"]["records"][0]["apart"] = "x" * length
    with pytest.raises(Unreadable, match="its records are differences, of more than 4 MiB when they are expanded"):
        run_from(document)


def test_a_run_of_the_first_schema_is_read_as_ever(run_file, record):
    plain = json.loads(json.dumps(to_plain(run_file(record(), schema=1))))
    for later in ("changed", "source", "spent_s"):
        del plain["records"][0][later]
    del plain["records"][0]["sample"]["unequal"]
    plain["records"][0]["like"] = 12  # no word of that schema
    assert run_from({"attnbench": plain}) == run_file(record(), schema=1)
    assert compact(run_from({"attnbench": plain}))["schema"] == model.SCHEMA_VERSION


# Digits


@pytest.mark.parametrize("seed", range(20))
def test_a_record_keeps_seven_digits_measured_and_all_digits_counted(seed):
    record = anything(model.Record, random.Random(seed))
    once = rounded(record)
    assert rounded(once) == once
    assert dataclasses.replace(once, workload=record.workload) == once
    for name, found, digits in numbers(to_plain(once), to_plain(record)):
        assert found[0] == pytest.approx(found[1], rel=5 * 10.0**-digits if isinstance(found[1], float) else 0), name


def numbers(once, before, name=""):
    """Each number of a rounded record with what it was, and the digits that it may have."""
    if isinstance(before, dict):
        return [one for key in before for one in numbers(once[key], before[key], key)]
    if isinstance(before, (list, tuple)):
        return [one for pair in zip(once, before, strict=True) for one in numbers(*pair, name)]
    digits = {"before_hz": 6, "cosine": 12}.get(name, 7)
    return [(name, (once, before), digits)] if isinstance(before, (int, float)) else []


@pytest.mark.parametrize("metric", ["rel_l2", "cosine"])
def test_a_check_that_passed_by_a_hair_still_does(record, check, metric):
    rng = random.Random(7)
    for _ in range(200):
        limit = 1 - rng.random() * 1e-3
        found = math.nextafter(limit, 2 if metric == "cosine" else 0)
        assert all(one.passed for one in rounded(record(checks=(check({metric: limit}, **{metric: found}),))).checks)


def test_a_cosine_keeps_its_distance_from_one(record, check):
    back = rounded(record(checks=(check({"cosine": 0.999}, cosine=1 - 1.3316622834e-6),)))
    assert 1 - back.checks[0].error.cosine == pytest.approx(1.3316622834e-6, rel=1e-6)


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
    with pytest.raises(
        Unreadable, match=rf"schema is {model.SCHEMA_VERSION + 1}, but this version .* upgrade attnbench"
    ):
        run_from({"attnbench": plain})


@pytest.mark.parametrize("schema", [None, 0, -1, "1", 1.5])
def test_a_schema_that_is_no_version_is_refused(run_file, schema):
    with pytest.raises(Unreadable, match="expected an integer >= 1"):
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
