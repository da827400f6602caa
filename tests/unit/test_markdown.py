"""The job summary: what stands in it, in which order, and that nothing of a run's own text is more than text there."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product

import pytest
from markdown_it import MarkdownIt

from attnbench.model import Fingerprint, Launch, Reason, Verdict, VerdictKind
from attnbench.report.markdown import markdown, without_run
from attnbench.verdicts.judge import SET_UP
from attnbench.workload import Workload

SESSION = "nvidia-h200/0001_0123456789ab.json"
HOSTILE = (
    "<img src=x onerror=evil()>",
    "<!-- evil",
    "</code></pre></details><script>evil()</script>",
    "@evil",
    "![evil](https://evil.example/p.png)",
    "[evil](https://evil.example)",
    "https://evil.example www.evil.example evil@evil.example",
    "a|b||evil",
    "a\\|evil\\\\|b",
    "|",
    "\\",
    "`evil`",
    "``` evil",
    "`",
    "\n```\n# evil\n",
    "\n\n| evil |\n| --- |\n| evil |\n",
    "\r\n> evil",
    "\u202eevil\u2028\x1b[31m\x00",
    "$`evil`$ $$evil$$",
    "&lt;evil&gt; &#64;evil",
    "[^1]: evil",
)


class Seen(HTMLParser):
    """Which tags a page has, what its code says, and what the rest of it says."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.code = self.plain = ""
        self.rows: list[int] = []
        self._depth = 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {f"{name}={value}" for name, value in attrs}
        self._depth += tag == "code"
        if tag == "tr":
            self.rows.append(0)
        elif tag in ("td", "th"):
            self.rows[-1] += 1

    def handle_endtag(self, tag):
        self._depth -= tag == "code"

    def handle_data(self, data):
        if self._depth:
            self.code += f"{data}\n"
        else:
            self.plain += data

    def handle_comment(self, data):
        self.tags.append("a comment")


def seen(text: str) -> Seen:
    return Seen(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))


def verdict(
    kind: str, case: str = "torch_flash@eager-flux-256px-t128", change: float | None = 0.0, **fields
) -> Verdict:
    figures = {}
    if change is not None:
        figures = {
            "baseline_s": 1e-3,
            "found_s": 1e-3 * (1 + change),
            "change": change,
            "low": change - 0.002,
            "high": change + 0.002,
            "limit": 0.01,
            "known_unit": True,
            "found_by": 0.0094,
            "launches": 2,
            "compared_with": (SESSION,),
        }
    command = f"pytest --benchmark-only --attn-backend={case.partition('@')[0]}"
    return Verdict(case, VerdictKind(kind), **{**figures, "reproduce": command, **fields})


@pytest.fixture
def judged(record, run_file):
    """`judged(verdict, …, field=value …)`: a run with these verdicts, and a measured record of each case."""

    def make(*verdicts, **fields):
        cases = dict.fromkeys(v.case for v in verdicts)
        return run_file(*(record(case=case) for case in cases), verdicts=verdicts, **fields)

    return make


def rows(text: str) -> list[str]:
    """The rows of its tables, heads included."""
    text = re.sub(r"^(```+)text\n.*?^\1$", "", text, flags=re.M | re.S)
    return [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]


def test_the_heading_counts_the_verdicts_worst_kind_first(judged):
    run = judged(*(verdict(kind, f"{at}@eager-w") for at, kind in enumerate(["unchanged", "regressed", "unchanged"])))
    assert markdown(run).splitlines()[0] == "## attnbench: 1 regressed, 2 unchanged"


def test_a_row_has_every_figure_of_its_verdict(judged):
    text = markdown(judged(verdict("regressed", change=0.0312)))
    figures = "1.000 | 1.031 | +3.12 | +2.92 to +3.32 | 1 | yes | +0.94 | 2 | –"
    assert rows(text)[1:] == [f"| **regressed** | `torch_flash@eager · flux-256px-t128` | {figures} |"]


@pytest.mark.parametrize("kind", ["regressed", "unchanged"])
def test_a_change_of_choice_stands_beside_the_verdict(judged, kind):
    row = rows(markdown(judged(verdict(kind, chose="chose cudnn, baseline flash"))))[-1]
    assert row.split(" | ")[0].strip("|* ").replace("*", "") == f"{kind}, `chose cudnn, baseline flash`"


def test_the_clock_during_the_call_has_its_column(judged):
    found = judged(verdict("unchanged", clock_change=0.001))
    assert rows(markdown(found))[-1].endswith("| 2 | +0.10 |")
    assert rows(markdown(judged(verdict("unchanged", clock_change=-1e-6))))[-1].endswith("| 2 | +0.00 |")


@pytest.mark.parametrize(("known", "said"), [(True, "yes"), (False, "no"), (None, "–")])
def test_a_row_says_whether_the_baseline_knows_the_unit(judged, known, said):
    assert f" | {said} | " in rows(markdown(judged(verdict("regressed", known_unit=known))))[1]


def test_a_verdict_without_figures_is_a_row_without_figures(judged):
    text = markdown(judged(verdict("no-baseline", change=None, reasons=(Reason("not-stored", "no stored session"),))))
    assert rows(text)[1].split("|")[3:10] == [" – "] * 7
    assert "no stored session\n" in text
    assert "Interval" not in text


def test_verdicts_stand_worst_first_and_the_unchanged_are_folded_away(judged):
    kinds = ["unchanged", "improved", "missing", "inconclusive", "no-baseline", "incomparable", "regressed"]
    run = judged(
        *(verdict(kind, f"{kind}@eager-w") for kind in kinds), verdict("regressed", "worse@eager-w", change=0.5)
    )
    run = replace(run, records=())  # a case without a record is shown by its id
    found = re.findall(r"^\| \**([a-z-]+)\** \| `(\S+)`", markdown(run), re.M)
    assert found == [
        ("regressed", "worse@eager-w"),
        *((str(kind), f"{kind}@eager-w") for kind in VerdictKind),
    ]
    before, _, folded = markdown(run).partition("<summary>1 unchanged</summary>")
    assert "`improved@eager-w`" in before
    assert "`unchanged@eager-w`" not in before
    assert "`unchanged@eager-w`" in folded.partition("</details>")[0]


def test_without_an_unchanged_case_nothing_is_folded(judged):
    assert "<details>" not in markdown(judged(verdict("regressed")))


def test_only_what_changed_has_reasons_and_a_command(judged):
    reasons = (Reason("slower", "at least +2.62 %"),)
    bad = verdict("regressed", "a@eager-w", reasons=reasons, notes=("torch 2.13.0, the baseline's was 2.11.0",))
    text = markdown(judged(bad, verdict("unchanged", "b@eager-w")))
    block = "torch 2.13.0, the baseline's was 2.11.0\n$ pytest --benchmark-only --attn-backend=a\n"
    assert f"```text\n{block}```" in text
    assert "at least" not in text, "the row has the interval"
    assert "--attn-backend=b" not in text


def test_cases_that_share_kind_and_reasons_share_a_block_with_all_their_commands(judged):
    reasons = (Reason("not-stored", "no stored session holds this case"),)
    many = [verdict("no-baseline", f"b{at}@eager-w", change=None, reasons=reasons) for at in range(9)]
    text = markdown(judged(*many))
    assert text.count("no stored session holds this case") == 1
    assert "**no-baseline**: 9 cases (" in text
    assert [f"$ pytest --benchmark-only --attn-backend=b{at}" in text for at in range(9)] == [True] * 9


def test_very_many_cases_without_a_baseline_are_one_line_and_folded_away(judged):
    """As in the first run of a grid, where they would hide everything else."""
    reasons = (Reason("not-stored", "no stored session holds this case"),)
    new = [verdict("no-baseline", f"b{at}@eager-w", change=None, reasons=reasons) for at in range(51)]
    page = markdown(replace(judged(verdict("regressed", "bad@eager-w"), *new), records=()))
    assert "**Not compared**:\n\n```text\n51 cases: no stored session holds this case\n```" in page
    assert "--attn-backend=b7" not in page
    before, _, folded = page.partition("<summary>51 no-baseline</summary>")
    assert ["| `b50@eager" in part for part in (before, folded)] == [False, True]
    assert before.index("**regressed** | `bad@eager") < before.index("**Not compared**")
    assert "<details>" not in markdown(judged(*new[:50]))


def test_cases_of_another_set_up_are_one_line_and_folded_away(judged):
    text = "gpu/0001.json and 0002.json cannot be compared with this run: protocol b here, a there"
    unlike = {"change": None, "reasons": (Reason(SET_UP, text),)}
    page = markdown(judged(*(verdict("incomparable", f"b{at}@eager-w", **unlike) for at in range(9))))
    assert page.count("cannot be compared") == 1
    assert f"**Not compared**:\n\n```text\n9 cases: {text}\n```" in page
    assert len(rows(page.partition("<summary>9 incomparable</summary>")[2])) == 10
    assert "--attn-backend" not in page, "measuring again would come to the same"


def test_a_command_keeps_its_line_breaks(judged):
    text = markdown(judged(verdict("regressed", reproduce="pytest 'a\n  b'")))
    assert "$ pytest 'a\n  b'\n```" in text


def test_notes_on_the_unchanged_are_said_once(judged):
    note = "torch 2.13.0, the baseline's was 2.11.0"
    many = [verdict("unchanged", f"b{at}@eager-w", notes=(note,)) for at in range(3)]
    text = markdown(judged(*many))
    assert text.count(note) == 1
    assert f"3 of 3: {note}" in text


def test_sessions_are_named_and_many_are_counted(judged):
    assert f"Compared with `{SESSION}`. Interval: " in markdown(judged(verdict("unchanged")))
    many = tuple(f"nvidia-h200/{at:04}_x.json" for at in range(30))
    assert "Compared with 30 sessions (`nvidia-h200/0000_x.json`, " in markdown(
        judged(verdict("unchanged", compared_with=many))
    )


def test_a_failure_without_a_verdict_is_a_row_and_counts(record, run_file):
    run = run_file(
        record(), record("torch_math@eager", status="error"), verdicts=(verdict("unchanged"),), interrupted=""
    )
    text = markdown(run)
    assert text.splitlines()[0] == "## attnbench: 1 unchanged; 1 failed without a verdict"
    assert "| error | `torch_math@eager · flux-256px-t128` | `because it is error` |" in text


def test_a_failure_with_a_verdict_is_not_counted_twice(record, run_file):
    broken = record("torch_math@eager", status="error")
    text = markdown(run_file(broken, verdicts=(verdict("missing", broken.case, change=None),)))
    assert text.splitlines()[0] == "## attnbench: 1 missing"
    assert "Failed without a verdict" not in text


def test_cases_that_were_not_measured_stand_with_their_reasons(record, run_file):
    run = run_file(record(), record("numpy@eager", status="unsupported"), verdicts=(verdict("unchanged"),))
    assert "  unsupported: numpy@eager on flux-256px-t128: because it is unsupported\n" in markdown(run)
    assert "Not measured" not in markdown(run_file(record(), verdicts=(verdict("unchanged"),)))


def test_a_run_without_verdicts_says_so(record, run_file):
    text = markdown(run_file(record(), record("numpy@eager", status="unsupported")))
    assert text.splitlines()[0] == "## attnbench: no verdicts; 1 measured, 1 unsupported"
    assert "Nothing was compared" in text


def test_an_early_end_is_said(judged):
    assert "**The run ended early**: `Ctrl-C`." in markdown(judged(verdict("unchanged"), interrupted="Ctrl-C"))


def test_the_device_is_named_as_the_terminal_names_it(judged):
    assert "```text\nA CPU · torch 2.13.0\nmedian of 3 rounds, clock perf_counter\n```" in markdown(
        judged(verdict("unchanged"))
    )


def test_a_simulated_run_says_so(judged):
    launch = Launch("0123456789ab", "2026-01-02T03:04:05+00:00", Fingerprint({"device": "sim"}, {}), simulated=True)
    text = markdown(judged(verdict("unchanged"), launches=(launch,)))
    assert text.startswith("## attnbench (simulated): 1 unchanged\n")
    assert "SIMULATED: seeded noise, no kernel ran and nothing was measured\n" in text


def test_an_injected_slow_down_says_so(record, run_file):
    text = markdown(run_file(record(injected=0.02), verdicts=(verdict("regressed", notes=("INJECTED +2.00%",)),)))
    assert text.startswith("## attnbench (slowed down on purpose): 1 regressed\n")
    assert "INJECTED slow-down: torch_flash@eager +2 % (1 case)\n" in text


def test_a_case_of_several_launches_is_counted_once(record, run_file):
    broken = record("torch_math@eager", status="error")
    text = markdown(run_file(record(), record(launch="b"), broken, replace(broken, launch="b")))
    assert text.startswith("## attnbench: no verdicts; 1 measured, 1 error\n")


def hostile_run(record, run_file, text):
    """A run with `text` in every place that a run's author can fill."""
    workload = Workload(text, 1, 384, 24, 128, dtype=text, distribution=text)
    reasons = (Reason(text, text), Reason("b", text))
    states = [record(f"{text.replace('@', '')}@{at}", workload, state, reasons=reasons, case=f"{text}{at}")
              for at, state in enumerate(["error", "incorrect", "unsupported", "not-run"])]  # fmt: skip
    measured = record(f"{text.replace('@', '')}@eager", workload, case=text, injected=0.02)
    fields = {"reasons": reasons, "notes": (text, f"a {text}"), "reproduce": text, "compared_with": (text,)}
    verdicts = [verdict(str(kind), text, **fields) for kind in VerdictKind]
    verdicts += [verdict("missing", f"{text}not there", change=None, reasons=reasons)]
    launch = Launch(text, text, Fingerprint({"device": text, text: None}, {"torch": text, "driver": text}))
    return run_file(
        measured,
        *states,
        verdicts=tuple(verdicts),
        launches=(launch,),
        interrupted=text,
        reference=text,
        attnbench=text,
    )


@pytest.mark.parametrize("text", [*HOSTILE, *(f"{a} {b}" for a, b in product(("`", "|", "\\|"), HOSTILE))])
def test_text_of_a_run_is_text_and_stands_in_code_only(record, run_file, text):
    clean, page = (seen(markdown(hostile_run(record, run_file, said))) for said in ("harmless", text))
    assert not set(page.tags) - set(clean.tags)
    assert page.attributes <= {"class=language-text", "style=text-align:right"}
    assert page.plain.replace("harmless", "") == clean.plain.replace("harmless", "")
    assert "harmless" not in clean.plain
    assert page.rows == clean.rows
    assert not re.search(r"[\u202e\x1b\x00]", page.code)
    if "@evil" in text and "&" not in text:
        assert text in page.code


@pytest.mark.parametrize("text", HOSTILE)
def test_a_row_is_split_alike_by_renderers_that_read_backslashes_differently(record, run_file, text):
    for row in rows(markdown(hostile_run(record, run_file, text))):
        pairs = len(re.findall(r"(?:\\.|[^|])+", row[1:-1]))  # two backslashes are one, and the pipe behind them ends
        previous = len(re.split(r"(?<!\\)\|", row[1:-1]))  # a backslash before the pipe, whatever is before that
        assert pairs == previous
        assert previous in (3, 11)


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_a_text_without_a_letter_is_said_to_be_empty(judged, text):
    assert "Compared with `(empty)`." in markdown(judged(verdict("unchanged", compared_with=(text,))))


def big_run(judged, kind, count):
    reasons = (Reason("slower", "x" * 5000),)
    run = judged(*(verdict(kind, f"backend{at}{'y' * 500}@eager-w", reasons=reasons) for at in range(count)))
    return replace(run, records=run.records[:1])  # the other rows name their cases by the long id


@pytest.mark.parametrize(
    ("kind", "count", "limit"),
    [("regressed", 300, 200_000), ("unchanged", 800, 200_000), ("no-baseline", 800, 200_000)],
)
def test_a_summary_is_cut_to_the_limit_by_whole_rows_and_says_so(judged, kind, count, limit):
    text = markdown(big_run(judged, kind, count), limit)
    assert limit * 0.98 < len(text.encode()) < limit * 1.04
    second = text.splitlines()[2]
    assert second.startswith("**Cut**, as GitHub shows no summary above 1 MiB: ")
    page = seen(text)
    assert set(page.rows) == {11}
    assert page.tags.count("details") == (kind != "regressed")
    assert text.count("<details>") == text.count("</details>")
    what = {
        "regressed": "lines of reasons, notes and commands",
        "unchanged": "unchanged verdicts",
        "no-baseline": "verdicts without a baseline",
    }
    assert re.search(rf"\d+ {what[kind]}", second)
    if kind == "unchanged":
        assert f"{count - (len(page.rows) - 1)} unchanged verdicts" in second


def test_the_cut_counts_what_is_missing_and_keeps_the_worst(judged):
    run = judged(*(verdict("regressed", f"b{at}@eager-w", change=0.01 * at) for at in range(100)))
    text = markdown(replace(run, records=()), limit_bytes=6000)
    shown = rows(text)[1:]
    assert f"{100 - len(shown)} verdicts" in text
    assert [row.split("`")[1] for row in shown] == [f"b{at}@eager-w" for at in range(99, 99 - len(shown), -1)]


@pytest.mark.parametrize("limit", range(0, 40_000, 1000))
def test_what_surrounds_the_rows_counts_too(judged, limit):
    each = (verdict("missing", f"b{at}@eager-w", change=None, reasons=(Reason("a", f"why {at}"),)) for at in range(100))
    text = markdown(judged(*each, verdict("unchanged")), limit_bytes=limit)
    heading_and_cut = text.partition("```")[0] if limit else text
    assert len(text.encode()) <= limit + len(heading_and_cut.encode())
    assert len(heading_and_cut) < 500


def test_what_fits_is_not_cut(judged):
    run = judged(verdict("regressed"), verdict("unchanged"))
    assert "Cut" not in markdown(run)
    assert markdown(run, len(markdown(run).encode())) == markdown(run)


def test_nothing_fits_into_nothing_and_everything_is_counted(judged):
    text = markdown(judged(verdict("regressed")), limit_bytes=0)
    assert text.splitlines()[0] == "## attnbench: 1 regressed"
    assert "1 verdicts" in text
    assert "```" not in text


def test_long_texts_are_shortened(judged):
    text = markdown(judged(verdict("regressed", reasons=(Reason("a", "z" * 10_000_000),))))
    assert len(text) < 10_000
    assert "… (cut: 10000000 characters in all)" in text


@pytest.mark.parametrize("problem", ["run.json cannot be read: No such file or directory", *HOSTILE])
def test_without_a_run_the_summary_says_what_is_wrong_with_its_file(problem):
    page = seen(without_run(problem))
    assert set(page.tags) <= {"h2", "p", "pre", "code"}
    assert "attnbench: no result" in page.plain
    assert "evil" not in page.plain
    assert "".join(re.findall("[a-z]+", problem)) in "".join(re.findall("[a-z]+", page.code)) or "\x00" in problem
