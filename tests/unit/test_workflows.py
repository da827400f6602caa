"""What every workflow promises beyond what zizmor checks: no secret, an end, and steps that are scripts of this repository.

zizmor (scripts/test) holds triggers, pinned actions, credentials and code in templates.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def read(path: Path) -> dict:
    return yaml.load(path.read_text(encoding="utf8"), yaml.BaseLoader)  # every scalar is text: `on` stays `on`


def steps(path: Path) -> list[dict]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


def test_there_are_workflows():
    assert {path.name for path in WORKFLOWS} >= {"bench.yml", "ci.yml"}


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def workflow(request) -> Path:
    return request.param


def test_no_workflow_reads_a_secret(workflow):
    assert "secrets." not in workflow.read_text(encoding="utf8")


def test_rights_are_none_but_to_read_the_contents(workflow):
    assert read(workflow)["permissions"] == {}
    for name, job in read(workflow)["jobs"].items():
        assert job["permissions"] == ({} if name == "gate" else {"contents": "read"})


def test_a_newer_push_ends_the_older_run_of_its_own_pull_request_only(workflow):
    concurrency = read(workflow)["concurrency"]
    assert concurrency["cancel-in-progress"] == "true"
    assert "${{ github.ref }}" in concurrency["group"]
    assert "${{ github.workflow }}" in concurrency["group"]


def test_every_job_ends(workflow):
    assert all(0 < int(job["timeout-minutes"]) <= 90 for job in read(workflow)["jobs"].values())


def test_a_pinned_action_is_of_github_and_has_its_version_beside_it(workflow):
    lines = re.findall(r"^ *(?:- )?uses: (.*)$", workflow.read_text(encoding="utf8"), re.M)
    assert len(lines) == sum("uses" in step for step in steps(workflow)) > 0
    assert [line for line in lines if not re.fullmatch(r"actions/[a-z-]+@\S+ # v\d+\.\d+\.\d+", line)] == []


def test_a_checkout_cleans_and_fetches_no_history(workflow):
    (checkout,) = [step["with"] for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkout.pop("fetch-depth", "2") == "2"  # the commit that a pull request is based on, and no more
    assert set(checkout) == {"persist-credentials"}  # clean is the default


def test_the_gpu_job_has_the_commit_whose_sessions_it_compares_with():
    checkout, measure, *_ = job()["steps"]
    assert checkout["with"]["fetch-depth"] == "2"
    assert "--attn-baselines-from=HEAD^1" in shlex.split(measure["run"])


def test_every_command_is_one_script_of_this_repository(workflow):
    jobs = {name: job for name, job in read(workflow)["jobs"].items() if name != "gate"}  # which has no checkout
    for step in (step for job in jobs.values() for step in job["steps"]):
        if "run" in step:
            assert not re.search(r"[;&|<>$`\n]", step["run"])
            script = ROOT / shlex.split(step["run"].removeprefix("exec "))[0]
            assert script.parent == ROOT / "scripts"
            assert script.stat().st_mode & 0o111, f"{script} cannot be run"


def job() -> dict:
    return read(ROOT / ".github/workflows/bench.yml")["jobs"]["gpu"]


def test_the_gpu_job_runs_for_pull_requests_of_this_repository_only():
    assert set(read(ROOT / ".github/workflows/bench.yml")["on"]) == {"pull_request"}
    assert job()["if"] == "github.event.pull_request.head.repo.full_name == github.repository"
    assert job()["runs-on"] == ["self-hosted", "gpu"]


def test_the_gpu_job_shows_and_keeps_the_file_that_it_measured_whatever_happened():
    checkout, measure, summary, upload = job()["steps"]
    assert "uses" in checkout
    command = shlex.split(measure["run"])
    assert command == [
        "exec",  # GitHub signals the shell alone
        *("scripts/bench", "--attn-launches=1", "--attn-timeout=300"),  # a fault costs its own case
        *("--attn-require-baseline", "--attn-baselines-from=HEAD^1", "--benchmark-json=run.json"),
    ]
    assert int(measure["timeout-minutes"]) < int(job()["timeout-minutes"])
    assert (summary["run"], summary["if"]) == ("scripts/job_summary run.json", "always()")
    assert (upload["with"]["path"], upload["if"]) == ("run.json", "always()")


# The gate


def gate() -> dict:
    return read(ROOT / ".github/workflows/bench.yml")["jobs"]["gate"]


HERE, FORK = "us/attnbench", "somebody/attnbench"


def passes(result: str, head: str) -> tuple[bool, str]:
    """Whether the gate is green when the GPU job ended so, and what it prints; run as GitHub runs it."""
    (step,) = gate()["steps"]
    given = {"RESULT": result, "HEAD_REPOSITORY": head, "GITHUB_REPOSITORY": HERE, "PATH": os.environ["PATH"]}
    ended = subprocess.run(["bash", "-e", "-c", step["run"]], env=given, capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    return ended.returncode == 0, ended.stdout


def test_the_gate_always_reports_with_no_rights_and_no_action():
    assert (gate()["if"], gate()["needs"], gate()["permissions"]) == ("always()", ["gpu"], {})
    (step,) = gate()["steps"]
    assert "uses" not in step
    assert "${{" not in step["run"]
    assert step["env"] == {
        "RESULT": "${{ needs.gpu.result }}",
        "HEAD_REPOSITORY": "${{ github.event.pull_request.head.repo.full_name }}",
    }


@pytest.mark.parametrize("head", [HERE, FORK, ""])
@pytest.mark.parametrize("result", ["success", "failure", "cancelled", "skipped", ""])
def test_the_gate_is_green_for_success_only(result, head):
    green, said = passes(result, head)
    assert green == (result == "success")
    assert said.startswith("The GPU job passed." if green else "::error::Not ")


@pytest.mark.parametrize(("head", "named"), [(FORK, FORK), ("", "a repository that is gone")])
def test_the_gate_of_a_fork_says_what_a_maintainer_does(head, named):
    _, said = passes("skipped", head)
    assert said == (
        f"::error::Not measured: this pull request comes from {named}. A maintainer reviews the change, pushes it to a "
        f"branch of {HERE}, and opens a pull request from there: docs/runners.md, 'Why forks do not run'.\n"
    )
    assert "## Why forks do not run" in (ROOT / "docs/runners.md").read_text(encoding="utf8")


def test_a_name_that_looks_like_a_command_is_only_a_name():
    green, said = passes("$(touch x)`touch x`", '"; touch x; "')
    assert not green
    assert "touch x" in said
