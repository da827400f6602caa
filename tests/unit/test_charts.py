"""What the plots show, from records alone."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from attnbench.model import Check, DeviceCeilings, ErrorMetrics, Fingerprint, Launch, Sample, SustainedLoad
from attnbench.report.charts.chart import DOTS, LINES, MOST_SERIES, PAIRS, SCATTER, unique_slugs
from attnbench.report.charts.every import MOST_PROBLEMS, charts
from attnbench.report.charts.matrix_peak import matrix_peak
from attnbench.stats import quantile
from attnbench.workload import Workload

WORKLOAD = Workload("flux-256px-t128", 1, 384, 24, 128)
LONG = replace(WORKLOAD, name="flux-1024px-t512", seq=4608)


def timed(*rounds_s):
    return Sample(rounds_s, "t")


def checked(rel_l2, distribution=WORKLOAD.distribution):
    error = ErrorMetrics(1e-3, 1e-3, 1e-3, 1e-3, rel_l2, 1.0, 0, (0, 0, 0, 0), 0.5, 0.25)
    return Check(distribution, error, error, error, {}, "all", True)


def device(name, launch="0123456789ab", **changes):
    return Launch(launch, "2026-01-02T03:04:05+00:00", Fingerprint({"device": name}, {}), **changes)


def drawn(run, name):
    (chart,) = [one for one in charts([run])[0] if one.name == name]
    return chart


def why_not(run, name):
    (missing,) = [one for one in charts([run])[1] if one.name == name]
    return missing.why


def test_latency_over_length_has_a_line_per_variant_with_its_band(record, run_file):
    run = run_file(
        record(sample=timed(1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3)),
        record(workload=LONG, sample=timed(8e-3)),
        record("other@default", sample=timed(7e-3)),
    )
    chart = drawn(run, "latency")
    assert (chart.kind, chart.stem, chart.unit) == (LINES, "latency", "ms")
    best, other = chart.series
    assert (best.name, best.backend, best.mode, best.slug) == (
        "torch_flash@eager",
        "torch_flash",
        "eager",
        "torch-flash-eager",
    )
    assert [(p.seq, p.value, p.low, p.high) for p in best.points] == [(384, 3.5, 2.0, 5.0), (4608, 8.0, 8.0, 8.0)]
    assert [p.value for p in other.points] == [7.0]


def test_the_fastest_at_the_greatest_length_comes_first_and_the_highest_rate_too(record, run_file):
    slow, fast = record("slow@eager", sample=timed(2e-3)), record("fast@eager", sample=timed(1e-3))
    run = run_file(slow, fast)
    assert [one.name for one in drawn(run, "latency").series] == ["fast@eager", "slow@eager"]
    assert [one.name for one in drawn(run, "tflops").series] == ["fast@eager", "slow@eager"]


def test_one_length_only_is_a_row_per_variant(record, run_file):
    chart = drawn(run_file(record(), record("other@eager")), "latency")
    assert chart.kind == DOTS
    assert "sequence length 384" in chart.subtitle


def test_throughput_and_share_of_the_peak_are_of_the_median(record, run_file):
    run = run_file(record(workload=LONG, sample=timed(1e-3, 2e-3, 3e-3)), launches=(device("NVIDIA H200"),))
    (point,) = drawn(run, "tflops").series[0].points
    assert point.value == pytest.approx(LONG.flop / 2e-3 / 1e12)
    assert point.low < point.value < point.high
    (share,) = drawn(run, "peak").series[0].points
    assert share.value == pytest.approx(point.value / 989.4 * 100)


@pytest.mark.parametrize(
    "name",
    [
        "A CPU",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "",
    ],
)
def test_a_device_whose_peak_is_not_known_has_a_sentence_instead_of_a_plot(record, run_file, name):
    assert matrix_peak(name) is None
    shown = name or "unknown device"
    assert why_not(run_file(record(), launches=(device(name),)), "peak").startswith(
        f"The matrix peak of {shown} is not"
    )


def test_the_peak_of_sixteen_bits_is_not_held_against_other_types(record, run_file):
    run = run_file(record(workload=replace(WORKLOAD, dtype="fp32")), launches=(device("NVIDIA H200"),))
    assert why_not(run, "peak").endswith("for bf16 and fp16, and these inputs are fp32.")


def test_speed_is_against_the_reference_at_the_same_length(record, run_file):
    run = run_file(
        record(sample=timed(4e-3)), record("b@eager", sample=timed(1e-3)), record("c@eager", LONG, sample=timed(1e-3))
    )
    chart = drawn(run, "speed")
    assert {one.name: [p.value for p in one.points] for one in chart.series} == {
        "b@eager": [4.0],
        "torch_flash@eager": [1.0],
    }
    assert chart.guide == 1.0
    assert "Not drawn, no torch_flash@eager at the same length: c@eager." in chart.notes


def test_a_reference_that_was_not_measured_is_a_sentence(record, run_file):
    said = why_not(run_file(record("b@eager")), "speed")
    assert said == "torch_flash@eager is the reference of speed and was not measured, so there is no speed to plot."


def test_accuracy_is_on_the_timed_inputs_at_the_greatest_length(record, run_file):
    short = record(checks=(checked(0.9),))
    exact = record(workload=LONG, checks=(checked(0.5, "randn"), checked(2e-3)))
    quantised = record("int8@eager", LONG, sample=timed(5e-4), checks=(checked(0.05),))
    none = record("unchecked@eager", LONG)
    chart = drawn(run_file(short, exact, quantised, none), "accuracy")
    assert chart.kind == SCATTER
    assert {one.name: (one.points[0].x, one.points[0].value) for one in chart.series} == {
        "int8@eager": (0.5, 0.05),
        "torch_flash@eager": (1.1, 2e-3),
    }
    assert "Not drawn, no accuracy check: unchecked@eager." in chart.notes


@pytest.mark.parametrize("rel_l2", [0.0, float("nan"), float("inf")])
def test_an_error_that_no_logarithmic_axis_can_show_is_left_out(record, run_file, rel_l2):
    run = run_file(record(checks=(checked(rel_l2),)))
    assert "has an accuracy check" in why_not(run, "accuracy")


def test_kernel_time_stands_beside_call_time(record, run_file):
    chart = drawn(run_file(record(kernel_s=8e-4), record("b@eager")), "kernel")
    assert chart.kind == PAIRS
    assert [(one.name, one.points[0].inner, one.points[0].value) for one in chart.series] == [
        ("torch_flash@eager", pytest.approx(0.8), 1.1)
    ]
    assert chart.notes == ("Not drawn, no kernel time: b@eager.",)


def test_workspace_is_in_mebibytes_and_has_no_band(record, run_file):
    (one,) = drawn(run_file(record(workspace_bytes=3 * 2**20), record("b@eager")), "workspace").series
    assert (one.points[0].value, one.points[0].low) == (3.0, None)


def test_what_was_not_measured_is_no_point(record, run_file):
    run = run_file(record(), record("b@eager", status="unsupported"), record("c@eager", status="error"))
    assert [one.name for one in drawn(run, "latency").series] == ["torch_flash@eager"]


def test_no_measurement_at_all_is_one_sentence(record, run_file):
    found, missing = charts([run_file(record(status="error"), record("b@eager", status="unsupported"))])
    assert found == ()
    assert [one.why for one in missing] == ["None of 2 cases on A CPU was measured, so there is no plot."]


def test_no_runs_are_no_plots():
    assert charts([]) == ((), ())


def test_each_device_has_its_own_plots_and_files(record, run_file):
    one = run_file(record(launch="a"), launches=(device("NVIDIA H200", "a"),))
    other = run_file(record(launch="b"), launches=(device("NVIDIA H100 80GB HBM3", "b"),))
    found = [chart for chart in charts([one, other])[0] if chart.name == "latency"]
    assert [chart.stem for chart in found] == ["latency-nvidia-h200", "latency-nvidia-h100-80gb-hbm3"]
    assert [len(chart.series[0].points) for chart in found] == [1, 1]


def test_a_simulated_device_is_not_mixed_with_a_real_one_of_its_name(record, run_file):
    real = run_file(record(launch="a"), launches=(device("NVIDIA H200", "a"),))
    simulated = run_file(record(launch="b"), launches=(device("NVIDIA H200", "b", simulated=True),))
    devices = {chart.device for chart in charts([real, simulated])[0]}
    assert devices == {"NVIDIA H200", "NVIDIA H200 (simulated)"}


@pytest.mark.parametrize("field", ["batch", "heads", "head_dim", "dtype", "distribution"])
def test_another_problem_is_another_plot(record, run_file, field):
    other = {"batch": 2, "heads": 8, "head_dim": 64, "dtype": "fp16", "distribution": "randn"}[field]
    run = run_file(record(), record(workload=replace(WORKLOAD, name="other", **{field: other})))
    found = [chart for chart in charts([run])[0] if chart.name == "latency"]
    assert [chart.stem for chart in found] == ["latency", "latency-2"]
    assert found[0].subtitle != found[1].subtitle


@pytest.mark.parametrize("fields", [{"kv_heads": 8}, {"dropout": 0.1}, {"mask": "causal"}, {"layout": "bhsd"}])
def test_plots_of_two_problems_say_what_tells_them_apart(record, run_file, fields):
    run = run_file(record(), record(workload=replace(WORKLOAD, name="other", **fields)))
    plain, other = (chart.subtitle for chart in charts([run])[0] if chart.name == "latency")
    assert plain != other


def test_lengths_of_padding_follow_from_the_length_and_are_one_line(record, run_file):
    padded = [
        replace(WORKLOAD, name=f"w{seq}", seq=seq, mask="padding", lengths=(seq // 2,) * WORKLOAD.batch)
        for seq in (256, 512)
    ]
    found = [
        chart for chart in charts([run_file(*(record(workload=one) for one in padded))])[0] if chart.name == "latency"
    ]
    assert [[point.seq for point in one.points] for chart in found for one in chart.series] == [[256, 512]]


def test_of_many_problems_those_with_most_cases_are_drawn_and_the_others_named(record, run_file):
    records = [
        record(workload=replace(WORKLOAD, name=f"w{heads}", heads=heads)) for heads in range(1, MOST_PROBLEMS + 3)
    ]
    records.append(record("b@eager", replace(WORKLOAD, name="w6", heads=6)))
    found, missing = charts([run_file(*records)])
    assert sum(chart.name == "latency" for chart in found) == MOST_PROBLEMS
    assert "6 heads" in found[0].subtitle
    assert missing[0].why == (
        "The 4 problems with most cases on A CPU are drawn, 2 problems not: batch 1, 4 heads × 128, bf16, "
        "inputs randn*randint(1,5); batch 1, 5 heads × 128, bf16, inputs randn*randint(1,5)."
    )


def test_launches_of_a_case_are_one_point(record, run_file):
    first, second = record(launch="a", sample=timed(1e-3)), record(launch="b", sample=timed(3e-3))
    run = run_file(first, second, launches=(device("X", "a"), device("X", "b")))
    (point,) = drawn(run, "latency").series[0].points
    assert point.value == pytest.approx(2.0)


def test_one_problem_under_two_names_is_drawn_once_and_said(record, run_file):
    run = run_file(record(), record(workload=replace(WORKLOAD, name="1x384x24x128:bf16")))
    chart = drawn(run, "latency")
    assert len(chart.series[0].points) == 1
    expected = "The same problem under a second workload name, drawn once: torch_flash@eager on 1x384x24x128:bf16."
    assert expected in chart.notes


@pytest.mark.parametrize(
    "changes",
    [
        [{"mask": "padding", "lengths": (384,)}, {"mask": "padding", "lengths": (100,)}],
        [{"packed": (192, 192)}, {"packed": (380, 4)}],
        [{"seed": 0}, {"seed": 1}],
    ],
    ids=["padding", "packed", "seed"],
)
def test_two_problems_of_one_length_are_never_drawn_as_one(record, run_file, changes):
    both = [replace(WORKLOAD, name=name, **fields) for name, fields in zip("ab", changes, strict=True)]
    run = run_file(*(record(workload=one, sample=timed(ms * 1e-3)) for one, ms in zip(both, (1.0, 8.0), strict=True)))
    latency = [one for one in charts([run])[0] if one.name == "latency"]
    assert [[point.value for point in one.series[0].points] for one in latency] == [[1.0], [8.0]]
    assert len({one.subtitle for one in latency}) == 2
    assert not any("drawn once" in note for one in latency for note in one.notes)


def test_what_was_slowed_down_on_purpose_is_said(record, run_file):
    assert (
        "Slowed down on purpose (--attn-inject): torch_flash@eager."
        in drawn(run_file(record(injected=0.02)), "latency").notes
    )


def test_a_case_is_drawn_as_it_is_and_not_as_it_was_slowed_down_on_purpose(record, run_file):
    plain = record(sample=timed(1e-3), launch="1")
    slowed = record(sample=timed(2e-3), launch="2", injected=1.0)
    for both in ((plain, slowed), (slowed, plain)):
        chart = drawn(run_file(*both, launches=(device("X", "1"), device("X", "2"))), "latency")
        assert [point.value for one in chart.series for point in one.points] == [1.0]
        assert chart.notes == ("Slowed down on purpose (--attn-inject) and not drawn: torch_flash@eager.",)


def test_no_speed_is_against_a_reference_that_was_slowed_down_on_purpose(record, run_file):
    run = run_file(record(injected=1.0), record("other@eager"))
    assert why_not(run, "speed") == (
        "torch_flash@eager is the reference of speed and was slowed down on purpose (--attn-inject), "
        "so there is no speed to plot."
    )


def test_more_variants_than_can_be_read_are_counted(record, run_file):
    many = [record(f"b{number}@eager", sample=timed(1e-3 * (number + 1))) for number in range(MOST_SERIES + 5)]
    chart = drawn(run_file(*many), "latency")
    assert len(chart.series) == MOST_SERIES
    assert chart.series[-1].name == f"b{MOST_SERIES - 1}@eager"
    assert f"The best {MOST_SERIES} of {MOST_SERIES + 5} variants are drawn." in chart.notes


def test_slugs_are_unique_ascii_and_short():
    names = ["a_b@eager", "a-b@eager", "注意力@eager", "注意@eager", "注", "x" * 1000, "</script>", ""]
    slugs = unique_slugs(names)
    assert len(set(slugs.values())) == len(names)
    assert all(re.fullmatch("[a-z0-9-]{1,64}", slug) for slug in slugs.values())
    assert (slugs["a_b@eager"], slugs["a-b@eager"], slugs["注"]) == ("a-b-eager", "a-b-eager-2", "variant")


def test_quantiles_are_linear_between_rounds():
    assert quantile([4.0, 1.0, 2.0, 3.0, 5.0, 6.0], 0.2) == 2.0
    assert quantile([1.0, 2.0], 0.25) == 1.25
    assert quantile([7.0], 0.8) == 7.0


def loaded(median_s, joules):
    return SustainedLoad(median_s, 0.9 * median_s, 1.1 * median_s, 9, 3, 2.0, 2.0, True, 0.0, 0, 700.0, joules)


def test_continuous_load_has_plots_only_where_a_case_ran_under_it(record, run_file):
    names = {"energy", "sustained", "error-energy"}
    drawn_now, missing = charts([run_file(record())])
    assert not names & {one.name for one in (*drawn_now, *missing)}

    fields = {"workload": LONG, "checks": (checked(2e-3),)}
    cold = record("cold@eager", sample=timed(2e-3), sustained=loaded(2.2e-3, 1.5), **fields)
    hungry = record("hungry@eager", sample=timed(1e-3), sustained=loaded(1.6e-3, None), **fields)
    run = run_file(cold, hungry, record("a@eager", sample=timed(1e-3), **fields))
    (energy,) = drawn(run, "energy").series
    assert (energy.name, energy.points[0].value) == ("cold@eager", 1.5)
    load = drawn(run, "sustained")
    assert load.kind == PAIRS
    (point,) = load.series[0].points
    assert (load.series[0].name, point.value, point.inner, point.low, point.told[0]) == (
        "hungry@eager",
        pytest.approx(1.6),
        1.0,
        pytest.approx(1.44),
        "1.600× settled",
    )
    (trade,) = drawn(run, "error-energy").series
    assert (trade.points[0].x, trade.points[0].value) == (1.5, 2e-3)


def test_load_is_held_against_the_settled_latency_of_the_same_launches(record, run_file):
    fields = {"workload": LONG, "checks": (checked(2e-3),)}
    there = run_file(record(sample=timed(9e-3), **fields))
    here = run_file(
        record(launch="two", sample=timed(1e-3), sustained=loaded(1.6e-3, 1.5), **fields),
        launches=(replace(there.launches[0], id="two"),),
    )
    found, _ = charts([there, here])
    (load,) = (one for one in found if one.name == "sustained")
    (point,) = load.series[0].points
    assert (point.inner, point.told[0]) == (1.0, "1.600× settled")


def test_plots_under_load_name_what_the_host_limited_and_what_was_not_steady(record, run_file):
    doubtful = replace(loaded(1.6e-3, 1.5), starved=2, steady=False)
    run = run_file(record("slow@eager", workload=LONG, sample=timed(1e-3), sustained=doubtful, checks=(checked(2e-3),)))
    for name in ("energy", "sustained", "error-energy"):
        assert drawn(run, name).notes == (
            "The GPU waited for the host, so latency under load is the host's too: slow@eager (2 of 3 batches).",
            "Latency under load was not steady when counting began: slow@eager.",
        )


def test_a_load_without_an_energy_counter_says_which_plots_there_are_not(record, run_file):
    found, missing = charts([run_file(record(sample=timed(1e-3), sustained=loaded(1.6e-3, None)))])
    assert "sustained" in {one.name for one in found}
    why = {one.name: one.why for one in missing}
    assert why["energy"].startswith("Energy: no record on ")
    assert why["error-energy"].startswith("Accuracy against energy: no record on ")


def test_a_roofline_is_below_what_this_gpu_reached_and_what_the_datasheet_states(record, run_file):
    ceilings = DeviceCeilings("8192x8192x8192 bf16", 800e12, 2**31, 4e12)
    launches = (device("NVIDIA H200", ceilings=ceilings),)
    both = (record(sample=timed(1e-3)), record(workload=LONG, sample=timed(1e-3)))
    chart = drawn(run_file(*both, launches=launches), "roofline")
    assert chart.kind == SCATTER
    ((low, at_low), (ridge, top), (_, also_top)), sixteen, eight = chart.roofs
    assert (ridge, top, also_top) == (200.0, 800.0, 800.0)
    assert at_low == pytest.approx(low * 4)
    assert ([y for _, y in sixteen], [y for _, y in eight]) == ([989.4] * 2, [1978.9] * 2)
    assert [(point.x, point.value) for point in chart.series[0].points] == [
        (192, pytest.approx(WORKLOAD.flop / 1e9)),
        (2304, pytest.approx(LONG.flop / 1e9)),
    ]


@pytest.mark.parametrize(
    ("dtype", "ceilings"),
    [("bf16", None), ("bf16", DeviceCeilings(note="why")), ("fp32", DeviceCeilings("m", 8e14, 2, 4e12))],
    ids=["not asked for", "not measured", "not 16 bits"],
)
def test_without_ceilings_of_its_dtype_there_is_no_roofline(record, run_file, dtype, ceilings):
    run = run_file(record(workload=replace(WORKLOAD, dtype=dtype)), launches=(device("A", ceilings=ceilings),))
    assert "roofline" not in {one.name for one in charts([run])[0]}
