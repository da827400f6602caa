"""Kernels of the Hugging Face Hub: the package `kernels` itself, on folders and a cache that a test makes; no network."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from attnbench.backends.hub import hf_kernels, loading
from attnbench.backends.hub.kernel_name import HubKernel
from attnbench.backends.registry import all_backends
from attnbench.backends.requirements import unmet
from attnbench.checks.route import wrong_route
from attnbench.hardware.facts import Facts
from attnbench.model import CaseEnded, DeviceOp, Status
from attnbench.workload import Workload

PAGE = Path(__file__).resolve().parents[2] / "docs" / "hub-kernels.md"
WORKLOAD = Workload("w", 1, 64, 2, 64)
CPU = Facts("cpu", "a CPU", None, (2, 13))
H200 = Facts("cuda", "NVIDIA H200", (9, 0), (2, 11))
A100 = Facts("cuda", "NVIDIA A100", (8, 0), (2, 11))
INSTALLED = {"kernels-0.17.2.dist-info/METADATA": "Metadata-Version: 2.4\nName: kernels\nVersion: 0.17.2\n"}
A, B = "a" * 40, "b" * 40
INNER = "it has interface.flash_attn_func: name one, as in hf:me/mine@1:interface.flash_attn_func"
WITHOUT_THE_HUB = "HF_HUB_OFFLINE=1 takes what is in the cache, LOCAL_KERNELS=me/mine=FOLDER a folder"

KERNEL = """
import torch

MARK = {mark!r}

def flash_attn_func(q, k, v, dropout_p=0.0, softmax_scale=None, causal=False):
    heads_first = (x.transpose(1, 2) for x in (q, k, v))
    out = torch.nn.functional.scaled_dot_product_attention(*heads_first).transpose(1, 2)
    return (out, None) if MARK == "tuple" else out

class Attention:
    pass
"""


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def build(name: str = "torch-universal", mark: str = "", **files: str) -> dict[str, str]:
    """The files of one build. The id, under which Python keeps the kernel, tells the kernels of this file apart."""
    build.count += 1
    metadata = {"name": "mine", "id": f"attnbench_test_{build.count}", "version": 1, "license": "Apache-2.0"}
    metadata |= {"python-depends": [], "backend": {"type": "cuda"}}
    made = {"__init__.py": KERNEL.format(mark=mark), "metadata.json": json.dumps(metadata), **files}
    return {f"build/{name}/{file}": content for file, content in made.items()}


build.count = 0


class Hub:
    """The Hub without the Hub: a cache that `kernels` takes for its own, offline, and folders for LOCAL_KERNELS."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch

    def commit(self, commit: str, *files: dict[str, str], repo: str = "me/mine", **refs: str) -> None:
        """Files of one commit in the cache, and the branches that point to it."""
        at = self.folder / "cache" / f"kernels--{repo.replace('/', '--')}"
        for some in files:
            write(at / "snapshots" / commit, some)
        write(at / "refs", dict.fromkeys(refs, commit))

    def local(self, *files: dict[str, str], repo: str = "me/mine") -> None:
        """A folder that LOCAL_KERNELS names for the kernel."""
        for some in files:
            write(self.folder / "local", some)
        self._monkeypatch.setenv("LOCAL_KERNELS", f"other/kernel=nowhere:{repo}={self.folder / 'local'}")

    def lock(self, *entries: object) -> None:
        """A project with a lock file, of which a folder below is the current one."""
        write(self.folder, {"project/pyproject.toml": "", "project/kernels.lock": json.dumps(entries)})
        (self.folder / "project" / "tests").mkdir()
        self._monkeypatch.chdir(self.folder / "project" / "tests")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    pytest.importorskip("kernels")
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for variable in ("LOCAL_KERNELS", "KERNELS_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    loading._outcome.cache_clear()
    yield Hub(tmp_path, monkeypatch)
    loading._outcome.cache_clear()
    for name in [name for name in sys.modules if name.startswith("attnbench_test_")]:
        del sys.modules[name]


def mark(kernel: HubKernel) -> str:
    return loading.loaded(kernel).module.MARK


def why_not(kernel: HubKernel) -> tuple[Status, str]:
    with pytest.raises(CaseEnded) as caught:
        hf_kernels.backend(kernel).load(WORKLOAD)
    (reason,) = caught.value.reasons
    return caught.value.status, reason.text


@pytest.mark.parametrize("returned", ["tensor", "tuple"])
def test_the_adapter_returns_the_attention_alone(hub, returned):
    hub.local(build(mark=returned))
    q, k, v = (torch.randn(1, 64, 2, 32, generator=torch.Generator().manual_seed(i)) for i in range(3))
    output = hf_kernels.backend(HubKernel("me/mine", "1")).load(WORKLOAD)(q, k, v)
    heads_first = (x.transpose(1, 2) for x in (q, k, v))
    expected = torch.nn.functional.scaled_dot_product_attention(*heads_first).transpose(1, 2)
    torch.testing.assert_close(output, expected)


def test_a_function_in_a_module_of_the_kernel_may_be_named(hub):
    hub.local(build(**{"__init__.py": "from . import interface", "interface.py": KERNEL.format(mark="inner")}))
    load = hf_kernels.backend(HubKernel("me/mine", "1", "interface.flash_attn_func")).load
    assert load(WORKLOAD)(*[torch.ones(1, 8, 1, 8)] * 3).shape == (1, 8, 1, 8)
    status, text = why_not(HubKernel("me/mine", "1"))
    assert (status, text) == (Status.ERROR, f"cannot be loaded: me/mine has no function 'flash_attn_func'; {INNER}")


def test_the_functions_of_a_kernel_are_listed_and_nothing_else_of_it(hub):
    hub.local(build())
    status, text = why_not(HubKernel("me/mine", "1", "attention"))
    assert (status, text.partition("; ")[2]) == (
        Status.ERROR,
        "it has flash_attn_func: name one, as in hf:me/mine@1:flash_attn_func",
    )


def test_a_version_is_the_commit_of_its_branch_and_a_revision_is_itself(hub):
    hub.commit(A, build("torch-universal", "first"), v1="")
    hub.commit(B, build("torch-universal", "second"), v2="", main="")
    versions = {pin: mark(HubKernel("me/mine", pin)) for pin in ("1", "2", "main", A)}
    assert versions == {"1": "first", "2": "second", "main": "second", A: "first"}
    assert loading.loaded(HubKernel("me/mine", "2")).source == f"me/mine at {B}, build torch-universal"


def test_a_folder_goes_before_the_cache_and_is_known_by_its_files(hub):
    hub.commit(A, build(mark="cached"), v1="")
    hub.local(build(mark="local"))
    assert mark(HubKernel("me/mine", "1")) == "local"
    source = loading.loaded(HubKernel("me/mine", "1")).source
    assert re.fullmatch(r"me/mine from a local folder, build torch-universal, SHA-256 [0-9a-f]{12}", source)
    write(
        hub.folder / "local", {"build/torch-universal/__pycache__/another.cpython-399.pyc": "bytecode of this machine"}
    )
    loading._outcome.cache_clear()
    assert loading.loaded(HubKernel("me/mine", "1")).source == source
    write(hub.folder / "local", {"build/torch-universal/kernel.so": "new"})
    loading._outcome.cache_clear()
    assert loading.loaded(HubKernel("me/mine", "1")).source != source


def locked(commit: str, **pinned: object) -> dict[str, object]:
    """An entry as `kernels lock` writes it."""
    return {"dependency": {"repo-id": "me/mine", **pinned}, "lock": {"commit": commit}}


def test_a_lock_file_of_the_project_decides_which_commit_a_version_is(hub):
    hub.commit(A, build(mark="locked"))
    hub.commit(B, build(mark="newest"), v1="", v2="")
    other = {**locked(B, version=1), "dependency": {"repo-id": "me/other", "version": 1}}
    hub.lock(other, locked(B, version=3), locked(A, version=1))
    assert {pin: mark(HubKernel("me/mine", pin)) for pin in ("1", "2", B)} == {
        "1": "locked",
        "2": "newest",
        B: "newest",
    }


def test_a_folder_goes_before_a_lock_file(hub):
    hub.commit(A, build(mark="locked"))
    hub.lock(locked(A, version=1))
    hub.local(build(mark="local"))
    assert mark(HubKernel("me/mine", "1")) == "local"


@pytest.mark.parametrize(
    "content",
    ["", "{", '{"me/mine": 1}', "[1]", json.dumps([{"repo_id": "me/mine", "sha": A, "variants": {}}])],
    ids=["empty", "cut off", "no list", "no entries", "of kernels before 0.17"],
)
def test_a_lock_file_that_cannot_be_read_is_not_passed_over(hub, content):
    hub.commit(B, build(mark="newest"), v1="")
    hub.lock()
    Path("../kernels.lock").write_text(content)
    with pytest.raises(ValueError, match=r"^kernels.lock cannot be read: .*; write it again with `kernels lock`"):
        loading.loaded(HubKernel("me/mine", "1"))


def test_a_kernel_without_a_build_for_this_machine_is_unsupported_with_what_there_is(hub):
    for name in ("torch28-cxx98-cu118-x86_64-linux", "torch29-metal-aarch64-darwin", "torch-neuron"):
        hub.local(build(name))
    status, text = why_not(HubKernel("me/mine", "1"))
    assert status is Status.UNSUPPORTED
    needed, _, found = text.partition(", found ")
    version = ".".join(torch.__version__.split(".")[:2])
    assert needed.startswith(f"needs a build of me/mine for torch {version} on ")
    assert sorted(found.split(", ")) == [
        "torch-neuron",
        "torch28-cxx98-cu118-x86_64-linux",
        "torch29-metal-aarch64-darwin",
    ]


def test_a_long_list_of_builds_is_cut_and_begins_with_those_of_this_system(hub):
    system = loading._system()
    names = [f"torch2{minor}-cxx98-cu118-{system}" for minor in range(6)] + [f"torch-xpu{n}" for n in range(6)]
    for name in names:
        hub.local(build(name))
    found = why_not(HubKernel("me/mine", "1"))[1].partition(", found ")[2]
    assert found == f"{', '.join([*names[:6], 'torch-xpu0', 'torch-xpu1'])} and 4 more"


@pytest.mark.parametrize(
    ("pin", "said"),
    [
        ("9", "Version 9 not found, available versions: 1"),
        (B, f"Cannot find a local snapshot for me/mine (revision: {B})"),
    ],
)
def test_what_is_not_in_the_cache_is_not_there_while_the_hub_may_not_be_asked(hub, pin, said):
    hub.commit(A, build(), v1="")
    status, text = why_not(HubKernel("me/mine", pin))
    assert status is Status.UNSUPPORTED
    needed = (
        "needs me/mine in the Hub's cache, as HF_HUB_OFFLINE=1 is set, or LOCAL_KERNELS=me/mine=FOLDER; found neither"
    )
    assert text.startswith(f"{needed}: {said}")


def test_a_version_that_the_hub_does_not_have_is_an_error(hub, monkeypatch):
    from huggingface_hub import constants

    def get_kernel(repo: str, **pinned: object) -> None:
        raise ValueError("Version 9 not found, available versions: 1")  # as it says online, too

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("kernels.get_kernel", get_kernel)
    with pytest.raises(ValueError, match="Version 9 not found"):
        loading.loaded(HubKernel("me/mine", "9"))


def test_a_kernel_that_the_cache_has_never_seen_is_not_there_either(hub):
    status, text = why_not(HubKernel("me/mine", "1"))
    assert status is Status.UNSUPPORTED
    assert "Version 1 of 'me/mine' is not available in the local cache" in text


def test_a_kernel_that_fails_to_import_is_an_error_with_its_cause(hub):
    hub.local(build(**{"__init__.py": "raise ImportError('a_kernel.so: undefined symbol: _ZN3c105Error')"}))
    ended = []
    for _ in range(2):
        with pytest.raises(ImportError, match="undefined symbol") as raised:
            hf_kernels.backend(HubKernel("me/mine", "1")).load(WORKLOAD)
        ended.append(len(raised.traceback))
    assert ended[1] <= ended[0], "the kept failure does not hold on to the frames of the cases before"


def test_a_hub_that_does_not_answer_is_asked_once_per_process(hub, monkeypatch):
    from huggingface_hub import HfApi, constants

    asked = []

    def no_answer(*arguments: object, **options: object) -> None:
        asked.append(arguments)
        raise ConnectionError("[Errno -2] Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "get_organization_overview", no_answer)
    ((status, text),) = {why_not(HubKernel("me/mine", "1")) for _ in range(3)}
    why = "could not verify publisher trust status (ConnectionError: [Errno -2] Name or service not known)"
    assert status is Status.ERROR
    assert text == f"cannot be loaded: Kernel repository 'me/mine' {why}; {WITHOUT_THE_HUB}"
    assert len(asked) == 1


def test_a_publisher_that_is_not_trusted_stays_so(hub, monkeypatch):
    from huggingface_hub import HfApi, constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "get_organization_overview", lambda *arguments, **options: None)
    status, text = why_not(HubKernel("me/mine", "1"))
    assert status is Status.ERROR
    assert text == f"cannot be loaded: Kernel repository 'me/mine' is not from a trusted publisher; {WITHOUT_THE_HUB}"


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """`stand_in(cause)` is a package `kernels` whose `get_kernel` raises that; with None it has no such function."""

    def put(cause: Exception | None) -> None:
        def get_kernel(repo_id, *, revision=None, version=None, backend=None, user_agent=None, trust_remote_code=False):
            raise cause

        module = ModuleType("kernels")
        module.__file__ = "/home/me/project/kernels/__init__.py"
        if cause is not None:
            module.get_kernel = get_kernel
        monkeypatch.setitem(sys.modules, "kernels", module)

    monkeypatch.chdir(tmp_path)
    loading._outcome.cache_clear()
    yield put
    loading._outcome.cache_clear()


class ConnectTimeout(Exception):
    """As the HTTP client of huggingface_hub raises it."""


ConnectTimeout.__module__ = "httpx2"


#: What `kernels` says, in its own words.
ARCHITECTURES = (
    "CUDA capability 12.0 of the current device is not supported by the architectures of the build: 8.0, 9.0a"
)
LATER = (
    "However, version v2 of 'me/mine' has a build compatible with your system (torch-cuda). Consider upgrading to that "
    "version by specifying the `version` argument."
)


@pytest.mark.parametrize(
    ("cause", "status", "text"),
    [
        (
            RuntimeError(
                "Kernel 'flash-attn3' variant 'torch-stable-abi29-cu130-x86_64-linux' does not support the current device: "
                f"{ARCHITECTURES}. "
                "The declared architectures can be incomplete (e.g. when a kernel has a Triton fallback), pass "
                "`check_arch=False` to skip this check."
            ),
            Status.UNSUPPORTED,
            f"me/mine: {ARCHITECTURES}",
        ),
        (
            FileNotFoundError(
                "Cannot find a build variant for this system in me/mine (revision: 01ab):\n\n"
                "torch27-cxx11-cu118-x86_64-linux: Torch version (2.7) does not match environment Torch version (2.13)\n\n"
                f"{LATER}"
            ),
            Status.UNSUPPORTED,
            f"torch27-cxx11-cu118-x86_64-linux; {LATER}",
        ),
        (
            ConnectTimeout("timed out"),
            Status.ERROR,
            f"cannot be loaded: the Hub could not be reached: ConnectTimeout: timed out; {WITHOUT_THE_HUB}",
        ),
    ],
    ids=["architecture", "later version", "no answer"],
)
def test_what_the_library_says_is_said_in_short(stand_in, cause, status, text):
    stand_in(cause)
    found, said = why_not(HubKernel("me/mine", "1"))
    assert (found, said.partition(", found ")[2] or said) == (status, text)


def test_a_folder_of_the_project_that_hides_the_package_is_named(stand_in):
    stand_in(None)
    with pytest.raises(ImportError, match=r"`import kernels` found /home/me/project/kernels/__init__.py, which hides"):
        loading.loaded(HubKernel("me/mine", "1"))


def said(backend: str, facts: Facts, workload: Workload = WORKLOAD) -> list[str]:
    return [reason.text for reason in unmet(all_backends()[backend].requires, facts, workload)]


def test_all_that_is_lacking_is_said_without_loading_anything(monkeypatch, tmp_path):
    import importlib.metadata

    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    lacking = "package 'kernels' is not installed (pip install kernels)"
    assert said("hf_flash_attn", H200) == said("hf_flash_attn3", H200) == [lacking]
    assert said("hf_flash_attn", CPU) == [lacking, "needs device cuda, found cpu"]
    assert said("hf_flash_attn3", A100, Workload("w", 1, 64, 2, 100, "fp32")) == [
        lacking,
        "needs sm_90 to below sm_100, found sm_80 (NVIDIA A100)",
        "needs dtype bf16 or fp16, found fp32",
        "needs head_dim a multiple of 8, at most 256, found 100",
    ]


@pytest.mark.parametrize(("name", "same"), [("hf_flash_attn", "flash_attn_2"), ("hf_flash_attn3", "flash_attn_3")])
def test_a_build_of_flash_attn_is_known_by_the_device_kernels_of_flash_attn(name, same):
    ran = {
        "flash_attn_2": "void flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4, false, false>>",
        "flash_attn_3": "void cutlass::device_kernel<flash::enable_sm90<flash::FlashAttnFwdSm90<...>>>",
        "torch_flash": "void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<128>>",
    }
    kernel = hf_kernels.FLASH_ATTN_2 if same == "flash_attn_2" else hf_kernels.FLASH_ATTN_3
    for backend in (all_backends()[name], hf_kernels.backend(HubKernel(kernel.repo, "main"))):
        right = [other for other, op in ran.items() if not wrong_route(backend, "cuda", (DeviceOp(op),))]
        assert right == [same]


def ids(result: pytest.RunResult) -> list[str]:
    return [line.split("[", 1)[1][:-1] for line in result.outlines if line.startswith("test_suite.py::")]


def test_a_kernel_of_the_hub_is_selected_among_others_wherever_backends_are_named(sim, pytester, monkeypatch):
    cases = ["numpy@eager-flux-256px-t128", "hf--me--mine--1@eager-flux-256px-t128"]
    options = ("--collect-only", "-q", "--attn-mode=eager")
    assert ids(sim(*options, "--attn-backend=numpy", "--attn-backend=hf:me/mine@1")) == cases
    assert ids(sim(*options, "--attn-backend=nump*", "--attn-backend=hf--me--mine--1")) == cases
    monkeypatch.setenv("ATTN_BACKEND", "hf:me/mine@1 numpy")
    assert ids(sim(*options)) == cases
    monkeypatch.delenv("ATTN_BACKEND")
    pytester.makeini(
        "[pytest]\nattn_device = sim\nattn_workload = flux-256px-t128\nattn_backend = numpy hf:me/mine@1\n"
    )
    assert ids(sim(*options)) == cases
    assert "hf--me--mine--1" not in all_backends()  # known to the run that it was asked of, and to no other


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hf:me/mine", "'hf:me/mine' names no version*"),
        ("hf:mine@1", "expected hf:OWNER/NAME@VERSION *, got 'hf:mine@1'"),
    ],
)
def test_a_kernel_that_is_named_wrongly_is_a_usage_error(sim, text, says):
    result = sim(f"--attn-backend={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --attn-backend: {says}"])


def test_a_verdict_on_a_kernel_of_the_hub_is_repeated_by_the_command_that_it_names(sim, baseline):
    chosen = ("--attn-backend=hf:me/mine@v1.2", "--attn-mode=eager")
    baseline(*chosen)
    slower = ("--benchmark-only", "--attn-relaunch=0", "--attn-sim=hf--me--mine*:+5%")
    result = sim(*slower, *chosen)
    line, *_ = [
        line for line in result.outlines if line.startswith("  reproduce: pytest ")
    ]  # on CI, the summary repeats it
    command = shlex.split(line.removeprefix("  reproduce: pytest "))
    assert "--attn-backend=hf--me--mine--v1.2" in command
    assert [line for line in sim(*command).outlines if line.startswith("REGRESSED hf--me--mine--v1.2@eager")]


def test_a_listing_loads_nothing_from_the_hub(bench, pytester, monkeypatch):
    write(pytester.path, INSTALLED)
    pytester.syspathinsert()
    monkeypatch.setattr(loading, "_get", lambda kernel: pytest.fail("the Hub was asked"))
    result = bench("--attn-list", "--attn-device=cpu", "--attn-workload=1x64x2x64", "--attn-backend=hf:me/mine@1")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["  hf--me--mine--1  eager, default, max-autotune: ready", "3 cases: 3 ready, 0 not"])


#: As SageAttention's function: heads come first unless it is told otherwise, and scores are in int8.
HEADS_FIRST = """
import torch

def sageattn(q, k, v, tensor_layout="HND", is_causal=False):
    assert tensor_layout == "HND"
    scale = k.abs().amax((1, 2, 3), keepdim=True) / 127
    k = (k / scale).round() * scale
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)
"""


@pytest.mark.parametrize("workload", ["1x64x2x64", "1x64x2x64:bhsd"])
def test_a_wrong_layout_is_an_incorrect_row_that_says_the_right_one(bench, pytester, monkeypatch, workload):
    pytest.importorskip("kernels")
    write(pytester.path / "mine", build(**{"__init__.py": HEADS_FIRST}))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("LOCAL_KERNELS", "me/mine=mine")
    kernel = "hf:me/mine@1:sageattn"
    chosen = [kernel, f"{kernel},layout=bhsd", f"{kernel},tolerance=fp8,layout=bhsd"]
    arguments = ("--attn-device=cpu", "--attn-rounds=1", f"--attn-workload={workload}", "--attn-mode=eager")
    result = bench("--benchmark-json=run.json", *arguments, *(f"--attn-backend={one}" for one in chosen))
    result.assert_outcomes(passed=1, failed=2)
    unstated, in_16_bit, right = bench.records().values()
    reasons = [[reason["text"] for reason in one["reasons"]] for one in (unstated, in_16_bit)]
    suggestion = (
        "on tensors [batch, heads, seq, head_dim] its output is attention, found [batch, seq, heads, head_dim]: state its "
        'layout, which is layout="bhsd" of `register`, or ,layout=bhsd behind a kernel of the Hub'
    )
    assert unstated["status"] == in_16_bit["status"] == "incorrect"
    assert reasons[0][-1] == suggestion
    assert suggestion not in reasons[1], "only its tolerance is too narrow"
    assert (right["status"], right["layout"], right["tolerance"]) == ("measured", "bhsd", "fp8")
    assert right["backend"] == "hf--me--mine--1--sageattn--layout=bhsd--tolerance=fp8"


def test_an_output_that_is_wrong_in_either_layout_suggests_none(bench, pytester, monkeypatch):
    pytest.importorskip("kernels")
    write(pytester.path / "mine", build(**{"__init__.py": "def flash_attn_func(q, k, v): return v * float('nan')"}))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("LOCAL_KERNELS", "me/mine=mine")
    arguments = ("--attn-device=cpu", "--attn-rounds=1", "--attn-workload=1x64x2x64", "--attn-mode=eager")
    result = bench("--benchmark-json=run.json", *arguments, "--attn-backend=hf:me/mine@1")
    result.assert_outcomes(failed=1)
    (record,) = bench.records().values()
    assert "layout" not in [reason["code"] for reason in record["reasons"]]


def block(language: str) -> str:
    """The files of the folder in docs/hub-kernels.md."""
    section = PAGE.read_text(encoding="utf8").partition("\n## A kernel in the Hub's format, from a folder\n")[2]
    return re.findall(rf"^```{language}\n(.*?)^```$", section.partition("\n## ")[0], re.M | re.S)[0]


def test_the_folder_of_the_documentation_is_measured_in_a_launch_of_its_own(bench, pytester, monkeypatch):
    pytest.importorskip("kernels")
    files = {"__init__.py": block("python"), "metadata.json": block("json")}
    write(pytester.path / "mine" / "build" / "torch-universal", files)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("LOCAL_KERNELS", "me/mine=mine")
    arguments = ("--attn-device=cpu", "--attn-rounds=2", "--attn-workload=1x64x2x64", "--attn-mode=eager")
    result = bench("--attn-backend=hf:me/mine@1", "--attn-isolate", "--benchmark-json=run.json", *arguments)
    result.assert_outcomes(passed=1)
    (record,) = bench.records().values()
    assert (record["backend"], record["family"], record["status"]) == ("hf--me--mine--1", "hf-kernels", "measured")
    assert record["source"].startswith("me/mine from a local folder, build torch-universal, SHA-256 ")
    result.stdout.fnmatch_lines([f"hf--me--mine--1: {record['source']}"])
