"""Several launches of a case as one row."""

from __future__ import annotations

from dataclasses import replace

from attnbench.model import Compilation, Sample, SustainedLoad
from attnbench.report.pooling import launches, numbered_tests, pooled
from attnbench.workload import Workload


def launched(record, name, *rounds_s, variant="torch_flash@eager", fields=None, **changes):
    return record(variant, launch=name, sample=Sample(rounds_s, "t", **changes), **(fields or {}))


def test_a_case_of_one_launch_is_its_record(record):
    records = [record(), record("b@eager", status="unsupported"), record("c@eager", status="error")]
    assert pooled(records) == records


def test_the_rounds_of_all_launches_are_one_sample_in_their_order(record):
    first = launched(record, "1", 1.0, 2.0, before_hz=(1.0, 2.0), cycles=(1, 2), waited_s=0.5, unsettled=1)
    second = launched(record, "2", 3.0, 4.0, before_hz=(3.0, 4.0), cycles=(None, 4), waited_s=0.25, unsettled=2)
    (one,) = pooled([first, second])
    assert one.sample == Sample(
        (1.0, 2.0, 3.0, 4.0), "t", before_hz=(1.0, 2.0, 3.0, 4.0), cycles=(1, 2, None, 4), waited_s=0.75, unsettled=3
    )
    assert (one.case, one.launch) == (first.case, "1")


def test_what_was_seen_in_one_launch_is_said_of_all(record):
    plain = launched(record, "1", 1.0)
    odd = launched(record, "2", 1.0, synchronising=True, self_throttled=True)
    for both in ([plain, odd], [odd, plain]):
        (one,) = pooled(both)
        assert one.sample.synchronising
        assert one.sample.self_throttled


def test_a_launch_that_could_not_measure_the_case_is_its_row(record):
    measured, failed = launched(record, "1", 1.0), record(launch="2", status="error")
    assert pooled([measured, failed]) == [failed]
    assert pooled([failed, measured]) == [failed]


def test_launches_that_only_checked_are_one_row(record):
    checked = [record(launch=name, status="checked") for name in "12"]
    assert pooled(checked) == checked[:1]


def test_cases_keep_the_order_in_which_they_came_first(record):
    records = [launched(record, launch, 1.0, variant=v) for launch in "12" for v in ("b@eager", "a@eager", "c@eager")]
    assert [one.variant for one in pooled(records)] == ["b@eager", "a@eager", "c@eager"]


def test_a_launch_that_a_file_repeats_is_pooled_once(record):
    once, other = launched(record, "1", 1.0, 2.0), launched(record, "2", 3.0)
    assert pooled([once, once, other, once]) == pooled([once, other])
    assert launches([once, once, other]) == [2]


def test_a_name_that_stood_for_another_problem_is_another_row(record):
    before, after = (Workload("mine", 1, 384, 24, 128, mask="padding", lengths=(n,)) for n in (384, 100))
    records = [
        record(workload=one, launch=name, sample=Sample((1.0,), "t")) for one, name in ((before, "1"), (after, "2"))
    ]
    assert pooled(records) == records
    assert len(pooled([records[0], record(workload=replace(before, why="said in other words"), launch="3")])) == 1


def test_what_was_slowed_down_on_purpose_is_a_row_beside_the_case_as_it_is(record):
    plain = [launched(record, name, rounds_s) for name, rounds_s in (("1", 1.0), ("2", 3.0))]
    slowed = [launched(record, name, 9.0, fields={"injected": 2.0}) for name in "34"]
    assert [one.sample.rounds_s for one in pooled([slowed[0], *plain, slowed[1]])] == [(9.0, 9.0), (1.0, 3.0)]
    failed = record(launch="5", status="error")
    assert pooled([*plain, failed]) == [failed]
    assert [one.status for one in pooled([*plain, *slowed, failed])] == ["error", "measured"]


def test_each_test_of_a_case_is_a_row_and_none_of_them_a_launch(record):
    first, second = (launched(record, "1", 1.0, fields={"nodeid": f"test_{name}.py::test"}) for name in "ab")
    assert pooled([first, second]) == [first, second]
    assert launches([first, second]) == [1, 1]
    assert numbered_tests([first, second, record("other@eager", nodeid="test_a.py::other")]) == {
        "test_a.py::test": 1,
        "test_b.py::test": 2,
    }


def test_launches_of_other_autotune_choices_are_not_one_sample(record):
    first, second, third = (
        launched(record, name, float(name), fields={"compilation": Compilation(1, choices=(f"k: BLOCK={block}",))})
        for name, block in (("1", 32), ("2", 64), ("3", 32))
    )
    (one,) = pooled([first, second, third])
    assert one.sample.rounds_s == (1.0, 3.0)
    assert launches([first, second, third]) == [2]


def loaded(median_s, **changes):
    fields = {"calls": 10, "batches": 5, "loaded_s": 2.0, "lead_s": 2.0, "steady": True, "drift": 0.0, "starved": 0}
    return SustainedLoad(median_s, median_s, median_s, **{**fields, **changes})


def test_loads_of_several_launches_are_medians_and_counts_are_sums(record):
    loads = (loaded(1.0, power_w=600.0), loaded(3.0, power_w=700.0, starved=1), loaded(2.0, steady=False))
    (one,) = pooled([launched(record, str(at), 1.0, fields={"sustained": load}) for at, load in enumerate(loads)])
    assert (one.sustained.median_s, one.sustained.power_w, one.sustained.joules) == (2.0, 650.0, None)
    assert (one.sustained.calls, one.sustained.batches, one.sustained.starved) == (30, 15, 1)
    assert one.sustained.steady is False


def test_a_note_on_an_absent_figure_goes_where_another_launch_has_it(record):
    without = loaded(1.0, note="no energy: because")
    mixed = loaded(1.0, power_w=600.0, note="no energy per call: it is mixed")
    whole = loaded(1.0, power_w=600.0, joules=1.5)

    def note(*loads):
        (one,) = pooled([launched(record, str(at), 1.0, fields={"sustained": load}) for at, load in enumerate(loads)])
        return one.sustained.note

    assert note(without, whole) == note(whole, without) == note(mixed, whole) == ""
    assert note(without, mixed) == note(mixed, without) == mixed.note
    assert note(without, without) == without.note


def test_a_launch_without_a_load_does_not_hide_those_of_others(record):
    first = launched(record, "1", 1.0)
    second = launched(record, "2", 1.0, fields={"sustained": loaded(2.0)})
    (one,) = pooled([first, second])
    assert one.sustained == loaded(2.0)
