"""pytest plugin of `attnbench record`: refuses a run on a CPU before anything is measured.

`run_kind.is_recording` looks for it.
"""

from __future__ import annotations

import pytest

from attnbench.plugin.run_state import RUN


def pytest_sessionstart(session: pytest.Session) -> None:
    """Raise pytest.UsageError on a CPU. The simulated device is no CPU: its sessions show what recording does."""
    if session.config.stash[RUN].here.device_type == "cpu":
        raise pytest.UsageError(
            "attnbench record: CPU timings cannot be a baseline; record on a machine with an NVIDIA GPU, without "
            "--attn-device=cpu"
        )
