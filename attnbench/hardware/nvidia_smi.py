"""What `nvidia-smi` says of a GPU when a launch starts, for a reader of its records. Nothing is judged by it."""

from __future__ import annotations

import csv
import re
import subprocess

from attnbench.hardware.facts import gpu_identity

#: Fields of `nvidia-smi --help-query-gpu` that tell one set-up from another. None names the unit, its bus or a process.
FIELDS = (
    *("name", "driver_version", "vbios_version", "inforom.img", "compute_cap", "compute_mode", "persistence_mode"),
    *("mig.mode.current", "ecc.mode.current", "gsp.mode.current", "addressing_mode", "pstate"),
    *("clocks.sm", "clocks.mem", "clocks.gr", "clocks.video", "clocks.max.sm", "clocks.max.mem", "clocks.max.gr"),
    *("clocks.applications.gr", "clocks.applications.mem", "clocks_event_reasons.active"),
    *("power.draw", "power.limit", "power.default_limit", "power.min_limit", "power.max_limit", "enforced.power.limit"),
    *("temperature.gpu", "temperature.memory", "temperature.gpu.tlimit", "fan.speed"),
    *("memory.total", "memory.reserved", "memory.used", "utilization.gpu", "utilization.memory"),
    *("pcie.link.gen.current", "pcie.link.gen.max", "pcie.link.width.current", "pcie.link.width.max"),
    *("ecc.errors.corrected.volatile.total", "ecc.errors.uncorrected.volatile.total"),
    *("retired_pages.pending", "remapped_rows.pending", "remapped_rows.failure"),
)
#: A driver that hangs must not hold up a run.
TIMEOUT_S = 20
#: What nvidia-smi writes for a field that this GPU does not have.
_NOTHING = re.compile(r"\[?(N/A|Not Supported|Unknown Error|Insufficient Permissions|GPU requires reset)\]?")
_UNKNOWN_FIELD = re.compile(r'Field "([^"]+)" is not a valid field')


def query(uuid: str | None) -> dict[str, str]:
    """`FIELDS` of the GPU with this UUID, as nvidia-smi writes them, `{"power.draw": "76.32 W"}`.

    Empty where there is no nvidia-smi or it does not answer. A field that the GPU or this driver does not have is left out.
    """
    if not uuid:
        return {}
    identity = gpu_identity(uuid)
    asked = list(FIELDS)
    while asked:
        try:
            answer = subprocess.run(
                ["nvidia-smi", f"--id={identity}", f"--query-gpu={','.join(asked)}", "--format=csv,noheader"],
                check=False,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
            )
        except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
            return {}
        unknown = _UNKNOWN_FIELD.search(answer.stdout + answer.stderr)
        if unknown is None or unknown[1] not in asked:
            break
        asked.remove(unknown[1])  # this driver is older or newer than the list
    rows = list(csv.reader(answer.stdout.splitlines(), skipinitialspace=True)) if answer.returncode == 0 else []
    if len(rows) != 1 or len(rows[0]) != len(asked):
        return {}
    values = zip(asked, (value.strip() for value in rows[0]), strict=True)
    return {field: value for field, value in values if value and not _NOTHING.fullmatch(value)}
