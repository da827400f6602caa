"""cuDNN's attention through its Python frontend, with a graph that is built outside the timed call."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from attnbench.backends.device_kernels import CUDNN, CUTLASS, FLASH_4, PACKAGE_FLASH, TORCHS_FLASH
from attnbench.backends.registry import register
from attnbench.backends.requirements import Capability, Device, Distribution, DType, HeadDim
from attnbench.model import Workload
from attnbench.units import cudnn_release

if TYPE_CHECKING:
    import torch

    from attnbench.backends.registry import AttentionFunction


def _cudnn() -> Any:
    """The frontend, on the cuDNN that torch uses.

    Raises RuntimeError where it loaded another one: two of them in one process, and neither is what was asked for.
    """
    import torch  # first: where the frontend finds no libcudnn by its path, it gets the one that is loaded already

    import cudnn  # isort: skip

    loaded, needed = cudnn.backend_version(), torch.backends.cudnn.version()
    if loaded != needed:
        raise RuntimeError(
            f"the cuDNN frontend loaded cuDNN {cudnn_release(loaded)}, needed {cudnn_release(needed or 0)}, which torch "
            "uses: it takes the first libcudnn.so.9 of LD_LIBRARY_PATH, so put the folder of torch's there or none"
        )
    return cudnn


@functools.cache
def _handle() -> Any:
    """cuDNN's handle of this process."""
    return _cudnn().create_handle()


def _planned(workload: Workload) -> tuple[Any, tuple[Any, ...]]:
    """The graph of one workload with its plans ranked and none of them built, and its tensors q, k, v, output.

    Raises cudnnGraphNotSupportedError where there is no plan.
    """
    cudnn = _cudnn()
    batch, seq, heads, head_dim = workload.batch, workload.seq, workload.heads, workload.head_dim
    dim, stride = [batch, heads, seq, head_dim], [seq * heads * head_dim, head_dim, heads * head_dim, 1]
    dtype = cudnn.data_type.BFLOAT16 if workload.dtype == "bf16" else cudnn.data_type.HALF
    graph = cudnn.pygraph(
        name="attention",
        io_data_type=dtype,
        intermediate_data_type=cudnn.data_type.FLOAT,
        compute_data_type=cudnn.data_type.FLOAT,
        handle=_handle(),
    )
    q, k, v = (graph.tensor(dim=dim, stride=stride, data_type=dtype, name=name) for name in "qkv")
    out, _ = graph.sdpa(q=q, k=k, v=v, attn_scale=head_dim**-0.5, generate_stats=False, name="sdpa")
    out.set_output(True).set_dim(dim).set_stride(stride)
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    graph.check_support()
    return graph, (q, k, v, out)


def _refusals(workload: Workload, device: str) -> tuple[str, ...]:
    """cuDNN's own words why it has no plan for this workload; empty when it has one."""
    if device != "cuda":
        return ()
    cudnn = _cudnn()
    try:
        _planned(workload)
    except cudnn.cudnnGraphNotSupportedError as exc:
        return (" ".join(str(exc).split()),)
    return ()


@register(
    "cudnn_frontend",
    "cudnn-frontend",
    layout="bhsd",
    requires=(
        # As a distribution: a folder `cudnn`, which many a project has, would pass for the module.
        Distribution("nvidia-cudnn-frontend"),
        Device("cuda"),
        Capability((8, 0)),
        DType("bf16", "fp16"),
        HeadDim(lambda d: d % 8 == 0, "a multiple of 8"),
    ),
    route={"cuda": CUDNN},
    foreign={"cuda": f"{PACKAGE_FLASH}|{FLASH_4}|{TORCHS_FLASH}|{CUTLASS}"},
    refuses=_refusals,
)
def cudnn_frontend(workload: Workload) -> AttentionFunction:
    """cuDNN through its own Python frontend, one graph of one attention node.

    Output and workspace are allocated in the call, as PyTorch's own adapter does.
    """
    import torch

    cudnn, handle = _cudnn(), _handle()
    graph, (q_in, k_in, v_in, out) = _planned(workload)
    graph.build_plans()
    workspace_bytes = max(1, graph.get_workspace_size())

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        output = torch.empty_like(q)  # and with its strides: transposed back, it is contiguous
        workspace = torch.empty(workspace_bytes, dtype=torch.uint8, device=q.device)
        cudnn.set_stream(handle=handle, stream=torch.cuda.current_stream().cuda_stream)
        graph.execute({q_in: q, k_in: k, v_in: v, out: output}, workspace, handle=handle)
        return output

    return attention
