"""Plots by matplotlib: what is in the files, whatever is in the records."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from plotted_runs import LENGTHS, run_of

from attnbench.model import Sample
from attnbench.report import marks
from attnbench.report.bundle import rendered
from attnbench.report.charts.chart import HISTORY, Chart, Point, Series, Session
from attnbench.report.charts.every import charts
from attnbench.report.gather import Gathered, GatheredRun, Kind
from attnbench.report.plots import canvas, drawing
from attnbench.report.plots.beside import pngs_beside

pytest.importorskip("matplotlib", reason="matplotlib is not installed: no plot can be drawn (extra `report`)")

SVG = "{http://www.w3.org/2000/svg}"


def drawn(run, name="latency", **options):
    (chart,) = [one for one in charts([run])[0] if one.name == name]
    return ET.fromstring(drawing.draw_svg(chart, **options))


def with_id(root, gid):
    (found,) = [one for one in root.iter() if one.get("id") == gid]
    return found


def text_of(element):
    return "".join(element.itertext())


def test_latency_svg_has_the_ids_and_classes_that_pages_rely_on():
    root = drawn(run_of("a@eager", "b_c@max-autotune"))
    expected = {
        "figure--latency": "figure",
        "axes--1": "axes",
        "title--main": "title",
        "label--x": "xlabel",
        "label--y": "ylabel",
        "grid-x--1": "grid grid-x",
        "grid-y--2": "grid grid-y",
        "legend": "legend",
    }
    for gid, classes in expected.items():
        assert with_id(root, gid).get("class") == classes
    assert text_of(with_id(root, "title--main")) == "Latency over sequence length"
    series = with_id(root, "series--b-c-max-autotune")
    assert series.get("class").split()[0] == "series"
    assert series.get("data-variant") == "b_c@max-autotune"
    assert {one.get("class") for one in series} == {"leader", "band", "line", "point"}
    points = [one for one in series if one.get("class") == "point"]
    assert [one.get("data-seq") for one in points] == [str(seq) for seq in LENGTHS]
    assert [float(points[0].get(f"data-{name}")) for name in ("low", "value", "high")] == pytest.approx(
        [0.384 * 1.1 * factor for factor in (0.94, 1.0, 1.12)]
    )
    label = with_id(root, "legend-label--b-c-max-autotune")
    assert label.get("data-series") == "series--b-c-max-autotune"
    assert text_of(label) == "b_c@max-autotune"


def test_a_history_has_marks_where_versions_changed_and_a_verdict_fell():
    points = (
        Point(4608, "w", 0.0, x=1.0, is_hollow=True),
        Point(4608, "w", 3.0, x=2.0, told=("1.03 ms", "regressed"), events=("versions", "regressed")),
    )
    series = Series("a@eager", "a-eager", "a@eager", "a", "torch", "eager", points)
    sessions = (Session("2026-01-02T03:04:05+00:00", "unit 1"), Session("2026-01-03T10:30:00+00:00", "unit 2"))
    chart = Chart(
        "history", "history", "NVIDIA H200", HISTORY, "Latency over time", "", "sessions", "change", "%", (series,),
        guide=0.0, sessions=sessions,
    )  # fmt: skip
    root = ET.fromstring(drawing.draw_svg(chart))
    drawn_series = with_id(root, "series--a-eager")
    assert [one.get("class") for one in drawn_series] == [
        "leader", "line", "event event--versions", "event event--regressed", "point", "point",
    ]  # fmt: skip
    first, newest = (one for one in drawn_series if one.get("class") == "point")
    assert (first.get("fill-opacity"), newest.get("data-told")) == ("0", "1.03 ms · regressed")
    assert text_of(next(one for one in root.iter() if one.get("class") == "tick tick-x")) == "01-0203:04unit 1"
    key = [text_of(one) for one in root.iter() if one.get("class") == "key-event"]
    assert key == ["other versions than before", "regressed", "another GPU unit than the newest"]


@pytest.mark.parametrize("name", ["latency", "tflops", "peak", "speed", "workspace", "accuracy", "kernel"])
@pytest.mark.parametrize("lengths", [LENGTHS, (4608,)])
def test_every_plot_has_its_series_and_names_and_no_id_twice(name, lengths):
    root = drawn(run_of(*(f"backend_{at}@eager" for at in range(12)), lengths=lengths), name)
    ids = [one.get("id") for one in root.iter() if one.get("id")]
    assert len(ids) == len(set(ids))
    assert sum(one.startswith("series--") for one in ids) == 12
    assert {text_of(one) for one in root.iter() if one.get("class") == "legend-label"} == {
        f"backend_{at}@eager" for at in range(12)
    }
    assert text_of(with_id(root, "label--x"))


@pytest.mark.parametrize("count", [1, 5, 40])
def test_direct_labels_do_not_collide(count):
    root = drawn(run_of(*(f"backend_{at}@{('eager', 'default')[at % 2]}" for at in range(count))))
    texts = [one for label in root.iter() if label.get("class") == "legend-label" for one in label.iter(f"{SVG}text")]
    assert len(texts) == count
    heights = sorted(float(one.get("y")) for one in texts)
    assert all(later - earlier >= 12 for earlier, later in pairwise(heights))


def test_text_is_text_and_ink_is_the_colour_of_the_page():
    root = drawn(run_of("a@eager"))
    texts = list(root.iter(f"{SVG}text"))
    assert {one.get("fill") for one in texts} == {None}
    assert with_id(root, "figure--latency").get("fill") == "currentColor"
    assert not [one for one in root.iter() if one.get("style")]
    assert "image" not in {one.tag.rpartition("}")[2] for one in root.iter()}


def test_a_file_has_a_style_for_light_and_dark_and_a_part_of_a_page_has_none():
    run = run_of("a@eager")
    style = drawn(run).find(f"{SVG}style")
    assert "prefers-color-scheme:dark" in style.text
    inline = drawn(run, standalone=False)
    assert inline.find(f"{SVG}style") is None


def test_no_colour_but_those_of_families_and_ink():
    text = drawing.draw_svg(charts([run_of("a@eager", "b@eager")])[0][0], standalone=False)
    assert set(re.findall(r"#[0-9a-f]{6}\b", text)) <= set(marks.COLOURS)


def test_the_prefix_of_a_page_is_before_every_id_and_reference():
    root = drawn(run_of("a@eager"), prefix="plot-3-")
    ids = [one.get("id") for one in root.iter() if one.get("id")]
    assert all(one.startswith("plot-3-") for one in ids)
    assert root.get("aria-labelledby") in ids
    assert with_id(root, "plot-3-legend-label--a-eager").get("data-series") in ids


def test_the_same_records_give_the_same_bytes():
    found, _ = charts([run_of("a@eager", "b@default")])
    first, again = ({**drawing.draw_all(found).files, **drawing.draw_all(found[:1], ("png",)).files} for _ in range(2))
    assert first == again
    assert not [name for name, content in first.items() if b"2026" in content and name.endswith("svg")]


@pytest.mark.parametrize("python", [sys.executable, "/no/such/python", "/bin/false"])
def test_png_drawn_by_a_second_process_have_the_same_bytes_and_never_fail_for_it(python, monkeypatch):
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setattr(os, "sched_getaffinity", lambda of: {0, 1}, raising=False)
    found = charts([run_of("a@eager", "b@default")])[0][:1]
    assert pngs_beside(found)() == drawing.draw_all(found, ("png",))


def test_a_dark_png_is_the_chart_drawn_in_light_ink():
    (found,) = charts([run_of("a@eager", "b@default")])[0][:1]
    files = drawing.draw_all([found], ("png",)).files
    families = marks.family_marks(one.family for one in found.series)
    assert files["latency.png"] == drawing.draw_png(found, families)
    assert files["latency-dark.png"] == drawing.draw_png(found, families, dark=True) != files["latency.png"]


def test_files_are_named_by_the_chart():
    found, _ = charts([run_of("a@eager", lengths=(384,))])
    drawn = drawing.draw_all(found[:1], ("svg", "png"))
    files, said = drawn.files, drawn.sentences
    assert (sorted(files), said) == (["latency-dark.png", "latency.png", "latency.svg"], [])
    assert files["latency.png"].startswith(b"\x89PNG")
    assert files["latency.png"] != files["latency-dark.png"]


NAMES = [
    "</script><script>alert(1)</script>@eager",
    "<svg onload=x>&amp;\"'@eager",
    "$\\frac{1}{0}$ $x_1@eager",
    "_hidden_@default",
    "注意力机制 ☃ 🙂@eager",
    "\x00\x1b[31m\ud800\u202e@eager",
    "x" * 1000 + "@eager",
    " @eager",
]


@pytest.mark.parametrize("lengths", [LENGTHS, (384,)])
def test_any_name_is_shown_escaped_and_cut(lengths, capfd, recwarn):
    run = run_of(*NAMES, lengths=lengths, device="<b>$GPU_1$</b>" * 100)
    found, _ = charts([replace(run, reference=NAMES[2])])
    drawn = drawing.draw_all(found)
    files, said = drawn.files, drawn.sentences
    assert (len(files), said) == (len(found), [])
    assert len(drawing.draw_all(found[:1], ("png",)).files) == 2
    text = files[next(name for name in files if name.startswith("latency") and name.endswith(".svg"))].decode()
    root = ET.fromstring(text)
    assert "<script" not in text
    assert "</script" not in text
    expected = {"svg", "title", "desc", "style", "g", "path", "circle", "text"}
    assert {one.tag.rpartition("}")[2] for one in root.iter()} <= expected
    shown = " ".join(text_of(one) for one in root.iter() if one.get("class") == "legend-label")
    assert "</script>" in shown
    assert "$\\frac{1}{0}$" in shown
    assert "注意力机制 ☃ 🙂" in shown
    assert "\\x00\\x1b[31m\\ud800\\u202e" in shown
    assert max(len(one.text) for one in root.iter(f"{SVG}text")) <= canvas.LONGEST_SUBTITLE
    assert capfd.readouterr() == ("", "")
    assert not list(recwarn)


def test_the_whole_of_a_name_that_was_cut_is_its_title():
    root = drawn(run_of("x" * 300 + "@eager"))
    (label,) = [one for one in root.iter() if one.get("class") == "legend-label"]
    assert label.find(f"{SVG}title").text == "x" * 300 + "@eager"
    assert len(label.find(f"{SVG}text").text) == canvas.LONGEST_LABEL


@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("spread", [1.0, 1.0001, 1e6])
def test_values_of_any_size_are_drawn(factor, spread):
    run = run_of("b0@eager", "b1@eager", lengths=(384,))
    records = tuple(
        replace(one, sample=Sample((1e-3 * factor * spread**at,), "t"), workspace_bytes=0)
        for at, one in enumerate(run.records)
    )
    found, _ = charts([replace(run, records=records)])
    assert drawing.draw_all(found).sentences == []


def test_lengths_far_apart_are_on_a_logarithmic_axis():
    root = drawn(run_of("a@eager", lengths=(128, 1024, 131072)))
    assert text_of(with_id(root, "label--x")) == "sequence length (tokens), log scale"
    assert [text_of(one) for one in root.iter() if one.get("class") == "tick tick-x"] == ["128", "1024", "131072"]


def test_a_plot_that_fails_is_a_sentence_and_the_others_are_drawn(monkeypatch):
    found, _ = charts([run_of("a@eager")])
    whole = drawing.figure_of

    def failing(chart, *args, **options):
        if chart.name == "latency":
            raise RuntimeError("out of ink")
        return whole(chart, *args, **options)

    monkeypatch.setattr(drawing, "figure_of", failing)
    drawn = drawing.draw_all(found)
    files, said = drawn.files, drawn.sentences
    assert said == ["The plot latency was not drawn: RuntimeError: out of ink"]
    assert len(files) == len(found) - 1


def test_a_users_settings_stay_and_do_not_show(monkeypatch):
    import matplotlib as mpl

    (chart, *_), _ = charts([run_of("a@eager")])
    expected = drawing.draw_svg(chart)
    with mpl.rc_context({"font.size": 30, "path.sketch": (3, 100, 2), "svg.fonttype": "path", "text.color": "red"}):
        assert drawing.draw_svg(chart) == expected
        assert mpl.rcParams["font.size"] == 30


def test_a_fresh_process_without_home_or_display_draws_in_silence(tmp_path):
    """matplotlib's folder cannot be made, its settings file and its back end are odd, and there is no display."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    settings = tmp_path / "matplotlibrc"
    settings.write_text("backend: TkAgg\nfont.family: No Such Font\nno.such.key: 1\n")
    script = f"""
import sys
from attnbench.report.plots import drawing
assert "matplotlib" not in sys.modules
assert drawing.unavailable() == ""
sys.path.insert(0, {str(Path(__file__).parent)!r})
from plotted_runs import run_of
from attnbench.report.charts.every import charts
drawn = drawing.draw_all(charts([run_of("注@eager")])[0][:1], ("svg", "png"))
files, said = drawn.files, drawn.sentences
assert not said and len(files) == 3, said
assert "matplotlib.pyplot" not in sys.modules
"""
    environment = {
        "PYTHONPATH": os.pathsep.join(one for one in sys.path if one),
        "MPLCONFIGDIR": str(blocked / "below"),
        "HOME": str(blocked),
        "MATPLOTLIBRC": str(settings),
        "MPLBACKEND": "TkAgg",
        "TMPDIR": str(tmp_path),
    }
    found = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_a_report_with_plain_attention_has_its_speed_up_and_memory_saving():
    runs = [run_of("a@eager", f"{plain}@eager", "flash@eager") for plain in ("torch_math", "torch_flash")]
    with_it, without = (set(rendered(Gathered((GatheredRun("run.json", Kind.RUN, run),)), ("svg",))[0]) for run in runs)
    assert with_it - without == {"speedup.svg", "saving.svg"}
