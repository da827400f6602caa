"""Percent of a reference, at one length and as harmonic mean."""

from dataclasses import replace

import pytest

from attnbench.globs import UnknownName
from attnbench.model import Fingerprint, Launch, Sample
from attnbench.report.gather import Gathered, GatheredRun, Kind
from attnbench.report.relative import as_markdown, relative_tables
from attnbench.workload import Workload


def of_length(seq, **changes):
    return replace(Workload(f"w{seq}", 1, seq, 24, 128), **changes)


@pytest.fixture
def gathered(record, run_file):
    """`gathered({gpu: {variant: {seq: milliseconds}}})`."""

    def make(latencies, **changes):
        runs = []
        for number, (gpu, variants) in enumerate(latencies.items()):
            launch = Launch(f"{number:012}", "2026-01-02T03:04:05+00:00", Fingerprint({"device": gpu}, {}))
            records = [
                record(variant, of_length(seq), launch=launch.id, sample=Sample((ms * 1e-3,), "t"), **changes)
                for variant, by_seq in variants.items()
                for seq, ms in by_seq.items()
            ]
            runs.append(GatheredRun("f", Kind.RUN, run_file(*records, launches=(launch,), reference="ref@eager")))
        return Gathered(tuple(runs))

    return make


def test_percents_at_a_length_and_their_harmonic_mean(gathered):
    (table,) = relative_tables(
        gathered({"H200": {"mine@eager": {256: 2.0, 512: 2.0}, "ref@eager": {256: 1.0, 512: 4.0}}})
    )
    assert (table.length, table.lengths, table.gpus) == (512, (256, 512), ("H200",))
    mine, reference = table.shares["mine@eager"][0], table.shares["ref@eager"][0]
    assert mine.at_length == pytest.approx(200.0)
    assert mine.harmonic == pytest.approx(2 / (1 / 50 + 1 / 200))
    assert (reference.at_length, reference.harmonic) == pytest.approx((100, 100))


def test_the_last_row_is_the_references_rate(gathered):
    (table,) = relative_tables(gathered({"H200": {"ref@eager": {256: 1.0, 512: 4.0}}}))
    flop = {seq: 4 * 24 * seq * seq * 128 for seq in (256, 512)}
    at, harmonic = table.reference_tflop_per_s[0]
    assert at == pytest.approx(flop[512] / 4e-3 / 1e12)
    assert harmonic == pytest.approx(2 / (1e-3 / flop[256] + 4e-3 / flop[512]) / 1e12)
    assert as_markdown(table)[-1] == "|  | reference TFLOP/s | 0.8053 | 0.8053 |"


def test_rows_are_numbered_in_the_order_of_the_records(gathered):
    found = gathered({"H200": {"c@eager": {256: 1.0}, "ref@eager": {256: 1.0}, "a@default": {256: 2.0}}})
    assert as_markdown(relative_tables(found)[0]) == [
        "`batch 1, 24 heads × 128, bf16, inputs randn*randint(1,5)`: speed in percent of `ref@eager`,",
        "harmonic mean over 1 length (256); in brackets over how many, where fewer.",
        "",
        "| # | variant | H200: % at 256 | H200: % harmonic mean |",
        "| --: | --- | --: | --: |",
        "| 1 | `c@eager` | 100.0 | 100.0 |",
        "| 2 | `ref@eager` | 100.0 | 100.0 |",
        "| 3 | `a@default` | 50.0 | 50.0 |",
        "|  | reference TFLOP/s | 0.8053 | 0.8053 |",
    ]


def test_runs_with_a_part_of_the_variants_each_are_merged_in_the_order_of_registration(gathered):
    def run(*variants):
        return {f"{variant}@eager": {256: 1.0} for variant in ("ref", *variants)}

    (table,) = relative_tables(gathered({"H200": run("b", "d"), "H100": run("a", "b", "c", "d", "e")}))
    assert list(table.shares) == [f"{name}@eager" for name in ("ref", "a", "b", "c", "d", "e")]


def test_a_run_whose_first_variants_are_new_does_not_move_them_to_the_top(gathered):
    def run(*variants):
        return {f"{variant}@eager": {256: 1.0} for variant in variants}

    runs = {"H200": run("a", "d", "ref"), "H100": run("b", "c", "d", "ref"), "A100": run("a", "b", "ref")}
    (table,) = relative_tables(gathered(runs))
    assert [name.removesuffix("@eager") for name in table.shares] == ["a", "b", "c", "d", "ref"]


def test_runs_whose_orders_contradict_each_other_keep_every_variant(gathered):
    one, two = ({f"{name}@eager": {256: 1.0} for name in names} for names in (("ref", "a", "b"), ("b", "a", "ref")))
    (table,) = relative_tables(gathered({"H200": one, "H100": two}))
    assert sorted(table.shares) == ["a@eager", "b@eager", "ref@eager"]


def test_each_gpu_has_a_pair_of_columns_and_is_held_against_its_own_reference(gathered):
    found = gathered(
        {
            "H200": {"ref@eager": {256: 1.0}, "mine@eager": {256: 2.0}},
            "H100": {"ref@eager": {256: 4.0}, "mine@eager": {256: 2.0}, "other@eager": {256: 4.0}},
        }
    )
    (table,) = relative_tables(found)
    assert as_markdown(table) == [
        "`batch 1, 24 heads × 128, bf16, inputs randn*randint(1,5)`: speed in percent of `ref@eager`,",
        "harmonic mean over 1 length (256); in brackets over how many, where fewer.",
        "",
        "| # | variant | H200: % at 256 | H200: % harmonic mean | H100: % at 256 | H100: % harmonic mean |",
        "| --: | --- | --: | --: | --: | --: |",
        "| 1 | `ref@eager` | 100.0 | 100.0 | 100.0 | 100.0 |",
        "| 2 | `mine@eager` | 50.0 | 50.0 | 200.0 | 200.0 |",
        "| 3 | `other@eager` | – | – | 100.0 | 100.0 |",
        "|  | reference TFLOP/s | 0.8053 | 0.8053 | 0.2013 | 0.2013 |",
    ]


def test_a_gpu_without_the_reference_is_named_and_has_neither_columns_nor_rows(gathered):
    found = gathered({"H200": {"ref@eager": {256: 1.0}}, "L4": {"theirs@eager": {256: 3.0}}})
    (table,) = relative_tables(found)
    assert (table.gpus, table.left_out, list(table.shares)) == (("H200",), ("L4",), ["ref@eager"])
    assert "not on L4, where the reference has no latency" in " ".join(as_markdown(table))


def test_a_mean_over_fewer_lengths_says_so(gathered):
    found = gathered({"H200": {"ref@eager": {256: 1.0, 512: 1.0}, "mine@eager": {256: 2.0, 1024: 1.0}}})
    (table,) = relative_tables(found)
    assert as_markdown(table)[-3:-1] == [
        "| 1 | `ref@eager` | 100.0 | 100.0 |",
        "| 2 | `mine@eager` | 50.0 | 50.0 (1) |",
    ]
    assert table.length == 256
    (table,) = relative_tables(found, length=512)
    assert as_markdown(table)[-2] == "| 2 | `mine@eager` | – | 50.0 (1) |"


def test_a_latency_is_the_median_over_the_rounds_of_all_launches(gathered, record, run_file):
    found = gathered({"H200": {"ref@eager": {256: 1.0}}})
    for ms in ((1.0, 9.0, 2.0), (4.0,), (8.0, 8.0, 5.0)):
        launch = Launch(f"m{ms[0]}", "", Fingerprint({"device": "H200"}, {}))
        sample = Sample(tuple(one * 1e-3 for one in ms), "t")
        run = run_file(record("mine@eager", of_length(256), launch=launch.id, sample=sample), launches=(launch,))
        found = Gathered((*found.runs, GatheredRun("f", Kind.RUN, run)))
    (table,) = relative_tables(found)
    assert table.shares["mine@eager"][0].at_length == pytest.approx(20.0)


def test_records_that_were_slowed_down_on_purpose_are_left_out(gathered):
    assert relative_tables(gathered({"H200": {"ref@eager": {256: 1.0}}}, injected=0.02)) == ()


def test_problems_have_tables_of_their_own(gathered, record, run_file):
    found = gathered({"H200": {"ref@eager": {256: 1.0}}})
    launch = found.runs[0].run.launches[0]
    others = [
        record("ref@eager", of_length(256, **changes), launch=launch.id)
        for changes in ({"heads": 8}, {"dtype": "fp16"}, {"mask": "causal"})
    ]
    found = Gathered((*found.runs, GatheredRun("f", Kind.RUN, run_file(*others, launches=(launch,)))))
    assert [table.problem.split(", inputs")[0] for table in relative_tables(found)] == [
        "batch 1, 24 heads × 128, bf16",
        "batch 1, 8 heads × 128, bf16",
        "batch 1, 24 heads × 128, fp16",
        "batch 1, 24 heads × 128, bf16, mask causal",
    ]


def test_a_reference_may_be_named_as_elsewhere(gathered):
    found = gathered({"H200": {"ref@eager": {256: 1.0}, "torch_efficient@eager": {256: 2.0}}})
    assert relative_tables(found, "torch_mem_eff")[0].reference == "torch_efficient@eager"
    with pytest.raises(UnknownName, match=r"unknown variant 'torch_effic@eager'; known: ref@eager"):
        relative_tables(found, "torch_effic@eager")


def test_without_a_latency_of_the_reference_there_is_no_table(gathered):
    assert relative_tables(gathered({"H200": {"mine@eager": {256: 1.0}}})) == ()
    assert relative_tables(Gathered()) == ()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("x" * 1000, f"`{'x' * 29}…{'x' * 24}@eager`"),
        ("a|b", "<code>a&#124;b&#64;eager</code>"),
        ("a`b", "<code>a&#96;b&#64;eager</code>"),
        ("</script>", "`</script>@eager`"),
        ("注意力", "`注意力@eager`"),
    ],
)
def test_any_name_is_one_cell(gathered, name, shown):
    (table,) = relative_tables(gathered({"<b>|": {"ref@eager": {256: 1.0}, f"{name}@eager": {256: 1.0}}}))
    *_, head, _, _, row, _ = as_markdown(table)
    assert row == f"| 2 | {shown} | 100.0 | 100.0 |"
    assert "&#60;b&#62;&#124;: % at 256" in head
    assert all(line.isprintable() for line in as_markdown(table))
