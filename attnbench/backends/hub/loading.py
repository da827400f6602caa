"""Loading a kernel of the Hugging Face Hub once per process, and saying what was loaded or why it was not."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from attnbench.backends.hub.kernel_name import HubKernel
from attnbench.model import CaseEnded, Reason, Status
from attnbench.units import listed

#: A message lists no more builds or functions than this.
MOST_SHOWN = 8


@dataclass(frozen=True)
class Loaded:
    """A kernel as it is in this process. source: which one that is, for the record."""

    module: ModuleType
    source: str

    def function(self, kernel: HubKernel) -> Any:
        """The function that `kernel` names. Raises CaseEnded (error), which lists those that there are."""
        value: Any = self.module
        for part in kernel.function.split("."):
            value = getattr(value, part, None)
        if callable(value):
            return value
        names = _functions(self.module)
        has = (
            f"it has {listed(names, MOST_SHOWN)}: name one, as in hf:{kernel.repo}@{kernel.pin}:{names[0]}"
            if names
            else "it has none"
        )
        raise _ended(Status.ERROR, "load", f"{kernel.repo} has no function {kernel.function!r}; {has}")


def loaded(kernel: HubKernel) -> Loaded:
    """The kernel, loaded when it is first asked for; a failure is kept too, since the Hub may be slow to not answer.

    Raises CaseEnded: unsupported where the kernel has no build for this machine, or is not in the cache and HF_HUB_OFFLINE=1
    forbids to ask the Hub; error where it could not be had; and whatever the kernel raises on import.
    """
    outcome = _outcome(kernel.repo, kernel.pin)
    if isinstance(outcome, Exception):
        # Without one, or it would keep the frames of every case that it ended, with their tensors.
        raise outcome.with_traceback(None)
    return outcome


@functools.cache
def _outcome(repo: str, pin: str) -> Loaded | Exception:
    try:
        module = _get(HubKernel(repo, pin))
        return Loaded(module, _source(repo, module))
    except Exception as exc:
        return _in_short(repo, exc)


def _get(kernel: HubKernel) -> ModuleType:
    import kernels

    if not hasattr(kernels, "get_kernel"):
        where = getattr(kernels, "__file__", None) or ", ".join(kernels.__path__)
        raise ImportError(f"`import kernels` found {where}, which hides the package of that name: rename it")
    module = kernels.get_kernel(kernel.repo, **(_locked(kernel) or kernel.pinned))
    assert isinstance(module, ModuleType)
    return module


def _locked(kernel: HubKernel) -> dict[str, str] | None:
    """The commit that `kernels.lock` beside the nearest pyproject.toml, where `kernels lock` writes it, has for this pin.

    A lock of another version of the kernel is not about the one that was asked for. Read here and not by
    `kernels.get_locked_kernel`, which takes the first version that it finds and knows nothing of LOCAL_KERNELS.
    """
    project = next((p for p in (Path.cwd(), *Path.cwd().parents) if (p / "pyproject.toml").is_file()), Path.cwd())
    lock = project / "kernels.lock"
    if not lock.is_file():
        return None
    wanted = {"repo-id": kernel.repo, **kernel.pinned}
    try:
        entries = json.loads(lock.read_text(encoding="utf8"))
        commits = [entry["lock"]["commit"] for entry in entries if entry["dependency"] == wanted]
    except (ValueError, LookupError, TypeError) as exc:
        why = f"{type(exc).__name__}: {exc}; write it again with `kernels lock`, of version 0.17 or newer"
        raise ValueError(f"kernels.lock cannot be read: {why}") from exc
    return {"revision": commits[0]} if commits else None


def _source(repo: str, module: ModuleType) -> str:
    """What was loaded, for the record: the commit, or a hash of a folder's files, whose path would name its owner."""
    file = Path(str(module.__file__))
    build = next((folder for folder in file.parents[:2] if (folder / "metadata.json").is_file()), file.parent)
    snapshot = build.parent.parent
    if snapshot.parent.name == "snapshots":  # the Hub's cache: snapshots/<commit>/build/<build>
        return f"{repo} at {snapshot.name}, build {build.name}"
    digest = hashlib.sha256()
    for path in sorted(path for path in build.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        digest.update(f"{path.relative_to(build).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return f"{repo} from a local folder, build {build.name}, SHA-256 {digest.hexdigest()[:12]}"


def _in_short(repo: str, cause: Exception) -> Exception:
    """What `kernels` said, without what does not matter here; what it did not say is handed on."""
    message = str(cause)
    first = message.partition("\n")[0]
    if "Cannot find a build variant" in first:
        return _ended(
            Status.UNSUPPORTED, "build", f"needs a build of {repo} for {_machine()}, found {_builds(message)}"
        )
    if "does not support the current device: " in first:
        device = first.partition("does not support the current device: ")[2].partition(". ")[0]
        return _ended(Status.UNSUPPORTED, "build", f"{repo}: {device}")
    folder = f"LOCAL_KERNELS={repo}=FOLDER"
    if _is_offline() and first.startswith(("Cannot find a local snapshot", "Version ")):
        text = f"needs {repo} in the Hub's cache, as HF_HUB_OFFLINE=1 is set, or {folder}; found neither: {first}"
        return _ended(Status.UNSUPPORTED, "cache", text)
    without = f"HF_HUB_OFFLINE=1 takes what is in the cache, {folder} a folder"
    if "trust_remote_code" in first:  # attnbench does not overrule it: code from the Hub runs with the user's rights
        why = f" ({_named(cause.__context__)})" if cause.__context__ else ""
        return _ended(Status.ERROR, "load", f"{first.partition('. ')[0]}{why}; {without}")
    if type(cause).__module__.partition(".")[0] in ("httpx", "httpx2", "requests"):
        return _ended(Status.ERROR, "load", f"the Hub could not be reached: {_named(cause)}; {without}")
    return cause


def _is_offline() -> bool:
    """Whether the Hub may not be asked, as its own library reads HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _builds(message: str) -> str:
    """The builds that there are, those of this system first, and a later version that `kernels` found to fit."""
    lines = [line.strip() for line in message.splitlines()[1:] if line.strip()]
    names = [line.partition(":")[0] for line in lines if line.startswith(("torch", "tvm"))]
    names.sort(key=lambda name: (not name.endswith(f"-{_system()}"), name))
    later = next((f"; {line}" for line in lines if line.startswith("However")), "")
    return f"{listed(names, MOST_SHOWN) or 'none'}{later}"


def _machine() -> str:
    """What a build has to be for."""
    import torch

    version = ".".join(torch.__version__.split(".")[:2])
    device = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU"
    return f"torch {version} on {device}, {_system()}"


def _system() -> str:
    return f"{platform.machine()}-{platform.system().lower()}"


def _functions(module: ModuleType) -> list[str]:
    """Public functions of a kernel, and those of its modules that it does not offer itself, as `module.function`."""
    own = _callables(module)
    inner = [value for value in vars(module).values() if isinstance(value, ModuleType)]
    mine = [value for value in inner if value.__name__.startswith(f"{module.__name__}.")]
    below = [(m.__name__.removeprefix(f"{module.__name__}."), name) for m in mine for name in _callables(m)]
    return [*own, *(f"{where}.{name}" for where, name in below if name not in own)]


def _callables(module: ModuleType) -> list[str]:
    """Names of what can be called, without classes and what is private."""
    public = ((n, v) for n, v in vars(module).items() if not n.startswith("_"))
    return [name for name, value in public if callable(value) and not isinstance(value, type)]


def _named(cause: BaseException) -> str:
    return f"{type(cause).__name__}: {cause}".partition("\n")[0].removesuffix(": ")


def _ended(status: Status, code: str, text: str) -> CaseEnded:
    """The end of a case, in the words of one that cannot be loaded where that is an error."""
    return CaseEnded(status, Reason(code, f"cannot be loaded: {text}" if status is Status.ERROR else text))
