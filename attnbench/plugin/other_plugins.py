"""Effects of other plugins on attention cases: refused, prevented, or mentioned in the header."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest

from attnbench.plugin.options import Settings


def refuse(config: pytest.Config) -> None:
    """Raise pytest.UsageError for an option that would lose or falsify verdicts.

    A forked test's figures and verdict stay in its process, and CUDA does not work there. A wrong output or a regression
    that is measured until it passes is found by nobody.
    """
    option: Any = config.option
    if getattr(option, "forked", False):
        raise pytest.UsageError(
            "attnbench does not run under --forked: figures and verdicts would stay in the forked processes. "
            "Drop --forked; --attn-isolate runs each backend in a fresh process"
        )
    appended = getattr(option, "reruns_mode", None) == "append" and _reruns(config)
    if getattr(option, "force_reruns", None) or appended:
        given = "--reruns-mode=append" if appended else "--force-reruns"
        raise pytest.UsageError(
            f"{given} would repeat a case that is wrong or regressed until it passes: drop it. "
            "attnbench measures suspects again by itself (--attn-relaunch)"
        )


def refuse_forks(cases: Iterable[pytest.Item]) -> None:
    """Raise pytest.UsageError for a case with the marker of pytest-forked."""
    for item in cases:
        if item.config.pluginmanager.hasplugin("pytest_forked") and item.get_closest_marker("forked"):
            raise pytest.UsageError(
                f"{item.nodeid}: attnbench does not run under the marker 'forked': figures and verdicts would stay in the "
                "forked process. Drop the marker; --attn-isolate runs each backend in a fresh process"
            )


def keep_from(item: pytest.Item) -> None:
    """Keep pytest-rerunfailures from repeating this case until it passes, whatever its markers."""
    is_repeated = _reruns(item.config) or item.get_closest_marker("flaky")
    if is_repeated and item.config.pluginmanager.hasplugin("rerunfailures"):
        item.add_marker(pytest.mark.flaky(reruns=0), append=False)


def said(config: pytest.Config, settings: Settings) -> list[str]:
    """Sentences for the header: options of other plugins that override ours, or have no effect."""
    sentences = []
    ours = f"--attn-timeout ({settings.timeout_s:g} s)"
    theirs_s, method = _pytest_timeout(config)
    sentences += _before_ours(theirs_s, method, settings)
    dumps_s = _number(_ini(config, "faulthandler_timeout"))
    if dumps_s and dumps_s < settings.timeout_s and _ini(config, "faulthandler_exit_on_timeout") is True:
        sentences.append(f"faulthandler ends the whole run when a case has taken {dumps_s:g} s, before {ours}")
    if _reruns(config):
        sentences.append("pytest-rerunfailures does not repeat attention cases")
    return sentences


def said_of_markers(cases: Iterable[pytest.Item], settings: Settings) -> list[str]:
    """Sentences about markers of pytest-timeout, which are known only after the header."""
    sentences: dict[str, None] = {}
    for item in cases:
        marker = item.get_closest_marker("timeout") if item.config.pluginmanager.hasplugin("timeout") else None
        if marker is not None:
            given = dict(zip(("timeout", "method"), marker.args, strict=False)) | dict(marker.kwargs)
            method = given.get("method") or _pytest_timeout(item.config)[1]
            found = _before_ours(_limit_s(given.get("timeout")), str(method), settings)
            sentences.update(
                (f"{sentence}, by the marker 'timeout' of {item.nodeid.partition('[')[0]}", None) for sentence in found
            )
    return list(sentences)


def _before_ours(theirs_s: float | None, method: str, settings: Settings) -> list[str]:
    if theirs_s is None or theirs_s >= settings.timeout_s:
        return []
    what = "the whole run when a case has taken" if method == "thread" else "a case after"
    return [f"pytest-timeout ends {what} {theirs_s:g} s, before --attn-timeout ({settings.timeout_s:g} s)"]


def _pytest_timeout(config: pytest.Config) -> tuple[float | None, str]:
    """pytest-timeout's limit for a test in seconds, None if there is none, and its method."""
    if not config.pluginmanager.hasplugin("timeout"):
        return None, ""
    option: Any = config.option
    given = getattr(option, "timeout", None)
    if given is None:
        given = os.environ.get("PYTEST_TIMEOUT") or _ini(config, "timeout")
    method = getattr(option, "timeout_method", None) or _ini(config, "timeout_method")
    return _limit_s(given), str(method or "signal")


def _limit_s(given: Any) -> float | None:
    """Seconds; None for values that mean no limit to pytest-timeout."""
    number = _number(given)
    return number if number is not None and number > 0 else None


def _reruns(config: pytest.Config) -> bool:
    given = getattr(config.option, "reruns", None)
    return bool(_number(_ini(config, "reruns") if given is None else given))


def _ini(config: pytest.Config, key: str) -> Any:
    """An ini key of another plugin; None if no plugin defines it."""
    try:
        return config.getini(key)
    except (KeyError, ValueError):
        return None


def _number(value: Any) -> float | None:
    """None for anything but a number, which the plugin itself complains about."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
