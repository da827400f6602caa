"""Injected slow-downs: which case gets one, and how many cycles it takes on the virtual GPU."""

import random
import statistics
from types import SimpleNamespace

import pytest
from virtual_gpu import CEILING_HZ, KERNEL_S, take

from attnbench import globs
from attnbench.execution import local_case, steps
from attnbench.execution.local_case import TorchCase
from attnbench.hardware import sm_clock
from attnbench.model import CaseEnded, Status
from attnbench.report.terminal import section
from attnbench.timing import injection, pacer
from attnbench.timing.injection import Calibration, Injection, parse_injections, share_for
from attnbench.timing.timer import Timer

LAUNCH_S, BUSY_HZ = 1.75e-6, 1684e6


@pytest.fixture
def spun(gpu):
    """The virtual GPU with a spin that costs more than its cycles, and a clock that is low behind a kernel."""
    gpu.spin_launch_s = LAUNCH_S
    gpu.hz = lambda at_s: BUSY_HZ if at_s == gpu.kernel_end_s else CEILING_HZ
    return gpu


def median_s(call):
    return statistics.median(take(pacer.CudaPacer(sm_clock.SmClock(), call), call, count=30))


def slowed(call, share):
    return injection._slowed_on_cuda(call, share, sm_clock.SmClock())


def test_entries_are_read_in_their_order():
    assert parse_injections(("torch_flash:+2%", "a@eager-1x64x2x16:fp32:+0.5%")) == (
        Injection("torch_flash", 0.02),
        Injection("a@eager-1x64x2x16:fp32", 0.005),
    )


@pytest.mark.parametrize("entry", ["torch_flash", "torch_flash:2%", ":+2%", "a:+2", "a:-2%", "a:+x%", "a:+0%", ""])
def test_another_entry_is_named(entry):
    with pytest.raises(
        ValueError, match=r"expected GLOB:\+P% with P above 0, such as torch_flash:\+2%, got "
    ) as raised:
        parse_injections((entry,))
    assert str(raised.value).endswith(repr(entry))


@pytest.mark.parametrize(
    "glob",
    ["b[x]", "b*", "b[x]@eager", "*@eager", "b[x]@eager-flux-256px-t128", "*-t128"],
)
def test_a_case_is_found_by_its_backend_its_variant_and_its_id(record, glob):
    assert share_for((Injection(glob, 0.02),), record("b[x]@eager")) == 0.02


@pytest.mark.parametrize("glob", ["c", "bx", "eager", "b[x]@default", "flux-256px-t128"])
def test_another_case_is_not_slowed_down(record, glob):
    assert share_for((Injection(glob, 0.02),), record("b[x]@eager")) is None


def test_the_first_injection_that_matches_a_case_is_its_own(record):
    found = (Injection("c", 0.01), Injection("b@*", 0.02), Injection("b", 0.03))
    assert [share_for(found, record(f"{name}@eager")) for name in "abc"] == [None, 0.02, 0.01]


def test_an_injection_that_would_slow_down_nothing_is_an_unknown_name():
    known = ["torch_flash", "torch_flash@eager", "torch_flash@eager-w", "numpy", "numpy@eager"]
    injection.require_targets("inject", ("torch_*", "numpy@eager"), known)
    with pytest.raises(globs.UnknownName, match="no selected case matches 'nunpy'; nearest: numpy") as raised:
        injection.require_targets("inject", ("torch_*", "nunpy"), known)
    assert raised.value.kind == "inject"


@pytest.mark.parametrize("share", [0.005, 0.01, 0.02, 0.1, 1.0, 3.0])
def test_what_is_added_is_that_share_of_the_latency_and_the_launch_of_the_spin_is_in_it(spun, share):
    added_s = median_s(slowed(spun.kernel, share)) - median_s(spun.kernel)
    assert added_s == pytest.approx(share * KERNEL_S, rel=1e-3)


def test_a_spin_sized_by_the_ceiling_alone_would_miss_it_by_far(spun):
    call = injection.SpunCall(spun.kernel)
    call.cycles = round(0.01 * KERNEL_S * CEILING_HZ)
    assert median_s(call) - median_s(spun.kernel) > 1.5 * 0.01 * KERNEL_S


def test_what_is_added_holds_between_rounds_that_scatter_and_drift(spun):
    noise, sizes = random.Random(1), []

    def scattering():
        sizes.append(noise.gauss(KERNEL_S, 0.0015 * KERNEL_S) * (1 + 1e-4 * len(sizes)))
        return sizes[-1]

    spun.kernel_s = scattering
    added = []
    for _ in range(40):
        sizes.clear()
        call = slowed(spun.kernel, 0.02)
        spun.kernel_s = lambda: KERNEL_S
        added.append(median_s(call) / KERNEL_S - 1)
        spun.kernel_s = scattering
    assert statistics.fmean(added) == pytest.approx(0.02, abs=3e-4)
    assert max(abs(share - 0.02) for share in added) < 3e-3


def test_calibrating_a_kernel_of_an_h200_takes_less_than_a_third_of_a_second(spun):
    spun.kernel_s = lambda: 800e-6
    spins = sm_clock.SmClock()
    spun.synchronize()
    began_s = spun.host_s
    injection._slowed_on_cuda(spun.kernel, 0.02, spins)
    assert spun.host_s - began_s < 0.3


def test_a_share_below_what_a_launch_adds_is_an_error_that_says_the_smallest(spun):
    with pytest.raises(CaseEnded) as raised:
        slowed(spun.kernel, 0.002)
    assert raised.value.status is Status.ERROR
    (reason,) = raised.value.reasons
    assert reason.code == "injection"
    assert reason.text == (
        "cannot be slowed down by +0.2 % (0.800 µs): launching a spin alone adds 1.75 µs; use +0.44% or more"
    )
    slowed(spun.kernel, 0.0044)


def test_a_spin_that_drowns_in_the_noise_is_an_error_and_no_division_by_zero():
    with pytest.raises(CaseEnded, match="a spin of 4000 cycles takes no longer than one of 0 cycles"):
        Calibration(plain_s=1e-3, launched_s=1e-3, probed_s=1e-3, probe_cycles=4000).cycles(0.01)


class UncheckedCall(pacer.SameContents):
    def __init__(self, call, contents, checked, moves, ready, **judges):
        super().__init__(ready)
        self._call, self.unequal = call, 0

    def __call__(self):
        self._call()


def test_an_injection_slows_down_the_rounds_but_not_its_calibration(spun, record, monkeypatch):
    spins = sm_clock.SmClock()
    for module in (steps, injection):
        monkeypatch.setattr(module, "sm_clock", lambda: spins)
    monkeypatch.setattr(local_case, "CheckedCall", UncheckedCall)

    def timed(*injections):
        case = TorchCase(None, record(status="not-run"), None, None, injections=injections)
        case._device, case._inputs = "cuda", SimpleNamespace(timed=(1, 2, 3), gradient=None, contents=lambda name: {})
        case._call, case._checked = (lambda q, k, v: spun.kernel()), "there is no torch to compare it with"
        timer, seconds = Timer(), []
        rounds = case.rounds(30, timer)
        for _ in range(rounds.count):
            rounds.setup()
            start = timer()
            rounds.call()
            seconds.append(timer() - start)
        return rounds.sample(seconds), case.record.injected

    sample, injected = timed(Injection("torch_flash", 0.02))
    assert sample.rounds_s == pytest.approx([1.02 * KERNEL_S] * 30, rel=1e-4)
    assert len(sample.before_hz) == 30
    assert injected == 0.02
    sample, injected = timed(Injection("numpy", 0.02))
    assert sample.rounds_s == pytest.approx([KERNEL_S] * 30, rel=1e-6)
    assert injected is None


def test_on_the_cpu_the_call_is_followed_by_a_wait_of_that_share_of_its_median(monkeypatch):
    now_s, calls = [0.0], [1.0, 1.0, 9.0, 1.2, 1.1, 1.0]

    def read():
        now_s[0] += 1e-6  # so that waiting for it gets somewhere
        return now_s[0]

    def call():
        now_s[0] += calls.pop(0)

    monkeypatch.setattr(injection, "time", SimpleNamespace(perf_counter=read))
    longer = injection.slowed(call, 0.5, "cpu")
    before_s = now_s[0]
    longer()
    assert now_s[0] - before_s == pytest.approx(1.0 + 0.5 * 1.1, abs=1e-5)


def test_the_section_says_which_cases_were_slowed_down_and_counts_each_once(run_file, record):
    again = record(injected=0.02, launch="another")
    run = run_file(record(injected=0.02), again, record("b@eager"), record("b@default", injected=0.005))
    (line,) = (line for line in section(run) if line.startswith("INJECTED"))
    assert line == "INJECTED slow-down: torch_flash@eager +2 % (1 case), b@default +0.5 % (1 case)"
    assert not any("INJECTED" in line for line in section(run_file(record())))


def test_one_slow_down_of_every_measured_case_is_said_in_one_line(run_file, record):
    slowed = [record(f"backend_{number}@eager", injected=0.01) for number in range(5)]
    skipped = record("not_here@eager", status="unsupported")

    def said(*records):
        return [line for line in section(run_file(*records)) if line.startswith("INJECTED")]

    broken = record("broken@eager", status="error", injected=0.01)
    assert said(*slowed, skipped, broken) == ["INJECTED slow-down: +1 % in all 5 measured cases"]
    assert "backend_0@eager +1 % (1 case), " in said(*slowed, record("as_it_is@eager"))[0]
    assert "backend_0@eager +1 % (1 case), " in said(*slowed[:4])[0]
    failed = [record(f"backend_{number}@eager", status="error", injected=0.01) for number in range(5)]
    assert "backend_0@eager +1 % (1 case), " in said(*failed)[0]


def test_a_section_that_names_many_slow_downs_keeps_its_width(run_file, record):
    run = run_file(*(record(f"backend_{number}@eager", injected=0.02 + number / 1e4) for number in range(12)))
    lines = section(run)
    assert max(map(len, lines)) <= 120
    assert sum("backend_" in line and " %" in line for line in lines) > 1
