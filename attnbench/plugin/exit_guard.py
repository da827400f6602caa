"""No run of ours ends with exit code 0 before it reported.

`sys.exit(0)` in a conftest.py, `os._exit(0)` in a kernel that runs in this process, `pytest.exit(…, returncode=0)`
anywhere: CI would take each for a green run. What Python can see of these ends with exit code 2 here, which pytest gives a
run that was cut short. It cannot see a library that ends the process from C (`exit(0)`, `_exit(0)`), nor `os.exec…`: with
--attn-launches=1 kernels run in another process, where that is an error row.

Projects that merely have attnbench installed are left alone, and so is what only looks (`--help`, `--collect-only`).
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from attnbench.plugin.child import pipes
from attnbench.plugin.comparing import is_ours, is_parallel, looks_only
from attnbench.plugin.options import OPTIONS
from attnbench.plugin.run_state import RUN

CUT_SHORT = int(pytest.ExitCode.INTERRUPTED)
CURRENT_TEST = "PYTEST_CURRENT_TEST"  # pytest's variable, which a pytest below another one inherits
GUARD = pytest.StashKey["ExitGuard"]()


class ExitGuard:
    """Whether one run has reported yet, and its exit code."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._session: pytest.Session | None = None
        self._reported = False

    @property
    def due(self) -> int:
        """The exit code of a process that ends now."""
        status = int(self._session.exitstatus) if self._session is not None else 0
        return status if self._reported else status or CUT_SHORT

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._session = session

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # around saving and the terminal's summary
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        result = yield
        self._reported = True
        run = self._config.stash[RUN]
        # pytest-xdist's own process has no records but of cases that ran.
        hides = not run.records or is_parallel(self._config) or session.testsfailed
        unknown = run.interrupted and hides and is_ours(self._config, run)
        if _is_zero(session.exitstatus) and (run.unreached or unknown):
            session.exitstatus = CUT_SHORT
            missed = f": {len(run.unreached)} of {len(run.records)} cases did not run" if run.unreached else ""
            why = f" ({run.interrupted})" if run.interrupted else ""
            _say(f"the run was cut short{why}{missed}. The exit code is {CUT_SHORT}, not 0")
        return result


def loading(early_config: pytest.Config) -> Generator[None, Any, Any]:
    """Around the loading of conftest.py."""
    named: Any = early_config.known_args_namespace
    if looks_only(named) or getattr(named, "attn_worker", None) or not _asked_for(early_config, named):
        return (yield)
    with _no_zero(lambda: CUT_SHORT):
        return (yield)


def running(config: pytest.Config) -> Generator[None, Any, Any]:
    """Around the whole run, from pytest_configure to pytest_unconfigure."""
    if looks_only(config.option) or pipes(config) or hasattr(config, "workerinput"):
        return (yield)
    guard = config.stash[GUARD] = ExitGuard(config)

    def due() -> int:
        run = config.stash.get(RUN, None)
        ours = _asked_for(config, config.option) or (run is not None and is_ours(config, run))
        return guard.due if ours else 0

    with _no_zero(due):
        code = yield
        if _is_zero(code) and (status := due()):
            _say(f"pytest ended before it reported its results. The exit code is {status}, not 0")
            return status
        return code


def _asked_for(config: pytest.Config, option: Any) -> bool:
    """Whether an option or ini key of ours is set, or our suite is named: known before anything is collected."""
    given = any(getattr(option, one.key, None) is not None or _in_ini(config, one.key) for one in OPTIONS)
    return given or any("attnbench.suite" in str(name).replace(os.sep, ".") for name in option.file_or_dir)


def _in_ini(config: pytest.Config, key: str) -> bool:
    try:
        return bool(config.getini(key))
    except (TypeError, ValueError, pytest.UsageError):
        return True  # a value that cannot be read, which is said where it is needed


@contextmanager
def _no_zero(due: Callable[[], int]) -> Iterator[None]:
    """Replace an exit code 0 of SystemExit and os._exit by the one that is due."""
    process, leave, outer_test = os.getpid(), os._exit, os.environ.get(CURRENT_TEST, "")
    stderr = 2
    with suppress(OSError):
        stderr = os.dup(2)  # while tests run, pytest captures the other one

    def checked(status: int) -> None:
        if os.getpid() == process and _is_zero(status) and (code := due()):  # a forked process is its own affair
            caller = traceback.extract_stack(limit=2)[0]
            where = f"{caller.filename}, line {caller.lineno}"
            running_now = os.environ.get(CURRENT_TEST, "").removeprefix(outer_test)
            during = f" while {running_now} ran" if running_now else ""
            advice = "; under --attn-launches=1 only this case is lost" if running_now else ""
            text = f"os._exit({status}) ended the run{during} ({where}). The exit code is {code}, not 0{advice}"
            os.write(stderr, f"\nattnbench: {text}\n".encode())
            status = code
        leave(status)

    os._exit = checked  # type: ignore[assignment]
    try:
        yield
    except SystemExit as exc:
        code = due() if _is_zero(exc.code) else 0
        if not code:
            raise
        _say(f"sys.exit({exc.code or 0}) ended the run{_where(exc)}. The exit code is {code}, not 0")
        raise SystemExit(code) from None
    finally:
        os._exit = leave
        if stderr != 2:
            os.close(stderr)


def _is_zero(code: object) -> bool:
    """Whether this exit code means success to the system, as 256 does too."""
    return code is None or (isinstance(code, int) and code & 0xFF == 0)


def _where(exc: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(exc.__traceback__) if "_sitebuiltins" not in f.filename]  # quit()
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def _say(text: str) -> None:
    sys.stderr.write(f"\nattnbench: {text}\n")
    sys.stderr.flush()
