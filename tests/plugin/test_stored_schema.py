"""What a run stores under `attnbench` is what the shipped JSON Schema describes."""

from __future__ import annotations

import json
from importlib import resources

import jsonschema
import pytest

SCENARIOS = {
    "measured": (),
    "every status": (
        "--attn-sim=torch_math@default:incorrect",
        "--attn-sim=torch_flash*:unsupported",
        "--attn-sim=torch_cudnn@eager:error",
        "--maxfail=2",
    ),
    "nothing measured": ("--attn-sim=*:unsupported",),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_stored_run_is_valid_under_the_shipped_schema(sim, name):
    sim("--benchmark-only", "--benchmark-json=run.json", *SCENARIOS[name])
    schema = json.loads((resources.files("attnbench") / "schema" / "run.schema.json").read_text(encoding="utf8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(sim.stored()["attnbench"])
