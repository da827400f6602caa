"""`--attn-timeout` in this process: what does not come back costs its own row, and the cases after it are measured."""

from __future__ import annotations

import signal
import threading

KERNELS = """
import sys
import time
import torch.nn.functional as F
from attnbench import register

def right(q, k, v):
    return F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2).clone()

@register("never_loads", "mine")
def never_loads(workload):
    time.sleep(600)

@register("never_returns", "mine")
def never_returns(workload):
    def attention(q, k, v):
        while True:
            try:
                time.sleep(600)
            except Exception:  # a kernel's own care must not swallow it
                pass
    return attention

def timed():
    frame = sys._getframe()
    while frame and frame.f_code.co_name != "pedantic":
        frame = frame.f_back
    return frame is not None

def hangs_in_round(number):
    def load(workload):
        rounds = []
        def attention(q, k, v):
            rounds.append(timed())
            if sum(rounds) == number:
                time.sleep(600)
            return right(q, k, v)
        return attention
    return load

register("hangs_in_round_1", "mine")(hangs_in_round(1))
register("hangs_in_round_3", "mine")(hangs_in_round(3))

@register("fine", "mine")
def fine(workload):
    return right
"""
HANGING = ("never_loads", "never_returns", "hangs_in_round_1", "hangs_in_round_3")
ARGUMENTS = ("--benchmark-only", "--benchmark-json=run.json", "--attn-device=cpu", "--attn-workload=1x64x2x16:fp32")


def test_a_case_that_does_not_come_back_is_an_error_row_and_the_next_is_measured(bench, pytester):
    pytester.makeconftest(KERNELS)
    backends = [f"--attn-backend={name}" for name in (*HANGING, "fine")]
    result = bench(*ARGUMENTS, *backends, "--attn-rounds=3", "--attn-timeout=2")
    result.assert_outcomes(failed=len(HANGING), passed=1)
    *hung, fine = bench.records().values()
    assert fine["status"] == "measured"
    for record in hung:
        assert (record["status"], record["sample"]) == ("error", None)
        [reason] = record["reasons"]
        assert reason == {"code": "time-limit", "text": "took longer than 2 s (--attn-timeout) and was stopped"}
    assert "Traceback" not in result.stdout.str()
    assert [entry["extra_info"]["case"] for entry in bench.stored()["benchmarks"]] == [fine["case"]]
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL, "the signal is left as it was found"


def test_a_simulated_hang_is_stopped_as_a_real_one_is(sim):
    arguments = ("--benchmark-only", "--benchmark-json=run.json", "--attn-backend=torch_math", "--attn-mode=eager")
    sim(*arguments, "--attn-sim=torch_math:hang", "--attn-timeout=1").assert_outcomes(failed=1)
    [record] = sim.records().values()
    text = "took longer than 1 s (--attn-timeout) and was stopped"
    assert record["reasons"] == [{"code": "time-limit", "text": text}]


def alarms(*arguments, bench, handler, due_s):
    """The run's result, and what is left of an alarm that was set before it: its handler and its time."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, due_s)
    try:
        result = bench(*ARGUMENTS, "--attn-rounds=2", *arguments)
        return result, signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)[0]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


SWALLOWING = """
import signal
import time
from attnbench import register

def switches_it_off():
    signal.setitimer(signal.ITIMER_REAL, 0)
    time.sleep(1.5)

def swallows_it():
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        try:
            time.sleep(1.5)
        except BaseException:
            pass

def kernel(sleep, in_round):
    def load(workload):
        seen = []
        def attention(q, k, v):
            seen.append(timed())
            if not seen[:-1] if not in_round else sum(seen) == 2 and seen[-1]:
                sleep()
            return right(q, k, v)
        return attention
    return load

register("switches_it_off", "mine")(kernel(switches_it_off, True))
register("swallows_it", "mine")(kernel(swallows_it, False))
"""


def test_a_kernel_that_does_not_let_itself_be_stopped_is_an_error_row_all_the_same(bench, pytester):
    pytester.makeconftest(KERNELS + SWALLOWING)
    result = bench(*ARGUMENTS, "--attn-timeout=1", "--attn-backend=sw*", "--attn-mode=eager")
    result.assert_outcomes(failed=2)
    for record in bench.records().values():
        assert record["status"] == "error"
        assert [(reason["code"], reason["text"]) for reason in record["reasons"]] == [
            ("time-limit", "took longer than 1 s (--attn-timeout), and could not be stopped")
        ]
    assert "benchmark '" not in result.stdout.str()  # no latency of them anywhere


def test_somebody_else_s_alarm_is_given_back_with_its_time(bench, pytester):
    pytester.makeconftest(KERNELS)
    own = lambda *_: None  # noqa: E731
    result, handler, left_s = alarms("--attn-backend=fine", bench=bench, handler=own, due_s=500)
    result.assert_outcomes(passed=1)
    assert handler is own
    assert 300 < left_s < 500


def test_an_alarm_that_is_due_later_does_not_keep_a_hanging_case(bench, pytester):
    pytester.makeconftest(KERNELS)
    arguments = ("--attn-backend=never_returns", "--attn-timeout=1")
    _, handler, left_s = alarms(*arguments, bench=bench, handler=signal.SIG_IGN, due_s=500)
    (record,) = bench.records().values()
    assert record["reasons"][0]["code"] == "time-limit"
    assert handler == signal.SIG_IGN
    assert 300 < left_s < 499


def test_an_ignored_alarm_that_is_due_earlier_ends_nothing_and_counts_as_none(bench, pytester):
    pytester.makeconftest(KERNELS)
    arguments = ("--attn-backend=never_returns", "--attn-timeout=1")
    alarms(*arguments, bench=bench, handler=signal.SIG_IGN, due_s=0.1)
    (record,) = bench.records().values()
    assert record["reasons"][0]["code"] == "time-limit"


def test_outside_the_main_thread_a_line_says_that_the_limit_has_no_effect(bench, pytester):
    pytester.makeconftest(KERNELS)
    results = []
    run = lambda: results.append(bench(*ARGUMENTS, "--attn-backend=fine", "--attn-rounds=2"))  # noqa: E731
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    [result] = results
    said = "--attn-timeout (900 s) has no effect: pytest does not run in the main thread, so it gets no signals"
    assert result.outlines.count(said) == 1
    result.stdout.fnmatch_lines(["1 case: 1 measured"])
