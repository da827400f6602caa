"""The tensors of a workload: seeded, hashed, on the device, in every distribution that accuracy is checked on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench.workload import Workload
from attnbench.workloads.drawing import drawing, gradient_of_output, seeded, shapes, torch_dtype

if TYPE_CHECKING:
    import torch

    from attnbench.workloads.drawing import Triple

#: Checked for every case beside the distribution that is timed.
CHECKED_DISTRIBUTIONS = ("randn", "outlier-k")

#: Name of the gradient of the output among the inputs.
GRADIENT = "do"

#: Words of 16 bits that a checksum takes at once: 16 MiB of products.
WEIGHTS = 2**22


@dataclass(frozen=True)
class Inputs:
    """q, k, v of one workload, with its shapes and held as its layout says, per distribution.

    sets: the tensors that kernels get; leaves that require a gradient, where the workload asks for gradients. kept: other
    tensors of the same memory, which no kernel gets, because a kernel may give its input another shape or other memory.
    gradient: of the output, the same for every distribution; None where no gradients are asked for. sha256: of the bytes of
    the timed q, k and v, in their dtype. checksums: of every tensor, taken on its device with `weights`.
    """

    workload: Workload
    sets: dict[str, Triple]
    kept: dict[str, Triple]
    gradient: torch.Tensor | None
    sha256: str
    checksums: dict[str, tuple[int, ...]]
    weights: torch.Tensor

    @property
    def timed(self) -> Triple:
        return self.sets[self.workload.distribution]

    def reshaped(self) -> tuple[str, ...]:
        """Which tensors no longer are what was made, `q of randn (its shape or its memory)`. Asks the device nothing."""
        return tuple(
            f"{name} of {distribution} (its shape or its memory)"
            for distribution, triples in self._pairs()
            for name, tensor, kept in zip("qkv", *triples, strict=True)
            if _is_reshaped(tensor, kept)
        )

    def overwritten(self) -> tuple[str, ...]:
        """Which tensors no longer hold what was made, `q of randn`: a kernel wrote into its input."""
        return tuple(
            "the gradient of the output" if name == GRADIENT else f"{name} of {distribution}"
            for distribution in self.kept
            for (name, kept), made in zip(
                self.contents(distribution).items(), self.checksums[distribution], strict=True
            )
            if not _is_freed(kept) and _checksum(kept, self.weights) != made
        )

    def restore(self) -> None:
        """Make every tensor again from the seed, in place."""
        import torch

        with torch.inference_mode(False):
            self._restore()

    def _restore(self) -> None:
        with drawing(self.workload, tuple(self.kept)) as drawn:
            for distribution in self.kept:
                made = dict(zip("qkv", drawn(distribution).triple, strict=True))
                for name, kept in self.contents(distribution).items():
                    if _is_freed(kept):
                        kept.untyped_storage().resize_(kept.numel() * kept.itemsize)
                    kept.copy_(gradient_of_output(self.workload) if name == GRADIENT else made[name])

    def renew(self) -> None:
        """Give the next kernel new tensors of the same memory, without what the last kernel did to its tensors."""
        needs_gradient = self.gradient is not None
        self.sets.update({name: _same_memory(triple, needs_gradient) for name, triple in self.kept.items()})

    def contents(self, distribution: str) -> dict[str, torch.Tensor]:
        """The kept tensors by name: "q", "k", "v", and with the timed ones "do", the gradient of the output, if any."""
        named = dict(zip("qkv", self.kept[distribution], strict=True))
        if self.gradient is not None and distribution == self.workload.distribution:
            named[GRADIENT] = self.gradient
        return named

    def _pairs(self) -> Iterator[tuple[str, tuple[Triple, Triple]]]:
        return ((distribution, (triple, self.kept[distribution])) for distribution, triple in self.sets.items())


def make_inputs(workload: Workload, device: str) -> Inputs:
    """Make all input sets from the workload's seed, on the CPU's generator, then move them to `device`.

    They are ordinary tensors also inside of somebody's `torch.inference_mode()`, for the cases behind it need not be in it.
    Raises ValueError for an unknown distribution, and torch's own error when the device has too little memory.
    """
    import torch

    with torch.inference_mode(False):
        return _make(workload, device)


def _make(workload: Workload, device: str) -> Inputs:
    names = tuple(dict.fromkeys((workload.distribution, *CHECKED_DISTRIBUTIONS)))
    sets: dict[str, Triple] = {}
    with ThreadPoolExecutor(1) as beside, drawing(workload, names) as drawn:
        sha256 = beside.submit(lambda: drawn(workload.distribution).sha256)  # takes as long as moving all of them
        for name in names:
            q, k, v = (_held(tensor.to(device, copy=True), workload.layout) for tensor in drawn(name).triple)
            sets[name] = (q, k, v)
    weights = _weights(q).to(device)
    needs_gradient = workload.direction != "forward"
    gradient = _held(gradient_of_output(workload).to(device), workload.layout) if needs_gradient else None
    checksums = {name: tuple(_checksum(tensor, weights) for tensor in triple) for name, triple in sets.items()}
    if gradient is not None:
        checksums[workload.distribution] += (_checksum(gradient, weights),)
    kept = {name: _same_memory(triple, False) for name, triple in sets.items()}
    sets = {name: _same_memory(triple, needs_gradient) for name, triple in sets.items()}
    return Inputs(workload, sets, kept, gradient, sha256.result(), checksums, weights)


def _same_memory(triple: Triple, needs_gradient: bool) -> Triple:
    """Other tensors of the same memory, each with a version counter of its own, and a leaf for gradients if it needs one."""
    q, k, v = (tensor.data.requires_grad_(needs_gradient) for tensor in triple)
    return q, k, v


def _held(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    """The same `[batch, seq, heads, head_dim]` tensor in the memory that a caller with this layout has."""
    return tensor.transpose(1, 2).contiguous().transpose(1, 2) if layout == "bhsd" else tensor


def _is_freed(tensor: torch.Tensor) -> bool:
    """Whether its memory was freed; reading it would crash the process."""
    return tensor.untyped_storage().nbytes() < tensor.numel() * tensor.itemsize


def _is_reshaped(tensor: torch.Tensor, kept: torch.Tensor) -> bool:
    forms = [(one.layout, one.dtype, one.shape) for one in (tensor, kept)]
    if forms[0] != forms[1] or _is_freed(kept):
        return True
    return tensor.stride() != kept.stride() or tensor.data_ptr() != kept.data_ptr()


def _weights(tensor: torch.Tensor) -> torch.Tensor:
    """Random numbers of 32 bits, one for each 16-bit word of the tensor up to `WEIGHTS`."""
    import torch

    count = min(WEIGHTS, tensor.numel() * tensor.itemsize // 2)
    return torch.randint(-(2**31), 2**31, (count,), dtype=torch.int32, device="cpu", generator=seeded(0))


def _checksum(tensor: torch.Tensor, weights: torch.Tensor) -> int:
    """Sum of the tensor's 16-bit words, each times a weight of its place, on its own device.

    Whatever is written there changes it, and so do right values in wrong places. The weights repeat after `WEIGHTS`
    words, so each stretch of that many has a weight as well.
    """
    import torch

    held = tensor.detach()
    held = held if held.is_contiguous() else held.transpose(1, 2)
    words = held.reshape(-1).view(torch.int16)
    total = 0
    for at, stretch in enumerate(words.split(len(weights))):
        products = stretch.to(torch.int32) * weights[: len(stretch)]  # wraps, which loses nothing that tells them apart
        total += int(products.sum(dtype=torch.int64).item()) * (2 * at + 1)
    return total


def probe(workload: Workload, device: str) -> Triple:
    """q, k, v of the workload's shapes, layout and dtype with nothing in them, to ask a library about."""
    import torch

    q, k, v = (
        _held(torch.empty(shape, dtype=torch_dtype(workload), device=device), workload.layout)
        for shape in shapes(workload)
    )
    return q, k, v
