"""The declaration of every option. `--attn-NAME` has the ini key `attn_NAME` and the variable `ATTN_NAME`."""

from __future__ import annotations

import math
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from attnbench.globs import UnknownName, require
from attnbench.hardware.device import DEVICES
from attnbench.model import MODES
from attnbench.workloads.grids.known import DEFAULT as DEFAULT_GRID

CPU_ROUNDS, DEVICE_ROUNDS = 5, 30

#: Variables with our prefix that are read elsewhere: by scripts/bench and scripts/test.
SCRIPT_VARIABLES = ("ATTN_PYTHON",)


@dataclass(frozen=True)
class Option:
    """One setting: every way to give it, and who else is given it.

    field: of `Settings`; the name with underscores unless it is said. parse: from what was given and the place where that
    was, to the field's value; raises pytest.UsageError. inherited: fresh processes get it. repeated: the command that
    measures one case again has it, where it was given for this run and not by the ini file. bare: the value of an option
    that is given without one.
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
    bare: str = ""

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
        """The value of its field. Raises pytest.UsageError that names the source.

        An option that may stand without a value takes the argument behind it for one, also where that is a path.
        """
        if self.parse is not None:
            try:
                return self.parse(given, source)
            except pytest.UsageError as exc:
                if not self.bare or source != self.flag or _is_number(given):
                    raise
                text = f"{exc}; if that is what to collect, write {self.flag}={self.bare} {given}"
                raise pytest.UsageError(text) from None
        return tuple(given) if self.kind == "many" else given


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _folder(given: str, source: str) -> Path:
    """A folder, relative to where pytest was started, that exists or can be made."""
    path = Path(given).absolute()
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            raise pytest.UsageError(f"{source}: expected a folder, got the file {given!r}")
    except FileNotFoundError:
        pass  # it is made when it is written to
    except OSError as exc:
        raise pytest.UsageError(f"{source}: the folder {given!r} cannot be used: {exc.strerror}") from exc
    return path


def _whole_number(lowest: int = 1) -> Callable[[str, str], int]:
    def parse(text: str, source: str) -> int:
        if not text.isdecimal() or int(text) < lowest:
            raise pytest.UsageError(f"{source}: expected an integer >= {lowest}, got {text!r}")
        return int(text)

    return parse


def _seconds(text: str, source: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise pytest.UsageError(f"{source}: expected a number of seconds above 0, got {text!r}")
    return seconds


OPTIONS = (
    Option(
        "backend",
        "many",
        "Backends to run: a name, a glob, hf:OWNER/NAME@VERSION, or the name that a published benchmark has for a variant "
        "(docs/backends.md lists them); repeatable (default: all).",
        "GLOB",
        field="backends",
        inherited=True,
    ),
    Option(
        "workload",
        "many",
        "Workloads to run: a name, a glob, or a problem spelt out, BATCHxSEQxHEADSxHEAD_DIM:DTYPE and more "
        "(docs/grids.md); repeatable (default: those of the grid).",
        "GLOB",
        field="workloads",
        inherited=True,
    ),
    Option(
        "grid",
        "many",
        "Grids of workloads to run where no workload is named, on the CPU their tiny siblings: a name or a glob; repeatable "
        f"(default: {DEFAULT_GRID}).",
        "GLOB",
        field="grids",
        inherited=True,
    ),
    Option(
        "mode",
        "many",
        f"Compile modes to run: {', '.join(MODES)}; repeatable (default: all that a backend has).",
        "GLOB",
        field="modes",
        inherited=True,
    ),
    Option(
        "device",
        "one",
        f"Device to measure on: {', '.join(DEVICES)} (default: cuda if there is a GPU, else cpu).",
        "TYPE",
        inherited=True,
        repeated=True,
    ),
    Option(
        "rounds",
        "one",
        "Timed calls per case and launch, at most: on a GPU, long calls take as many as fit into 0.18 s, and at least 5 "
        f"(default: {DEVICE_ROUNDS}, on the CPU {CPU_ROUNDS}).",
        "N",
        parse=_whole_number(),
        inherited=True,
        repeated=True,
    ),
    Option(
        "reference",
        "one",
        "Variant that speeds are relative to (default: torch_flash@eager).",
        "VARIANT",
        inherited=True,
    ),
    Option(
        "list",
        "flag",
        "List backends, modes and workloads, of the tests that -k, -m and names leave, with every reason why one cannot "
        "run, and exit.",
        field="list_only",
    ),
    Option(
        "launches",
        "one",
        "Measure every case in N fresh processes and pool them, so that a crash or a hang fails only its own case "
        "(default: none, pytest's own process measures).",
        "N",
        parse=_whole_number(),
        repeated=True,
    ),
    Option(
        "isolate",
        "flag",
        "Run each backend in its own process, so that a crash or a hang fails only its cases: in every launch of "
        "--attn-launches, in one launch without it.",
    ),
    Option(
        "timeout",
        "one",
        "Time limit of a case in seconds, compilation included (default: 900).",
        "SECONDS",
        field="timeout_s",
        parse=_seconds,
    ),
    Option(
        "limit",
        "many",
        "Slow-down that must fail a case: P%%, or GLOB:P%% for some cases; one of more than half of it may fail, too. "
        "Repeatable, the last match wins (default: what the baseline resolves, 1%% to 6%%).",
        "ENTRY",
        repeated=True,
    ),
    Option(
        "require-baseline",
        "flag",
        "Fail every selected case that has no comparable baseline, and every case that did not run.",
        repeated=True,
    ),
    Option(
        "baselines-from",
        "one",
        "Compare with the sessions of this git commit; newer ones count only for cases without a comparable one in it "
        "(default: the work tree).",
        "REF",
        repeated=True,
    ),
    Option(
        "require-verdict",
        "flag",
        "Fail every case whose verdict is inconclusive (cases without a baseline: --attn-require-baseline).",
        repeated=True,
    ),
    Option(
        "relaunch",
        "one",
        "Number of fresh processes that may measure a suspected slow-down again before its verdict (default: 3).",
        "N",
        field="relaunches",
        parse=_whole_number(lowest=0),
        repeated=True,
    ),
    Option(
        "inject",
        "many",
        "Slow down variants or cases by a spin inside the timed call: GLOB:+P%%; repeatable (default: none).",
        "ENTRY",
        inherited=True,
        repeated=True,
    ),
    Option(
        "sustained",
        "one",
        "Also measure each case under continuous load, for SECONDS once its latency is steady: latency, power, joules per "
        "call, clock; without a value for 5 s; not judged (default: not measured).",
        "SECONDS",
        field="sustained_s",
        parse=_seconds,
        inherited=True,
        bare="5",
    ),
    Option(
        "roofline",
        "flag",
        "Measure once per launch what the GPU reaches in a matrix product and in a copy; shares and a roofline plot rest on "
        "it. attnbench record always does.",
        inherited=True,
    ),
    Option(
        "sim",
        "many",
        "Configure --attn-device=sim: seed=N, launch=N, unit=NAME, GLOB:+P%%, GLOB:OUTCOME, GLOB:choices=NAME; repeatable.",
        "ENTRY",
        inherited=True,
        repeated=True,
    ),
    Option(
        "report",
        "one",
        "Folder for a report of this run: a page with plots, CSV, JSON lines, Markdown (default: none is written).",
        "DIR",
        parse=_folder,
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
            elif option.bare:
                takes.update(nargs="?", const=option.bare)
            group.addoption(option.flag, dest=option.key, help=option.help, **takes)
        kind: Any = {"many": "args", "flag": "bool", "one": "string"}[option.kind]
        parser.addini(option.key, option.help.replace("%%", "%"), type=kind, default=None)


def refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    """Raise pytest.UsageError for a variable ATTN_… that nothing reads: a typo would be ignored silently."""
    known = (*(option.variable for option in OPTIONS if not option.ini_only), *SCRIPT_VARIABLES)
    for name in environment:
        if name.startswith("ATTN_"):
            try:
                require("variable of attnbench", name, known)
            except UnknownName as exc:
                raise pytest.UsageError(f"environment: {exc}") from exc


def _is_known(config: pytest.Config, key: str) -> bool:
    """Whether anybody declared this ini key: we, another plugin, or a conftest.py."""
    try:
        config.getini(key)
    except ValueError:
        return False
    except Exception:  # a value that cannot be read, which is said where it is needed
        return True
    return True


def refuse_unknown_keys(config: pytest.Config) -> None:
    """Raise pytest.UsageError for an ini key attn_… that nothing reads: without its baselines nothing would be compared."""
    public = "_inicfg" not in vars(config)  # pytest 9 has another one, whose public name warns
    for name in config.inicfg if public else vars(config)["_inicfg"]:
        if name.startswith("attn_") and not _is_known(config, name):
            try:
                require("ini key of attnbench", name, [option.key for option in OPTIONS])
            except UnknownName as exc:
                raise pytest.UsageError(f"{config.inipath.name if config.inipath else 'ini file'}: {exc}") from exc
