"""The section of a run: what stands in it, and how wide it gets."""

import dataclasses
import itertools

import pytest

from attnbench.model import Compilation, DeviceOp, Fingerprint, Launch, Sample
from attnbench.report.readme import latency_tables
from attnbench.report.terminal import section
from attnbench.workload import Workload


def flux(pixels=256, tokens=128):
    return Workload(f"flux-{pixels}px-t{tokens}", 1, (pixels // 16) ** 2 + tokens, 24, 128)


def table(run, first):
    """Lines of the table whose header starts with `first`."""
    lines = iter(section(run))
    return list(itertools.takewhile(bool, itertools.dropwhile(lambda line: not line.startswith(first), lines)))


def test_a_run_without_a_case_has_no_section(run_file):
    assert section(run_file()) == []


def test_one_measured_case_is_a_row_in_both_tables(run_file, record):
    run = run_file(record(sample=Sample((1e-3, 2e-3, 3e-3), "perf_counter", host_s=45e-6), workspace_bytes=3 * 2**20))
    assert table(run, "eager: median ms") == [
        "eager: median ms   flux-256px-t128",
        "seq                            384",
        "-----------------  ---------------",
        "torch_flash@eager            2.000",
    ]
    assert table(run, "flux-256px-t128  [") == [
        "flux-256px-t128  [1×384×24×128] bf16 randn*randint(1,5); eager; speed against torch_flash@eager",
        "backend      median  CV  TFLOP   speed  host  workspace",
        "                 ms   %     /s            µs        MiB",
        "-----------  ------  --  -----  ------  ----  ---------",
        "torch_flash   2.000  50  0.906  1.000×  45.0       3.00",
    ]


def test_tests_of_one_function_are_told_apart_by_their_own_parameters(run_file, record):
    def names(*nodeids):
        lines = section(run_file(*(record(nodeid=nodeid) for nodeid in nodeids)))
        (said,) = (line.partition("): ")[2] for line in lines if line.startswith("1 case ran in "))
        return said

    case = record().case
    assert names(f"test_m.py::test_par[{case}-a--b]", f"test_m.py::test_par[x-{case}-b]", f"n.py::a[{case}]") == (
        "1 test_m.py::test_par[a--b], 2 test_m.py::test_par[x-b], 3 n.py::a"
    )
    assert names(f"test_m.py::test_par[{case}]", f"test_m.py::test_par[{case}-b]") == (
        "1 test_m.py::test_par, 2 test_m.py::test_par[b]"
    )


def test_the_mode_has_a_column_where_there_are_several(run_file, record):
    lines = table(run_file(record(), record("b@default")), "flux-256px-t128  [")
    assert lines[0] == "flux-256px-t128  [1×384×24×128] bf16 randn*randint(1,5); speed against torch_flash@eager"
    assert lines[1].split()[:3] == ["backend", "mode", "median"]
    assert [line.split()[:2] for line in lines[4:6]] == [["torch_flash", "eager"], ["b", "default"]]


def test_columns_that_nobody_has_a_figure_for_are_left_out_and_single_gaps_are_unknown(run_file, record):
    with_host = Sample((1e-3, 1e-3), "perf_counter", host_s=45e-6)
    lines = table(run_file(record(sample=with_host), record("torch_math@eager")), "flux-256px-t128  [")
    assert lines[1].split() == ["backend", "median", "CV", "TFLOP", "speed", "host"]
    assert lines[4].split()[-1] == "45.0"
    assert lines[5].split()[-1] == "?"


def test_kernels_that_only_copy_are_counted(run_file, record):
    copied = (DeviceOp("void at::native::direct_copy_kernel_cuda", count=3), DeviceOp("aten::copy_"))
    kernels = (DeviceOp("triton_tem_fused__to_copy_flex_attention_0"), DeviceOp("aten::_to_copy"))
    lines = table(
        run_file(record(route=(*copied, *kernels)), record("torch_math@eager", route=kernels)), "flux-256px-t128  ["
    )
    assert lines[1].split()[-1] == "copies"
    assert [line.split()[-1] for line in lines[4:6]] == ["4", "0"]


def test_what_copying_takes_is_said_beside_the_number_of_copies(run_file, record):
    kernel = DeviceOp("attention", duration_s=400e-6)
    copies = (DeviceOp("direct_copy_kernel_cuda", 3, duration_s=60e-6), DeviceOp("Memcpy DtoD", 1, duration_s=15.3e-6))
    run = run_file(
        record("b@max-autotune", route=(*copies, kernel)),
        record("c@eager", route=(kernel,)),
        record("d@eager", route=(DeviceOp("attention"),)),
    )
    lines = table(run, "flux-256px-t128  [")
    assert lines[1].split()[-2:] == ["copies", "copy"]
    assert lines[2].split()[-1] == "µs"
    assert sorted(tuple(line.split()[i] for i in (0, -2, -1)) for line in lines[4:7]) == [
        ("b", "4", "75.3"),  # of all copies together, not of one
        ("c", "0", "0"),
        ("d", "0", "?"),
    ]


def test_the_kernels_share_of_the_call_stands_where_copies_were_counted(run_file, record):
    quantised = (DeviceOp("quantise", duration_s=100e-6), DeviceOp("Memcpy DtoD", 2, duration_s=30e-6))
    kernel = DeviceOp("attention", duration_s=270e-6)
    run = run_file(
        record("sage@eager", route=(*quantised, kernel), kernel_s=270e-6),
        record("flash@eager", route=(kernel,), kernel_s=270e-6),
        record("math@eager", route=quantised),  # no attention kernel: empty, and not unknown
    )
    header, units, _, *rows = table(run, "flux-256px-t128  [")[1:]
    assert header.split()[-2:] == ["kernel", "copy"]
    assert units.split()[-2:] == ["%", "µs"]
    at = header.index("kernel")
    assert {row.split()[0]: row[at : at + 6].strip() for row in rows} == {"sage": "68", "flash": "100", "math": ""}


@pytest.mark.parametrize("untimed", [DeviceOp("attention"), DeviceOp("quantise")])
def test_without_every_time_there_is_no_share(run_file, record, untimed):
    timed = DeviceOp("attention", duration_s=1e-4)
    assert "kernel" not in table(run_file(record(route=(timed, untimed), kernel_s=1e-4)), "flux-256px-t128  [")[1]


def test_a_workload_of_long_names_is_as_many_tables_as_the_width_asks_for(run_file, record, check):
    """Every column once, each table with backend and mode; what the width does not ask for is one table."""
    sample = Sample((1e-3, 1.1e-3), "cuda-events", host_s=145e-6)
    figures = {"sample": sample, "workspace_bytes": 2**27, "first_call_s": 0.0123, "checks": (check({}),)}
    figures |= {"route": (DeviceOp("attention", duration_s=1e-4),), "kernel_s": 1e-4}
    short, long = record("torch_efficient@max-autotune", **figures), record("b" * 45 + "@eager", **figures)
    assert len(whole := table(run_file(short), "flux-256px-t128  [")) == 5
    lines = section(run_file(short, long))
    assert max(map(len, lines)) <= 120
    heads = [line.split() for line in lines if line.startswith("backend ")]
    assert [head[:2] for head in heads] == [["backend", "mode"]] * 2
    assert [name for head in heads for name in head[2:]] == whole[1].split()[1:]
    assert abs(len(heads[0]) - len(heads[1])) <= 2, "and not all but one column in the first"
    assert sum(line.startswith("bbb") and "@" not in line for line in lines) == 2


def test_error_columns_are_those_of_the_inputs_that_are_timed(run_file, record, check):
    run = run_file(record(checks=(check({}, rel_l2=2.5e-3, max_abs=0.0125),)))
    header, units, _, row = table(run, "flux-256px-t128  [")[1:]
    assert header.endswith("rel. L2   max abs")
    assert units.endswith("error     error")
    assert row.endswith("2.50e-03  1.25e-02")


def test_speed_is_the_references_median_over_the_cases_own(run_file, record):
    run = run_file(
        record(sample=Sample((2e-3,), "t")),
        record("b@default", sample=Sample((1e-3,), "t")),
        record("c@eager", sample=Sample((4e-3,), "t")),
    )
    rows = [line.split() for line in table(run, "flux-256px-t128  [")[4:]]
    assert [(row[0], row[-1]) for row in rows] == [("b", "2.000×"), ("torch_flash", "1.000×"), ("c", "0.500×")]


def test_without_the_reference_there_is_no_speed_and_a_sentence_why(run_file, record):
    run = run_file(record("b@eager"), record(status="unsupported"), record(workload=flux(1024, 512)))
    lines = table(run, "flux-256px-t128  [")
    assert lines[0].endswith("; no speed: torch_flash@eager was not measured")
    assert "speed" not in lines[1]
    assert table(run, "flux-1024px-t512  [")[0].endswith("; speed against torch_flash@eager")


def test_that_the_reference_was_never_measured_is_said_once(run_file, record):
    lines = section(run_file(record("b@eager"), record("b@eager", flux(1024, 512)), record(status="unsupported")))
    said = "CV: their standard deviation / mean; no speed: torch_flash@eager was not measured"
    assert " ".join(" ".join(lines).split()).count(said) == 1
    assert sum("speed" in line for line in lines) == 1


def test_a_heading_is_wrapped_and_not_cut(run_file, record):
    long = Workload("a-problem-with-causal-fwdbwd", 32, 512, 32, 64, mask="causal", direction="forward+backward")
    lines = table(run_file(record(workload=long), record("b@eager", long)), "a-problem-with-causal-fwdbwd  [")
    assert len(lines[0]) <= 120
    assert f"{lines[0]} {lines[1].strip()}".endswith("; eager; speed against torch_flash@eager")


def test_a_run_that_names_no_reference_says_nothing_of_speed(run_file, record):
    lines = table(run_file(record("b@eager"), reference=""), "flux-256px-t128  [")
    assert "speed" not in lines[0]


def test_no_speed_is_against_a_reference_that_was_slowed_down_on_purpose(run_file, record):
    lines = table(run_file(record("b@eager"), record(injected=0.5)), "flux-256px-t128  [")
    assert lines[0].endswith("; no speed: torch_flash@eager was slowed down on purpose")
    assert "speed" not in lines[1]


def test_the_table_for_a_readme_has_no_latency_that_was_slowed_down_on_purpose(run_file, record):
    lines = latency_tables([run_file(record("b@eager"), record(injected=0.5))])
    assert [line for line in lines if "@eager" in line] == ["| `b@eager` | 1.100 | – |"]


def test_a_run_of_checks_only_says_checked_and_nothing_of_speed(run_file, record, check):
    run = run_file(record(status="checked", checks=(check({}),)))
    lines = table(run, "flux-256px-t128  [")
    assert lines[0].endswith("randn*randint(1,5); eager")
    assert lines[-1].split() == ["torch_flash", "checked", "1.00e-03", "1.00e-03"]


def test_a_table_of_many_workloads_is_cut_into_parts_that_fit(run_file, record):
    workloads = [flux(p, t) for p in (256, 512, 1024) for t in (128, 256, 320, 384, 448, 512)]
    run = run_file(*(record(v, w) for w in workloads for v in ("torch_flash@max-autotune", "b@max-autotune")))
    assert max(map(len, section(run))) <= 120
    heads = [line for line in section(run) if line.startswith("max-autotune: median ms")]
    assert len(heads) > 1
    assert [cell for head in heads for cell in head.split()[3:]].count("t512") == 3
    sequences = [int(n) for line in section(run) if line.startswith("seq ") for n in line.split()[1:]]
    assert sequences == sorted(w.seq for w in workloads)


def test_workloads_of_different_names_are_named_in_full(run_file, record):
    others = [Workload("1x64x2x64:fp32", 1, 64, 2, 64, "fp32"), Workload("mine", 1, 80, 2, 64), flux(), flux(256, 256)]
    run = run_file(*(record(workload=w) for w in others))
    assert table(run, "eager: ")[0].split()[3:] == ["1x64x2x64:fp32", "mine", "flux-256px-t128", "t256"]


def test_a_very_long_name_loses_its_middle_in_the_wide_table_only(run_file, record):
    name = "a-kernel-family-" + "with-a-long-name-" * 6 + "end"
    run = run_file(record(workload=Workload(name, 1, 64, 2, 64)), record(workload=flux()))
    assert table(run, "eager: ")[0].split()[3] == "a-kernel-fami…-long-name-end"
    assert max(map(len, table(run, "eager: "))) <= 120
    assert name in section(run)


def test_modes_come_in_their_order_and_an_unknown_one_last(run_file, record):
    modes = ["of-the-future", "max-autotune", "eager", "default"]
    run = run_file(*(record(f"b@{mode}") for mode in modes))
    heads = [line.split(":")[0] for line in section(run) if ": median ms" in line]
    assert heads == ["eager", "default", "max-autotune", "of-the-future"]


def test_rounds_and_clock_are_said_once(run_file, record):
    run = run_file(record(), record("b@eager", sample=Sample((1e-3,) * 30, "cuda-events")))
    assert sum("median of 3 to 30 rounds, clock perf_counter, cuda-events" in line for line in section(run)) == 1


def test_figures_that_are_not_like_the_others_are_named_below_their_table(run_file, record, check):
    odd = Sample((1e-3,) * 30, "cuda-events", waited_s=3.04, unsettled=4, synchronising=True, self_throttled=True)
    kept = dataclasses.replace(check({}), poisoned=False)
    listed = table(run_file(record(), record("b@eager", sample=odd, checks=(kept,))), "flux-256px-t128  [")
    assert listed[-5:] == [
        "waits for the device inside the call, so host time is part of its latency: b@eager",
        "waited long for the clock to reach its ceiling (a warm or shared GPU?): b@eager (3.04 s)",
        "started below the clock's ceiling: b@eager (4 of 30 rounds)",
        "lowered its own clock: b@eager",
        "checked at least once without poisoned memory, so an unwritten element may be missed: b@eager",
    ]


def test_the_names_of_many_such_figures_keep_to_the_width_of_a_report(run_file, record):
    odd = Sample((1e-3,) * 30, "cuda-events", unsettled=4)
    run = run_file(*(record(f"a_kernel_with_a_long_name_{at}@eager", sample=odd) for at in range(5)))
    listed = table(run, "flux-256px-t128  [")
    (first,) = (at for at, line in enumerate(listed) if line.startswith("started below the clock's ceiling: "))
    assert len(listed) - first > 1
    assert max(map(len, listed)) <= 120


def test_of_very_many_such_figures_the_number_is_said_and_under_v_their_names(run_file, record):
    odd = Sample((1e-3,) * 30, "cuda-events", self_throttled=True)
    run = run_file(*(record(f"kernel_{at}@eager", sample=odd) for at in range(9)), record("cool@eager"))
    assert table(run, "flux-256px-t128  [")[-1] == "lowered its own clock: 9 of 10"
    listed = section(run, details=True)
    [at] = (at for at, line in enumerate(listed) if line.startswith("lowered its own clock: kernel_0@eager, "))
    assert all(f"kernel_{name}@eager" in "".join(listed[at : at + 2]) for name in range(9))


@pytest.mark.parametrize(("host_s", "is_said"), [(None, False), (1.9e-3, False), (2.1e-3, True)])
def test_a_call_that_keeps_the_host_busier_than_the_gpu_is_said(run_file, record, host_s, is_said):
    run = run_file(record("b@eager", sample=Sample((1e-3,) * 30, "cuda-events", host_s=host_s)), record("a@eager"))
    said = "busier on the host than on the GPU, so calls in a row take the host's time: b@eager (2.100 ms)"
    assert (said in table(run, "flux-256px-t128  [")) == is_said


def test_graph_breaks_are_said(run_file, record):
    run = run_file(record("b@default", compilation=Compilation(2, ("call to print",))))
    assert section(run)[-1] == "graph breaks in b@default on flux-256px-t128: call to print"


def test_the_same_graph_breaks_of_many_cases_are_said_once(run_file, record):
    broken = {"compilation": Compilation(2, ("call to print",))}
    small, large = Workload("small", 1, 64, 2, 64), Workload("large", 1, 128, 2, 64)
    cases = [record(f"b@{mode}", workload=w, **broken) for w in (small, large) for mode in ("default", "max-autotune")]
    assert section(run_file(*cases, record("c@eager", workload=small)))[-1] == (
        "graph breaks in b@{default,max-autotune} on all 2 workloads: call to print"
    )


def test_cases_that_waited_for_a_compiler_are_summed_up_by_variant(run_file, record):
    waited = [
        record("b@eager", workload=Workload(name, 1, 64, 2, 64), first_call_s=1.5, compilers_s=2.0) for name in "vw"
    ]
    others = [record("c@eager", first_call_s=1.0, compilers_s=0.0), record("d@eager", first_call_s=1.0)]
    compiled = record("b@default", first_call_s=9.0, compilers_s=9.0, compilation=Compilation(1, cache="cold"))
    lines = section(run_file(*waited, *others, compiled))
    said = "compiler CPU time in eager cases: b@eager 4.00 s"
    assert lines[-2:] == ["first calls of compiled cases: 9.00 s with a cold Inductor cache (1 case)", said]


def test_a_device_whose_name_could_not_be_read_is_unknown(run_file, record):
    launch = Launch("0", "2026-01-02T03:04:05+00:00", Fingerprint({"device": None}, {"driver": None}), simulated=True)
    lines = section(run_file(record(), launches=(launch, launch)))
    assert lines[0].strip("-") == " attnbench (simulated) "
    assert lines[1:4] == [
        "unknown device (simulated)",
        "unknown here: device, driver",
        "SIMULATED: seeded noise, no kernel ran and nothing was measured",
    ]


def test_no_line_ends_in_blanks(run_file, record, check):
    run = run_file(record(), record("b@eager", status="checked"), record("c@default", status="error"))
    assert all(line == line.rstrip() for line in section(run))


def test_on_a_narrow_terminal_tables_fit_and_nothing_is_left_out(run_file, record, check):
    checked = (check({"max_abs": 1.0}, max_abs=0.03),)
    full = record(checks=checked, first_call_s=1.5, workspace_bytes=3 * 2**20, route=(DeviceOp("kernel"),))
    workloads = [
        dataclasses.replace(full.workload, name=f"flux-1024px-t{tokens}", seq=4096 + tokens)
        for tokens in range(64, 1024, 64)
    ]
    run = run_file(*(dataclasses.replace(full, workload=one, case=f"{full.variant}-{one.name}") for one in workloads))
    wide, narrow, narrower = (section(run, width=width) for width in (200, 80, 20))

    def widest(lines):
        return max(len(line) for line in lines if set(line) == {"-", " "})  # the rules of the tables

    assert widest(narrow) <= 80 < widest(wide) <= 120
    assert narrower == narrow
    assert {*" ".join(wide).replace("-", " ").split()} <= {*" ".join(narrow).replace("-", " ").split()}
