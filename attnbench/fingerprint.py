"""What makes two launches comparable, without anything that identifies a person's machine."""

from __future__ import annotations

import hashlib
import re

from attnbench.model import Fingerprint

Field = str | int | float | None

#: Fields that identify one machine or one physical unit: stored only as a salted hash.
HASHED = ("host", "unit")

#: One step of the SM clock, and by how many steps the ceilings of one set-up may differ: 1965 to 2040 MHz were seen on one
#: H100, 1980 on H200s. A clock that is locked further away is another set-up. If it is locked nearer, verdicts correct by
#: the clocks of the rounds.
CEILING_STEP_MHZ = 15
RESTING_STEPS = 6


def make_fingerprint(key: dict[str, Field], context: dict[str, Field], salt: str) -> Fingerprint:
    """The fingerprint of a launch, with hashes of `host` and `unit` salted by the repository's `salt`."""
    anonymous = {
        name: hashed(value, salt) if name in HASHED and value is not None else value for name, value in context.items()
    }
    return Fingerprint(dict(key), anonymous)


def hashed(value: Field, salt: str) -> str:
    """Twelve hex digits of SHA-256 over salt and value: recognises the same unit without naming it."""
    return hashlib.sha256(f"{salt}:{value}".encode()).hexdigest()[:12]


def differences(ours: Fingerprint, theirs: Fingerprint) -> tuple[str, ...]:
    """Fields of the key that differ: `power_limit_w 700.0 here, 650.0 there`.

    Unknown on one side is no difference, and neither are ceilings of the SM clock that are at most `RESTING_STEPS` apart.
    """
    differing = []
    for name in sorted(ours.key.keys() | theirs.key.keys()):
        here, there = ours.key.get(name), theirs.key.get(name)
        if here is not None and there is not None and not _same(name, here, there):
            differing.append(f"{name} {here} here, {there} there")
    return tuple(differing)


def ceiling_mhz(hz: float) -> int:
    """The SM clock's ceiling in MHz, in whole steps: 1979.4e6 Hz is 1980."""
    return round(hz / 1e6 / CEILING_STEP_MHZ) * CEILING_STEP_MHZ


def _same(name: str, here: str | float, there: str | float) -> bool:
    if name == "ceiling_mhz" and isinstance(here, int | float) and isinstance(there, int | float):
        return abs(here - there) <= RESTING_STEPS * CEILING_STEP_MHZ
    return here == there


def unknown_fields(fingerprint: Fingerprint) -> tuple[str, ...]:
    """Names of the fields that could not be read on this machine."""
    fields = {**fingerprint.key, **fingerprint.context}
    return tuple(sorted(name for name, value in fields.items() if value is None))


def slug(device_name: str) -> str:
    """The name of a GPU model's folder of baselines: `nvidia-h200`."""
    return re.sub(r"[^a-z0-9]+", "-", device_name.lower()).strip("-")
