"""From records and stored sessions to a verdict: what is compared, what is not, and what else differs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from attnbench.codec import run_from
from attnbench.model import Bearing, Compilation, DeviceOp, Fingerprint, Launch, Sample, VerdictKind
from attnbench.storage.benchmark_json import load_document
from attnbench.storage.sessions import Baseline, Session
from attnbench.verdicts import judge as judge_module
from attnbench.verdicts.judge import CHOICES, judge, missing
from attnbench.verdicts.rule import Rule
from attnbench.workload import Workload

DATA = Path(__file__).parent / "data"
ROUNDS = tuple(1e-3 + 1e-7 * i for i in range(30))
RULE = Rule(cases=1, relaunches=0)


def launch(name, unit="u", **context):
    return Launch(name, "", Fingerprint({"device": "A GPU"}, {"unit": unit, **context}))


THEN, NOW = launch("then"), launch("now")


def slowed(share):
    return Sample(tuple(round_s * (1 + share) for round_s in ROUNDS), "t")


@pytest.fixture
def session(run_file, record):
    """`session("0001", launch, record field=value …)`: one case in one launch."""

    def make(name="0001", of=THEN, **changes):
        stored = record(launch=of.id, **{"sample": Sample(ROUNDS, "t"), **changes})
        return Session(f"gpu/{name}.json", run_file(stored, launches=(of,)))

    return make


@pytest.fixture
def verdict(session, record):
    """`verdict(baseline, here=launch, record field=value …)`: one launch of this run held against it."""

    def reach(baseline=None, here=NOW, rule=RULE, **changes):
        measured = record(launch=here.id, **{"sample": Sample(ROUNDS, "t"), **changes})
        stored = Baseline((session(),)) if baseline is None else baseline
        return judge([measured], {here.id: here}, stored, rule, "pytest again").verdict

    return reach


def test_a_verdict_holds_all_that_it_rests_on(verdict):
    found = verdict(sample=slowed(0.02))
    assert found.kind is VerdictKind.REGRESSED
    assert (found.case, found.reproduce) == ("torch_flash@eager-flux-256px-t128", "pytest again")
    assert found.found_s / found.baseline_s == pytest.approx(1.02)
    assert found.change == pytest.approx(0.02)
    assert found.low < found.change < found.high
    assert (found.measure, found.known_unit, found.launches) == ("seconds", True, 1)
    assert found.limit == pytest.approx(0.0206, abs=5e-4), "what one session carries"
    assert found.compared_with == ("gpu/0001.json",)
    assert found.found_by == pytest.approx(found.limit, abs=1e-3)


def test_every_session_of_the_same_unit_is_compared_with_and_no_other(verdict, session):
    sessions = (session("0001"), session("0002", launch("far", "another")), session("0003", launch("later")))
    assert verdict(Baseline(sessions)).compared_with == ("gpu/0001.json", "gpu/0003.json")
    elsewhere = verdict(Baseline(sessions), here=launch("now", "a third"))
    assert elsewhere.compared_with == ("gpu/0001.json", "gpu/0002.json", "gpu/0003.json")
    assert elsewhere.known_unit is False
    assert elsewhere.limit >= 0.02


def test_too_few_rounds_are_no_interval(verdict):
    found = verdict(sample=Sample(ROUNDS[:2], "t"))
    assert found.kind is VerdictKind.INCONCLUSIVE
    assert (found.low, found.high, found.found_by) == (None, None, None)
    assert [reason.code for reason in found.reasons] == ["rounds"]


def test_a_case_that_no_session_holds_has_no_baseline(verdict, session):
    empty, another = (
        "no session of this device is stored; record one with attnbench record",
        "no stored session holds this case",
    )
    for baseline, text in ((Baseline(), empty), (Baseline((session(case="another"),)), another)):
        found = verdict(baseline)
        assert (found.kind, found.change, found.launches) == (VerdictKind.NO_BASELINE, None, 1)
        assert found.reasons[0].text == text


TO_RECORD = "Record a session with attnbench record"


def test_a_session_of_another_set_up_is_incomparable_with_what_differs(verdict, session):
    unfit = (session("0001"), ("power_limit_w 700 here, 650 there",))
    later = (session("0002"), ("ecc 1 here, 0 there",))
    found = verdict(Baseline((), (unfit, later)))
    assert (found.kind, found.change) == (VerdictKind.INCOMPARABLE, None)
    said = f"gpu/0002.json cannot be compared with this run: ecc 1 here, 0 there. {TO_RECORD}"
    assert found.reasons[0].text == said
    assert verdict(Baseline((session(),), (unfit,))).kind is VerdictKind.UNCHANGED, "one that fits is enough"
    assert verdict(Baseline((), ((session(case="another"), ("ecc 1 here, 0 there",)),))).kind is VerdictKind.NO_BASELINE


@pytest.mark.parametrize(
    ("count", "named"),
    [
        (2, "gpu/0001.json and 0002.json"),
        (4, "gpu/0001.json, 0002.json, 0003.json and 0004.json"),
        (6, "gpu/0001.json, 0002.json, 0003.json and 3 more"),
    ],
)
def test_sessions_that_differ_alike_are_one_reason_for_all_cases(verdict, session, count, named):
    protocol = ("protocol cuda-events/4 here, cuda-events/2 there",)
    cases = [f"case {number}" for number in range(count)]  # each in another session
    unfit = [(session(f"{number:04}", case=case), protocol) for number, case in enumerate(cases, 1)]
    locked = (session("0009", case="another"), ("ceiling_mhz 1980 here, 1500 there", *protocol))
    texts = {verdict(Baseline((), (*unfit, locked)), case=case).reasons[0].text for case in cases}
    assert texts == {f"{named} cannot be compared with this run: {protocol[0]}. {TO_RECORD}"}


def test_a_name_that_stood_for_another_problem_is_incomparable(verdict, session):
    before, after = (Workload("mine", 1, 384, 24, 128, mask="padding", lengths=(keys,)) for keys in (384, 100))
    case = "torch_flash@eager-mine"  # q, k and v hold the same bytes
    stored = Baseline((session(workload=before, case=case, input_sha256="a"),))
    found = verdict(stored, workload=after, case=case, input_sha256="a")
    assert found.kind is VerdictKind.INCOMPARABLE
    assert [reason.text for reason in found.reasons] == [
        "the workload has other fields: lengths (100,) here, (384,) in gpu/0001.json"
    ]


def test_other_inputs_are_incomparable(verdict, session):
    found = verdict(Baseline((session(input_sha256="b" * 64),)), input_sha256="a" * 64)
    assert found.kind is VerdictKind.INCOMPARABLE
    assert found.reasons[0].text == f"the inputs differ: SHA-256 {'a' * 12} here, {'b' * 12} in gpu/0001.json"


@pytest.mark.parametrize("hashes", [("a", "a"), ("a", None), (None, "a"), (None, None)])
def test_the_same_inputs_and_unknown_ones_are_compared(verdict, session, hashes):
    here, there = hashes
    assert verdict(Baseline((session(input_sha256=there),)), input_sha256=here).kind is VerdictKind.UNCHANGED


def test_of_several_sessions_those_with_the_same_inputs_are_compared_with(verdict, session):
    sessions = (session("0001", input_sha256="a"), session("0002", input_sha256="b", sample=slowed(0.5)))
    found = verdict(Baseline(sessions), input_sha256="a")
    assert (found.kind, found.compared_with) == (VerdictKind.UNCHANGED, ("gpu/0001.json",))


def test_launches_of_this_run_are_judged_together(session, record):
    launches = {name: launch(name) for name in "ab"}
    records = [record(launch=name, sample=slowed(0.02)) for name in launches]
    found = judge(records, launches, Baseline((session(),)), Rule(cases=1), "")
    assert (found.verdict.kind, found.verdict.launches, found.suspect) == (VerdictKind.REGRESSED, 2, False)
    assert judge(records[:1], launches, Baseline((session(),)), Rule(cases=1), "").suspect


def test_a_record_that_was_not_measured_cannot_be_judged(session, record):
    with pytest.raises(ValueError, match="has no sample to summarise"):
        judge([record(status="error")], {}, Baseline((session(),)), RULE, "")


# Another autotune choice is another kernel

RED = "triton_red_fused_softmax_2: R0_BLOCK="
TEMPLATE = "triton_tem_fused_bmm_3: BLOCK_M=128 num_warps=4"


def chose(*lines, route=()):
    return {"compilation": Compilation(1, choices=lines), "route": route}


def chosen(session, *choices):
    """A baseline of one session per choice, each 10 % slower than the one before."""
    return Baseline(
        tuple(
            session(f"000{number}", launch(f"then {number}"), sample=slowed(0.1 * number), **chose(*lines))
            for number, lines in enumerate(choices)
        )
    )


def test_a_case_is_compared_with_the_launches_that_made_its_choices(verdict, session):
    stored = chosen(session, (f"{RED}512",), (f"{RED}128",), (f"{RED}512", "l: x=1"))
    for line, compared in ((f"{RED}128", ("gpu/0001.json",)), (f"{RED}512", ("gpu/0000.json", "gpu/0002.json"))):
        assert verdict(stored, sample=slowed(0.1), **chose(line)).compared_with == compared


def test_a_case_whose_choices_no_stored_launch_made_is_incomparable_with_the_choices(verdict, session):
    stored = chosen(session, (f"{RED}512",), (f"{RED}128",))
    found = verdict(stored, sample=slowed(0.5), **chose(f"{RED}256"))
    assert (found.kind, found.change, found.launches) == (VerdictKind.INCOMPARABLE, None, 1)
    (reason,) = found.reasons
    assert reason.code == CHOICES
    assert reason.text == (
        "no stored launch made these autotune choices: triton_red_fused_softmax_2: R0_BLOCK=256 here, R0_BLOCK=128 or "
        "R0_BLOCK=512 in the baseline"
    )


def test_choices_that_were_made_but_not_together_are_said(verdict, session):
    stored = chosen(session, ("k: A", "l: A"), ("k: B", "l: B"))
    found = verdict(stored, **chose("k: A", "l: B"))
    assert found.kind is VerdictKind.INCOMPARABLE
    assert found.reasons[0].text.endswith("each in the baseline, but not together: k: A; l: B")


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ((TEMPLATE,), ("extern_kernels.bmm: 1 call",)),
        (("extern_kernels.bmm: 2 calls",), ("extern_kernels.bmm: 1 call", TEMPLATE)),
        (("extern_kernels.bmm: 1 call",), ("extern_kernels.bmm_dtype: 1 call",)),
        ((TEMPLATE, f"{RED}512"), (TEMPLATE,)),
        ((TEMPLATE, TEMPLATE.replace("_3", "_5").replace("128", "64")), (TEMPLATE, TEMPLATE.replace("_3", "_5"))),
    ],
    ids=["template", "one template of two products", "another library", "fused", "one of two"],
)
def test_what_autotuning_decides_is_another_kernel(verdict, session, here, there):
    for ours, theirs in ((here, there), (there, here)):
        assert verdict(chosen(session, theirs), **chose(*ours)).kind is VerdictKind.INCOMPARABLE


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ((), (f"{RED}512",)),
        ((f"{RED}512",), ()),
        ((f"{RED}512",), (f"{RED.replace('_2', '_4')}512",)),
        (("triton_poi_fused_add_0: X=1", f"{RED}512"), (f"{RED}512",)),
        (("extern_kernels.bmm: 3 calls",), ("extern_kernels.bmm: 2 calls",)),
    ],
    ids=["unknown here", "unknown there", "another number", "one kernel more", "one product more"],
)
def test_other_code_and_unknown_choices_are_judged(verdict, session, here, there):
    found = verdict(chosen(session, there), sample=slowed(0.05), **chose(*here))
    assert found.kind is VerdictKind.REGRESSED
    assert verdict(chosen(session, there), sample=slowed(0.05)).kind is VerdictKind.REGRESSED, (
        "nothing was compiled here"
    )


@pytest.mark.parametrize("share_known", ["here", "there", "on both sides"])
def test_the_choice_for_a_kernel_that_takes_next_to_nothing_of_the_call_does_not_matter(verdict, session, share_known):
    route = (DeviceOp("k_1", duration_s=9e-6), DeviceOp("l", duration_s=1e-3))
    here, there = (route if share_known in (side, "on both sides") else () for side in ("here", "there"))
    stored = Baseline((session(**chose("k_1: BLOCK=64", "l: x=1", route=there)),))
    assert verdict(stored, **chose("k_1: BLOCK=32", "l: x=1", route=here)).kind is VerdictKind.UNCHANGED
    found = verdict(stored, **chose("k_1: BLOCK=32", "l: x=2", route=here))
    assert found.reasons[0].text.endswith("choices: l: x=2 here, x=1 in the baseline")


def test_a_kernel_matters_that_takes_its_share_in_one_of_the_launches(verdict, session):
    there = (DeviceOp("k", duration_s=9e-6), DeviceOp("l", duration_s=1e-3))
    here = (DeviceOp("k", duration_s=11e-6), DeviceOp("l", duration_s=1e-3))
    stored = Baseline((session(**chose("k: BLOCK=64", route=there)),))
    assert verdict(stored, **chose("k: BLOCK=32", route=here)).kind is VerdictKind.INCOMPARABLE


@pytest.fixture
def ours(record):
    """`ours((line, slower), …)`: launches of this run with their choice, and the launches by id."""

    def make(*choices):
        launches = {f"now {number}": launch(f"now {number}") for number in range(len(choices))}
        records = [
            record(launch=name, sample=slowed(by), **chose(line))
            for name, (line, by) in zip(launches, choices, strict=True)
        ]
        return records, launches

    return make


def test_of_our_launches_only_those_with_the_choices_of_stored_ones_count(session, ours):
    stored = chosen(session, (f"{RED}512",))
    records, launches = ours((f"{RED}256", 0.3), (f"{RED}512", 0.02), (f"{RED}512", 0.02))
    found = judge(records, launches, stored, RULE, "").verdict
    assert (found.kind, found.launches) == (VerdictKind.REGRESSED, 2)
    assert found.change == pytest.approx(0.02)
    assert found.notes[-1] == f"1 launch of this run is not counted, for other autotune choices: {RED}256"


def test_a_case_of_several_choices_is_its_worst(session, ours):
    stored = chosen(session, (f"{RED}512",), (f"{RED}128",))
    records, launches = ours((f"{RED}512", 0.0), (f"{RED}128", 0.1 + 0.05))
    found = judge(records, launches, stored, RULE, "").verdict
    assert (found.kind, found.launches, found.compared_with) == (VerdictKind.REGRESSED, 1, ("gpu/0001.json",))


def test_each_choice_that_may_convict_makes_the_interval_wider(session, ours):
    stored = chosen(session, (f"{RED}512",), (f"{RED}128",))
    widths = []
    for lines in ((f"{RED}512",), (f"{RED}512", f"{RED}128")):
        records, launches = ours(*((line, 0.0) for line in lines))
        found = judge(records, launches, stored, RULE, "").verdict
        assert found.compared_with == ("gpu/0000.json",)
        widths.append(found.high - found.low)
    assert widths[0] < widths[1]


def test_an_output_is_less_accurate_only_than_that_of_the_same_choices(verdict, session, check):
    stored = Baseline((session(checks=(check({}, rel_l2=1e-4),), **chose(f"{RED}512")),))
    checks = (check({}, rel_l2=1e-3),)
    assert verdict(stored, checks=checks, **chose(f"{RED}512")).kind is VerdictKind.REGRESSED
    assert verdict(stored, checks=checks, **chose(f"{RED}128")).kind is VerdictKind.INCOMPARABLE


def test_no_stored_session_of_h200s_convicts_the_next_one_for_its_choices():
    """Of 2026-11-21, b against a: of the max-autotune cases three settled on another softmax, one of them 4 % slower."""
    first, second = (run_from(load_document(DATA / f"schema_1_h200_{which}.json")) for which in "ab")
    unit = first.launches[0].fingerprint.context["unit"]
    launches = {  # as if of one unit: on another one nothing is regressed
        one.id: replace(one, fingerprint=replace(one.fingerprint, context={**one.fingerprint.context, "unit": unit}))
        for one in second.launches
    }
    baseline = Baseline((Session("nvidia-h200/0001", first),))
    found = {}
    for record in second.records:
        if record.sample is not None and record.variant == "torch_math@max-autotune":
            judged = judge([record], launches, baseline, Rule(cases=84, relaunches=0), "")
            found.setdefault(record.workload.name.rpartition("-")[2], set()).add(judged.verdict.kind)
            if judged.other_choices:
                assert "triton_red_fused" in judged.verdict.reasons[0].text
    assert {tokens for tokens, kinds in found.items() if kinds == {VerdictKind.INCOMPARABLE}} == {
        "t320",
        "t448",
        "t512",
    }
    assert found["t128"] == found["t256"] == found["t384"] == {VerdictKind.UNCHANGED}


def test_what_no_stored_launch_has_is_said_not_to_be_compared(verdict, session, check):
    ours = {"checks": (check({}, rel_l2=1e-4),), "workspace_bytes": 2**20}
    for stored in ({"checks": (), "workspace_bytes": None}, ours):
        notes = verdict(Baseline((session(**stored),)), **ours).notes
        said = [note.partition(":")[0] for note in notes if "not compared" in note]
        expected = ["accuracy not compared on randn*randint(1,5) inputs", "workspace not compared"]
        assert said == ([] if stored is ours else expected)


def test_a_gradient_is_compared_with_the_same_gradient_alone(verdict, session, check):
    def checks(dk):
        return tuple(replace(check({}, rel_l1=e, rel_l2=e), output=o) for o, e in (("dq", 2e-3), ("dk", dk)))

    stored = Baseline((session(checks=checks(1e-4)),))
    texts = [reason.text for reason in verdict(stored, checks=checks(1.1e-4)).reasons if reason.code == "accuracy"]
    assert len(texts) == 2
    assert all(" in dk on randn*randint(1,5) inputs, 0.0001 in the baseline" in text for text in texts)
    assert not [reason for reason in verdict(stored, checks=checks(1e-4)).reasons if reason.code == "accuracy"]


# What the library chose


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        ("cudnn", "flash", "chose cudnn, baseline flash"),
        ("flash", "flash", ""),
        ("cudnn", "", ""),  # unknown on one side is no difference
        ("", "flash", ""),
    ],
)
def test_a_change_of_choice_is_said_and_the_case_is_judged(verdict, session, here, there, said):
    found = verdict(Baseline((session(chose=there),)), chose=here)
    assert (found.chose, found.kind) == (said, VerdictKind.UNCHANGED)


# A launch counts once


def test_a_launch_of_this_run_that_was_recorded_twice_counts_once(session, record):
    records = [record(launch="now", sample=slowed(0.02), nodeid=name) for name in ("a", "b")]
    found = judge(records, {"now": NOW}, Baseline((session(),)), Rule(cases=1), "")
    assert (found.verdict.launches, found.suspect, found.verdict.nodeid) == (1, True, "a")


def test_a_copied_session_changes_no_verdict_and_is_noted(verdict, session):
    once, copied = (
        verdict(Baseline((session("0001"), *more)), sample=slowed(0.006)) for more in ((), [session("0002")])
    )
    assert replace(copied, notes=()) == once
    assert copied.notes == ("gpu/0002.json holds the launches of gpu/0001.json: each counts once",)


# An unknown unit


@pytest.mark.parametrize("unit", ["another", None, ""])
def test_a_less_accurate_output_is_regressed_on_an_unknown_unit_too(verdict, session, check, unit):
    stored = Baseline((session(checks=(check({}, rel_l2=1e-4),)),))
    elsewhere = launch("now", unit)
    assert verdict(stored, here=elsewhere, sample=slowed(0.5)).kind is VerdictKind.INCONCLUSIVE
    found = verdict(stored, here=elsewhere, sample=slowed(0.5), checks=(check({}, rel_l2=1e-3),))
    assert (found.kind, found.known_unit) == (VerdictKind.REGRESSED, False)
    assert [reason.code for reason in found.reasons] == ["accuracy"]


# The output and its memory

MIB = 2**20


@pytest.mark.parametrize("metric", ["rel_l1", "rel_l2"])
@pytest.mark.parametrize(
    ("dtype", "route", "grown", "worse"),
    [
        ("bf16", (), 0.004, False),
        ("bf16", (), 0.006, True),
        ("bf16", (), -0.5, False),
        ("fp32", (), 0.045, False),
        ("fp32", (), 0.055, True),
        ("bf16", (DeviceOp("flash_fwd"),), 0.006, True),
        ("bf16", (DeviceOp("flash_fwd_splitkv"),), 0.045, False),
        ("bf16", (DeviceOp("flash_fwd_splitkv"),), 0.055, True),
    ],
)
def test_an_error_may_grow_by_half_a_percent_and_by_five_where_sums_are_ordered_anew(
    verdict, session, check, metric, dtype, route, grown, worse
):
    workload = Workload("w", 1, 384, 24, 128, dtype)
    theirs = {"workload": workload, "route": (DeviceOp("flash_fwd"),), "checks": (check({}, **{metric: 1e-4}),)}
    ours = {"workload": workload, "route": route, "checks": (check({}, **{metric: 1e-4 * (1 + grown)}),)}
    found = verdict(Baseline((session(**theirs),)), **ours)
    assert (found.kind is VerdictKind.REGRESSED) == worse
    if worse:
        allowed = {"fp32": "+5 % is tolerated in fp32"}.get(dtype, "+0.5 % is tolerated")
        allowed = "+5 % is tolerated where other kernels ran" if "splitkv" in str(route) else allowed
        assert found.reasons[0].text == (
            f"less accurate: {metric} {1e-4 * (1 + grown):.4g} on randn*randint(1,5) inputs, 0.0001 in the baseline "
            f"(+{100 * grown:.1f} %), where {allowed}"
        )


def test_an_error_is_held_against_the_largest_stored_one(verdict, session, check):
    stored = [
        session(f"000{number}", launch(f"then {number}"), checks=(check({}, rel_l2=error),))
        for number, error in enumerate((1e-4, 2e-4, 1e-4))
    ]
    assert verdict(Baseline(tuple(stored)), checks=(check({}, rel_l2=2e-4),)).kind is VerdictKind.UNCHANGED


@pytest.mark.parametrize(
    ("there", "here", "more"),
    [
        (27 * MIB, 29 * MIB, False),
        (27 * MIB, 29 * MIB + 1, True),
        (1000 * MIB, 1010 * MIB, False),
        (1000 * MIB, 1011 * MIB, True),
        (1000 * MIB, 1 * MIB, False),
        (0, 2 * MIB + 1, True),
        (None, 2**40, False),
        (2**40, None, False),
    ],
)
@pytest.mark.parametrize("unit", ["u", "another"])
def test_a_call_that_needs_more_memory_is_regressed_on_any_unit(verdict, session, there, here, more, unit):
    found = verdict(Baseline((session(workspace_bytes=there),)), here=launch("now", unit), workspace_bytes=here)
    assert (found.kind is VerdictKind.REGRESSED) == more
    assert found.change == pytest.approx(0, abs=1e-9), "its latency is said all the same"


def test_what_memory_was_found_stored_and_allowed_is_said(verdict, session):
    found = verdict(Baseline((session(workspace_bytes=27 * MIB),)), workspace_bytes=108 * MIB)
    assert (found.reasons[0].code, found.reasons[0].text) == (
        "workspace",
        "more workspace: 108 MiB, 27.0 MiB in the baseline, where 29.0 MiB are allowed",
    )


def test_memory_is_compared_within_the_same_autotune_choices_and_every_launch_needs_more(session, record):
    stored = [
        session(f"000{number}", launch(f"then {number}"), workspace_bytes=size * MIB, **chose(f"{RED}{choice}"))
        for number, (size, choice) in enumerate(((100, 128), (50, 128), (900, 512)))
    ]
    launches = {name: launch(name) for name in "ab"}

    def kind(*sizes):
        ours = [
            record(launch=name, sample=Sample(ROUNDS, "t"), workspace_bytes=size * MIB, **chose(f"{RED}128"))
            for name, size in zip(launches, sizes, strict=False)
        ]
        return judge(ours, launches, Baseline(tuple(stored)), RULE, "").verdict.kind

    assert kind(102) is VerdictKind.UNCHANGED
    assert kind(103) is VerdictKind.REGRESSED
    assert kind(103, 102) is VerdictKind.UNCHANGED


def test_host_time_and_first_call_are_never_judged(verdict, session):
    stored = Baseline((session(sample=Sample(ROUNDS, "t", host_s=1e-5), first_call_s=0.1),))
    assert verdict(stored, sample=Sample(ROUNDS, "t", host_s=1.0), first_call_s=99.0).kind is VerdictKind.UNCHANGED


def test_what_the_baseline_carries_is_in_the_verdict(verdict, session, monkeypatch):
    """What the rule says of it is stored as it is, but for what JSON cannot hold."""
    decide = judge_module.decide

    def with_bearing(occasion):
        bearing = Bearing(1, occasion, True, 0.0008, 4)
        monkeypatch.setattr(judge_module, "decide", lambda *a: replace(decide(*a), carried=0.021, bearing=bearing))
        return verdict()

    assert (with_bearing(0.0024).carried, with_bearing(0.0024).bearing.sessions_for_one_percent) == (0.021, 4)
    assert with_bearing(math.inf).bearing is None


@pytest.mark.parametrize("unit", [None, ""])
def test_a_unit_that_could_not_be_read_on_either_side_is_not_the_same_one(verdict, session, unit):
    found = verdict(Baseline((session(of=launch("then", unit)),)), here=launch("now", unit))
    assert found.known_unit is False


# What else differs


def test_nothing_is_noted_where_nothing_differs(verdict, session):
    route = (DeviceOp("flash_fwd_kernel"),)
    assert verdict(Baseline((session(route=route),)), route=route).notes == ()


def test_other_kernels_are_named(verdict, session):
    stored = Baseline((session(route=(DeviceOp("flash_fwd"), DeviceOp("copy"))),))
    assert verdict(stored, route=(DeviceOp("flash_fwd_splitkv"), DeviceOp("copy"))).notes == (
        "other kernels ran: flash_fwd_splitkv here; flash_fwd in the baseline",
    )
    assert verdict(stored, route=(DeviceOp("flash_fwd"),)).notes == ("other kernels ran: copy in the baseline",)
    assert verdict(stored, route=()).notes == (), "a route that was not taken down tells nothing"


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("triton_tem_fused_0", "triton_tem_fused_3"),
        ("kernel_0123456789abcdef0123", "kernel_fedcba98765432100123"),
        ("lambda at 0x7f00", "lambda at 0x7e12"),
    ],
)
def test_numbers_that_each_build_draws_anew_make_no_other_kernel(verdict, session, here, there):
    stored = Baseline((session(route=(DeviceOp(there),)),))
    assert verdict(stored, route=(DeviceOp(here),)).notes == ()


def test_other_versions_are_said_and_unknown_ones_are_not(verdict, session):
    stored = Baseline((session(of=launch("then", torch="2.11.0", cudnn="9.1", driver=None)),))
    now = launch("now", torch="2.12.0", cudnn="9.1", driver="580", host="elsewhere")
    assert verdict(stored, here=now).notes == ("torch 2.12.0, the baseline's was 2.11.0",)


def test_versions_are_held_against_the_latest_session(verdict, session):
    stored = [session(name, launch(name, torch=version)) for name, version in (("0001", "2.11"), ("0002", "2.12"))]
    assert verdict(Baseline(tuple(stored)), here=launch("now", torch="2.12")).notes == ()


def test_another_build_or_commit_of_what_was_loaded_is_said_and_an_unknown_one_is_not(verdict, session):
    stored = Baseline((session(source="me/mine at aaaa"),))
    note = "loaded me/mine at bbbb; the baseline's was me/mine at aaaa"
    assert verdict(stored, source="me/mine at bbbb").notes == (note,)
    assert verdict(stored, source="me/mine at aaaa").notes == verdict(stored).notes == ()


def test_an_injected_slow_down_is_said(verdict):
    assert verdict(sample=slowed(0.02), injected=0.02).notes == ("INJECTED +2 %",)


# Missing


@pytest.mark.parametrize("status", ["unsupported", "error", "incorrect", "not-run"])
def test_a_stored_case_that_was_not_measured_is_missing_with_the_reason(session, record, status):
    found = missing(record(status=status), Baseline((session(),)), "pytest again")
    assert (found.kind, found.reproduce, found.launches) == (VerdictKind.MISSING, "pytest again", 0)
    assert found.reasons[0].text == f"in gpu/0001.json, and {status} here: because it is {status}"


def test_a_case_is_not_missing_that_was_measured_or_never_stored(session, record):
    assert missing(record(), Baseline((session(),)), "") is None
    assert missing(record(status="unsupported"), Baseline(), "") is None
    assert missing(record(status="unsupported"), Baseline((session(case="another"),)), "") is None


def test_a_verdict_in_cycles_is_shown_at_the_clock_of_the_baseline(verdict, session):
    def at(seconds, cycles):
        rounds_s = tuple(round_s * seconds for round_s in ROUNDS)
        counted = tuple(round(1.8e9 * round_s * cycles) for round_s in ROUNDS)
        return Sample(rounds_s, "t", cycles=counted, before_hz=(1.98e9,) * 30)

    found = verdict(Baseline((session(sample=at(1, 1)),)), sample=at(1.01, 1.02))
    assert (found.kind, found.measure) == (VerdictKind.REGRESSED, "cycles")
    # The clock rose by 1 %, and a tenth of it is memory's time.
    assert found.found_s / found.baseline_s == pytest.approx(1.02**0.9 * 1.01**0.1, rel=1e-4)
    assert found.measured_s / found.baseline_s == pytest.approx(1.01, rel=1e-4)
    assert found.clock_change == pytest.approx(1.02 / 1.01 - 1, rel=1e-3)
    assert found.notes == ()


def test_the_clock_is_that_of_the_multiprocessors_also_where_cycles_follow_it(verdict, record, run_file):
    """A call that runs at the clock that it starts at, and that memory bounds: its seconds stay when the clock rises."""

    def at(clock):
        counted = tuple(round(1.98e9 * round_s * clock) for round_s in ROUNDS)
        return Sample(ROUNDS, "t", cycles=counted, before_hz=(1.98e9 * clock,) * 30)

    launches = [launch(f"then {number}") for number in range(3)]
    stored = [record(launch=of.id, sample=at(1.0)) for of in launches]
    found = verdict(
        Baseline((Session("gpu/0001.json", run_file(*stored, launches=tuple(launches))),)), sample=at(1.005)
    )
    assert (found.kind, found.measure) == (VerdictKind.UNCHANGED, "cycles")
    assert found.change == pytest.approx(0.0015, abs=1e-4)
    assert found.clock_change == pytest.approx(0.005, rel=1e-2)
