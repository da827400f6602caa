"""A process that traced CUDA kernels, or lost its context, ends with pytest's exit code, whatever the tear-down does."""

import sys

import pytest

#: An abort in the tear-down of the interpreter, where torch's profiler makes one now and then.
ABORTS = """
import os, sys
from attnbench.checks import route
class AbortsAtTheEnd:
    def __del__(self, abort=os.abort):
        abort()
sys.aborts_at_the_end = AbortsAtTheEnd()
if {traced}:
    route._CUDA_TRACES.append("cuda")
"""
BY_MAIN = """
import gc, sys, pytest
for _ in range(3):
    pytest.main(sys.argv[1:])
gc.collect()
print("the program goes on with", sum(isinstance(one, pytest.Session) for one in gc.get_objects()), "sessions")
sys.exit(7)
"""


@pytest.mark.parametrize(("arguments", "code"), [((), 0), (("--attn-sim=torch_math:incorrect",), 1)])
def test_a_traced_run_keeps_its_exit_code_and_its_output(sim, pytester, arguments, code):
    pytester.makeconftest(ABORTS.format(traced=True))
    run = sim.fresh("--benchmark-only", "--attn-mode=eager", *arguments)
    assert run.ret == code
    run.stdout.fnmatch_lines(["5 cases: *", f"*{'passed' if code == 0 else 'failed'}*"])


def test_a_run_whose_context_is_lost_keeps_its_exit_code(sim, pytester):
    lost = "from attnbench.plugin import process_exit\nprocess_exit.has_lost_context = lambda: True\n"
    pytester.makeconftest(ABORTS.format(traced=False) + lost)
    assert sim.fresh("--benchmark-only", "--attn-mode=eager", "--attn-sim=torch_math:error").ret == 1


def test_an_untraced_run_is_torn_down_as_ever(sim, pytester):
    pytester.makeconftest(ABORTS.format(traced=False))
    assert sim.fresh("--benchmark-only", "--attn-mode=eager").ret == -6


def test_a_program_that_calls_pytest_is_not_ended_by_it_and_keeps_nothing_of_it(sim, pytester):
    pytester.makeconftest("from attnbench.checks import route\nroute._CUDA_TRACES.append('cuda')\n")
    command = [sys.executable, "-c", BY_MAIN, "-p", "attnbench.plugin", "--attn-device=sim", "--collect-only"]
    run = pytester.run(*command)
    assert run.ret == 7
    run.stdout.fnmatch_lines(["the program goes on with 0 sessions"])
