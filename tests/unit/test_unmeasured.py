"""What a report says of the cases without a latency."""

import itertools

import pytest

from attnbench.model import Reason
from attnbench.report.terminal import section
from attnbench.workload import Workload


def flux(pixels=256, tokens=128):
    return Workload(f"flux-{pixels}px-t{tokens}", 1, (pixels // 16) ** 2 + tokens, 24, 128)


def table(run, first, **how):
    """Lines of the block whose first line starts with `first`."""
    lines = iter(section(run, **how))
    return list(itertools.takewhile(bool, itertools.dropwhile(lambda line: not line.startswith(first), lines)))


@pytest.mark.parametrize(
    ("status", "mark"),
    [("unsupported", "–"), ("incorrect", "INCORRECT"), ("error", "ERROR"), ("not-run", "not run")],
)
def test_every_case_that_was_not_measured_is_marked_listed_and_counted(run_file, record, status, mark):
    elsewhere = record("torch_math@eager", flux(512))
    run = run_file(record(), record("torch_math@eager", status=status), elsewhere)
    assert table(run, "eager: median ms")[-1].split()[1:] == [*mark.split(), "1.100"]
    listed = table(run, "not measured")
    assert listed[1] == f"  {status}: torch_math@eager on flux-256px-t128: because it is {status}"
    assert section(run)[-1] == f"3 cases: 2 measured, 1 {status}"


def test_a_variant_that_cannot_run_has_its_reason_and_no_row_of_dashes(run_file, record):
    run = run_file(record(), record("torch_math@eager", status="unsupported"))
    assert [line.split()[0] for line in table(run, "eager: median ms")[3:]] == ["torch_flash@eager"]
    assert any("torch_math@eager" in line for line in table(run, "not measured"))


def test_a_run_that_measured_nothing_is_its_reasons_and_counts(run_file, record):
    run = run_file(record(status="error"), interrupted="interrupted (Ctrl-C)")
    assert table(run, "not measured")[1].startswith("  error: torch_flash@eager on flux-256px-t128: ")
    assert section(run)[-2:] == ["1 case: 1 error", "the run ended early: interrupted (Ctrl-C)"]
    assert not any("median" in line for line in section(run))


def test_what_is_wrong_is_listed_before_what_cannot_run(run_file, record):
    states = ["unsupported", "not-run", "error", "incorrect"]
    run = run_file(*(record(f"b{at}@eager", status=status) for at, status in enumerate(states)))
    said = [line.split(":")[0].strip() for line in table(run, "not measured")[1:]]
    assert said == ["incorrect", "error", "not-run", "unsupported"]


def test_cases_that_share_their_reasons_are_one_entry_that_names_them_all(run_file, record):
    pairs = itertools.product(["a@eager", "a@default", "b@eager"], [flux(256), flux(512), flux(1024)])
    run = run_file(*(record(variant, workload, "unsupported") for variant, workload in pairs))
    assert table(run, "not measured")[1:] == ["  unsupported: a, b@eager on all 3 workloads: because it is unsupported"]


def test_a_case_in_several_tests_is_named_once_with_their_numbers(run_file, record):
    def not_run(variant, *files):
        return [record(variant, flux(), "not-run", nodeid=f"{file}.py::test[{variant}]") for file in files]

    records = [*not_run("a@eager", "one", "two"), *not_run("d@eager", "one")]
    records += [*not_run("b@eager", "one", "two", "six"), *not_run("b@default", "one", "two", "six")]
    assert table(run_file(*records), "not measured")[1:] == [
        "  not-run: a@eager (tests 1 and 2), d@eager, b@{eager,default} (tests 1, 2 and 3) on flux-256px-t128",
        "      because it is not-run",
    ]


def test_an_entry_of_some_cases_names_exactly_those(run_file, record):
    first, rest = (
        "a@default, b@eager on flux-256px-t128",
        "a@{eager,default}, b@eager on flux-512px-t128, flux-1024px-t128",
    )
    ended = [record(v, flux(256), "not-run") for v in ("a@default", "b@eager")]
    ended += [record(v, w, "not-run") for w in (flux(512), flux(1024)) for v in ("a@eager", "a@default", "b@eager")]
    assert table(run_file(record("a@eager", flux(256)), *ended), "not measured")[1:] == [
        f"  not-run: {first}; {rest}",
        "      because it is not-run",
    ]


def test_many_or_long_reasons_stand_each_in_lines_of_their_own(run_file, record):
    reasons = tuple(Reason("c", f"reason {n} " + "word " * 30) for n in range(3))
    listed = table(run_file(record(status="unsupported", reasons=reasons)), "not measured")
    assert sum(line.startswith("      reason ") for line in listed) == 3
    assert max(map(len, listed)) <= 120


def test_the_text_of_an_exception_neither_breaks_the_lines_nor_fills_the_screen(run_file, record):
    reason = Reason("error", "RuntimeError: first\n\n  second\tline " + "x" * 50 + " y" * 5000)
    listed = table(run_file(record(status="error", reasons=(reason,))), "not measured")
    assert "RuntimeError: first second line" in " ".join(listed)
    assert len(listed) < 12
    assert "(whole in the stored record)" in listed[-1]


ABSENT = Reason("package", "package 'x' is not installed (pip install x)")
NO_CUDA = Reason("device", "needs device cuda, found cpu")


def missing(record, variant, *reasons, workload=None):
    return record(variant, workload or flux(), "unsupported", reasons=reasons)


def test_backends_that_are_not_installed_are_one_line_of_names(run_file, record):
    absent = [
        missing(record, f"{name}@{mode}", ABSENT, NO_CUDA, workload=flux(pixels))
        for name in ("x", "x_fp8", "x_fp8[per_warp]")
        for mode in ("eager", "default")
        for pixels in (256, 512)
    ]
    run = run_file(record(), *absent, missing(record, "y@eager", NO_CUDA))
    assert table(run, "not measured")[1:] == [
        "  unsupported: y@eager on flux-256px-t128: needs device cuda, found cpu",
        "  not installed: x, x_fp8 (2 backends; --attn-list says how to install them)",
    ]
    detailed = list(itertools.dropwhile(lambda line: line != "not measured", section(run, details=True)))
    assert any("package 'x' is not installed (pip install x)" in line for line in detailed)
    assert not any(line.startswith("  not installed") for line in detailed)


def test_a_configuration_that_lacks_a_package_of_its_own_does_not_stand_for_the_backend(run_file, record):
    lacking = Reason("package", "package 'y' is not installed (pip install y)")
    run = run_file(record("x@eager"), *(missing(record, f"x[{option}]@eager", lacking) for option in "ab"))
    assert "  not installed: x[a], x[b] (2 backends; --attn-list says how to install them)" in section(run)


def test_a_package_that_is_too_old_keeps_its_reason(run_file, record):
    old = Reason("package", "needs x 2.2 or newer, found 2.0 (pip install x)")
    assert table(run_file(record(), missing(record, "x@eager", old)), "not measured")[1:] == [
        f"  unsupported: x@eager on flux-256px-t128: {old.text}"
    ]


def test_a_run_in_which_nothing_ran_says_how_to_install_what_is_missing(run_file, record):
    assert table(run_file(missing(record, "x@eager", ABSENT)), "not measured")[1:] == [
        f"  unsupported: x@eager on flux-256px-t128: {ABSENT.text}"
    ]


def wrong(length, found, code="tolerance"):
    return {
        "workload": Workload(f"length-{length}", 1, length, 2, 64),
        "reasons": tuple(Reason(code, f"rel_l{n} found {found}, allowed 0.1") for n in range(5)),
    }


def test_of_many_wrong_cases_of_one_variant_three_are_told_and_the_others_named(run_file, record):
    cases = [record("a@eager", status="incorrect", **wrong(length, length / 10)) for length in range(10, 18)]
    run = run_file(*cases, record("b@eager", status="incorrect", **wrong(10, 0.3)))
    short = table(run, "not measured")
    for length in (10, 11, 12):
        at = short.index(f"  incorrect: a@eager on length-{length}")
        assert short[at + 1 : at + 5] == [
            *(f"      rel_l{n} found {length / 10}, allowed 0.1" for n in range(3)),
            "      2 more errors (-v names them)",
        ]
    at = short.index("  incorrect: a@eager on length-13, length-14, length-15, length-16, length-17")
    assert short[at + 1] == "      errors of the same kind as the 3 of a@eager above (-v names them)"
    assert "  incorrect: b@eager on length-10" in short
    also = [record("c@eager", status="incorrect", **wrong(length, length / 20)) for length in range(10, 18)]
    both = table(run_file(*cases, *also), "not measured")
    for name in ("a", "c"):  # each right behind its own three
        at = both.index(f"  incorrect: {name}@eager on length-13, length-14, length-15, length-16, length-17")
        assert both[at - 5] == f"  incorrect: {name}@eager on length-12"
    whole = table(run, "not measured", details=True)
    assert sum(line.startswith("      rel_l") for line in whole) == 9 * 5
    assert not any("-v" in line for line in whole)


def test_a_wrong_case_with_a_reason_of_another_kind_is_told_in_full(run_file, record):
    cases = [record("a@eager", status="incorrect", **wrong(length, length / 10)) for length in range(10, 18)]
    other = record("a@eager", status="incorrect", **wrong(99, 0.5, code="layout"))
    nan = record("a@eager", status="incorrect", **wrong(98, 0.5, code="nonfinite"))
    listed = table(run_file(*cases, other, nan), "not measured")
    assert "  incorrect: a@eager on length-98" in listed
    at = listed.index("  incorrect: a@eager on length-99")
    assert listed[at + 1 : at + 6] == [f"      rel_l{n} found 0.5, allowed 0.1" for n in range(5)]


def test_of_many_workloads_the_first_are_named_and_under_v_all(run_file, record):
    workloads = [Workload(f"w{n}", 1, 64 + n, 2, 64) for n in range(12)]
    absent = [record("a@eager", workload, "unsupported") for workload in workloads[:9]]
    run = run_file(*(record("b@eager", workload) for workload in workloads), *absent)
    said = "because it is unsupported"
    short = [f"  unsupported: a@eager on w0, w1, w2, … (9 of 12 workloads): {said}"]
    assert table(run, "not measured")[1:] == short
    assert table(run, "not measured", details=True)[1:] == [
        f"  unsupported: a@eager on w0, w1, w2, w3, w4, w5, w6, w7, w8: {said}"
    ]
    fewer = run_file(*(record("b@eager", workload) for workload in workloads), *absent[:8])
    assert "on w0, w1, w2, w3, w4, w5, w6, w7: " in table(fewer, "not measured")[1]
