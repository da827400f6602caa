"""The command line of a fresh process: the user's own, less what writes files, stops, reorders or debugs.

A process of the launcher must see the same tests and kernels as the run that started it, and touch nothing of that
run's. So it gets the user's very arguments (ini key `addopts`, PYTEST_ADDOPTS, command line), one by one:

- what pytest or a known plugin would do to files, to the order or to the end of a run is left out (`LEFT_OUT`);
- an option that nobody here knows is always passed, because what is measured may depend on it. Where its name speaks of
  output and its value is a path, the value becomes a path in the process's own folder, with what lies there now;
- temporary files, pytest's cache and pytest-benchmark's storage are in that folder too.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import environ
from pathlib import Path
from typing import Any, NoReturn

import pytest

from attnbench.plugin.options import OPTIONS

#: What makes a pytest process a child of the launcher, and tells it its pipes: `GO_FD:ANSWER_FD`. Not for people.
CHILD_OPTION = "--attn-child"
CHILD_KEY = "attn_child"

#: Options that a fresh process does not get, by the package that has them (elsewhere the name is somebody else's); a name
#: that ends in * stands for all that begin so.
LEFT_OUT = {
    "_pytest": (
        # write or delete
        *("--junit-xml", "--junitxml", "--junit-prefix", "--junitprefix", "--log-file*", "--debug", "--pastebin"),
        *("--basetemp", "--cache-clear", "--cache-show", "--resultlog", "--result-log"),
        # stop, reorder or select by what happened before
        *("-x", "--exitfirst", "--maxfail", "--max-warnings", "--lf", "--last-failed*", "--lfnf", "--ff"),
        *("--failed-first", "--nf", "--new-first", "--sw*", "--stepwise*"),
        # debug, or only look
        *("--pdb", "--pdbcls", "--trace", "--trace-config", "--collect-only", "--co", "--setup-only", "--setup-show"),
        *("--setup-plan", "--markers", "--fixtures*", "--funcargs", "--help", "-h", "--version", "-V"),
        # how a run is shown: that of a fresh process goes to a log
        *("-v", "--verbose", "-q", "--quiet", "--verbosity", "-r", "--report-chars", "--no-header", "--no-summary"),
        *("--no-fold-skipped", "--force-short-summary", "--durations*", "--disable-warnings", "-l", "--showlocals"),
        *("--disable-pytest-warnings", "--no-showlocals", "--tb", "--xfail-tb", "--show-capture", "--full-trace"),
        *("--color", "--code-highlight", "-s", "--capture"),
        # given anew
        *("--rootdir", "-c", "--config-file", "--continue-on-collection-errors"),
    ),
    "pytest_benchmark": (
        *("--benchmark-json", "--benchmark-save*", "--benchmark-autosave", "--benchmark-compare*"),
        *("--benchmark-histogram", "--benchmark-cprofile*", "--benchmark-csv", "--benchmark-netrc"),
        *("--benchmark-storage", "--benchmark-skip", "--benchmark-disable", "--benchmark-enable"),
    ),
    "attnbench": (*(option.flag for option in OPTIONS), CHILD_OPTION),
    "xdist": (
        *("-n", "--numprocesses", "--maxprocesses", "--max-worker-restart", "--dist", "--tx", "--px", "-d"),
        *("--loadscope-reorder", "--no-loadscope-reorder", "--rsyncdir", "--rsyncignore", "--testrunuid"),
        *("-f", "--looponfail"),
    ),
    "allure_pytest": ("--allure*", "--clean-alluredir"),
    "flaky": ("--force-flaky", "--max-runs", "--min-passes"),
    "inline_snapshot": ("--inline-snapshot*",),
    "pytest_cov": ("--cov*", "--no-cov*"),
    "pytest_csv": ("--csv*",),
    "pytest_forked": ("--forked",),
    "pytest_html": ("--html", "--self-contained-html", "--css"),
    "pytest_json_ctrf": ("--ctrf",),
    "pytest_jsonreport": ("--json-report*",),
    "pytest_md": ("--md",),
    "pytest_md_report": ("--md-report*",),
    "pytest_memray": ("--memray*",),
    "pytest_monitor": ("--db", "--remote-server", "--component-name", "--force-component", "--tag", "--description"),
    "pytest_mpl": ("--mpl-generate*", "--mpl-results*"),
    "pytest_parallel": ("--workers", "--tests-per-worker"),
    "pytest_profiling": ("--profile*", "--pstats-dir"),
    "pytest_pudb": ("--pudb",),
    "pytest_recording": ("--record-mode",),
    "pytest_regressions": ("--force-regen", "--regen-all"),
    "pytest_reportlog": ("--report-log*",),
    "pytest_reportportal": ("--reportportal", "--rp-*"),
    "pytest_rerunfailures": ("--reruns*", "--only-rerun", "--rerun-except", "--rerun-show-tracebacks"),
    "pytest_retry": ("--retries", "--retry-delay", "--retry-outcome"),
    "pytest_reverse": ("--reverse",),
    "pytest_snapshot": ("--snapshot-update", "--allow-snapshot-deletion"),
    "pytest_split": ("--store-durations", "--clean-durations"),
    "pytest_timeout": ("--timeout*", "--session-timeout"),
    "random_order": ("--random-order*",),
    "syrupy": ("--snapshot-update",),
    "testmon": ("--testmon*",),
}

#: What switches off a plugin that acts without being asked to, by its package. pytest-timeout would count the time that
#: a process waits for its next case.
SWITCHED_OFF = {"pytest_timeout": "--timeout=0", "pytest_monitor": "--no-monitor"}

#: Words of an option's name that speak of output, where its value is a path: a kind of file …
FILES = frozenset(("csv", "html", "json", "junit", "log", "logdir", "logfile", "logs", "markdown", "md", "outdir"))
FILES |= {"outfile", "pdf", "png", "report", "reports", "snapshot", "snapshots", "svg", "xml"}
#: … or what is done with it. A bare word may then be something else: --out=bf16.
OUTPUT = FILES | {"artifact", "artifacts", "dump", "export", "out", "output", "outputs", "record", "result", "results"}
OUTPUT |= {"save", "store", "write"}
#: Last words of a name whose value is a path, and words of one whose value is none: --kernel-log-level, --report-style.
PATH = FILES | {"dir", "directory", "file", "filename", "folder", "path", "to"}
NO_PATH = frozenset(("disable", "format", "indent", "level", "mode", "name", "prefix", "style", "title"))

#: An existing file above this is not copied: no report is that large, and a model's weights are.
LARGEST_COPY_BYTES = 2**26


def add_child_option(parser: pytest.Parser) -> None:
    """Declare `--attn-child`."""
    parser.getgroup("attn").addoption(CHILD_OPTION, dest=CHILD_KEY, help=argparse.SUPPRESS)


def child_pipes(config: pytest.Config) -> str | None:
    """The two file descriptors that the launcher gave, when this process is a child of it."""
    value: str | None = config.getoption(CHILD_KEY, None)
    return value


@dataclass(frozen=True)
class Given:
    """One option as the user gave it."""

    name: str  # as it was written: "-k", "--import-mode"
    values: tuple[str, ...]
    plain: bool = True  # whether the values are any text, and not a number or one of some words

    def tokens(self) -> list[str]:
        """The same on a command line."""
        if len(self.values) == 1 and self.name.startswith("--"):
            return [f"{self.name}={self.values[0]}"]
        if len(self.values) == 1 and self.values[0].startswith("-"):
            return [f"{self.name}{self.values[0]}"]
        return [self.name, *self.values]


class ChildCommand:
    """The command lines of the fresh processes of one run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def __call__(self, pipes: str, folder: Path, settings: Sequence[str]) -> list[str]:
        """The command of one process, whose own folder is `folder`; `settings` are attnbench's own arguments."""
        config = self._config
        command = [*_interpreter(config.invocation_params.dir), "-m", "pytest", "-p", "attnbench.plugin"]
        for given in self._inherited:
            command += turned_aside(given, folder / "given", config.invocation_params.dir).tokens()
        command += [f"--rootdir={config.rootpath}"]
        if config.inipath is not None:
            command += ["-c", str(config.inipath)]
        own_ini = {"addopts": "", "cache_dir": str(folder / "cache"), "log_file": ""}
        command += [token for key, value in own_ini.items() if self._has_ini(key) for token in ("-o", f"{key}={value}")]
        own = ["-q", "-q", "--capture=no", "--tb=auto", "--color=no", f"--basetemp={folder / 'tmp'}"]
        own += [SWITCHED_OFF[package] for package in self._packages if package in SWITCHED_OFF]
        own += [f"--benchmark-storage=file://{folder / 'storage'}"]  # pytest-benchmark makes the folder at once
        if config.getoption("benchmark_disable", False):
            own += ["--benchmark-disable"]
        command += [token for token in own if token.partition("=")[0] in self._actions]
        command += ["--continue-on-collection-errors", *settings]
        named = config.args if config.args_source is pytest.Config.ArgsSource.ARGS else ()
        # This one comes last: an option that takes any number of values would take what is named for more of them.
        return [*command, f"{CHILD_OPTION}={pipes}", *named]

    @cached_property
    def _inherited(self) -> list[Given]:
        config = self._config
        arguments = [str(argument) for argument in config.getini("addopts")]
        arguments += [*shlex.split(environ.get("PYTEST_ADDOPTS", "")), *map(str, config.invocation_params.args)]
        left_out = [pattern for package in self._packages for pattern in LEFT_OUT.get(package, ())]
        return [given for given in self._given(arguments) if not _matches(given.name, left_out)]

    @cached_property
    def _packages(self) -> set[str]:
        """The packages of all plugins, by their names in Python."""
        plugins = self._config.pluginmanager.get_plugins()
        modules = (getattr(plugin, "__name__", type(plugin).__module__) for plugin in plugins)
        return {str(module).partition(".")[0] for module in modules}

    @cached_property
    def _actions(self) -> dict[str, argparse.Action]:
        """Every option that this run knows, those of all plugins and of conftest.py among them, by each of its names."""
        # Not public, and the only place that says how many values an option of another plugin takes.
        actions: Iterable[argparse.Action] = self._config._parser.optparser._actions  # noqa: SLF001
        return {name: action for action in actions for name in action.option_strings}

    def _given(self, arguments: Sequence[str]) -> list[Given]:
        """The options among the arguments, split as pytest's own parser splits them, and without their effect."""
        splitter = _Splitter(add_help=False, allow_abbrev=False, fromfile_prefix_chars="@")
        splitter.add_argument("tests", nargs="*")
        for action in dict.fromkeys(self._actions.values()):
            splitter.add_argument(*action.option_strings, dest=action.dest, nargs=action.nargs, action=_Note)
        noted: list[tuple[str, Any]] = []
        splitter.parse_known_args(list(arguments), argparse.Namespace(noted=noted))
        return [self._as_given(name, values) for name, values in noted]

    def _as_given(self, name: str, values: Any) -> Given:
        action = self._actions[name]
        texts = () if values is None else (values,) if isinstance(values, str) else tuple(values)
        return Given(name, texts, plain=action.choices is None and action.type not in (int, float, bool))

    def _has_ini(self, key: str) -> bool:
        try:
            self._config.getini(key)
        except (KeyError, ValueError):
            return False
        return True


class _Note(argparse.Action):
    """Notes an option instead of acting on it."""

    def __call__(self, _: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None) -> None:
        namespace.noted.append((option_string, values))


class _Splitter(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raised where pytest's own parser accepted the same arguments a moment ago: a file of arguments is gone."""
        raise ValueError(f"the arguments of this run cannot be read again: {message}")


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(name.startswith(p[:-1]) if p.endswith("*") else name == p for p in patterns)


def turned_aside(given: Given, folder: Path, started_in: Path) -> Given:
    """The option; the paths among its values become paths below `folder` where its name speaks of output.

    `started_in` is where a relative path starts. What is a file there is copied, as it may be meant to be read.
    """
    if not given.plain or not given.values:
        return given
    words = given.name.strip("-").replace("_", "-").lower().split("-")
    if not OUTPUT.intersection(words) or NO_PATH.intersection(words):
        return given
    named = words[-1] in PATH
    values = (_set_aside(v, folder, started_in) if _is_path(v, named, started_in) else v for v in given.values)
    return replace(given, values=tuple(values))


def _is_path(value: str, named: bool, started_in: Path) -> bool:
    """Whether a value is a path. `named`: by the option's name it should be, so that any bare word is one."""
    if not value or value == "-" or "://" in value or value.replace(".", "", 1).isdecimal():
        return False
    return named or "/" in value or bool(Path(value).suffix) or (started_in / value).exists()


def _set_aside(value: str, folder: Path, started_in: Path) -> str:
    """A path of that name below `folder`; a file that exists is copied there, for it may be read."""
    source = started_in / Path(value).expanduser()
    target = folder / source.name
    folder.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        target.mkdir(exist_ok=True)
    elif source.is_file() and source.stat().st_size <= LARGEST_COPY_BYTES:
        with contextlib.suppress(OSError):
            shutil.copyfile(source, target)
    return str(target)


def _interpreter(started_in: Path) -> list[str]:
    """This interpreter with its own options; without the folder of the start in sys.path, where this one has it not.

    `python -m pytest` puts that folder first and `pytest` does not: a checkout there would hide the installed package.
    """
    options: list[str] = getattr(subprocess, "_args_from_interpreter_flags", list)()  # as multiprocessing does
    on_path = {"", ".", str(started_in)}.intersection(sys.path)
    safe = [] if on_path or sys.version_info < (3, 11) or "-P" in options else ["-P"]
    return [sys.executable, *options, *safe]
