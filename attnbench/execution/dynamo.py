"""Notice what dynamo ran eagerly that was meant to be compiled, and drop compiled code between cases."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from typing import Any

from attnbench import torch_private
from attnbench.model import CaseEnded, Reason, Status

#: What the last line of a traceback begins with.
_ERROR = re.compile(r"[\w.]+(Error|Exception|Failed|Unsupported)\b")


class EagerFallbacks:
    """Listens while a case runs for functions that dynamo stopped compiling: their time is not the compiled kernel's.

    A backend may call torch.compile itself, at the top of a module, where our `fullgraph` cannot turn this into an error.
    The logger's method is wrapped, because a handler hears nothing where a level or `logging.disable` silences the logger.
    """

    def __init__(self) -> None:
        self._warning = ""
        self._logger: Any = logging.getLogger(torch_private.DYNAMO_LOGGER)
        self._listens = False

    def listen(self) -> None:
        """Start listening."""
        warn = self._logger.warning

        def warning(message: object, *arguments: Any, **named: Any) -> None:
            self._hear(str(message), arguments)
            warn(message, *arguments, **{"stacklevel": 2, **named})

        self._logger.warning, self._listens = warning, True

    def close(self) -> None:
        """Stop listening."""
        if self._listens:
            self._listens = False
            del self._logger.warning

    def _hear(self, message: str, arguments: tuple[Any, ...]) -> None:
        if message.startswith((torch_private.DYNAMO_HIT_LIMIT, torch_private.DYNAMO_SUPPRESSED)) and not self._warning:
            with suppress(Exception):  # a record with the wrong arguments is logging's to complain of
                message %= arguments or ()
            self._warning = message

    def assert_none(self) -> None:
        """Raise CaseEnded (error) where something ran eagerly that was meant to be compiled."""
        if not self._warning:
            return
        first, *others = [line.strip() for line in self._warning.splitlines() if line.strip()]
        if first.startswith(torch_private.DYNAMO_HIT_LIMIT):
            limit = first.removeprefix(torch_private.DYNAMO_HIT)
            function = next((line for line in others if line.startswith("function:")), "")
            text = (
                f"torch.compile reached its {limit} and ran the call eagerly, which must not be measured as compiled"
                f"{'; ' if function else ''}{function}. Compile once per case, in `load`, or raise the limit there"
            )
            raise CaseEnded(Status.ERROR, Reason("recompile-limit", text))
        cause = next((line for line in reversed(others) if _ERROR.match(line)), "")
        text = (
            "torch.compile failed and ran the call eagerly, which must not be measured as compiled: "
            f"{first}{'; ' if cause else ''}{cause}"
        )
        raise CaseEnded(Status.ERROR, Reason("not-compiled", text))


def forget_compiled() -> None:
    """Drop all compiled code, so that the next case compiles as in a fresh process, with its recompile limits at zero."""
    if torch_private.holds_compiled_code():
        import torch

        torch.compiler.reset()
