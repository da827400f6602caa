"""Where pytest-benchmark stores runs here, and what it compares with."""

from __future__ import annotations

import os
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from attnbench.codec import Unreadable
from attnbench.fingerprint import differences
from attnbench.model import Fingerprint
from attnbench.plugin import other_plugins
from attnbench.plugin.run_state import Run
from attnbench.storage.benchmark_json import check_benchmark_file
from attnbench.storage.comparison_file import find_comparison_file, matching

PYTEST_BENCHMARK_STORAGE = "file://./.benchmarks"

#: Options of pytest-benchmark that choose rounds or a clock: here the rounds are --attn-rounds and the clock the device's.
IDLE = ("timer", "min-rounds", "min-time", "max-time", "precision", "confidence", "warmup", "warmup-iterations")
IDLE_FLAGS = tuple(f"--benchmark-{name}" for name in (*IDLE, "calibration-precision"))


def is_ours(config: pytest.Config, run: Run, before_collection: bool = False) -> bool:
    """Whether this run is about attention kernels: our ini key or an option is set, our suite is named, or a case ran.

    A project that merely has attnbench installed keeps its own storage, machine info and messages.
    before_collection: as it was known then, whatever was collected.
    """
    named = any("attnbench.suite" in argument.replace(os.sep, ".") for argument in config.args)
    told = run.settings.baselines is not None or run.settings.given or named
    return told or (bool(run.records) and not before_collection)


def is_parallel(config: pytest.Config) -> bool:
    """Whether pytest-xdist runs the tests; true in the process that the user started and in its workers."""
    started = config.getoption("dist", "no") != "no" or bool(config.getoption("numprocesses", None))
    return started or hasattr(config, "workerinput")


def check_only_in_parallel(config: pytest.Config, run: Run) -> None:
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


def refuse_other_plugins(config: pytest.Config, run: Run) -> None:
    """Raise pytest.UsageError for an option of another plugin with which a verdict would be lost."""
    if is_ours(config, run) and not hasattr(config, "workerinput"):  # of a worker it would be taken for a crash
        other_plugins.refuse(config)


def require_pytest_benchmark(config: pytest.Config) -> None:
    """Raise pytest.UsageError where pytest-benchmark, which the cases are timed with, is switched off."""
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError(
            "attnbench times its cases with pytest-benchmark, which is switched off here: drop -p no:benchmark "
            "(--benchmark-disable checks accuracy and times nothing)"
        )


def is_given(config: pytest.Config, flag: str) -> bool:
    """Whether an option was given, even with its default value."""
    return flag in _given(config)


def _given(config: pytest.Config) -> list[str]:
    """The options on the command line, in PYTEST_ADDOPTS and in the ini file, without their values."""
    arguments = [*config.getini("addopts"), *shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))]
    return [*dict.fromkeys(str(one).split("=")[0] for one in (*arguments, *config.invocation_params.args))]


def idle_options(config: pytest.Config) -> list[str]:
    """A sentence that names the given options of pytest-benchmark that have no effect here."""
    idle = [flag for flag in _given(config) if flag in IDLE_FLAGS]
    if not idle:
        return []
    have = "has" if len(idle) == 1 else "have"
    return [
        f"{', '.join(idle)} {have} no effect on attention cases (use --attn-rounds; the device's clock is the timer)"
    ]


def choose_storage(config: pytest.Config, run: Run) -> None:
    """Point pytest-benchmark at the project's folder of stored runs, where the ini key names one.

    pytest-benchmark creates its storage folder whenever pytest starts; a run that neither saves nor compares gets one
    that exists already, so that `--help` and `--collect-only` create nothing.
    """
    if run.settings.baselines is None or config.getoption("benchmark_storage", None) != PYTEST_BENCHMARK_STORAGE:
        return
    option: Any = config.option
    stores = option.benchmark_save or option.benchmark_autosave or option.benchmark_compare
    folder = run.settings.baselines if stores and runs_tests(config) else config.rootpath
    option.benchmark_storage = f"file://{folder}"


def refuse_storage(config: pytest.Config, run: Run) -> None:
    """Raise pytest.UsageError for a storage that would end pytest-benchmark with a traceback."""
    storage = str(config.getoption("benchmark_storage", PYTEST_BENCHMARK_STORAGE))
    scheme, separator, _ = storage.partition("://")
    if not separator or scheme == "file" or not is_ours(config, run):
        return
    if not scheme.startswith("elasticsearch+"):
        raise pytest.UsageError(
            f"--benchmark-storage: expected file://FOLDER or elasticsearch+http://HOST/…, got {storage!r}"
        )
    if find_spec("elasticsearch") is None:
        raise pytest.UsageError(
            f"--benchmark-storage={storage} needs the package elasticsearch, which is not installed "
            "(pip install 'pytest-benchmark[elasticsearch]')"
        )


def choose_comparison(config: pytest.Config, run: Run) -> None:
    """Decide what `--benchmark-compare` reads, and read it before pytest-benchmark does.

    Raises pytest.UsageError for a file that was asked for by name and cannot be used.
    """
    from pytest_benchmark.utils import get_machine_id

    option: Any = config.option
    wanted = config.getoption("benchmark_compare", None)
    if not wanted or not is_ours(config, run):
        return
    if not runs_tests(config):
        option.benchmark_compare = []
        return
    folder = _storage_folder(config)
    if folder is None:
        return
    if wanted is True:
        comparison = find_comparison_file(folder, run.device.facts.device_name)
        for message in comparison.messages:
            run.say(message)
        option.benchmark_compare = str(comparison.path) if comparison.path else []
    else:
        _require_readable(folder, wanted)
        if not matching(folder, get_machine_id(), wanted):
            run.say(f"nothing to compare with: no stored run in {folder} matches {wanted}")
            option.benchmark_compare = []
    if option.benchmark_compare_fail and not option.benchmark_compare:
        raise pytest.UsageError(f"--benchmark-compare-fail: {run.comparison_said[-1]}")


def _require_readable(folder: Path, wanted: str) -> None:
    from pytest_benchmark.utils import get_machine_id

    path = Path(wanted)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # a number, or a pattern
    except OSError as exc:
        raise pytest.UsageError(f"--benchmark-compare={wanted}: it cannot be read: {exc.strerror}") from exc
    if path.is_dir() or path.suffix == ".py" or "::" in wanted:
        raise pytest.UsageError(
            f"--benchmark-compare={wanted} names tests, not a stored run: write the tests before --benchmark-compare"
        )
    if not path.exists() and (path.is_absolute() or len(path.parts) > 2):
        raise pytest.UsageError(
            f"--benchmark-compare={wanted}: there is no such file; a number (0003) or a folder and a number "
            f"(nvidia-h200/0003) is looked up in {folder}"
        )
    try:
        for found in matching(folder, get_machine_id(), wanted):
            check_benchmark_file(found)
    except Unreadable as exc:
        raise pytest.UsageError(f"--benchmark-compare={wanted}: {exc}") from exc


def machine_differences(run: Run, theirs: dict[str, Any]) -> tuple[str, ...]:
    """What differs from a stored `machine_info`, in the fields that comparability rests on."""
    here = run.launch.fingerprint
    there = Fingerprint({name: theirs.get(name) for name in here.key}, {})
    if "protocol" not in theirs:
        return ("it was not recorded by attnbench, so its machine is unknown",)
    return differences(here, there)


def _storage_folder(config: pytest.Config) -> Path | None:
    """The folder of a file storage; None for elasticsearch, whose runs we cannot read ahead."""
    storage = str(config.getoption("benchmark_storage"))
    scheme, separator, rest = storage.partition("://")
    if not separator:
        return Path(storage).absolute()
    return Path(rest).absolute() if scheme == "file" else None


def runs_tests(config: pytest.Config) -> bool:
    """Whether tests run, instead of only being shown."""
    return not looks_only(config.option)


def looks_only(option: Any) -> bool:
    """Whether pytest only shows something with these options and runs nothing."""
    switches = ("collectonly", "help", "version", "markers", "showfixtures", "show_fixtures_per_test", "attn_list")
    return any(getattr(option, name, None) for name in (*switches, "setuponly", "setupplan"))
