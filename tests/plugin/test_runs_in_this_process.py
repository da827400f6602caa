"""A run in the tests' own process, which takes short cuts, finds what a fresh process finds."""

from __future__ import annotations

import pytest

MODULE = """
import pytest

@pytest.fixture
def mine():
    return 1

@pytest.fixture(autouse=True)
def always(request):
    if request.node.name == "test_skipped":
        pytest.skip("by a fixture of the module")

def test_passed(mine):
    assert mine == 1

def test_skipped():
    assert False

class TestOfAClass:
    @pytest.fixture
    def own(self, mine):
        return mine + 1

    def test_of_the_class(self, own, tmp_path, capsys):
        print(own)
        assert capsys.readouterr().out == "2\\n"
"""


@pytest.mark.parametrize("where", ["here", "fresh"])
def test_the_fixtures_of_a_test_module_are_found(bench, pytester, where):
    pytester.makepyfile(test_mine=MODULE)
    pytester.makeconftest("import pytest\n@pytest.fixture\ndef tmp_path():\n    return 'of the conftest'\n")
    result = (bench if where == "here" else bench.fresh)("test_mine.py")
    result.assert_outcomes(passed=2, skipped=1)
