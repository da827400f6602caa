"""The pytest plugin: hooks of a few lines that delegate (layer 4). Importing it imports neither torch nor numpy."""

from __future__ import annotations

import pytest

import attnbench
from attnbench import comparing, saving, settings, worker
from attnbench.fixtures import TIMER, attn_case, attn_inputs, attn_reference, attn_variant, attn_workload
from attnbench.progress import Progress
from attnbench.recorder import Recorder
from attnbench.run import RUN, Run, case_of, is_case
from attnbench.timer import Timer

__all__ = ["attn_case", "attn_inputs", "attn_reference", "attn_variant", "attn_workload"]


def pytest_addoption(parser: pytest.Parser) -> None:
    settings.add_options(parser)
    worker.add_option(parser)


@pytest.hookimpl(tryfirst=True)  # before pytest-benchmark reads its options
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "attn: a case of attnbench; the plugin adds it to every test that uses attn_case."
    )
    run = config.stash[RUN] = Run(config, settings.parse_settings(config))
    comparing.refuse_parallel_measuring(config, run)
    comparing.choose_storage(config, run)
    comparing.choose_comparison(config, run)
    plugins = config.pluginmanager
    plugins.register(saving.Saving(config, run), "attnbench-saving")
    plugins.register(Recorder(config, run), "attnbench-recorder")
    if worker.pipes(config):
        plugins.register(worker.Worker(config, run), "attnbench-worker")
    elif not hasattr(config, "workerinput"):
        plugins.register(Progress(config, run), "attnbench-progress")


def pytest_report_header(config: pytest.Config) -> list[str]:
    run = config.stash[RUN]
    if not comparing.is_ours(config, run):
        return []
    chosen = "chosen" if run.settings.device else "default"
    device = "simulated" if run.device_type == "sim" else run.device_type
    header = f"attnbench: {attnbench.__version__}, device {device} ({chosen}), {run.rounds} rounds"
    return ["; ".join([header, *comparing.idle_options(config), *run.comparison_said])]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "attn_case" not in metafunc.fixturenames:
        return
    run = metafunc.config.stash[RUN]
    pairs = [(variant, workload) for workload in run.workloads for variant in run.variants]
    ids = [f"{variant}-{workload}" for variant, workload in pairs]
    metafunc.parametrize(("attn_variant", "attn_workload"), pairs, indirect=True, ids=ids)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    run = config.stash[RUN]
    for item in items:
        if is_case(item):
            timer = item.stash[TIMER] = Timer()
            item.add_marker("attn")
            item.add_marker(pytest.mark.benchmark(timer=timer))
    if run.settings.isolate:  # one process per backend: its cases stand together
        order = {name: at for at, name in enumerate(run.backends)}
        items.sort(key=lambda item: order[case_of(item, run)[0].backend.name] if is_case(item) else -1)
