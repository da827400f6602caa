"""`--attn-inject`: a chosen case is really slower, and every output says that it was made so."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

STORED = ("--benchmark-only", "--benchmark-json=run.json")
EAGER = (*STORED, "--attn-mode=eager", "--attn-backend=torch_math", "--attn-backend=torch_flash")
FLASH, MATH = "torch_flash@eager-flux-256px-t128", "torch_math@eager-flux-256px-t128"


def median_s(record: dict[str, Any]) -> float:
    return statistics.median(record["sample"]["rounds_s"])


def test_every_output_says_what_was_injected(sim: Any) -> None:
    result = sim(*EAGER, "--attn-inject=torch_flash:+2%", "--attn-inject=*:+0.5%")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "attnbench: *, 30 rounds; INJECTED torch_flash:+2%, *:+0.5%; cases selected by *",
            "torch_flash@eager* INJECTED +2 % *",
            "INJECTED slow-down: torch_math@eager +0.5 % (1 case), torch_flash@eager +2 % (1 case)",
        ]
    )
    assert {case: record["injected"] for case, record in sim.records().items()} == {FLASH: 0.02, MATH: 0.005}
    shown = {entry["extra_info"]["case"]: entry for entry in sim.stored()["benchmarks"]}
    assert {case: entry["extra_info"]["injected"] for case, entry in shown.items()} == {FLASH: 0.02, MATH: 0.005}
    assert shown[FLASH]["name"] == shown[FLASH]["fullname"].rpartition("::")[2] + " INJECTED +2 %"


def test_without_an_injection_nothing_speaks_of_one(sim: Any) -> None:
    assert "INJECTED" not in sim(*EAGER).stdout.str()
    assert {record["injected"] for record in sim.records().values()} == {None}
    assert not any("injected" in entry["extra_info"] for entry in sim.stored()["benchmarks"])


@pytest.mark.parametrize("isolate", [(), ("--attn-isolate",)], ids=["here", "isolated"])
def test_a_simulated_case_takes_that_much_longer_and_the_others_do_not(sim: Any, isolate: tuple[str, ...]) -> None:
    sim(*EAGER, "--attn-sim=torch_*:+10%")
    plain = sim.records()
    sim(*EAGER, "--attn-sim=torch_*:+10%", f"--attn-inject={FLASH}:+2%", *isolate)
    injected = sim.records()
    assert median_s(injected[FLASH]) == pytest.approx(1.02 * median_s(plain[FLASH]), rel=1e-9)
    assert injected[MATH]["sample"] == plain[MATH]["sample"]
    assert [injected[case]["injected"] for case in (FLASH, MATH)] == [0.02, None]
    entries = {entry["extra_info"]["case"]: entry for entry in sim.stored()["benchmarks"]}
    assert entries[FLASH]["extra_info"]["injected"] == 0.02


def test_a_case_that_is_not_timed_is_not_said_to_be_slowed_down(sim: Any) -> None:
    result = sim("--attn-backend=torch_flash", "--attn-inject=torch_flash:+2%", "--attn-sim=torch_flash:error")
    assert "INJECTED slow-down" not in result.stdout.str()
    result = sim("--attn-backend=torch_flash", "--attn-inject=torch_flash:+2%", "--benchmark-disable")
    assert "INJECTED slow-down" not in result.stdout.str()


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("torch_flsh:+2%", "no selected case matches 'torch_flsh'; nearest: torch_flash*"),
        ("numpy:+2%", "no selected case matches 'numpy'; *"),  # there is one, and it was not selected
        ("torch_flash@default:+2%", "no selected case matches 'torch_flash@default'; nearest: torch_flash@eager*"),
        ("torch_flash:2%", "expected GLOB:+P% with P above 0, such as torch_flash:+2%, got 'torch_flash:2%'"),
        ("torch_flash:+0%", "expected GLOB:+P% with P above 0, such as torch_flash:+2%, got 'torch_flash:+0%'"),
    ],
)
def test_an_entry_that_slows_nothing_down_is_a_usage_error(
    sim: Any, monkeypatch: Any, entry: str, complaint: str
) -> None:
    result = sim(*EAGER, f"--attn-inject={entry}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --attn-inject: {complaint}"])
    monkeypatch.setenv("ATTN_INJECT", entry)
    result = sim(*EAGER)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: ATTN_INJECT: {complaint}"])


def test_on_the_cpu_every_round_waits_within_the_interval(bench: Any, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
import time
import torch
from attnbench import register


@register("sleepy", "tests")
def load(workload):
    def attention(q, k, v):
        time.sleep(0.005)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)

    return attention
"""
    )
    tiny = ("--attn-device=cpu", "--attn-workload=1x32x2x16:fp32", "--attn-backend=sleepy")
    bench(*STORED, *tiny, "--attn-inject=sleepy:+300%").assert_outcomes(passed=1)
    (record,) = bench.records().values()
    assert (record["injected"], record["sample"]["timer"]) == (3.0, "perf_counter")
    # However busy the machine is, no call is shorter than its sleep, and no wait than three times that.
    assert len(record["sample"]["rounds_s"]) == 5
    assert min(record["sample"]["rounds_s"]) >= 4 * 0.005
