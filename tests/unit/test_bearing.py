"""What a run says of the limit that its baseline carries, and of what all of its cases share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attnbench.model import Bearing, Reason, Verdict, VerdictKind
from attnbench.report.markdown import markdown
from attnbench.report.terminal import section
from attnbench.workload import Workload

ONE = Bearing(sessions=1, occasion=0.0024, assumed=True, launch=0.0008, sessions_for_one_percent=4)
TWO, THREE = replace(ONE, sessions=2), replace(ONE, sessions=3)
FIVE = Bearing(sessions=5, occasion=0.0003, assumed=False, launch=0.0006, sessions_for_one_percent=5)
NOISY = replace(FIVE, launch=0.004, sessions_for_one_percent=None)
APART = replace(FIVE, sessions=2, occasion=0.035, sessions_for_one_percent=None)
RECORD = "(attnbench record --sessions={})"


@pytest.fixture
def run_of(run_file, record):
    """`run_of({field: value …}, …)`: a run of one case per verdict, each with these fields; `family` is the record's."""

    def make(*changes):
        records, found = [], []
        for number, changed in enumerate(changes):
            fields = {"change": 0.0, "limit": 0.02, "known_unit": True, **changed}
            workload = Workload(f"w{number}", 1, 384, 24, 128)
            family, injected = fields.pop("family", "torch"), fields.pop("injected", None)
            records.append(record(workload=workload, family=family, injected=injected))
            plain = Verdict(
                records[-1].case, VerdictKind.UNCHANGED, baseline_s=1e-3, found_s=1e-3, low=-0.001, high=0.001
            )
            found.append(replace(plain, compared_with=("gpu/0001_a.json",), **fields))
        return run_file(*records, verdicts=tuple(found))

    return make


def sentences(run, details=False):
    """The section with every sentence on one line."""
    lines = []
    for line in section(run, details):
        if line.startswith("    ") and lines:
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line.strip())
    return lines


def said(run, start="limit", details=False):
    return [line for line in sentences(run, details) if line.startswith(start)]


def test_one_session_carries_what_is_assumed_and_three_more_bring_it_to_one_percent(run_of):
    run = run_of(*[{"limit": limit, "carried": limit, "bearing": ONE} for limit in (0.0206, 0.0213, 0.0239)])
    (line,) = said(run)
    assert line == (f"limit 2.1 to 2.4 %: 1 session of this GPU; 3 more that agree reach 1 % {RECORD.format(3)}")
    (detailed,) = said(run, details=True)
    assert detailed == line.replace("this GPU;", "this GPU (sessions assumed to differ by 0.24 %);")
    assert detailed in " ".join(markdown(run).split())


TAKE_OUT = "sessions that differ so much hide a 1 % change; remove one that measured other code or a busy GPU"
FIVE_SHOW = "5 sessions of this GPU, which differ by ≤ 0.03 %"


@pytest.mark.parametrize(
    ("bearing", "limit", "why"),
    [
        (TWO, 0.019, f"2 sessions of this GPU; 2 more that agree reach 1 % {RECORD.format(2)}"),
        (THREE, 0.015, f"3 sessions of this GPU; 1 more that agrees reaches 1 % {RECORD.format(1)}"),
        (NOISY, 0.03, f"{FIVE_SHOW}; launches differ by 0.4 %, so more sessions alone do not reach 1 %"),
        (APART, 0.24, f"2 sessions of this GPU, which differ by 3.5 %; {TAKE_OUT}"),
    ],
)
def test_the_limit_is_said_with_its_reason_and_what_brings_it_to_one_percent(run_of, bearing, limit, why):
    (line,) = said(run_of({"limit": limit, "carried": limit, "bearing": bearing}))
    assert line == f"limit {100 * limit:.2g} %: {why}"


@pytest.mark.parametrize(
    ("bearing", "why"),
    [
        (FIVE, FIVE_SHOW),
        (replace(FIVE, sessions=1), "1 session of this GPU (sessions of the same family differ by ≤ 0.03 %)"),
    ],
)
def test_a_limit_of_one_percent_is_explained_with_details_only(run_of, bearing, why):
    run = run_of({"limit": 0.01, "carried": 0.01, "bearing": bearing})
    assert said(run) == []
    assert said(run, details=True) == [f"limit 1 %: {why}"]


def test_families_that_need_different_numbers_of_sessions_are_one_line(run_of):
    more = replace(ONE, sessions_for_one_percent=8, occasion=0.0026)
    run = run_of(*({"limit": 0.021, "carried": 0.021, "bearing": bearing} for bearing in (more, ONE)))
    (line,) = said(run, details=True)
    assert "(sessions assumed to differ by 0.24 to 0.26 %); 3 to 7 more that agree reach 1 % (" in line


def test_each_reason_is_one_line_whatever_number_of_cases_has_it(run_of):
    carried = [{"limit": 0.021, "carried": 0.021, "bearing": ONE}] * 3 + [
        {"limit": 0.01, "carried": 0.008, "bearing": FIVE}
    ] * 2
    assert [line.partition(":")[0] for line in said(run_of(*carried), details=True)] == [
        "limit 2.1 % (3 cases)",
        "limit 1 % (2 cases)",
    ]


def test_a_limit_that_the_baseline_does_not_carry_says_so(run_of):
    (line,) = said(run_of({"limit": 0.01, "carried": 0.021, "bearing": ONE}))
    assert line == (
        "limit 1 % (--attn-limit), but the baseline resolves 2.1 % (1 session of this GPU): slow-downs in between "
        "may stay undecided"
    )


def test_sessions_that_carry_more_than_the_most_by_default_say_so(run_of):
    (line,) = said(run_of({"limit": 0.06, "carried": 0.24, "bearing": replace(TWO, assumed=False, occasion=0.035)}))
    assert line.startswith("limit 6 % (the default maximum), but the baseline resolves 24 % (2 sessions of this GPU")


def test_a_limit_that_more_sessions_do_not_lower_promises_nothing(run_of):
    (line,) = said(run_of({"limit": 0.03, "carried": 0.021, "bearing": ONE}))
    assert line == (
        "limit 3 % (--attn-limit or the timer's resolution); the baseline resolves 2.1 % (1 session of this GPU)"
    )


def test_an_unknown_unit_is_told_what_to_do(run_of):
    (line,) = said(run_of({"known_unit": False}, {"known_unit": False}))
    assert line == (
        "limit 2 %: no session of this GPU, so slow-downs are only suspected; record one with attnbench record"
    )
    told = {"known_unit": False, "reasons": (Reason("unknown-unit", "record a session"),)}
    assert said(run_of(told)) == ["limit 2 %: no session of this GPU, so slow-downs are only suspected"]


def test_nothing_is_said_of_a_limit_where_nothing_was_compared_or_nothing_is_known(run_of):
    assert said(run_of({})) == []
    nothing = {"change": None, "kind": VerdictKind.NO_BASELINE, "known_unit": None, "limit": None}
    assert said(run_of(nothing)) == []


def test_verbose_adds_the_noise_of_each_family_and_what_is_history(run_of):
    old = ("gpu/0001_a.json: torch 2.10, the baseline's is 2.11",)
    run = run_of(
        {"limit": 0.021, "carried": 0.021, "bearing": ONE, "history": old},
        {"limit": 0.021, "carried": 0.021, "bearing": ONE, "history": old},
        {"limit": 0.01, "carried": 0.01, "bearing": FIVE, "family": "flash-attn"},
    )
    plain, verbose = sentences(run), sentences(run, details=True)
    assert not any("older session" in line for line in plain)
    assert said(run)[0].startswith("limit 2.1 % (2 cases): 1 session of this GPU and these versions; 3 more ")
    verdicts = verbose[
        next(at for at, line in enumerate(verbose) if line.startswith("verdicts: ")) :
    ]  # behind the rounds
    added = [line for line in verdicts if line not in plain and not line.startswith(("limit ", "---"))]
    assert added == [
        "noise of torch (2 cases, limit 2.1 %, 1 session): 0.08 % between launches, 0.24 % between sessions (assumed)",
        "noise of flash-attn (1 case, limit 1 %, 5 sessions): 0.06 % between launches, ≤ 0.03 % between sessions",
        f"not compared: 1 older session of other versions {old[0]} (2 cases)",
    ]


# What all cases share


def slower(*changes, families=("torch", "flash-attn"), **fields):
    return [
        {"change": change, "family": families[number % len(families)], **fields}
        for number, change in enumerate(changes)
    ]


def shared(run):
    return [line for line in sentences(run) if "device or driver" in line]


ALIKE = (0.008, 0.009, 0.01, 0.01, 0.011)


def test_a_run_that_is_slower_as_a_whole_says_that_it_is_no_kernel(run_of):
    run = run_of(*slower(*ALIKE, 0.0))
    sentence = (
        "5 of 6 compared cases, in 2 families, are slower by about +0.95 % (+0.80 to +1.10): suspect the device or driver, "
        "not a kernel"
    )
    assert shared(run) == [sentence]
    assert sentence in " ".join(markdown(run).split())


@pytest.mark.parametrize(
    "cases",
    [
        slower(*ALIKE[:4]),
        slower(*ALIKE, families=("torch",)),
        slower(0.002, 0.002, 0.002, 0.003, 0.002),
        slower(*(-change for change in ALIKE)),
        slower(*ALIKE, 0.0, 0.0),
        slower(0.005, 0.02, 0.06, 0.1, 0.2),
        slower(*ALIKE, injected=0.01),
    ],
    ids=["few", "one family", "tolerated", "faster", "not nearly all", "by different amounts", "injected"],
)
def test_a_run_that_is_not_slower_as_a_whole_says_nothing(run_of, cases):
    assert shared(run_of(*cases)) == []


def test_a_version_that_all_of_them_differ_in_is_named(run_of):
    notes = ("other kernels ran: a here", "torch 2.12.0, the baseline's was 2.11.0")
    (line,) = shared(run_of(*slower(*ALIKE, notes=notes)))
    assert line.endswith("not a kernel. All of them ran with torch 2.12.0, the baseline's was 2.11.0")
