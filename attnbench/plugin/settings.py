"""What the user asked for: options, ini keys and variables, parsed once into a frozen `Settings`.

Command line over environment over ini over default; several values of a variable are separated by blanks. Errors name the
source of the value.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from attnbench.globs import matches_case, require
from attnbench.hardware.device import DEVICES
from attnbench.model import Record
from attnbench.plugin.options import CPU_ROUNDS, DEVICE_ROUNDS, OPTIONS, Option

if TYPE_CHECKING:
    from attnbench.execution.simulated_case import Scenario
    from attnbench.timing.injection import Injection
    from attnbench.verdicts.limits import Limit


@dataclass(frozen=True)
class Settings:
    """What the user asked for."""

    backends: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    grids: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    device: str | None = None
    rounds: int | None = None
    reference: str = "torch_flash@eager"
    list_only: bool = False
    isolate: bool = False
    timeout_s: float = 900.0
    launches: int | None = None
    limit: tuple[str, ...] = ()
    require_baseline: bool = False
    baselines_from: str | None = None
    require_verdict: bool = False
    relaunches: int = 3
    inject: tuple[str, ...] = ()
    sustained_s: float | None = None
    roofline: bool = False
    sim: tuple[str, ...] = ()
    baselines: Path | None = None
    report: Path | None = None
    salt: str = "attnbench"
    sources: Mapping[str, str] = field(default_factory=dict)  # option → where its value was given
    values: Mapping[str, Any] = field(default_factory=dict)  # option → what was given, None where nothing was
    given: bool = False  # an option of ours was used (a variable ATTN_BACKEND may be another program's)

    @property
    def scenario(self) -> Scenario:
        from attnbench.execution.simulated_case import parse_scenario

        return parse_scenario(self.sim)

    @property
    def injections(self) -> tuple[Injection, ...]:
        if not self.inject:
            return ()
        from attnbench.timing.injection import parse_injections

        return parse_injections(self.inject)

    @property
    def limits(self) -> tuple[Limit, ...]:
        if not self.limit:
            return ()
        from attnbench.verdicts.limits import parse_limits

        return parse_limits(self.limit)

    def rounds_on(self, device: str) -> int:
        return self.rounds or (CPU_ROUNDS if device == "cpu" else DEVICE_ROUNDS)

    @property
    def in_fresh_processes(self) -> bool:
        """Whether all cases run in fresh processes: in --attn-launches N of them, or in one for each backend."""
        return self.isolate or self.launches is not None

    def arguments(self, device: str) -> list[str]:
        """The command line that gives a launch these settings; `device` is the one already chosen."""
        worked_out = {"device": device, "rounds": self.rounds_on(device)}
        values = ((option, worked_out.get(option.name, getattr(self, option.field))) for option in OPTIONS)
        return [argument for option, value in values if option.inherited for argument in option.arguments(value)]

    def again(self, record: Record) -> list[str]:
        """Arguments given for this run and not by the ini file, that a verdict on this case depends on.

        Of the injections only the case's own: measured alone, any other would match nothing, which is a usage error.
        """
        from attnbench.verdicts.limits import limit_for

        limit = limit_for(self.limits, record)
        entries = zip(self.inject, self.injections, strict=True)
        injected = [entry for entry, injection in entries if matches_case(injection.glob, record)]
        of_the_case = {"limit": [] if limit is None else [f"{limit * 100:g}%"], "inject": injected[:1]}
        given = [
            option for option in OPTIONS if option.repeated and not self.sources[option.name].startswith("ini key ")
        ]
        arguments = [
            argument
            for option in sorted(given, key=lambda option: option.kind == "flag")  # flags last
            for argument in option.arguments(of_the_case.get(option.name, getattr(self, option.field)))
        ]
        # What was given may be for other cases, while the ini file's did not count.
        no_limit = bool(self.limit) and limit is None and self.sources["limit"].startswith("--")
        return [*arguments, "-o", "attn_limit="] if no_limit else arguments


def parse_settings(config: pytest.Config) -> Settings:
    """Read every source once. Raises pytest.UsageError that names the source and the value."""
    given = {option.name: _look_up(config, option) for option in OPTIONS}
    values = {name: value for name, (value, _) in given.items()}
    sources = {name: source for name, (_, source) in given.items()}
    fields = {
        option.field: option.value(values[option.name], sources[option.name])
        for option in OPTIONS
        if values[option.name] is not None
    }
    if "baselines" in fields:
        fields["baselines"] = config.rootpath / fields["baselines"]
    if fields.get("workloads") and fields.get("grids"):
        outranked = _outranked(sources["workload"], sources["grid"])
        fields[f"{outranked}s"], values[outranked] = (), None
    is_ours = any(source.startswith("--") for source in sources.values())
    settings = Settings(**fields, sources=sources, values=values, given=is_ours)
    _require_readable(settings)
    _refuse_combinations(settings)
    return settings


def _outranked(workload: str, grid: str) -> str:
    """Which of the options "workload" and "grid" has no effect, by the places where both were given.

    Raises pytest.UsageError where they were given in the same way.
    """
    ranks = [2 if source.startswith("--") else 0 if source.startswith("ini key ") else 1 for source in (workload, grid)]
    if ranks[0] == ranks[1]:
        raise pytest.UsageError(
            f"{workload} and {grid} exclude each other: leave one out; a workload of any grid is found by its name alone"
        )
    return "grid" if ranks[0] > ranks[1] else "workload"


def is_given(config: pytest.Config, flag: str) -> bool:
    """Whether an option of any plugin was given, even with its default value."""
    return flag in given_flags(config)


def given_flags(config: pytest.Config) -> list[str]:
    """The options on the command line, in PYTEST_ADDOPTS and in the ini file, without their values."""
    arguments = [*config.getini("addopts"), *shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))]
    return [*dict.fromkeys(str(one).split("=")[0] for one in (*arguments, *config.invocation_params.args))]


def _require_readable(settings: Settings) -> None:
    """Raise pytest.UsageError for a value with a grammar of its own that does not follow it."""

    def device() -> None:
        if settings.device is not None:
            require("device", settings.device, DEVICES)

    readers: dict[str, Callable[[], object]] = {
        "device": device,
        "inject": lambda: settings.injections,
        "limit": lambda: settings.limits,
        "sim": lambda: settings.sim and settings.scenario,
    }
    for name, read in readers.items():
        try:
            read()
        except ValueError as exc:
            raise pytest.UsageError(f"{settings.sources[name]}: {exc}") from exc


def _refuse_combinations(settings: Settings) -> None:
    """Raise pytest.UsageError for an option that has no effect without another."""
    sources = settings.sources
    if settings.sim and settings.device != "sim":
        raise pytest.UsageError(f"{sources['sim']} configures the simulated device: add --attn-device=sim")
    if settings.baselines is not None:
        return
    required = {"require-baseline": settings.require_baseline, "require-verdict": settings.require_verdict}
    for name in (name for name, is_required in required.items() if is_required):
        raise pytest.UsageError(f"{sources[name]} needs a folder of baseline sessions: set the ini key attn_baselines")
    if settings.baselines_from and sources["baselines-from"].startswith("--"):
        raise pytest.UsageError(
            f"{sources['baselines-from']} needs a folder of baseline sessions: set the ini key attn_baselines"
        )


def _look_up(config: pytest.Config, option: Option) -> tuple[Any, str]:
    """The value that wins, and its source; None if it is not set."""
    if not option.ini_only:
        given = config.getoption(option.key, None)
        if given is not None and option.kind == "one" and not given.strip():  # --attn-baselines-from=$UNSET
            raise pytest.UsageError(f"{option.flag}: expected a value, got {given!r}")
        if given is not None:
            return given, option.flag
        text = os.environ.get(option.variable)
        if text:
            return _from_text(option, text, option.variable), option.variable
    source = f"ini key {option.key}"
    try:
        ini = config.getini(option.key)
    except (TypeError, ValueError, pytest.UsageError) as exc:  # an open quote; in TOML, a number instead of a string
        raise pytest.UsageError(f"{source}: {exc}") from exc
    if option.kind == "one" and not isinstance(ini, str | None):  # in TOML, a list instead of a string
        raise pytest.UsageError(f"{source}: expected text, found {type(ini).__name__} {ini!r}")
    return (ini if ini not in (None, "", []) else None), source


def _from_text(option: Option, text: str, variable: str) -> Any:
    if option.kind == "many":
        try:
            return shlex.split(text)
        except ValueError as exc:
            raise pytest.UsageError(f"{variable}={text}: {exc}") from exc
    if option.kind == "flag":
        if text.lower() not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
            raise pytest.UsageError(f"{variable}: expected 1 or 0, got {text!r}")
        return text.lower() in ("1", "true", "yes", "on")
    return text
