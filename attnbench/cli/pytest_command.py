"""How the commands start pytest."""

from __future__ import annotations

import sys


def pytest_command(*arguments: str) -> list[str]:
    """The command line of pytest with attnbench's plugin, also where attnbench is not installed.

    Without tests among the arguments it takes those that pytest would take here, or the suite of the package.
    """
    plugins = ("-p", "attnbench.plugin", "-p", "attnbench.plugin.package_suite")
    return [sys.executable, "-m", "pytest", *plugins, *arguments]
