"""`--attn-baselines-from`: a change to reviewed sessions is said, and does not move the verdicts of its own run."""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import takewhile

import pytest
from printed import sentences

CASE = "numpy@eager-flux-256px-t128"
NAME = "simulated-device/0001_recorded.json"
ARGUMENTS = ("--benchmark-only", "--benchmark-json=run.json", "--attn-backend=numpy", "--attn-relaunch=0")
SLOW = "--attn-sim=numpy:+5%"
FROM = "--attn-baselines-from=HEAD"


class Repository:
    """A git repository of the project."""

    def __init__(self, pytester):
        self.path = pytester.path
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "a")
        self.git("config", "user.email", "a@example.org")

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.path, check=True, capture_output=True, encoding="utf8")
        return done.stdout.strip()

    def commit(self) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=change")
        return self.git("rev-parse", "HEAD")[:12]


@pytest.fixture
def reviewed(baseline):
    """A session of every case, in the work tree."""
    return baseline()


@pytest.fixture
def repository(reviewed, pytester):
    """It, committed."""
    repository = Repository(pytester)
    repository.commit()
    return repository


def slowed(path, by: float = 1.05) -> None:
    """What a change that makes a kernel slower would have the reviewed session say."""
    document = json.loads(path.read_text())
    for record in document["attnbench"]["records"]:
        record["sample"]["rounds_s"] = [round_s * by for round_s in record["sample"]["rounds_s"]]
    path.write_text(json.dumps(document))


def of_other_launches(path) -> None:
    """The session as it would be, had it been recorded anew."""
    document = json.loads(path.read_text())
    for launch in document["attnbench"]["launches"]:
        launch["id"] = launch["id"][::-1]
    for record in document["attnbench"]["records"]:
        record["launch"] = record["launch"][::-1]
    path.write_text(json.dumps(document))


def verdict(sim) -> dict:
    (found,) = sim.stored()["attnbench"]["verdicts"]
    return found


def section(result: pytest.RunResult) -> list[str]:
    """Of the section, what stands of the baselines."""
    first, *rest = result.outlines[
        next(at for at, line in enumerate(result.outlines) if line.startswith("baselines from")) :
    ]
    return [first, *takewhile(lambda line: line.startswith("  "), rest)]


def test_an_edited_session_does_not_acquit_and_is_named(sim, reviewed, repository):
    slowed(reviewed)
    assert sim(*ARGUMENTS, SLOW).ret == pytest.ExitCode.OK, "without the option the edited session counts"
    result = sim(*ARGUMENTS, SLOW, FROM)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert (verdict(sim)["kind"], verdict(sim)["compared_with"]) == ("regressed", [NAME])
    commit = f"HEAD ({repository.git('rev-parse', 'HEAD')[:12]})"
    assert section(result) == [
        f"baselines from {commit}; THIS CHANGE EDITS THE BASELINES (its sessions count only where that commit has no",
        "  comparable one):",
        f"  edited {NAME}",
    ]
    stored = sim.stored()["attnbench"]
    assert (stored["baselines_from"], stored["baseline_changes"]) == (commit, [f"edited {NAME}"])


def test_a_committed_edit_is_seen_from_the_commit_before(sim, reviewed, repository):
    slowed(reviewed)
    repository.commit()
    assert sim(*ARGUMENTS, SLOW, FROM).ret == pytest.ExitCode.OK
    assert sim(*ARGUMENTS, SLOW, "--attn-baselines-from=HEAD^1").ret == pytest.ExitCode.TESTS_FAILED
    assert sim.stored()["attnbench"]["baseline_changes"] == [f"edited {NAME}"]


def test_the_commit_a_pull_request_is_based_on_is_the_first_parent_of_its_merge(sim, reviewed, repository):
    repository.git("checkout", "--quiet", "-b", "pull-request")
    slowed(reviewed)
    repository.commit()
    repository.git("checkout", "--quiet", "main")
    repository.git("merge", "--quiet", "--no-ff", "--message=merge", "pull-request")
    assert sim(*ARGUMENTS, SLOW, "--attn-baselines-from=HEAD^1").ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.unlink(), [f"removed {NAME}"]),
        (lambda path: shutil.rmtree(path.parents[1]), [f"removed {NAME}"]),
        (
            lambda path: path.rename(path.with_name("0007_other.json")),
            [f"renamed {NAME} to simulated-device/0007_other.json"],
        ),
    ],
    ids=["removed", "folder removed", "renamed"],
)
def test_a_session_that_is_gone_still_convicts_and_is_named(sim, reviewed, repository, change, said):
    change(reviewed)
    assert sim(*ARGUMENTS, SLOW, FROM).ret == pytest.ExitCode.TESTS_FAILED
    assert verdict(sim)["compared_with"] == [NAME]
    assert sim.stored()["attnbench"]["baseline_changes"] == said


def test_a_case_that_is_not_measured_any_more_is_missing_though_its_session_was_removed(sim, reviewed, repository):
    reviewed.unlink()
    result = sim(*ARGUMENTS, "--attn-sim=numpy:unsupported", "--attn-require-baseline", FROM)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert verdict(sim)["kind"] == "missing"


def test_a_session_that_the_commit_lacks_is_said_and_does_not_count(sim, baseline, repository):
    added = baseline()
    slowed(added)
    of_other_launches(added)
    result = sim(*ARGUMENTS, FROM)
    assert result.ret == pytest.ExitCode.OK
    assert (verdict(sim)["kind"], verdict(sim)["compared_with"]) == ("unchanged", [NAME])
    assert "this change adds to the baselines (its sessions count only where" in " ".join(section(result))
    assert sim.stored()["attnbench"]["baseline_changes"] == ["added simulated-device/0002_recorded.json"]
    assert sim(*ARGUMENTS, SLOW, FROM).ret == pytest.ExitCode.TESTS_FAILED


def test_where_the_commit_has_no_session_the_work_tree_s_counts_and_is_marked(sim, pytester, baseline):
    repository = Repository(pytester)
    pytester.mkdir("baselines").joinpath("README.md").write_text("empty")
    commit = f"HEAD ({repository.commit()})"
    baseline()
    result = sim(*ARGUMENTS, FROM, "--attn-require-baseline")
    assert result.ret == pytest.ExitCode.OK
    note = f"compared with a session that this change adds: {commit} has no comparable one of this case"
    assert verdict(sim)["notes"] == [note]
    assert (verdict(sim)["kind"], verdict(sim)["compared_with"]) == ("unchanged", [NAME])
    sentences(result).fnmatch_lines([f"  {note}: numpy@eager · flux-256px-t128"])
    assert sim(*ARGUMENTS, FROM, SLOW).ret == pytest.ExitCode.TESTS_FAILED
    assert note in verdict(sim)["notes"]


def test_what_the_commit_lacks_is_decided_case_by_case(sim, baseline, pytester):
    baseline("--attn-backend=numpy")
    repository = Repository(pytester)
    repository.commit()
    baseline()
    both = ("--attn-backend=torch_math", "--attn-mode=eager", FROM)
    sim(*ARGUMENTS, *both)
    verdicts = {one["case"]: one for one in sim.stored()["attnbench"]["verdicts"]}
    assert verdicts[CASE]["compared_with"] == [NAME]
    assert verdicts[CASE]["notes"] == []
    other = verdicts["torch_math@eager-flux-256px-t128"]
    assert other["compared_with"] == ["simulated-device/0002_recorded.json"]
    assert "this change adds" in other["notes"][0]


def test_sessions_of_another_set_up_give_way_to_those_that_a_change_records(sim, reviewed, repository):
    document = json.loads(reviewed.read_text())
    recorded = json.dumps(document)
    for launch in document["attnbench"]["launches"]:
        launch["fingerprint"]["key"]["protocol"] = "older"
    reviewed.write_text(json.dumps(document))
    repository.commit()
    sim(*ARGUMENTS, FROM)
    assert verdict(sim)["kind"] == "incomparable"
    reviewed.write_text(recorded)  # in place, under the same name
    sim(*ARGUMENTS, FROM)
    assert verdict(sim)["kind"] == "unchanged"
    assert "this change adds" in verdict(sim)["notes"][0]


def test_an_unchanged_folder_is_said_in_one_line(sim, reviewed, repository):
    result = sim(*ARGUMENTS, FROM)
    commit = repository.git("rev-parse", "HEAD")[:12]
    assert section(result) == [f"baselines from HEAD ({commit}); the work tree has the same"]


def test_own_saves_below_the_folder_are_no_change(sim, reviewed, repository):
    sim(*ARGUMENTS, "--benchmark-save=mine")
    sim(*ARGUMENTS, FROM)
    assert sim.stored()["attnbench"]["baseline_changes"] == []


def test_changes_for_other_devices_are_named_too(sim, pytester, reviewed, repository):
    other = pytester.mkdir("baselines/nvidia-h200") / "0001_recorded.json"
    shutil.copy(reviewed, other)
    repository.commit()
    slowed(other)
    sim(*ARGUMENTS, FROM)
    assert sim.stored()["attnbench"]["baseline_changes"] == ["edited nvidia-h200/0001_recorded.json"]


@pytest.mark.parametrize("place", ["ini", "variable"])
def test_the_commit_may_be_named_in_the_ini_file_and_the_environment(sim, pytester, monkeypatch, repository, place):
    if place == "variable":
        monkeypatch.setenv("ATTN_BASELINES_FROM", "HEAD")
    else:
        ini = pytester.path / "tox.ini"
        ini.write_text(f"{ini.read_text()}\nattn_baselines_from = HEAD\n")
    sim(*ARGUMENTS)
    assert sim.stored()["attnbench"]["baselines_from"].startswith("HEAD (")


def test_the_command_that_measures_a_case_again_names_the_commit(sim, reviewed, repository):
    sim(*ARGUMENTS, SLOW, FROM)
    assert "--attn-baselines-from=HEAD " in verdict(sim)["reproduce"] + " "


def test_a_folder_below_a_root_below_the_repository_is_found(sim, pytester, reviewed, monkeypatch):
    below = pytester.mkdir("project")
    for name in ("baselines", "tox.ini", "test_suite.py"):
        pytester.path.joinpath(name).rename(below / name)
    repository = Repository(pytester)
    repository.commit()
    slowed(below / "baselines" / NAME)
    monkeypatch.chdir(below)
    result = sim(*ARGUMENTS[:1], *ARGUMENTS[2:], f"--rootdir={below}", "-c", "tox.ini", SLOW, FROM)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert f"  edited {NAME}" in result.outlines


def test_a_folder_that_is_replaced_by_a_link_hides_nothing(sim, pytester, reviewed, repository):
    slowed(reviewed)
    pytester.path.joinpath("baselines").rename(pytester.path / "elsewhere")
    pytester.path.joinpath("baselines").symlink_to("elsewhere")
    assert sim(*ARGUMENTS, SLOW, FROM).ret == pytest.ExitCode.TESTS_FAILED


def test_links_in_the_commit_are_followed(sim, pytester, reviewed):
    """Of the folder, of a device's folder and of a session: an edit of what they lead to is one of the session."""
    target = pytester.mkdir("reviewed") / "one.data"
    reviewed.rename(target)
    reviewed.symlink_to("../../reviewed/one.data")
    reviewed.parent.rename(pytester.path / "reviewed" / "device")
    target.rename(target.parent / "device" / target.name)
    (pytester.path / "reviewed" / "device" / reviewed.name).unlink()
    (pytester.path / "reviewed" / "device" / reviewed.name).symlink_to("one.data")
    reviewed.parent.symlink_to("../reviewed/device")
    pytester.path.joinpath("baselines").rename(pytester.path / "store")
    pytester.path.joinpath("baselines").symlink_to("store")
    Repository(pytester).commit()
    result = sim(*ARGUMENTS, SLOW, FROM)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert section(result)[0].endswith("the work tree has the same")
    slowed(reviewed)
    assert sim(*ARGUMENTS, SLOW, FROM).ret == pytest.ExitCode.TESTS_FAILED
    assert sim.stored()["attnbench"]["baseline_changes"] == [f"edited {NAME}"]


@pytest.mark.parametrize(
    "variable",
    ["GIT_DIR", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_ICASE_PATHSPECS"],
)
def test_a_variable_of_git_reads_no_other_repository(sim, monkeypatch, repository, variable):
    monkeypatch.setenv(variable, "1" if variable.endswith("PATHSPECS") else "/nowhere")
    assert section(sim(*ARGUMENTS, FROM))[0].endswith("the work tree has the same")


def refused(sim, *arguments: str) -> str:
    """The one sentence."""
    result = sim(*ARGUMENTS, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    (line,) = [line for line in result.errlines if line.startswith("ERROR: ")]
    return line.removeprefix("ERROR: --attn-baselines-from: ")


@pytest.mark.parametrize("ref", ["HEAD^1", "nosuch", "--all", "HEAD:baselines"])
def test_an_unknown_commit_is_one_sentence(sim, repository, ref):
    assert refused(sim, f"--attn-baselines-from={ref}") == (
        f"there is no commit {ref!r} in {repository.path}: name a commit, branch or tag that is there"
    )


@pytest.mark.parametrize("given", ["", " "])
def test_an_empty_value_is_refused_and_not_taken_for_none(sim, repository, given):
    """`--attn-baselines-from=$BASE` where nobody set it would compare with what the change itself says."""
    assert refused(sim, f"--attn-baselines-from={given}") == f"expected a value, got {given!r}"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("0001_recorded.json", "nowhere in that commit"),  # itself
        ("gone.json", "nowhere in that commit"),
        ("/dev/null", "out of the repository, to /dev/null"),
    ],
)
def test_a_link_that_no_commit_can_follow_is_one_sentence(sim, reviewed, pytester, target, said):
    reviewed.unlink()
    reviewed.symlink_to(target)
    Repository(pytester).commit()
    assert refused(sim, FROM) == (
        f"baselines/{NAME} is a link that leads {said}: name another commit, or another folder in attn_baselines"
    )


@pytest.mark.parametrize("where", ["baselines", "baselines/simulated-device"])
def test_sessions_in_a_submodule_are_refused(sim, reviewed, pytester, where):
    """Its commit is the change's to choose: the sessions would be as new in every change."""
    inner = pytester.path / where
    subprocess.run(["git", "init", "--quiet", str(inner)], check=True)
    given = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(inner)]
    subprocess.run(["git", *given, "commit", "--quiet", "--allow-empty", "--message=inner"], check=True)
    Repository(pytester).commit()
    assert refused(sim, FROM).startswith(f"{where} is a submodule, so no commit of {pytester.path} holds ")


def test_a_shallow_clone_that_lacks_the_commit_is_told_what_to_fetch(sim, pytester, repository, monkeypatch):
    repository.commit()
    clone = pytester.path / "clone"
    repository.git("clone", "--quiet", "--depth=1", f"file://{repository.path}", str(clone))
    for name in ("tox.ini", "test_suite.py"):
        shutil.copy(pytester.path / name, clone)
    monkeypatch.chdir(clone)
    said = refused(sim, "--attn-baselines-from=HEAD^1", f"--rootdir={clone}", "-c", "tox.ini")
    assert said.endswith(
        "a shallow clone: fetch more of its history (git fetch --deepen=1; for actions/checkout, fetch-depth: 2)"
    )


def test_outside_of_a_repository_and_without_git_are_one_sentence(sim, reviewed, pytester, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(pytester.path.parent))
    assert refused(sim, FROM).startswith(f"git rev-parse in {pytester.path}: not a git repository")
    monkeypatch.setenv("PATH", "")
    assert refused(sim, FROM).startswith(
        "git is not installed, and only it can read the sessions of a commit: install it"
    )


def test_baselines_outside_of_the_repository_are_refused(sim, repository, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert refused(sim, FROM, "-o", f"attn_baselines={elsewhere}") == (
        f"the folder of baselines {elsewhere} is outside the repository {repository.path}, so no commit holds it: "
        "drop the option"
    )


def test_without_a_folder_of_baselines_the_option_is_refused_and_a_variable_waits(sim, monkeypatch):
    assert refused(sim, FROM, "-o", "attn_baselines=").endswith("set the ini key attn_baselines")
    monkeypatch.setenv("ATTN_BASELINES_FROM", "HEAD")
    assert sim(*ARGUMENTS, "-o", "attn_baselines=").ret == pytest.ExitCode.OK


def test_a_damaged_session_of_the_commit_is_named_with_the_commit(sim, reviewed, repository):
    whole = reviewed.read_text()
    reviewed.write_text(whole[:1000])
    repository.commit()
    reviewed.write_text(whole)
    said = refused(sim, FROM)
    assert said.startswith(f"a session of this commit cannot be used: HEAD:baselines/{NAME} is not JSON")


def test_a_job_summary_names_what_a_change_edits(sim, reviewed, repository, capsys):
    from attnbench.cli.command import main

    slowed(reviewed)
    sim(*ARGUMENTS, SLOW, FROM)
    capsys.readouterr()
    assert main(["summary", "run.json"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("## attnbench (simulated, baselines edited): 1 regressed")
    assert "**This change edits the baselines.** Verdicts use the sessions of `HEAD (" in text
    assert f"\nedited {NAME}\n" in text
