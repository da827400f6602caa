"""The pytest plugin: hooks of a few lines that delegate. Importing it imports neither torch nor numpy."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest

from attnbench.plugin import benchmark_storage, exit_guard, header, options, other_plugins, run_kind
from attnbench.plugin.benchmark_compare import ComparisonHooks, choose_comparison
from attnbench.plugin.benchmark_save import SavingHooks
from attnbench.plugin.child_command import CHILD_KEY, add_child_option
from attnbench.plugin.collector import RecordCollector
from attnbench.plugin.fixtures import TIMER, attn_case, attn_inputs, attn_reference, attn_variant, attn_workload
from attnbench.plugin.process_exit import QuickExit
from attnbench.plugin.progress import Progress
from attnbench.plugin.result_log import ResultLog
from attnbench.plugin.run_state import RUN, RunState
from attnbench.plugin.selection import is_case, is_selected
from attnbench.plugin.settings import parse_settings
from attnbench.plugin.signals import Termination

__all__ = ["attn_case", "attn_inputs", "attn_reference", "attn_variant", "attn_workload"]

#: What libraries say about each other's code as they are imported and compiled, in every run: with flash-attn 4 and
#: FlashInfer 150 lines above the figures, and under `-W error` the end of the case.
LIBRARY_NOISE = ("ignore::DeprecationWarning",)
#: What torch says about its own code, as these cases use it.
TORCH_NOISE = (
    r"ignore:.torch\.jit\.script_method. is deprecated:DeprecationWarning",
    r"ignore:TypedStorage is deprecated:UserWarning:torch\._inductor",
    "ignore:Warning. Profiler clears events:UserWarning",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)
    add_child_option(parser)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, Any, Any]:
    if getattr(early_config.known_args_namespace, CHILD_KEY, None):
        from attnbench.execution.parentage import die_with_parent

        die_with_parent()  # a conftest.py that hangs must not outlive it; elsewhere than on Linux its next read ends it
    return (yield from exit_guard.loading(early_config))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, Any]:
    return (yield from exit_guard.running(config))


@pytest.hookimpl(tryfirst=True)  # before pytest-benchmark reads its options
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "attn: a case of attnbench; the plugin adds it to every test that uses attn_case."
    )
    results = ResultLog(
        by_nodeid=run_kind.is_parallel(config)
    )  # workers report in the order in which they happen to end
    run = config.stash[RUN] = RunState(config, parse_settings(config), results)
    run_kind.check_only_in_parallel(config, run)
    run_kind.refuse_other_plugins(config, run)
    benchmark_storage.refuse_storage(config, run)
    benchmark_storage.choose_storage(config, run)
    choose_comparison(config, run)
    plugins = config.pluginmanager
    plugins.register(ComparisonHooks(config, run), "attnbench-comparison")  # before the saving, which stands around it
    termination = None if run.here.is_child or hasattr(config, "workerinput") else Termination(config, run)
    plugins.register(SavingHooks(config, run, termination), "attnbench-saving")
    plugins.register(RecordCollector(config, run), "attnbench-collector")
    if run.here.is_child:
        from attnbench.plugin.child import ChildRun

        plugins.register(ChildRun(config, run), "attnbench-child")
    elif not hasattr(config, "workerinput"):
        plugins.register(Progress(config, run), "attnbench-progress")
    if termination is not None:
        plugins.register(termination, "attnbench-termination")
    plugins.register(QuickExit(), "attnbench-quick-exit")
    guard = config.stash.get(exit_guard.GUARD, None)
    if guard is not None:
        plugins.register(guard, "attnbench-exit-guard")


def pytest_report_header(config: pytest.Config) -> list[str]:
    run = config.stash[RUN]
    if not run_kind.is_ours(config, run, before_collection=True):
        return []
    return [_header(config, run)]


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """The header, where only the collected items tell that this run is about attention kernels."""
    run = config.stash[RUN]
    quiet = config.get_verbosity() < 0 or config.getoption("no_header", False)
    if quiet or run_kind.is_ours(config, run, before_collection=True) or not any(map(is_case, items)):
        return []
    return [_header(config, run)]


def _header(config: pytest.Config, run: RunState) -> str:
    """The header, which pytest prints now."""
    line = header.line(config, run)
    run.results.header_shown()
    return line


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    wanted = [name for name in ("attn_variant", "attn_workload") if name in metafunc.fixturenames]
    if not wanted:
        return
    run = metafunc.config.stash[RUN]
    in_worker = hasattr(metafunc.config, "workerinput")
    try:
        _select(metafunc.config, run)
        if in_worker:
            _ = run.here.device
    except pytest.UsageError as exc:
        if in_worker:  # pytest-xdist would take a usage error for a crash
            raise pytest.Collector.CollectError(str(exc)) from exc
        return  # a conftest.py further down may register the name; pytest_collection_modifyitems has the last word
    # One call each: together they would both get the scope of the narrower one, and every case its own inputs.
    if "attn_variant" in wanted:
        metafunc.parametrize("attn_variant", list(run.selection.variants), indirect=True)
    if "attn_workload" in wanted:
        metafunc.parametrize("attn_workload", list(run.selection.workloads), indirect=True)


@pytest.hookimpl(tryfirst=True)  # before -k and -m deselect
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    run = config.stash[RUN]
    cases = [item for item in items if is_case(item)]
    if not cases:
        return
    from attnbench.timing.timer import Timer

    items[:] = [item for item in items if not is_case(item) or is_selected(item)]
    run.selection = replace(run.selection, offered=sum(is_case(item) for item in items))
    try:
        _select(config, run)
    except pytest.UsageError:
        items.clear()  # hooks that follow would take them for cases that can run
        raise
    if not hasattr(config, "workerinput"):
        other_plugins.refuse(config)
    filters = [*config.getini("filterwarnings"), *(config.getoption("pythonwarnings", None) or ())]
    # Whoever names them in a filter wants to see them, or to fail on them.
    names_them = any("DeprecationWarning" in one for one in filters)
    noise = TORCH_NOISE if names_them else (*LIBRARY_NOISE, *TORCH_NOISE)
    for item in cases:
        timer = item.stash[TIMER] = Timer()
        item.add_marker("attn")
        other_plugins.keep_from(item)
        item.add_marker(pytest.mark.benchmark(timer=timer))
        if config.pluginmanager.hasplugin("warnings"):
            item.add_marker(pytest.mark.filterwarnings(*noise), append=False)  # the test's own filters come after it


def _select(config: pytest.Config, run: RunState) -> None:
    """Work out the cases. Raises pytest.UsageError for whatever the user has to put right first."""
    options.refuse_unknown_variables(os.environ)
    options.refuse_unknown_keys(config)
    run_kind.require_pytest_benchmark(config)
    run.select()
