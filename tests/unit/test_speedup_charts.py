"""Plots of speed-up and memory saving against plain attention."""

from dataclasses import replace

import pytest

from attnbench.model import Fingerprint, Launch, Reason, Sample, Status
from attnbench.report.charts.chart import DOTS, LINES
from attnbench.report.gather import Gathered, GatheredRun, Kind
from attnbench.report.speedup_charts import MOST_TABLES, speedup_charts
from attnbench.workload import Workload

PLAIN, FLASH = "torch_math@eager", "flash@eager"


def of_length(seq, **changes):
    return replace(Workload(f"w{seq}", 2, seq, 12, 64, "fp16"), **changes)


@pytest.fixture
def gathered(record, run_file):
    """`gathered((variant, workload, milliseconds, MiB), …)`; no milliseconds: unsupported."""

    def make(*calls):
        launch = Launch("0123456789ab", "2026-01-02T03:04:05+00:00", Fingerprint({"device": "H200"}, {}))
        records = []
        for variant, workload, ms, mib in calls:
            outcome = {"sample": None, "status": Status.UNSUPPORTED, "reasons": (Reason("refused", "too large"),)}
            if ms is not None:
                outcome = {"sample": Sample((ms * 1e-3,) * 30, "t")}
            size = None if mib is None else mib * 2**20
            records.append(record(variant, workload, workspace_bytes=size, **outcome))
        return Gathered((GatheredRun("f", Kind.RUN, run_file(*records, launches=(launch,))),))

    return make


def values(chart):
    return {one.name: [(point.seq, point.workload, point.value) for point in one.points] for one in chart.series}


def test_both_ratios_are_drawn_over_the_length(gathered):
    short, long = of_length(512), of_length(1024)
    (faster, less), missing = speedup_charts(
        gathered((PLAIN, short, 2.0, 40), (FLASH, short, 1.0, 10), (PLAIN, long, 9.0, 160), (FLASH, long, 3.0, 20))
    )
    assert (faster.stem, less.stem, missing) == ("speedup", "saving", ())
    assert (faster.kind, faster.guide, faster.unit, faster.lower_is_better) == (LINES, 1.0, "×", False)
    assert values(faster) == {FLASH: [(512, "w512", pytest.approx(2)), (1024, "w1024", pytest.approx(3))]}
    assert values(less) == {FLASH: [(512, "w512", 4), (1024, "w1024", 8)]}


def test_one_length_has_a_row_per_variant(gathered):
    (faster, _), _ = speedup_charts(gathered((PLAIN, of_length(512), 2.0, 40), (FLASH, of_length(512), 1.0, 10)))
    assert (faster.kind, faster.title) == (DOTS, "Speed-up against plain attention")
    assert "sequence length 512" in faster.subtitle


def test_without_plain_attention_nothing_is_drawn_and_nothing_missed(gathered):
    assert speedup_charts(gathered((FLASH, of_length(512), 1.0, 10))) == ((), ())


def test_a_length_that_plain_attention_cannot_run_is_named_and_has_no_point(gathered):
    short, long = of_length(512), of_length(65536)
    charts, _ = speedup_charts(
        gathered((PLAIN, short, 2.0, 40), (FLASH, short, 1.0, 10), (PLAIN, long, None, None), (FLASH, long, 3.0, 20))
    )
    assert [[seq for seq, *_ in values(chart)[FLASH]] for chart in charts] == [[512], [512]]
    assert charts[0].notes == (f"No ratio where {PLAIN} was not measured: sequence length 65536.",)
    assert charts[1].notes == (f"No ratio where {PLAIN} has no figure of its memory: sequence length 65536.",)


def test_without_memory_figures_a_sentence_says_so(gathered):
    (faster,), (why,) = speedup_charts(gathered((PLAIN, of_length(512), 2.0, None), (FLASH, of_length(512), 1.0, None)))
    assert (faster.name, why.name) == ("speedup", "saving")
    assert "Memory saving" in why.why


def test_problems_that_are_not_drawn_are_counted(gathered):
    calls = []
    for heads in range(1, MOST_TABLES + 3):
        workload = of_length(512, name=f"w{heads}", heads=heads)
        calls += [(PLAIN, workload, 2.0, 40), (FLASH, workload, 1.0, 10)]
    charts, (why,) = speedup_charts(gathered(*calls))
    assert sum(chart.name == "speedup" for chart in charts) == MOST_TABLES
    assert "those of 2 problems are not" in why.why
