"""Requirements: each reason says what was found and what is needed, and all come at once."""

import re
from types import ModuleType

import pytest

from attnbench.backends.requirements import (
    AsksFor,
    Batch,
    Capability,
    Device,
    Distribution,
    DType,
    Function,
    HeadDim,
    Package,
    TorchVersion,
    TritonDevice,
    lacking,
    unmet,
)
from attnbench.hardware.facts import Facts, installed_version
from attnbench.workload import Workload

H200 = Facts("cuda", "NVIDIA H200", (9, 0), (2, 13))
CPU = Facts("cpu", "A CPU", None, (2, 11))
WORKLOAD = Workload("w", 3, 64, 2, 100, "fp32")


@pytest.mark.parametrize(
    ("requirement", "facts", "said"),
    [
        (Device("cuda"), CPU, "needs device cuda, found cpu"),
        (Device("cuda", "sim"), CPU, "needs device cuda or sim, found cpu"),
        (Capability((10, 0)), H200, "needs sm_100 or newer, found sm_90 (NVIDIA H200)"),
        (Capability((8, 0), below=(9, 0)), H200, "needs sm_80 to below sm_90, found sm_90 (NVIDIA H200)"),
        (Package("no_such_module"), CPU, "package 'no_such_module' is not installed (pip install no_such_module)"),
        (Package("no_such.deep", "no-such"), CPU, "package 'no_such.deep' is not installed (pip install no-such)"),
        (Package("no_such", source="build it from x"), CPU, "package 'no_such' is not installed (build it from x)"),
        (
            Package("no_such", also=("nor_this",)),
            CPU,
            "package 'no_such' or 'nor_this' is not installed (pip install no_such)",
        ),
        (Distribution("no-such"), CPU, "package 'no-such' is not installed (pip install no-such)"),
        (Distribution("no-such", pip="x[no]"), CPU, "package 'no-such' is not installed (pip install x[no])"),
        (Distribution("no-such", module="no_such"), CPU, "package 'no-such' is not installed (pip install no-such)"),
        (
            Distribution("json"),
            CPU,
            "package 'json' is not installed (pip install json)",
        ),  # a module is no distribution
        (TorchVersion((2, 12)), CPU, "needs torch 2.12 or newer, found 2.11"),
        (DType("bf16", "fp16"), CPU, "needs dtype bf16 or fp16, found fp32"),
        (HeadDim(lambda d: d % 8 == 0, "a multiple of 8"), CPU, "needs head_dim a multiple of 8, found 100"),
        (Batch(2), CPU, "needs batch at most 2, found 3"),
    ],
)
def test_an_unmet_requirement_says_what_is_needed_and_what_was_found(requirement, facts, said):
    (reason,) = unmet([requirement], facts, WORKLOAD)
    assert reason.text == said
    assert reason.code == type(requirement).__name__.lower()


@pytest.mark.parametrize(
    ("requirement", "facts"),
    [
        (Device("cuda", "cpu"), CPU),
        (Capability((9, 0)), H200),
        (Capability((9, 0), below=(10, 0)), H200),
        (Capability((9, 0)), CPU),  # that a GPU is needed is for Device to say
        (Package("json"), CPU),
        (Package("no_such", also=("nor_this", "json")), CPU),
        (Package("no_such", "pytest", lowest=(999,), also=("json",)), CPU),  # the version is that of the first
        (Distribution("pytest-benchmark"), CPU),
        (Distribution("no-such", module="json"), CPU),  # built from source, so that pip does not know it
        (Distribution("Pytest_Benchmark"), CPU),  # names are compared as pip compares them
        (TorchVersion((2, 11)), CPU),
        (TorchVersion((2, 9)), H200),  # compared as numbers
        (DType("fp32"), CPU),
        (HeadDim(lambda d: d <= 128, "at most 128"), CPU),
        (Batch(3), CPU),
    ],
)
def test_a_met_requirement_says_nothing(requirement, facts):
    assert unmet([requirement], facts, WORKLOAD) == ()


@pytest.mark.parametrize(
    ("requirement", "needed"),
    [
        (Device("cuda"), "device cuda"),
        (TritonDevice(), "device cuda, or TRITON_INTERPRET=1 for tiny shapes on the CPU"),
        (Capability((9, 0)), "sm_90 or newer"),
        (Capability((9, 0), below=(10, 0)), "sm_90 to below sm_100"),
        (Package("flashinfer", "flashinfer-python"), "package flashinfer-python"),
        (Package("sageattention", lowest=(2, 2)), "package sageattention 2.2 or newer"),
        (Package("mine", also=("my_fork",)), "package mine or my_fork"),
        (Function("sageattention", "sageattn"), "the function sageattn"),
        (Distribution("flash-attn"), "package flash-attn"),
        (TorchVersion((2, 11)), "torch 2.11 or newer"),
        (DType("bf16", "fp16"), "bf16 or fp16"),
        (HeadDim(lambda d: d <= 256, "at most 256"), "head_dim at most 256"),
        (Batch(1), "batch at most 1"),
    ],
)
def test_a_requirement_says_what_is_needed_in_a_few_words(requirement, needed):
    assert requirement.needed == needed


def test_all_reasons_are_said_at_once_and_in_the_order_of_the_requirements():
    needs = [Package("no_such_module"), Device("cuda"), DType("bf16"), Device("cpu"), TorchVersion((3, 0))]
    assert [r.code for r in unmet(needs, CPU, WORKLOAD)] == ["package", "device", "dtype", "torchversion"]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """`installed(version)` puts a package `kernels_of_2` on the path, without metadata for None; it cannot be run."""

    def put(version):
        (tmp_path / "kernels_of_2").mkdir()
        (tmp_path / "kernels_of_2" / "__init__.py").write_text("from .core import forward_new\nraise SystemError\n")
        if version:
            folder = tmp_path / "kernels_of_2-x.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kernels-of-2\nVersion: {version}\n")
        monkeypatch.syspath_prepend(tmp_path)

    return put


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("2.1.9", "needs kernels-of-2 2.10 or newer, found 2.1.9 (build it)"),
        ("2.9.0+cu130", "needs kernels-of-2 2.10 or newer, found 2.9.0+cu130 (build it)"),
        ("2.10.0rc1", None),
        ("10.0", None),
        (None, None),  # a folder on the path: nobody knows
    ],
)
def test_a_package_that_is_too_old_is_named_with_its_version(installed, version, said):
    installed(version)
    assert Package("kernels_of_2", "kernels-of-2", "build it", lowest=(2, 10)).unmet(H200, WORKLOAD) == said


@pytest.mark.parametrize(("version", "found"), [("1.0.6", "1.0.6"), (None, "of unknown version")])
def test_a_function_is_looked_for_without_an_import(installed, version, found):
    installed(version)
    needed = f"needs the function forward, found kernels_of_2 {found} without it"
    assert Function("kernels_of_2", "forward").unmet(H200, WORKLOAD) == needed
    assert Function("kernels_of_2", "forward", "build it").unmet(H200, WORKLOAD) == f"{needed} (build it)"
    assert Function("kernels_of_2", "forward_new").unmet(H200, WORKLOAD) is None
    assert Function("no_such_module", "forward").unmet(H200, WORKLOAD) is None  # Package says so


@pytest.mark.parametrize(
    "text",
    [
        "from .core import *",
        "def __getattr__(name):\n    return None",
        "import lazy_loader\n__getattr__, __dir__, __all__ = lazy_loader.attach(__name__)",
        "from ._lazy import __getattr__",
        "globals().update(made())",
        "setattr(here, 'for' + 'ward', 1)",
        "import sys\nsys.modules[__name__] = Lazy()",
        "exec(open('more.py').read())",
        "if True:\n    from ._C import *",
        "def forward(",
        "# forward: built in a C extension",
    ],
)
def test_a_function_that_the_text_cannot_rule_out_is_left_to_load(tmp_path, monkeypatch, text):
    (tmp_path / "kernels_of_3").mkdir()
    (tmp_path / "kernels_of_3" / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert Function("kernels_of_3", "forward").unmet(H200, WORKLOAD) is None


def test_only_the_want_of_the_very_function_is_taken_for_one():
    needs = (Package("kernels_of_4"), Function("kernels_of_4", "forward", "build it"))

    def said(cause):
        return [reason.text for reason in lacking(needs, cause)]

    missing = ["needs the function forward, found kernels_of_4 of unknown version without it (build it)"]
    assert said(ImportError("cannot import name 'forward' from 'kernels_of_4' (x.py)", name="kernels_of_4")) == missing
    assert said(AttributeError("no attribute", name="forward", obj=ModuleType("kernels_of_4"))) == missing
    assert said(ImportError("cannot import name 'forward' from 'other' (x.py)", name="other")) == []
    assert said(ImportError("cannot import name 'other' from 'kernels_of_4' (x.py)", name="kernels_of_4")) == []
    assert said(ModuleNotFoundError("No module named 'forward'", name="forward")) == []
    assert said(AttributeError("no attribute", name="forward", obj=object())) == []
    assert said(ValueError("forward")) == []


TRITON = "needs device cuda, or TRITON_INTERPRET=1 for tiny shapes on the CPU, found "


@pytest.mark.parametrize(
    ("facts", "interpret", "said"),
    [
        (CPU, None, TRITON + "cpu"),
        (CPU, "0", TRITON + "cpu"),
        (CPU, "1", None),
        (CPU, "True", None),
        (H200, None, None),
        (H200, "0", None),
        (H200, "1", "needs a compiled kernel on device cuda, found TRITON_INTERPRET=1"),
        (Facts("mps", "A GPU", None, (2, 11)), "1", TRITON + "mps"),
    ],
)
def test_a_triton_kernel_runs_compiled_on_cuda_and_interpreted_on_a_cpu(monkeypatch, facts, interpret, said):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    if interpret is not None:
        monkeypatch.setenv("TRITON_INTERPRET", interpret)
    assert TritonDevice().unmet(facts, WORKLOAD) == said


def test_a_version_is_read_without_an_import():
    assert installed_version("pytest") == pytest.__version__
    assert installed_version("no-such-distribution") is None


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Device("cpuu"), "Device: unknown device type 'cpuu'; known: cpu, cuda, sim"),
        (lambda: Device(("cpu", "cuda")), "Device: unknown device type ('cpu', 'cuda'); known: cpu, cuda, sim"),
        (Device, "Device: expected one or more of cpu, cuda, sim, found none"),
        (lambda: DType("bf16", "bfloat16"), "DType: unknown dtype 'bfloat16'; known: bf16, fp16, fp32"),
        (lambda: AsksFor("packs"), "AsksFor: unknown feature 'packs'; known: cross, gqa, head_dim_v, causal, *"),
        (lambda: Capability(9), "Capability: expected integers such as (9, 0), found 9 (int)"),
        (lambda: Capability((9,)), "Capability: expected integers such as (9, 0), found (9,) (tuple)"),
        (lambda: Capability((9, 0), 10), "Capability: below: expected integers such as (10, 0), found 10 (int)"),
        (lambda: TorchVersion("2.11"), "TorchVersion: expected integers such as (2, 11), found '2.11' (str)"),
        (lambda: HeadDim(64, "64"), "HeadDim: accepts must be a function, found 64 (int)"),
        (lambda: HeadDim(lambda d: d, 64), "HeadDim: words must be non-empty text, found 64 (int)"),
        (lambda: Batch("1"), "Batch: expected an integer of at least 1, found '1' (str)"),
        (lambda: Package(5), "Package: module must be non-empty text, found 5 (int)"),
        (lambda: Package("a", lowest="2.2"), "Package: lowest: expected integers such as (2, 2), found '2.2' (str)"),
        (
            lambda: Package("a", also="my_fork"),
            "Package: also: expected a tuple such as (\"my_fork\",), found 'my_fork' (str)",
        ),
        (lambda: Function("a", None), "Function: name must be non-empty text, found None (NoneType)"),
        (lambda: Distribution(""), "Distribution: name must be non-empty text, found '' (str)"),
    ],
)
def test_a_requirement_that_could_never_be_asked_is_refused_when_it_is_made(make, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said).replace(re.escape('*'), '.*')}$"):
        make()


def test_numbers_may_be_numpys_and_stand_in_a_list():
    import numpy as np

    nine, four = np.int64(9), np.int64(4)
    assert Capability([nine, 0]) == Capability((9, 0))
    assert Batch(four) == Batch(4)
    assert Package("mine", lowest=[2, 2]).needed == Package("mine", lowest=(2, 2)).needed
    for wrong in ((9,), (9, -1), (9, 0.5), (True, 0), "90", 9):
        with pytest.raises(ValueError, match=r"Capability: expected integers such as \(9, 0\), found "):
            Capability(wrong)
