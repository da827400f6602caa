"""A report as files: every format of what was gathered, by file name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from attnbench.model import RunFile
from attnbench.report import comma_separated, jsonl, kbt, relative, speedup
from attnbench.report.charts.chart import Chart, Missing
from attnbench.report.charts.every import charts
from attnbench.report.gather import Gathered
from attnbench.report.history import history_charts
from attnbench.report.markdown import markdown
from attnbench.report.page.render import Downloads, Figure, render
from attnbench.report.plots import drawing
from attnbench.report.plots.beside import pngs_beside
from attnbench.report.readme import latency_tables
from attnbench.report.speedup_charts import speedup_charts
from attnbench.report.terminal import section
from attnbench.storage.writing import write_whole
from attnbench.units import counted

#: What the Markdown of all runs may have: a comment on GitHub holds 65,536 characters.
COMMENT_BYTES = 65_000
#: Least room for the Markdown of one run among several; runs that do not fit are counted.
_LEAST_BYTES = 2000


def texts(gathered: Gathered, details: bool = False) -> Mapping[str, Callable[[], str]]:
    """By format what makes its one text, once: all of `NAMES`."""
    made: dict[str, Callable[[], str]] = {
        "text": lambda: "\n".join(tables(run, details) for run in _runs(gathered)),
        "markdown": lambda: runs_markdown(_runs(gathered)),
        "readme": lambda: (
            _lines(latency_tables(_runs(gathered)))
            or "No latency: no case was timed, or all that were are slowed down on purpose.\n"
        ),
        "relative": lambda: (
            "\n".join(_lines(relative.as_markdown(t)) for t in relative.relative_tables(gathered))
            or "No relative speed: the reference of the run has no latency.\n"
        ),
        "speedup": lambda: (
            "\n".join(_lines(speedup.as_markdown(t)) for t in speedup.speedup_tables(gathered))
            or f"No speed-up: plain attention, {speedup.PLAIN}, has no latency.\n"
        ),
        "flash-attn": lambda: _lines(speedup.benchmark_lines(gathered)),
        "csv": lambda: comma_separated.table(gathered),
        "jsonl": lambda: _lines(line for source in gathered.runs for line in jsonl.lines(source.run)),
        "kbt": lambda: _lines(kbt.lines(gathered.records, gathered.launches)),
    }
    return {name: cache(make) for name, make in made.items()}


#: By format, the name of its file. Plots have a file each.
NAMES = {
    "text": "tables.txt",
    "markdown": "summary.md",
    "readme": "latency.md",
    "relative": "relative.md",
    "speedup": "speedup.md",
    "flash-attn": "flash-attn.txt",
    "csv": "latency.csv",
    "jsonl": "records.jsonl",
    "kbt": "kernels-benchmarks.jsonl",
}
PAGE = "index.html"
FORMATS = ("html", "svg", "png", *NAMES)
#: Formats that need plots.
_DRAWN = {"html", "svg", "png"}
#: What a folder gets where no format is asked for.
USUAL = ("html", "svg", "csv", "jsonl", "markdown", "readme", "relative")


def rendered(
    gathered: Gathered,
    formats: Sequence[str] = USUAL,
    descriptions: Mapping[str, str] | None = None,
    history: bool = False,
    *,
    details: bool = False,
) -> tuple[dict[str, bytes], list[str]]:
    """File name → content of each of `formats`, and sentences on what could not be drawn.

    The same records give the same bytes. descriptions: by backend what it is, for the page. history: with the
    latency of each case over the runs, as plots and in the page. details: in the text, as under -v.
    """
    found, missing = _charts(gathered, history) if _DRAWN.intersection(formats) else ((), ())
    pngs = pngs_beside(found if "png" in formats else ())
    drawn = drawing.draw_all(found, [one for one in formats if one != "png"])
    files, sentences = dict(drawn.files), list(drawn.sentences)
    made = texts(gathered, details)
    if "html" in formats:
        if find_spec("jinja2") is None:
            sentences.append("No page: it needs Jinja2, which is not installed (pip install 'attnbench[report]').")
        else:
            files[PAGE] = _page(gathered, made, drawn, missing, descriptions, history)
    files |= {NAMES[one]: made[one]().encode() for one in formats if one in made}
    drawn_png = pngs()
    return files | dict(drawn_png.files), list(dict.fromkeys((*sentences, *drawn_png.sentences)))


def _charts(gathered: Gathered, history: bool) -> tuple[tuple[Chart, ...], tuple[Missing, ...]]:
    """Every plot that the records have data for, and a sentence for each other one."""
    found, missing = charts([source.run for source in gathered.runs])
    against_plain, no_ratio = speedup_charts(gathered)
    over_time, no_time = history_charts(gathered) if history else ((), ())
    return (*found, *against_plain, *over_time), (*missing, *no_ratio, *no_time)


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files into a folder, which is made if it is not there. Each appears whole or not at all. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_whole(folder / name, content)


def _page(
    gathered: Gathered,
    made: Mapping[str, Callable[[], str]],
    drawn: drawing.Drawn,
    missing: Sequence[Missing],
    descriptions: Mapping[str, str] | None,
    history: bool,
) -> bytes:
    """The page with its plots inline."""
    return render(
        gathered,
        [_figure(chart, svg) for chart, svg in drawn.figures],
        downloads=Downloads(made["jsonl"](), made["csv"]()),
        descriptions=descriptions,
        said=[*drawn.sentences, *(one.why for one in missing)],
        history=history,
    )


def _figure(chart: Chart, svg: str) -> Figure:
    return Figure(
        stem=chart.stem,
        name=chart.name,
        title=chart.title,
        subtitle=chart.subtitle,
        device=chart.device,
        kind=chart.kind,
        unit=chart.unit,
        svg=svg,
        notes=chart.notes,
    )


def _runs(gathered: Gathered) -> list[RunFile]:
    return [source.run for source in gathered.runs if source.run.records]


def tables(run: RunFile, details: bool) -> str:
    """What the run printed after its tests; details: as under -v."""
    return _lines(section(run, details))


def runs_markdown(runs: Sequence[RunFile]) -> str:
    """The Markdown of every run, in all at most `COMMENT_BYTES`, save a heading; what does not fit is counted."""
    blocks: list[str] = []
    left = COMMENT_BYTES - 100  # for the sentence below
    for number, run in enumerate(runs):
        if left < _LEAST_BYTES:
            cut = counted(len(runs) - number, "more run")
            blocks.append(f"{cut} did not fit into {COMMENT_BYTES:,} bytes.\n")
            break
        room = max(_LEAST_BYTES, left // (len(runs) - number))
        block = markdown(run, room, f"a summary of all runs has at most {COMMENT_BYTES:,} bytes")
        blocks.append(block)
        left -= len(block.encode()) + 1
    return "\n".join(blocks)


def _lines(lines: Iterator[str] | Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
