"""From records and stored sessions to a verdict: what is compared, what is not, and what else differs."""

from __future__ import annotations

import pytest

from attnbench.model import Compilation, DeviceOp, Fingerprint, Judgement, Launch, Sample, Workload
from attnbench.rule import Rule
from attnbench.sessions import Baseline, Session
from attnbench.verdict import judge, missing

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
    assert found.kind is Judgement.REGRESSED
    assert (found.case, found.reproduce) == ("torch_flash@eager-flux-256px-t128", "pytest again")
    assert found.found_s / found.baseline_s == pytest.approx(1.02)
    assert found.change == pytest.approx(0.02)
    assert found.low < found.change < found.high
    assert (found.measure, found.limit, found.known_unit, found.launches) == ("seconds", 0.01, True, 1)
    assert found.compared_with == ("gpu/0001.json",)
    assert 0.003 < found.found_by < 0.02


def test_every_session_of_the_same_unit_is_compared_with_and_no_other(verdict, session):
    sessions = (session("0001"), session("0002", launch("far", "another")), session("0003"))
    assert verdict(Baseline(sessions)).compared_with == ("gpu/0001.json", "gpu/0003.json")
    elsewhere = verdict(Baseline(sessions), here=launch("now", "a third"))
    assert elsewhere.compared_with == ("gpu/0001.json", "gpu/0002.json", "gpu/0003.json")
    assert (elsewhere.known_unit, elsewhere.limit) == (False, 0.02)


def test_too_few_rounds_are_no_interval(verdict):
    found = verdict(sample=Sample(ROUNDS[:2], "t"))
    assert found.kind is Judgement.INCONCLUSIVE
    assert (found.low, found.high, found.found_by) == (None, None, None)
    assert [reason.code for reason in found.reasons] == ["rounds"]


def test_a_case_that_no_session_holds_has_no_baseline(verdict, session):
    empty, another = "no session of this device is stored", "no stored session holds this case"
    for baseline, text in ((Baseline(), empty), (Baseline((session(case="another"),)), another)):
        found = verdict(baseline)
        assert (found.kind, found.change, found.launches) == (Judgement.NO_BASELINE, None, 1)
        assert found.reasons[0].text == text


def test_a_session_of_another_set_up_is_incomparable_with_what_differs(verdict, session):
    unfit = (session("0001"), ("power_limit_w 700 here, 650 there",))
    later = (session("0002"), ("ecc 1 here, 0 there",))
    found = verdict(Baseline((), (unfit, later)))
    assert (found.kind, found.change) == (Judgement.INCOMPARABLE, None)
    assert found.reasons[0].text == "gpu/0002.json was measured on another set-up: ecc 1 here, 0 there"
    assert verdict(Baseline((session(),), (unfit,))).kind is Judgement.UNCHANGED, "one that fits is enough"
    assert verdict(Baseline((), ((session(case="another"), ("ecc 1 here, 0 there",)),))).kind is Judgement.NO_BASELINE


def test_other_inputs_are_incomparable(verdict, session):
    found = verdict(Baseline((session(input_sha256="b" * 64),)), input_sha256="a" * 64)
    assert found.kind is Judgement.INCOMPARABLE
    assert found.reasons[0].text == f"the inputs differ: SHA-256 {'a' * 12} here, {'b' * 12} in gpu/0001.json"


@pytest.mark.parametrize("hashes", [("a", "a"), ("a", None), (None, "a"), (None, None)])
def test_the_same_inputs_and_unknown_ones_are_compared(verdict, session, hashes):
    here, there = hashes
    assert verdict(Baseline((session(input_sha256=there),)), input_sha256=here).kind is Judgement.UNCHANGED


def test_of_several_sessions_those_with_the_same_inputs_are_compared_with(verdict, session):
    sessions = (session("0001", input_sha256="a"), session("0002", input_sha256="b", sample=slowed(0.5)))
    found = verdict(Baseline(sessions), input_sha256="a")
    assert (found.kind, found.compared_with) == (Judgement.UNCHANGED, ("gpu/0001.json",))


def test_launches_of_this_run_are_judged_together(session, record):
    launches = {name: launch(name) for name in "ab"}
    records = [record(launch=name, sample=slowed(0.02)) for name in launches]
    found = judge(records, launches, Baseline((session(),)), Rule(cases=1), "")
    assert (found.verdict.kind, found.verdict.launches, found.suspect) == (Judgement.REGRESSED, 2, False)
    assert judge(records[:1], launches, Baseline((session(),)), Rule(cases=1), "").suspect


def test_a_record_that_was_not_measured_cannot_be_judged(session, record):
    with pytest.raises(ValueError, match="has no sample to read"):
        judge([record(status="error")], {}, Baseline((session(),)), RULE, "")


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


def test_an_autotune_choice_is_noted_that_no_stored_launch_made(verdict, session):
    def chose(*lines):
        return {"compilation": Compilation(1, choices=lines)}

    stored = Baseline((session("0001", **chose("k: BLOCK=64", "l: x=1")), session("0002", **chose("k: BLOCK=128"))))
    assert verdict(stored, **chose("k: BLOCK=64", "l: x=1")).notes == (), "one of the stored launches chose it too"
    assert verdict(stored, **chose("k: BLOCK=32", "l: x=1")).notes == (
        "other autotune choices: k: BLOCK=32 here; k: BLOCK=128, k: BLOCK=64 in the baseline",
    )
    assert verdict(stored).notes == ()


def test_the_choice_for_a_kernel_that_takes_next_to_nothing_of_the_call_is_not_noted(verdict, session):
    route = (DeviceOp("k", duration_s=1e-6), DeviceOp("l", duration_s=1e-3))
    stored = Baseline((session(compilation=Compilation(1, choices=("k: BLOCK=64", "l: x=1"))),))
    (note,) = verdict(stored, route=route, compilation=Compilation(1, choices=("k: BLOCK=32", "l: x=2"))).notes
    assert note == "other autotune choices: l: x=2 here; l: x=1 in the baseline"


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
    assert (found.kind, found.reproduce, found.launches) == (Judgement.MISSING, "pytest again", 0)
    assert found.reasons[0].text == f"in gpu/0001.json, and {status} here: because it is {status}"


def test_a_case_is_not_missing_that_was_measured_or_never_stored(session, record):
    assert missing(record(), Baseline((session(),)), "") is None
    assert missing(record(status="unsupported"), Baseline(), "") is None
    assert missing(record(status="unsupported"), Baseline((session(case="another"),)), "") is None


def test_what_is_judged_in_cycles_is_shown_at_the_baselines_clock_beside_what_was_measured(verdict, session):
    def at(seconds, cycles):
        rounds_s = tuple(round_s * seconds for round_s in ROUNDS)
        counted = tuple(round(1.8e9 * round_s * cycles) for round_s in ROUNDS)
        return Sample(rounds_s, "t", cycles=counted, before_hz=(1.98e9,) * 30)

    found = verdict(Baseline((session(sample=at(1, 1)),)), sample=at(1.01, 1.02))
    assert (found.kind, found.measure) == (Judgement.REGRESSED, "cycles")
    assert found.found_s / found.baseline_s == pytest.approx(1.02, rel=1e-4)
    assert found.measured_s / found.baseline_s == pytest.approx(1.01, rel=1e-4)
    assert found.clock_change == pytest.approx(1.02 / 1.01 - 1, rel=1e-3)
    assert found.notes == ()


def test_the_clock_is_that_of_the_multiprocessors_also_where_cycles_follow_it(verdict, record, run_file):
    """A call that memory bounds: its seconds stay, so its cycles rise with the clock, which the stored launches tell."""

    def at(clock):
        counted = tuple(round(1.8e9 * round_s * clock) for round_s in ROUNDS)
        return Sample(ROUNDS, "t", cycles=counted, before_hz=(1.98e9 * clock,) * 30)

    launches = [launch(f"then {number}") for number in range(3)]
    stored = [
        record(workload=Workload(name, 1, seq, 24, 128), launch=of.id, sample=at(clock))
        for name, seq in (("flux-256px-t128", 384), ("flux-256px-t256", 512))
        for of, clock in zip(launches, (0.99, 1.0, 1.01), strict=True)
    ]
    found = verdict(Baseline((Session("gpu/0001.json", run_file(*stored, launches=tuple(launches))),)), sample=at(1.01))
    assert (found.kind, found.measure) == (Judgement.UNCHANGED, "cycles")
    assert found.change == pytest.approx(0, abs=1e-4)
    assert found.clock_change == pytest.approx(0.01, rel=1e-2)
