"""docs/backends.md, docs/grids.md and docs/options.md: their tables are what scripts/generated_pages makes of the code."""

from __future__ import annotations

import re
import shutil
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
from markdown_it import MarkdownIt

from attnbench.backends.registry import Backend

ROOT = Path(__file__).resolve().parents[2]


def script() -> ModuleType:
    """scripts/generated_pages as a module."""
    loader = SourceFileLoader("generated_pages", str(ROOT / "scripts" / "generated_pages"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def generated(monkeypatch):
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # the script's name has no suffix that git would ignore it by
    monkeypatch.syspath_prepend(ROOT)  # which puts sys.path back: the script extends it
    return script()


@pytest.fixture
def copy(generated, tmp_path):
    """A tree that holds the generated pages and nothing else."""
    for page in generated.PAGES:
        (tmp_path / page).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / page, tmp_path / page)
    return tmp_path


def test_the_generated_tables_are_up_to_date(generated, capsys):
    assert generated.main(["--check"]) == 0, capsys.readouterr().out


def test_a_backend_that_nobody_has_run_is_marked_in_its_row(generated):
    def load(workload):
        """A kernel."""

    def name_of(*never_run: bool) -> str:
        names = ("mine", "mine[a]", "mine[b]")
        first, *others = (Backend(load, name, "p", never_run=one) for name, one in zip(names, never_run, strict=True))
        return generated.backend_row(first, others)[0]

    assert name_of(False, False, False) == "`mine`, also `[a]`, `[b]`"
    assert name_of(True, True, True) == "`mine`, also `[a]`, `[b]` – *never run here*"
    assert name_of(False, False, True) == "`mine`, also `[a]`, `[b]` – `[b]` *never run here*"


def test_what_is_said_to_have_run_is_not_marked(generated):
    section = (ROOT / "docs" / "backends.md").read_text(encoding="utf8").partition("\n## What ran\n")[2]
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    assert named >= {"flash_attn_3", "sage_auto"}
    assert [one.name for one in generated.built_in() if one.name in named and one.never_run] == []


def test_the_default_of_an_option_has_its_own_column(generated):
    (row,) = (line for line in generated.options_table().splitlines() if line.startswith("| `--attn-relaunch N`"))
    *_, default, does, _ = (cell.strip() for cell in row.split("|"))
    assert default == "3"
    assert does.startswith("Number of fresh processes")
    assert "default" not in does


def test_the_asterisks_of_a_glob_are_no_emphasis(generated):
    (row,) = (line for line in generated.options_table().splitlines() if line.startswith("| `--attn-workload"))
    assert MarkdownIt().enable("table").render(f"| a | b | c | d | e | f |\n{'| - ' * 6}|\n{row}").count("<em>") == 0


@pytest.mark.parametrize(
    ("page", "row"),
    [
        ("docs/backends.md", "| `flash_attn_3` |"),
        ("docs/grids.md", "| `sage`"),
        ("docs/options.md", "| `--attn-rounds"),
    ],
)
def test_an_outdated_table_is_reported_then_rewritten(generated, copy, capsys, page, row):
    right = (copy / page).read_text(encoding="utf8")
    (line,) = (line for line in right.splitlines() if line.startswith(row))
    (copy / page).write_text(right.replace(line, "| other | | | | |"), encoding="utf8")
    assert generated.main(["--check"], copy) == 1
    assert capsys.readouterr().out == f"{page} is out of date: run scripts/generated_pages\n"
    assert generated.main([], copy) == 0
    assert (copy / page).read_text(encoding="utf8") == right


def test_a_page_without_its_table_is_an_error(generated, copy, capsys):
    (copy / "docs/options.md").write_text("# Options\n", encoding="utf8")
    with pytest.raises(SystemExit, match="2"):
        generated.main([], copy)
    assert "docs/options.md: 0 tables 'options', needed 1" in capsys.readouterr().err


def test_every_backend_of_the_package_has_a_description(generated):
    described = {backend.name: backend.description for backend in generated.built_in()}
    assert len(described) > 30
    assert [name for name, description in described.items() if not description] == []


def test_the_families_of_the_readme_name_every_backend_once(generated):
    section = (ROOT / "README.md").read_text(encoding="utf8").partition("\n## Families\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[2] for line in section.splitlines() if line.startswith("|")][2:]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert named == list(dict.fromkeys(backend.name.partition("[")[0] for backend in generated.built_in()))
