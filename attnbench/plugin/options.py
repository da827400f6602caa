"""Options, ini keys and variables, parsed once into a frozen `Settings`.

Command line over environment over ini over default. Every option `--attn-NAME` has the ini key `attn_NAME` and the
variable `ATTN_NAME` (several values separated by blanks). Whatever is wrong names the place where it was given.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from attnbench.execution.simulated_case import Scenario, parse_scenario
from attnbench.globs import UnknownName, matches_case, require
from attnbench.hardware.device import DEVICES
from attnbench.model import MODES, Record
from attnbench.timing.injection import Injection, parse_injections
from attnbench.verdicts.limits import Limit, limit_for, parse_limits

CPU_ROUNDS, DEVICE_ROUNDS = 5, 30

#: Variables with our prefix that are read elsewhere: by scripts/bench and scripts/test.
SCRIPT_VARIABLES = ("ATTN_PYTHON",)


@dataclass(frozen=True)
class Option:
    """One setting: every way to give it, and who else is given it.

    field: of `Settings`; the name with underscores unless it is said. parse: from what was given and the place where that
    was, to the field's value; raises pytest.UsageError. inherited: fresh processes get it. repeated: the command that
    measures one case again has it, where it was given for this run and not by the ini file.
    """

    name: str  # "require-baseline": --attn-require-baseline, attn_require_baseline, ATTN_REQUIRE_BASELINE
    kind: str  # "many", "one" or "flag"
    help: str
    metavar: str = ""
    ini_only: bool = False
    field: str = ""
    parse: Callable[[Any, str], Any] | None = None
    inherited: bool = False
    repeated: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "field", self.field or self.name.replace("-", "_"))

    @property
    def flag(self) -> str:
        return f"--attn-{self.name}"

    @property
    def key(self) -> str:
        return f"attn_{self.name.replace('-', '_')}"

    @property
    def variable(self) -> str:
        return self.key.upper()

    def arguments(self, value: Any) -> list[str]:
        """The command line that gives this value of its field; none for what is not set."""
        if self.kind == "flag":
            return [self.flag] if value else []
        values = value if self.kind == "many" else [] if value is None else [value]
        return [f"{self.flag}={one}" for one in values]

    def value(self, given: Any, source: str) -> Any:
        """The value of its field. Raises pytest.UsageError that names the source."""
        if self.parse is not None:
            return self.parse(given, source)
        return tuple(given) if self.kind == "many" else given


def _whole_number(what: str, lowest: int = 1) -> Callable[[str, str], int]:
    def parse(text: str, source: str) -> int:
        if not text.isdecimal() or int(text) < lowest:
            raise pytest.UsageError(
                f"{source}: {text!r} is no number of {what}, a whole number from {lowest} is needed"
            )
        return int(text)

    return parse


def _seconds(text: str, source: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise pytest.UsageError(f"{source}: {text!r} is no time limit, a number of seconds above 0 is needed")
    return seconds


OPTIONS = (
    Option(
        "backend",
        "many",
        "Backends to run: a name, a glob, or hf:OWNER/NAME@VERSION; repeatable. Default: all.",
        "GLOB",
        field="backends",
        inherited=True,
    ),
    Option(
        "workload",
        "many",
        "Workloads: a name, a glob, or BATCHxSEQxHEADSxHEAD_DIM:DTYPE; repeatable.",
        "GLOB",
        field="workloads",
        inherited=True,
    ),
    Option(
        "mode",
        "many",
        f"Compile modes: {', '.join(MODES)}; repeatable. Default: all that a backend has.",
        "GLOB",
        field="modes",
        inherited=True,
    ),
    Option(
        "device",
        "one",
        f"Device: {', '.join(DEVICES)}. Default: cuda where a GPU is, else cpu.",
        "TYPE",
        inherited=True,
        repeated=True,
    ),
    Option(
        "rounds",
        "one",
        f"Timed calls per case. Default: {DEVICE_ROUNDS}, on the CPU {CPU_ROUNDS}.",
        "N",
        parse=_whole_number("rounds"),
        inherited=True,
        repeated=True,
    ),
    Option(
        "reference",
        "one",
        "Variant that speeds are given against. Default: torch_flash@eager.",
        "VARIANT",
        inherited=True,
    ),
    Option(
        "list",
        "flag",
        "List backends × modes × workloads, each ready or with every reason why not, and exit.",
        field="list_only",
    ),
    Option(
        "launches",
        "one",
        "Measure every case in N fresh processes and pool them: a crash or a hang costs its own case only. "
        "Default: none, this process measures.",
        "N",
        parse=_whole_number("launches"),
        repeated=True,
    ),
    Option(
        "isolate",
        "flag",
        "In fresh processes, one for each backend: in every launch of --attn-launches, in one launch without it.",
    ),
    Option(
        "timeout",
        "one",
        "Seconds that one case may take, compilation included. Default: 900.",
        "SECONDS",
        field="timeout_s",
        parse=_seconds,
    ),
    Option(
        "limit",
        "many",
        "Slow-down that counts: P%%, or GLOB:P%% for some cases; repeatable, the last that matches wins. Default: what the "
        "baseline carries, 1%% to 6%%.",
        "ENTRY",
        repeated=True,
    ),
    Option(
        "require-baseline",
        "flag",
        "Fail every selected case that cannot be held against a baseline.",
        repeated=True,
    ),
    Option(
        "baselines-from",
        "one",
        "Compare with the sessions of this git commit; later ones count only where it has no comparable one.",
        "REF",
        repeated=True,
    ),
    Option(
        "require-verdict",
        "flag",
        "Fail every case whose verdict is inconclusive; for cases without a baseline, --attn-require-baseline.",
        repeated=True,
    ),
    Option(
        "relaunch",
        "one",
        "Fresh processes that may measure a suspect again before it is judged. Default: 3.",
        "N",
        field="relaunches",
        parse=_whole_number("launches", lowest=0),
        repeated=True,
    ),
    Option(
        "inject",
        "many",
        "Slow a variant or case down by a spin inside the timed call: GLOB:+P%%; repeatable.",
        "ENTRY",
        inherited=True,
        repeated=True,
    ),
    Option(
        "sim",
        "many",
        "What --attn-device sim shows: seed=N, launch=N, unit=NAME, GLOB:+P%%, GLOB:OUTCOME, GLOB:choices=NAME.",
        "ENTRY",
        inherited=True,
        repeated=True,
    ),
    Option("baselines", "one", "Folder of stored runs, relative to the root directory.", "FOLDER", ini_only=True),
    Option("salt", "one", "Salt of the hashes that stand for hosts and GPU units in stored files.", ini_only=True),
)


@dataclass(frozen=True)
class Settings:
    """What the user asked for."""

    backends: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
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
    sim: tuple[str, ...] = ()
    baselines: Path | None = None
    salt: str = "attnbench"
    sources: Mapping[str, str] = field(default_factory=dict)  # option → where its value was given
    values: Mapping[str, Any] = field(default_factory=dict)  # option → what was given, None where nothing was
    given: bool = False  # an option of ours was used (a variable ATTN_BACKEND may be another program's)

    @property
    def scenario(self) -> Scenario:
        return parse_scenario(self.sim)

    @property
    def injections(self) -> tuple[Injection, ...]:
        return parse_injections(self.inject)

    @property
    def limits(self) -> tuple[Limit, ...]:
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
        limit = limit_for(self.limits, record)
        entries = zip(self.inject, self.injections, strict=True)
        injected = [entry for entry, injection in entries if matches_case(injection.glob, record)]
        of_the_case = {"limit": [] if limit is None else [f"{limit * 100:g}%"], "inject": injected[:1]}
        given = [
            option for option in OPTIONS if option.repeated and not self.sources[option.name].startswith("ini key ")
        ]
        arguments = [
            argument
            for option in given
            for argument in option.arguments(of_the_case.get(option.name, getattr(self, option.field)))
        ]
        # What was given may be for other cases, while the ini file's did not count.
        no_limit = bool(self.limit) and limit is None and self.sources["limit"].startswith("--")
        return [*arguments, "-o", "attn_limit="] if no_limit else arguments


def add_options(parser: pytest.Parser) -> None:
    """Declare every option and ini key."""
    group = parser.getgroup("attn", "attention kernels (attnbench)")
    for option in OPTIONS:
        if not option.ini_only:
            takes: dict[str, Any] = {"metavar": option.metavar}
            if option.kind == "flag":
                takes = {"action": "store_true", "default": None}
            elif option.kind == "many":
                takes["action"] = "append"
            group.addoption(option.flag, dest=option.key, help=option.help, **takes)
        kind: Any = {"many": "args", "flag": "bool", "one": "string"}[option.kind]
        parser.addini(option.key, option.help.replace("%%", "%"), type=kind, default=None)


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
    is_ours = any(source.startswith("--") for source in sources.values())
    settings = Settings(**fields, sources=sources, values=values, given=is_ours)
    _require_readable(settings)
    _refuse_combinations(settings)
    return settings


def _require_readable(settings: Settings) -> None:
    """Raise pytest.UsageError for a value with a grammar of its own that does not follow it."""

    def device() -> None:
        if settings.device is not None:
            require("device", settings.device, DEVICES)

    readers: dict[str, Callable[[], object]] = {
        "device": device,
        "inject": lambda: settings.injections,
        "limit": lambda: settings.limits,
        "sim": lambda: settings.scenario,
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
        raise pytest.UsageError(f"{sources['sim']} chooses what the simulated device shows: add --attn-device sim")
    if settings.baselines is not None:
        return
    required = {"require-baseline": settings.require_baseline, "require-verdict": settings.require_verdict}
    for name in (name for name, is_required in required.items() if is_required):
        raise pytest.UsageError(
            f"{sources[name]} needs stored sessions to compare with: name their folder in the ini key attn_baselines"
        )
    if settings.baselines_from and sources["baselines-from"].startswith("--"):
        raise pytest.UsageError(
            f"{sources['baselines-from']} needs the folder of the stored sessions: name it in the ini key attn_baselines"
        )


def refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    """Raise pytest.UsageError for a variable ATTN_… that nothing reads: a typo would be silently ignored."""
    known = (*(option.variable for option in OPTIONS if not option.ini_only), *SCRIPT_VARIABLES)
    for name in environment:
        if name.startswith("ATTN_"):
            try:
                require("variable of attnbench", name, known)
            except UnknownName as exc:
                raise pytest.UsageError(f"environment: {exc}") from exc


def _look_up(config: pytest.Config, option: Option) -> tuple[Any, str]:
    """The value that wins, and where it was given; None when it was given nowhere."""
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
    return (ini if ini not in (None, "", []) else None), source


def _from_text(option: Option, text: str, variable: str) -> Any:
    if option.kind == "many":
        try:
            return shlex.split(text)
        except ValueError as exc:
            raise pytest.UsageError(f"{variable}={text}: {exc}") from exc
    if option.kind == "flag":
        if text.lower() not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
            raise pytest.UsageError(f"{variable}={text}: 1 or 0 is needed")
        return text.lower() in ("1", "true", "yes", "on")
    return text
