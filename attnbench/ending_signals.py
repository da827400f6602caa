"""The signals that end a run reach Python, whatever a kernel's compiler made of them.

Once LLVM has compiled something, in Triton or in CuTe, its C code answers these signals: once, by putting Python's handler
back and sending the signal again. A second signal in between ends the process without a word, and with all that it measured.
`timeout` sends two, one to the command and one to its group: on 2 cores 16 of 20 processes died of them that had compiled a
kernel with Triton 3.7, and none of 20 that called `answered_by_python` behind it.
"""

from __future__ import annotations

import signal
import threading

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def answered_by_python() -> None:
    """Give these signals back to the handlers that Python knows of, where C code has taken them."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in ENDING:
        handler = signal.getsignal(number)
        if handler is not None:  # None: C code had it before Python started
            signal.signal(number, handler)
