"""A real Chromium, and one report in it that has everything: plots, verdicts, what was not measured, hostile names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chromium import find_browser

from attnbench.model import (
    SCHEMA_VERSION,
    Check,
    ErrorMetrics,
    Fingerprint,
    Launch,
    Reason,
    Record,
    RunFile,
    Sample,
    Status,
    Verdict,
    VerdictKind,
)
from attnbench.report.charts.every import charts as every_chart
from attnbench.report.gather import Gathered, GatheredRun, Kind, Outcome, SourceFile, key_of
from attnbench.report.plots import drawing
from attnbench.workload import Workload

HOSTILE = "</script><svg onload=evil()>"
LENGTHS = (1024, 2048, 4096)
DRAWN = ("latency", "tflops", "accuracy")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One headless browser for all tests of a process."""
    from playwright.sync_api import sync_playwright

    found = find_browser()
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox refuses root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def gathered() -> Gathered:
    """Four variants of three families at three lengths, and a fifth that cannot run."""
    context: dict[str, str | int | float | None] = {"torch": "2.11.0", "driver": "580.1"}
    launch = Launch("0123456789ab", "2026-01-02T03:04:05+00:00", Fingerprint({"device": "NVIDIA H200"}, context))
    workloads = [Workload(f"w{seq}", 1, seq, 24, 128) for seq in LENGTHS]
    records = [
        _record(launch, workload, *variant)
        for workload in workloads
        for variant in (
            ("torch_flash", "torch", "eager", 2.0),
            ("torch_cudnn", "torch", "default", 1.2),
            ("flash_attn_3", "flash-attn", "eager", 1.0),
            (HOSTILE, "mine", "eager", 3.0),
        )
    ]
    refused = Record(
        "late@eager-w4096", "late", "mine", "eager", workloads[-1], launch.id, Status.UNSUPPORTED,
        (Reason("capability", "needs sm_100 or newer, found sm_90"),),
    )  # fmt: skip
    verdicts = tuple(
        Verdict(
            record.case, kind, baseline_s=1e-3, found_s=1e-3 * (1 + change), change=change, low=change - 0.005,
            high=change + 0.005, limit=0.01, known_unit=True, launches=2, reproduce="pytest --benchmark-only",
        )
        for record, kind, change in (
            (records[-1], VerdictKind.UNCHANGED, 0.0),
            (records[-2], VerdictKind.REGRESSED, 0.03),
            (records[-3], VerdictKind.REGRESSED, 0.02),
        )
    )  # fmt: skip
    run = RunFile(SCHEMA_VERSION, "0.1.0", "torch_flash@eager", (launch,), (*records, refused), verdicts=verdicts)
    judged = {verdict.case: verdict for verdict in verdicts}
    return Gathered(
        (GatheredRun("run.json", Kind.RUN, run),),
        (SourceFile("run.json", Kind.RUN, Outcome.FOUND, records=len(run.records)),),
        {key_of(record): judged[record.case] for record in records if record.case in judged},
    )


@pytest.fixture(scope="session")
def report(browser: Any, gathered: Gathered, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as a file."""
    from attnbench.report.bundle import texts
    from attnbench.report.page.render import Downloads, Figure, render

    charts, _ = every_chart([source.run for source in gathered.runs])
    figures = [
        Figure(
            chart.stem,
            chart.name,
            chart.title,
            chart.subtitle,
            chart.device,
            chart.kind,
            chart.unit,
            drawing.draw_svg(chart, prefix=f"{chart.stem}--", standalone=False),
        )
        for chart in charts
        if chart.name in DRAWN
    ]
    path = tmp_path_factory.mktemp("report") / "index.html"
    made = texts(gathered)
    downloads = Downloads(made["jsonl"](), made["csv"]())
    described = {"flash_attn_3": "FlashAttention-3, for Hopper"}
    path.write_bytes(render(gathered, figures, downloads=downloads, descriptions=described))
    return path


@pytest.fixture(scope="session")
def report_over_time(gathered: Gathered, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two runs of which the second is slower, with its history."""
    from attnbench.report.bundle import rendered

    [first] = gathered.runs
    launch = Launch("ba9876543210", "2026-01-09T03:04:05+00:00", first.run.launches[0].fingerprint)
    later = replace(
        first.run,
        launches=(launch,),
        records=tuple(
            replace(one, launch=launch.id, sample=replace(one.sample, rounds_s=[s * 1.1 for s in one.sample.rounds_s]))
            for one in first.run.records
            if one.sample is not None
        ),
    )
    judged = {verdict.case: verdict for verdict in later.verdicts}
    both = Gathered(
        (
            GatheredRun("run.json", Kind.RUN, replace(first.run, verdicts=())),
            GatheredRun("later.json", Kind.RUN, later),
        ),
        verdict_of={key_of(record): judged[record.case] for record in later.records if record.case in judged},
    )
    files, _ = rendered(both, ("html",), history=True)
    path = tmp_path_factory.mktemp("history") / "index.html"
    path.write_bytes(files["index.html"])
    return path


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Callable[..., Any]]:
    """`opened(width=…, color_scheme=…)`: the page, or that of `path`.

    Fails afterwards where it asked for anything, or had an error.
    """
    contexts, problems = [], []

    def open_page(width: int = 1280, *, script: bool = True, path: Path = report, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, java_script_enabled=script, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: problems.append(request.url) if _is_foreign(request.url, path) else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(dialog.message))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def _is_foreign(url: str, path: Path) -> bool:
    return not url.startswith((path.as_uri(), "data:", "blob:"))


def _record(launch: Launch, workload: Workload, backend: str, family: str, mode: str, milliseconds: float) -> Record:
    seconds = milliseconds * 1e-3 * (workload.seq / LENGTHS[0]) ** 2
    error = ErrorMetrics(0.01, 0.001, 1e-6, 0.001, 0.001 * milliseconds, 0.999999, 0, (0, 0, 0, 0), 1.0, 1.01)
    return Record(
        f"{backend}@{mode}-{workload.name}",
        backend,
        family,
        mode,
        workload,
        launch.id,
        Status.MEASURED,
        tolerance="16-bit",
        versions={"some-kernel": "3.1"},
        checks=(Check(workload.distribution, error, error, error, {"rel_l2": 0.1}, "all", True),),
        sample=Sample((seconds, seconds * 1.01, seconds * 1.02), "cuda-events"),
    )
