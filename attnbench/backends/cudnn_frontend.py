"""cuDNN's attention through its Python frontend, with a graph that is built outside the timed call; in e4m3 too."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnbench.backends import e4m3
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

    inputs: its tensors q, k and v. out: its output. given: further tensors, which are the same ones for all calls.
    scales: of a graph in e4m3 what q, k and v are multiplied by, and by what the output is, before it is rounded.
    """

    graph: Any
    inputs: tuple[Any, ...]
    out: Any
    given: Mapping[Any, torch.Tensor]
    scales: tuple[Any, ...] = ()


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


def _planned(workload: Workload, in_e4m3: bool = False) -> Plan:
    """Raises cudnnGraphNotSupportedError where there is no plan. in_e4m3: of q, k, v, the probabilities and the output."""
    cudnn = _cudnn()
    sixteen_bit = cudnn.data_type.BFLOAT16 if workload.dtype == "bf16" else cudnn.data_type.HALF
    dtype = cudnn.data_type.FP8_E4M3 if in_e4m3 else sixteen_bit
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
    options |= {"attn_scale": workload.head_dim**-0.5, "generate_stats": False, "name": "sdpa"}
    scales: tuple[Any, ...] = ()
    if in_e4m3:
        out, scales, constants = _node_in_e4m3(cudnn, graph, (q, k, v), options)
        given = {**given, **constants}
    else:
        out, _ = graph.sdpa(q=q, k=k, v=v, **options)
    form = Form.of(workload.shape, workload)
    out.set_output(True).set_dim(list(form.dim)).set_stride(list(form.stride))
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    graph.check_support()
    return Plan(graph, (q, k, v), out, given, scales)


def _node_in_e4m3(
    cudnn: Any, graph: Any, qkv: tuple[Any, ...], options: Mapping[str, Any]
) -> tuple[Any, tuple[Any, ...], dict[Any, torch.Tensor]]:
    """Output of the attention node in e4m3, the scales that a call gives it, and the tensors that stay the same.

    Probabilities are at most 1, so their scale is known. What cuDNN says of the largest values is not read.
    """
    import torch

    one = {"dim": [1, 1, 1, 1], "stride": [1, 1, 1, 1], "data_type": cudnn.data_type.FLOAT}
    names = ("descale_q", "descale_k", "descale_v", "scale_o", "scale_s", "descale_s")
    scales = {name: graph.tensor(**one, name=name) for name in names}
    out, _, *largest = graph.sdpa_fp8(**dict(zip("qkv", qkv, strict=True)), **scales, **options)
    for amax in largest:
        amax.set_output(True).set_dim(one["dim"]).set_stride(one["stride"]).set_data_type(one["data_type"])
    *of_call, scale_s, descale_s = scales.values()

    def constant(value: float) -> torch.Tensor:
        return torch.full((1, 1, 1, 1), value, dtype=torch.float32, device=type_in_use())

    constants = {scale_s: constant(e4m3.LARGEST), descale_s: constant(1 / e4m3.LARGEST)}
    return out, tuple(of_call), {**constants, **{amax: constant(0.0) for amax in largest}}


def _refusals(workload: Workload, device: str, in_e4m3: bool = False) -> tuple[str, ...]:
    """cuDNN's own words why it has no plan for this workload; empty when it has one."""
    if device != "cuda":
        return ()
    cudnn = _cudnn()
    try:
        _planned(workload, in_e4m3)
    except cudnn.cudnnGraphNotSupportedError as exc:
        return (" ".join(str(exc).split()),)
    return ()


@dataclass(frozen=True)
class Built:
    """A graph that is built, and what it needs to be executed."""

    plan: Plan
    cudnn: Any
    handle: Any
    form: Form
    workspace_bytes: int

    @classmethod
    def of(cls, workload: Workload, in_e4m3: bool = False) -> Built:
        cudnn, handle = _cudnn(), _handle()
        plan = _planned(workload, in_e4m3)
        plan.graph.build_plans()
        workspace_bytes = max(1, plan.graph.get_workspace_size())
        return cls(plan, cudnn, handle, Form.of(workload.shape, workload), workspace_bytes)

    def output(self, qkv: Sequence[torch.Tensor], scales: Sequence[torch.Tensor] = ()) -> torch.Tensor:
        """The output, in memory of its own, on the stream that is current."""
        import torch

        q, plan = qkv[0], self.plan
        output = torch.empty_strided(self.form.dim, self.form.stride, dtype=q.dtype, device=q.device)
        workspace = torch.empty(self.workspace_bytes, dtype=torch.uint8, device=q.device)
        self.cudnn.set_stream(handle=self.handle, stream=torch.cuda.current_stream().cuda_stream)
        of_call = zip((*plan.inputs, *plan.scales), (*qkv, *scales), strict=True)
        plan.graph.execute({**dict(of_call), **plan.given, plan.out: output}, workspace, handle=self.handle)
        return output


#: As a distribution: a folder `cudnn`, which many a project has, would pass for the module.
_INSTALLED = (Distribution("nvidia-cudnn-frontend"), Device("cuda"))
_FOREIGN = {"cuda": f"{PACKAGE_FLASH}|{FLASH_4}|{TORCHS_FLASH}|{CUTLASS}"}


@register(
    "cudnn_frontend",
    "cudnn-frontend",
    layout="bhsd",
    requires=(
        *_INSTALLED,
        Capability((8, 0)),
        DType("bf16", "fp16"),
        HeadDim(lambda d: d % 8 == 0, "a multiple of 8"),
    ),
    takes=("cross", "gqa", "head_dim_v", "causal", "padding", "additive"),
    route={"cuda": CUDNN},
    foreign=_FOREIGN,
    refuses=_refusals,
)
def cudnn_frontend(workload: Workload) -> AttentionFunction:
    """cuDNN through its own Python frontend, one graph of one attention node.

    Output and workspace are allocated in the call, as PyTorch's own adapter does.
    """
    built = Built.of(workload)

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return built.output((q, k, v))

    return attention


@register(
    "cudnn_frontend_fp8",
    "cudnn-frontend",
    tolerance="fp8-output",
    layout="bhsd",
    requires=(
        *_INSTALLED,
        Capability((9, 0)),
        DType("bf16", "fp16"),
        HeadDim(lambda d: d % 16 == 0, "a multiple of 16"),
    ),
    takes=("cross", "gqa", "head_dim_v", "causal", "padding"),
    route={"cuda": CUDNN},
    foreign=_FOREIGN,
    refuses=lambda workload, device: _refusals(workload, device, in_e4m3=True),
    never_run=True,
)
def cudnn_frontend_fp8(workload: Workload) -> AttentionFunction:
    """cuDNN's `sdpa_fp8` through its Python frontend: q, k, v, probabilities and output in e4m3, cast to inside the call.

    q, k and v have a scale each, which the call works out. The output, which is a mean of rows of v, has that of v: on
    Hopper cuDNN has no other type for it. The call takes it back to the caller's.
    """
    built = Built.of(workload, in_e4m3=True)

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        quantised, scales = zip(*(e4m3.scaled(x, (0, 1, 2, 3)) for x in (q, k, v)), strict=True)
        of_v = scales[2]
        output = built.output(quantised, (*scales, of_v.reciprocal()))
        in_dtype: torch.Tensor = output.to(q.dtype) * of_v.view(())  # without axes, so that the product is of q's dtype
        return in_dtype

    return attention
