"""The launcher: a list of cases in a fresh process, records streamed back one by one (layer 2).

There is one launcher. Isolating a backend, recording and measuring again all go through it, so a launch always means the
same: a pytest process of its own, started with the same files, that waits for leave before each case. Two pipes join the
processes: the parent writes one JSON line per case (`{"run": nodeid}`), the child answers with `{"launch": …}` once
and `{"record": …}` per case. When the parent dies, the child reads the end of the pipe and stops.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from attnbench.model import Launch, Reason, Record, Status
from attnbench.records import launch_from, record_from

#: A child exits with this after it reported that its CUDA context is lost: what follows needs a fresh process.
CONTEXT_LOST_EXIT = 86


class ChildEnded(Exception):
    """The child ended, or was ended, before it answered; the message says how."""


class Child:
    """One fresh process and the two pipes to it."""

    def __init__(self, command: Callable[[str], Sequence[str]], nodeids: Sequence[str], folder: Path) -> None:
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
                pass_fds=(go_read, answer_write),
                start_new_session=True,  # Ctrl-C is ours to handle, and a hung child dies with its own children
            )
        os.close(go_read)
        os.close(answer_write)
        self._go: IO[str] = os.fdopen(go_write, "w")
        self._answers = answer_read
        self._buffer = b""
        self._send({"nodeids": list(nodeids)})

    def ask(self, question: dict[str, Any] | None, timeout_s: float) -> dict[str, Any]:
        """Send `question`, if any, and wait for one answer. Raises ChildEnded."""
        if question is not None:
            self._send(question)
        until = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                self.kill()
                raise ChildEnded(f"gave no answer within {timeout_s:g} s (--attn-timeout) and was killed")
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
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
        self._close()

    def kill(self) -> None:
        """End the child and everything that it started."""
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
        code = self._process.wait()
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        last = next((line for line in reversed(lines) if not set(line) <= set("=-_ ")), "nothing")
        return f"ended with exit code {code}; the last that it printed: {last}"


class Launcher:
    """Records from fresh processes: one process per group of cases, a new one after a crash."""

    def __init__(self, command: Callable[[str], Sequence[str]], timeout_s: float) -> None:
        """`timeout_s` bounds one case; the start of a process is bounded by it too."""
        self._command = command
        self._timeout_s = timeout_s
        self._folder = tempfile.TemporaryDirectory(prefix="attnbench-")
        self._child: Child | None = None
        self._pending: list[str] = []
        self.launches: list[Launch] = []

    def record(self, nodeid: str, group: Sequence[str], draft: Record) -> Record:
        """The record of one case; `group` are the cases that share its process, in order.

        A child that crashes, hangs or fails to start costs the case that it was at: its record is `draft`, ended with
        status error and the cause. The next case gets a fresh process.
        """
        try:
            if self._child is None or nodeid not in self._pending:
                self._start(nodeid, group)
            assert self._child is not None
            self._pending.remove(nodeid)
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

    def _start(self, nodeid: str, group: Sequence[str]) -> None:
        self.close_child()
        remaining = list(group[list(group).index(nodeid) :])
        self._child = Child(self._command, remaining, Path(self._folder.name))
        self._pending = remaining
        self.launches.append(launch_from(self._child.ask(None, self._timeout_s)["launch"]))
