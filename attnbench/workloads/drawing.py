"""What q, k and v of a workload hold: seeded numbers of a distribution, drawn on the CPU by all of its cores.

The same on every machine, so that a stored session can be compared with a run by the hash of its inputs.
"""

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

#: Channels of K that "outlier-k" shifts, and by how much: a bias that all tokens share is what SageAttention's paper
#: (arXiv:2410.02367, section 4.2) finds in diffusion transformers, and what smoothing K removes.
OUTLIER_CHANNELS, OUTLIER_SHIFT = 4, 8.0

#: q, k and v of at most so many bytes together stay on the CPU for the next workload: of two draws, so up to 2 GiB.
KEPT_BYTES = 2**30

#: Elements of a tensor that one generator draws. Larger ones are drawn in pieces of this many, each with a generator of its
#: own, on all cores: a billion numbers would take one core ten seconds. More than any Flux workload has at 1024 px.
PIECE = 2**24


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
class Drawn:
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
def drawing(workload: Workload, distributions: Iterable[str]) -> Iterator[Callable[[str], Drawn]]:
    """Begin to draw what the workload's tensors hold by these distributions, side by side; each is asked for by its name.

    Raises ValueError for an unknown distribution. Where something is raised inside, what is not begun is not drawn, and
    nothing is kept for the next workload.
    """
    for name in distributions:
        if name not in DISTRIBUTIONS:
            known = ", ".join(DISTRIBUTIONS)
            raise ValueError(f"workload {workload.name!r}: unknown distribution {name!r}; known: {known}")
    draw: Callable[[Workload, str], Drawn] = _drawn_before
    if sum(map(math.prod, shapes(workload))) * torch_dtype(workload).itemsize > KEPT_BYTES:
        _drawn_before.cache_clear()
        draw = _draw
    begun: dict[str, Future[Drawn]] = {}
    try:
        with ThreadPoolExecutor() as pool:
            for numbers in dict.fromkeys(DISTRIBUTIONS[name].draws for name in distributions):
                begun[numbers] = pool.submit(draw, _without_mask(workload), numbers)
        yield lambda name: DISTRIBUTIONS[name].made(begun[DISTRIBUTIONS[name].draws].result())
    except BaseException:
        _drawn_before.cache_clear()
        for one in begun.values():
            if one.exception() is None:
                for tensor in one.result().tensors:
                    tensor.cancel()
        raise


def _without_mask(workload: Workload) -> Workload:
    """All that q, k and v depend on, and nothing else."""
    sizes = ("batch", "seq", "heads", "head_dim", "dtype", "seed", "seq_kv", "kv_heads", "head_dim_v")
    return Workload("", **{name: getattr(workload, name) for name in sizes})


def _draw(workload: Workload, numbers: str) -> Drawn:
    generator, dtype = seeded(workload.seed), torch_dtype(workload)
    tensors = tuple(_draw_one(shape, generator, dtype, NUMBERS[numbers]) for shape in shapes(workload))
    return Drawn(tensors, generator.get_state())


#: Consecutive workloads of a grid often differ in the mask or the direction alone.
_drawn_before = functools.lru_cache(maxsize=2)(_draw)


def seeded(seed: int) -> torch.Generator:
    """A generator of the CPU with this seed."""
    import torch

    return torch.Generator(device="cpu").manual_seed(seed)


def gradient_of_output(workload: Workload) -> torch.Tensor:
    """A gradient of the output: normal numbers of a seed of its own."""
    drawn = _draw_one(workload.shape, seeded(workload.seed + 1), torch_dtype(workload), _normal)
    try:
        return drawn.whole()
    finally:
        drawn.cancel()  # what an exception leaves


def torch_dtype(workload: Workload) -> torch.dtype:
    """The dtype of the workload's tensors."""
    import torch

    dtype = getattr(torch, TORCH_DTYPES[workload.dtype])
    assert isinstance(dtype, torch.dtype)
    return dtype


def shapes(workload: Workload) -> tuple[tuple[int, int, int, int], ...]:
    """Those of q, k and v."""
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
        pieces[at].copy_(draw(tuple(pieces[at].shape), seeded(seed + at)))

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


def _with_outliers(drawn: Drawn) -> Drawn:
    """The same with a few channels of K shifted far out, the same ones for every token and head."""
    import torch

    generator = torch.Generator(device="cpu")
    generator.set_state(drawn.left)
    q, k, v = drawn.triple
    channels = torch.randperm(k.shape[-1], generator=generator, device="cpu")[:OUTLIER_CHANNELS]
    shifted = k.clone()
    shifted[..., channels] += OUTLIER_SHIFT
    return Drawn(tuple(_Tensor(one, ()) for one in (q, shifted, v)), drawn.left)


@dataclass(frozen=True)
class Distribution:
    """draws: which of `NUMBERS`. made: what becomes of the tensors that were drawn."""

    draws: str
    made: Callable[[Drawn], Drawn] = lambda drawn: drawn


#: What can be drawn. The wider values are those that the public Flux benchmark uses.
NUMBERS: dict[str, Draw] = {"randn*randint(1,5)": _wide, "randn": _normal}

DISTRIBUTIONS = {
    "randn*randint(1,5)": Distribution("randn*randint(1,5)"),
    "randn": Distribution("randn"),
    "outlier-k": Distribution("randn", _with_outliers),
}
