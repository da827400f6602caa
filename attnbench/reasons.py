"""How the reasons of a case are told: of many errors of one kernel the first few, and how many more there are."""

from __future__ import annotations

from collections.abc import Sequence

from attnbench.model import Reason

#: Codes of what is found out of tolerance: a wrong kernel breaks several in each of its outputs, on all input sets.
ERRORS = ("nonfinite", "tolerance", "dropout")
#: So many of them are told.
MOST_TOLD = 3


def told(reasons: Sequence[Reason], *, whole: bool, where: str = "-v names them") -> tuple[str, ...]:
    """The sentences of `reasons`, of which the errors behind the first `MOST_TOLD` are one.

    whole: all of them, as the user asked. where: in words, where the others are told.
    """
    number = sum(reason.code in ERRORS for reason in reasons)
    if whole or number <= MOST_TOLD + 1:  # a sentence that stands for one other spares nothing
        return tuple(reason.text for reason in reasons)
    texts, seen = [], 0
    for reason in reasons:
        seen += reason.code in ERRORS
        if reason.code not in ERRORS or seen <= MOST_TOLD:
            texts.append(reason.text)
        elif seen == number:  # where the last of them stood
            texts.append(f"{number - MOST_TOLD} more errors ({where})")
    return tuple(texts)


def worst_first(checks: Sequence[Sequence[Reason]]) -> tuple[Reason, ...]:
    """The reasons of several checks, each worst first: the worst of each check, then all others."""
    worst = [one for reasons in checks for one in reasons[:1]]
    return (*worst, *(one for reasons in checks for one in reasons[1:]))
