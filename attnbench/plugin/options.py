"""Options, ini keys and variables, parsed once into a frozen `Settings`.

Command line over environment over ini over default. Every option `--attn-NAME` has the ini key `attn_NAME` and the
variable `ATTN_NAME` (several values separated by blanks). Errors name the source of the value.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping
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
    """One setting and every way to give it."""

    name: str  # "require-baseline": --attn-require-baseline, attn_require_baseline, ATTN_REQUIRE_BASELINE
    kind: str  # "many", "one" or "flag"
    help: str
    metavar: str = ""
    ini_only: bool = False

    @property
    def key(self) -> str:
        return f"attn_{self.name.replace('-', '_')}"

    @property
    def variable(self) -> str:
        return self.key.upper()


OPTIONS = (
    Option(
        "backend",
        "many",
        "Backends to run: a name, a glob, or hf:OWNER/NAME@VERSION; repeatable (default: all).",
        "GLOB",
    ),
    Option(
        "workload",
        "many",
        "Workloads to run: a name, a glob, or BATCHxSEQxHEADSxHEAD_DIM:DTYPE; repeatable (default: flux-1024px-*, on the "
        "CPU three of flux-256px-*).",
        "GLOB",
    ),
    Option(
        "mode",
        "many",
        f"Compile modes to run: {', '.join(MODES)}; repeatable (default: all that a backend has).",
        "GLOB",
    ),
    Option(
        "device",
        "one",
        f"Device to measure on: {', '.join(DEVICES)} (default: cuda if there is a GPU, else cpu).",
        "TYPE",
    ),
    Option(
        "rounds", "one", f"Timed calls per case and launch (default: {DEVICE_ROUNDS}, on the CPU {CPU_ROUNDS}).", "N"
    ),
    Option("reference", "one", "Variant that speeds are relative to (default: torch_flash@eager).", "VARIANT"),
    Option("list", "flag", "List backends, modes and workloads, with every reason why one cannot run, and exit."),
    Option("isolate", "flag", "Run each backend in its own process, so that a crash or a hang fails only its cases."),
    Option("timeout", "one", "Time limit of a case in seconds, compilation included (default: 900).", "SECONDS"),
    Option(
        "launches",
        "one",
        "Number of fresh processes that each measure every case (default: none, pytest's own process measures).",
        "N",
    ),
    Option(
        "limit",
        "many",
        "Slow-down that fails a case: P%%, or GLOB:P%% for some cases; repeatable, the last match wins (default: what the "
        "baseline resolves, 1%% to 6%%).",
        "ENTRY",
    ),
    Option("require-baseline", "flag", "Fail every selected case that has no comparable baseline."),
    Option(
        "baselines-from",
        "one",
        "Compare with the sessions of this git commit; newer ones count only for cases without a comparable one in it "
        "(default: the work tree).",
        "REF",
    ),
    Option(
        "require-verdict",
        "flag",
        "Fail every case whose verdict is inconclusive (cases without a baseline: --attn-require-baseline).",
    ),
    Option(
        "relaunch",
        "one",
        "Number of fresh processes that may measure a suspected slow-down again before its verdict (default: 3).",
        "N",
    ),
    Option(
        "inject",
        "many",
        "Slow down variants or cases by a spin inside the timed call: GLOB:+P%%; repeatable (default: none).",
        "ENTRY",
    ),
    Option(
        "sim",
        "many",
        "Configure --attn-device=sim: seed=N, launch=N, unit=NAME, GLOB:+P%%, GLOB:OUTCOME, GLOB:choices=NAME; repeatable.",
        "ENTRY",
    ),
    Option(
        "baselines",
        "one",
        "Folder of stored runs, relative to pytest's root directory (default: none, so nothing is compared).",
        "FOLDER",
        ini_only=True,
    ),
    Option(
        "salt",
        "one",
        "Salt of the hashes that replace host names and GPU serials in stored files (default: attnbench).",
        ini_only=True,
    ),
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

    def arguments(self, device: str) -> list[str]:
        """The command line that gives a launch these settings; `device` is the one already chosen."""
        many = {
            "backend": self.backends,
            "workload": self.workloads,
            "mode": self.modes,
            "inject": self.inject,
            "sim": self.sim,
        }
        flags = [f"--attn-{name}={value}" for name, values in many.items() for value in values]
        one = {"device": device, "rounds": self.rounds_on(device), "reference": self.reference}
        return [*flags, *(f"--attn-{name}={value}" for name, value in one.items())]

    def again(self, record: Record) -> list[str]:
        """Arguments given for this run and not by the ini file, that a verdict on this case depends on.

        Of the injections only the case's own: measured alone, any other would match nothing, which is a usage error.
        """
        own = next(
            (entry for entry, i in zip(self.inject, self.injections, strict=True) if matches_case(i.glob, record)), None
        )
        limit = limit_for(self.limits, record)
        one = {
            "device": self.device,
            "rounds": self.rounds,
            "launches": self.launches,
            "relaunch": self.relaunches,
            "limit": None if limit is None else f"{limit * 100:g}%",
            "inject": own,
            "baselines-from": self.baselines_from,
        }
        found = [(name, f"={value}") for name, value in one.items() if value is not None]
        found += [("sim", f"={value}") for value in self.sim]
        found += [("require-baseline", "")] if self.require_baseline else []
        found += [("require-verdict", "")] if self.require_verdict else []
        arguments = [f"--attn-{name}{value}" for name, value in found if not self.sources[name].startswith("ini key ")]
        if self.limit and limit is None and self.sources["limit"].startswith("--"):
            arguments += ["-o", "attn_limit="]  # what was given is for other cases, and the ini file's did not count
        return arguments


def add_options(parser: pytest.Parser) -> None:
    """Declare every option and ini key."""
    group = parser.getgroup("attn", "attention kernels (attnbench)")
    for option in OPTIONS:
        if not option.ini_only:
            flag = f"--attn-{option.name}"
            destination = option.key
            if option.kind == "flag":
                group.addoption(flag, dest=destination, action="store_true", default=None, help=option.help)
            elif option.kind == "many":
                group.addoption(flag, dest=destination, action="append", metavar=option.metavar, help=option.help)
            else:
                group.addoption(flag, dest=destination, metavar=option.metavar, help=option.help)
        kind: Any = {"many": "args", "flag": "bool", "one": "string"}[option.kind]
        parser.addini(option.key, option.help.replace("%%", "%"), type=kind, default=None)


def parse_settings(config: pytest.Config) -> Settings:
    """Read every source once. Raises pytest.UsageError that names the source and the value."""
    found = {option.name: _look_up(config, option) for option in OPTIONS}
    value = {name: given for name, (given, _) in found.items()}
    sources = {name: source for name, (_, source) in found.items()}
    folder = value["baselines"]
    settings = Settings(
        backends=tuple(value["backend"] or ()),
        workloads=tuple(value["workload"] or ()),
        modes=tuple(value["mode"] or ()),
        device=value["device"] or None,
        rounds=_whole_number(*found["rounds"]),
        reference=value["reference"] or Settings.reference,
        list_only=bool(value["list"]),
        isolate=bool(value["isolate"]),
        timeout_s=_seconds(*found["timeout"]) or Settings.timeout_s,
        launches=_whole_number(*found["launches"]),
        limit=tuple(value["limit"] or ()),
        require_baseline=bool(value["require-baseline"]),
        baselines_from=value["baselines-from"] or None,
        require_verdict=bool(value["require-verdict"]),
        relaunches=Settings.relaunches if (again := _whole_number(*found["relaunch"], 0)) is None else again,
        inject=tuple(value["inject"] or ()),
        sim=tuple(value["sim"] or ()),
        baselines=config.rootpath / folder if folder else None,
        salt=value["salt"] or Settings.salt,
        sources=sources,
        values=value,
        given=any(source.startswith("--") for source in sources.values()),
    )
    try:
        source = sources["device"]
        if settings.device is not None:
            require("device", settings.device, DEVICES)
        source = sources["inject"]
        _ = settings.injections
        source = sources["limit"]
        _ = settings.limits
        source = sources["sim"]
        _ = settings.scenario
    except ValueError as exc:
        raise pytest.UsageError(f"{source}: {exc}") from exc
    if settings.sim and settings.device != "sim":
        raise pytest.UsageError(f"{sources['sim']} configures the simulated device: add --attn-device=sim")
    required = {"require-baseline": settings.require_baseline, "require-verdict": settings.require_verdict}
    for name, is_required in required.items():
        if is_required and settings.baselines is None:
            raise pytest.UsageError(
                f"{sources[name]} needs a folder of baseline sessions: set the ini key attn_baselines"
            )
    if settings.baselines_from and settings.baselines is None and sources["baselines-from"].startswith("--"):
        raise pytest.UsageError(
            f"{sources['baselines-from']} needs a folder of baseline sessions: set the ini key attn_baselines"
        )
    return settings


def refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    """Raise pytest.UsageError for a variable ATTN_… that nothing reads: a typo would be ignored silently."""
    known = (*(option.variable for option in OPTIONS if not option.ini_only), *SCRIPT_VARIABLES)
    for name in environment:
        if name.startswith("ATTN_"):
            try:
                require("variable of attnbench", name, known)
            except UnknownName as exc:
                raise pytest.UsageError(f"environment: {exc}") from exc


def _look_up(config: pytest.Config, option: Option) -> tuple[Any, str]:
    """The value that wins, and its source; None if it is not set."""
    if not option.ini_only:
        given = config.getoption(option.key, None)
        if given is not None and option.kind == "one" and not given.strip():  # --attn-baselines-from=$UNSET
            raise pytest.UsageError(f"--attn-{option.name}: expected a value, got {given!r}")
        if given is not None:
            return given, f"--attn-{option.name}"
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
            raise pytest.UsageError(f"{variable}: expected 1 or 0, got {text!r}")
        return text.lower() in ("1", "true", "yes", "on")
    return text


def _whole_number(text: str | None, source: str, lowest: int = 1) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) < lowest:
        raise pytest.UsageError(f"{source}: expected an integer >= {lowest}, got {text!r}")
    return int(text)


def _seconds(text: str | None, source: str) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise pytest.UsageError(f"{source}: expected a number of seconds above 0, got {text!r}")
    return seconds
