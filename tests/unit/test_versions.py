"""Which version of its code a backend runs: installed distributions, builds of one's own, and repositories."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench.backends.registry import Backend
from attnbench.backends.requirements import Device, Distribution, Package
from attnbench.backends.versions import CodeVersions


@pytest.fixture
def install(tmp_path, monkeypatch):
    """`install("my-kernels", "1.2", module="my_kernels", origin={…})` puts a distribution on the path."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def put(name, version, module="my_kernels", origin=None, code="pass"):
        folder = site / f"{name.replace('-', '_')}-0.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (folder / "top_level.txt").write_text(f"{module}\n")
        listed = (f"{module}.py,sha256={hash(code)},3", f"{folder.name}/INSTALLER,sha256=x,4", "../../bin/mine,,1")
        (folder / "RECORD").write_text("\n".join(listed))
        if origin is not None:
            (folder / "direct_url.json").write_text(json.dumps(origin))
        (site / f"{module}.py").write_text("def load(workload): ...\n")
        importlib.invalidate_caches()
        return site / f"{module}.py"

    return put


class Repository:
    """A git repository with one kernel file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self._git("init", "--quiet")
        self.write("kernel.py", "def load(workload): ...\n")
        self.commit()

    def write(self, name: str, content: str) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(content)

    def commit(self) -> None:
        self._git("add", "--all")
        self._git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "--message=change")

    def version(self) -> str:
        """What a backend of this repository is told apart by."""
        return CodeVersions().of(backend_in(self.path / "kernel.py")).get("repository", "")

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.path, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "repository")


def backend_in(path, **changes):
    """A backend whose `load` stands in this file."""
    names: dict = {}
    exec(compile(Path(path).read_text(), str(path), "exec"), names)  # as Python imports it
    return Backend(names["load"], "mine", changes.pop("family", "me"), **changes)


def ours(*requires, family="flash-attn"):
    """A backend as this package registers them."""
    return Backend(CodeVersions.of, "mine", family, requires=requires)


def test_a_backend_has_the_versions_of_what_it_requires(install):
    install("my-kernels", "1.2")
    install("other-name", "3.0", module="other_module")
    found = CodeVersions().of(
        ours(Distribution("my-kernels"), Package("other_module"), Distribution("no-such"), Device("cuda"))
    )
    assert found == {"my-kernels": "1.2", "other-name": "3.0"}
    assert "my_kernels" not in sys.modules


def test_the_module_that_is_taken_instead_is_the_one_whose_version_counts(install):
    install("fa3-like", "0.0.3", module="fa3_like_interface")
    assert CodeVersions().of(ours(Package("no_such_interface", also=("fa3_like_interface",)))) == {"fa3-like": "0.0.3"}


@pytest.mark.parametrize(
    ("origin", "version"),
    [
        (None, "1.2"),
        (
            {"url": "https://x/y", "vcs_info": {"vcs": "git", "commit_id": "0123456789abcdef"}},
            "1.2 (commit 0123456789ab)",
        ),
        ({"url": "file:///no/such/folder", "dir_info": {"editable": True}}, "1.2"),
        ({"url": "file:///x", "dir_info": {}}, "1.2 (build "),
        (["damaged"], "1.2"),
    ],
    ids=["index", "git", "editable elsewhere", "local build", "damaged"],
)
def test_a_build_of_ones_own_is_told_apart(install, origin, version):
    install("my-kernels", "1.2", origin=origin)
    assert CodeVersions().of(ours(Distribution("my-kernels")))["my-kernels"].startswith(version)


def test_a_local_build_is_another_version_only_where_its_code_is(install):
    def found(code):
        install("my-kernels", "1.2", origin={"url": "file:///x", "dir_info": {}}, code=code)
        return CodeVersions().of(ours(Distribution("my-kernels")))

    assert found("a") == found("a") != found("b")


def test_an_editable_installation_is_the_code_of_its_repository(install, repository):
    install("my-kernels", "1.2", origin={"url": repository.path.as_uri(), "dir_info": {"editable": True}})

    def found():
        return CodeVersions().of(ours(Distribution("my-kernels")))["my-kernels"]

    first = found()
    repository.write("kernel.cu", "// faster")
    repository.commit()
    assert first != found()
    assert first.startswith("1.2 (editable, ")


def test_a_backend_of_a_repository_is_its_code_and_stored_sessions_are_none(repository):
    first = repository.version()
    assert len(first) == 12
    repository.write("baselines/nvidia-h200/0001_0123456789ab.json", "{}")
    assert repository.version() == first, "a session that is not committed yet"
    repository.commit()
    repository.write("README.md", "words")
    repository.commit()
    assert repository.version() == first
    repository.write("kernel.cu", "// faster")
    repository.commit()
    assert len(repository.version()) == 12
    assert repository.version() != first


def test_local_changes_are_marked_and_edited_sessions_are_none(repository):
    repository.write("baselines/nvidia-h200/0001_a.json", "{}")
    repository.commit()
    repository.write("baselines/nvidia-h200/0001_a.json", "{ }")
    assert not repository.version().endswith("+dirty")
    repository.write("kernel.py", "def load(workload): return None\n")
    assert repository.version().endswith("+dirty")


def test_a_file_that_is_not_committed_is_a_local_change(repository):
    repository.write("conftest.py", "def load(workload): ...\n")
    found = CodeVersions().of(backend_in(repository.path / "conftest.py"))
    assert found["repository"].endswith("+dirty")


def test_without_a_repository_and_without_git_the_code_in_the_folder_is_the_version(tmp_path, repository, monkeypatch):
    alone = tmp_path / "conftest.py"
    alone.write_text("def load(workload): ...\n")
    found = []
    for name, content in (("notes.txt", "1"), ("kernel.cu", "1"), ("kernel.cu", "2"), ("notes.txt", "2")):
        (tmp_path / name).write_text(content)
        found.append(CodeVersions().of(backend_in(alone))["repository"])
    assert len(set(found)) == 3
    assert found[2] == found[3]
    by_git = repository.version()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert repository.version() not in ("", by_git)


def test_a_backend_of_an_installed_package_is_its_distribution(install):
    assert CodeVersions().of(backend_in(install("my-kernels", "1.2"))) == {"my-kernels": "1.2"}


def test_a_family_that_calls_anothers_kernels_has_their_version_too(install):
    install("flash-attn", "2.8.3", module="flash_attn")
    assert CodeVersions().of(ours(family="xformers")) == {"flash-attn": "2.8.3"}
    assert CodeVersions().of(ours(family="torch")) == {}
