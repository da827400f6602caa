"""How a kernel on the Hugging Face Hub is named: as it is asked for, and as a backend (pure text, loads nothing).

Asked for: `hf:OWNER/NAME@VERSION[:FUNCTION][,layout=LAYOUT][,tolerance=CLASS]`. As a backend, which may hold none of `:`,
`/` and `@`: `hf--OWNER--NAME--VERSION[--FUNCTION][--layout=LAYOUT][--tolerance=CLASS]`, as the Hub's own cache names its
folders. Each can be made from the other, because no part holds `--` and only the last two hold `=`, so `--attn-backend`
takes either. Wherever else a backend is named, that is its name as a backend.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from attnbench.backends.registry import LAYOUTS
from attnbench.backends.tolerances import TOLERANCES
from attnbench.globs import UnknownName

#: What a kernel's function for attention is called where none is named: flash-attn's name for it.
DEFAULT_FUNCTION = "flash_attn_func"

_PART = r"\w+(?:[.-]\w+)*"
_FUNCTION = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_ASKED = re.compile(rf"hf:({_PART}/{_PART})@(\w+(?:[.+/-]\w+)*)(?::({_FUNCTION}))?((?:,[^,]*)*)", re.ASCII)
_BACKEND = re.compile(
    rf"hf--({_PART})--({_PART})--(\w+(?:(?:[.+-]|%2F)\w+)*)(?:--({_FUNCTION}))?((?:--\w+={_PART})*)", re.ASCII
)
_FORM = (
    "hf:OWNER/NAME@VERSION or hf:OWNER/NAME@VERSION:FUNCTION, with ,layout= or ,tolerance= behind it if needed, as in "
    "hf:kernels-community/flash-attn2@3"
)
#: What may be said of a kernel behind its name, and the values that it may have: the first is what is taken for granted.
_OPTIONS = {"layout": LAYOUTS, "tolerance": tuple(TOLERANCES)}


@dataclass(frozen=True)
class HubKernel:
    """A function of a kernel on the Hub, pinned.

    repo: `kernels-community/flash-attn2`.
    pin: only digits are a version, which is the branch `v<digits>`; anything else is a tag, a branch or a commit.
    function: what is called for attention; in a module of the kernel's where it has a dot.
    layout, tolerance: as `Backend` has them, of a kernel that is not as most are.
    """

    repo: str
    pin: str
    function: str = DEFAULT_FUNCTION
    layout: str = _OPTIONS["layout"][0]
    tolerance: str = _OPTIONS["tolerance"][0]

    @property
    def pinned(self) -> dict[str, int | str]:
        """The pin as `kernels.get_kernel` takes it, and as a lock file writes it."""
        return {"version": int(self.pin)} if self.pin.isdecimal() else {"revision": self.pin}

    @property
    def asked(self) -> str:
        """`hf:OWNER/NAME@VERSION[:FUNCTION][,layout=LAYOUT][,tolerance=CLASS]`."""
        function = "" if self.function == DEFAULT_FUNCTION else f":{self.function}"
        return ",".join((f"hf:{self.repo}@{self.pin}{function}", *self._options))

    @property
    def backend(self) -> str:
        """`hf--OWNER--NAME--VERSION[--FUNCTION][--layout=LAYOUT][--tolerance=CLASS]`."""
        function = () if self.function == DEFAULT_FUNCTION else (self.function,)
        return "--".join(("hf", *self.repo.split("/"), quote(self.pin, safe="+"), *function, *self._options))

    @property
    def _options(self) -> tuple[str, ...]:
        """`layout=bhsd` and the like, of those that are not what is taken for granted."""
        values = {"layout": self.layout, "tolerance": self.tolerance}
        return tuple(f"{name}={value}" for name, value in values.items() if value != _OPTIONS[name][0])


def hub_kernel(text: str) -> HubKernel | None:
    """The kernel that `text` names in one of the two forms, None when it is another backend's name or a glob.

    Raises UnknownName, which says the right form, when it begins with `hf:` and is not of that form, and in either form for
    an option or a value that there is not.
    """
    if match := _BACKEND.fullmatch(text):
        owner, name, pin, function, options = match.groups()
        return _kernel(f"{owner}/{name}", unquote(pin), function, options.split("--")[1:], text)
    if not text.startswith("hf:"):
        return None
    if match := _ASKED.fullmatch(text):
        repo, pin, function, options = match.groups()
        return _kernel(repo, pin, function, options.split(",")[1:], text)
    if re.fullmatch(rf"hf:{_PART}/{_PART}", text, re.ASCII):
        why = "kernels on the Hub change under their names"
        raise UnknownName(
            "backend", f"{text!r} names no version, but {why}: write {text}@1, or a tag, branch or commit"
        )
    raise UnknownName("backend", f"expected {_FORM}, got {text!r}")


def _kernel(repo: str, pin: str, function: str | None, options: Sequence[str], text: str) -> HubKernel:
    stated = dict(_stated(option, text) for option in options)
    return HubKernel(repo, str(int(pin)) if pin.isdecimal() else pin, function or DEFAULT_FUNCTION, **stated)


def _stated(option: str, text: str) -> tuple[str, str]:
    """Name and value of `layout=bhsd`. Raises UnknownName for another name or value."""
    name, _, value = option.partition("=")
    if name not in _OPTIONS:
        raise UnknownName("backend", f"expected layout= or tolerance= behind a kernel, got {option!r} in {text!r}")
    if value not in _OPTIONS[name]:
        known = ", ".join(_OPTIONS[name])
        raise UnknownName("backend", f"expected {name}= one of {known}, got {value!r} in {text!r}")
    return name, value
