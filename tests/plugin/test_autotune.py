"""What Inductor's autotuning settled on, read from stand-ins for the modules that it generates on CUDA.

The text of the modules is cut down from what Inductor writes; their kernels are of Inductor's own class, whose launchers
are filled in here as the first run fills them.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from attnbench.backends import autotune

TEMPLATE = """
import triton
import triton.language as tl

@triton_heuristics.template(
num_stages=3,
num_warps=8,
triton_meta={'signature': {'arg_Q': '*bf16'}},
)
@triton.jit
def triton_tem_fused_0(arg_Q, out_ptr0):
    PRESCALE_QK : tl.constexpr = False
    SPARSE_Q_BLOCK_SIZE : tl.constexpr = 1073741824
    GROUP_M : tl.constexpr = 8
    BLOCK_M : tl.constexpr = 128
    BLOCK_N : tl.constexpr = 64
"""
POINTWISE = """
@triton_heuristics.pointwise(size_hints={'x': 1048576})
@triton.jit
def triton_poi_fused_1(in_ptr0, out_ptr0, xnumel, XBLOCK : tl.constexpr):
    pass
"""
GRAPH = f"""
from torch._inductor.async_compile import AsyncCompile
from torch._inductor.select_algorithm import extern_kernels
async_compile = AsyncCompile()

# kernel path: /tmp/torchinductor/ab/cab.py
triton_tem_fused_0 = async_compile.triton('triton_tem_fused_0', '''{TEMPLATE}''', device_str='cuda')

triton_poi_fused_1 = async_compile.triton('triton_poi_fused_1', '''{POINTWISE}''', device_str='cuda')

async_compile.wait(globals())
del async_compile

def call(args):
    # Topologically Sorted Source Nodes: not a call of extern_kernels.mm(
    extern_kernels.bmm(arg0_1, arg1_1, out=buf0)
    triton_tem_fused_0.run(buf0, buf1)
    extern_kernels.bmm(buf1, arg2_1, out=buf2)
"""
TEMPLATE_LINE = "triton_tem_fused_0: GROUP_M=8 BLOCK_M=128 BLOCK_N=64 num_warps=8 num_stages=3"
POINTWISE_LINE = "triton_poi_fused_1: XBLOCK=1024 num_warps=4 num_stages=1"
EXTERN_LINE = "extern_kernels.bmm: 2 calls"


def kernel(*configs, source=None):
    """A kernel of Inductor's class with a launcher per configuration; `source` as far as it came back from a worker."""
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner

    made = CachingAutotuner.__new__(CachingAutotuner)
    made.fn = SimpleNamespace(fn=None, src=source)
    made.launchers = [SimpleNamespace(config=SimpleNamespace(**config)) for config in configs]
    return made


def template(**changes):
    return kernel({"kwargs": {}, "num_warps": 8, "num_stages": 3}, **changes)


def pointwise(**kwargs):
    return kernel({"kwargs": kwargs or {"XBLOCK": 1024}, "num_warps": 4, "num_stages": 1})


@pytest.fixture
def load(monkeypatch, tmp_path):
    """`load(text, name=kernel …)` loads a module as PyCodeCache does; loading nothing before, nothing is loaded."""
    loaded = []
    monkeypatch.setitem(
        sys.modules, "torch._inductor.codecache", SimpleNamespace(PyCodeCache=SimpleNamespace(modules=loaded))
    )

    def load(text, **attributes):
        module = ModuleType(f"generated_{len(loaded)}")
        path = tmp_path / f"{len(loaded)}.py"
        path.write_text(text)
        module.__file__ = str(path)
        vars(module).update(attributes)
        loaded.append(module)
        return module

    return load


def test_every_kernel_of_the_graph_has_a_line_and_libraries_have_theirs(load):
    load(GRAPH, triton_tem_fused_0=template(), triton_poi_fused_1=pointwise(), extern_kernels=object())
    assert autotune.since(()) == (TEMPLATE_LINE, POINTWISE_LINE, EXTERN_LINE)


def test_only_what_was_loaded_since_then_counts(load):
    load(GRAPH, triton_tem_fused_0=template(), triton_poi_fused_1=pointwise())
    known = autotune.loaded_modules()
    assert autotune.since(known) == ()
    load(GRAPH, triton_tem_fused_0=template(), triton_poi_fused_1=pointwise(XBLOCK=256))
    assert autotune.since(known)[1] == "triton_poi_fused_1: XBLOCK=256 num_warps=4 num_stages=1"


def test_the_same_graph_loaded_again_from_the_cache_says_the_same(load):
    shared = {"triton_tem_fused_0": template(), "triton_poi_fused_1": pointwise()}
    load(GRAPH, **shared)
    first, known = autotune.since(()), autotune.loaded_modules()
    load(GRAPH, **shared)  # a module of its own, with the kernels that are loaded already
    assert autotune.since(known) == first
    assert autotune.since(()) == first, "the same kernel is said once"


def test_candidates_of_autotuning_are_no_choice(load):
    load(TEMPLATE, triton_tem_fused_0=kernel({"kwargs": {}, "num_warps": 4, "num_stages": 1}, source=TEMPLATE))
    load(f"{POINTWISE}\ndef call(args): ...\ndef get_args(): ...", triton_poi_fused_1=pointwise(XBLOCK=64))
    assert autotune.since(()) == ()


@pytest.mark.parametrize("configs", [0, 2])
def test_a_kernel_that_has_not_settled_has_no_line(load, configs):
    config = {"kwargs": {"XBLOCK": 1}, "num_warps": 4, "num_stages": 1}
    load(GRAPH, triton_tem_fused_0=template(), triton_poi_fused_1=kernel(*[config] * configs))
    assert autotune.since(()) == (TEMPLATE_LINE, EXTERN_LINE)


def test_a_kernel_that_the_text_does_not_show_is_read_from_its_own_source(load):
    load("AsyncCompile()", triton_tem_fused_0=template(source=TEMPLATE))
    assert autotune.since(()) == (TEMPLATE_LINE,)


def test_the_order_of_a_configuration_does_not_matter(load):
    load(GRAPH, a=pointwise(XBLOCK=1, R0_BLOCK=2), b=pointwise(R0_BLOCK=2, XBLOCK=1))
    a, b, _ = autotune.since(())
    assert a.removeprefix("a: ") == b.removeprefix("b: ") == "R0_BLOCK=2 XBLOCK=1 num_warps=4 num_stages=1"


def test_a_file_that_is_gone_costs_its_own_lines_only(load):
    load(TEMPLATE, __file__="/nonexistent/candidate.py")
    load(GRAPH, triton_tem_fused_0=template())
    assert autotune.since(()) == (TEMPLATE_LINE, EXTERN_LINE)


@pytest.mark.parametrize(
    "attributes",
    [
        {"triton_tem_fused_0": "kernel without a configuration"},
        {"__file__": None},
        {"__file__": "/nonexistent/generated.py"},
    ],
    ids=str,
)
def test_what_cannot_be_read_costs_the_lines_only(load, attributes):
    broken = kernel()
    broken.launchers = [object()]
    load(GRAPH, **{name: broken if name.startswith("triton") else value for name, value in attributes.items()})
    assert autotune.since(()) == ()


@pytest.mark.parametrize("codecache", [None, SimpleNamespace(), SimpleNamespace(PyCodeCache=SimpleNamespace())])
def test_a_torch_that_keeps_its_modules_elsewhere_has_none(monkeypatch, codecache):
    monkeypatch.setitem(sys.modules, "torch._inductor.codecache", codecache)
    assert autotune.loaded_modules() == ()
    assert autotune.since(()) == ()
