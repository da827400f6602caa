"""The tensors of a workload: seeded, hashed, on the device, in every distribution that accuracy is checked on."""

from __future__ import annotations

import functools
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench.workload import Workload
from attnbench.workloads.table import TORCH_DTYPES

if TYPE_CHECKING:
    import torch

    Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    Draw = Callable[[tuple[int, ...], torch.Generator], torch.Tensor]

#: Checked for every case beside the distribution that is timed.
CHECKED_DISTRIBUTIONS = ("randn", "outlier-k")

#: Channels of K that "outlier-k" shifts, and by how much: a bias that all tokens share is what SageAttention's paper
#: (arXiv:2410.02367, section 4.2) finds in diffusion transformers, and what smoothing K removes.
OUTLIER_CHANNELS, OUTLIER_SHIFT = 4, 8.0

#: Name of the gradient of the output among the inputs.
GRADIENT = "do"

#: Words of 16 bits that a checksum takes at once: 16 MiB of products.
WEIGHTS = 2**22

#: q, k and v of at most so many bytes together stay on the CPU for the next workload: of two draws, so up to 2 GiB.
KEPT_BYTES = 2**30

#: Elements of a tensor that one generator draws. Larger ones are drawn in pieces of this many, each with a generator of its
#: own, on all cores: a billion numbers would take one core ten seconds. More than any Flux workload has at 1024 px.
PIECE = 2**24


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
        with _drawing(self.workload, tuple(self.kept)) as drawn:
            for distribution in self.kept:
                made = dict(zip("qkv", drawn(distribution).triple, strict=True))
                for name, kept in self.contents(distribution).items():
                    if _is_freed(kept):
                        kept.untyped_storage().resize_(kept.numel() * kept.itemsize)
                    kept.copy_(_gradient(self.workload) if name == GRADIENT else made[name])

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
    with ThreadPoolExecutor(1) as beside, _drawing(workload, names) as drawn:
        sha256 = beside.submit(lambda: drawn(workload.distribution).sha256)  # takes as long as moving all of them
        for name in names:
            q, k, v = (_held(tensor.to(device, copy=True), workload.layout) for tensor in drawn(name).triple)
            sets[name] = (q, k, v)
    weights = _weights(q).to(device)
    needs_gradient = workload.direction != "forward"
    gradient = _held(_gradient(workload).to(device), workload.layout) if needs_gradient else None
    checksums = {name: tuple(_checksum(tensor, weights) for tensor in triple) for name, triple in sets.items()}
    if gradient is not None:
        checksums[workload.distribution] += (_checksum(gradient, weights),)
    kept = {name: _same_memory(triple, False) for name, triple in sets.items()}
    sets = {name: _same_memory(triple, needs_gradient) for name, triple in sets.items()}
    return Inputs(workload, sets, kept, gradient, sha256.result(), checksums, weights)


def _gradient(workload: Workload) -> torch.Tensor:
    """A gradient of the output: normal numbers of a seed of its own."""
    drawn = _draw_one(workload.shape, _generator(workload.seed + 1), torch_dtype(workload), _normal)
    try:
        return drawn.whole()
    finally:
        drawn.cancel()  # what an exception leaves


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


@dataclass(frozen=True)
class _Tensor:
    """A tensor on the CPU that other threads still fill."""

    filling: torch.Tensor
    pieces: tuple[Future[None], ...]

    def whole(self) -> torch.Tensor:
        """The tensor, once it is filled. Raises what filling it raised."""
        for piece in self.pieces:
            piece.result()
        return self.filling

    def cancel(self) -> None:
        """Leave out the pieces that nobody has begun."""
        for piece in self.pieces:
            piece.cancel()


@dataclass(frozen=True)
class _Drawn:
    """q, k, v on the CPU, contiguous; not to be written to, because the next workload may have the same.

    left: the state of the generator behind them.
    """

    tensors: tuple[_Tensor, ...]
    left: torch.Tensor

    @property
    def triple(self) -> Triple:
        q, k, v = (one.whole() for one in self.tensors)
        return q, k, v

    @functools.cached_property
    def sha256(self) -> str:
        """Of their bytes."""
        import torch

        digest = hashlib.sha256()
        for one in self.tensors:
            digest.update(one.whole().view(torch.uint8).numpy().data)
        return digest.hexdigest()


@contextmanager
def _drawing(workload: Workload, distributions: Iterable[str]) -> Iterator[Callable[[str], _Drawn]]:
    """Begin to draw what the workload's tensors hold by these distributions, side by side; each is asked for by its name.

    Raises ValueError for an unknown distribution. Where something is raised inside, what is not begun is not drawn, and
    nothing is kept for the next workload.
    """
    for name in distributions:
        if name not in DISTRIBUTIONS:
            known = ", ".join(DISTRIBUTIONS)
            raise ValueError(f"workload {workload.name!r}: unknown distribution {name!r}; known: {known}")
    draw: Callable[[Workload, str], _Drawn] = _drawn_before
    if sum(map(math.prod, _shapes(workload))) * torch_dtype(workload).itemsize > KEPT_BYTES:
        _drawn_before.cache_clear()
        draw = _draw
    begun: dict[str, Future[_Drawn]] = {}
    try:
        with ThreadPoolExecutor() as pool:
            for numbers in dict.fromkeys(DISTRIBUTIONS[name].draws for name in distributions):
                begun[numbers] = pool.submit(draw, _without_mask(workload), numbers)
        yield lambda name: DISTRIBUTIONS[name].made(begun[DISTRIBUTIONS[name].draws].result())
    except BaseException:
        _drawn_before.cache_clear()
        for one in begun.values():
            if one.done() and one.exception() is None:
                for tensor in one.result().tensors:
                    tensor.cancel()
        raise


def _without_mask(workload: Workload) -> Workload:
    """All that q, k and v depend on, and nothing else."""
    sizes = ("batch", "seq", "heads", "head_dim", "dtype", "seed", "seq_kv", "kv_heads", "head_dim_v")
    return Workload("", **{name: getattr(workload, name) for name in sizes})


def _draw(workload: Workload, numbers: str) -> _Drawn:
    generator, dtype = _generator(workload.seed), torch_dtype(workload)
    tensors = tuple(_draw_one(shape, generator, dtype, NUMBERS[numbers]) for shape in _shapes(workload))
    return _Drawn(tensors, generator.get_state())


#: Consecutive workloads of a grid often differ in the mask or the direction alone.
_drawn_before = functools.lru_cache(maxsize=2)(_draw)


def _generator(seed: int) -> torch.Generator:
    import torch

    return torch.Generator(device="cpu").manual_seed(seed)


def _weights(tensor: torch.Tensor) -> torch.Tensor:
    """Random numbers of 32 bits, one for each 16-bit word of the tensor up to `WEIGHTS`."""
    import torch

    count = min(WEIGHTS, tensor.numel() * tensor.itemsize // 2)
    return torch.randint(-(2**31), 2**31, (count,), dtype=torch.int32, device="cpu", generator=_generator(0))


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


def torch_dtype(workload: Workload) -> torch.dtype:
    """The dtype of the workload's tensors."""
    import torch

    dtype = getattr(torch, TORCH_DTYPES[workload.dtype])
    assert isinstance(dtype, torch.dtype)
    return dtype


def probe(workload: Workload, device: str) -> Triple:
    """q, k, v of the workload's shapes, layout and dtype with nothing in them, to ask a library about."""
    import torch

    q, k, v = (
        _held(torch.empty(shape, dtype=torch_dtype(workload), device=device), workload.layout)
        for shape in _shapes(workload)
    )
    return q, k, v


def _shapes(workload: Workload) -> tuple[tuple[int, int, int, int], ...]:
    return (workload.q_shape, workload.k_shape, workload.v_shape)


def _draw_one(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, draw: Draw) -> _Tensor:
    """What `draw` draws, in `dtype`: the same on every machine, however many cores it has."""
    import torch

    count = math.prod(shape)
    if count <= PIECE:
        return _Tensor(draw(shape, generator).to(dtype), ())
    seed = int(torch.randint(2**62, (), generator=generator, dtype=torch.int64, device="cpu").item())
    filling = torch.empty(shape, dtype=dtype, device="cpu")
    pieces = filling.view(-1).split(PIECE)

    def fill(at: int) -> None:
        pieces[at].copy_(draw(tuple(pieces[at].shape), _generator(seed + at)))

    pool = ThreadPoolExecutor(os.cpu_count())
    filled = tuple(pool.submit(fill, at) for at in range(len(pieces)))
    pool.shutdown(wait=False)  # the next tensor is drawn beside it
    return _Tensor(filling, filled)


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Drawn in float32 on the CPU, whatever default dtype and device somebody has set."""
    import torch

    return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")


def _wide(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """randn × randint(1, 5), element-wise."""
    import torch

    normal = _normal(shape, generator)
    # The same integers as in int64, in an eighth of the memory.
    return normal.mul_(torch.randint(1, 5, shape, generator=generator, dtype=torch.uint8, device="cpu"))


def _with_outliers(drawn: _Drawn) -> _Drawn:
    """The same with a few channels of K shifted far out, the same ones for every token and head."""
    import torch

    generator = torch.Generator(device="cpu")
    generator.set_state(drawn.left)
    q, k, v = drawn.triple
    channels = torch.randperm(k.shape[-1], generator=generator, device="cpu")[:OUTLIER_CHANNELS]
    shifted = k.clone()
    shifted[..., channels] += OUTLIER_SHIFT
    return _Drawn(tuple(_Tensor(one, ()) for one in (q, shifted, v)), drawn.left)


@dataclass(frozen=True)
class Distribution:
    """draws: which of `NUMBERS`. made: what becomes of the tensors that were drawn."""

    draws: str
    made: Callable[[_Drawn], _Drawn] = lambda drawn: drawn


#: What can be drawn. The wider values are those that the public Flux benchmark uses.
NUMBERS: dict[str, Draw] = {"randn*randint(1,5)": _wide, "randn": _normal}

DISTRIBUTIONS = {
    "randn*randint(1,5)": Distribution("randn*randint(1,5)"),
    "randn": Distribution("randn"),
    "outlier-k": Distribution("randn", _with_outliers),
}
