"""What nvidia-smi says of a GPU: by a program of that name which answers as it does."""

from __future__ import annotations

import sys

import pytest

from attnbench.hardware import nvidia_smi

#: Answers like nvidia-smi 580: refuses a field that it does not know, one at a time, and has no value for some.
PROGRAM = """#!{python}
import sys
arguments = dict(one.lstrip("-").split("=", 1) for one in sys.argv[1:])
assert arguments["id"] == "GPU-1", arguments
fields = arguments["query-gpu"].split(",")
for unknown in {unknown!r}:
    if unknown in fields:
        print(f'Field "{{unknown}}" is not a valid field to query.')
        sys.exit(2)
values = {{"name": "NVIDIA H200", "power.draw": "76.32 W", "fan.speed": "[N/A]", "clocks.sm": "1980 MHz"}}
print(", ".join(values.get(field, "[Not Supported]") for field in fields))
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    def made(text):
        path = tmp_path / "nvidia-smi"
        path.write_text(text)
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return made


@pytest.mark.parametrize("uuid", ["GPU-1", "1"])
@pytest.mark.parametrize("unknown", [(), ("addressing_mode", "clocks_event_reasons.active")])
def test_fields_that_the_gpu_and_the_driver_have_are_told(program, uuid, unknown):
    program(PROGRAM.format(python=sys.executable, unknown=unknown))
    assert nvidia_smi.query(uuid) == {"name": "NVIDIA H200", "power.draw": "76.32 W", "clocks.sm": "1980 MHz"}


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9\n",
        "#!/bin/sh\necho 'No devices were found'\n",
        "#!/bin/sh\nprintf '\\377'\n",
        "no program",
    ],
)
def test_an_nvidia_smi_that_does_not_answer_tells_nothing(program, text):
    program(text)
    assert nvidia_smi.query("GPU-1") == {}


def test_no_nvidia_smi_and_no_gpu_tell_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nvidia_smi.query("GPU-1") == nvidia_smi.query(None) == {}


def test_no_field_names_the_unit_its_bus_or_a_process():
    private = ("uuid", "serial", "bus", "pci.", "pid", "process", "index", "host")
    assert not [field for field in nvidia_smi.FIELDS if any(word in field.lower() for word in private)]
