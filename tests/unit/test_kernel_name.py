"""Kernels of the Hub by name: the form that is asked for, the one that a backend has, and neither for what is no kernel."""

from __future__ import annotations

import pytest

from attnbench.backends.hub.hf_kernels import asked_for, backend
from attnbench.backends.hub.kernel_name import HubKernel, hub_kernel
from attnbench.globs import UnknownName

COMMIT = "0123456789abcdef0123456789abcdef01234567"
KERNELS = [
    (
        "hf:kernels-community/flash-attn2@3",
        "hf--kernels-community--flash-attn2--3",
        HubKernel("kernels-community/flash-attn2", "3"),
        {"version": 3},
    ),
    ("hf:me/mine@v3", "hf--me--mine--v3", HubKernel("me/mine", "v3"), {"revision": "v3"}),
    (f"hf:me/mine@{COMMIT}", f"hf--me--mine--{COMMIT}", HubKernel("me/mine", COMMIT), {"revision": COMMIT}),
    (
        "hf:me/my.kernel_2@v1.2.0-rc1+cu13:attention",
        "hf--me--my.kernel_2--v1.2.0-rc1+cu13--attention",
        HubKernel("me/my.kernel_2", "v1.2.0-rc1+cu13", "attention"),
        {"revision": "v1.2.0-rc1+cu13"},
    ),
    (
        "hf:me/mine@refs/pr/1:interface.flash_attn_func",
        "hf--me--mine--refs%2Fpr%2F1--interface.flash_attn_func",
        HubKernel("me/mine", "refs/pr/1", "interface.flash_attn_func"),
        {"revision": "refs/pr/1"},
    ),
    (
        "hf:kernels-community/sage-attention@1:sageattn,layout=bhsd,tolerance=int8-qk-fp8-pv",
        "hf--kernels-community--sage-attention--1--sageattn--layout=bhsd--tolerance=int8-qk-fp8-pv",
        HubKernel("kernels-community/sage-attention", "1", "sageattn", "bhsd", "int8-qk-fp8-pv"),
        {"version": 1},
    ),
    (
        "hf:me/mine@1,tolerance=fp8",
        "hf--me--mine--1--tolerance=fp8",
        HubKernel("me/mine", "1", tolerance="fp8"),
        {"version": 1},
    ),
]


@pytest.mark.parametrize(("asked", "name", "kernel", "pinned"), KERNELS)
def test_either_form_names_the_same_kernel(asked, name, kernel, pinned):
    assert hub_kernel(asked) == hub_kernel(name) == kernel
    assert (kernel.asked, kernel.backend, kernel.pinned) == (asked, name, pinned)
    registered = backend(kernel)
    assert registered.name == name  # a name that a backend may have
    assert (registered.layout, registered.tolerance) == (kernel.layout, kernel.tolerance)


@pytest.mark.parametrize(
    "other",
    [
        "hf:me/mine@01",
        "hf:me/mine@1:flash_attn_func",
        "hf--me--mine--1--flash_attn_func",
        "hf:me/mine@1,layout=bshd",
        "hf:me/mine@1,tolerance=16-bit,layout=bshd",
        "hf--me--mine--1--layout=bshd",
    ],
)
def test_two_spellings_of_one_kernel_have_one_name(other):
    assert hub_kernel(other) == hub_kernel("hf:me/mine@1")


@pytest.mark.parametrize(
    "text", ["torch_flash", "hf_flash_attn", "hf*", "hf--*", "hf--me--mine", "hf--me--mine--a--b--c"]
)
def test_other_names_and_globs_are_none_of_the_hub(text):
    assert hub_kernel(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "hf:",
        "hf:mine@1",
        "hf:me/mine@",
        "hf:me/*@1",
        "hf:me/mine@a--b",
        "hf:me/mine@1:",
        "hf:me/mine@1:a-b",
        "hf:a/b/c@1",
    ],
)
def test_a_kernel_that_is_spelt_wrongly_is_answered_with_the_form(text):
    with pytest.raises(UnknownName) as caught:
        hub_kernel(text)
    assert caught.value.kind == "backend"
    assert str(caught.value) == (
        "expected hf:OWNER/NAME@VERSION or hf:OWNER/NAME@VERSION:FUNCTION, with ,layout= or ,tolerance= behind it if "
        f"needed, as in hf:kernels-community/flash-attn2@3, got {text!r}"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hf:me/mine@1,layout=hnd", "expected layout= one of bshd, bhsd, got 'hnd' in 'hf:me/mine@1,layout=hnd'"),
        (
            "hf--me--mine--1--layout=hnd",
            "expected layout= one of bshd, bhsd, got 'hnd' in 'hf--me--mine--1--layout=hnd'",
        ),
        ("hf:me/mine@1,layout", "expected layout= one of bshd, bhsd, got '' in 'hf:me/mine@1,layout'"),
        ("hf:me/mine@1,a=2", "expected layout= or tolerance= behind a kernel, got 'a=2' in 'hf:me/mine@1,a=2'"),
        ("hf:me/mine@1,", "expected layout= or tolerance= behind a kernel, got '' in 'hf:me/mine@1,'"),
    ],
)
def test_an_option_or_a_value_that_there_is_not_is_answered_with_those_that_there_are(text, says):
    with pytest.raises(UnknownName) as caught:
        hub_kernel(text)
    assert str(caught.value) == says


def test_an_unknown_class_of_tolerance_is_answered_with_all_of_them():
    with pytest.raises(
        UnknownName, match=r"^expected tolerance= one of 16-bit, .*, int8, fp4, fp8, .*, got 'int4' in "
    ):
        hub_kernel("hf:me/mine@1,tolerance=int4")


def test_a_version_is_mandatory_and_the_sentence_says_why():
    with pytest.raises(UnknownName) as caught:
        hub_kernel("hf:me/mine")
    assert str(caught.value) == (
        "'hf:me/mine' names no version, but kernels on the Hub change under their names: write hf:me/mine@1, or a tag, "
        "branch or commit"
    )


def test_what_is_asked_for_keeps_its_order_among_other_patterns():
    patterns, backends = asked_for(["torch_*", "hf:me/mine@2", "numpy", "hf--me--mine--1"])
    assert patterns == ("torch_*", "hf--me--mine--2", "numpy", "hf--me--mine--1")
    assert list(backends) == ["hf--me--mine--2", "hf--me--mine--1"]
