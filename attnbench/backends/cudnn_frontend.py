"""cuDNN's attention through its Python frontend, with a graph that is built outside the timed call."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnbench.backends.device_kernels import CUDNN, CUTLASS, FLASH_4, PACKAGE_FLASH, TORCHS_FLASH
from attnbench.backends.registry import register
from attnbench.backends.requirements import Capability, Device, Distribution, DType, HeadDim
from attnbench.hardware.device import type_in_use
from attnbench.model import Workload
from attnbench.units import cudnn_release
from attnbench.workloads import masks

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


@dataclass(frozen=True)
class Form:
    """Axes and strides of a tensor `[batch, heads, seq, head_dim]`."""

    dim: tuple[int, ...]
    stride: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, int, int, int], workload: Workload) -> Form:
        """Of a `[batch, seq, heads, head_dim]` tensor in the memory that the workload's layout has."""
        batch, seq, heads, width = shape
        if workload.layout == "bshd":
            return cls((batch, heads, seq, width), (seq * heads * width, width, heads * width, 1))
        return cls((batch, heads, seq, width), (heads * seq * width, seq * width, width, 1))


@dataclass(frozen=True)
class Plan:
    """The graph of one workload with its plans ranked and none of them built.

    inputs: its tensors q, k and v. out: its output. given: further inputs, which stay the same for all calls.
    """

    graph: Any
    inputs: tuple[Any, ...]
    out: Any
    given: Mapping[Any, torch.Tensor]


def _mask(cudnn: Any, graph: Any, workload: Workload, device: str) -> tuple[dict[str, Any], dict[Any, torch.Tensor]]:
    """Arguments of the attention node for the mask, and the tensors that they name."""
    import torch

    if workload.mask == "causal":  # one is aligned at the first query and key, which equal lengths share
        return {"use_causal_mask" if workload.seq_kv is None else "use_causal_mask_bottom_right": True}, {}
    if workload.mask == "additive":
        given = masks.dense_mask(workload, device)
        assert given is not None
        bias = graph.tensor(dim=list(given.shape), stride=list(given.stride()), name="bias")
        return {"bias": bias}, {bias: given}
    if workload.mask != "padding":
        return {}, {}
    one_each = [workload.batch, 1, 1, 1]
    queries, keys = (
        graph.tensor(dim=one_each, stride=[1, 1, 1, 1], data_type=cudnn.data_type.INT32, name=name)
        for name in ("seq_len_q", "seq_len_kv")
    )
    real = masks.key_lengths(workload, device).view(one_each)
    names = {"use_padding_mask": True, "seq_len_q": queries, "seq_len_kv": keys}
    return names, {queries: torch.full_like(real, workload.seq), keys: real}


def _planned(workload: Workload) -> Plan:
    """Raises cudnnGraphNotSupportedError where there is no plan."""
    cudnn = _cudnn()
    dtype = cudnn.data_type.BFLOAT16 if workload.dtype == "bf16" else cudnn.data_type.HALF
    graph = cudnn.pygraph(
        name="attention",
        io_data_type=dtype,
        intermediate_data_type=cudnn.data_type.FLOAT,
        compute_data_type=cudnn.data_type.FLOAT,
        handle=_handle(),
    )
    q, k, v = (
        graph.tensor(dim=list(form.dim), stride=list(form.stride), data_type=dtype, name=name)
        for name, shape in zip("qkv", (workload.q_shape, workload.k_shape, workload.v_shape), strict=True)
        for form in (Form.of(shape, workload),)
    )
    options, given = _mask(cudnn, graph, workload, type_in_use())
    scale = workload.head_dim**-0.5
    out, _ = graph.sdpa(q=q, k=k, v=v, attn_scale=scale, generate_stats=False, name="sdpa", **options)
    form = Form.of(workload.shape, workload)
    out.set_output(True).set_dim(list(form.dim)).set_stride(list(form.stride))
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    graph.check_support()
    return Plan(graph, (q, k, v), out, given)


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
    takes=("cross", "gqa", "head_dim_v", "causal", "padding", "additive"),
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
    plan, form = _planned(workload), Form.of(workload.shape, workload)
    plan.graph.build_plans()
    workspace_bytes = max(1, plan.graph.get_workspace_size())

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        output = torch.empty_strided(form.dim, form.stride, dtype=q.dtype, device=q.device)
        workspace = torch.empty(workspace_bytes, dtype=torch.uint8, device=q.device)
        cudnn.set_stream(handle=handle, stream=torch.cuda.current_stream().cuda_stream)
        tensors = {**dict(zip(plan.inputs, (q, k, v), strict=True)), **plan.given, plan.out: output}
        plan.graph.execute(tensors, workspace, handle=handle)
        return output

    return attention
