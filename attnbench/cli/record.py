"""`attnbench record`: a session of several launches, checked and written as one file."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from attnbench.cli.baselines_folder import DEFAULT, baselines_folder
from attnbench.cli.exit_codes import INTERRUPTED, REFUSED
from attnbench.cli.pytest_command import pytest_command
from attnbench.cli.spread import launch_spread
from attnbench.cli.subparser import subparser
from attnbench.codec import Unreadable, run_from
from attnbench.ending_signals import ENDING
from attnbench.execution.parentage import dying_with_this_process
from attnbench.hardware.nvml import disturbances, look
from attnbench.model import DIRTY, Record, RunFile
from attnbench.storage.benchmark_json import load_document
from attnbench.storage.folders import is_absent
from attnbench.storage.sessions import FEWEST_LAUNCHES, STOPPED, one_per_launch, refusals, write_session
from attnbench.units import counted, duration

if TYPE_CHECKING:
    from attnbench.cli.subparser import Subparsers

DEFAULT_LAUNCHES = 3
#: Seconds between the starts of two sessions of one GPU.
APART_S = 600.0
#: Launches of one case further apart than this are named, for whoever reviews the session.
WIDE = 0.005
#: Variables, and in small letters ini keys, of options that are for other runs: they need a baseline, or measure nothing.
_OF_OTHER_RUNS = ("ATTN_REQUIRE_BASELINE", "ATTN_REQUIRE_VERDICT", "ATTN_LIST")
#: Why options of pytest cannot be given to a recording.
_REFUSED = {
    ("--attn-launches",): "use --launches=N",
    ("--attn-baselines",): (  # which is an ini key alone
        "a recording is not judged by earlier sessions; use --into=FOLDER to say where it goes"
    ),
    ("--attn-require-baseline", "--attn-require-verdict", "--attn-baselines-from"): (
        "a recording is not judged by earlier sessions; leave it out"
    ),
    ("--benchmark-compare", "--benchmark-compare-fail"): "a recording is not compared with earlier runs; leave it out",
    ("--benchmark-json", "--benchmark-save", "--benchmark-autosave", "--benchmark-storage"): (
        "a recording writes the session and no other file; leave it out (--into=FOLDER: where the session goes)"
    ),
    ("--benchmark-disable", "--benchmark-skip"): "a recording has to measure; leave it out",
    ("--attn-list",): "a recording has to measure; use attnbench list",
    (
        *("--co", "--collect-only", "--setup-only", "--setup-plan", "--fixtures", "--fixtures-per-test", "--markers"),
        *("--version", "-V"),
    ): "a recording has to measure; give it to pytest",
}


TEXT = """\
Measure every selected case in several fresh processes and store them as one session, FOLDER/<gpu>/NNNN_<id>.json.
Runs of pytest compare with it where the ini key attn_baselines names FOLDER: review the file and commit it.

Nothing is written if the GPU was shared, throttled or did not settle, if a case failed, or if the run was cut off.
Files that are there are never changed. The first case that rules a session out ends the run.

All other arguments go to pytest: --attn-backend=GLOB, --attn-workload=GLOB, --attn-mode=GLOB, tests.
Without tests it runs what `pytest` would run here; in a folder without tests, the suite of the package.

examples:
  attnbench record                 one session resolves a slow-down of about 2.3 %
  attnbench record --sessions=4    four sessions that agree resolve 1 %
  attnbench record --attn-backend='torch_*' --attn-mode=eager

exit codes: 0 written, 1 refused, 2 wrong usage or ended by a signal, else that of pytest.
"""


def add_parser(commands: Subparsers) -> None:
    """Add `attnbench record`."""
    parser = subparser(commands, "record", run, "measure and store a baseline session", TEXT, passes_on=True)
    parser.add_argument(
        "--launches", type=int, default=DEFAULT_LAUNCHES, metavar="N", help="fresh processes, at least 2. Default: 3"
    )
    parser.add_argument(
        "--sessions", type=int, default=1, metavar="N", help="sessions, one after the other. Default: 1"
    )
    parser.add_argument(
        "--apart",
        type=float,
        default=APART_S,
        metavar="SECONDS",
        help=f"between the starts of two sessions. Default: {APART_S:g}",
    )
    parser.add_argument(
        "--into",
        type=Path,
        metavar="FOLDER",
        help="folder of the sessions. Default: the one that the ini key attn_baselines names, else baselines",
    )
    parser.add_argument(
        "--keep-going", action="store_true", help="measure the rest after a case that rules a session out"
    )


def run(options: argparse.Namespace, arguments: list[str]) -> int:
    """Measure, check, write. Exit code: 0 written, 1 refused, 2 wrong usage or ended by a signal, else pytest's own."""
    parser: argparse.ArgumentParser = options.parser
    if options.launches < FEWEST_LAUNCHES:
        parser.error(
            f"--launches: expected an integer >= {FEWEST_LAUNCHES}, to know how launches differ, got {options.launches}"
        )
    if options.sessions < 1:
        parser.error(f"--sessions: expected an integer >= 1, got {options.sessions}")
    if not 0 <= options.apart <= threading.TIMEOUT_MAX:
        parser.error(f"--apart: expected a number of seconds >= 0, got {options.apart:g}")
    if complaint := _complaint(arguments):
        parser.error(complaint)
    with Signals() as signals:
        return _record_sessions(options, arguments, signals)


def _complaint(pytest_arguments: Sequence[str]) -> str:
    """Why an argument cannot be given to a recording; empty if all can."""
    whys = {name: why for names, why in _REFUSED.items() for name in names}
    for argument in pytest_arguments:
        name = argument.partition("=")[0]
        if name in whys:
            return f"{name}: {whys[name]}"
        if found := re.match(r"(?:-o|--override-ini=)?(attn_\w+)=", argument):
            key = found[1]
            if why := whys.get(f"--{key.replace('_', '-')}"):
                return f"-o {key}: {why}"
    return ""


def _record_sessions(options: argparse.Namespace, pytest_arguments: Sequence[str], signals: Signals) -> int:
    """Record sessions one after the other until one is refused or a signal arrives; earlier ones stay."""
    written, due_s, existed = 0, time.monotonic(), True
    try:
        if options.into is None:
            options.into = _into(pytest_arguments)
        existed = not is_absent(options.into)
        while written < options.sessions:
            if (left_s := due_s - time.monotonic()) > 0:
                _say(f"session {written + 1} of {options.sessions} begins in {duration(left_s)}")
                time.sleep(left_s)
            due_s = time.monotonic() + options.apart
            if code := _record(options, pytest_arguments, signals):
                return code
            written += 1
            signals.let_go()
    except Ended as ended:
        _say(f"{ended} after {written} of {options.sessions} sessions" if written else f"nothing was written: {ended}")
        return INTERRUPTED
    finally:
        if not existed:
            with contextlib.suppress(OSError):  # it holds a session, or was never made
                options.into.rmdir()
    return 0


def _into(pytest_arguments: Sequence[str]) -> Path:
    """Where sessions go unless --into says it: to the folder that runs of pytest compare with."""
    try:
        return baselines_folder(pytest_arguments)
    except Unreadable:
        return Path(DEFAULT)  # the run, which pytest refuses too, says why


def _record(options: argparse.Namespace, pytest_arguments: Sequence[str], signals: Signals) -> int:
    before = look()
    if complaints := disturbances(before, before):
        return _refused(complaints[:1])
    try:  # before minutes are spent measuring
        options.into.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=options.into).close()
    except OSError as exc:
        return _refused([f"{options.into} cannot be written to: {exc.strerror}"])
    with tempfile.TemporaryDirectory(prefix="attnbench-") as scratch:
        stored = Path(scratch, "run.json")
        code = _measure(options.launches, stored, options.keep_going, pytest_arguments, signals)
        try:
            document = load_document(stored) if stored.is_file() else {}
            run = run_from(document) if document else None
        except Unreadable as exc:
            return _refused([str(exc)])
        if run is None or (code not in (0, 1) and run.interrupted != STOPPED):
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            what = "pytest measured no case" if code == 0 else f"pytest {how}; see the lines above"
            _say(f"nothing was written: {what}")
            return 128 - code if code < 0 else code or 1
    complaints = [*refusals(run), *disturbances(before, look())]
    if complaints or code:
        return _refused(complaints or ["a test failed; see the lines above"])
    signals.hold()
    try:
        path = write_session(options.into, run, document)
    except OSError as exc:
        return _refused([f"{options.into} cannot be written to: {exc.strerror}"])
    cases = {record.case for record in run.records if record.sample is not None}
    _say(f"recorded {path}: {counted(len(cases), 'case')} × {options.launches} launches; review it, then commit it")
    for line in (*_with_local_changes(run), *_wide(run)):
        _say(line)
    if signals.came:
        _say(f"{signals.came[0].name} came while the session was being written; the session was finished first")
    return INTERRUPTED if signals.came else 0


def _measure(launches: int, stored: Path, keep_going: bool, arguments: Sequence[str], signals: Signals) -> int:
    """Run the tests, without baselines: a new session is not judged by earlier ones. The exit code of pytest."""
    command = pytest_command(
        "--benchmark-only", "--attn-roofline", f"--attn-launches={launches}", "-p", "attnbench.plugin.recording"
    )
    command += [f"--benchmark-json={stored}", f"--benchmark-storage=file://{stored.parent}"]
    command += [] if keep_going else ["-p", "attnbench.plugin.early_stop"]
    keys = {"attn_baselines": "", **{name.lower(): "false" for name in _OF_OTHER_RUNS}}
    command += [part for key, value in keys.items() for part in ("-o", f"{key}={value}")]
    command += arguments
    code = signals.run(command, {name: value for name, value in os.environ.items() if name not in _OF_OTHER_RUNS})
    return INTERRUPTED if signals.came and code < 0 else code  # pytest was still starting


class Ended(BaseException):
    """A signal arrived while no child process ran that could receive it."""


class Signals:
    """Handles Ctrl-C, SIGTERM and SIGHUP while it is open: they end what runs, but not the writing of a session."""

    def __init__(self) -> None:
        self.came: list[signal.Signals] = []
        self._before: dict[signal.Signals, Any] = {}
        self._running: subprocess.Popen[bytes] | None = None
        self._held = False

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                    self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def hold(self) -> None:
        """Delay signals from here on."""
        self._held = True

    def let_go(self) -> None:
        """Let signals end what runs again."""
        self._held = False

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Run a program that gets every signal that arrives here and dies with this process. Returns its exit code.

        It has a process session of its own; otherwise Ctrl-C in a terminal would reach it twice.
        """
        self._held = True  # until there is a process to pass them on to
        with subprocess.Popen(
            command,
            env=environment,
            start_new_session=True,
            preexec_fn=dying_with_this_process(),  # noqa: PLW1509  # one system call, and no thread here holds a lock
        ) as running:
            self._running = running
            for number in self.came:
                running.send_signal(number)
            code = running.wait()
            self._running = None
        self._held = False
        return code

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        del frame
        first = not self.came
        self.came.append(signal.Signals(number))
        if self._running is not None:
            self._running.send_signal(number)
        elif first and not self._held:
            raise Ended(f"ended by {self.came[0].name}")


def _with_local_changes(run: RunFile) -> list[str]:
    """A line about backends whose code has uncommitted changes: no other session will have the same code."""
    versions = {record.backend: record.versions.values() for record in run.records if record.sample is not None}
    changed = [backend for backend, found in versions.items() if any(DIRTY in version for version in found)]
    if not changed:
        return []
    text = (
        f"uncommitted changes in the code of {', '.join(changed)}: no other session can be combined with this one. For a "
        "limit of 1 %, commit and record again"
    )
    return [text]


def _wide(run: RunFile) -> list[str]:
    """A line for each case whose launches differ by more than `WIDE` in every measure."""
    launches: dict[str, list[Record]] = {}
    for record in one_per_launch(run.records):
        launches.setdefault(record.case, []).append(record)
    spread = {case: launch_spread(records) for case, records in launches.items()}
    return [f"launches of {case} differ by {share * 100:.2f} %" for case, share in spread.items() if share > WIDE]


def _refused(reasons: Sequence[str]) -> int:
    for reason in reasons:
        _say(f"refused: {reason}")
    _say("nothing was written; sessions stored before are unchanged")
    return REFUSED


def _say(text: str) -> None:
    sys.stderr.write(f"attnbench: {text}\n")
    sys.stderr.flush()
