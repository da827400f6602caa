"""README: its table of backends and its `--attn-list` are what the registered backends make of them."""

from __future__ import annotations

import re
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from attnbench.backends import requirements
from attnbench.backends.requirements import unmet
from attnbench.hardware.facts import Facts
from attnbench.report.listing import Entry, listing
from attnbench.workloads.table import default_patterns, select_workloads

ROOT = Path(__file__).resolve().parents[2]
WRITE = "README's table of backends is not that of the registry: run scripts/backends_table --write"


def script() -> ModuleType:
    """scripts/backends_table as a module."""
    loader = SourceFileLoader("backends_table", str(ROOT / "scripts" / "backends_table"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def backends_table(monkeypatch):
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # the script's name has no suffix that git would ignore it by
    monkeypatch.syspath_prepend(ROOT)  # which puts sys.path back: the script extends it
    return script()


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf8")


def test_the_table_of_backends_is_that_of_the_registry(backends_table):
    (block,) = backends_table.BLOCK.findall(readme())
    assert block[1] == backends_table.table(), WRITE


def test_a_table_that_is_out_of_date_is_written_anew_and_nothing_else(backends_table, monkeypatch, tmp_path):
    row = next(line for line in readme().splitlines() if line.startswith("| `flash_attn_2` |"))
    copy = tmp_path / "README.md"
    copy.write_text(readme().replace(row, "| `flash_attn_1` | | | | |"), encoding="utf8")
    monkeypatch.setattr(backends_table, "README", copy)
    monkeypatch.setattr("sys.argv", ["scripts/backends_table", "--write"])
    backends_table.main()
    assert copy.read_text(encoding="utf8") == readme()


def test_every_backend_of_the_package_says_what_it_is(backends_table):
    described = {backend.name: backend.description for backend in backends_table.built_in()}
    assert len(described) > 30
    assert [name for name, description in described.items() if not description] == []


def test_the_list_is_what_a_cpu_without_other_libraries_prints(backends_table, monkeypatch):
    shown = re.search(r"^\$ pytest --attn-list\n(.*?)^```$", readme(), re.M | re.S)[1].splitlines()
    spec = requirements._spec
    monkeypatch.setattr(requirements, "installed_version", lambda distribution: None)
    monkeypatch.setattr(requirements, "_spec", lambda module: spec("json") if module == "triton" else None)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    facts = Facts("cpu", "AMD EPYC", None, (2, 13))
    entries = [
        Entry(backend.name, backend.family, mode, workload, unmet(backend.requires, facts, workload))
        for workload in select_workloads(default_patterns("cpu"))
        for backend in backends_table.built_in()
        for mode in backend.modes
    ]
    printed = iter(listing("cpu · AMD EPYC", entries))
    assert [line for line in shown if line != "…" and line not in printed] == []  # each, and in this order
