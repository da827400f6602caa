"""How a kernel on the Hugging Face Hub is named: as it is asked for, and as a backend (pure text, loads nothing).

Asked for: `hf:OWNER/NAME@VERSION[:FUNCTION]`. As a backend, which may hold none of `:`, `/` and `@`:
`hf--OWNER--NAME--VERSION[--FUNCTION]`, as the Hub's own cache names its folders. Each can be made from the other, because
no part holds `--`, so `--attn-backend` takes either. Wherever else a backend is named, that is its name as a backend.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from attnbench.globs import UnknownName

#: What a kernel's function for attention is called where none is named: flash-attn's name for it.
DEFAULT_FUNCTION = "flash_attn_func"

_PART = r"\w+(?:[.-]\w+)*"
_FUNCTION = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_ASKED = re.compile(rf"hf:({_PART}/{_PART})@(\w+(?:[.+/-]\w+)*)(?::({_FUNCTION}))?", re.ASCII)
_BACKEND = re.compile(rf"hf--({_PART})--({_PART})--(\w+(?:(?:[.+-]|%2F)\w+)*)(?:--({_FUNCTION}))?", re.ASCII)
_FORM = "hf:OWNER/NAME@VERSION or hf:OWNER/NAME@VERSION:FUNCTION, as in hf:kernels-community/flash-attn2@3"


@dataclass(frozen=True)
class HubKernel:
    """A function of a kernel on the Hub, pinned.

    repo: `kernels-community/flash-attn2`.
    pin: only digits are a version, which is the branch `v<digits>`; anything else is a tag, a branch or a commit.
    function: what is called for attention; in a module of the kernel's where it has a dot.
    """

    repo: str
    pin: str
    function: str = DEFAULT_FUNCTION

    @property
    def pinned(self) -> dict[str, int | str]:
        """The pin as `kernels.get_kernel` takes it, and as a lock file writes it."""
        return {"version": int(self.pin)} if self.pin.isdecimal() else {"revision": self.pin}

    @property
    def asked(self) -> str:
        """`hf:OWNER/NAME@VERSION[:FUNCTION]`."""
        return f"hf:{self.repo}@{self.pin}" + ("" if self.function == DEFAULT_FUNCTION else f":{self.function}")

    @property
    def backend(self) -> str:
        """`hf--OWNER--NAME--VERSION[--FUNCTION]`."""
        function = () if self.function == DEFAULT_FUNCTION else (self.function,)
        return "--".join(("hf", *self.repo.split("/"), quote(self.pin, safe="+"), *function))


def hub_kernel(text: str) -> HubKernel | None:
    """The kernel that `text` names in one of the two forms, None when it is another backend's name or a glob.

    Raises UnknownName, which says the right form, when it begins with `hf:` and is not of that form.
    """
    if match := _BACKEND.fullmatch(text):
        owner, name, pin, function = match.groups()
        return _kernel(f"{owner}/{name}", unquote(pin), function)
    if not text.startswith("hf:"):
        return None
    if match := _ASKED.fullmatch(text):
        return _kernel(*match.groups())
    if re.fullmatch(rf"hf:{_PART}/{_PART}", text, re.ASCII):
        why = "kernels on the Hub change under their names"
        raise UnknownName(
            "backend", f"{text!r} names no version, but {why}: write {text}@1, or a tag, branch or commit"
        )
    raise UnknownName("backend", f"expected {_FORM}, got {text!r}")


def _kernel(repo: str, pin: str, function: str | None) -> HubKernel:
    return HubKernel(repo, str(int(pin)) if pin.isdecimal() else pin, function or DEFAULT_FUNCTION)
