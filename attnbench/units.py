"""Values in base units as text for people: plain digits, never an exponent; None is an empty cell."""

from __future__ import annotations

import math
from collections.abc import Sequence


def significant(value: float, digits: int) -> str:
    """`digits` significant digits without an exponent: `0.4077`, `52.31`, `12345`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    exponent = int(f"{value:.{digits - 1}e}".rsplit("e", 1)[1])  # of the rounded value: 9.9996 is 10.00
    return f"{value:.{max(digits - 1 - exponent, 0)}f}"


def counted(number: int, noun: str) -> str:
    """`1 case`, `2 cases`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are: `a, b, c and 2 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def milliseconds(value_s: float) -> str:
    """Four significant digits, `0.4077`, `52.31`."""
    return significant(value_s * 1e3, 4)


def microseconds(value_s: float | None) -> str:
    """Three significant digits."""
    return "" if value_s is None else significant(value_s * 1e6, 3)


def seconds(value_s: float | None) -> str:
    """Three significant digits."""
    return "" if value_s is None else significant(value_s, 3)


def mebibytes(value_bytes: int | None) -> str:
    """Three significant digits of MiB."""
    return "" if value_bytes is None else significant(value_bytes / 2**20, 3)


def percent(value: float | None) -> str:
    """A ratio in percent, two significant digits, without the percent sign."""
    return "" if value is None else significant(value * 100, 2)


def format_change(value: float) -> str:
    """A relative change with its sign, with as many digits as it has: `+2 %`, `-0.15 %`."""
    return f"{value * 100:+.6f}".rstrip("0").rstrip(".") + " %"


def signed_percent(value: float, digits: int = 2) -> str:
    """A relative change in percent with its sign and this many decimals: `+1.25`, never `-0.00`; no percent sign."""
    return f"{round(value * 100, digits) + 0.0:+.{digits}f}"


def duration(value_s: float) -> str:
    """A duration for people: `40 s`, `3 min`."""
    return f"{value_s:.0f} s" if value_s < 100 else f"{value_s / 60:.0f} min"


def cudnn_release(number: int) -> str:
    """cuDNN's version number, of 9 and later, as a version: 91900 is 9.19.0."""
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
