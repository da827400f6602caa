"""Whether two launches of a case made the same autotune choices in the kernels that matter.

Another choice is another kernel: its latency says nothing about a change of the code. What autotuning decides is how a
kernel is configured, whether a product is a template or a library's kernel, and what is fused with a template. Everything
else that differs between two generated programs, such as a pointwise kernel of another name, is other code, and is judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from attnbench.model import Record

#: For a kernel that takes less of the call than this share autotuning tosses a coin, and nobody can time which side won.
NEGLIGIBLE = 0.01
TEMPLATE, LIBRARY = "triton_tem_", "extern_kernels."
_WHERE = ("here", "in the baseline")
_NUMBERS = re.compile(r"\b0x[0-9a-f]+\b|[0-9a-f]{16,}|(?<=_)\d+(?=_|$)")


def plain(name: str) -> str:
    """A kernel's name without the numbers and hashes that change from one build to the next."""
    return _NUMBERS.sub("#", name)


def negligible(records: Iterable[Record]) -> frozenset[str]:
    """Plain names of kernels that take less than `NEGLIGIBLE` of the call by the profiler, in every launch that says.

    One that no launch has a duration of, such as a library's that goes by another name there, is not among them.
    """
    shares: dict[str, float] = {}
    for record in records:
        for name, share in _shares(record).items():
            shares[name] = max(share, shares.get(name, 0.0))
    return frozenset(name for name, share in shares.items() if share < NEGLIGIBLE)


def lines(record: Record, leave_out: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """The choices of a launch as they were stored, without those for the kernels of these plain names."""
    chosen = record.compilation.choices if record.compilation else ()
    return tuple(line for line in chosen if plain(_kernel(line)) not in leave_out)


def key(record: Record, leave_out: frozenset[str]) -> tuple[str, ...]:
    """Launches of one case with the same key ran the same kernels, as far as autotuning goes."""
    return tuple(sorted(f"{plain(_kernel(line))}:{_settings(line)}" for line in lines(record, leave_out)))


def other_choices(one: Record, another: Record, leave_out: frozenset[str]) -> bool:
    """Whether autotuning settled on something else in one of two launches of a case.

    Unknown on one side (no compilation, or one whose choices this torch does not tell) is no difference.
    """
    here, there = _by_kernel(one, leave_out), _by_kernel(another, leave_out)
    if not here or not there:
        return False
    if any(here[kernel] != there[kernel] for kernel in here.keys() & there.keys() if not kernel.startswith(LIBRARY)):
        return True
    if any(kernel.startswith(TEMPLATE) for kernel in (*here, *there)):
        return here != there
    libraries = [{kernel for kernel in side if kernel.startswith(LIBRARY)} for side in (here, there)]
    return libraries[0] != libraries[1]  # how often one is called is the code's doing


def difference(here: Iterable[str], there: Iterable[str]) -> str:
    """`a, b here; c in the baseline`: what only one of two sides has."""
    ours, theirs = set(here), set(there)
    said = [f"{', '.join(sorted(ours - theirs))} here"] if ours - theirs else []
    return "; ".join([*said, *([f"{', '.join(sorted(theirs - ours))} in the baseline"] if theirs - ours else [])])


def told_apart(here: Iterable[str], there: Iterable[str]) -> str:
    """What two sides settled on differently, by kernel: `a: BLOCK=32 here, BLOCK=64 or BLOCK=128 in the baseline`."""
    ours, theirs = set(here), set(there)
    if ours <= theirs and {_kernel(line) for line in theirs} == {_kernel(line) for line in ours}:
        return f"each in the baseline, but not together: {'; '.join(sorted(ours))}"
    kernels: dict[str, list[list[str]]] = {}
    for side, lines_of_side in enumerate((ours - theirs, theirs - ours)):
        for line in sorted(lines_of_side):
            kernels.setdefault(_kernel(line), [[], []])[side].append(_settings(line))
    told = (
        (kernel, [f"{' or '.join(found)} {where}" for found, where in zip(sides, _WHERE, strict=True) if found])
        for kernel, sides in sorted(kernels.items())
    )
    return "; ".join(f"{kernel}: {', '.join(sides)}" for kernel, sides in told)


def alike(record: Record, records: Sequence[Record], leave_out: frozenset[str]) -> list[Record]:
    """Those of `records` that made the choices of `record`."""
    return [other for other in records if not other_choices(record, other, leave_out)]


def _shares(record: Record) -> dict[str, float]:
    """By plain name, the largest share of the call that a kernel of it took; empty without durations."""
    took_s: dict[str, float] = {}
    for op in record.route:
        if op.duration_s is not None:
            took_s[op.name] = took_s.get(op.name, 0.0) + op.duration_s
    whole_s = sum(took_s.values())
    shares: dict[str, float] = {}
    for name, duration_s in took_s.items() if whole_s > 0 else ():
        shares[plain(name)] = max(duration_s / whole_s, shares.get(plain(name), 0.0))
    return shares


def _by_kernel(record: Record, leave_out: frozenset[str]) -> dict[str, list[str]]:
    """Plain kernel names, each with the configurations of all kernels of that name."""
    found: dict[str, list[str]] = {}
    for line in sorted(lines(record, leave_out)):
        found.setdefault(plain(_kernel(line)), []).append(_settings(line))
    return {kernel: sorted(settings) for kernel, settings in found.items()}


def _kernel(line: str) -> str:
    return line.partition(":")[0]


def _settings(line: str) -> str:
    return line.partition(":")[2].strip()
