"""The words of the project as data (standard library only).

Values are in base units (seconds, bytes, FLOP, hertz), and the unit is part of the field's name. Tensor axes are always
`[batch, seq, heads, head_dim]`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import Enum

from attnbench import printable
from attnbench.workload import Workload

#: Version of the stored form. Raised when an older reader could misread a newer file.
#: 2: a record may be the difference from an earlier one (attnbench/codec.py).
SCHEMA_VERSION = 2

#: Metrics that are better if larger: a check allows a smallest value of them, and a largest of all others.
SIMILARITIES = ("cosine",)

#: Compile modes: not compiled, torch.compile's default, and `mode="max-autotune"`.
MODES = ("eager", "default", "max-autotune")

#: In the versions of a record: the name of the backend's own repository, and the suffix of a version with local changes.
REPOSITORY, DIRTY = "repository", "+dirty"


class Status(str, Enum):
    """The outcome of a case. Only `MEASURED` carries a latency."""

    MEASURED = "measured"
    CHECKED = "checked"  # accurate, and not timed on purpose (--benchmark-disable, pytest-xdist)
    UNSUPPORTED = "unsupported"  # cannot run here, with all reasons
    INCORRECT = "incorrect"  # ran, and its output is wrong: never timed
    ERROR = "error"  # installed, but fails to import, compile or run
    NOT_RUN = "not-run"  # selected, but the run ended or skipped it

    def __str__(self) -> str:
        return self.value


class VerdictKind(str, Enum):
    """The result of a comparison with the baseline. Only `REGRESSED` fails a test by itself."""

    REGRESSED = "regressed"
    INCONCLUSIVE = "inconclusive"  # after all launches the interval still holds both answers
    MISSING = "missing"  # selected and in the baseline, but not measured
    INCOMPARABLE = "incomparable"  # the fingerprint's key, the inputs or the autotune choices differ
    NO_BASELINE = "no-baseline"
    IMPROVED = "improved"
    UNCHANGED = "unchanged"

    def __str__(self) -> str:
        return self.value


class CaseEnded(Exception):
    """Raised if a case ends without a latency: carries its status and every reason."""

    def __init__(self, status: Status, *reasons: Reason) -> None:
        super().__init__("; ".join(reason.text for reason in reasons))
        self.status = status
        self.reasons = reasons


#: Code of the reason of a case that wrote into its inputs.
OVERWRITES = "overwrites-input"


@dataclass(frozen=True)
class Reason:
    """Why: a code to group by, and one sentence with found and needed values.

    The sentence may quote a kernel's error or a stored file, so it is made safe to show: one line of at most
    `printable.LONGEST_MESSAGE` characters.
    """

    code: str
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "code", printable.message(self.code, printable.LONGEST_NAME))
        object.__setattr__(self, "text", printable.message(self.text))


def variant_name(backend: str, mode: str) -> str:
    """`torch_flash@default`: how a variant is named in ids, options and files."""
    return f"{backend}@{mode}"


@dataclass(frozen=True)
class Case:
    """Variant × workload: one pytest item. `str(case)` is its id, by which records are keyed."""

    backend: str
    mode: str
    workload: str

    @property
    def variant(self) -> str:
        """`torch_flash@eager`."""
        return variant_name(self.backend, self.mode)

    def __str__(self) -> str:
        return f"{self.variant}-{self.workload}"


@dataclass(frozen=True)
class ErrorMetrics:
    """Distance of an output o from the reference r, over all elements of `[batch, seq, heads, head_dim]`.

    rel_l1 = Σ|o−r| / Σ|r| and cosine = o·r / (‖o‖‖r‖), as SageAttention defines them. rel_l2 = ‖o−r‖₂ / ‖r‖₂, the RMSE over
    the RMS of the reference. mse = mean (o−r)². worst_index: where |o−r| is largest; worst_found, worst_expected: o and r
    there. nonfinite: number of non-finite elements of o; the metrics are of the finite elements only.
    """

    max_abs: float
    mean_abs: float
    mse: float
    rel_l1: float
    rel_l2: float
    cosine: float
    nonfinite: int
    worst_index: tuple[int, ...]
    worst_found: float | None
    worst_expected: float | None

    @property
    def of_zeros(self) -> bool:
        """Whether o is 0 everywhere and r is not: o·r is 0, and ‖o−r‖² = ‖o‖² − 2 o·r + ‖r‖² is ‖r‖², but for rounding."""
        return self.nonfinite == 0 and self.cosine == 0.0 and math.isclose(self.rel_l2, 1.0, rel_tol=1e-9)


def is_within(metric: str, value: float, limit: float) -> bool:
    """Whether the value of a metric is on the allowed side of its limit; False if either is NaN."""
    return value >= limit if metric in SIMILARITIES else value <= limit


@dataclass(frozen=True)
class Statistic:
    """What must hold of an output that drops at random: `found` is from `low` to `high` (formulas: checks/dropout.py)."""

    name: str
    found: float
    low: float
    high: float

    @property
    def within(self) -> bool:
        """Whether it is what it may be; NaN is not."""
        return self.low <= self.found <= self.high


@dataclass(frozen=True)
class Check:
    """Accuracy of one case on one input distribution, and what the tolerance allowed."""

    distribution: str
    error: ErrorMetrics
    plain: ErrorMetrics  # plain PyTorch attention on the same inputs, every step in their dtype
    fused: ErrorMetrics  # an ideal fused kernel on the same inputs: fp32, but probabilities and output rounded
    allowed: dict[str, float]  # metric → largest allowed value, smallest for `SIMILARITIES`
    rows: str  # "all", or how many query rows were sampled and with which seed
    poisoned: bool  # the output was written into memory that held NaN before
    output: str = "output"  # which tensor: "output", or the gradient "dq", "dk" or "dv"
    statistics: tuple[Statistic, ...] = ()  # with dropout, where `error` is the distance from attention without

    @property
    def passed(self) -> bool:
        """Whether the output is finite and every metric and statistic within what is allowed; NaN or unknown is not."""
        return (
            not self.error.nonfinite
            and all(
                is_within(metric, getattr(self.error, metric, math.nan), limit)
                for metric, limit in self.allowed.items()
            )
            and all(statistic.within for statistic in self.statistics)
        )

    @property
    def where(self) -> str:
        """What it is of, in words: `on randn inputs`, or `in dk on randn inputs`."""
        return f"{'' if self.output == 'output' else f'in {self.output} '}on {self.distribution} inputs"

    @property
    def within_twice(self) -> bool:
        """Whether its largest error is at most twice plain attention's, as FlashAttention's README says of its kernels."""
        return not self.error.nonfinite and self.error.max_abs <= 2 * self.plain.max_abs


@dataclass(frozen=True)
class DeviceOp:
    """One step of the route: a device kernel, or an aten operator on the CPU. None where the profiler has no value."""

    name: str
    count: int = 1
    grid: tuple[int, ...] | None = None
    block: tuple[int, ...] | None = None
    registers: int | None = None
    shared_bytes: int | None = None
    duration_s: float | None = None


@dataclass(frozen=True)
class Compilation:
    """What torch.compile made of a call.

    graph_breaks: dynamo's own sentences. choices: the configurations that Inductor's autotuning chose, one per generated
    kernel: `triton_tem_fused_0: BLOCK_M=128 BLOCK_N=64 num_warps=8 num_stages=3`. cache: "warm" if every graph came from
    Inductor's cache, "cold" if one was compiled, empty if unknown.
    """

    graphs: int
    graph_breaks: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    cache: str = ""


@dataclass(frozen=True)
class Sample:
    """The rounds of one case in one launch: seconds of one call each, in the order of measurement.

    Raises ValueError without a round, and for a round that is not a positive number.
    """

    rounds_s: tuple[float, ...]
    timer: str
    host_s: float | None = None  # median time until the call returned while the device was busy
    empty_s: float | None = None  # the interval with nothing in it; already subtracted from every round
    ceiling_hz: float | None = None  # SM clock of the device when it only spins
    before_hz: tuple[float, ...] = ()  # SM clock right before each round
    cycles: tuple[int | None, ...] = ()  # SM cycles from stamp to stamp, with the events; None if not counted
    waited_s: float = 0.0  # total wait of the rounds for the clock to reach its ceiling
    unsettled: int = 0  # rounds that started below the ceiling
    synchronising: bool = False  # the call waits for the device: the interval holds work of the host
    self_throttled: bool = False  # a call of 100 ms or more, which lowers its own clock
    unequal: int = 0  # rounds whose output was within tolerance, but not bit-equal to the checked one

    def __post_init__(self) -> None:
        if not self.rounds_s:
            raise ValueError("a Sample needs at least one round")
        if not all(math.isfinite(r) and r > 0 for r in self.rounds_s):
            raise ValueError("every round of a Sample is a positive number of seconds")


@dataclass(frozen=True)
class SustainedLoad:
    """One case under continuous load in one launch (--attn-sustained): calls back to back, without any pause.

    Raises ValueError for a latency that is not a positive number.
    """

    median_s: float  # over the batches, of a batch's seconds per call
    low_s: float  # 20 % quantile of the batches
    high_s: float  # 80 % quantile
    calls: int  # in the counted batches
    batches: int
    loaded_s: float  # seconds of the counted batches
    lead_s: float  # continuous load before them, until latency was steady or the limit was reached
    steady: bool  # whether it was steady when counting began
    drift: float  # latency of the last third of the batches over that of the first, minus one
    starved: int  # batches that the device was done with before the next one was queued: it waited for the host
    power_w: float | None = None  # average of the board, by NVML's energy counter
    joules: float | None = None  # of the board for one call, what it draws when idle included
    energy_s: float | None = None  # seconds between the two changes of the energy counter that power was taken from
    clock_hz: float | None = None  # average SM clock: counted cycles over seconds
    temperature_c: float | None = None  # of the GPU at the end
    held_by: tuple[str, ...] = ()  # what lowered the clock at the end, by NVML: "power", "heat"; empty if unknown
    note: str = ""  # why there is no power or energy

    def __post_init__(self) -> None:
        if not all(math.isfinite(one) and one > 0 for one in (self.median_s, self.low_s, self.high_s)):
            raise ValueError("every latency of a SustainedLoad is a positive number of seconds")


@dataclass(frozen=True)
class DeviceCeilings:
    """What this GPU reached in one launch (--attn-roofline): a matrix product and a copy, both on a settled clock.

    A figure is None where it could not be measured, and `note` says why.
    """

    matmul: str = ""  # `8192x8192x8192 bf16`
    matmul_flop_per_s: float | None = None
    copy_bytes: int | None = None  # read and written by one copy
    copy_bytes_per_s: float | None = None
    note: str = ""
    spent_s: float | None = None  # wall time of both, with making the tensors


@dataclass(frozen=True)
class StateChange:
    """A change that a case made to its process, `torch threads 2 → 1`, and whether it was undone."""

    what: str
    put_back: bool = True


@dataclass(frozen=True)
class Record:
    """Everything about one case in one launch.

    Raises ValueError if a record that was not measured carries a sample, if a measured one has none, or if a measured or
    checked one holds a failed check: so a wrong or failed kernel cannot have a latency, whatever the caller does.
    """

    case: str
    backend: str
    family: str
    mode: str
    workload: Workload
    launch: str
    status: Status
    reasons: tuple[Reason, ...] = ()
    nodeid: str = ""
    layout: str = ""
    tolerance: str = ""
    source: str = ""  # what was loaded, if the backend reports it: a commit, a build
    versions: dict[str, str] = field(default_factory=dict)  # of the code that the backend needs, by distribution
    input_sha256: str | None = None
    output_contiguous: bool | None = None
    first_call_s: float | None = None
    compilers_s: float | None = None  # CPU time of compilers that loading and the first call waited for
    workspace_bytes: int | None = None
    compilation: Compilation | None = None
    spent_s: dict[str, float] = field(default_factory=dict)  # wall time of each step
    checks: tuple[Check, ...] = ()
    route: tuple[DeviceOp, ...] = ()
    kernel_s: float | None = None  # of `route`, the device time of the attention kernel itself
    chose: str = ""  # of a backend whose library chooses the kernel: the choice that `route` shows, "cudnn"
    sample: Sample | None = None
    injected: float | None = None  # share of its latency that --attn-inject added: 0.02 is +2 %
    apart: str = ""  # why its backend was launched apart from the others, unasked
    changed: tuple[StateChange, ...] = ()  # what it changed in its process, for the cases that follow
    sustained: SustainedLoad | None = None  # under continuous load, if --attn-sustained asked for it; not judged

    def __post_init__(self) -> None:
        if (self.status is Status.MEASURED) != (self.sample is not None):
            raise ValueError(
                f"record {self.case}: status '{self.status}' "
                + ("needs a sample" if self.sample is None else "cannot carry a sample")
            )
        if self.sustained is not None and self.sample is None:
            raise ValueError(f"record {self.case}: status '{self.status}' cannot carry a latency under continuous load")
        if self.status in (Status.MEASURED, Status.CHECKED):
            if failed := [check.where for check in self.checks if not check.passed]:
                raise ValueError(f"record {self.case}: status '{self.status}' with a failed check {', '.join(failed)}")
        elif not self.reasons:
            raise ValueError(f"record {self.case}: status '{self.status}' needs a reason")

    @property
    def variant(self) -> str:
        """`torch_flash@eager`."""
        return variant_name(self.backend, self.mode)

    @property
    def spoils_process(self) -> bool:
        """Whether no later case may be measured in the process of this one."""
        lost = any(reason.code == "context-lost" for reason in self.reasons)
        return lost or any(not change.put_back for change in self.changed)

    def ended(self, status: Status, *reasons: Reason) -> Record:
        """This record, ended without a latency for `reasons`."""
        return replace(self, status=status, reasons=reasons, sample=None, sustained=None)


@dataclass(frozen=True)
class Fingerprint:
    """What must match for two records to be comparable (`key`), and what is only shown (`context`).

    None means that the field could not be read: it is shown as unknown and matches anything.
    """

    key: dict[str, str | int | float | None]
    context: dict[str, str | int | float | None]


@dataclass(frozen=True)
class Launch:
    """One process that measured every case once."""

    id: str
    started_at: str  # ISO 8601, UTC
    fingerprint: Fingerprint
    simulated: bool = False
    nvidia_smi: dict[str, str] = field(default_factory=dict)  # its query fields as the launch started; not compared
    ceilings: DeviceCeilings | None = None  # what its GPU reached, if --attn-roofline asked for it; not compared

    @property
    def unit(self) -> str | None:
        """The hash of the physical GPU, None where it is unknown."""
        unit = self.fingerprint.context.get("unit")
        return None if unit in (None, "") else str(unit)


@dataclass(frozen=True)
class Bearing:
    """The noise behind the limit that the stored sessions of a unit resolve, and how many sessions would resolve 1 %.

    occasion, launch: relative standard deviations in the interval, between sessions and between launches. assumed: whether
    `occasion` is assumed, because the sessions are too few. sessions_for_one_percent: in total, if further ones are quiet;
    None if no number of them would do.
    """

    sessions: int
    occasion: float
    assumed: bool
    launch: float
    sessions_for_one_percent: int | None = None


@dataclass(frozen=True)
class Verdict:
    """The result of comparing one case with its baseline, and everything that it rests on.

    change, low, high: relative, +0.02 is 2 % slower; each end of the interval is wrong at the rate that the rule allows for
    this case. measure: what they are of, seconds or cycles. found_s: the latency of this run, at the baseline's clock if in
    cycles. measured_s: the latency as timed. clock_change: the SM clock during the call over the baseline's, minus one; None
    in seconds. limit: the slow-down that counts. found_by: the smallest slow-down that 95 of 100 such runs call regressed
    with all fresh launches; None if nothing is, as on an unknown unit. carried: the smallest limit that the stored sessions
    resolve. bearing: why, None on an unknown unit. nodeid: of the test, as several tests may have the same case.
    """

    case: str
    kind: VerdictKind
    reasons: tuple[Reason, ...] = ()
    baseline_s: float | None = None
    found_s: float | None = None
    measured_s: float | None = None
    measure: str = ""
    change: float | None = None
    clock_change: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    known_unit: bool | None = None
    found_by: float | None = None
    launches: int = 0  # of this run that count: each once, with the same autotune choices
    compared_with: tuple[str, ...] = ()  # stored sessions, `nvidia-h200/0001_0123456789ab.json`
    notes: tuple[str, ...] = ()  # what else differs from the baseline: kernels that ran, versions
    reproduce: str = ""
    nodeid: str = ""
    carried: float | None = None
    bearing: Bearing | None = None
    history: tuple[str, ...] = ()  # stored sessions of other code versions, which do not count, with what differs
    chose: str = ""  # where the library chose another kernel than in the baseline: `chose cudnn, baseline flash`


@dataclass(frozen=True)
class RunFile:
    """What one run stores under the key `attnbench` of pytest-benchmark's JSON.

    interrupted: why the run ended early, empty if it did not. baselines_from: the commit whose sessions the verdicts rest
    on, if not the work tree's: `HEAD^1 (0f1e2d…)`. baseline_changes: how the work tree's sessions differ from the commit's:
    `edited nvidia-h200/0001_….json`.
    """

    schema: int
    attnbench: str
    reference: str
    launches: tuple[Launch, ...]
    records: tuple[Record, ...]
    interrupted: str = ""
    verdicts: tuple[Verdict, ...] = ()
    baselines_from: str = ""
    baseline_changes: tuple[str, ...] = ()

    @property
    def edits_baselines(self) -> bool:
        """Whether a reviewed session was changed, renamed or removed. Adding one is an ordinary refresh of the baselines."""
        return any(not change.startswith("added ") for change in self.baseline_changes)
