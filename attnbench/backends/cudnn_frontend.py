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
from attnbench.units import cudnn_release
from attnbench.workload import Workload
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
class Result:
    """A tensor that a graph writes, and its form; in fp32, else in the type of q."""

    tensor: Any
    form: Form
    in_fp32: bool = False


@dataclass(frozen=True)
class Plan:
    """The graph of one workload with its plans ranked and none of them built.

    inputs: its tensors that a call gives: q, k and v, and of a backward pass also the output, its gradient and statistics.
    given: further tensors, which are the same ones for all calls. scales: of a graph in e4m3 what q, k and v are multiplied
    by, and by what the output is, before it is rounded.
    """

    graph: Any
    inputs: tuple[Any, ...]
    results: tuple[Result, ...]
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
    dtype = cudnn.data_type.FP8_E4M3 if in_e4m3 else _sixteen_bit(cudnn, workload)
    graph = _empty_graph(cudnn, dtype)
    qkv = _qkv(graph, workload, dtype)
    options, given = _mask(cudnn, graph, workload, type_in_use())
    has_gradients = workload.direction != "forward"  # whose pass reads the statistics
    options |= {"attn_scale": workload.head_dim**-0.5, "generate_stats": has_gradients, "name": "sdpa"}
    scales: tuple[Any, ...] = ()
    stats = None
    if in_e4m3:
        out, scales, constants = _node_in_e4m3(cudnn, graph, qkv, options)
        given = {**given, **constants}
    else:
        out, stats = graph.sdpa(**dict(zip("qkv", qkv, strict=True)), **options)
    results = [Result(out, Form.of(workload.shape, workload))]
    if has_gradients:
        results.append(Result(stats, _form_of_stats(workload), in_fp32=True))
    return _with_plans(cudnn, Plan(graph, qkv, tuple(results), given, scales))


def _planned_backward(workload: Workload) -> Plan:
    """Of dq, dk and dv. Raises cudnnGraphNotSupportedError where there is no plan."""
    cudnn = _cudnn()
    dtype = _sixteen_bit(cudnn, workload)
    graph = _empty_graph(cudnn, dtype)
    qkv, of_output, of_stats = _qkv(graph, workload, dtype), Form.of(workload.shape, workload), _form_of_stats(workload)
    further = {
        name: graph.tensor(dim=list(form.dim), stride=list(form.stride), data_type=of_type, name=name)
        for name, form, of_type in (
            ("o", of_output, dtype),
            ("dO", of_output, dtype),
            ("stats", of_stats, cudnn.data_type.FLOAT),
        )
    }
    options, given = _mask(cudnn, graph, workload, type_in_use())
    options |= {"attn_scale": workload.head_dim**-0.5, "name": "sdpa_backward"}
    gradients = graph.sdpa_backward(**dict(zip("qkv", qkv, strict=True)), **further, **options)
    shapes = (workload.q_shape, workload.k_shape, workload.v_shape)
    results = (Result(one, Form.of(shape, workload)) for one, shape in zip(gradients, shapes, strict=True))
    return _with_plans(cudnn, Plan(graph, (*qkv, *further.values()), tuple(results), given))


def _sixteen_bit(cudnn: Any, workload: Workload) -> Any:
    return cudnn.data_type.BFLOAT16 if workload.dtype == "bf16" else cudnn.data_type.HALF


def _empty_graph(cudnn: Any, dtype: Any) -> Any:
    return cudnn.pygraph(
        name="attention",
        io_data_type=dtype,
        intermediate_data_type=cudnn.data_type.FLOAT,
        compute_data_type=cudnn.data_type.FLOAT,
        handle=_handle(),
    )


def _qkv(graph: Any, workload: Workload, dtype: Any) -> tuple[Any, ...]:
    return tuple(
        graph.tensor(dim=list(form.dim), stride=list(form.stride), data_type=dtype, name=name)
        for name, shape in zip("qkv", (workload.q_shape, workload.k_shape, workload.v_shape), strict=True)
        for form in (Form.of(shape, workload),)
    )


def _form_of_stats(workload: Workload) -> Form:
    """Of the log-sum-exp of each query, `[batch, heads, seq, 1]`."""
    batch, seq, heads, _ = workload.q_shape
    return Form((batch, heads, seq, 1), (heads * seq, seq, 1, 1))


def _with_plans(cudnn: Any, plan: Plan) -> Plan:
    for result in plan.results:
        result.tensor.set_output(True).set_dim(list(result.form.dim)).set_stride(list(result.form.stride))
        if result.in_fp32:
            result.tensor.set_data_type(cudnn.data_type.FLOAT)
    plan.graph.validate()
    plan.graph.build_operation_graph()
    plan.graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    plan.graph.check_support()
    return plan


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
        if workload.direction != "forward":
            _planned_backward(workload)
    except cudnn.cudnnGraphNotSupportedError as exc:
        return (" ".join(str(exc).split()),)
    return ()


@dataclass(frozen=True)
class Built:
    """A graph that is built, and what it needs to be executed."""

    plan: Plan
    cudnn: Any
    handle: Any
    workspace_bytes: int

    @classmethod
    def of(cls, plan: Plan) -> Built:
        plan.graph.build_plans()
        return cls(plan, _cudnn(), _handle(), max(1, plan.graph.get_workspace_size()))

    def outputs(self, given: Sequence[torch.Tensor], scales: Sequence[torch.Tensor] = ()) -> list[torch.Tensor]:
        """What the graph writes, in memory of its own, on the stream that is current; `given` as `Plan.inputs` has it."""
        import torch

        q, plan = given[0], self.plan
        outputs = [
            torch.empty_strided(
                result.form.dim, result.form.stride, dtype=torch.float32 if result.in_fp32 else q.dtype, device=q.device
            )
            for result in plan.results
        ]
        workspace = torch.empty(self.workspace_bytes, dtype=torch.uint8, device=q.device)
        self.cudnn.set_stream(handle=self.handle, stream=torch.cuda.current_stream().cuda_stream)
        tensors = dict(zip((*plan.inputs, *plan.scales), (*given, *scales), strict=True))
        tensors |= dict(zip((result.tensor for result in plan.results), outputs, strict=True))
        plan.graph.execute({**tensors, **plan.given}, workspace, handle=self.handle)
        return outputs


def _with_gradients(workload: Workload) -> AttentionFunction:
    """The attention with a backward pass, each of them one graph."""
    import torch

    there, back = Built.of(_planned(workload)), Built.of(_planned_backward(workload))
    form = Form.of(workload.shape, workload)

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            output, stats = there.outputs((q, k, v))
            ctx.save_for_backward(q, k, v, output, stats)
            return output

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
            q, k, v, output, stats = ctx.saved_tensors
            if gradient.stride() != form.stride:  # the graph reads it as the output lies in memory
                held = torch.empty_strided(form.dim, form.stride, dtype=gradient.dtype, device=gradient.device)
                gradient = held.copy_(gradient)
            return tuple(back.outputs((q, k, v, output, gradient, stats)))

    apply: AttentionFunction = Attention.apply
    return apply


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
    takes=("cross", "gqa", "head_dim_v", "causal", "padding", "additive", "backward"),
    route={"cuda": CUDNN},
    foreign=_FOREIGN,
    refuses=_refusals,
)
def cudnn_frontend(workload: Workload) -> AttentionFunction:
    """cuDNN through its own Python frontend, one graph of one attention node, and one more for gradients.

    Outputs and workspace are allocated in the call, as PyTorch's own adapter does.
    """
    if workload.direction != "forward":
        return _with_gradients(workload)
    built = Built.of(_planned(workload))

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        (output,) = built.outputs((q, k, v))
        return output

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
)
def cudnn_frontend_fp8(workload: Workload) -> AttentionFunction:
    """cuDNN's `sdpa_fp8` through its Python frontend: q, k, v, probabilities and output in e4m3, cast to inside the call.

    q, k and v have a scale each, which the call works out. The output, which is a mean of rows of v, has that of v: on
    Hopper cuDNN has no other type for it. The call takes it back to the caller's.
    """
    built = Built.of(_planned(workload, in_e4m3=True))

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        quantised, scales = zip(*(e4m3.scaled(x, (0, 1, 2, 3)) for x in (q, k, v)), strict=True)
        of_v = scales[2]
        (output,) = built.outputs(quantised, (*scales, of_v.reciprocal()))
        in_dtype: torch.Tensor = output.to(q.dtype) * of_v.view(())  # without axes, so that the product is of q's dtype
        return in_dtype

    return attention
