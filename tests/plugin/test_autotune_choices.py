"""Cases that settled on other kernels than the stored launches: tried once more, and then not compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from printed import sentences

from attnbench.backends.autotune import own_cache
from attnbench.codec import run_from
from attnbench.plugin.retest import CHOICES_BUDGET_S
from attnbench.report.markdown import markdown

TWO = ("--attn-mode=default", "--attn-backend=torch_flash", "--attn-backend=torch_cudnn")
RUN = ("--benchmark-only", "--benchmark-json=run.json", *TWO, "--attn-sim=torch_cudnn*:choices=B")
CUDNN, FLASH = (f"{name}@default-flux-256px-t128" for name in ("torch_cudnn", "torch_flash"))
STORED = (*TWO, "--attn-sim=*:choices=B")

#: Notes of every child which compiler's caches it was given, and whether they are empty.
NOTE_THE_CACHES = """
import json, os, sys, time
if any("--attn-child" in argument for argument in sys.argv):
    names = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_FX_GRAPH_REMOTE_CACHE")
    found = {name: os.environ.get(name) for name in names}
    found["empty"] = not any(os.path.exists(found[name] or "/") for name in names[:2])
    os.makedirs(os.path.join(os.environ.get("TRITON_CACHE_DIR", "made"), "by another compilation"), exist_ok=True)
    with open("children.jsonl", "a") as notes:
        print(json.dumps(found), file=notes)
"""


def verdict(sim: Any, case: str = FLASH) -> dict[str, Any]:
    return {one["case"]: one for one in sim.stored()["attnbench"]["verdicts"]}[case]


@pytest.fixture
def children(sim: Any, pytester: pytest.Pytester) -> Any:
    """The caches of the processes that were started so far."""
    pytester.makeconftest(NOTE_THE_CACHES)
    notes = pytester.path / "children.jsonl"
    return lambda: [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []


def test_a_case_of_other_choices_is_tried_once_more_and_then_not_compared(
    sim: Any, baseline: Any, children: Any
) -> None:
    baseline(*STORED)
    result = sim(*RUN, "--attn-sim=torch_flash*:choices=A", "--attn-sim=torch_flash:+30%", "--attn-require-baseline")
    assert result.ret == 0, "that alone fails nothing"
    found = verdict(sim)
    assert (found["kind"], found["change"], found["launches"]) == ("incomparable", None, 2)
    settled = "triton_tem_fused_simulated_0: BLOCK=A here, BLOCK=B in the baseline"
    assert found["reasons"][0]["text"] == f"no stored launch made these autotune choices: {settled}"
    assert found["reasons"][1]["text"] == (
        "measured again with an empty compiler cache, and autotuning made none of the stored choices"
    )
    assert verdict(sim, CUDNN)["kind"] == "unchanged"
    said = "1 case was not compared: no stored launch made its autotune choices"
    sentences(result).fnmatch_lines(
        [f"  incomparable: torch_flash@default · *{settled}; measured again with *", "2 cases: *"]
    )
    assert f"{said} (this alone fails no test)" in result.outlines
    assert f"\n{said}.\n" in markdown(run_from(sim.stored()))
    (child,) = children()
    assert child["empty"]
    assert child["TORCHINDUCTOR_FX_GRAPH_REMOTE_CACHE"] == "0"
    folder = Path(child["TORCHINDUCTOR_CACHE_DIR"]).parent
    assert folder == Path(child["TRITON_CACHE_DIR"]).parent
    assert not folder.exists(), "what was compiled for that one look is removed"
    assert folder.name.startswith("attnbench-cache-")


def test_a_case_that_then_makes_the_stored_choices_is_judged_on_that_launch(
    sim: Any, baseline: Any, children: Any
) -> None:
    baseline(*STORED)
    result = sim(*RUN, "--attn-sim=torch_flash*:choices=A/B")
    assert result.ret == 0
    found = verdict(sim)
    assert (found["kind"], found["launches"]) == ("unchanged", 1)
    assert found["notes"] == [
        "1 launch of this run is not counted, for other autotune choices: triton_tem_fused_simulated_0: BLOCK=A"
    ]
    choices = [one["compilation"]["choices"] for one in sim.stored()["attnbench"]["records"] if one["case"] == FLASH]
    assert [line[0][-1] for line in choices] == ["A", "B"], "both are stored"
    result.stdout.fnmatch_lines(["median of 30 rounds, clock simulated; *"])  # those of A and B are not one sample
    assert len(children()) == 1


def test_a_slow_down_of_the_stored_choices_is_confirmed_in_the_cache_that_made_them(
    sim: Any, baseline: Any, children: Any
) -> None:
    baseline(*STORED)
    result = sim(*RUN, "--attn-sim=torch_flash*:choices=A/B", "--attn-sim=torch_flash:+3%")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    found = verdict(sim)
    assert (found["kind"], found["launches"]) == ("regressed", 2)
    first, second = children()
    assert first["TORCHINDUCTOR_CACHE_DIR"] == second["TORCHINDUCTOR_CACHE_DIR"]
    assert (first["empty"], second["empty"]) == (True, False)


def test_fresh_processes_of_other_choices_confirm_nothing(sim: Any, baseline: Any, pytester: pytest.Pytester) -> None:
    baseline(*STORED)
    pytester.makeconftest(
        """
import pytest, sys
@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    if any("--attn-child" in argument for argument in sys.argv):
        config.option.attn_sim = [entry.replace("choices=B", "choices=C") for entry in config.option.attn_sim]
"""
    )
    result = sim(*RUN, "--attn-sim=torch_flash*:choices=B", "--attn-sim=torch_flash:+3%")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    found = verdict(sim)
    assert (found["kind"], found["launches"]) == ("regressed", 1)
    assert found["reasons"][-1]["text"] == "measured once: each of 3 fresh processes made other autotune choices"
    assert found["notes"][-1].startswith("3 launches of this run are not counted, for other autotune choices: ")


def test_a_try_that_fails_leaves_the_case_incomparable_and_says_why(
    sim: Any, baseline: Any, pytester: pytest.Pytester
) -> None:
    baseline(*STORED)
    pytester.makeconftest(
        "import os, sys\ndef pytest_runtest_call():\n"
        "    if any('--attn-child' in argument for argument in sys.argv):\n        os._exit(7)\n"
    )
    result = sim(*RUN, "--attn-sim=torch_flash*:choices=A/B", "--attn-require-baseline")
    assert result.ret == 0
    assert verdict(sim)["kind"] == "incomparable"
    assert verdict(sim)["reasons"][1]["text"].startswith(
        "with an empty compiler cache: a fresh process could not measure it again"
    )


@pytest.mark.parametrize(
    ("relaunch", "first_call_s", "said"),
    [
        ("0", 1.0, "not measured again (--attn-relaunch=0)"),
        (
            "3",
            CHOICES_BUDGET_S + 1,
            f"not measured again: it would exceed the {CHOICES_BUDGET_S:g} s that a run may spend on this",
        ),
    ],
    ids=["no relaunch", "too long"],
)
def test_a_case_is_not_tried_for_longer_than_the_budget(
    sim: Any, baseline: Any, children: Any, relaunch: str, first_call_s: float, said: str
) -> None:
    stored = baseline(*STORED)
    document = json.loads(stored.read_text())
    for record in document["attnbench"]["records"]:
        record["first_call_s"] = first_call_s
    stored.write_text(json.dumps(document))
    result = sim(*RUN, "--attn-sim=torch_flash*:choices=A/B", f"--attn-relaunch={relaunch}")
    assert result.ret == 0
    assert [reason["text"] for reason in verdict(sim)["reasons"]][1:] == [said]
    assert children() == []


def test_another_reason_beside_the_choices_fails_where_a_baseline_is_required(sim: Any, baseline: Any) -> None:
    stored = baseline(*STORED)
    document = json.loads(stored.read_text())
    for launch in document["attnbench"]["launches"]:
        launch["fingerprint"]["key"]["protocol"] = "another"
    stored.write_text(json.dumps(document))
    result = sim(*RUN, "--attn-sim=torch_flash*:choices=A", "--attn-require-baseline")
    result.assert_outcomes(failed=2)


def test_eager_cases_have_no_choices(sim: Any, baseline: Any) -> None:
    eager = ("--attn-mode=eager", "--attn-backend=torch_flash")
    baseline(*eager, "--attn-sim=*:choices=A")
    assert sim("--benchmark-only", "--benchmark-json=run.json", *eager, "--attn-sim=*:choices=B").ret == 0
    assert verdict(sim, "torch_flash@eager-flux-256px-t128")["kind"] == "unchanged"


def test_what_inductor_and_triton_keep_goes_below_the_folder_of_ones_own(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As this torch itself says where it keeps things."""
    code = (
        "import torch\nfrom torch._inductor.codecache import FxGraphCache, PyCodeCache\n"
        "from torch._inductor.runtime.cache_dir_utils import cache_dir, triton_cache_dir\n"
        "print(cache_dir()); print(triton_cache_dir(0))\n"
        "print(FxGraphCache._get_tmp_dir())\n"
    )
    pytester.makepyfile(where=code)
    folder = pytester.path / "own"
    for name, value in own_cache(folder).items():
        monkeypatch.setenv(name, value)
    result = pytester.runpython("where.py")
    assert result.ret == 0
    assert len(result.outlines) == 3
    assert all(line.startswith(str(folder)) for line in result.outlines)
