"""The pytest plugin: `-p attnbench.plugin`, and the entry point of an installed attnbench.

pytest's options, hooks and fixtures come in; cases run, and records, verdicts and reports go out. May import every folder
but `cli` and `suite`, and is the only one that imports pytest and pytest-benchmark. Importing it loads neither torch nor
numpy nor msgspec, because every pytest run of the environment pays for it.
"""

from attnbench.plugin.hooks import (
    attn_case,
    attn_inputs,
    attn_reference,
    attn_variant,
    attn_workload,
    pytest_addoption,
    pytest_cmdline_main,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_generate_tests,
    pytest_load_initial_conftests,
    pytest_report_collectionfinish,
    pytest_report_header,
)

__all__ = [
    "attn_case",
    "attn_inputs",
    "attn_reference",
    "attn_variant",
    "attn_workload",
    "pytest_addoption",
    "pytest_cmdline_main",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_load_initial_conftests",
    "pytest_report_collectionfinish",
    "pytest_report_header",
]
