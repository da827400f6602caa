"""The call that is timed: every round on other contents in the same memory, and every output checked.

An output that was right once does not prove the next call: a kernel may take another path from its twentieth call on, or
return what it computed before. So each round sees the inputs moved by one more (`attnbench.checks.symmetry`), in place:
rolled along their heads, then in reversed order and rolled again, and so on. The values and the work stay the same, and the
right output is the checked one, moved likewise, so no second reference is needed.
The writes do not touch the version counters of the tensors that the kernel gets, so an output remembered by pointer, shape
or version is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from attnbench.checks.output import plain
from attnbench.checks.symmetry import Flip, Move, Negate, Roll
from attnbench.model import CaseEnded, Reason, Status

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]


class CheckedCall:
    """A call without arguments or result, for the timer, and the hooks that check it between two rounds.

    advance() before a round, compare() right after it, conclude() after the last. They queue work on the device outside the
    timed interval. Outputs are dropped before the next call, so that it gets the memory that users' outputs get.

    unequal: how many rounds had an output that was not bit-equal to the checked one. That alone is no fault; the tolerance
    judges them. torn: whether a time limit interrupted a move, so that the contents are neither the old nor the new ones.
    """

    def __init__(
        self,
        call: Callable[[], Any],
        contents: Tensors,
        checked: Tensors,
        moves: Sequence[Move],
        *,
        ready: Callable[[], None],
        named: Callable[[Any], Tensors],
        spoilt: Callable[[], Sequence[Reason]],
        wrong_form: Callable[[Any], Sequence[Reason]],
        violations: Callable[[Tensors], Sequence[Reason]],
    ) -> None:
        """`checked` are the outputs that were found to be right for the inputs as they are, by name.

        contents: other tensors of the memory of the inputs, which the kernel does not get, by name (`symmetry`).
        ready: what has to happen before every call, untimed: the forward pass of a case that times gradients.
        named: what was returned, by the names of `checked`, once its form was found to be right.
        spoilt: why the inputs are no longer tensors of that memory, which it then makes again; empty where they are.
        wrong_form: why what was returned is not an output of these inputs; empty where it is.
        violations: why outputs for the inputs as they were at first are outside the tolerance; empty where they are within.
        """
        import torch

        self._call = call
        self._contents = contents
        self._checked = dict(checked)
        self._moves = tuple(moves)
        self._ready = ready
        self._named = named
        self._spoilt = spoilt
        self._wrong_form = wrong_form
        self._violations = violations
        self._scratch = {_form(one): torch.empty_like(one) for one in contents.values()}
        self._differs = {_form(one): torch.empty_like(one, dtype=torch.bool) for one in checked.values()}
        device = next(iter(checked.values())).device
        self._any = torch.zeros((), dtype=torch.bool, device=device)
        self._nothing = object()
        self._output: Any = self._nothing
        self._compared = False
        self._round = 0
        self._done = [0] * len(self._moves)  # how often each move was made, below its period
        self.unequal = 0
        self.torn = False

    def __call__(self) -> None:
        """One call. This, and nothing else of this class, may stand in the timed interval."""
        self._output = self._nothing
        self._output = self._call()

    def advance(self) -> None:
        """Settle the last output, let go of it, and move the contents by one more. Raises CaseEnded (incorrect)."""
        self._settle()
        self._round += 1
        for at, move in enumerate(self._moves):
            self._make(at, move, 1)
            if self._done[at]:
                break  # else it has come round: on with the next move

    def ready(self) -> None:
        """Do what has to happen before a call, outside the timed interval."""
        self._ready()

    def compare(self) -> None:
        """Queue the comparison of the output with the checked one; does not wait. Raises CaseEnded (incorrect)."""
        if self._output is self._nothing or self._compared:
            return
        import torch

        if reasons := self._spoilt():
            raise CaseEnded(Status.INCORRECT, *reasons)
        if reasons := self._wrong_form(self._output):
            raise self._wrong(reasons)
        self._any.zero_()
        with torch.no_grad():
            for name, output in self._named(self._output).items():
                self._any.logical_or_(self._differing(name, plain(output)))
        self._compared = True

    def conclude(self) -> None:
        """Settle the last output, and put the contents back as they were at first. Raises CaseEnded (incorrect)."""
        try:
            self._settle()
        finally:
            self.put_back()

    def put_back(self) -> None:
        """Move the contents back to what they were at first, and drop the last output."""
        self._drop()
        for at, move in enumerate(self._moves):  # the last made comes first, as it does when they are made
            self._make(at, move, -self._done[at])

    def give_up(self) -> None:
        """Drop the last output, and leave the contents as they are: the inputs are made again."""
        self._drop()
        self._done = [0] * len(self._moves)

    def _differing(self, name: str, output: torch.Tensor) -> torch.Tensor:
        """Whether any element differs from the checked one, moved as the contents are."""
        import torch

        differs = self._differs[_form(self._checked[name])]
        rolls = self._rolled(name)
        for pieces in product(*(_ranges(output.shape[axis], by) for axis, by in rolls.items())):
            got, right, out = output, self._checked[name], differs
            for axis, (here, there) in zip(rolls, pieces, strict=True):
                got, out = got.narrow(axis, *here), out.narrow(axis, *here)
                right = right.narrow(axis, *there)
            torch.ne(got, right, out=out)
        return differs.any()

    def _settle(self) -> None:
        self.compare()
        if self._output is self._nothing:
            return
        if self._any.item():  # the device is idle by now: whoever timed the call has waited for it
            self.unequal += 1
            outputs = {name: self._as_at_first(name, plain(one)) for name, one in self._named(self._output).items()}
            if reasons := self._violations(outputs):
                raise self._wrong(reasons)
        self._drop()

    def _as_at_first(self, name: str, output: torch.Tensor) -> torch.Tensor:
        """The output for the contents as they were at first, from that for the contents as they are."""
        import torch

        rolls = self._rolled(name)
        output = torch.roll(output, [-by for by in rolls.values()], list(rolls)) if rolls else output
        for move, done in zip(self._moves, self._done, strict=True):
            if done and isinstance(move, Flip):
                output = output.flip(move.axis)
            elif done and isinstance(move, Negate) and name in move.names:
                output = -output
        return output

    def _rolled(self, name: str) -> dict[int, int]:
        """By how much a tensor of this name is rolled now, along each axis."""
        moved = zip(self._moves, self._done, strict=True)
        return {
            move.axis: move.steps[name] * done for move, done in moved if isinstance(move, Roll) and move.steps[name]
        }

    def _drop(self) -> None:
        self._output, self._compared = self._nothing, False

    def _make(self, at: int, move: Move, times: int) -> None:
        """Make a move that often. Flips and signs of the checked outputs go along; their rolls count on reading."""
        period = move.period if isinstance(move, Roll) else 2
        times %= period
        if not times:
            return
        self.torn = True
        if isinstance(move, Roll):
            for name, contents in self._contents.items():
                if by := move.steps[name] * times:
                    self._roll(contents, move.axis, by)
        elif isinstance(move, Flip):
            for contents in self._contents.values():
                contents.copy_(contents.flip(move.axis))
            self._checked = {name: one.flip(move.axis) for name, one in self._checked.items()}
        else:
            for name, contents in self._contents.items():
                if name in move.names:
                    contents.neg_()
            self._checked = {name: -one if name in move.names else one for name, one in self._checked.items()}
        self._done[at] = (self._done[at] + times) % period
        self.torn = False

    def _roll(self, contents: torch.Tensor, axis: int, by: int) -> None:
        size = contents.shape[axis]
        scratch = self._scratch[_form(contents)]
        scratch.copy_(contents)
        for here, there in _ranges(size, by % size):
            contents.narrow(axis, *here).copy_(scratch.narrow(axis, *there))

    def _wrong(self, reasons: Sequence[Reason]) -> CaseEnded:
        when = f"round {self._round}" if self._round else "a warm-up call"
        first, *others = reasons
        timed = Reason("timed-output", f"correct in the accuracy check, wrong in {when} of the timing: {first.text}")
        return CaseEnded(Status.INCORRECT, timed, *others)


def _form(tensor: torch.Tensor) -> tuple[Any, ...]:
    """What two tensors share that can use the same scratch memory."""
    return tuple(tensor.shape), tensor.dtype


def _ranges(size: int, by: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs of `(start, length)`: where a piece goes when `size` is rolled by `by`, and where it comes from."""
    pieces = [((by, size - by), (0, size - by)), ((0, by), (size - by, by))]
    return [piece for piece in pieces if piece[0][1]]
