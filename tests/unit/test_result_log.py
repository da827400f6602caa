"""What became of the cases of a run: a log that only grows."""

from __future__ import annotations

from typing import Any

from attnbench.model import Fingerprint, Launch, Reason, StateChange, Verdict, VerdictKind
from attnbench.plugin.result_log import NOT_REACHED, ResultLog

NOT_RUN = {"status": "not-run", "reasons": (Reason(NOT_REACHED, "the run ended before this case"),)}


def launch(name: str) -> Launch:
    return Launch(name, "2026-01-02T03:04:05+00:00", Fingerprint({}, {}))


def test_the_newest_record_of_a_test_counts_at_the_place_of_its_first(record: Any) -> None:
    log = ResultLog()
    for nodeid in ("b", "a"):
        log.add(record(nodeid=nodeid, **NOT_RUN))
    log.add(record(nodeid="b"), record(nodeid="b", launch="another"))
    assert [(one.nodeid, one.launch) for one in log.all_records] == [
        ("b", "0123456789ab"),
        ("b", "another"),
        ("a", "0123456789ab"),
    ]
    assert [one.nodeid for one in log.unreached] == ["a"]


def test_records_that_arrive_in_no_order_stand_in_that_of_their_tests(record: Any) -> None:
    log = ResultLog(by_nodeid=True)
    for nodeid in ("b", "a"):
        log.add(record(nodeid=nodeid))
    assert list(log.records) == ["a", "b"]


def test_cases_that_did_not_run_say_why_the_run_ended_and_the_first_reason_counts(record: Any) -> None:
    log = ResultLog()
    log.add(record(nodeid="a", **NOT_RUN))
    for why in ("", "interrupted (Ctrl-C)", "stopping after 1 failures"):
        log.end(why)
    log.explain_unreached()
    assert log.interrupted == "interrupted (Ctrl-C)"
    assert log.records["a"].reasons[0].text == "the run ended before this case: interrupted (Ctrl-C)"
    assert len(log.unreached) == 1


def test_a_spoilt_process_stays_spoilt_when_its_case_is_measured_elsewhere(record: Any) -> None:
    log = ResultLog()
    lasting = StateChange("torch interop threads 2 → 1", put_back=False)
    log.add(record(nodeid="a", launch="here", changed=(lasting,)))
    log.add(record(nodeid="a", launch="there"))
    assert (log.spoils("here"), log.spoils("there")) == (True, False)


def test_only_launches_that_a_record_is_of_are_stored(record: Any) -> None:
    log = ResultLog()
    log.add_launches([launch("one"), launch("two")])
    log.add(record(nodeid="a", launch="two"))
    assert [one.id for one in log.launches] == ["two"]


def test_a_remark_is_made_once_and_a_verdict_belongs_to_a_test() -> None:
    log = ResultLog()
    log.remark("the same of every case")
    log.remark("the same of every case")
    log.add_verdict(Verdict("case", VerdictKind.UNCHANGED, nodeid="a"))
    assert log.remarks == ("the same of every case",)
    assert list(log.verdicts) == ["a"]
