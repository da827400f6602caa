"""pytest plugin of the command `attnbench`: prints the folder that the ini key attn_baselines names, and runs nothing."""

from __future__ import annotations

import sys
from collections.abc import Generator

import pytest

from attnbench.storage.folders import ANSWER


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around pytest's capture of the output, and before any conftest.py
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    """Answer instead of running tests."""
    _print_and_end(early_config)
    yield  # never reached; pytest takes nothing but a generator for a wrapper


def _print_and_end(config: pytest.Config) -> None:
    """Print the folder, or nothing where the key is not set, and end the process."""
    folder = config.getini("attn_baselines")
    if folder and isinstance(folder, str):  # of anything else a run says that it is wrong
        sys.stdout.write(f"\n{ANSWER}{config.rootpath / folder}\n")
        sys.stdout.flush()
    raise SystemExit(0)
