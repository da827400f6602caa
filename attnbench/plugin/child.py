"""The child's side of the launcher: a pytest run that waits for leave before each case."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, NoReturn

import pytest

from attnbench.codec import to_plain
from attnbench.execution.launcher import SPOILT_EXIT
from attnbench.plugin.child_command import child_pipes
from attnbench.plugin.run_state import RunState


class ChildRun:
    """Runs the cases that the launcher names, in its order, and answers each with a record."""

    def __init__(self, config: pytest.Config, run: RunState) -> None:
        go, answer = (int(fd) for fd in str(child_pipes(config)).split(":"))
        self._go, self._answers = _Pipe(go), _Pipe(answer)
        self._run = run
        self._errors: dict[str, str] = {}  # file or folder → why it could not be collected
        begin = self._go.read()
        assert begin is not None, "the launcher says what it wants before it waits"
        self._nodeids: list[str] = begin["nodeids"]
        self._token: str = begin["token"]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._errors[report.nodeid] = _cause(report.longreprtext)

    @pytest.hookimpl(tryfirst=True)  # what others selected and put in order is final by now
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        items = {item.nodeid: item for item in session.items}
        self._collected = len(items)
        session.items[:] = [items[nodeid] for nodeid in self._nodeids if nodeid in items]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run what the launcher asks for. The time that this waits is no test's, so that nobody's time limit counts it."""
        items = {item.nodeid: item for item in session.items}
        missing = {nodeid: self._why_missing(nodeid) for nodeid in self._nodeids if nodeid not in items}
        self._answer(0, {"launch": to_plain(self._run.here.launch), "missing": missing})
        expected: pytest.Item | None = None
        while (question := self._go.read()) is not None:
            item = items[question["run"]]
            if expected is not None and item is not expected:  # the launcher left cases out
                session._setupstate.teardown_exact(item)  # noqa: SLF001 — pytest has no other way to change its mind
            later = session.items[session.items.index(item) + 1 :]
            expected = later[0] if later else None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=expected)
            self._answer(question["number"], {"record": to_plain(self._run.results.records[item.nodeid])})
            if self._run.is_spoilt:
                os._exit(SPOILT_EXIT)  # unwinding would only run into the lost context again
        return True

    def _why_missing(self, nodeid: str) -> str:
        error = next((text for where, text in self._errors.items() if nodeid.startswith(where)), None)
        if error:
            return f"could not collect it: {error}"
        others = f"it collected {self._collected} other tests" if self._collected else "it collected no test at all"
        return f"did not collect it: a conftest.py or parametrization differs from one process to the next ({others})"

    def _answer(self, number: int, message: dict[str, Any]) -> None:
        self._go.require_same()  # or the next case would pay for what this one closed
        self._answers.write({"token": self._token, "number": number, **message})


class _Pipe:
    """One end of a pipe to the launcher, in a process whose kernels may close it, use its number again, or fork."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._identity = self._look()
        self._received = b""
        os.set_inheritable(descriptor, False)
        os.register_at_fork(after_in_child=self._forget)

    def read(self) -> dict[str, Any] | None:
        """The next line of the launcher, None when it wants no more."""
        while b"\n" not in self._received:
            self.require_same()
            chunk = os.read(self._descriptor, 2**16)
            if not chunk:
                return None
            self._received += chunk
        line, self._received = self._received.split(b"\n", 1)
        message = json.loads(line)
        assert isinstance(message, dict)
        return message

    def write(self, message: dict[str, Any]) -> None:
        left = json.dumps(message).encode() + b"\n"
        while left:
            self.require_same()
            left = left[os.write(self._descriptor, left) :]

    def _look(self) -> tuple[int, int] | None:
        try:
            status = os.fstat(self._descriptor)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def require_same(self) -> None:
        """End this process where the number is no longer the pipe's: it may be a file of the user's by now."""
        if self._look() != self._identity:
            _end("something in this process closed the pipe to the pytest that started it")

    def _forget(self) -> None:
        if self._look() == self._identity:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)


def _end(why: str) -> NoReturn:
    os.write(2, f"\nattnbench: {why}\n".encode())
    os._exit(1)


def _cause(report: str) -> str:
    """One line of a report of a failed collection: the error, or what pytest says where there was none."""
    lines = [line.rstrip() for line in report.splitlines() if line.strip()]
    errors = [line.removeprefix("E  ").strip() for line in lines if line.startswith("E  ")]
    if errors:
        return errors[-1]
    first, *others = lines or ["pytest gives no reason"]
    return f"{first} {others[0].strip()}" if first.endswith(":") and others else first
