"""The child's side of the launcher: a pytest run that waits for leave before each case (layer 4)."""

from __future__ import annotations

import argparse
import json
import os
from typing import IO, Any

import pytest

from attnbench.launcher import CONTEXT_LOST_EXIT
from attnbench.parentage import die_with_parent
from attnbench.records import to_plain
from attnbench.run import Run


def add_option(parser: pytest.Parser) -> None:
    """`--attn-worker GO_FD:ANSWER_FD`: not for people."""
    parser.getgroup("attn").addoption("--attn-worker", dest="attn_worker", help=argparse.SUPPRESS)


def pipes(config: pytest.Config) -> str | None:
    """The two file descriptors that the launcher gave, when this process is a child of it."""
    value: str | None = config.getoption("attn_worker", None)
    return value


class Worker:
    """Runs the cases that the launcher names, in its order, and answers each with a record."""

    def __init__(self, config: pytest.Config, run: Run) -> None:
        go, answer = (int(fd) for fd in str(pipes(config)).split(":"))
        self._go: IO[str] = os.fdopen(go)
        self._answer: IO[str] = os.fdopen(answer, "w")
        self._run = run
        self._asked = ""
        self._errors: dict[str, str] = {}  # file or folder → why it could not be collected
        die_with_parent()  # elsewhere than on Linux it notices at its next case, when it reads the end of the pipe
        self._nodeids: list[str] = json.loads(self._go.readline())["nodeids"]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        found = {item.nodeid: item for item in items}
        items[:] = [found[nodeid] for nodeid in self._nodeids if nodeid in found]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._errors[report.nodeid] = report.longreprtext.strip().splitlines()[-1].removeprefix("E  ").strip()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        found = {item.nodeid for item in session.items}
        missing = {nodeid: self._why_missing(nodeid) for nodeid in self._nodeids if nodeid not in found}
        self._send({"launch": to_plain(self._run.launch), "missing": missing})

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if not self._asked:
            line = self._go.readline()
            if not line:
                item.session.shouldstop = "the launcher is done"
                return True
            self._asked = json.loads(line)["run"]
        if self._asked != item.nodeid:
            return True  # the launcher leaves this one out, and asked for a later one
        self._asked = ""
        return None

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        record = self._run.records[nodeid]
        self._send({"record": to_plain(record)})
        if self._run.context_lost_by:
            os._exit(CONTEXT_LOST_EXIT)  # unwinding would only run into the lost context again

    def _why_missing(self, nodeid: str) -> str:
        error = next((text for where, text in self._errors.items() if nodeid.startswith(where)), None)
        if error:
            return f"could not collect it: {error}"
        return "did not collect it: a conftest.py or parametrization differs from one process to the next"

    def _send(self, message: dict[str, Any]) -> None:
        self._answer.write(json.dumps(message) + "\n")
        self._answer.flush()
