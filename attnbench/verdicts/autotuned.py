"""Whether two launches of a case made the same autotune choices in the kernels that matter.

"Autotune choices" in docs/method.md.

Another choice is another kernel: its latency says nothing about a change of the code. Autotuning decides how a kernel is
configured, whether a product is a template or a library's kernel, and what is fused with a template. All other differences
between two generated programs, such as a pointwise kernel of another name, are other code, and are judged.

A choice is a stored line, `triton_tem_fused_0: BLOCK_M=128 num_warps=8`: a kernel and its settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from attnbench.model import Record

#: Choices do not count for a kernel that takes less of the call than this: they vary by chance, and cannot be timed.
NEGLIGIBLE = 0.01
TEMPLATE, LIBRARY = "triton_tem_", "extern_kernels."
_NUMBERS = re.compile(r"\b0x[0-9a-f]+\b|[0-9a-f]{16,}|(?<=_)\d+(?=_|$)")


@lru_cache(4096)
def plain(name: str) -> str:
    """A kernel's name without the numbers and hashes that change from one build to the next."""
    return _NUMBERS.sub("#", name)


def negligible(records: Iterable[Record]) -> frozenset[str]:
    """Plain names of kernels that take less than `NEGLIGIBLE` of the call in every launch whose profile has their duration.

    A kernel without a duration in any launch, such as a library's that has another name there, is not among them.
    """
    shares: dict[str, float] = {}
    for record in records:
        for name, share in _shares(record).items():
            shares[name] = max(share, shares.get(name, 0.0))
    return frozenset(name for name, share in shares.items() if share < NEGLIGIBLE)


def choices(record: Record, leave_out: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """The choices of a launch as they were stored, without those for the kernels with these plain names."""
    stored = record.compilation.choices if record.compilation else ()
    return tuple(choice for choice in stored if plain(_kernel(choice)) not in leave_out)


def choices_key(record: Record, leave_out: frozenset[str]) -> tuple[str, ...]:
    """Launches of one case with equal keys ran the same kernels, as far as autotuning goes."""
    return tuple(sorted(f"{plain(_kernel(choice))}:{_settings(choice)}" for choice in choices(record, leave_out)))


def chose_differently(one: Record, another: Record, leave_out: frozenset[str]) -> bool:
    """Whether two launches of a case made different choices.

    Unknown on one side is no difference: without torch.compile, or with a torch that does not report choices.
    """
    here, there = _by_kernel(one, leave_out), _by_kernel(another, leave_out)
    if not here or not there:
        return False
    if any(here[kernel] != there[kernel] for kernel in here.keys() & there.keys() if not kernel.startswith(LIBRARY)):
        return True
    if any(kernel.startswith(TEMPLATE) for kernel in (*here, *there)):
        return here != there
    # How often a library's kernel is called depends on the code, so only the names count.
    return _libraries(here) != _libraries(there)


def with_same_choices(record: Record, records: Sequence[Record], leave_out: frozenset[str]) -> list[Record]:
    """The ones of `records` that made the choices of `record`."""
    return [other for other in records if not chose_differently(record, other, leave_out)]


def describe_difference(here: Iterable[str], there: Iterable[str]) -> str:
    """What only one side has: `a, b here; c in the baseline`."""
    ours, theirs = set(here), set(there)
    sides = ((ours - theirs, "here"), (theirs - ours, "in the baseline"))
    return "; ".join(f"{', '.join(sorted(names))} {where}" for names, where in sides if names)


def describe_choices(here: Iterable[str], there: Iterable[str]) -> str:
    """The choices that differ, by kernel: `a: BLOCK=32 here, BLOCK=64 or BLOCK=128 in the baseline`."""
    ours, theirs = set(here), set(there)
    if ours <= theirs and {_kernel(choice) for choice in theirs} == {_kernel(choice) for choice in ours}:
        return f"each in the baseline, but not together: {'; '.join(sorted(ours))}"
    only_ours, only_theirs = _settings_by_kernel(ours - theirs), _settings_by_kernel(theirs - ours)
    descriptions = []
    for kernel in sorted(only_ours.keys() | only_theirs.keys()):
        sides = ((only_ours.get(kernel), "here"), (only_theirs.get(kernel), "in the baseline"))
        values = [f"{' or '.join(settings)} {where}" for settings, where in sides if settings]
        descriptions.append(f"{kernel}: {', '.join(values)}")
    return "; ".join(descriptions)


def _shares(record: Record) -> dict[str, float]:
    """By plain name, the largest share of the call that one kernel of that name took; empty without durations."""
    took_s: dict[str, float] = {}
    for op in record.route:
        if op.duration_s is not None:
            took_s[op.name] = took_s.get(op.name, 0.0) + op.duration_s
    whole_s = sum(took_s.values())
    if whole_s <= 0:
        return {}
    shares: dict[str, float] = {}
    for name, duration_s in took_s.items():
        shares[plain(name)] = max(duration_s / whole_s, shares.get(plain(name), 0.0))
    return shares


def _by_kernel(record: Record, leave_out: frozenset[str]) -> dict[str, list[str]]:
    """Plain kernel names, each with the settings of all kernels of that name."""
    by_kernel: dict[str, list[str]] = {}
    for choice in sorted(choices(record, leave_out)):
        by_kernel.setdefault(plain(_kernel(choice)), []).append(_settings(choice))
    return {kernel: sorted(settings) for kernel, settings in by_kernel.items()}


def _libraries(by_kernel: Iterable[str]) -> set[str]:
    return {kernel for kernel in by_kernel if kernel.startswith(LIBRARY)}


def _settings_by_kernel(some: Iterable[str]) -> dict[str, list[str]]:
    by_kernel: dict[str, list[str]] = {}
    for choice in sorted(some):
        by_kernel.setdefault(_kernel(choice), []).append(_settings(choice))
    return by_kernel


def _kernel(choice: str) -> str:
    return choice.partition(":")[0]


def _settings(choice: str) -> str:
    return choice.partition(":")[2].strip()
