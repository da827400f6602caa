"""Which cases share a process, and which are launched apart without being asked to."""

import pytest

from attnbench.backends.registry import Backend, OwnProcess
from attnbench.backends.requirements import Device, HeadDim
from attnbench.execution.process_groups import Group, Grouping
from attnbench.hardware.facts import Facts
from attnbench.workload import Workload

CPU = Facts("cpu", "A CPU", None, (2, 13))
SMALL, WIDE = Workload("small", 1, 64, 2, 64), Workload("wide", 1, 64, 2, 512)
OWN = {"ATTNBENCH_TEST_LIBRARY": "its own"}


def backend(name, own_process=None, *requires):
    return Backend(lambda workload: None, name, "a project", own_process=own_process, requires=requires)


def grouping(*backends, facts=CPU, workloads=(SMALL,), each_backend=False):
    made = Grouping(facts, each_backend)
    for workload in workloads:
        for one in backends:
            made.add(f"{one.name}-{workload.name}", one, workload)
    return made


APART = OwnProcess("other", "why")
WITH_ENVIRONMENT = OwnProcess("other", "why", lambda: OWN)
PLAIN, OTHER, SECOND = backend("plain"), backend("other", APART), backend("second", APART)
THIRD = backend("third", OwnProcess("third", "another reason"))


def test_a_group_among_others_is_launched_apart_and_they_are_not():
    made = grouping(PLAIN, OTHER, SECOND)
    assert [made.own_process(f"{name}-small") for name in ("plain", "other", "second")] == [None, APART, APART]
    assert made.of("second-small") == Group(("other-small", "second-small"))
    assert made.of("plain-small") == Group(("plain-small",))


def test_a_group_takes_all_its_cases_in_their_order():
    made = grouping(PLAIN, OTHER, SECOND, workloads=(SMALL, WIDE))
    assert made.of("other-wide").nodeids == ("other-small", "second-small", "other-wide", "second-wide")


def test_two_groups_are_launched_apart_from_each_other():
    made = grouping(OTHER, THIRD)
    assert made.own_process("other-small") is APART
    assert made.of("third-small") == Group(("third-small",))


def test_a_group_alone_stays_in_this_process():
    made = grouping(OTHER, SECOND)
    assert made.own_process("other-small") is None
    assert made.of("other-small") == Group(("other-small", "second-small"))


@pytest.mark.parametrize("set_before", [False, True])
def test_a_group_alone_is_launched_where_this_process_was_started_without_its_variables(set_before, monkeypatch):
    if set_before:
        monkeypatch.setenv(*OWN.popitem())
        OWN.update(ATTNBENCH_TEST_LIBRARY="its own")
    made = grouping(backend("other", WITH_ENVIRONMENT))
    assert made.own_process("other-small") == (None if set_before else WITH_ENVIRONMENT)
    assert made.of("other-small") == Group(("other-small",), {} if set_before else OWN)


def test_others_that_cannot_run_here_do_not_count():
    made = grouping(OTHER, backend("on_a_gpu", None, Device("cuda")))
    assert made.own_process("other-small") is None


def test_a_case_that_cannot_run_here_needs_no_environment_of_its_own():
    def environment():
        raise AssertionError("its library may not be there")

    narrow = HeadDim(lambda d: d <= 64, "at most 64")
    made = grouping(PLAIN, backend("other", OwnProcess("other", "why", environment), Device("cuda")))
    assert made.own_process("other-small") is None
    made = grouping(PLAIN, backend("other", APART, narrow), workloads=(SMALL, WIDE))
    assert (made.own_process("other-small"), made.own_process("other-wide")) == (APART, None)


def test_on_the_simulated_device_nothing_runs_that_could_clash():
    made = grouping(PLAIN, backend("other", WITH_ENVIRONMENT), facts=Facts("sim", "simulated device", None, (99, 0)))
    assert made.own_process("other-small") is None
    assert made.of("plain-small") == Group(("plain-small", "other-small"))


def test_a_process_per_backend_has_the_variables_of_its_backend():
    other, second = (backend(name, WITH_ENVIRONMENT) for name in ("other", "second"))
    made = grouping(PLAIN, other, second, each_backend=True)
    assert made.of("plain-small") == Group(("plain-small",), {})
    assert made.of("second-small") == Group(("second-small",), OWN)
