"""Speed-up and memory saving against plain attention over the length, and FlashAttention's text form."""

from dataclasses import replace

import pytest

from attnbench.globs import UnknownName
from attnbench.model import Fingerprint, Launch, Reason, Sample, Status
from attnbench.report.bundle import rendered
from attnbench.report.gather import Gathered, GatheredRun, Kind
from attnbench.report.speedup import as_markdown, benchmark_lines, speedup_tables
from attnbench.workload import Workload

PLAIN, FLASH = "torch_math@eager", "flash@eager"
MIB = 2**20


def of_length(seq, **changes):
    return replace(Workload(f"w{seq}", 2, seq, 12, 64, "fp16"), **changes)


@pytest.fixture
def gathered(record, run_file):
    """`gathered((variant, workload, milliseconds, MiB), …)`, each in a launch of its own; no milliseconds: unsupported."""

    def make(*calls, gpu="H200"):
        launches, records = [], []
        for number, (variant, workload, ms, mib) in enumerate(calls):
            launches.append(Launch(f"{number:012}", "2026-01-02T03:04:05+00:00", Fingerprint({"device": gpu}, {})))
            outcome = {"sample": None, "status": Status.UNSUPPORTED, "reasons": (Reason("refused", "too large"),)}
            if ms is not None:
                outcome = {"sample": Sample((ms * 1e-3,) * 30, "t")}
            size = None if mib is None else mib * MIB
            records.append(record(variant, workload, launch=launches[-1].id, workspace_bytes=size, **outcome))
        run = run_file(*records, launches=tuple(launches))
        return Gathered((GatheredRun("f", Kind.RUN, run),))

    return make


def test_ratios_are_of_latency_and_of_the_memory_beside_the_inputs(gathered):
    short, long = of_length(512), of_length(1024)
    (table,) = speedup_tables(
        gathered((PLAIN, short, 2.0, 40), (FLASH, short, 1.0, 10), (PLAIN, long, 9.0, 160), (FLASH, long, 3.0, 20))
    )
    assert (table.gpu, table.lengths, table.variants) == ("H200", (512, 1024), (FLASH,))
    assert [table.speedup(FLASH, seq) for seq in table.lengths] == pytest.approx([2, 3])
    assert [table.saving(FLASH, seq) for seq in table.lengths] == [4, 8]
    assert as_markdown(table) == [
        "`H200, batch 2, 12 heads × 64, fp16, inputs randn*randint(1,5)`: speed-up over `torch_math@eager`,",
        "and in brackets memory saving, the inputs not counted; ms and MiB where there is no speed-up.",
        "",
        "| variant | 512 | 1024 |",
        "| --- | --: | --: |",
        "| `torch_math@eager` | 2.000 ms (40.0 MiB) | 9.000 ms (160 MiB) |",
        "| `flash@eager` | 2.00× (4.00×) | 3.00× (8.00×) |",
    ]


def test_a_length_at_which_plain_attention_does_not_fit_has_no_ratio_and_says_why(gathered):
    (table,) = speedup_tables(
        gathered(
            (PLAIN, of_length(512), 2.0, 40), (PLAIN, of_length(65536), None, None), (FLASH, of_length(65536), 9.0, 9)
        )
    )
    assert as_markdown(table)[-2:] == [
        "| `torch_math@eager` | 2.000 ms (40.0 MiB) | unsupported |",
        "| `flash@eager` | not selected | 9.000 ms (9.00 MiB) |",
    ]


def test_launches_are_pooled(gathered):
    calls = [(PLAIN, of_length(512), 6.0, 8)] + [(FLASH, of_length(512), ms, 4) for ms in (1.0, 2.0, 9.0)]
    (table,) = speedup_tables(gathered(*calls))
    assert table.speedup(FLASH, 512) == pytest.approx(3)


def test_a_latency_is_the_median_over_the_rounds_of_all_launches(gathered):
    found = gathered((PLAIN, of_length(512), 6.0, 8), (FLASH, of_length(512), 3.0, 4), (FLASH, of_length(512), 1.0, 4))
    (source,) = found.runs
    *others, last = source.run.records
    longer = replace(last, sample=Sample((1e-3,) * 90, "t"))
    run = replace(source.run, records=(*others, longer))
    (table,) = speedup_tables(Gathered((replace(source, run=run),)))
    assert table.speedup(FLASH, 512) == pytest.approx(6)


@pytest.mark.parametrize(
    "changes",
    [
        {"mask": "causal"},
        {"dropout": 0.1},
        {"direction": "backward"},
        {"kv_heads": 2},
        {"seq_kv": 77},
        {"dtype": "bf16"},
        {"layout": "bhsd"},
        {"head_dim_v": 32},
        {"seed": 1},
        {"distribution": "randn"},
    ],
    ids=str,
)
def test_another_problem_is_another_table(gathered, changes):
    tables = speedup_tables(
        gathered((PLAIN, of_length(512), 2.0, 4), (PLAIN, of_length(512, name="x", **changes), 3.0, 4))
    )
    assert len({table.problem for table in tables}) == len(tables) == 2


@pytest.mark.parametrize(
    ("field", "one", "other"), [("lengths", (512, 256), (512, 64)), ("packed", (256, 256), (500, 12))]
)
def test_other_padding_and_other_packing_is_another_problem(gathered, field, one, other):
    more = {"mask": "padding"} if field == "lengths" else {"batch": 1}
    first, second = (of_length(512, name=str(what), **more, **{field: what}) for what in (one, other))
    tables = speedup_tables(
        gathered((PLAIN, first, 2.0, 4), (FLASH, first, 1.0, 4), (PLAIN, second, 8.0, 4), (FLASH, second, 1.0, 4))
    )
    assert [table.speedup(FLASH, 512) for table in tables] == pytest.approx([2, 8])
    assert len({table.problem for table in tables}) == 2


def test_padding_of_the_same_shares_is_one_problem_over_its_lengths(gathered):
    padded = [of_length(seq, mask="padding", lengths=(seq, seq // 4)) for seq in (512, 1024)]
    (table,) = speedup_tables(gathered(*((PLAIN, one, 1.0, 4) for one in padded)))
    assert table.lengths == (512, 1024)
    assert "mask padding, 100+25 % of the keys real" in table.problem


def test_a_number_of_tokens_is_one_table_where_the_batch_shrinks(gathered):
    calls = [(PLAIN, of_length(seq, batch=4096 // seq), 1.0, 4) for seq in (512, 1024, 2048)]
    (table,) = speedup_tables(gathered(*calls))
    assert (table.lengths, table.problem.partition(",")[0]) == ((512, 1024, 2048), "4")
    assert table.problem.startswith("4,096 tokens, 12 heads × 64")


def test_a_batch_of_several_lengths_has_a_table_beside_that_of_the_tokens(gathered):
    calls = [
        (PLAIN, of_length(seq, batch=batch, name=f"{batch}x{seq}"), 1.0, 4)
        for batch, seq in ((8, 512), (4, 1024), (4, 512))
    ]
    problems = [table.problem.partition(", 12 heads")[0] for table in speedup_tables(gathered(*calls))]
    assert problems == ["batch 4", "4,096 tokens"]


def test_a_run_without_plain_attention_has_no_table_and_an_unknown_variant_is_refused(gathered):
    found = gathered((FLASH, of_length(512), 1.0, 4))
    assert speedup_tables(found) == speedup_tables(Gathered()) == ()
    with pytest.raises(UnknownName, match="unknown variant 'flsh@eager'; known: flash@eager"):
        speedup_tables(found, "flsh@eager")
    assert speedup_tables(found, FLASH)[0].variants == ()


def test_a_report_says_where_there_is_nothing_to_set_against(gathered):
    files, _ = rendered(gathered((FLASH, of_length(512), 1.0, 4)), ("speedup", "relative"))
    assert files["speedup.md"] == b"No speed-up: plain attention, torch_math@eager, has no latency.\n"
    assert files["relative.md"] == b"No relative speed: the reference of the run has no latency.\n"


def test_a_table_for_a_readme_says_where_there_is_no_latency(record, run_file):
    run = run_file(record(status="checked"))
    files, _ = rendered(Gathered((GatheredRun("f", Kind.RUN, run),)), ["readme"])
    assert files["latency.md"].decode().startswith("No latency: no case was timed")


def test_latencies_are_printed_as_flash_attentions_benchmarks_do(gathered):
    step = of_length(1024, name="step", direction="forward+backward")
    found = gathered((FLASH, of_length(512), 8.318, 4), *((FLASH, step, ms, 4) for ms in (3.0, 4.0, 6.0)))
    assert benchmark_lines(found) == [
        "flash@eager on w512, H200 - Forward pass",
        "  8.318 ms",
        "  1 measurement, 30 runs",
        "flash@eager on step, H200 - Forward + Backward pass",
        "  Median: 4.000 ms",
        "  3 measurements, 30 runs per measurement",
    ]


def test_both_are_formats_of_a_report(gathered):
    found = gathered((PLAIN, of_length(512), 2.0, 40), (FLASH, of_length(512), 1.0, 10))
    files, _ = rendered(found, ("speedup", "flash-attn"))
    assert b"| `flash@eager` | 2.00\xc3\x97 (4.00\xc3\x97) |" in files["speedup.md"]
    assert files["flash-attn.txt"].startswith(b"torch_math@eager on w512, H200 - Forward pass\n  2.000 ms\n")
