"""A run in which nearly every case is slower by the same: the device or its driver, not a kernel."""

from __future__ import annotations

from typing import Any

import pytest

from attnbench.codec import run_from
from attnbench.report.markdown import markdown

SAID = "1? of 15 compared cases, in 2 families, are slower by about +1.* % (*): suspect the *"


def test_a_run_that_is_slower_as_a_whole_says_so_in_one_line(sim: Any, baseline: Any) -> None:
    baseline()
    run = ("--benchmark-only", "--attn-relaunch=0", "--benchmark-json=run.json")
    result = sim(*run, "--attn-sim=*:+1.5%")
    result.stdout.fnmatch_lines([f"  {SAID}"])
    result.stdout.no_fnmatch_line("*All of them ran with*")
    assert "device or driver, not a kernel" in " ".join(markdown(run_from(sim.stored())).split())

    for other in ("--attn-sim=torch_flash:+1.5%", "--attn-sim=seed=3"):
        result = sim(*run, other)
        assert "not a kernel" not in result.stdout.str()
    assert result.ret == pytest.ExitCode.OK
