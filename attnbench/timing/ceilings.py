"""What this GPU reaches in a matrix product and in a copy: the roofs that attention is held against.

Both are paced rounds on a settled clock, as those of a case are, so that a share is of like against like. A datasheet's peak
is computed for a boost clock, whatever the power.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from attnbench import printable, torch_private
from attnbench.hardware.device import release_memory
from attnbench.hardware.sm_clock import sm_clock
from attnbench.model import DeviceCeilings
from attnbench.stats import median_s
from attnbench.timing.pacer import CudaPacer

#: Rows and columns of the square bf16 product, bytes of the tensor that is copied, and rounds of each.
MATMUL_SIZE, COPIED_BYTES, ROUNDS = 8192, 2**30, 10
#: What the simulated device reaches.
SIMULATED = DeviceCeilings("8192x8192x8192 bf16", 800e12, 2**31, 4e12)


def device_ceilings(device: str) -> DeviceCeilings:
    """Both ceilings of this process's device, measured anew. What cannot be measured is None, and the note says why."""
    if device == "sim":
        return SIMULATED
    if device != "cuda":
        return DeviceCeilings(note=f"--attn-roofline measures CUDA devices, found {device}")
    began = time.perf_counter()
    matmul_s, no_matmul = _measured("product", _matmul)
    copy_s, no_copy = _measured("copy", _copy)
    return DeviceCeilings(
        f"{MATMUL_SIZE}x{MATMUL_SIZE}x{MATMUL_SIZE} bf16",
        2 * MATMUL_SIZE**3 / matmul_s if matmul_s else None,
        2 * COPIED_BYTES,
        2 * COPIED_BYTES / copy_s if copy_s else None,
        note="; ".join(filter(None, (no_matmul, no_copy))),
        spent_s=time.perf_counter() - began,
    )


def _measured(what: str, make: Callable[[], Callable[[], None]]) -> tuple[float | None, str]:
    """Median seconds of what `make` gives, or why there are none; its memory is free again afterwards."""
    try:
        return _median_s(make), ""
    except Exception as exc:  # too little memory is free, or the host is too slow: the run goes on without
        return None, printable.message(f"the {what} was not measured: {type(exc).__name__}: {exc}")
    finally:
        torch_private.clear_cublas_workspaces()
        release_memory("cuda")


def _median_s(make: Callable[[], Callable[[], None]]) -> float:
    """A frame of its own: with it the tensors are let go of, and only then memory can be given back."""
    pacer = CudaPacer(sm_clock(), make())
    pacer.warm_up()
    return median_s([pacer.round_s() for _ in range(ROUNDS)])


def _matmul() -> Callable[[], None]:
    """A square bf16 product of normal random numbers: zeros would draw less power, and be faster."""
    import torch

    generator = torch.Generator("cuda").manual_seed(0)
    size = (MATMUL_SIZE, MATMUL_SIZE)
    left, right = (torch.randn(size, generator=generator, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product = torch.empty_like(left)

    def call() -> None:
        with torch.no_grad():
            torch.matmul(left, right, out=product)

    return call


def _copy() -> Callable[[], None]:
    """One tensor into another, both far larger than the L2 cache."""
    import torch

    source = torch.ones(COPIED_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    def call() -> None:
        target.copy_(source)

    return call
