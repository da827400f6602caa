"""What the fields of a backend and of a requirement must be: each check raises ValueError with found and needed.

subject: what the sentence is about, such as `backend 'mine'`. A traceback ends at the line of the user's that is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from attnbench import printable
from attnbench.hardware.device import DEVICES
from attnbench.printable import described, written
from attnbench.workload import as_integer


def require_known(subject: str, what: str, found: object, known: Sequence[str]) -> None:
    """One of the known words."""
    __tracebackhide__ = True
    if not isinstance(found, str) or found not in known:
        raise ValueError(f"{subject}: unknown {what} {written(found)}; known: {', '.join(known)}")


def require_each_known(subject: str, what: str, found: Sequence[object], known: Sequence[str]) -> None:
    """One or more, each of which is one of the known words."""
    __tracebackhide__ = True
    if not found:
        raise ValueError(f"{subject}: expected one or more of {', '.join(known)}, found none")
    for one in found:
        require_known(subject, what, one, known)


def require_function(subject: str, what: str, found: object) -> None:
    """Something that can be called."""
    __tracebackhide__ = True
    if not callable(found):
        raise ValueError(f"{subject}: {what} must be a function, found {described(found)}")


def require_kind(subject: str, what: str, found: object, kind: type, expected: str) -> None:
    """An instance of a class."""
    __tracebackhide__ = True
    if not isinstance(found, kind):
        raise ValueError(f"{subject}: {what} must be {expected}, found {described(found)}")


def require_text(subject: str, what: str, found: object, *, empty: bool = False) -> None:
    """Text; empty: whether it may be empty."""
    __tracebackhide__ = True
    if not isinstance(found, str) or not (found or empty):
        raise ValueError(f"{subject}: {what} must be {'text' if empty else 'non-empty text'}, found {described(found)}")


def whole_numbers(subject: str, found: object, example: str, count: int | None = None) -> tuple[int, ...]:
    """A tuple or list of integers of at least 0, also NumPy's, as Python's own; `count` of them where that is given."""
    __tracebackhide__ = True
    numbers = [as_integer(one) for one in found] if isinstance(found, (tuple, list)) else [None]
    known = tuple(number for number in numbers if number is not None and number >= 0)
    if len(known) < len(numbers) or (count is not None and len(known) != count):
        raise ValueError(f"{subject}: expected integers such as {example}, found {described(found)}")
    return known


def positive_number(subject: str, found: object) -> int:
    """An integer of at least 1, also one of NumPy's, as Python's own."""
    __tracebackhide__ = True
    number = as_integer(found)
    if number is None or number < 1:
        raise ValueError(f"{subject}: expected an integer of at least 1, found {described(found)}")
    return number


def require_requirements(subject: str, found: object) -> None:
    """A tuple or list of requirements."""
    __tracebackhide__ = True
    if not isinstance(found, (tuple, list)):
        expected = 'a tuple of requirements, such as (Device("cuda"),) with the comma'
        raise ValueError(f"{subject}: requires: expected {expected}, found {described(found)}")
    for at, one in enumerate(found):
        if isinstance(one, type) or not callable(getattr(one, "unmet", None)):
            hint = f"; make one of it: {one.__name__}(…)" if isinstance(one, type) and hasattr(one, "unmet") else ""
            expected = 'a requirement, such as Device("cuda")'
            raise ValueError(f"{subject}: requires[{at}]: expected {expected}, found {described(one)}{hint}")


def require_patterns(subject: str, what: str, found: object) -> None:
    """A mapping of device type to a regular expression."""
    __tracebackhide__ = True
    expected = 'a mapping of device type to regular expression, such as {"cuda": "my_kernel"}'
    for device, pattern in _of_devices(subject, what, found, expected).items():
        _require_pattern(subject, f"{what} for {device}", pattern)


def require_choices(subject: str, what: str, found: object) -> None:
    """A mapping of device type to a mapping of a name to a regular expression."""
    __tracebackhide__ = True
    choices = '{"fast": "my_fast_kernel"}'
    expected = f'a mapping of device type to the choices there, such as {{"cuda": {choices}}}'
    for device, named in _of_devices(subject, what, found, expected).items():
        if not isinstance(named, Mapping):
            expected = f"a mapping of name to regular expression, such as {choices}"
            raise ValueError(f"{subject}: {what} for {device}: expected {expected}, found {described(named)}")
        for name, pattern in named.items():
            printable.require_name(f"{subject}: name in {what} for {device}", name)
            _require_pattern(subject, f"{what} for {device}, {name}", pattern)


def _of_devices(subject: str, what: str, found: object, expected: str) -> Mapping[str, object]:
    __tracebackhide__ = True
    if not isinstance(found, Mapping):
        raise ValueError(f"{subject}: {what}: expected {expected}, found {described(found)}")
    for device in found:
        require_known(subject, f"device type in {what}", device, DEVICES)
    return found


def _require_pattern(subject: str, what: str, found: object) -> None:
    __tracebackhide__ = True
    if not isinstance(found, str):
        raise ValueError(f"{subject}: {what}: expected a regular expression, found {described(found)}")
    try:
        re.compile(found)
    except re.error as exc:
        raise ValueError(f"{subject}: {what}: {written(found)} is not a regular expression: {exc}") from None
