"""Which stored sessions verdicts rest on: those of a folder, or of the commit that --attn-baselines-from names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from attnbench.codec import Unreadable
from attnbench.fingerprint import slug
from attnbench.model import Launch
from attnbench.plugin.settings import Settings
from attnbench.storage.folders import Unlisted
from attnbench.storage.revision import open_revision
from attnbench.storage.sessions import Baseline, load_baseline


@dataclass(frozen=True)
class Reviewed:
    """The sessions that verdicts rest on, and where they come from.

    With --attn-baselines-from they are those of a commit. work_tree: those that lie in the folder, where they are others;
    changes: `edited nvidia-h200/0001_….json`.
    """

    baseline: Baseline
    work_tree: Baseline | None = None
    commit: str = ""  # `HEAD^1 (0f1e2d3c4b5a)`
    changes: tuple[str, ...] = ()

    @property
    def baselines(self) -> tuple[Baseline, ...]:
        """Both, where there are two."""
        return (self.baseline,) if self.work_tree is None else (self.baseline, self.work_tree)


def unused_sessions(config: pytest.Config, device_name: str) -> str:
    """That sessions of this device lie where `attnbench record` writes them, and no ini key names the folder; else empty."""
    is_named = any(override.startswith("attn_baselines=") for override in config.option.override_ini or ())
    folder = config.rootpath / "baselines" / slug(device_name)
    if is_named or not any(folder.glob("[0-9]*_*.json")):
        return ""
    return f"not compared with baselines/{folder.name}: set the ini key attn_baselines = baselines"


def open_baseline(folder: Path, launch: Launch, device_name: str) -> Baseline:
    """The sessions for this device. Raises pytest.UsageError for one that cannot be read, and for what is not listed."""
    try:
        return load_baseline(folder, launch, device_name)
    except Unlisted as exc:
        raise pytest.UsageError(f"attnbench: {exc}") from exc
    except Unreadable as exc:
        raise pytest.UsageError(
            f"attnbench: a stored session cannot be used: {exc}. Restore it, or remove it from the baselines"
        ) from exc


def open_reviewed(settings: Settings, root: Path, launch: Launch, device_name: str) -> Reviewed:
    """The sessions for this device, of the folder or of the commit that is asked for.

    Raises pytest.UsageError for a session that cannot be read, and for a commit that is not there.
    """
    folder, ref = settings.baselines, settings.baselines_from
    assert folder is not None
    if ref is None:
        return Reviewed(open_baseline(folder, launch, device_name))
    source = f"{settings.sources['baselines-from']}: "
    device = slug(device_name)
    try:
        revision = open_revision(root, folder, ref)
        changes = revision.changes(folder)
        changed = revision.has_changed(folder, device)
        with revision.folder(device) as stored:
            try:
                baseline = load_baseline(stored, launch, device_name)
            except Unreadable as exc:
                text = str(exc).replace(str(stored), f"{ref}:{revision.below}")
                raise Unreadable(f"a session of this commit cannot be used: {text}. Name another commit") from exc
    except Unreadable as exc:
        raise pytest.UsageError(f"{source}{exc}") from exc
    work_tree = open_baseline(folder, launch, device_name) if changed else None
    return Reviewed(baseline, work_tree, revision.shown, changes)
