"""Names of other projects, as `--attn-backend` takes them."""

from pathlib import Path

import pytest

from attnbench.aliases import VARIANTS, aliases
from attnbench.backends import families, registry
from attnbench.backends.registry import Backend
from attnbench.backends.variant import select_variants
from attnbench.globs import UnknownName

assert families.FAMILIES


def selected(*names, modes=(), backends=None):
    return [str(variant) for variant in select_variants(backends or registry.all_backends(), names, modes)]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_alias_means_one_variant_that_exists(name):
    assert selected(name) == [VARIANTS[name]]


def test_no_alias_is_the_name_of_a_backend():
    assert not VARIANTS.keys() & registry.all_backends().keys()


def test_an_alias_adds_its_variant_to_those_of_the_other_names():
    assert selected("torch_math", "torch_cudnn_compile_ma", modes=["eager", "max-autotune"]) == [
        "torch_math@eager",
        "torch_math@max-autotune",
        "torch_cudnn@max-autotune",
    ]


def test_an_alias_of_a_backend_that_is_named_too_takes_nothing_away():
    assert selected("torch_cudnn", "torch_cudnn_compile_d") == selected("torch_cudnn")


def test_an_alias_in_a_mode_that_is_not_wanted_is_an_error():
    with pytest.raises(UnknownName, match="no variant in mode eager"):
        selected("torch_cudnn_compile_ma", modes=["eager"])


def test_a_backend_of_that_name_comes_before_the_alias():
    mine = Backend(name="torch_mem_eff", family="mine", load=lambda workload: None)
    assert selected("torch_mem_eff", backends={**registry.all_backends(), "torch_mem_eff": mine}) == [
        "torch_mem_eff@eager"
    ]


def test_the_names_of_a_variant():
    assert aliases("torch_flash@max-autotune") == ("torch_flash_compile_ma", "torch_flash_compiled_max_autotune")
    assert aliases("numpy@eager") == ()


def test_the_document_lists_every_name_in_the_row_of_its_backend():
    page = (Path(__file__).parents[2] / "docs/backends.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for name, variant in VARIANTS.items():
        backend, mode = variant.split("@")
        [row] = [row for row in rows if f"`{name}`" in row.rpartition(" | ")[2]]
        assert row.startswith(f"| `{backend}`")
        assert f"`{name}` ({mode})" in row or registry.all_backends()[backend].modes == (mode,)
