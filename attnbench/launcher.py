"""The launcher: a list of cases in a fresh process, records streamed back one by one (layer 2).

There is one launcher. Isolating a backend, recording and measuring again all go through it, so a launch always means the
same: a pytest process of its own, started with the same files, that waits for leave before each case. Two pipes join the
processes: the parent writes one JSON line per case (`{"run": nodeid}`), the child answers with `{"launch": …}` once
and `{"record": …}` per case. The parent may leave cases out. When it dies, the child goes with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from attnbench.groups import Group
from attnbench.model import Launch, Reason, Record, Status
from attnbench.records import launch_from, record_from

#: A child exits with this after it reported that its CUDA context is lost: what follows needs a fresh process.
CONTEXT_LOST_EXIT = 86

#: How often a silent child is looked at: one that died may have left its end of the pipe to a process that it forked.
POLL_S = 1.0
LOG_TAIL_BYTES = 2**16


class ChildEnded(Exception):
    """The child ended, or was ended, before it answered; the message says how, as what "its process" did."""


class Child:
    """One fresh process and the two pipes to it."""

    def __init__(self, command: Callable[[str], Sequence[str]], group: Group, folder: Path) -> None:
        """`command` makes the command line from the argument that tells the child its pipes, `GO_FD:ANSWER_FD`."""
        go_read, go_write = os.pipe()
        answer_read, answer_write = os.pipe()
        self.log = Path(tempfile.mkstemp(prefix="launch-", suffix=".log", dir=folder)[1])
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                list(command(f"{go_read}:{answer_write}")),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**_environment(), **group.environment},
                pass_fds=(go_read, answer_write),
                start_new_session=True,  # Ctrl-C is ours to handle, and a hung child dies with its own children
            )
        os.close(go_read)
        os.close(answer_write)
        self._go: IO[str] = os.fdopen(go_write, "w")
        self._answers = answer_read
        self._buffer = b""
        self._asked_at = 0  # size of the log when the last question was sent
        self._send({"nodeids": list(group.nodeids)})

    def ask(self, question: dict[str, Any] | None, timeout_s: float) -> dict[str, Any]:
        """Send `question`, if any, and wait for one answer. Raises ChildEnded."""
        if question is not None:
            self._asked_at = self.log.stat().st_size
            self._send(question)
        until = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = until - time.monotonic()
            if left <= 0:
                self.kill()
                raise ChildEnded(f"gave no answer within {timeout_s:g} s (--attn-timeout) and was killed")
            dead = self._process.poll() is not None  # asked first: what it wrote before is then there to read
            if not select.select([self._answers], [], [], 0 if dead else min(left, POLL_S))[0]:
                if dead:
                    raise ChildEnded(self._ending())
                continue
            chunk = os.read(self._answers, 65536)
            if not chunk:
                raise ChildEnded(self._ending())
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def stop(self) -> None:
        """Let the child finish: it reads the end of the pipe. Killed when it does not within ten seconds."""
        with contextlib.suppress(BrokenPipeError):
            self._go.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self.kill()
        self._close()

    def kill(self) -> None:
        """End the child and everything that it started, which may outlive it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _close(self) -> None:
        if self._answers >= 0:
            os.close(self._answers)
            self._answers = -1

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._go.write(json.dumps(message) + "\n")
            self._go.flush()
        except BrokenPipeError:
            pass  # the answer pipe says how it ended

    def _ending(self) -> str:
        """How it ended, and its last words since the last question."""
        try:
            code = self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            return "closed its end of the pipe, went on without it, and was killed"
        with self.log.open("rb") as log:
            log.seek(max(self._asked_at, self.log.stat().st_size - LOG_TAIL_BYTES))
            printed, _, dump = log.read().decode(errors="replace").partition("Fatal Python error")
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        where = re.search(r'File "(.+)", line (\d+) in (.+)', dump)  # faulthandler: the innermost call comes first
        if where:
            how += f" in {where[3]} ({where[1]}, line {where[2]})"
        lines = [line.removeprefix("E  ").strip(" .") for line in printed.splitlines()]  # pytest's progress is dots
        said = next((line for line in reversed(lines) if set(line) - set("=-_ ")), None)
        return f"{how}; the last that it printed: {said}" if said else how


def _environment() -> dict[str, str]:
    """Ours, without options meant for the parent, and unbuffered, so that the last words before a crash are kept."""
    return {**{k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"}, "PYTHONUNBUFFERED": "1"}


class Launcher:
    """Records from fresh processes: one process per group of cases, a new one after a crash."""

    def __init__(self, command: Callable[[str], Sequence[str]], timeout_s: float) -> None:
        """`timeout_s` bounds one case; the start of a process is bounded by it too."""
        self._command = command
        self._timeout_s = timeout_s
        self._folder = tempfile.TemporaryDirectory(prefix="attnbench-")
        self._child: Child | None = None
        self._pending: list[str] = []
        self._missing: dict[str, str] = {}  # what the current child did not collect, and why
        self._unstartable: dict[tuple[str, ...], str] = {}  # cases of a group → why
        self.launches: list[Launch] = []

    def record(self, group: Group, draft: Record) -> Record:
        """The record of one case of this group.

        A child that crashes or hangs costs the case that it was at: its record is `draft`, ended with status error and
        the cause, and the next case gets a fresh process. One that cannot start costs its group: the others would fail
        to start in the same way, each after the same wait.
        """
        nodeid, cause = draft.nodeid, self._unstartable.get(group.nodeids)
        try:
            if cause is not None:
                raise ChildEnded(cause)
            if self._child is None or nodeid not in self._pending:
                self._start(nodeid, group)
            assert self._child is not None
            del self._pending[: self._pending.index(nodeid) + 1]
            if nodeid in self._missing:
                return draft.ended(Status.ERROR, Reason("launch", f"its process {self._missing[nodeid]}"))
            answer = self._child.ask({"run": nodeid}, self._timeout_s)
        except ChildEnded as exc:
            self.close_child()
            return draft.ended(Status.ERROR, Reason("launch", f"its process {exc}"))
        except BaseException:  # Ctrl-C: nothing of ours may outlive us
            self.close_child(kill=True)
            raise
        record = record_from(answer["record"])
        if any(reason.code == "context-lost" for reason in record.reasons):
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
        """End the current process and remove its logs."""
        self.close_child(kill=False)
        self._folder.cleanup()

    def _start(self, nodeid: str, group: Group) -> None:
        self.close_child()
        remaining = group.nodeids[group.nodeids.index(nodeid) :]
        try:
            self._child = Child(self._command, replace(group, nodeids=remaining), Path(self._folder.name))
            answer = self._child.ask(None, self._timeout_s)
        except (ChildEnded, OSError) as exc:  # OSError: no room for its log, no memory for it, too many processes
            cause = f"could not start: it {exc}" if isinstance(exc, ChildEnded) else f"could not start: {exc}"
            self._unstartable[group.nodeids] = cause
            raise ChildEnded(cause) from exc
        self._pending = list(remaining)
        self._missing = answer["missing"]
        self.launches.append(launch_from(answer["launch"]))
