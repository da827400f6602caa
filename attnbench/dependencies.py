"""What attnbench needs and may not be here: it also runs from a clone, in an environment that nobody prepared for it."""

from __future__ import annotations

from importlib.util import find_spec

#: Beside torch with its NumPy, of which the device has its own words, and pytest and its plugins, which started this.
NEEDED = ("msgspec",)


def missing() -> str:
    """What is not installed, and what to do; empty where all of it is."""
    names = [name for name in NEEDED if find_spec(name) is None]
    if not names:
        return ""
    found = f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} not installed"
    return f"{found}: install what attnbench needs, for example with pip install -e . in its folder"
