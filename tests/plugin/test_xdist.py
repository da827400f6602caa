"""pytest-xdist: accuracy checks in parallel, and no measuring."""

from __future__ import annotations

import pytest

pytest.importorskip("xdist")


def test_accuracy_is_checked_in_parallel_and_nothing_is_timed(sim):
    result = sim.fresh("-n", "2", "--attn-mode=eager", "--attn-sim=torch_flash:incorrect")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(
        [
            "attnbench: *, accuracy only (pytest-xdist); *",
            "numpy *checked*",
            "5 cases: 4 checked, 1 incorrect",
        ]
    )


def test_nothing_is_printed_amid_the_dots_and_rows_come_in_one_order(sim):
    result = sim.fresh("-n", "2", "--attn-mode=eager")
    assert not result.stderr.str().strip()
    assert "Warning" not in result.stdout.str()

    def rows(result: pytest.RunResult) -> list[str]:
        return [line.split()[0] for line in result.outlines if line.split()[1:] == ["checked"]]

    assert rows(result) == sorted(rows(result)), "and not as the workers come to them"
    assert len(rows(result)) == 5


def test_measuring_in_parallel_is_refused_in_our_words(sim):
    result = sim.fresh("-n", "2", "--benchmark-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: attnbench does not measure under pytest-xdist: *Drop -n to measure*"])


def test_no_worker_measures_here(sim):
    result = sim.fresh("-n", "0", "--benchmark-only", "--attn-backend=numpy")
    result.stdout.fnmatch_lines(["1 case: 1 measured"])


def test_an_unknown_name_is_one_sentence_and_no_traceback(sim):
    result = sim.fresh("-n", "2", "--attn-backend=nosuch")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["--attn-backend: no backend matches 'nosuch'; *"])
    assert "Traceback" not in result.stdout.str()


def test_a_listing_is_printed_once(sim):
    result = sim.fresh("-n", "2", "--attn-list")
    assert result.ret == pytest.ExitCode.OK
    assert result.stdout.str().count("15 cases: 15 ready, 0 not") == 1
