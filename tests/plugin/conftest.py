"""The project that every plugin test starts from: a suite file of two lines, an ini file, and pytest with the plugin."""

from __future__ import annotations

import functools
import gc
import json
import os
import signal
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy
import pytest
from _pytest.fixtures import FixtureFunctionDefinition, FixtureManager
from processes import WITHOUT_PLUGINS

from attnbench.backends import families, registry
from attnbench.workloads import table

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = sysconfig.get_path("purelib")

assert families.FAMILIES, "registered before the registry is copied for a test"

# Under `nohup` the one is ignored and in the background of a script the other, by what the tests start too.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# Torch's threads on the CPU would wait by spinning, which takes the cores from the other tests. Its OpenMP reads this as
# it is loaded, here and in fresh processes.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Inductor would compile a program for each set of instructions of this CPU, to try it, with every cache that is new.
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")

SUITE = '''"""A kernel author's own suite."""
from attnbench.suite import test_attention
'''


class _KeptModules:
    """What runs in this process import of torch, its compilers and matplotlib: pytester drops it after a run and after a
    test, and it survives no second import.
    """

    PACKAGES = frozenset(("torch", "triton", "sympy", "mpmath", "matplotlib", "PIL", "contourpy", "kiwisolver"))

    def __init__(self) -> None:
        self._modules: dict[str, ModuleType] = {}
        self._others: set[str] = set()

    def pytest_unconfigure(self) -> None:
        before = len(self._modules)
        for name in sys.modules.keys() - self._modules.keys() - self._others:
            if name.partition(".")[0] in self.PACKAGES:
                self._modules[name] = sys.modules[name]
            else:
                self._others.add(name)
        if len(self._modules) > before + 100:  # Inductor: hundreds of collections would go through all of it
            gc.freeze()

    def put_back(self) -> None:
        for name, module in self._modules.items():
            sys.modules.setdefault(name, module)


_KEPT = _KeptModules()


class Bench:
    """`bench(*arguments)` runs pytest on the project in this process, `bench.fresh(*arguments)` in one of its own."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester

    def __call__(self, *arguments: str | Path) -> pytest.RunResult:
        quiet = ("-W", "ignore:Module already imported")  # pytest 9.1 would say so of the plugin that this run uses
        with warnings.catch_warnings():  # those that the inner run does not show itself would be shown as this run's
            warnings.simplefilter("ignore")
            try:
                run = ("-p", "attnbench.plugin", *arguments, *quiet)
                return self._pytester.runpytest_inprocess(*run, plugins=[_KEPT])
            finally:
                _KEPT.put_back()

    def fresh(self, *arguments: str | Path, timeout_s: float = 120) -> pytest.RunResult:
        return self._pytester.runpytest_subprocess("-p", "attnbench.plugin", *arguments, timeout=timeout_s)

    def stored(self, name: str = "run.json") -> dict[str, Any]:
        """What `--benchmark-json=run.json` wrote, whole."""
        return json.loads((self._pytester.path / name).read_text())

    def records(self, name: str = "run.json") -> dict[str, dict[str, Any]]:
        """The records in it, by case."""
        return {record["case"]: record for record in self.stored(name)["attnbench"]["records"]}


@pytest.fixture(scope="session", autouse=True)
def _extensions_once() -> None:
    """pytester drops the modules that a test was first to import: these do not survive it, or would cost every test."""
    import msgspec  # noqa: F401
    import numpy  # noqa: F401, ICN001
    import torch  # noqa: F401

    import attnbench.backends.versions
    import attnbench.execution.launcher
    import attnbench.execution.local_case
    import attnbench.execution.process_groups
    import attnbench.execution.remote_case
    import attnbench.execution.simulated_case
    import attnbench.plugin.case_list
    import attnbench.plugin.retest
    import attnbench.report.terminal
    import attnbench.storage.counterparts
    import attnbench.suite  # noqa: F401

    gc.freeze()  # each of hundreds of collections would go through all of torch


@pytest.fixture(scope="session", autouse=True)
def _metadata_once() -> Iterator[None]:
    """Every run reads and parses what all installed distributions offer: here once, which takes a tenth off its time."""
    known: dict[tuple[str, ...], Any] = {}

    def once(read: Callable[..., Any]) -> Callable[..., Any]:
        def from_memory(distribution: metadata.PathDistribution, *asked: str) -> Any:
            if str(distribution.locate_file("")) != INSTALLED:  # what a test puts on the path is its own, and changes
                return read(distribution, *asked)
            key = (read.__name__, str(distribution._path), *asked)
            if key not in known:
                known[key] = read(distribution, *asked)
            return known[key]

        return from_memory

    offered = metadata.PathDistribution
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(offered, "read_text", once(offered.read_text))
        for name in ("metadata", "entry_points"):
            patch.setattr(offered, name, property(once(vars(metadata.Distribution)[name].fget)), raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _plugins_of_pytest_once() -> Iterator[None]:
    """Every run looks for fixtures and hooks among all names of all plugins, a quarter of its time: once in pytest's own."""
    look = FixtureManager.parsefactories

    def parsefactories(manager: FixtureManager, *given: Any, **named: Any) -> None:
        if len(given) == 1 and not named:  # a node, whose fixtures are those of its test module
            look(manager, *given)
            return
        plugin = given[0] if given else named.get("holder")
        if not _is_without_fixtures(plugin if isinstance(plugin, ModuleType) else type(plugin)):
            look(manager, *given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FixtureManager, "parsefactories", parsefactories)
        # Of those that are left, pytest 9.2 also asks whether a wrapper hides a fixture: a fresh process warns of it.
        patch.setattr(FixtureManager, "_check_for_wrapped_fixture", lambda *_: None, raising=False)
        if hook := getattr(pluggy._manager, "_static_hook_attr", None):  # of pluggy 1.7
            known = functools.cache(hook)

            def found(plugin: object, name: str) -> Any:
                return known(plugin, name) if _is_module_of_pytest(plugin) else hook(plugin, name)

            patch.setattr(pluggy._manager, "_static_hook_attr", found)
        yield


def _is_module_of_pytest(plugin: object) -> bool:
    return isinstance(plugin, ModuleType) and plugin.__name__.startswith("_pytest.")


@functools.cache
def _is_without_fixtures(plugin: ModuleType | type) -> bool:
    """Whether it is pytest's own, a module or a type, and has none."""
    if isinstance(plugin, type):
        places, of_pytest = plugin.__mro__, plugin.__module__.startswith("_pytest.")
    else:
        places, of_pytest = (plugin,), _is_module_of_pytest(plugin)
    return of_pytest and not any(
        isinstance(one, FixtureFunctionDefinition) for place in places for one in vars(place).values()
    )


@pytest.fixture(scope="session", autouse=True)
def _project_name_without_a_process() -> Iterator[None]:
    """pytest-benchmark asks git and hg for the project's name before every run; from a large process that takes a while.

    Where there is no repository, the answer is the folder's name.
    """
    from pytest_benchmark import utils

    asked = utils.get_project_name

    def name() -> str:
        return asked() if any(map(utils.in_any_parent, (".git", ".hg"))) else Path.cwd().name

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "get_project_name", name)
        yield


@pytest.fixture(autouse=True)
def _nothing_leaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A run inside this process registers in copies, and neither it nor a fresh one sees the settings of this run."""
    monkeypatch.setattr(registry, "_BACKENDS", registry.all_backends())
    monkeypatch.setattr(table, "_TABLE", table.all_workloads())
    for name in list(os.environ):
        if name.startswith(("ATTN_", "PYTEST_XDIST", "CUDA_VISIBLE_DEVICES")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))))
    yield
    _KEPT.put_back()


@pytest.fixture
def bench(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A project with attnbench's plugin, a suite and `attn_baselines = baselines`, and pytest to run on it."""
    # Rewriting the asserts of all plugins is done anew where Python must not write byte code.
    monkeypatch.setenv("PYTEST_ADDOPTS", f"--assert=plain {WITHOUT_PLUGINS}")
    pytester.makepyfile(test_suite=SUITE)
    pytester.makeini("[pytest]\nattn_baselines = baselines\n")
    return Bench(pytester)


@pytest.fixture
def sim(bench: Bench, pytester: pytest.Pytester) -> Bench:
    """The same on the simulated device with one small workload, so that a run takes milliseconds.

    Six backends, of 15 variants, so that a test that counts them need not change with every family that is added.
    """
    ini = (
        "attn_baselines = baselines\nattn_device = sim\nattn_workload = flux-256px-t128\nattn_backend = "
        "torch_math torch_flash torch_efficient torch_cudnn torch_flex numpy\n"
    )
    pytester.makeini(f"[pytest]\n{ini}")
    return bench


def write(folder: Path, files: dict[str, str]) -> None:
    """Files by their path below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, str]], None]]:
    """`stand_in(files)` puts modules on the path of this process; afterwards nothing of them is kept."""
    put: set[str] = set()

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] in put]:
            del sys.modules[name]

    def install(files: dict[str, str]) -> None:
        write(tmp_path, files)
        monkeypatch.syspath_prepend(tmp_path)
        put.update(Path(name).parts[0].removesuffix(".py") for name in files)
        forget()

    yield install
    forget()


#: Sessions by the arguments that they were measured under, so that each is measured once.
_RECORDED: dict[tuple[str, ...], str] = {}


class Baseline:
    """`baseline(*arguments)` stores a reviewed session of what the simulated device measures under these arguments."""

    def __init__(self, sim: Bench, folder: Path) -> None:
        self._sim = sim
        self.folder = folder

    def __call__(self, *arguments: str) -> Path:
        """The file. Its three launches are runs in this process: the same records, in a tenth of the time."""
        if arguments not in _RECORDED:
            _RECORDED[arguments] = self._document(arguments)
        path = self.folder / f"{len(list(self.folder.glob('*.json'))) + 1:04}_recorded.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_RECORDED[arguments])
        return path

    def _document(self, arguments: tuple[str, ...]) -> str:
        documents = []
        for number in (1, 2, 3):
            own = (f"--attn-sim=launch={number}", "--benchmark-json=recorded.json", "-o", "attn_baselines=")
            own += ("--benchmark-storage=file://.",)  # not .benchmarks
            self._sim("--benchmark-only", *arguments, *own)
            documents.append(self._sim.stored("recorded.json"))
        first, *others = documents
        for key in ("records", "launches"):
            first["attnbench"][key] += [one for other in others for one in other["attnbench"][key]]
        return json.dumps(first)


@pytest.fixture
def baseline(sim: Bench, pytester: pytest.Pytester) -> Baseline:
    """Reviewed sessions of the simulated device, none to begin with."""
    return Baseline(sim, pytester.path / "baselines" / "simulated-device")
