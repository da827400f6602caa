"""The line above the tests: what runs, what chose it besides the command line, and what has no effect."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

import attnbench
from attnbench import printable
from attnbench.plugin import other_plugins
from attnbench.plugin.options import OPTIONS, Option
from attnbench.plugin.run_kind import is_parallel
from attnbench.plugin.run_state import RunState
from attnbench.plugin.settings import given_flags
from attnbench.units import counted

#: Options that choose cases.
_SELECTING = ("backend", "workload", "grid", "mode")
#: Those that are a project's and change no figure, and those that are said elsewhere.
_UNSAID = ("list", "baselines", "salt", "inject")
#: Options that are about times, without effect where nothing is timed.
_TIMING = (
    "rounds",
    "limit",
    "require-baseline",
    "require-verdict",
    "relaunch",
    "inject",
    "baselines-from",
    "sustained",
    "roofline",
)
#: A value that is longer is cut.
_LONGEST = 80

#: Options of pytest-benchmark that save or compare what was timed.
_OF_BENCHMARKS = ("benchmark_compare_fail", "benchmark_json", "benchmark_save", "benchmark_autosave")
#: Options of pytest-benchmark that choose rounds or a clock: here the rounds are --attn-rounds and the clock the device's.
_IDLE = ("timer", "min-rounds", "min-time", "max-time", "precision", "confidence", "warmup", "warmup-iterations")
_IDLE_FLAGS = tuple(f"--benchmark-{name}" for name in (*_IDLE, "calibration-precision"))


def line(config: pytest.Config, run: RunState) -> str:
    """The header."""
    chosen = "chosen" if run.settings.device else "default"
    device = "simulated" if run.here.device_type == "sim" else run.here.device_type
    head = f"attnbench: {attnbench.__version__}, device {device} ({chosen}), {_rounds(config, run)}"
    injected = [f"INJECTED {', '.join(run.settings.inject)}"] if run.settings.inject else []
    sentences = [
        *injected,
        *_given_elsewhere(config, run),
        *_idle_options(config),
        *_without_effect(config, run),
        *other_plugins.messages(config, run.settings),
        *run.results.announcements,
    ]
    return "; ".join([head, *sentences])


def _rounds(config: pytest.Config, run: RunState) -> str:
    if is_parallel(config):
        return "accuracy only (pytest-xdist)"
    return "accuracy only (--benchmark-disable)" if _is_disabled(config) else counted(run.rounds, "round")


def _is_disabled(config: pytest.Config) -> bool:
    option: Any = config.option
    return bool(getattr(option, "benchmark_disable", False) and not getattr(option, "benchmark_enable", False))


def _given_elsewhere(config: pytest.Config, run: RunState) -> list[str]:
    """What was set in the environment or the ini file, so that it is not visible on the command line."""
    places: dict[str, dict[str, list[str]]] = {"cases selected by": {}, "set by": {}}
    for option in OPTIONS:
        setting = _elsewhere(config, run, option)
        if setting is not None:
            what, place = setting
            heading = "cases selected by" if option.name in _SELECTING else "set by"
            places[heading].setdefault(place, []).append(what)
    sentences = []
    for heading, by_place in places.items():
        shown = ", ".join(f"{', '.join(settings)} ({place})" for place, settings in by_place.items())
        sentences += [f"{heading} {shown}"] if shown else []
    return sentences


def _elsewhere(config: pytest.Config, run: RunState, option: Option) -> tuple[str, str] | None:
    """`ATTN_BACKEND=xformers` and `environment`; None if it is not set, or set on the command line."""
    value = run.settings.values.get(option.name)
    if value is None or option.name in _UNSAID:
        return None
    source = run.settings.sources[option.name]
    text = _shown(value)
    flag = option.flag
    if source == option.variable:
        return f"{option.variable}={text}", "environment"
    if source == flag:
        place = _place(config, flag)
        return (flag if option.kind == "flag" else f"{flag}={text}", place) if place else None
    if any(_sets(override, option.key) for override in config.option.override_ini or ()):
        given = [*map(str, config.invocation_params.args)]
        return None if any(_sets(one, option.key) for one in given) else (f"{option.key} = {text}", "PYTEST_ADDOPTS")
    return f"{option.key} = {text}", config.inipath.name if config.inipath else "ini file"


def _sets(argument: str, key: str) -> bool:
    """Whether the argument sets this ini key: `KEY=…` after `-o`, `-oKEY=…` or `--override-ini=KEY=…`."""
    return re.fullmatch(rf"(-o|--override-ini=)?\s*{key}\s*=.*", argument, re.DOTALL) is not None


def _place(config: pytest.Config, flag: str) -> str | None:
    """Where pytest found an option that is not on the command line; None for one that is."""

    def has(arguments: Iterable[object]) -> bool:
        return any(str(argument).partition("=")[0] == flag for argument in arguments)

    if has(config.invocation_params.args):
        return None
    if has(shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))):
        return "PYTEST_ADDOPTS"
    if has(config.getini("addopts")):
        return f"addopts in {config.inipath.name}" if config.inipath else "addopts"
    return None


def _idle_options(config: pytest.Config) -> list[str]:
    """A sentence that names the given options of pytest-benchmark that have no effect here."""
    idle = [flag for flag in given_flags(config) if flag in _IDLE_FLAGS]
    if not idle:
        return []
    have = "has" if len(idle) == 1 else "have"
    return [
        f"{', '.join(idle)} {have} no effect on attention cases (use --attn-rounds; the device's clock is the timer)"
    ]


def _without_effect(config: pytest.Config, run: RunState) -> list[str]:
    """Options about timing that were given although nothing is timed."""
    if not (is_parallel(config) or _is_disabled(config)):
        return []
    sources = run.settings.sources
    given = [name for name in _TIMING if run.settings.values.get(name) not in (None, False)]
    idle = [sources[name] for name in given if not sources[name].startswith("ini key ")]
    idle += [f"--{name.replace('_', '-')}" for name in _OF_BENCHMARKS if getattr(config.option, name, None)]
    return [f"no effect, because nothing is timed: {', '.join(idle)}"] if idle else []


def _shown(value: bool | str | Sequence[str]) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    several = [value] if isinstance(value, str) else value
    text = " ".join(shlex.quote(one) if " " in one else one for one in several)
    shown = printable.escaped(text)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
