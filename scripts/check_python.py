"""Say in one sentence what the interpreter that runs this lacks for attnbench, and the command that adds it.

Used by environment.sh for ATTN_PYTHON: `check_python.py pyproject.toml run|dev`. Imports nothing that it asks about.
Kept to the syntax of old Pythons, so that one of those gets the sentence too.
"""

import re
import shlex
import sys
from pathlib import Path


def numbers(version):
    """`2.11.0a0+git` as (2, 11, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", re.match(r"[\d.]*", version).group()))


def lacks(name, lowest):
    """True where the distribution is absent or older than `lowest`."""
    from importlib import metadata, util  # after the version is known to be good: Python 3.6 and 3.7 have no metadata

    try:
        return numbers(metadata.version(name)) < numbers(lowest)
    except metadata.PackageNotFoundError:  # built in place, perhaps: then its version is not known here
        return util.find_spec(name.replace("-", "_")) is None


def requirements(pyproject, group):
    """(name, lowest version or "") of the dependencies, and of the dependency group where it is not `run`."""
    text = pyproject.read_text(encoding="utf-8")  # by pattern: tomllib came with Python 3.11
    for key in ["dependencies"] if group == "run" else ["dependencies", group]:
        block = re.search(rf"^{key} = \[\n(.*?)^\]", text, re.M | re.S).group(1)
        yield from re.findall(r'^ *"([\w-]+)(?:>=([\d.]+))?"', block, re.M)


def main(pyproject, group):
    """The sentence, or None where all is there."""
    if sys.version_info < (3, 10):
        return f"is Python {sys.version.split()[0]}, and 3.10 or newer is needed"
    missing = [
        f"{name}>={lowest}" if lowest else name
        for name, lowest in requirements(Path(pyproject), group)
        if lacks(name, lowest)
    ]
    if "torch" in missing:
        return "has no torch; install the build for this machine's device into it, or unset ATTN_PYTHON"
    if missing:
        command = shlex.join([sys.executable, "-m", "pip", "install", *missing])
        return f"lacks {', '.join(missing)}; this adds what is missing and leaves its torch alone:\n    {command}"
    return None


if __name__ == "__main__":
    problem = main(*sys.argv[1:])
    sys.exit(problem and f"attnbench: ATTN_PYTHON={sys.executable} {problem}")
