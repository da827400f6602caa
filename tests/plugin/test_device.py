"""Which device a run takes, and one sentence where it cannot be used.

The driver is a library of two functions that a C compiler makes; torch, where another than the installed one is needed,
is a module of a few lines. Both are found first by a fresh process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

import pytest
import torch

from attnbench.hardware.device import release_memory

#: A context that a kernel took with it: every call says so, as torch does on a GPU.
LOST = "CUDA error: an illegal memory access was encountered"

TINY = ("--attn-backend=numpy", "--attn-workload=1x32x2x16", "--attn-rounds=1")

DRIVER = """
int cuInit(unsigned flags) {{ return {outcome}; }}
int cuDeviceGetCount(int *count) {{ *count = {count}; return 0; }}
"""
NO_DEVICE = 100

TORCH = """
class version: hip = {hip!r}; cuda = {cuda!r}
class xpu: is_available = staticmethod(lambda: {xpu})
class backends:
    class mps: is_available = staticmethod(lambda: {mps})
__version__ = {release!r}
"""


@pytest.fixture
def driver(pytester, monkeypatch):
    """`driver(outcome, count)` puts a driver first that initialises with `outcome` and shows `count` GPUs."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")

    def build(outcome: int, count: int) -> None:
        folder = pytester.mkdir("driver")
        source = folder / "driver.c"
        source.write_text(DRIVER.format(outcome=outcome, count=count))
        subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libcuda.so.1", source], check=True)
        path = [str(folder), os.environ.get("LD_LIBRARY_PATH", "")]
        monkeypatch.setenv("LD_LIBRARY_PATH", ":".join(filter(None, path)))

    return build


@pytest.fixture
def torch_like(pytester):
    """`torch_like(release, …)` puts a torch first that says so of itself."""

    def build(release: str, hip=None, cuda=None, xpu=False, mps=False) -> None:
        pytester.makepyfile(torch=TORCH.format(release=release, hip=hip, cuda=cuda, xpu=xpu, mps=mps))

    return build


def refused(result: pytest.RunResult, sentence: str) -> None:
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: attnbench: {sentence}"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(("outcome", "count"), [(0, 1), (999, 0)], ids=["there", "its driver fails"])
def test_a_gpu_that_torch_cannot_use_ends_the_run_with_the_cause(bench, driver, outcome, count):
    driver(outcome, count)
    refused(bench.fresh(*TINY), "an NVIDIA GPU is present, but torch *or pass --attn-device cpu*")


def test_a_machine_without_a_gpu_is_not_said_to_have_one(bench, driver):
    driver(NO_DEVICE, 0)
    refused(bench.fresh(*TINY, "--attn-device=cuda"), "no NVIDIA GPU is visible here *: pass --attn-device cpu*")


def test_beside_a_gpu_that_torch_cannot_use_the_cpu_is_measured_where_it_is_asked_for(bench, driver):
    driver(0, 1)
    bench.fresh(*TINY, "--attn-device=cpu").assert_outcomes(passed=1)


@pytest.mark.parametrize(("outcome", "count"), [(NO_DEVICE, 0), (0, 0)])
def test_a_driver_without_a_gpu_means_the_cpu(bench, driver, outcome, count):
    driver(outcome, count)
    bench.fresh("--collect-only").stdout.fnmatch_lines(["attnbench: *, device cpu (default), 5 rounds"])


def test_no_driver_means_the_cpu(bench):
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a driver")
    bench.fresh("--collect-only").stdout.fnmatch_lines(["attnbench: *, device cpu (default), 5 rounds"])


def test_a_gpu_means_cuda(bench, driver):
    driver(0, 1)
    bench.fresh("--collect-only").stdout.fnmatch_lines(["attnbench: *, device cuda (default), 30 rounds"])


def test_an_old_torch_is_named_with_the_oldest_that_works(bench, torch_like):
    torch_like("2.10.1+cu128", cuda="12.8")
    for device in ("cpu", "cuda"):
        sentence = "torch 2.10.1+cu128 found, 2.11 or newer needed; attnbench never replaces it"
        refused(bench.fresh(*TINY, f"--attn-device={device}"), sentence)


def test_a_torch_that_does_not_import_is_named_with_the_cause(bench, pytester):
    pytester.makepyfile(torch="raise OSError('libcudart.so.13: cannot open shared object file')")
    refused(bench.fresh(*TINY), "torch cannot be imported (libcudart.so.13: cannot open shared object file)*")


@pytest.mark.parametrize(
    ("accelerator", "name"), [({"hip": "7.0"}, "a ROCm"), ({"xpu": True}, "an XPU"), ({"mps": True}, "an MPS")]
)
def test_another_accelerator_is_named_and_not_silently_the_cpu(bench, driver, torch_like, accelerator, name):
    driver(NO_DEVICE, 0)
    torch_like("2.13.0", **accelerator)
    sentence = f"this machine has {name} device, which attnbench does not support today: pass --attn-device cpu*"
    refused(bench.fresh(*TINY), sentence)


def test_rocm_is_named_where_cuda_was_asked_for(bench, torch_like):
    torch_like("2.13.0+rocm7.0", hip="7.0")
    refused(
        bench.fresh(*TINY, "--attn-device=cuda"), "this torch (2.13.0+rocm7.0) is a ROCm build, which attnbench does *"
    )


def test_blocking_launches_are_refused(bench, driver, torch_like, monkeypatch):
    torch_like("2.13.0+cu130", cuda="13.0")
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "1")
    refused(
        bench.fresh(*TINY, "--attn-device=cuda"), "CUDA_LAUNCH_BLOCKING=1 puts the host's work inside the *: unset it"
    )


def raising(message: str) -> Callable[[], None]:
    def call() -> None:
        raise RuntimeError(message)

    return call


def test_a_process_whose_context_is_lost_can_still_hand_a_case_to_another(monkeypatch):
    monkeypatch.setattr(torch.cuda, "empty_cache", raising(LOST))
    monkeypatch.setattr(torch.cuda, "synchronize", raising(LOST))
    release_memory("cuda")


def test_memory_that_a_working_context_does_not_give_back_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "empty_cache", raising("not to be had"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    with pytest.raises(RuntimeError, match="not to be had"):
        release_memory("cuda")
