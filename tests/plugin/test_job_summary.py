"""scripts/job_summary on runs of the simulated device, and on files that are no run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs/runners.md"


@pytest.fixture
def job_summary(pytester, monkeypatch):
    """`job_summary(file, NAME=value …)` calls the script from the project's folder, with this interpreter."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)

    def call(*arguments: str | Path, **variables: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "ATTN_PYTHON": sys.executable, **{k: str(v) for k, v in variables.items()}}
        command = [ROOT / "scripts/job_summary", *arguments]
        return subprocess.run(
            command, capture_output=True, encoding="utf8", env=environment, cwd=pytester.path, timeout=60, check=False
        )

    return call


@pytest.fixture
def recorded(sim, baseline):
    """A project with a stored session of the simulated device."""
    baseline()
    return sim


def test_the_summary_of_a_run_is_printed(recorded, pytester, job_summary):
    slow = ("--attn-sim=torch_flash@eager:+5%", "--attn-sim=torch_math@default:error")
    recorded("--benchmark-only", "--attn-require-baseline", "--benchmark-json=run.json", *slow).assert_outcomes(
        passed=13, failed=2
    )
    done = job_summary(pytester.path / "run.json")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "## attnbench (simulated): 1 regressed, 1 missing, 13 unchanged"
    kinds = re.findall(r"^\| \**([a-z-]+)\** \| `(\S+) ·", done.stdout, re.M)
    assert kinds[:2] == [("regressed", "torch_flash@eager"), ("missing", "torch_math@default")]
    assert [kind for kind, _ in kinds[2:]] == ["unchanged"] * 13
    assert "simulated: cannot be loaded: ImportError: undefined symbol" in done.stdout
    assert any(line.startswith("$ pytest --benchmark-only") for line in lines)


def test_an_injected_slow_down_says_so(recorded, pytester, job_summary):
    recorded("--benchmark-only", "--benchmark-json=run.json", "--attn-inject=numpy:+20%")
    done = job_summary(pytester.path / "run.json")
    assert done.stdout.startswith("## attnbench (simulated, slowed down on purpose): 1 regressed, 14 unchanged\n")
    assert "INJECTED slow-down: numpy@eager +20 % (1 case)\n" in done.stdout


def test_without_a_baseline_every_case_says_so(sim, pytester, job_summary):
    sim("--benchmark-only", "--attn-require-baseline", "--benchmark-json=run.json").assert_outcomes(failed=15)
    done = job_summary(pytester.path / "run.json")
    assert done.stdout.startswith("## attnbench (simulated): 15 no-baseline\n")
    assert done.stdout.count("no-baseline |") == 15


def test_github_gets_the_summary_in_its_file_and_after_what_is_there(sim, pytester, job_summary):
    sim("--benchmark-only", "--benchmark-json=run.json")
    run, page = pytester.path / "run.json", pytester.path / "summary.md"
    page.write_text("before\n")
    printed = job_summary(run)
    done = job_summary(run, GITHUB_STEP_SUMMARY=page, LC_ALL="C", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert page.read_text(encoding="utf8") == f"before\n{printed.stdout}"
    assert "·" in printed.stdout


BAD = {
    "a file that is not there": (None, "No such file or directory"),
    "an empty file, as a run that was killed leaves it": ("", "is not JSON"),
    "a truncated file": ('{"machine_info": {}, "benchm', "was cut off"),
    "foreign JSON": ("[]", "not from pytest-benchmark"),
    "a run of another suite": ('{"machine_info": {}, "benchmarks": []}', "not written by an attnbench run"),
    "an endless nest": ("[" * 200_000, "nested too deeply"),
    "a number without an end": (f'{{"a": {"1" * 5000}}}', "cannot be"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_run_is_a_summary_too_and_exit_code_four(pytester, job_summary, name):
    content, said = BAD[name]
    path, page = pytester.path / "run.json", pytester.path / "summary.md"
    if content is not None:
        path.write_text(content)
    done = job_summary(path, GITHUB_STEP_SUMMARY=page)
    assert done.returncode == 4
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    text = page.read_text()
    assert text.startswith("## attnbench: no result\n")
    assert said in " ".join(text.split())
    assert job_summary(path).stdout == text


def test_figures_that_no_run_can_have_are_a_sentence(sim, pytester, job_summary):
    sim("--benchmark-only", "--benchmark-json=run.json", "--attn-backend=numpy")
    path = pytester.path / "run.json"
    path.write_text(re.sub(r'"seq":\d+', f'"seq":1{"0" * 400}', path.read_text()))
    done = job_summary(path)
    assert done.returncode == 4
    assert done.stdout.startswith("## attnbench: no result\n")
    assert "Traceback" not in done.stderr


def test_an_environment_that_cannot_be_had_is_a_summary_too(pytester, job_summary):
    page = pytester.path / "summary.md"
    done = job_summary("run.json", GITHUB_STEP_SUMMARY=page, ATTN_PYTHON="/no/python")
    assert done.returncode == 1
    assert "ATTN_PYTHON=/no/python is not a program" in done.stderr
    assert page.read_text().startswith("## attnbench: no summary\n")


@pytest.mark.parametrize(("arguments", "code"), [((), 2), (("a", "b"), 2), (("--help",), 0), (("-h",), 0)])
def test_it_says_how_to_call_it(pytester, job_summary, arguments, code):
    page = pytester.path / "summary.md"
    done = job_summary(*arguments, GITHUB_STEP_SUMMARY=page)
    assert done.returncode == code
    assert "usage: attnbench summary [-h] FILE" in done.stdout + done.stderr
    assert not page.exists()


def test_the_example_of_the_guide_is_what_its_commands_print(pytester, job_summary):
    text = GUIDE.read_text(encoding="utf8")
    (commands,) = re.findall(r"^<!-- example: .*-->\n\n```sh\n(.*?)^```$", text, re.M | re.S)
    (shown,) = re.findall(r"^````markdown\n(.*?)^````$", text, re.M | re.S)
    program = commands.replace("/tmp/example", str(pytester.path))
    environment = {**os.environ, "ATTN_PYTHON": sys.executable}
    done = subprocess.run(
        ["bash", "-c", program],
        capture_output=True,
        encoding="utf8",
        env=environment,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    printed = done.stdout[done.stdout.index("## attnbench") :].replace(str(pytester.path), "/tmp/example")
    assert without_id(printed) == without_id(shown), done.stderr


def without_id(text: str) -> str:
    """A session's name has a random part."""
    return re.sub(r"\b0001_[0-9a-f]{12}\b", "0001_ID", text)
