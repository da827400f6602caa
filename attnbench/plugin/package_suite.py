"""pytest plugin of the command `attnbench`: runs the suite of the package where there are no tests to take."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest

SUITE = "attnbench.suite"
#: Where tests are looked for, below the folder that pytest was started in.
FOLDERS = (".", "tests")


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Accept the conftest.py of the clone that the package lies in, as pytest does where --pyargs is on its command line."""
    early_config.known_args_namespace.pyargs = True


def pytest_configure(config: pytest.Config) -> None:
    """Select the suite of the package if no test was named, no testpaths are set, and no test file lies here.

    The conftest.py of the folder is loaded all the same, so the kernels that it registers are part of the suite.
    """
    if config.args_source is pytest.Config.ArgsSource.INVOCATION_DIR and not _has_tests(config):
        config.args = [SUITE]
        config.option.pyargs = True


def _has_tests(config: pytest.Config) -> bool:
    patterns: list[str] = config.getini("python_files")
    files = (file.name for name in FOLDERS for file in (config.invocation_params.dir / name).glob("*.py"))
    return any(fnmatch(file, pattern) for file in files for pattern in patterns)
