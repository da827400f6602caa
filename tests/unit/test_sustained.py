"""Continuous load: on the virtual GPU, the energy counter, and what reports say of it."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from virtual_gpu import KERNEL_S

from attnbench import torch_private
from attnbench.hardware import sm_clock
from attnbench.hardware.nvml import EnergyReading, energy_meter
from attnbench.model import DeviceCeilings, Fingerprint, Launch, Sample, Status, SustainedLoad
from attnbench.report.markdown import markdown
from attnbench.report.sustained import reversals
from attnbench.report.terminal import section
from attnbench.timing import ceilings
from attnbench.timing import sustained as module
from attnbench.timing.sustained import CudaFeed, LoadProtocol, NoMeter, power_of, sustained

PROTOCOL = LoadProtocol(seconds=2.0)


@pytest.fixture
def loaded(gpu, monkeypatch):
    """The virtual GPU; the host waits in its time, too."""

    def sleep(seconds):
        gpu.host_s += seconds

    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: gpu.host_s, sleep=sleep))
    return gpu


class Counter:
    """An energy counter that is updated every 50 ms, of a board at 600 W."""

    why = ""

    def __init__(self, gpu, watts=600.0, period_s=0.05):
        self.gpu, self.watts, self.period_s = gpu, watts, period_s

    def read(self):
        at_s = self.gpu.host_s
        return EnergyReading(at_s, at_s // self.period_s * self.period_s * self.watts)

    def temperature_c(self):
        return 63.0

    def held_by(self):
        return ("power",)


def never():
    raise AssertionError("nothing has to be made ready")


def test_latency_power_and_joules_are_those_of_calls_without_a_pause(loaded):
    load = sustained(CudaFeed(loaded.kernel, lambda: None, PROTOCOL), Counter(loaded), PROTOCOL)
    assert load.median_s == pytest.approx(KERNEL_S, rel=1e-3)
    assert load.power_w == pytest.approx(600.0, rel=0.005)
    assert load.joules == pytest.approx(600.0 * KERNEL_S, rel=0.005)
    assert load.calls * KERNEL_S == pytest.approx(load.loaded_s, rel=1e-3)
    assert load.loaded_s >= PROTOCOL.seconds
    assert (load.steady, load.starved, load.note) == (True, 0, "")
    assert (load.temperature_c, load.held_by) == (63.0, ("power",))


def test_counting_waits_until_latency_is_steady(loaded):
    hot_at_s = 0.6
    loaded.kernel_s = lambda: KERNEL_S if loaded.free_s < hot_at_s else 1.2 * KERNEL_S
    slowly = sustained(CudaFeed(loaded.kernel, lambda: None, PROTOCOL), Counter(loaded), PROTOCOL)
    assert slowly.steady
    assert slowly.lead_s > 2 * PROTOCOL.block_s + 0.1
    assert slowly.low_s == pytest.approx(1.2 * KERNEL_S, rel=1e-3)

    def warmer():
        return KERNEL_S * (1 + 0.02 * loaded.free_s)

    loaded.kernel_s = warmer
    never_steady = sustained(CudaFeed(loaded.kernel, lambda: None, PROTOCOL), Counter(loaded), PROTOCOL)
    assert not never_steady.steady
    assert never_steady.lead_s == pytest.approx(PROTOCOL.lead_max_s, abs=0.1)
    assert never_steady.drift > 0.01


def test_a_host_that_is_too_slow_starves_the_gpu_and_is_said(loaded):
    def call():
        loaded.kernel(host_s=3 * KERNEL_S)

    load = sustained(CudaFeed(call, lambda: None, PROTOCOL), Counter(loaded), PROTOCOL)
    assert load.median_s > 2 * KERNEL_S
    assert load.starved > 0.9 * load.batches


def test_what_runs_between_two_calls_is_in_the_power_and_not_in_the_latency(loaded):
    def ready():
        loaded.queue(3 * KERNEL_S)

    load = sustained(CudaFeed(loaded.kernel, ready, PROTOCOL, apart=True), Counter(loaded), PROTOCOL)
    assert load.median_s == pytest.approx(KERNEL_S, rel=0.01)
    assert load.power_w == pytest.approx(600.0, rel=0.005)
    assert load.joules is None
    assert load.note == "no energy per call: a forward pass runs before each timed backward pass"


def test_without_a_counter_latency_is_measured_and_the_reason_is_said(loaded):
    load = sustained(CudaFeed(loaded.kernel, lambda: None, PROTOCOL), NoMeter("no energy: because"), PROTOCOL)
    assert load.median_s == pytest.approx(KERNEL_S, rel=1e-3)
    assert (load.power_w, load.joules, load.note) == (None, None, "no energy: because")
    rarely = sustained(CudaFeed(loaded.kernel, lambda: None, PROTOCOL), Counter(loaded, period_s=0.5), PROTOCOL)
    assert rarely.power_w is None
    assert rarely.note.startswith("no energy: the counter changed 4 times in 2")


def test_power_is_taken_between_changes_of_the_counter():
    slow = [EnergyReading(at / 1000, (at // 100) * 70.0) for at in range(250, 2750, 3)]
    watts, span_s = power_of(slow)
    assert watts == pytest.approx(700.0, rel=0.002)
    assert span_s == pytest.approx(2.4, abs=0.003)
    assert power_of(slow[:100]) is None
    assert power_of([]) is None


class NVMLError(Exception):
    pass


def no_counter(handle):
    raise NVMLError("Not Supported")


@pytest.fixture
def library(monkeypatch):
    """NVML as `pynvml`, with one GPU whose energy counter is at 12.5 J."""
    fake = SimpleNamespace(
        NVMLError=NVMLError, NVML_TEMPERATURE_GPU=0, nvmlInit=lambda: None, nvmlShutdown=lambda: None
    )
    fake.nvmlDeviceGetHandleByUUID = lambda uuid: "handle" if uuid == "GPU-1" else no_counter(uuid)
    fake.nvmlDeviceGetTotalEnergyConsumption = lambda handle: 12_500
    fake.nvmlDeviceGetTemperature = lambda handle, sensor: 41
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


@pytest.mark.parametrize(
    ("reasons", "words"),
    [(0x0, ()), (0x1, ()), (0x4, ("power",)), (0x84, ("power",)), (0x20, ("heat",)), (0x45, ("power", "heat"))],
)
def test_the_meter_tells_power_from_heat(library, reasons, words):
    library.nvmlDeviceGetCurrentClocksThrottleReasons = lambda handle: reasons
    with energy_meter("1") as meter:
        assert meter.held_by() == words
    library.nvmlDeviceGetCurrentClocksThrottleReasons = no_counter
    with energy_meter("1") as meter:
        assert meter.held_by() == ()


def test_the_meter_reads_joules_and_says_why_it_cannot(library):
    with energy_meter("1") as meter:
        assert (meter.read().joules, meter.temperature_c(), meter.why) == (12.5, 41.0, "")
    library.nvmlDeviceGetTotalEnergyConsumption = no_counter
    with energy_meter("1") as meter:
        assert (meter.read(), meter.temperature_c()) == (None, 41.0)
        assert meter.why == "no energy: NVML has no energy counter of this GPU"
    with energy_meter("2") as meter:
        assert (meter.read(), meter.temperature_c()) == (None, None)
        assert meter.why == "no energy: NVML does not know this GPU"
    library.nvmlInit = no_counter
    with energy_meter("1") as meter:
        assert (meter.read(), meter.temperature_c()) == (None, None)
        assert meter.why == "no energy: NVML is not available (pip install nvidia-ml-py)"


# --- what the GPU reaches


@pytest.fixture
def reaching(loaded, monkeypatch):
    """The virtual GPU, whose product and copy are one kernel each."""
    monkeypatch.setattr(ceilings, "sm_clock", sm_clock.SmClock)
    monkeypatch.setattr(ceilings, "_matmul", lambda: loaded.kernel)
    monkeypatch.setattr(ceilings, "_copy", lambda: loaded.kernel)
    monkeypatch.setattr(ceilings, "release_memory", lambda device: None)
    monkeypatch.setattr(torch_private, "clear_cublas_workspaces", lambda: None)
    return monkeypatch


def test_a_product_and_a_copy_are_taken_in_settled_rounds(reaching):
    found = ceilings.device_ceilings("cuda")
    assert found.matmul == "8192x8192x8192 bf16"
    assert found.matmul_flop_per_s == pytest.approx(2 * 8192**3 / KERNEL_S, rel=1e-4)
    assert found.copy_bytes_per_s == pytest.approx(2 * 2**30 / KERNEL_S, rel=1e-4)
    assert (found.copy_bytes, found.note) == (2**31, "")


def test_what_cannot_be_measured_is_said_and_the_run_goes_on(reaching):
    def too_large():
        raise RuntimeError("CUDA out of memory")

    reaching.setattr(ceilings, "_copy", too_large)
    found = ceilings.device_ceilings("cuda")
    assert found.matmul_flop_per_s is not None
    assert found.copy_bytes_per_s is None
    assert found.note == "the copy was not measured: RuntimeError: CUDA out of memory"
    assert ceilings.device_ceilings("cpu").note == "--attn-roofline measures CUDA devices, found cpu"


# --- what is stored and shown


LOAD = SustainedLoad(2e-3, 1.9e-3, 2.1e-3, 1000, 50, 2.0, 2.0, True, 0.001, 0, 700.0, 1.4, 1.9, 1.6e9, 60.0)


def under_load(record, variant, settled_s, sustained_s, **changes):
    load = replace(LOAD, median_s=sustained_s, low_s=sustained_s, high_s=sustained_s)
    return record(variant, sample=Sample((settled_s,) * 3, "cuda_event"), sustained=load, **changes)


def test_only_a_measured_record_has_a_latency_under_load(record):
    with pytest.raises(ValueError, match="'unsupported' cannot carry a latency under continuous load"):
        record("a@eager", status="unsupported", sustained=LOAD)
    assert record("a@eager", sustained=LOAD).ended(Status.ERROR, LOAD).sustained is None


def test_a_kernel_that_wins_settled_and_loses_under_load_is_pointed_out(record, run_file):
    fast = under_load(record, "fast@eager", 1.0e-3, 1.5e-3)
    cool = under_load(record, "cool@eager", 1.1e-3, 1.2e-3)
    sentence = (
        "flux-256px-t128: fast@eager is the fastest when settled (1.000 ms, cool@eager 1.100) and not under continuous "
        "load (1.500 ms, cool@eager 1.200)"
    )
    run = run_file(fast, cool, reference="fast@eager")
    (found,) = reversals(run.records, run.launches)
    assert found.sentence == sentence
    assert sentence in " ".join(" ".join(section(run)).split())
    assert sentence in " ".join(markdown(run).split())


@pytest.mark.parametrize(
    ("settled_s", "sustained_s"),
    [(1.1e-3, 1.6e-3), (1.001e-3, 1.2e-3), (1.1e-3, 1.49e-3), (0.9e-3, 1.2e-3)],
    ids=["wins both", "no winner when settled", "no winner under load", "loses both"],
)
def test_there_is_no_such_sentence_where_the_order_is_the_same_or_too_close(record, run_file, settled_s, sustained_s):
    one = under_load(record, "fast@eager", 1.0e-3, 1.5e-3)
    other = under_load(record, "cool@eager", settled_s, sustained_s)
    run = run_file(one, other)
    assert reversals(run.records, run.launches) == ()


def test_what_was_slowed_down_on_purpose_neither_wins_nor_loses(record, run_file):
    fast = under_load(record, "fast@eager", 1.0e-3, 1.5e-3)
    cool = under_load(record, "cool@eager", 1.1e-3, 1.2e-3)
    for pair in ((replace(fast, injected=0.01), cool), (fast, replace(cool, injected=0.01))):
        run = run_file(*pair)
        assert reversals(run.records, run.launches) == ()
        (slowed,) = (one.variant for one in pair if one.injected)
        assert f"slowed down on purpose (--attn-inject): {slowed}" in section(run)


def test_kernels_that_tie_when_settled_are_named_together_where_all_of_them_lose(record, run_file):
    """As two routes to one kernel do."""
    one, other = under_load(record, "a@eager", 1.0e-3, 1.5e-3), under_load(record, "b@eager", 1.001e-3, 1.4e-3)
    other = replace(other, sustained=replace(other.sustained, starved=3))
    cool = under_load(record, "cool@eager", 1.1e-3, 1.2e-3)
    run = run_file(cool, other, one)
    (found,) = reversals(run.records, run.launches)
    assert found.sentence == (
        "flux-256px-t128: a@eager and b@eager are the fastest when settled (1.000 and 1.001 ms, cool@eager 1.100) and not "
        "under continuous load (1.500 and 1.400 ms, cool@eager 1.200); the GPU waited for the host under load: b@eager"
    )
    wins = replace(other, sustained=replace(other.sustained, median_s=1.19e-3))
    assert reversals((one, wins, cool), run.launches) == (), "one of them is the fastest under load too"
    near = replace(other, sustained=replace(other.sustained, median_s=1.21e-3))
    assert reversals((one, near, cool), run.launches) == (), "one of them is as fast"


def test_a_kernel_in_two_tests_does_not_tie_with_itself(record, run_file):
    fast = under_load(record, "fast@eager", 1.0e-3, 1.5e-3)
    run = run_file(fast, replace(fast, nodeid="other.py::test"), under_load(record, "cool@eager", 1.1e-3, 1.2e-3))
    (found,) = reversals(run.records, run.launches)
    assert [one.variant for one in found.settled] == ["fast@eager"]
    near = under_load(record, "near@eager", 1.001e-3, 1.5e-3)
    again = replace(under_load(record, "fast@eager", 1.002e-3, 1.5e-3), nodeid="other.py::test")
    (found,) = reversals((fast, near, again, run.records[-1]), run.launches)
    assert [one.variant for one in found.settled] == ["fast@eager", "near@eager"], "the fastest first"


def test_kernels_on_different_gpus_are_not_compared(record, run_file):
    units = [Launch(name, "", Fingerprint({"device": "NVIDIA H200"}, {"unit": name})) for name in ("one", "two")]
    fast = under_load(record, "fast@eager", 1.0e-3, 1.5e-3, launch="one")
    cool = under_load(record, "cool@eager", 1.1e-3, 1.2e-3, launch="two")
    assert reversals((fast, cool), units) == ()
    assert len(reversals((fast, replace(cool, launch="one")), units)) == 1


def test_the_terminal_shows_load_beside_settled_and_what_limits_it(record, run_file):
    fine = under_load(record, "fine@eager", 1.0e-3, 1.5e-3)
    hungry = under_load(record, "hungry@eager", 1.1e-3, 1.6e-3)
    doubtful = replace(hungry.sustained, starved=3, steady=False, power_w=None, joules=None, note="no energy: because")
    doubtful = replace(doubtful, held_by=("power", "heat"))
    lines = section(run_file(fine, replace(hungry, sustained=doubtful)))
    (head,) = [line for line in lines if line.startswith("under load")]
    assert head.split()[2:] == ["settled", "sustained", "20–80", "%", "power", "energy", "clock", "GPU", "drift"]
    (row,) = [line for line in lines if line.startswith("fine@eager") and "700" in line]
    assert row.split() == ["fine@eager", "1.000", "1.500", "1.500", "1.500–1.500", "700", "1.40", "1600", "60", "+0.1"]
    assert (
        "the GPU waited for the host, so latency under load is the host's too: hungry@eager (3 of 50 batches)" in lines
    )
    assert "latency under load was not steady when counting began: hungry@eager" in lines
    assert "heat lowered the clock, so a cooler GPU is faster under load: hungry@eager" in lines
    assert "no energy: because: hungry@eager" in lines
    assert not any("under load" in line for line in section(run_file(record("a@eager"))))


def test_what_a_gpu_reached_stands_in_the_head_with_its_share_of_the_datasheet(record, run_file):
    product = DeviceCeilings("8192x8192x8192 bf16", 791.5e12, 2**31, 4.1e12)
    launches = [
        Launch(name, "", Fingerprint({"device": "NVIDIA H200"}, {}), ceilings=found)
        for name, found in (("0123456789ab", product), ("2", replace(product, copy_bytes_per_s=4.3e12)), ("3", None))
    ]
    lines = section(run_file(record(), launches=tuple(launches)))
    said = "reached: matmul 8192x8192x8192 bf16 792 TFLOP/s, 80 % of the datasheet's 989.4; copy 4.20 TB/s"
    assert said in lines
    unmeasured = replace(launches[0], ceilings=DeviceCeilings(note="the copy was not measured: RuntimeError: why"))
    assert "reached: the copy was not measured: RuntimeError: why" in section(
        run_file(record(), launches=(unmeasured,))
    )
