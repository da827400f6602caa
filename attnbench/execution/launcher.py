"""The launcher: a list of cases in a fresh process, records streamed back one by one.

There is one launcher. Isolating a backend, recording and measuring again all go through it, so a launch always means the
same: a pytest process of its own, started with the same files and options, that waits for leave before each case. Two
pipes join the processes. The parent writes a line `{"nodeids": …, "token": …}` and then one per case (`{"run": nodeid,
"number": N}`), the child answers with `{"launch": …, "missing": …}` once and `{"record": …}` per case, each with the token
and the number of what it answers. The parent may leave cases out. When it dies, the child goes with it.

The child's end of the answer pipe lies open in a process that runs other people's code. Whatever arrives there and is
not the answer to the question that was asked ends the child: it never becomes a result.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnbench.codec import Unreadable, launch_from, record_from
from attnbench.execution.process_groups import Group
from attnbench.model import Launch, Reason, Record, Status

#: A child exits with this after it reported a case that spoilt it: what follows needs a fresh process.
SPOILT_EXIT = 86

#: pytest ends with this where its options are wrong.
USAGE_EXIT = 4

#: How often a silent child is looked at: one that died may have left its end of the pipe to a process that it forked.
POLL_S = 1.0
LOG_TAIL_BYTES = 2**16
#: An answer is a line of at most this length: a million rounds have a quarter of it.
LONGEST_ANSWER_BYTES = 2**28

#: The command line of a child, from the argument that tells it its pipes (`GO_FD:ANSWER_FD`) and from its own folder.
Command = Callable[[str, Path], Sequence[str]]


class ChildEnded(Exception):
    """The child ended, or was ended, before it answered; the message says how, as what "its process" did."""


class Child:
    """One fresh process, the two pipes to it, its folder for whatever it writes, and its log, which has no name."""

    def __init__(self, command: Command, group: Group, started_in: Path) -> None:
        """Raises OSError and ValueError where the process cannot be started."""
        with contextlib.ExitStack() as undo:
            self._folder = _own_folder()
            undo.callback(self._folder.cleanup)
            self._log = tempfile.TemporaryFile(prefix="attnbench-")  # noqa: SIM115 — it lives as long as the process
            undo.callback(self._log.close)
            go_read, self._go = _pipe(undo)
            self._answers, answer_write = _pipe(undo)
            self._process = subprocess.Popen(
                list(command(f"{go_read}:{answer_write}", Path(self._folder.name))),
                cwd=started_in,  # where a relative path among the arguments starts
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env={**_environment(), **group.environment},
                pass_fds=(go_read, answer_write),
                start_new_session=True,  # Ctrl-C is ours to handle, and a hung child dies with its own children
            )
            undo.pop_all()
        os.close(go_read)
        os.close(answer_write)
        os.set_blocking(self._go, False)  # a child that hangs before it reads must not hold us up
        self._token = secrets.token_hex(8)
        self._number = 0  # of the question that is open: 0 is the start
        self._asked_at = 0  # size of the log when it was asked
        self._unsent = b""
        self._received = bytearray()
        self._searched = 0  # how much of it has no end of line
        self._send({"nodeids": list(group.nodeids), "token": self._token})

    def started(self, timeout_s: float) -> dict[str, Any]:
        """Its first answer: what launch it is, and what it did not collect. Raises ChildEnded."""
        return self._answer(timeout_s)

    def ask(self, nodeid: str, timeout_s: float) -> dict[str, Any]:
        """Have it run a case, and wait for the answer. Raises ChildEnded."""
        self._number += 1
        self._asked_at = self._log_size()
        self._send({"run": nodeid, "number": self._number})
        return self._answer(timeout_s)

    @property
    def is_ready(self) -> bool:
        """Whether it waits for a question: it lives, has its folder, and has written nothing that nobody asked for."""
        lives = self._process.poll() is None and Path(self._folder.name).is_dir()
        return lives and not self._received and not _ready(self._answers, None, 0)[0]

    def refuse(self, message: str) -> ChildEnded:
        """End the child because of what it answered."""
        self.kill()
        return ChildEnded(message)

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        until = time.monotonic() + timeout_s
        while (line := self._line()) is None:
            left = until - time.monotonic()
            if left <= 0:
                raise self.refuse(f"gave no answer within {timeout_s:g} s (--attn-timeout) and was killed")
            dead = self._process.poll() is not None  # asked first: what it wrote before is then there to read
            write_to = self._go if self._unsent and not dead else None
            readable, writable = _ready(self._answers, write_to, 0 if dead else min(left, POLL_S))
            if writable:
                self._send_more()
            if readable:
                chunk = os.read(self._answers, 2**20)
                if not chunk:
                    raise ChildEnded(self._ending(left))
                self._received += chunk
            elif dead:
                raise ChildEnded(self._ending(left))
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        mine = isinstance(answer, dict) and answer.get("token") == self._token and answer.get("number") == self._number
        if not mine:
            raise self.refuse(f"was ended: something in it wrote to its result pipe: {_shown(line)}")
        assert isinstance(answer, dict)
        return answer

    def _line(self) -> bytes | None:
        end = self._received.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._received)
            if self._searched > LONGEST_ANSWER_BYTES:
                raise self.refuse(
                    "was ended: something in it wrote to its result pipe "
                    f"more than {LONGEST_ANSWER_BYTES // 2**20} MiB without an end of line: {_shown(self._received)}"
                )
            return None
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        self._searched = 0
        return line

    def stop(self) -> None:
        """Let the child finish: it reads the end of the pipe. Killed when it does not within ten seconds."""
        self._close_fd("_go")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self.kill()
        self._close_fd("_answers")
        self._log.close()
        self._folder.cleanup()

    def kill(self) -> None:
        """End the child and everything that it started, which may outlive it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _close_fd(self, name: str) -> None:
        descriptor = getattr(self, name)
        setattr(self, name, -1)
        if descriptor >= 0:
            os.close(descriptor)

    def _send(self, message: dict[str, Any]) -> None:
        self._unsent += json.dumps(message).encode() + b"\n"
        self._send_more()

    def _send_more(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._go, self._unsent) :]
        except BlockingIOError:
            pass  # it has not read what it got so far
        except BrokenPipeError:
            self._unsent = b""  # the answer pipe says how it ended

    def _log_size(self) -> int:
        return os.fstat(self._log.fileno()).st_size

    def _ending(self, patience_s: float) -> str:
        """How it ended, and its last words since the last question."""
        try:
            code = self._process.wait(min(60.0, patience_s))
        except subprocess.TimeoutExpired:
            self.kill()
            return "closed its end of the pipe, went on without it, and was killed"
        size = self._log_size()
        begin = max(self._asked_at, size - LOG_TAIL_BYTES)
        tail = os.pread(self._log.fileno(), max(size - begin, 0), begin).decode(
            errors="replace"
        )  # our offset is the child's
        printed, _, dump = tail.partition("Fatal Python error")
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        crashed = dump.partition("Current thread")[2]  # of all threads; the innermost call comes first
        where = re.search(r'File "(.+)", line (\d+) in (.+)', crashed)
        if where:
            how += f" in {where[3]} ({where[1]}, line {where[2]})"
        # Below what is wrong with the options pytest tells of its folders.
        usage = re.findall(r": error: (.+)$", printed, flags=re.M) if code == USAGE_EXIT else []
        lines = [line.removeprefix("E  ").strip(" .") for line in printed.splitlines()]  # pytest's progress is dots
        last_words = next((line for line in reversed([*lines, *usage]) if set(line) - set("=-_ ")), None)
        return f"{how}; its last output: {last_words}" if last_words else how


def _ready(read_from: int, write_to: int | None, timeout_s: float) -> tuple[bool, bool]:
    """Whether there is something to read, and whether something can be written, after this time at most.

    `select.select` takes no descriptor from 1024 on, which a process with many open files has.
    """
    with selectors.DefaultSelector() as waiting:
        waiting.register(read_from, selectors.EVENT_READ)
        if write_to is not None:
            waiting.register(write_to, selectors.EVENT_WRITE)
        ready = {key.fd for key, _ in waiting.select(timeout_s)}
    return read_from in ready, write_to in ready


def _pipe(undo: contextlib.ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        undo.callback(os.close, end)
    return ends


def _own_folder() -> tempfile.TemporaryDirectory[str]:
    """A new folder for one child. Raises OSError with a sentence that says what to do."""
    try:
        where = tempfile.gettempdir()
        os.makedirs(where, exist_ok=True)  # noqa: PTH103 — a kernel that removed it costs its own case only
        return tempfile.TemporaryDirectory(prefix="attnbench-", ignore_cleanup_errors=True)
    except OSError as exc:
        cause = f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror or str(exc)
        raise OSError(
            f"no temporary folder can be made ({cause}); set TMPDIR to a folder that can be written to"
        ) from exc


def _shown(text: bytes | bytearray) -> str:
    """The beginning of what was written, on one line and without control characters."""
    begin = ascii(bytes(text[:60]).decode(errors="replace"))
    return begin if len(text) <= 60 else f"{begin}… ({len(text)} bytes)"


#: Variables that would have the child read options meant for the parent, or write what the parent's coverage reads.
NOT_INHERITED = ("PYTEST_ADDOPTS", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")


def _environment() -> dict[str, str]:
    """Ours, less `NOT_INHERITED`, and unbuffered, so that the last words before a crash are kept."""
    kept = {k: v for k, v in os.environ.items() if k not in NOT_INHERITED and not k.startswith("COV_CORE_")}
    return {**kept, "PYTHONUNBUFFERED": "1"}


class Launcher:
    """Records from fresh processes: one process per group of cases, a new one after a crash."""

    def __init__(self, command: Command, started_in: Path, timeout_s: float) -> None:
        """`timeout_s` bounds one case; the start of a process is bounded by it too."""
        self._command = command
        self._started_in = started_in
        self._timeout_s = timeout_s
        self._child: Child | None = None
        self._pending: list[str] = []
        self._missing: dict[str, str] = {}  # what the current child did not collect, and why
        self._unstartable: dict[tuple[str, ...], str] = {}  # cases of a group → why
        self.launches: list[Launch] = []

    def record(self, group: Group, draft: Record) -> Record:
        """The record of one case of this group.

        A child that crashes, hangs or answers with something else costs the case that it was at: its record is `draft`,
        ended with status error and the cause, and the next case gets a fresh process. One that ended, wrote to its pipe
        or lost its folder before the case began costs nothing. One that cannot start costs its group: the others would
        fail to start in the same way, each after the same wait.
        """
        nodeid, cause = draft.nodeid, self._unstartable.get(group.nodeids)
        try:
            if cause is not None:
                raise ChildEnded(cause)
            child = self._child
            if child is None or nodeid not in self._pending or not child.is_ready:
                child = self._start(nodeid, group)
            del self._pending[: self._pending.index(nodeid) + 1]
            if nodeid in self._missing:
                return draft.ended(Status.ERROR, Reason("launch", f"its process {self._missing[nodeid]}"))
            record = self._record_in(child.ask(nodeid, self._timeout_s), draft, child)
        except ChildEnded as exc:
            self.close_child()
            return draft.ended(Status.ERROR, Reason("launch", f"its process {exc}"))
        except BaseException:  # Ctrl-C: nothing of ours may outlive us
            self.close_child(kill=True)
            raise
        if record.spoils_process:
            self.close_child()
        return record

    def close_child(self, kill: bool = False) -> None:
        """End the current process; the next record starts another."""
        child, self._child, self._pending = self._child, None, []
        if child is not None:
            if kill:
                child.kill()
            child.stop()

    def close(self) -> None:
        """End the current process."""
        self.close_child(kill=False)

    def _start(self, nodeid: str, group: Group) -> Child:
        self.close_child()
        remaining = group.nodeids[group.nodeids.index(nodeid) :]
        try:
            self._child = child = Child(self._command, replace(group, nodeids=remaining), self._started_in)
            answer = child.started(self._timeout_s)
            try:
                launch, missing = launch_from(answer.get("launch")), answer.get("missing")
            except Unreadable as exc:
                raise child.refuse(f"was ended: it sent no valid launch: {exc}") from exc
            if not isinstance(missing, dict):
                raise child.refuse("was ended: it did not say what it collected")
        except (ChildEnded, OSError, ValueError) as exc:  # no room for its files, no memory for it, too many processes
            cause = f"could not start: it {exc}" if isinstance(exc, ChildEnded) else f"could not start: {exc}"
            self._unstartable[group.nodeids] = cause
            raise ChildEnded(cause) from exc
        self._pending, self._missing = list(remaining), missing
        self.launches.append(launch)
        return child

    def _record_in(self, answer: dict[str, Any], draft: Record, child: Child) -> Record:
        """The record that the current child answered with. Raises ChildEnded where it is not this case's."""
        try:
            record = record_from(answer.get("record"))
        except Unreadable as exc:
            raise child.refuse(f"was ended: it sent no valid record: {exc}") from exc
        launch = self.launches[-1].id
        if (record.nodeid, record.case, record.workload, record.launch) != (
            *(draft.nodeid, draft.case, draft.workload, launch),
        ):
            raise child.refuse(
                f"was ended: it was asked for {draft.case} ({draft.nodeid}, launch {launch}) and sent a record of "
                f"{record.case} ({record.nodeid}, launch {record.launch})"
            )
        return record
