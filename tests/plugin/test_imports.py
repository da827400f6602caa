"""What every pytest run in the environment pays for the plugin, and what looking at the suite imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: What only a run of cases needs.
OURS = tuple(f"attnbench.{name}" for name in ("checks", "execution", "report", "storage", "timing", "verdicts"))
HEAVY = ("torch", "numpy", "msgspec", "triton", "pynvml")


def loaded(after: str, modules: tuple[str, ...] = HEAVY) -> str:
    """Which of these modules a fresh process has after running `after`."""
    program = f"import sys\n{after}\nprint('loaded:', *(m for m in {modules} if m in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    return ran.stdout.splitlines()[-1]


def test_importing_the_plugin_loads_nothing_that_only_cases_need():
    assert loaded("import attnbench.plugin", HEAVY + OURS) == "loaded:"


def test_a_run_without_cases_loads_nothing_that_only_cases_need(tmp_path):
    (tmp_path / "test_theirs.py").write_text("def test_theirs(): pass\n")
    arguments = [str(tmp_path), f"--rootdir={tmp_path}", *("-p", "attnbench.plugin", "-p", "no:cacheprovider", "-q")]
    assert loaded(f"import pytest; assert pytest.main({arguments}) == 0", HEAVY + OURS) == "loaded:"


@pytest.mark.parametrize("options", [["--collect-only", "-q"], ["--help"], ["--markers"]], ids=" ".join)
def test_looking_at_the_whole_suite_loads_nothing_heavy(options):
    run = f"import pytest; assert pytest.main({['tests/suite', '-p', 'no:cacheprovider', *options]}) == 0"
    assert loaded(run) == "loaded:"


def test_a_case_in_eager_mode_loads_no_compiler_of_graphs():
    """SymPy and dynamo take a second to import, and every launch is a fresh process."""
    options = ["--benchmark-only", "-q", "-p", "no:cacheprovider", "--attn-device=cpu", "--attn-rounds=1"]
    case = ["--attn-backend=torch_math", "--attn-mode=eager", "--attn-workload=1x16x2x16:fp32", "tests/suite"]
    run = f"import pytest; assert pytest.main({[*options, *case]}) == 0"
    assert loaded(run, ("torch", "sympy", "torch._dynamo")) == "loaded: torch"


def test_a_launched_process_loads_nothing_that_only_its_parent_needs(sim, pytester):
    pytester.makeconftest(
        "import sys\n"
        "def pytest_unconfigure():\n"
        "    if any(argument.startswith('--attn-child') for argument in sys.argv):\n"
        f"        print(*(m for m in {OURS} if m in sys.modules), file=open({str(pytester.path / 'found')!r}, 'w'))\n"
    )
    sim("--benchmark-only", "--attn-launches=1", "--attn-backend=torch_flash", "--attn-mode=eager")
    found = (pytester.path / "found").read_text().split()
    assert "attnbench.execution" in found
    assert not {"attnbench.report", "attnbench.verdicts", "attnbench.storage"} & {*found}


def test_every_public_name_of_the_package_can_be_imported():
    import attnbench

    assert [name for name in attnbench.__all__ if getattr(attnbench, name).__name__ != name] == []
    assert not hasattr(attnbench, "no_such_name")
