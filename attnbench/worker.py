"""The child's side of the launcher: a pytest run that waits for leave before each case (layer 4)."""

from __future__ import annotations

import argparse
import json
import os
from typing import IO, Any

import pytest

from attnbench.launcher import CONTEXT_LOST_EXIT
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
        self._nodeids: list[str] = json.loads(self._go.readline())["nodeids"]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        found = {item.nodeid: item for item in items}
        items[:] = [found[nodeid] for nodeid in self._nodeids if nodeid in found]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self) -> None:
        self._send({"launch": to_plain(self._run.launch)})

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        line = self._go.readline()
        if not line:
            item.session.shouldstop = "the launcher is done"
            return True
        assert json.loads(line)["run"] == item.nodeid, "the launcher asks in the order that it gave"
        return None

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        record = self._run.records[nodeid]
        self._send({"record": to_plain(record)})
        if self._run.context_lost_by:
            os._exit(CONTEXT_LOST_EXIT)  # unwinding would only run into the lost context again

    def _send(self, message: dict[str, Any]) -> None:
        self._answer.write(json.dumps(message) + "\n")
        self._answer.flush()
