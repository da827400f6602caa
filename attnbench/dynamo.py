"""What dynamo did behind a case that did not ask attnbench to compile it, and a fresh start for the next one (layer 2)."""

from __future__ import annotations

import logging
import sys

from attnbench.model import CaseEnded, Reason, Status

#: The logger of torch that says, at level warning, that a function will run eagerly from now on. No public name tells.
_LOGGER = "torch._dynamo.convert_frame"
#: How torch's messages about that begin.
_LIMIT, _SUPPRESSED = "torch._dynamo hit config.", "WON'T CONVERT"


class EagerFallbacks(logging.Handler):
    """Listens while a case runs for functions that dynamo gave up compiling: their time is not the compiled kernel's.

    Backends may compile themselves, at the top of a module: then no `fullgraph` of ours turns such a thing into an error.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said = ""

    def listen(self) -> None:
        """From now on."""
        logging.getLogger(_LOGGER).addHandler(self)

    def close(self) -> None:
        """No longer."""
        logging.getLogger(_LOGGER).removeHandler(self)
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith((_LIMIT, _SUPPRESSED)):
            self._said = self._said or text

    def assert_none(self) -> None:
        """Raise CaseEnded (error) where something ran eagerly that was meant to be compiled."""
        if not self._said:
            return
        first, *others = [line.strip() for line in self._said.splitlines() if line.strip()]
        if first.startswith(_LIMIT):
            limit = first.removeprefix("torch._dynamo hit ")
            function = next((line for line in others if line.startswith("function:")), "")
            text = (
                f"torch.compile reached its {limit} and ran the call eagerly, which must not be measured as compiled"
                f"{'; ' if function else ''}{function}. Compile once per case, in `load`, or raise the limit there"
            )
            raise CaseEnded(Status.ERROR, Reason("recompile-limit", text))
        text = f"torch.compile failed and ran the call eagerly, which must not be measured as compiled: {first}"
        raise CaseEnded(Status.ERROR, Reason("not-compiled", text))


def compiled_something() -> bool:
    """Whether dynamo holds compiled code in this process. It has no public name for that."""
    frames = sys.modules.get("torch._dynamo.convert_frame")
    return frames is not None and bool(getattr(frames.input_codes, "seen", True))


def forget_compiled() -> None:
    """Let go of all compiled code, so that the next case compiles as in a fresh process: its limits count from none."""
    if compiled_something():
        import torch

        torch.compiler.reset()
