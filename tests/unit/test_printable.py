"""Strings of others before they are shown: no control character, no command, no megabytes."""

from __future__ import annotations

import dataclasses

import pytest

from attnbench.model import Fingerprint, Launch, Reason, StateChange, Verdict, VerdictKind
from attnbench.printable import LONGEST_MESSAGE, LONGEST_NAME, escaped, line, lines, message, require_name, shown
from attnbench.report.markdown import markdown
from attnbench.report.terminal import section
from attnbench.report.verdicts import line as verdict_line

FOUL = {
    "escape": "\x1b[2J",
    "title": "\x1b]0;owned\x07",
    "bell": "\a",
    "one byte for CSI": "\x9b31m",
    "delete": "\x7f",
    "null": "\0",
    "right to left": "\u202e",
    "isolate": "\u2066",
    "no width": "\u200b",
    "byte order mark": "\ufeff",
    "soft hyphen": "\u00ad",
    "tag": "\U000e0041",
    "half a pair": "\ud800",
}


@pytest.mark.parametrize("foul", FOUL.values(), ids=FOUL)
def test_what_does_not_show_is_an_escape(foul):
    for made in (escaped(foul), message(foul), line(foul)):
        assert made.isprintable()
        assert "\\" in made


@pytest.mark.parametrize("text", ["1×4608×24×128, |a − b|, 3 µs → 2 µs", "注意力", "naïve", "C:\\kernels", ""])
def test_what_shows_stays(text):
    assert (escaped(text), message(text), line(text), shown(text)) == (text,) * 4


def test_a_message_is_one_line():
    assert message(" one\r\ntwo\tthree\u00a0four\u2028five\x85six  seven ") == "one two three four five six  seven"


@pytest.mark.parametrize(
    "text", ["A" * 5_000_000, "\x1b" * 5_000_000, "\x1b" * LONGEST_MESSAGE, "\n" * 3000 + "A" * 9000]
)
def test_a_message_is_cut_at_the_stated_length_and_says_so(text):
    made = message(text)
    assert len(made) <= LONGEST_MESSAGE
    assert made.endswith(f" … (cut: {len(text.strip())} characters in all)")
    assert message(made) == made


def test_a_message_of_the_longest_length_is_whole():
    assert message("A" * LONGEST_MESSAGE) == "A" * LONGEST_MESSAGE


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("::error::from a kernel", r"\x3a:error::from a kernel"),
        ("   ::set-output name=x::y", r"   \x3a:set-output name=x::y"),
        ("##[error]from a kernel", r"\x23#[error]from a kernel"),
        ("why: ##[add-path]/evil", r"why: \x23#[add-path]/evil"),
        ("##vso[task.complete]", r"\x23#vso[task.complete]"),
        ("void flash::kernel<::bf16>", "void flash::kernel<::bf16>"),
        ("### a heading", "### a heading"),
    ],
)
def test_no_line_is_a_command_to_a_runner(text, made):
    assert line(text) == made
    assert lines(f"first\n{text}") == f"first\n{made}"


def test_a_reason_can_always_be_shown():
    reason = Reason("load\n", "one\ntwo \x1b[31m" + "z" * 9000)
    assert (reason.code, reason.text[:16]) == ("load", r"one two \x1b[31m")
    assert len(reason.text) == LONGEST_MESSAGE


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x1b[2Jb", "a\u202eb", "x" * (LONGEST_NAME + 1), None, 3, b"x"])
def test_a_name_that_cannot_be_shown_is_refused_in_a_line_that_can(name):
    with pytest.raises(ValueError, match=r"^family ") as refused:
        require_name("family", name)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 2 * LONGEST_NAME


def test_shown_data_keeps_what_can_be_shown_as_it_is(record, run_file):
    run = run_file(record("a@eager"), record("b@eager", status="error"))
    assert shown(run) is run
    assert shown(shown(hostile(record, run_file))) == shown(hostile(record, run_file))


def test_the_line_breaks_of_a_command_stay():
    assert shown("pytest 'a\nb\x1b'") == "pytest 'a\nb\\x1b'"


def hostile(record, run_file):
    """Every string of a stored file, in the hands of somebody else."""
    foul = "".join(FOUL.values()) + "\n::error::from the artifact\n##[error]x"
    key, context = {"device": foul, "capability": foul}, {"torch": foul, "driver": foul, "unit": None}
    launch = Launch("0123456789ab", foul, Fingerprint(key, context))
    bad = record("a@eager", status="error", reasons=(Reason(foul, foul),), source=foul, family=foul, nodeid=foul)
    good = record("b@eager", source=foul, apart=foul, changed=(StateChange(foul),))
    good = dataclasses.replace(good, workload=dataclasses.replace(good.workload, name=foul), case=foul)
    kind = VerdictKind.NO_BASELINE
    verdict = Verdict(foul, kind, (Reason("a", foul),), notes=(foul,), compared_with=(foul,), reproduce=foul)
    return run_file(bad, good, launches=(launch,), verdicts=(verdict,), interrupted=foul)


def test_no_report_of_a_stored_run_reaches_the_terminal_or_the_runner(record, run_file):
    run = hostile(record, run_file)
    for text in (*section(run), *verdict_line(run.verdicts[0], run.records[0]).split("\n")):
        assert text.isprintable()
        assert not text.lstrip().startswith("::")
        assert "##[" not in text
    assert all(part.isprintable() for part in markdown(run).split("\n"))
