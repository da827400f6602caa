"""Base units scaled for people; None is an empty cell (layer 0)."""

from __future__ import annotations


def milliseconds(value_s: float) -> str:
    """Four significant digits, `0.4077`, `52.31`."""
    return f"{value_s * 1e3:#.4g}".rstrip(".")


def microseconds(value_s: float | None) -> str:
    """Whole microseconds."""
    return "" if value_s is None else f"{value_s * 1e6:.0f}"


def seconds(value_s: float | None) -> str:
    """Two significant digits, at most two places."""
    return "" if value_s is None else f"{value_s:.2f}"


def mebibytes(value_bytes: int | None) -> str:
    """Whole MiB."""
    return "" if value_bytes is None else f"{value_bytes / 2**20:.0f}"


def share(value: float | None) -> str:
    """A ratio as a percentage with two significant digits."""
    return "" if value is None else f"{value * 100:.2g} %"


def duration(value_s: float) -> str:
    """A time to wait: `40 s`, `3 min`."""
    return f"{value_s:.0f} s" if value_s < 100 else f"{value_s / 60:.0f} min"
