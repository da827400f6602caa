"""The page: what stands in it, that it needs nothing else, and that text of a record is never more than text."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import Any

import pytest

from attnbench.model import Fingerprint, Launch, Reason, Record, RunFile, Sample, SustainedLoad, Verdict, VerdictKind
from attnbench.report import comma_separated, jsonl
from attnbench.report.bundle import texts
from attnbench.report.gather import Gathered, GatheredRun, Kind, Outcome, Skipped, SourceFile, key_of
from attnbench.report.page.content import Content
from attnbench.report.page.documentation import documentation
from attnbench.report.page.packing import shared
from attnbench.report.page.render import Downloads, Figure, refusal, render, script_json
from attnbench.workload import Workload

pytest.importorskip("jinja2", reason="the page needs Jinja2, which the extra `report` brings")

H200 = Launch(
    "0123456789ab",
    "2026-01-02T03:04:05+00:00",
    Fingerprint({"device": "NVIDIA H200"}, {"torch": "2.11.0", "driver": "580.1", "cuda": "13.0"}),
)
H100 = replace(H200, id="ba9876543210", fingerprint=Fingerprint({"device": "NVIDIA H100"}, {"torch": "2.11.0"}))
SHORT, LONG = Workload("flux-256px-t128", 1, 384, 24, 128), Workload("flux-1024px-t512", 1, 4608, 24, 128)
HOSTILE = (
    "</script><script>evil()</script>",
    "</script evil><p>",
    "<svg onload=evil()>",
    '" onmouseover="evil()',
    "<!--<script>",
    "käfer_核_🦫",
    "x" * 1000,
    "{{ evil }}{% evil %}",
)
DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9" class="plot"><g class="figure">{}</g></svg>'


def gathered(*records: Record, verdicts: tuple[Verdict, ...] = (), launches: tuple[Launch, ...] = (H200,)) -> Gathered:
    run = RunFile(2, "0.1.0", "torch_flash@eager", launches, records, verdicts=verdicts)
    of_case = {verdict.case: verdict for verdict in verdicts}
    return Gathered(
        (GatheredRun("run.json", Kind.RUN, run),),
        (SourceFile("run.json", Kind.RUN, Outcome.FOUND, records=len(records)),),
        {key_of(record): of_case[record.case] for record in records if record.case in of_case},
    )


def figure(svg: str, **changes: Any) -> Figure:
    fields = {"stem": "latency", "name": "latency", "title": "Latency", "subtitle": "", "device": "NVIDIA H200"}
    return Figure(**{**fields, "kind": "lines", "unit": "ms", "svg": svg, **changes})


@dataclass
class Page(HTMLParser):
    """What a browser would see: every element with its attributes, tables as rows of texts, text by element id."""

    html: str
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._table = self._raw = ""
        self.feed(self.html)
        self.tables = {name: [[cell.strip() for cell in row] for row in rows] for name, rows in self.tables.items()}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.elements.append((tag, found))
        if tag == "table":
            self._table = found.get("id") or found.get("class", "")
        if tag == "tr":
            self.tables.setdefault(self._table, []).append([])
        if tag in ("td", "th") and self._table:
            self.tables[self._table][-1].append("")
        if tag in ("script", "style"):
            self._raw = found.get("id") or tag

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._table = ""
        if tag in ("script", "style"):
            self._raw = ""

    def handle_data(self, data: str) -> None:
        if self._raw:
            self.held[self._raw] = self.held.get(self._raw, "") + data
            return
        self.text += data
        if self._table and self.tables.get(self._table) and self.tables[self._table][-1]:
            self.tables[self._table][-1][-1] += data


def rendered(found: Gathered, figures: Sequence[Figure] = (), **options: Any) -> bytes:
    made = texts(found)
    return render(found, figures, downloads=Downloads(made["jsonl"](), made["csv"]()), **options)


def shown(found: Gathered, *figures: Figure, **options: Any) -> Page:
    return Page(rendered(found, figures, **options).decode())


def test_the_head_counts_the_gpu_units_where_there_are_several(record):
    def on(launch, unit):
        return replace(launch, fingerprint=replace(launch.fingerprint, context={"unit": unit}))

    records = (record(launch=H200.id), record(launch=H100.id))
    several, one, unknown = (
        " ".join(Content(gathered(*records, launches=launches)).facts)
        for launches in ((on(H200, "a"), on(H100, "b")), (on(H200, "a"), on(H100, "a")), (H200, H100))
    )
    assert "2 records from 2 launches on 2 GPU units" in several
    assert "unit" not in one + unknown


def test_the_same_records_give_the_same_bytes(record: Callable[..., Record]) -> None:
    found = gathered(record(), record("numpy@eager", SHORT, "unsupported"))
    assert rendered(found, [figure(DRAWING)]) == rendered(found, [figure(DRAWING)])


def test_the_page_needs_nothing_else_and_its_policy_allows_its_own_script_and_style_alone(
    record: Callable[..., Record],
) -> None:
    page = shown(gathered(record()), figure(DRAWING))
    [policy] = [a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    assert policy.startswith("default-src 'none'; ")
    for name in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.held[name].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}';" in policy
    loading = {"img", "iframe", "object", "embed", "audio", "video", "source", "base"}
    assert not [tag for tag, _ in page.elements if tag in loading]
    assert not [a for _, a in page.elements if "src" in a or "style" in a]
    assert [a["href"] for tag, a in page.elements if tag == "link"] == ["data:,"]


def test_every_record_is_a_row_and_columns_that_say_nothing_are_left_out(record: Callable[..., Record]) -> None:
    page = shown(gathered(record(workload=LONG), record("numpy@eager", SHORT, "unsupported")))
    head, *rows = page.tables["records-table"]
    assert [row[:3] for row in rows] == [
        ["torch_flash@eager", "flux-1024px-t512 (4608)", "measured"],
        ["numpy@eager", "flux-256px-t128 (384)", "unsupported"],
    ]
    assert "1.100" in rows[0]
    assert not {"GPU", "Verdict", "Kernelms"} & set(head)


def test_two_gpus_have_a_column_and_a_tile_each(record: Callable[..., Record]) -> None:
    page = shown(gathered(record(), record(launch=H100.id), launches=(H200, H100)))
    assert {row[2] for row in page.tables["records-table"]} == {"GPU", "NVIDIA H200", "NVIDIA H100"}
    assert page.text.count("Fastest at 384 tokens · NVIDIA H") == 2


def test_what_was_not_measured_is_told_with_every_reason_and_the_worst_first(record: Callable[..., Record]) -> None:
    wrong = record("broken@eager", SHORT, "incorrect", reasons=(Reason("a", "rel_l2 0.3"), Reason("b", "holds NaN")))
    page = shown(gathered(record(), record("numpy@eager", SHORT, "unsupported"), wrong))
    _, first, second = page.tables["filtered"]
    assert first[:2] == ["incorrect", "broken@eager"]
    assert "rel_l2 0.3" in first[3]
    assert "holds NaN" in first[3]
    assert second[:2] == ["unsupported", "numpy@eager"]
    assert "2 of 3 cases" in page.text
    assert "1 incorrect, 1 unsupported" in page.text


def test_verdicts_come_worst_first_with_interval_limit_and_command(record: Callable[..., Record]) -> None:
    slow, same = record("slow@eager"), record("same@eager")
    regressed = Verdict(
        slow.case, VerdictKind.REGRESSED, baseline_s=1e-3, found_s=1.02e-3, change=0.02, low=0.015, high=0.025,
        limit=0.01, known_unit=True, launches=2, reproduce="pytest --benchmark-only -k slow",
    )  # fmt: skip
    unchanged = replace(
        regressed, case=same.case, kind=VerdictKind.UNCHANGED, change=0.0, low=-0.005, high=0.005,
        chose="chose cudnn, baseline flash",
    )  # fmt: skip
    page = shown(gathered(record("same@eager", chose="cudnn"), slow, verdicts=(unchanged, regressed)))
    _, row, _, folded = page.tables["sortable filtered verdicts"]
    assert "chose cudnn, baseline flash" in folded[1]
    assert "chose cudnn, baseline flash" not in row[1]
    beside_points = {line for point in json.loads(page.held["data"])["points"].values() for line in point["t"]}
    assert "chose cudnn, baseline flash" in beside_points
    assert any("same@eager" in cell and "chose cudnn" in cell for line in page.tables["records-table"] for cell in line)
    assert row[0] == "regressed"
    assert row[1].startswith("slow@eager")
    assert "pytest --benchmark-only -k slow" in row[1]
    assert row[2:7] == ["1.000", "1.020", "+2.00", "[+1.50, +2.50]", "1"]
    assert folded[0] == "unchanged"
    assert "1 of 2" in page.text
    assert [cell for cell in page.tables["records-table"][2] if "+2.00 % [+1.50, +2.50]" in cell]


def test_the_fastest_is_of_16_bit_accuracy_and_was_not_slowed_down(record: Callable[..., Record]) -> None:
    def timed(variant: str, seconds: float, tolerance: str, **changes: Any) -> Record:
        one = record(variant, LONG, tolerance=tolerance, **changes)
        assert one.sample is not None
        return replace(one, sample=replace(one.sample, rounds_s=(seconds,)))

    page = shown(
        gathered(
            timed("fp8@eager", 1e-3, "fp8"),
            timed("injected@eager", 1.5e-3, "16-bit", injected=0.02),
            timed("exact@eager", 2e-3, "16-bit"),
            timed("tied@eager", 2.01e-3, "16-bit"),
        )
    )
    tile = re.search(r"Fastest 16-bit at 4608 tokens\s+(\S+)\s+(.*)\s+(.*)", page.text)
    assert tile is not None
    assert tile[1] == "exact@eager"
    assert "1 other within 1 %" in tile[2]
    assert tile[3] == "fp8: fp8@eager 1.000 ms"
    assert "1 of 4 records were slowed down on purpose" in page.text


def test_the_fastest_has_the_latency_that_the_table_for_a_readme_has(record: Callable[..., Record]) -> None:
    """The median of the rounds of all launches, which the median of the launches' medians is not."""
    rounds_ms = {"11": (1.0, 9.0, 2.0), "22": (4.0,), "33": (8.0, 8.0, 5.0)}
    launches = tuple(replace(H200, id=name * 6) for name in rounds_ms)
    samples = (Sample(tuple(ms * 1e-3 for ms in one), "t") for one in rounds_ms.values())
    records = [record(launch=launch.id, sample=sample) for launch, sample in zip(launches, samples, strict=True)]
    found = gathered(*records, launches=launches)
    (tile,) = (tile for tile in Content(found).tiles if tile.label.startswith("Fastest"))
    assert tile.lines[0].startswith("5.000 ms")
    assert "| `torch_flash@eager` | 5.000 |" in texts(found)["readme"]()


def test_a_case_that_one_launch_could_not_measure_is_not_the_fastest(record: Callable[..., Record]) -> None:
    launches = (H200, replace(H200, id="1" * 12))
    failed = record("flaky@eager", status="error", launch=launches[1].id)
    tiles = Content(gathered(record("flaky@eager"), failed, launches=launches)).tiles
    assert [(tile.label, tile.value) for tile in tiles if tile.label != "Regressed"] == [
        ("Not measured", "1 of 1 case")
    ]


def test_the_page_counts_flop_as_the_workloads_do(record: Callable[..., Record]) -> None:
    text = " ".join(shown(gathered(record())).text.split())
    assert "FLOP are of the matrix products alone: 2 · pairs · heads · (head_dim + head_dim of v)" in text
    assert "2.5 times as many for a backward call" in text
    assert "causal mask leaves half of a square" in text


def test_accuracy_has_a_row_per_set_of_inputs_and_of_several_launches_the_worst(
    record: Callable[..., Record], check: Callable[..., Any]
) -> None:
    good, worse = check({"rel_l2": 1.0}, rel_l2=0.001), check({"rel_l2": 1.0}, rel_l2=0.002)
    other = replace(good, distribution="outlier-k")
    found = gathered(
        record(checks=(good, other)),
        record(checks=(worse,), launch=H100.id),
        launches=(H200, replace(H200, id=H100.id)),
    )
    head, *rows = shown(found).tables["accuracy-table"]
    assert [row[2] for row in rows] == ["randn*randint(1,5)", "outlier-k"]
    assert rows[0][[one.partition(" ")[0] for one in head].index("Rel.")] == "0.00200"
    assert rows[0][-2:] == ["rel_l2 ≤ 1.00", "passed"]


def test_gpus_stand_side_by_side_in_percent_of_the_reference(record: Callable[..., Record]) -> None:
    def timed(variant: str, seconds: float, launch: Launch) -> Record:
        one = record(variant, LONG, launch=launch.id)
        assert one.sample is not None
        return replace(one, sample=replace(one.sample, rounds_s=(seconds,)))

    reference, kernel = "torch_flash@eager", "mine@eager"
    cases = ((reference, 2e-3, H200), (kernel, 1e-3, H200), (reference, 3e-3, H100), (kernel, 2e-3, H100))
    page = shown(gathered(*(timed(*case) for case in cases), launches=(H200, H100)))
    head, *rows = page.tables["relative-1"]
    assert [one.partition("%")[0] for one in head[1:]] == ["NVIDIA H200", "NVIDIA H200", "NVIDIA H100", "NVIDIA H100"]
    assert rows == [[reference, *["100.0"] * 4], [kernel, "200.0", "200.0", "150.0", "150.0"]]


def test_history_has_the_oldest_against_the_newest_file_and_what_changed_between(record: Callable[..., Record]) -> None:
    def run(day: int, seconds: float, torch: str) -> RunFile:
        context: dict[str, str | int | float | None] = {"torch": torch}
        launch = Launch(
            f"{day}" * 12, f"2026-01-0{day}T00:00:00+00:00", Fingerprint({"device": "NVIDIA H200"}, context)
        )
        one, alone = record(launch=launch.id), record(f"only_{day}@eager", launch=launch.id)
        assert one.sample is not None
        timed = replace(one, sample=replace(one.sample, rounds_s=(seconds,)))
        return RunFile(2, "0.1.0", "torch_flash@eager", (launch,), (timed, alone))

    runs = (run(3, 1.1e-3, "2.11"), run(1, 1e-3, "2.10"), run(2, 1.05e-3, "2.10"))
    found = Gathered(tuple(GatheredRun(f"{at}.json", Kind.RUN, one) for at, one in enumerate(runs)))
    page = shown(found, history=True)
    [_, row] = page.tables["sortable filtered"]
    assert row[0].startswith("torch_flash@eager")
    assert row[1:4] == ["1.000", "1.100", "+10.00"]
    assert row[5] == "2026-01-03: torch 2.10 → 2.11"
    assert "2026-01-02 00:00: 1.05 ms" in row[4]
    assert "sortable filtered" not in shown(found).tables


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_text_of_a_record_is_text(record: Callable[..., Record], name: str) -> None:
    hostile = record(f"{name}@eager", replace(SHORT, name=name), family=name, versions={name: name}, source=name)
    failed = record(f"{name}@default", replace(SHORT, name=name), "error", reasons=(Reason("raised", name),))
    verdict = Verdict(hostile.case, VerdictKind.MISSING, (Reason("why", name),), notes=(name,), reproduce=name)
    launch = replace(H200, fingerprint=Fingerprint({"device": name}, {name: name}))
    found = gathered(hostile, failed, verdicts=(verdict,), launches=(launch,))
    said = {"descriptions": {name: name}, "said": [name]}
    page = shown(found, figure(DRAWING, title=name, subtitle=name, notes=(name,)), **said)
    assert [a.get("id", "") for tag, a in page.elements if tag == "script"] == [
        "data",
        "records-jsonl",
        "table-csv",
        "",
    ]
    assert not [a for _, a in page.elements if any(attribute.startswith("on") for attribute in a)]
    assert sum(tag == "svg" for tag, _ in page.elements) == 1
    assert f"0|{name}@eager" in json.loads(page.held["data"])["variants"]
    start, end = name[:20], name[-20:]
    assert any(start in row[0] and f"{end}@eager" in row[0] for row in page.tables["records-table"])


def test_a_metric_that_is_no_number_is_an_empty_cell(record: Callable[..., Record], check: Callable[..., Any]) -> None:
    unknown = replace(check({}, rel_l2=math.nan, cosine=math.inf), allowed={})
    page = shown(gathered(record(checks=(unknown,))))
    assert "nan" not in page.text.lower().replace("nan.", "")
    assert not [a for _, a in page.elements if a.get("data-v") in ("nan", "inf")]
    json.loads(page.held["data"], parse_constant=pytest.fail)
    written = script_json({"a": [math.nan, "</script x><!--"]})
    assert json.loads(written) == {"a": [None, "</script x><!--"]}
    assert "<" not in written


def restored(text: str) -> list[str]:
    """What page.js makes of shared lines; the browser's test holds it to the same."""
    parts, _, lines = text.partition("\n\n")
    known = parts.split("\n")

    def whole(short: str) -> str:
        return "".join(one if one.isascii() else whole(known[ord(one) - 0x100]) for one in short)

    return [whole(line) for line in lines.split("\n")]


def test_what_records_share_is_held_once(record: Callable[..., Record], check: Callable[..., Any]) -> None:
    many = [record(f"b{at}@eager", checks=(check({}, rel_l2=0.125),)) for at in range(50)]
    found = gathered(*many)
    text = shared(list(jsonl.lines(found.runs[0].run)))
    assert restored(text) == list(jsonl.lines(found.runs[0].run))
    assert text.count('"rel_l2":0.125') == 1
    assert shared([]) == ""


def test_downloads_hold_the_records_and_the_table(record: Callable[..., Record]) -> None:
    found = gathered(record(), record("numpy@eager", SHORT, "unsupported"))
    page = shown(found)
    held = {
        name: zlib.decompress(base64.b64decode(page.held[name])).decode() for name in ("records-jsonl", "table-csv")
    }
    assert restored(held["records-jsonl"]) == list(jsonl.lines(found.runs[0].run))
    assert held["table-csv"] == comma_separated.table(found)


def test_without_plots_the_page_says_why_and_has_its_tables(record: Callable[..., Record]) -> None:
    page = shown(gathered(record()), said=["No plots: matplotlib is not installed."])
    assert "No plots: matplotlib is not installed. The tables below have every figure." in page.text
    assert len(page.tables["records-table"]) == 2


def test_a_report_of_nothing_is_a_page() -> None:
    missing = SourceFile("a.json", Kind.UNKNOWN, Outcome.MISSING, "no such file or folder")
    lines = SourceFile("b.jsonl", Kind.JSONL, Outcome.FOUND, skipped=(Skipped(3, "it is not JSON"),))
    page = shown(Gathered(files=(missing, lines)))
    assert "no record" in page.text
    assert "1 of 2 files could not be used" in page.text
    assert "line 3: it is not JSON" in page.text


@pytest.mark.parametrize(
    ("inside", "why"),
    [
        ("<script>evil()</script>", "script"),
        ("<image href='https://evil.example/p.png'/>", "image"),
        ("<foreignObject/>", "foreignObject"),
        ("<style>*{fill:red}</style>", "style"),
        ("<path onclick='evil()'/>", "onclick"),
        ("<path fill='url(https://evil.example)'/>", "fill"),
        ("<g><a href='https://evil.example'/></g>", "holds a"),
        ("<path>", "well-formed"),
    ],
)
def test_a_plot_that_is_more_than_a_drawing_is_left_out(record: Callable[..., Record], inside: str, why: str) -> None:
    svg = DRAWING.format(inside)
    assert why in refusal(svg)
    page = shown(gathered(record()), figure(svg), figure(DRAWING.format("<path d='M0 0'/>"), stem="good"))
    assert [a["data-stem"] for tag, a in page.elements if tag == "figure"] == ["good"]
    assert "The plot latency is left out" in page.text


def test_only_known_pages_and_hub_repositories_become_addresses() -> None:
    assert documentation("torch_flash", "torch").endswith("scaled_dot_product_attention.html")
    assert documentation("torch_flex", "torch").endswith("flex_attention.html")
    assert documentation("torch_varlen", "torch").endswith("varlen.html")
    assert documentation("torch_flash[FA3]", "torch") == documentation("torch_sdpa", "torch")
    assert documentation("sage_int8_fp8_cuda[per_warp]", "SageAttention") == "https://github.com/thu-ml/SageAttention"
    assert documentation("hf:owner/kernel.v2@1:attend", "hf-kernels") == "https://huggingface.co/owner/kernel.v2"
    for unknown in ("hf:../evil@1", "hf:a/b/../c@1", "hf:javascript:evil", "my_kernel"):
        assert documentation(unknown, "mine") == ""


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (("no-baseline", "inconclusive"), "not judged"),
        (("unchanged", "unchanged"), "none"),
        (("unchanged", "no-baseline"), "none of 1"),
        (("unchanged", "regressed"), "1 of 2"),
    ],
)
def test_cases_that_were_not_judged_are_not_acquitted(
    record: Callable[..., Record], kinds: tuple[str, str], said: str
) -> None:
    records = [record(f"{name}@eager", LONG) for name in "ab"]
    verdicts = tuple(Verdict(one.case, VerdictKind(kind)) for one, kind in zip(records, kinds, strict=True))
    (tile,) = (tile for tile in Content(gathered(*records, verdicts=verdicts)).tiles if tile.label == "Regressed")
    assert tile.value == said


@pytest.mark.parametrize(
    ("unchanged", "new", "said"),
    [
        (2, 0, "No case regressed, and none was left undecided."),
        (2, 51, "No case regressed, and none was left undecided, of the 2 that were compared."),
        (0, 51, "No case was compared: no stored session holds one of them."),
        (2, 50, None),
    ],
)
def test_many_cases_without_a_baseline_are_folded_away(
    record: Callable[..., Record], unchanged: int, new: int, said: str | None
) -> None:
    records = [record(f"v{at}@eager", LONG, launch=H200.id) for at in range(unchanged + new)]
    kinds = ["unchanged"] * unchanged + ["no-baseline"] * new
    verdicts = tuple(Verdict(one.case, VerdictKind(kind)) for one, kind in zip(records, kinds, strict=True))
    content = Content(gathered(*records, verdicts=verdicts))
    page = shown(gathered(*records, verdicts=verdicts))
    assert len(content.loud) == (new if said is None else 0)
    assert len(content.without_baseline) == (new if new > 50 else 0)
    assert ("Cases without a baseline" in page.text) == (new > 50)
    assert said is None or said in page.text


def test_the_tile_of_what_was_not_measured_counts_the_cases_of_each_variant(record: Callable[..., Record]) -> None:
    other = replace(LONG, name="other")
    cases = (("a", LONG, "incorrect"), ("a", other, "incorrect"), ("b", LONG, "incorrect"), ("c", LONG, "unsupported"))
    records = [record(f"{name}@eager", workload, status) for name, workload, status in cases]
    (tile,) = (tile for tile in Content(gathered(*records)).tiles if tile.label == "Not measured")
    assert tile.value == "4 of 4 cases"
    assert tile.lines == (
        "3 incorrect, 1 unsupported",
        "incorrect: a@eager (2), b@eager",
        "unsupported: c@eager",
    )


def test_what_nvidia_smi_said_is_folded_away_with_every_value_that_differs(record: Callable[..., Record]) -> None:
    hot = replace(H200, id="c0", nvidia_smi={"name": "NVIDIA H200", "power.draw": "76.3 W", "temperature.gpu": "38"})
    cold = replace(hot, id="c1", nvidia_smi={**hot.nvidia_smi, "power.draw": "80.1 W"})
    page = shown(gathered(*(record(launch=launch.id) for launch in (hot, cold)), launches=(hot, cold)))
    assert page.tables["nvidia-smi"][1:] == [
        ["name", "NVIDIA H200"],
        ["power.draw", "76.3 W80.1 W"],
        ["temperature.gpu", "38"],
    ]
    assert "nvidia-smi as the launches started (3 fields)" in page.text
    assert "nvidia-smi as" not in shown(gathered(record(launch=H200.id))).text


def test_the_verdict_of_a_case_that_was_not_measured_can_be_filtered(record: Callable[..., Record]) -> None:
    verdict = Verdict("gone@eager-flux-256px-t128", VerdictKind.MISSING, (Reason("missing", "was not measured"),))
    held = shown(gathered(record(launch=H200.id), verdicts=(verdict,))).held
    (facets,) = [json.loads(text)["facets"] for text in held.values() if text.lstrip().startswith('{"facets"')]
    assert "missing" in {name: values for name, _, values in facets}["verdict"]


def test_a_kernel_that_wins_settled_and_loses_under_load_is_said_above_the_records(record: Any) -> None:
    def loaded(variant: str, settled_s: float, median_s: float, note: str = "") -> Record:
        load = SustainedLoad(median_s, median_s, median_s, 9, 3, 2.0, 2.0, True, 0.0, 0, 650.0, 0.975, note=note)
        return record(variant, sample=Sample((settled_s,), "t"), sustained=load)

    page = rendered(gathered(loaded("fast@eager", 1.0e-3, 1.5e-3), loaded("cool@eager", 1.1e-3, 1.2e-3))).decode()
    assert "fast@eager is the fastest when settled (1.000 ms, cool@eager 1.100) and not under continuous load" in page
    assert "J/call" in page
    assert "J/call" not in rendered(gathered(record("a@eager"))).decode()


def test_a_point_says_in_how_many_of_its_launches_it_was_loaded(record: Any) -> None:
    load = SustainedLoad(1e-3, 1e-3, 1e-3, 9, 3, 2.0, 2.0, True, 0.0, 0, 650.0, 0.975)
    again = replace(H200, id="again")
    records = (record(launch=H200.id, sustained=load), record(launch=again.id))
    page = shown(gathered(*records, launches=(H200, again)))
    (point,) = json.loads(page.held["data"])["points"].values()
    assert point["t"][0].endswith(" in 2 launches, 1 of them under load")
