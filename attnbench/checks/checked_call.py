"""The call that is timed: every round on other contents in the same memory, and every output checked.

An output that was right once does not prove the next call: a kernel may take another path from its twentieth call on, or
return what it computed before. So each round sees the inputs rolled by one more along their heads, in place. After all
heads, their order is reversed and rolled again; after that, the rows of q are rolled. The values and the work stay the same,
and the right output is the checked one, moved likewise, so no second reference is needed. Rows come last, because a kernel
that quantises blocks of rows returns other bits when they move.
The writes do not touch the version counters of the tensors that the kernel gets, so an output remembered by pointer, shape
or version is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from attnbench.checks.output import plain
from attnbench.model import CaseEnded, Reason, Status

if TYPE_CHECKING:
    import torch

#: Axes of [batch, seq, heads, head_dim].
BATCH, SEQ, HEADS = 0, 1, 2


class CheckedCall:
    """A call without arguments or result, for the timer, and the hooks that check it between two rounds.

    advance() before a round, compare() right after it, conclude() after the last. They queue work on the device outside the
    timed interval. An output is dropped before the next call, so that it gets the memory that users' outputs get.

    unequal: how many outputs were not bit-equal to the checked one. That alone is no fault; the tolerance judges them.
    torn: whether a time limit interrupted a roll, so that the contents are neither the old nor the new ones.
    """

    def __init__(
        self,
        call: Callable[..., Any],
        inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        contents: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        checked: torch.Tensor,
        spoilt: Callable[[], Sequence[Reason]],
        wrong_form: Callable[[Any], Sequence[Reason]],
        violations: Callable[[torch.Tensor], Sequence[Reason]],
    ) -> None:
        """`checked` is the output that was found to be right for `inputs` as they are, each `[batch, seq, heads, head_dim]`.

        contents: other tensors of the memory of `inputs`, which the kernel does not get.
        spoilt: why the inputs are no longer tensors of that memory, which it then makes again; empty where they are.
        wrong_form: why a returned object is not an output of these inputs; empty where it is.
        violations: why an output for the inputs as they were at first is outside the tolerance; empty where it is within.
        """
        import torch

        self._call = call
        self._inputs = inputs
        self._checked = checked
        self._spoilt = spoilt
        self._wrong_form = wrong_form
        self._violations = violations
        # Every query sees the same keys, so rows are rolled of q alone, and of the output with them.
        self._rolled = {HEADS: contents, SEQ: contents[:1], BATCH: contents}
        self._scratch = torch.empty_like(contents[0])
        self._differs = torch.empty_like(checked, dtype=torch.bool)
        self._any = torch.zeros((), dtype=torch.bool, device=checked.device)
        self._nothing = object()
        self._output: Any = self._nothing
        self._compared = False
        self._round = 0
        self._by = dict.fromkeys(self._rolled, 0)  # by how much the contents are rolled now along each axis
        self._reversed = (
            False  # whether heads, and those of the checked output, are in the other order, before they are rolled
        )
        self.unequal = 0
        self.torn = False

    def __call__(self) -> None:
        """One call. This, and nothing else of this class, may stand in the timed interval."""
        import torch

        self._output = self._nothing
        with torch.no_grad():
            self._output = self._call(*self._inputs)

    def advance(self) -> None:
        """Settle the last output, let go of it, and roll the contents by one more. Raises CaseEnded (incorrect)."""
        self._settle()
        self._round += 1
        for axis in self._rolled:
            self._roll(axis, 1)
            if self._by[axis]:
                return  # else it has come round, or has one place only: on with the next axis
            if axis == HEADS and self._checked.shape[HEADS] > 2:  # of two, the other order is the one rolled by one
                self._reverse()
                if self._reversed:
                    return

    def compare(self) -> None:
        """Queue the comparison of the output with the checked one; does not wait. Raises CaseEnded (incorrect)."""
        if self._output is self._nothing or self._compared:
            return
        import torch

        if reasons := self._spoilt():
            raise CaseEnded(Status.INCORRECT, *reasons)
        if reasons := self._wrong_form(self._output):
            raise self._wrong(reasons)
        output = plain(self._output)
        with torch.no_grad():
            for pieces in product(*(_ranges(output.shape[axis], by) for axis, by in self._by.items())):
                got, right, differs = output, self._checked, self._differs
                for axis, (here, there) in zip(self._by, pieces, strict=True):
                    got, differs = got.narrow(axis, *here), differs.narrow(axis, *here)
                    right = right.narrow(axis, *there)
                torch.ne(got, right, out=differs)
            torch.any(self._differs, out=self._any)
        self._compared = True

    def conclude(self) -> None:
        """Settle the last output, and put the contents back as they were at first. Raises CaseEnded (incorrect)."""
        try:
            self._settle()
        finally:
            self.put_back()

    def put_back(self) -> None:
        """Roll the contents back to what they were at first, and drop the last output."""
        self._drop()
        for axis, by in self._by.items():
            self._roll(axis, -by)
        if self._reversed:
            self._reverse()

    def give_up(self) -> None:
        """Drop the last output, and leave the contents as they are: the inputs are made again."""
        self._drop()
        self._by, self._reversed = dict.fromkeys(self._rolled, 0), False

    def _settle(self) -> None:
        self.compare()
        if self._output is self._nothing:
            return
        if self._any.item():  # the device is idle by now: whoever timed the call has waited for it
            self.unequal += 1
            import torch

            back = torch.roll(plain(self._output), [-by for by in self._by.values()], list(self._by))
            if reasons := self._violations(back.flip(HEADS) if self._reversed else back):
                raise self._wrong(reasons)
        self._drop()

    def _drop(self) -> None:
        self._output, self._compared = self._nothing, False

    def _roll(self, axis: int, by: int) -> None:
        size = self._checked.shape[axis]
        by %= size
        if not by:
            return
        self.torn = True
        for contents in self._rolled[axis]:
            self._scratch.copy_(contents)
            for here, there in _ranges(size, by):
                contents.narrow(axis, *here).copy_(self._scratch.narrow(axis, *there))
        self._by[axis] = (self._by[axis] + by) % size
        self.torn = False

    def _reverse(self) -> None:
        self.torn = True
        for contents in self._rolled[HEADS]:
            contents.copy_(contents.flip(HEADS))
        self._checked = self._checked.flip(HEADS)
        self._reversed = not self._reversed
        self.torn = False

    def _wrong(self, reasons: Sequence[Reason]) -> CaseEnded:
        when = f"round {self._round}" if self._round else "a warm-up call"
        first, *others = reasons
        timed = Reason("timed-output", f"correct in the accuracy check, wrong in {when} of the timing: {first.text}")
        return CaseEnded(Status.INCORRECT, timed, *others)


def _ranges(size: int, by: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs of `(start, length)`: where a piece goes when `size` is rolled by `by`, and where it comes from."""
    pieces = [((by, size - by), (0, size - by)), ((0, by), (size - by, by))]
    return [piece for piece in pieces if piece[0][1]]
