"""What kind of run this is: about attention cases or not, with tests or only looking, in one process or several."""

from __future__ import annotations

import os
from typing import Any

import pytest

from attnbench.plugin import other_plugins
from attnbench.plugin.run_state import RunState


def is_ours(config: pytest.Config, run: RunState, before_collection: bool = False) -> bool:
    """Whether this run is about attention kernels: our ini key or an option is set, our suite is named, or a case ran.

    A project that merely has attnbench installed keeps its own storage, machine info and messages.
    before_collection: as it was known then, whatever was collected.
    """
    named = any("attnbench.suite" in argument.replace(os.sep, ".") for argument in config.args)
    asked_for = run.settings.baselines is not None or run.settings.given or named
    return asked_for or (bool(run.results.records) and not before_collection)


def is_recording(config: pytest.Config) -> bool:
    """Whether `attnbench record` started this run, whose file is the recording's own and goes with it."""
    return bool(config.pluginmanager.hasplugin("attnbench.plugin.recording"))


def is_parallel(config: pytest.Config) -> bool:
    """Whether pytest-xdist runs the tests; true in the process that the user started and in its workers."""
    started = config.getoption("dist", "no") != "no" or bool(config.getoption("numprocesses", None))
    return started or hasattr(config, "workerinput")


def runs_tests(config: pytest.Config) -> bool:
    """Whether tests run, instead of only being shown."""
    return not looks_only(config.option)


def looks_only(option: Any) -> bool:
    """Whether pytest only shows something with these options and runs nothing."""
    switches = ("collectonly", "help", "version", "markers", "showfixtures", "show_fixtures_per_test", "attn_list")
    return any(getattr(option, name, None) for name in (*switches, "setuponly", "setupplan"))


def require_pytest_benchmark(config: pytest.Config) -> None:
    """Raise pytest.UsageError where pytest-benchmark, which the cases are timed with, is switched off."""
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError(
            "attnbench times its cases with pytest-benchmark, which is switched off here: drop -p no:benchmark "
            "(--benchmark-disable checks accuracy and times nothing)"
        )


def check_only_in_parallel(config: pytest.Config, run: RunState) -> None:
    """Under pytest-xdist accuracy is checked and nothing is timed; the header says so.

    Raises pytest.UsageError for --benchmark-only, in our words and before pytest-benchmark's.
    """
    if not is_parallel(config) or not is_ours(config, run):
        return
    option: Any = config.option
    if config.getoption("benchmark_only", False):
        raise pytest.UsageError(
            "attnbench does not measure under pytest-xdist: parallel workers share the device. "
            "Drop -n to measure, or drop --benchmark-only to run the accuracy checks in parallel"
        )
    option.benchmark_disable = True  # pytest-benchmark would do so itself, with a warning amid the progress dots


def refuse_other_plugins(config: pytest.Config, run: RunState) -> None:
    """Raise pytest.UsageError for an option of another plugin with which a verdict would be lost."""
    if is_ours(config, run) and not hasattr(config, "workerinput"):  # of a worker it would be taken for a crash
        other_plugins.refuse(config)
