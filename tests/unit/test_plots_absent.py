"""What is said where matplotlib is not installed, or cannot be imported."""

from __future__ import annotations

import sys

import pytest

from attnbench.report.charts.every import charts
from attnbench.report.plots import drawing
from attnbench.report.plots.beside import pngs_beside


@pytest.fixture
def absent(monkeypatch):
    for name in [one for one in sys.modules if one.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def test_without_matplotlib_one_sentence_says_what_to_install(absent, record, run_file):
    found, _ = charts([run_file(record())])
    expected = "No plots: matplotlib is not installed (pip install matplotlib)."
    assert drawing.unavailable() == expected
    assert drawing.draw_all(found) == pngs_beside(found)() == drawing.Drawn(sentences=[expected])


def test_without_a_chart_nothing_is_missed(absent):
    assert drawing.draw_all(()) == drawing.Drawn()


def test_a_matplotlib_that_cannot_be_imported_is_said_with_its_cause(monkeypatch, tmp_path, absent):
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "__init__.py").write_text("raise ImportError('built for another numpy')")
    monkeypatch.delitem(sys.modules, "matplotlib")
    monkeypatch.syspath_prepend(str(tmp_path))
    expected = "No plots: matplotlib cannot be imported: ImportError: built for another numpy"
    assert drawing.unavailable() == expected
