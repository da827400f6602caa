"""Which stored benchmark is the same case as one of this run."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from attnbench.storage.counterparts import Wanted, counterparts
from attnbench.workload import Workload

WORKLOAD = Workload("flux-256px-t128", 1, 384, 24, 128)

CASE = "torch_flash@eager-flux-256px-t128"
OTHER = "torch_math@eager-flux-256px-t128"


def nodeid(path: str, case: str = CASE) -> str:
    return f"{path}[{case}]"


def entry(fullname: str, case: str | None = CASE, **extra) -> dict:
    extra_info = {"case": case, **extra} if case else extra
    return {"fullname": fullname, "extra_info": extra_info}


def found(document: dict, *nodeids: str, case: str = CASE, workload=WORKLOAD) -> dict[str, str]:
    """Full name of the counterpart by node id."""
    result = counterparts(document, {one: Wanted(case, workload) for one in nodeids})
    return {one: there["fullname"] for one, there in result.entries.items()}


def document(*entries: dict, **rest) -> dict:
    return {"benchmarks": list(entries), **rest}


def record(fullname: str, case: str = CASE, workload=WORKLOAD) -> dict:
    return {"nodeid": fullname, "case": case, "workload": json.loads(json.dumps(asdict(workload)))}


def test_a_case_has_its_counterpart_whatever_its_file_and_test_are_called():
    there = nodeid("old/test_suite.py::test_attention")
    for here in (
        "new/test_kernels.py::test_attention",
        "test_suite.py::test_mine",
        "../a/test_suite.py::Tests::test_x",
    ):
        assert found(document(entry(there)), nodeid(here)) == {nodeid(here): there}


def test_the_same_full_name_with_another_case_is_no_counterpart():
    here = nodeid("test_suite.py::test_attention")
    assert found(document(entry(here, case=OTHER)), here) == {}


def test_a_case_that_is_not_stored_has_none():
    here = nodeid("test_suite.py::test_attention")
    result = counterparts(document(entry(nodeid("a.py::t", OTHER), OTHER)), {here: Wanted(CASE, WORKLOAD)})
    assert (result.entries, result.stored) == ({}, (OTHER,))


def test_without_extra_info_the_record_of_the_test_names_its_case():
    there = nodeid("old.py::test_attention")
    stored = document({"fullname": there}, attnbench={"records": [record(there)]})
    assert found(stored, nodeid("new.py::test_attention")) == {nodeid("new.py::test_attention"): there}


def test_what_attnbench_did_not_write_is_compared_by_its_full_name():
    here = nodeid("test_suite.py::test_attention")
    assert found(document({"fullname": here, "extra_info": {}}), here) == {here: here}
    assert found(document({"fullname": here, "extra_info": {}}), nodeid("moved.py::test_attention")) == {}
    assert found(document({"fullname": here, "extra_info": None}, attnbench={"records": [3]}), here) == {here: here}


def test_a_case_of_several_tests_is_matched_by_full_name_then_name():
    first, second = nodeid("a.py::test_one"), nodeid("a.py::test_two")
    stored = document(entry(first), entry(second))
    here = (nodeid("a.py::test_two"), nodeid("b.py::test_two"), nodeid("b.py::test_three"))
    assert found(stored, *here) == dict(zip(here, (second, second, first), strict=True))
    result = counterparts(stored, {one: Wanted(CASE, WORKLOAD) for one in here})
    assert result.repeated == (CASE,)
    assert counterparts(stored, {one: Wanted(CASE, WORKLOAD) for one in here[:2]}).repeated == ()


def test_two_tests_of_one_case_share_the_only_stored_one():
    there = nodeid("a.py::test_one")
    here = (nodeid("b.py::test_one"), nodeid("b.py::test_two"))
    assert found(document(entry(there)), *here) == dict.fromkeys(here, there)


def test_the_same_name_of_another_problem_is_no_counterpart():
    there = nodeid("a.py::test_attention")
    stored = document(entry(there), attnbench={"records": [record(there, workload=replace(WORKLOAD, seq=4608))]})
    here = nodeid("b.py::test_attention")
    result = counterparts(stored, {here: Wanted(CASE, WORKLOAD)})
    assert (result.entries, result.other_problem) == ({}, (CASE,))
    renamed = replace(WORKLOAD, why="another sentence", source="elsewhere")
    stored = document(entry(there), attnbench={"records": [record(there, workload=renamed)]})
    assert found(stored, here) == {here: there}


def test_a_slow_down_that_was_made_on_purpose_is_noted():
    there = nodeid("a.py::test_attention")
    result = counterparts(document(entry(there, injected=0.02)), {nodeid("b.py::t"): Wanted(CASE, WORKLOAD)})
    assert result.injected == (CASE,)
